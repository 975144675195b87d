// SPDX-License-Identifier: Apache-2.0
// Generation: one request's way through the engine: tokens in, text or events out, until it ends or its client goes.
#pragma once

#include "runtime/base/json.h"
#include "runtime/server/service.h"
#include "runtime/server/stop_matcher.h"

#include <deque>

namespace girih::server {

// A token with what the client asked to know of it.
struct SpokenToken {
  int32_t token = -1;
  float logprob = 0;
  bool hasLogprob = true; // false: the first token of an echoed prompt, which nothing predicts
  std::vector<engine::TopToken> top;
};

struct TokenCounts {
  uint32_t numPromptTokens = 0; // of each prompt once, however many answers it gets
  uint32_t numCachedTokens = 0; // of these, what the cache had
  uint32_t numOutputTokens = 0; // of all answers
};

// The `usage` member of an answer.
void writeUsage(JsonWriter &writer, const TokenCounts &counts);

// Why an answer ended.
struct ChoiceEnding {
  std::string_view reason;     // "stop", or "length"
  std::string_view stopString; // of the request, where one was met
  std::span<const int32_t> tokens; // of the whole answer
};

struct FinishedChoice {
  std::string_view text;
  ChoiceEnding ending;
  std::span<const SpokenToken> tokens;
};

// How one endpoint writes its answers: events into a stream, or one JSON text. Used by one thread at a time.
class AnswerFormat {
public:
  virtual ~AnswerFormat() = default;
  // Before any text. Of `counts` only the prompts' tokens are known yet.
  virtual void open(Exchange &stream, uint32_t numChoices, const TokenCounts &counts) = 0;
  virtual void say(Exchange &stream, uint32_t choice, std::string_view text,
                   std::span<const SpokenToken> tokens) = 0;
  virtual void close(Exchange &stream, uint32_t choice, const ChoiceEnding &ending) = 0;
  // After every choice was closed.
  virtual void end(Exchange &stream, const TokenCounts &counts) = 0;
  // The last event of a stream that cannot go on.
  virtual void fail(Exchange &stream, const ApiError &error);
  virtual std::string wholeAnswer(std::span<const FinishedChoice> choices, const TokenCounts &counts) = 0;
};

// What an endpoint hands over.
struct GenerationRequest {
  GenerationParameters parameters;
  std::vector<std::vector<int32_t>>
      prompts; // at least one; each gets parameters.numChoices answers, in order
  std::unique_ptr<AnswerFormat> format;
  std::string promptField; // what refusals of a prompt name
  std::optional<Grammar> grammar; // of parameters.shape, at its beginning
};

// Compiles the shape that is asked for, off this thread unless it is known, and starts the generation.
void startGeneration(Service &service, std::shared_ptr<Exchange> exchange, GenerationRequest request);

// Kept alive by the engine (through the listeners of its choices) until the last onFinish, and by tasks of the speaker.
// Threads: the engine's calls only queue; the speaker's thread does the rest; `client gone` comes from the sockets' one.
class Generation final : public std::enable_shared_from_this<Generation> {
public:
  // Submits the prompts and answers `exchange`, at once when they are refused. All or none are generated.
  static void start(Service &service, std::shared_ptr<Exchange> exchange, GenerationRequest request);
  ~Generation();

private:
  class ChoiceListener;
  struct EngineEnding {
    engine::FinishReason reason;
    engine::Usage usage;
    std::optional<ApiError> error;
  };
  // One answer.
  struct Choice {
    Choice(const GenerationParameters &parameters, const std::optional<Tokenizer> &tokenizer);

    // Guarded by the generation's mutex: written by the engine, emptied by the speaker.
    std::vector<SpokenToken> promptInbox, inbox, stopInbox;
    std::optional<EngineEnding> engineEnding;

    // The speaker's own, besides what start() set before its first visit.
    std::vector<int32_t> promptTokens; // only where they are echoed
    engine::RequestId requestId = 0;
    StopMatcher stopMatcher;
    std::optional<StreamingDecoder> decoder;
    std::string wholeText;
    std::vector<SpokenToken> unsaidTokens; // streamed with the next text; else kept for the whole answer
    std::vector<int32_t> spokenTokens;
    bool hasEchoed = false;
    bool isCut = false; // a stop string was met; what the engine still says of it is not spoken
    bool hasEnded = false;
    ChoiceEnding ending;
    engine::Usage usage;
  };

  Generation(Service &service, std::shared_ptr<Exchange> exchange, GenerationRequest request);
  Status submitAll(std::vector<std::vector<int32_t>> prompts);
  Expected<engine::Request> makeRequest(const std::vector<int32_t> &prompt, uint32_t choice) const;
  void cancelAll();
  void scheduleSpeaking();
  void beginStream();
  void speak();
  void speakChoice(uint32_t number);
  void echo(uint32_t number, std::vector<SpokenToken> promptTokens);
  void sayTokens(uint32_t number, std::vector<SpokenToken> tokens);
  void sayText(uint32_t number, std::string text);
  void finishChoice(uint32_t number, std::string_view finishReason);
  void finish();
  void endWithError(const ApiError &error);
  TokenCounts counts() const;
  bool isBatch() const { return exchange->request().batchClient.has_value(); }
  void meter();
  void log(int status, std::string_view finishReason) const;

  Service &service;
  const std::shared_ptr<Exchange> exchange;
  const Client &client;
  const GenerationParameters parameters;
  const std::unique_ptr<AnswerFormat> format;
  const std::string promptField;
  const std::optional<Grammar> grammar;
  std::vector<uint32_t> promptSizes;
  const engine::Clock::time_point received = engine::Clock::now();

  std::mutex mutex; // guards the inboxes and speakingScheduled
  std::deque<Choice> choices;
  bool speakingScheduled = true; // start() posts the first visit

  // The speaker's own.
  uint32_t numOpen = 0; // choices that have not ended
  bool hasEnded = false;
};

} // namespace girih::server
