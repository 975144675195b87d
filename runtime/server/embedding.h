// SPDX-License-Identifier: Apache-2.0
// Embedding: the inputs of one request through the engine, each to the mean of its hidden states.
#pragma once

#include "runtime/server/service.h"

#include <map>

namespace girih::server {

// Sums the rows of one input as they come; the sum does not depend on how many come at once.
class MeanPool {
public:
  explicit MeanPool(size_t hiddenSize) : sums(hiddenSize) {}
  // `rows`: [numRows, hiddenSize].
  void add(std::span<const float> rows);
  // The mean, of length 1 (zeros stay zeros: there is no direction in them).
  std::vector<float> normalised() const;

private:
  std::vector<double> sums; // of f32: exact enough that no order of thousands shows in the result
};

// How one endpoint writes the vectors. Used by one thread at a time.
class EmbeddingFormat {
public:
  virtual ~EmbeddingFormat() = default;
  virtual std::string text(std::span<const float> vector) const = 0;
  virtual std::string wholeAnswer(std::span<const std::string> texts, uint64_t numTokens) const = 0;
};

struct EmbeddingWork {
  std::vector<std::vector<int32_t>> inputs; // at least one
  std::unique_ptr<EmbeddingFormat> format;
  std::vector<std::string> ignoredNames;
};

// Kept alive by the engine (through the listeners of its inputs) until the last onFinish, and by tasks of the speaker.
// Threads: the engine's calls sum rows and submit the next input; the speaker's thread writes; `client gone` comes from
// the sockets' one.
class Embedding final : public std::enable_shared_from_this<Embedding> {
public:
  // Answers at once where the first input is refused. Requires: as Service::engine().
  static void start(Service &service, std::shared_ptr<Exchange> exchange, EmbeddingWork work);
  ~Embedding();

private:
  class InputListener;
  Embedding(Service &service, std::shared_ptr<Exchange> exchange, EmbeddingWork work);
  bool submitNext();
  void onInputEnd(size_t index, const MeanPool &pool, const engine::Usage &usage,
                  std::optional<ApiError> error);
  void keep(size_t index, const std::vector<float> &vector);
  void cancelAll();
  void endWithError(const ApiError &error);
  void finish();
  void meterAndLog(int status, std::string_view finishReason);

  Service &service;
  engine::Engine &engine; // outlives every call of a listener
  const std::shared_ptr<Exchange> exchange;
  const Client &client;
  const EmbeddingWork work;
  const engine::Clock::time_point received = engine::Clock::now();

  std::mutex mutex; // guards the five below
  size_t numSubmitted = 0;
  bool isOver = false;                         // nothing more is submitted
  std::map<size_t, engine::RequestId> running; // by input
  uint64_t numTokensRead = 0;
  engine::Usage firstUsage;

  // The speaker's own.
  std::vector<std::string> texts;
  size_t numKept = 0;
  bool hasAnswered = false;
};

} // namespace girih::server
