// SPDX-License-Identifier: Apache-2.0
// What the engine's tests share: the toy model in an engine, requests for it, and a listener that waits.
#pragma once

#include "runtime/engine/engine.h"
#include "tests/runtime/program/toy_program.h"

#include <condition_variable>
#include <functional>
#include <memory>
#include <mutex>
#include <string>
#include <vector>

namespace girih::engine {

inline std::vector<int32_t> somePrompt(size_t length, int32_t first, uint32_t vocabSize = 97) {
  std::vector<int32_t> prompt;
  for (size_t index = 0; index < length; ++index)
    prompt.push_back(static_cast<int32_t>((static_cast<uint32_t>(first) * 31 + index * 7) % vocabSize));
  return prompt;
}

inline Request greedy(std::vector<int32_t> prompt, uint32_t maxTokens) {
  Request request;
  request.promptTokens = std::move(prompt);
  request.maxTokens = maxTokens;
  return request;
}

inline EngineOptions withThreads(int32_t numThreads) {
  EngineOptions options;
  options.numThreads = numThreads;
  return options;
}

inline std::unique_ptr<Engine> makeEngine(const testing::ToyOptions &toy = {},
                                          EngineOptions options = withThreads(2)) {
  auto engine = Engine::create(testing::openToyProgram(toy), options);
  GIRIH_CHECK(engine.isOk());
  return std::move(engine).value();
}

// Gathers what comes; onToken may act on the way.
class Recorder final : public Listener {
public:
  std::function<void(RequestId)> onToken;

  void onTokens(RequestId id, std::span<const TokenResult> results) override {
    {
      std::lock_guard lock(mutex);
      for (const TokenResult &result : results)
        received.push_back(result.token);
    }
    changed.notify_all();
    if (onToken)
      onToken(id);
  }
  void onStop(RequestId, const TokenResult &result) override {
    std::lock_guard lock(mutex);
    stops.emplace_back(result.token, result.logprob);
  }
  void onFinish(RequestId, FinishReason newReason, const Usage &newUsage, const Status &status) override {
    {
      std::lock_guard lock(mutex);
      reason = newReason;
      usage = newUsage;
      code = status.code();
      message = status.message();
      ++numFinishes;
    }
    changed.notify_all();
  }
  void wait() {
    std::unique_lock lock(mutex);
    changed.wait(lock, [&] { return numFinishes > 0; });
  }
  void waitForTokens(size_t count) {
    std::unique_lock lock(mutex);
    changed.wait(lock, [&] { return received.size() >= count || numFinishes > 0; });
  }

  std::mutex mutex;
  std::condition_variable changed;
  std::vector<int32_t> received;
  std::vector<std::pair<int32_t, float>> stops;
  FinishReason reason = FinishReason::Failed;
  Usage usage;
  StatusCode code = StatusCode::Ok;
  std::string message;
  int numFinishes = 0;
};

} // namespace girih::engine
