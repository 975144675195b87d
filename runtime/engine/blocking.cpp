// SPDX-License-Identifier: Apache-2.0
// Blocking use of an engine: one request to its end, and the score of a text.
#include "runtime/engine/engine.h"

#include <algorithm>
#include <condition_variable>
#include <mutex>

namespace girih::engine {
namespace {

// Gathers everything; the waiting thread reads it after the end.
class Collector final : public Listener {
public:
  void onTokens(RequestId, std::span<const TokenResult> tokens) override {
    for (const TokenResult &token : tokens) {
      completion.tokens.push_back(token.token);
      completion.logprobs.push_back(token.logprob);
    }
  }
  void onLogits(RequestId, uint32_t, uint32_t numRows, std::span<const float> rows) override {
    completion.logits.insert(completion.logits.end(), rows.begin(), rows.end());
    completion.numLogitRows += numRows;
  }
  void onPromptLogprobs(RequestId, uint32_t, std::span<const TokenResult> tokens) override {
    for (const TokenResult &token : tokens)
      completion.promptLogprobs.push_back(token.logprob);
  }
  void onFinish(RequestId, FinishReason reason, const Usage &usage, const Status &status) override {
    std::lock_guard lock(mutex);
    completion.reason = reason;
    completion.usage = usage;
    code = status.code();
    message = status.message();
    isFinished = true;
    finished.notify_one();
  }

  Expected<Completion> wait() {
    std::unique_lock lock(mutex);
    finished.wait(lock, [&] { return isFinished; });
    if (code != StatusCode::Ok)
      return Status(code, message);
    return std::move(completion);
  }

private:
  std::mutex mutex;
  std::condition_variable finished;
  bool isFinished = false;
  Completion completion;
  StatusCode code = StatusCode::Ok;
  std::string message;
};

} // namespace

Expected<Completion> generate(Engine &engine, Request request) {
  auto collector = std::make_shared<Collector>();
  bool wantsLogprobs = request.wantLogprobs || request.numTopLogprobs > 0;
  GIRIH_ASSIGN([[maybe_unused]] RequestId id, engine.submit(std::move(request), collector));
  GIRIH_ASSIGN(Completion completion, collector->wait());
  if (!wantsLogprobs)
    completion.logprobs.clear();
  return completion;
}

Expected<std::vector<float>> score(Engine &engine, std::span<const int32_t> tokens) {
  std::vector<float> scores;
  if (tokens.empty())
    return scores;
  scores.push_back(0.0f);
  size_t contextTokens = engine.contextTokens();
  // A window scores from `scores.size()` on; all but the first begin half a context earlier.
  while (scores.size() < tokens.size()) {
    size_t overlap = scores.size() == 1 ? 1 : std::max<size_t>(contextTokens / 2, 1);
    size_t begin = scores.size() - std::min(scores.size(), overlap);
    size_t end = std::min(tokens.size(), begin + contextTokens);
    if (end <= scores.size())
      return outOfRange("a context of " + std::to_string(contextTokens) +
                        " tokens is too short to score with; it " + "must hold at least 2");
    Request request;
    request.promptTokens.assign(tokens.begin() + static_cast<std::ptrdiff_t>(begin),
                                tokens.begin() + static_cast<std::ptrdiff_t>(end));
    request.maxTokens = 0;
    request.wantPromptLogprobs = true;
    GIRIH_ASSIGN(Completion completion, generate(engine, std::move(request)));
    // promptLogprobs[i] is of the token at begin + 1 + i.
    size_t firstNew = scores.size() - begin - 1;
    scores.insert(scores.end(), completion.promptLogprobs.begin() + static_cast<std::ptrdiff_t>(firstNew),
                  completion.promptLogprobs.end());
  }
  return scores;
}

} // namespace girih::engine
