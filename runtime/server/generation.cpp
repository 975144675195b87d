// SPDX-License-Identifier: Apache-2.0
// Generation: from engine callbacks to an answer; see the header for which thread does what.
#include "runtime/server/generation.h"

#include <algorithm>

namespace girih::server {

void writeUsage(JsonWriter &writer, const TokenCounts &counts) {
  writer.key("usage").beginObject().member("prompt_tokens", counts.numPromptTokens);
  writer.member("completion_tokens", counts.numOutputTokens);
  writer.member("total_tokens", counts.numPromptTokens + counts.numOutputTokens);
  writer.key("prompt_tokens_details")
      .beginObject()
      .member("cached_tokens", counts.numCachedTokens)
      .endObject();
  writer.endObject();
}

void AnswerFormat::fail(Exchange &stream, const ApiError &error) { stream.sendEvent(errorBody(error)); }

void startGeneration(Service &service, std::shared_ptr<Exchange> exchange, GenerationRequest request) {
  if (!request.parameters.shape)
    return Generation::start(service, std::move(exchange), std::move(request));
  auto waiting = std::make_shared<GenerationRequest>(std::move(request));
  auto go = [&service, exchange, waiting](Expected<Grammar> grammar) {
    if (!grammar.isOk()) {
      ApiError error = apiErrorOf(grammar.status());
      error.param = waiting->parameters.shape->field;
      error.message = "`" + error.param + "`: " + error.message;
      return service.answerError(*exchange, error);
    }
    waiting->grammar = std::move(grammar).value();
    Generation::start(service, exchange, std::move(*waiting));
  };
  if (auto known = service.grammars().find(*waiting->parameters.shape))
    return go(std::move(*known));
  if (!service.compileLater([&service, waiting, go] { go(service.grammars().compile(*waiting->parameters.shape)); }))
    service.answerError(*exchange, service.overloaded("as many answers' shapes wait to be compiled as may wait"));
}

// Queues what the engine says of one choice.
class Generation::ChoiceListener final : public engine::Listener {
public:
  ChoiceListener(std::shared_ptr<Generation> generation, Choice &choice)
      : generation(std::move(generation)), choice(choice) {}

