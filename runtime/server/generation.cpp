// SPDX-License-Identifier: Apache-2.0
// Generation: from engine callbacks to an answer; see the header for which thread does what.
#include "runtime/server/generation.h"

namespace girih::server {

void writeUsage(JsonWriter &writer, const TokenCounts &counts) {
  writer.key("usage").beginObject().member("prompt_tokens", counts.numPromptTokens);
  writer.member("completion_tokens", counts.numOutputTokens);
  writer.member("total_tokens", counts.numPromptTokens + counts.numOutputTokens).endObject();
}

void Generation::start(Service &service, std::shared_ptr<Exchange> exchange, GenerationParameters parameters,
                       std::vector<int32_t> promptTokens, std::unique_ptr<AnswerFormat> format,
                       std::string promptField) {
  uint32_t contextTokens = service.engine().contextTokens();
  if (promptTokens.empty())
    return service.answerError(*exchange, invalidField(promptField, "`" + promptField + "` gives no tokens; at least one is needed"));
  if (promptTokens.size() >= contextTokens)
    return service.answerError(*exchange, invalidField(promptField, "this model's context is " + std::to_string(contextTokens) + " tokens; `" + promptField + "` has " + std::to_string(promptTokens.size()) + " and must leave room for an answer: shorten it", "context_length_exceeded"));
  if (service.numActive >= service.options().maxActiveRequests)
    return service.answerError(*exchange, {429, "rate_limit_error", "queue_full", std::to_string(service.options().maxActiveRequests) + " requests are waiting or running, as many as this server takes; retry later", ""});

  auto numPromptTokens = static_cast<uint32_t>(promptTokens.size());
  engine::Request request;
  request.promptTokens = std::move(promptTokens);
  request.maxTokens = parameters.maxTokens.value_or(engine::kUntilContextEnds);
  request.sampling = parameters.sampling;
  request.stopTokens = service.model().stopTokens;
  request.stopTokens.insert(request.stopTokens.end(), parameters.stopTokens.begin(), parameters.stopTokens.end());
  request.ignoreStop = parameters.ignoreStop;
  request.wantLogprobs = parameters.wantLogprobs;
  request.numTopLogprobs = parameters.numTopLogprobs;

  std::shared_ptr<Generation> generation(new Generation(service, exchange, std::move(parameters), std::move(format), numPromptTokens));
  // Tokens may come before submit() returns: they wait in the inbox until the visit posted below.
  auto id = service.engine().submit(std::move(request), generation);
  if (!id.isOk()) {
    ApiError error = apiErrorOf(id.status());
    if (error.status == 400)
      error.param = promptField;
    return service.answerError(*exchange, error);
  }
  generation->requestId = *id;
  exchange->onClientGone([&service, id = *id] {
    ++service.numClientsGone;
    service.cancel(id);
  });
  service.speaker().post([generation] {
    if (generation->parameters.stream)
      generation->beginStream();
    generation->speak();
  });
}

Generation::Generation(Service &service, std::shared_ptr<Exchange> exchange, GenerationParameters parameters,
                       std::unique_ptr<AnswerFormat> format, uint32_t numPromptTokens)
    : service(service), exchange(std::move(exchange)), parameters(std::move(parameters)), format(std::move(format)),
      numPromptTokens(numPromptTokens), stopMatcher(this->parameters.stop) {
  ++service.numActive;
  if (service.model().tokenizer)
    decoder.emplace(*service.model().tokenizer, /*skipSpecial=*/true);
}

Generation::~Generation() { --service.numActive; }

void Generation::onTokens(engine::RequestId, std::span<const engine::TokenResult> tokens) {
  std::lock_guard lock(mutex);
  for (const engine::TokenResult &result : tokens)
    inbox.push_back({result.token, result.logprob, {result.top.begin(), result.top.end()}});
  scheduleSpeaking();
}

void Generation::onFinish(engine::RequestId, engine::FinishReason reason, const engine::Usage &usage,
                          const Status &status) {
  std::lock_guard lock(mutex);
  ending = Ending{reason, usage.numOutputTokens, std::nullopt};
  if (reason == engine::FinishReason::Failed)
    ending->error = apiErrorOf(status);
  else if (reason == engine::FinishReason::Cancelled)
    ending->error = ApiError{503, "unavailable_error", "cancelled", "the server is shutting down", ""};
  scheduleSpeaking();
}

// Requires: `mutex` is held. Tokens that come while the speaker is busy wait for one visit.
void Generation::scheduleSpeaking() {
  if (speakingScheduled)
    return;
  speakingScheduled = true;
  service.speaker().post([self = shared_from_this()] { self->speak(); });
}

void Generation::beginStream() {
  HttpHeaders headers;
  if (!parameters.ignoredNames.empty())
    headers.emplace_back("x-girih-ignored", joinedIgnoredNames());
  service.countAnswer(exchange->request(), 200);
  exchange->beginEvents(std::move(headers));
  if (std::string chunk = format->openingChunk(); !chunk.empty())
    exchange->sendEvent(chunk);
}

std::string Generation::joinedIgnoredNames() const {
  std::string joined;
  for (const std::string &name : parameters.ignoredNames)
    joined += (joined.empty() ? "" : ",") + name;
  return joined;
}

void Generation::speak() {
  std::vector<SpokenToken> tokens;
  std::optional<Ending> end;
  {
    std::lock_guard lock(mutex);
    tokens.swap(inbox);
    end = std::exchange(ending, std::nullopt);
    speakingScheduled = false;
  }
  if (!tokens.empty() && !hasEnded)
    sayTokens(std::move(tokens));
  if (!end || hasEnded)
    return;
  if (end->error)
    return endWithError(*end->error);
  if (decoder)
    sayText(stopMatcher.push(decoder->finish()));
  sayText(stopMatcher.finish());
  bool hasStopped = stopMatcher.hasMatched() || end->reason == engine::FinishReason::Stop;
  finish(hasStopped ? "stop" : "length", end->numOutputTokens);
}

void Generation::sayTokens(std::vector<SpokenToken> tokens) {
  for (SpokenToken &token : tokens) {
    ++numSpoken;
    std::string text = decoder ? stopMatcher.push(decoder->push(token.token)) : std::string();
    if (parameters.wantLogprobs)
      unsaidTokens.push_back(std::move(token));
    sayText(std::move(text));
    if (stopMatcher.hasMatched()) {
      service.cancel(requestId);
      return finish("stop", numSpoken);
    }
  }
}

void Generation::sayText(std::string text) {
  if (!parameters.stream) {
    wholeText += text;
    return;
  }
  // A model without a tokenizer still streams: its chunks carry log-probabilities only.
  if (text.empty() && (decoder || unsaidTokens.empty()))
    return;
  exchange->sendEvent(format->deltaChunk(text, unsaidTokens));
  unsaidTokens.clear();
}

void Generation::finish(std::string_view finishReason, uint32_t numOutputTokens) {
  hasEnded = true;
  TokenCounts counts{numPromptTokens, numOutputTokens};
  if (!parameters.stream) {
    HttpResponse response;
    response.body = format->wholeAnswer(wholeText, finishReason, counts, unsaidTokens);
    if (!parameters.ignoredNames.empty())
      response.headers.emplace_back("x-girih-ignored", joinedIgnoredNames());
    return service.answer(*exchange, std::move(response));
  }
  if (!unsaidTokens.empty())
    exchange->sendEvent(format->deltaChunk("", unsaidTokens));
  exchange->sendEvent(format->closingChunk(finishReason));
  if (parameters.includeUsage)
    exchange->sendEvent(format->usageChunk(counts));
  exchange->sendEvent("[DONE]");
  exchange->endEvents();
}

// A stream has sent its status already: the error is its last event, which the official clients raise.
void Generation::endWithError(const ApiError &error) {
  hasEnded = true;
  if (!parameters.stream)
    return service.answerError(*exchange, error);
  exchange->sendEvent(errorBody(error));
  exchange->endEvents();
}

}  // namespace girih::server
