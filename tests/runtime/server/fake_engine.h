// SPDX-License-Identifier: Apache-2.0
// FakeEngine: an Engine without a model, which says a fixed text at a fixed pace to every sequence that it holds.
#pragma once

#include "runtime/engine/engine.h"
#include "runtime/server/service.h"

#include <atomic>
#include <condition_variable>
#include <map>
#include <mutex>
#include <thread>

namespace girih::server {

struct FakeEngineOptions {
  uint32_t cachedTokens = 0;  // of every prompt, said to come from the cache
  std::string says = "Hello, world! The capital of France is Paris.";
  std::chrono::microseconds stepTime{200};
  uint32_t contextTokens = 512;
  uint32_t maxRunning = 8;  // more wait
  uint32_t hiddenSize = 3;
  bool fails = false;       // every generation fails after its third token
  // Of "role: content" lines.
  std::string chatTemplate = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}";
};

// Tokens are bytes: id = byte, kEndToken ends. A seed (with a temperature) shifts where the text begins.
class FakeEngine final : public engine::Engine {
public:
  static constexpr int32_t kEndToken = 256;
  static constexpr uint32_t kVocabSize = 257;

  explicit FakeEngine(FakeEngineOptions options);
  ~FakeEngine() override;
  Expected<engine::RequestId> submit(engine::Request request, std::shared_ptr<engine::Listener> listener) override;
  void cancel(engine::RequestId id) override;
  engine::EngineStats stats() const override;
  engine::EngineLoad load() const override;
  Status diskStatus() const override { return {}; }
  void clearCache() override {}
  // Remembers what was to be forgotten, behind how many tokens.
  void forget(const engine::Request &request, uint32_t numKept, std::function<void()> done) override;
  std::vector<std::pair<engine::Request, uint32_t>> forgotten;
  std::vector<engine::Request> submitted;
  const program::Program &program() const override { return noProgram(); }
  const program::Executable &executable() const override { return executableFacts; }
  int32_t numThreads() const override { return 1; }
  uint32_t contextTokens() const override { return options.contextTokens; }
  uint32_t hiddenSize() const override { return options.hiddenSize; }
  // Its hidden state at a position: as far as this from 0, in the direction of (token, 1, 0, ...).
  static constexpr float kHiddenScale = 0.25f;

private:
  struct Sequence {
    engine::Request request;
    std::shared_ptr<engine::Listener> listener;
    uint32_t numGenerated = 0;
    bool isCancelled = false;
  };
  [[noreturn]] static const program::Program &noProgram();
  void run();
  // The reason when the sequence has ended. Called without the lock.
  std::optional<engine::FinishReason> step(engine::RequestId id, Sequence &sequence, bool isCancelled);

  const FakeEngineOptions options;
  program::Executable executableFacts;
  mutable std::mutex mutex;
  std::condition_variable changed;
  std::map<engine::RequestId, Sequence> sequences;
  engine::RequestId nextId = 1;
  engine::EngineStats counters;
  bool isStopping = false;
  std::thread thread;
};

// A service over a FakeEngine, with a tokenizer of bytes and a template of "role: content" lines.
ServedModel fakeModel(FakeEngineOptions options);

}  // namespace girih::server