  void onTokens(engine::RequestId, std::span<const engine::TokenResult> tokens) override {
    std::lock_guard lock(generation->mutex);
    append(choice.inbox, tokens);
    generation->scheduleSpeaking();
  }
  void onStop(engine::RequestId, const engine::TokenResult &token) override {
    std::lock_guard lock(generation->mutex);
    if (generation->parameters.tellsStopToken)
      append(choice.stopInbox, {&token, 1});
  }
  void onPromptLogprobs(engine::RequestId, uint32_t, std::span<const engine::TokenResult> tokens) override {
    std::lock_guard lock(generation->mutex);
    append(choice.promptInbox, tokens);
  }
  void onFinish(engine::RequestId, engine::FinishReason reason, const engine::Usage &usage,
                const Status &status) override {
    std::lock_guard lock(generation->mutex);
    choice.engineEnding = EngineEnding{reason, usage, errorOf(reason, status)};
    generation->scheduleSpeaking();
  }

private:
  static void append(std::vector<SpokenToken> &inbox, std::span<const engine::TokenResult> tokens) {
    for (const engine::TokenResult &result : tokens)
      inbox.push_back({result.token, result.logprob, true, {result.top.begin(), result.top.end()}});
  }
  const std::shared_ptr<Generation> generation;
  Choice &choice;
};

Generation::Choice::Choice(const GenerationParameters &parameters, const std::optional<Tokenizer> &tokenizer)
    : stopMatcher(parameters.stop) {
  if (tokenizer)
    decoder.emplace(*tokenizer, /*skipSpecial=*/true);
}

Generation::Generation(Service &service, std::shared_ptr<Exchange> exchange, GenerationRequest request)
    : service(service), exchange(std::move(exchange)), client(service.clientOf(this->exchange->request())),
      parameters(std::move(request.parameters)), format(std::move(request.format)),
      promptField(std::move(request.promptField)), grammar(std::move(request.grammar)) {
  service.numActive += !isBatch();
}

Generation::~Generation() { service.numActive -= !isBatch(); }

void Generation::start(Service &service, std::shared_ptr<Exchange> exchange, GenerationRequest request) {
  uint32_t contextTokens = service.engine().contextTokens();
  const std::string &field = request.promptField;
  for (const std::vector<int32_t> &prompt : request.prompts) {
    if (prompt.empty())
      return service.answerError(
          *exchange, invalidField(field, "`" + field + "` gives no tokens; at least one is needed"));
    bool wantsAnswer = request.parameters.maxTokens != 0u;
    if (prompt.size() + wantsAnswer > contextTokens)
      return service.answerError(
          *exchange, invalidField(field,
                                  "this model's context is " + std::to_string(contextTokens) + " tokens; `" +
                                      field + "` has " + std::to_string(prompt.size()) +
                                      " and must leave room for an answer: shorten it",
                                  "context_length_exceeded"));
  }
  std::vector<std::vector<int32_t>> prompts = std::move(request.prompts);
  std::vector<uint32_t> promptSizes;
  for (const std::vector<int32_t> &prompt : prompts)
    promptSizes.push_back(static_cast<uint32_t>(prompt.size()));
  std::shared_ptr<Generation> generation(new Generation(service, exchange, std::move(request)));
  generation->promptSizes = std::move(promptSizes);
  // Tokens may come before all are submitted: they wait in the inboxes until the visit posted below.
  if (Status status = generation->submitAll(std::move(prompts)); !status.isOk()) {
    ApiError error = apiErrorOf(status);
    if (error.status == 400)
      error.param = generation->promptField;
    if (error.status == 429)
      error = service.overloaded(error.message);
    generation->hasEnded = true;
    generation->cancelAll();
    generation->log(error.status, error.code);
    return service.answerError(*exchange, error);
  }
  // Weak: the exchange keeps the callback, the generation keeps the exchange.
  exchange->onClientGone([weak = generation->weak_from_this()] {
    auto gone = weak.lock();
    if (!gone)
      return;
    ++gone->service.numClientsGone;
    gone->cancelAll();
  });
  service.speaker().post([generation] {
    if (generation->parameters.stream)
      generation->beginStream();
    generation->speak();
  });
}

Expected<engine::Request> Generation::makeRequest(const std::vector<int32_t> &prompt, uint32_t choice) const {
  engine::Request request = service.requestOf(exchange->request(), received);
  request.promptTokens = prompt;
  request.maxTokens = parameters.maxTokens.value_or(engine::kUntilContextEnds);
  request.sampling = parameters.sampling;
  request.sampling.seed += choice; // each answer to a prompt has noise of its own
  request.rules = parameters.rules;
  if (grammar) {
    GIRIH_ASSIGN(Grammar own, grammar->copy());
    request.rules.mask = std::make_shared<GrammarMask>(std::move(own));
  }
  request.stopTokens = service.model().stopTokens;
  request.stopTokens.insert(request.stopTokens.end(), parameters.stopTokens.begin(),
                            parameters.stopTokens.end());
  request.ignoreStop = parameters.ignoreStop;
  request.wantLogprobs = parameters.wantLogprobs;
  request.wantPromptLogprobs = parameters.echo && parameters.wantLogprobs;
  request.numTopLogprobs = parameters.numTopLogprobs;
  request.priority -= parameters.isPatient && !isBatch() ? 1 : 0;
  request.cacheSalt += parameters.cacheSalt;
  request.numSharedTokens = parameters.numSharedTokens;
  request.sharedSalt = parameters.sharedSalt;
  request.keepOnDisk = parameters.keepOnDisk;
  request.keepSeconds = std::min(parameters.keepSeconds, service.options().maxKeepSeconds);
  return request;
}

Status Generation::submitAll(std::vector<std::vector<int32_t>> prompts) {
  for (const std::vector<int32_t> &prompt : prompts)
    for (uint32_t number = 0; number < parameters.numChoices; ++number) {
      {
        std::lock_guard lock(mutex);
        choices.emplace_back(parameters, service.model().tokenizer);
      }
      Choice &choice = choices.back();
      if (parameters.echo)
        choice.promptTokens = prompt;
      ++numOpen;
      auto listener = std::make_shared<ChoiceListener>(shared_from_this(), choice);
      GIRIH_ASSIGN(engine::Request request, makeRequest(prompt, number));
      GIRIH_ASSIGN(choice.requestId, service.engine().submit(std::move(request), std::move(listener)));
    }
  return {};
}

void Generation::cancelAll() {
  for (const Choice &choice : choices)
    if (choice.requestId != 0)
      service.cancel(choice.requestId);
}

// Requires: `mutex` is held. Tokens that come while the speaker is busy wait for one visit.
void Generation::scheduleSpeaking() {
  if (speakingScheduled)
    return;
  speakingScheduled = true;
  service.speaker().post([self = shared_from_this()] { self->speak(); });
}

void Generation::beginStream() {
  service.countAnswer(exchange->request(), 200);
  exchange->beginEvents(ignoredHeaders(parameters.ignoredNames));
  format->open(*exchange, static_cast<uint32_t>(choices.size()), counts());
}

void Generation::speak() {
  {
    std::lock_guard lock(mutex);
    speakingScheduled = false;
  }
  for (uint32_t number = 0; number < choices.size() && !hasEnded; ++number)
    speakChoice(number);
}

void Generation::speakChoice(uint32_t number) {
  Choice &choice = choices[number];
  std::vector<SpokenToken> promptTokens, tokens, stopTokens;
  std::optional<EngineEnding> end;
  {
    std::lock_guard lock(mutex);
    tokens.swap(choice.inbox);
    end = std::exchange(choice.engineEnding, std::nullopt);
    if (end)
      stopTokens.swap(choice.stopInbox);
    if (!tokens.empty() || end)
      promptTokens.swap(choice.promptInbox);
  }
  if (choice.hasEnded)
    return;
  if ((!tokens.empty() || (end && !end->error)) && parameters.echo && !choice.hasEchoed)
    echo(number, std::move(promptTokens));
  if (!tokens.empty() && !choice.isCut)
    sayTokens(number, std::move(tokens));
  if (!end)
    return;
  choice.usage = end->usage;
  if (choice.isCut)
    return finishChoice(number, "stop");
  if (end->error)
    return endWithError(*end->error);
  if (choice.decoder)
    sayText(number, choice.stopMatcher.push(choice.decoder->finish()));
  sayText(number, choice.stopMatcher.finish());
  std::move(stopTokens.begin(), stopTokens.end(), std::back_inserter(choice.unsaidTokens));
  bool hasStopped = choice.stopMatcher.hasMatched() || end->reason == engine::FinishReason::Stop;
  finishChoice(number, hasStopped ? "stop" : "length");
}

// The prompt as the beginning of its answer.
void Generation::echo(uint32_t number, std::vector<SpokenToken> promptTokens) {
  Choice &choice = choices[number];
  choice.hasEchoed = true;
  if (parameters.wantLogprobs) {
    choice.unsaidTokens.push_back({choice.promptTokens.front(), 0.0f, false, {}});
    std::move(promptTokens.begin(), promptTokens.end(), std::back_inserter(choice.unsaidTokens));
  }
  if (service.model().tokenizer)
    sayText(number, service.model().tokenizer->decode(choice.promptTokens, /*skipSpecial=*/false));
}

void Generation::sayTokens(uint32_t number, std::vector<SpokenToken> tokens) {
  Choice &choice = choices[number];
  for (SpokenToken &token : tokens) {
    choice.spokenTokens.push_back(token.token);
    std::string text =
        choice.decoder ? choice.stopMatcher.push(choice.decoder->push(token.token)) : std::string();
    if (parameters.wantLogprobs)
      choice.unsaidTokens.push_back(std::move(token));
    sayText(number, std::move(text));
    if (choice.stopMatcher.hasMatched()) {
      // Ends with what the engine says last, a step later: how much came from the cache is known then.
      choice.isCut = true;
      service.cancel(choice.requestId);
      return;
    }
  }
}

void Generation::sayText(uint32_t number, std::string text) {
  Choice &choice = choices[number];
  if (!parameters.stream) {
    choice.wholeText += text;
    return;
  }
  // A model without a tokenizer still streams: its chunks carry log-probabilities only.
  if (text.empty() && (choice.decoder || choice.unsaidTokens.empty()))
    return;
  format->say(*exchange, number, text, choice.unsaidTokens);
  choice.unsaidTokens.clear();
}

void Generation::finishChoice(uint32_t number, std::string_view finishReason) {
  Choice &choice = choices[number];
  choice.hasEnded = true;
  choice.ending = {finishReason, choice.stopMatcher.matchedString(), choice.spokenTokens};
  --numOpen;
  if (parameters.stream) {
    if (!choice.unsaidTokens.empty())
      format->say(*exchange, number, "", choice.unsaidTokens);
    format->close(*exchange, number, choice.ending);
  }
  if (numOpen == 0)
    finish();
}

TokenCounts Generation::counts() const {
  TokenCounts counts;
  for (size_t number = 0; number < choices.size(); ++number) {
    const Choice &choice = choices[number];
    counts.numOutputTokens += static_cast<uint32_t>(choice.spokenTokens.size());
    if (number % parameters.numChoices != 0)
      continue; // further answers to the same prompt
    counts.numPromptTokens += promptSizes[number / parameters.numChoices];
    counts.numCachedTokens += choice.usage.numCachedTokens;
  }
  return counts;
}

void Generation::finish() {
  hasEnded = true;
  meter();
  TokenCounts all = counts();
  log(200, choices.front().ending.reason);
  if (!parameters.stream) {
    std::vector<FinishedChoice> finished;
    for (const Choice &choice : choices)
      finished.push_back({choice.wholeText, choice.ending, choice.unsaidTokens});
    HttpResponse response;
    response.body = format->wholeAnswer(finished, all);
    response.headers = ignoredHeaders(parameters.ignoredNames);
    return service.answer(*exchange, std::move(response));
  }
  format->end(*exchange, all);
  exchange->endEvents();
}

// A stream has sent its status already: the error is its last event, which the official clients raise.
void Generation::endWithError(const ApiError &error) {
  hasEnded = true;
  meter();
  cancelAll();
  log(error.status, error.code);
  if (!parameters.stream)
    return service.answerError(*exchange, error);
  format->fail(*exchange, error);
  exchange->endEvents();
}

// Also of who left or was too slow: what was computed was used.
void Generation::meter() {
  bool hasRun = false;
  for (const Choice &choice : choices)
    hasRun |= choice.usage.prefillSeconds > 0 || !choice.spokenTokens.empty() || choice.hasEnded;
  if (!hasRun)
    return;
  TokenCounts all = counts();
  service.meter(client, isBatch() ? UsedBy::Batch : UsedBy::Live,
                {1, all.numPromptTokens, all.numCachedTokens, all.numOutputTokens, 0});
}

void Generation::log(int status, std::string_view finishReason) const {
  GenerationRecord record;
  record.client = client.name;
  record.status = status;
  record.finishReason = finishReason;
  record.isStream = parameters.stream;
  record.numChoices = static_cast<uint32_t>(choices.size());
  TokenCounts all = counts();
  record.numPromptTokens = all.numPromptTokens;
  record.numCachedTokens = all.numCachedTokens;
  record.numOutputTokens = all.numOutputTokens;
  const engine::Usage &usage = choices.front().usage;
  record.queueSeconds = usage.queueSeconds;
  record.prefillSeconds = usage.prefillSeconds;
  record.totalSeconds = std::chrono::duration<double>(engine::Clock::now() - received).count();
  service.log(exchange->request(), record);
}

} // namespace girih::server
