// SPDX-License-Identifier: Apache-2.0
// Generation: one request's way through the engine: tokens in, text or events out, until it ends or its client goes.
#pragma once

#include "runtime/base/json.h"
#include "runtime/server/service.h"
#include "runtime/server/stop_matcher.h"

namespace girih::server {

// A token with what the client asked to know of it.
struct SpokenToken {
  int32_t token = -1;
  float logprob = 0;
  std::vector<engine::TopToken> top;
};

struct TokenCounts {
  uint32_t numPromptTokens = 0;
  uint32_t numOutputTokens = 0;
};

// The `usage` member of an answer.
void writeUsage(JsonWriter &writer, const TokenCounts &counts);

// How one endpoint writes its answers; every function returns a whole JSON text. Used by one thread at a time.
class AnswerFormat {
public:
  virtual ~AnswerFormat() = default;
  // The chunk before any text; empty: none.
  virtual std::string openingChunk() = 0;
  virtual std::string deltaChunk(std::string_view text, std::span<const SpokenToken> tokens) = 0;
  virtual std::string closingChunk(std::string_view finishReason) = 0;
  virtual std::string usageChunk(const TokenCounts &counts) = 0;
  virtual std::string wholeAnswer(std::string_view text, std::string_view finishReason, const TokenCounts &counts,
                                  std::span<const SpokenToken> tokens) = 0;
};

// Kept alive by the engine (as its listener) until onFinish, and by tasks of the speaker.
// Threads: the engine's calls only queue; the speaker's thread does the rest; `client gone` comes from the sockets' one.
class Generation final : public engine::Listener, public std::enable_shared_from_this<Generation> {
public:
  // Submits the prompt and answers `exchange`, at once when it is refused.
  static void start(Service &service, std::shared_ptr<Exchange> exchange, GenerationParameters parameters,
                    std::vector<int32_t> promptTokens, std::unique_ptr<AnswerFormat> format, std::string promptField);

  void onTokens(engine::RequestId id, std::span<const engine::TokenResult> tokens) override;
  void onFinish(engine::RequestId id, engine::FinishReason reason, const engine::Usage &usage,
                const Status &status) override;
  ~Generation() override;

private:
  Generation(Service &service, std::shared_ptr<Exchange> exchange, GenerationParameters parameters,
             std::unique_ptr<AnswerFormat> format, uint32_t numPromptTokens);
  void scheduleSpeaking();
  void beginStream();
  std::string joinedIgnoredNames() const;
  void speak();
  void sayTokens(std::vector<SpokenToken> tokens);
  void sayText(std::string text);
  void finish(std::string_view finishReason, uint32_t numOutputTokens);
  void endWithError(const ApiError &error);

  struct Ending {
    engine::FinishReason reason;
    uint32_t numOutputTokens;
    std::optional<ApiError> error;
  };

  Service &service;
  const std::shared_ptr<Exchange> exchange;
  const GenerationParameters parameters;
  const std::unique_ptr<AnswerFormat> format;
  const uint32_t numPromptTokens;

  std::mutex mutex;  // guards the inbox: written by the engine, emptied by the speaker
  std::vector<SpokenToken> inbox;
  std::optional<Ending> ending;
  bool speakingScheduled = true;  // start() posts the first visit

  // The speaker's own, besides what start() set before its first visit.
  engine::RequestId requestId = 0;
  StopMatcher stopMatcher;
  std::optional<StreamingDecoder> decoder;
  std::string wholeText;
  std::vector<SpokenToken> unsaidTokens;  // streamed with the next text; else kept for the whole answer
  uint32_t numSpoken = 0;
  bool hasEnded = false;
};

}  // namespace girih::server
