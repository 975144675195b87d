// SPDX-License-Identifier: Apache-2.0
// FakeEngine: see the header.
#include "tests/runtime/server/fake_engine.h"

#include <cstdio>
#include <cstdlib>

namespace girih::server {

FakeEngine::FakeEngine(FakeEngineOptions options) : options(std::move(options)) {
  executableFacts.isa = "fake";
  counters.numKvBlocks = 1000;
  thread = std::thread([this] { run(); });
}

FakeEngine::~FakeEngine() {
  {
    std::lock_guard lock(mutex);
    isStopping = true;
  }
  changed.notify_one();
  thread.join();
}

const program::Program &FakeEngine::noProgram() {
  std::fputs("a FakeEngine has no program\n", stderr);
  std::abort();
}

Expected<engine::RequestId> FakeEngine::submit(engine::Request request, std::shared_ptr<engine::Listener> listener) {
  for (int32_t token : request.promptTokens)
    if (token < 0 || token >= static_cast<int32_t>(kVocabSize))
      return invalidArgument("token " + std::to_string(token) + " is beyond the vocabulary of " + std::to_string(kVocabSize));
  std::lock_guard lock(mutex);
  submitted.push_back(request);
  counters.numPromptTokens += request.promptTokens.size();
  sequences[nextId] = {std::move(request), std::move(listener)};
  changed.notify_one();
  return nextId++;
}

void FakeEngine::forget(const engine::Request &request, uint32_t numKept, std::function<void()> done) {
  forgotten.emplace_back(request, numKept);
  done();
}

void FakeEngine::cancel(engine::RequestId id) {
  std::lock_guard lock(mutex);
  if (auto found = sequences.find(id); found != sequences.end())
    found->second.isCancelled = true;
}

engine::EngineStats FakeEngine::stats() const {
  std::lock_guard lock(mutex);
  engine::EngineStats result = counters;
  result.numRunning = static_cast<uint32_t>(std::min<size_t>(sequences.size(), options.maxRunning));
  result.numWaiting = static_cast<uint32_t>(sequences.size()) - result.numRunning;
  result.numKvBlocksUsed = sequences.size();
  return result;
}

engine::EngineLoad FakeEngine::load() const {
  std::lock_guard lock(mutex);
  engine::EngineLoad load;
  load.numUnfinished = static_cast<uint32_t>(sequences.size());
  for (const auto &[id, sequence] : sequences)
    load.numQueuedTokens += sequence.numGenerated == 0 ? sequence.request.promptTokens.size() : 0;
  load.tokensPerSecond = 100.0;
  return load;
}

namespace {

// The token that is wanted where it is allowed, else the allowed one of the lowest id.
Expected<int32_t> maskedToken(engine::TokenMask &mask, int32_t wanted) {
  std::vector<uint32_t> words((FakeEngine::kVocabSize + 31) / 32);
  GIRIH_TRY(mask.fill(words));
  auto isAllowed = [&](int32_t token) { return words[static_cast<size_t>(token) / 32] >> (token % 32) & 1; };
  int32_t token = wanted;
  for (int32_t other = 0; !isAllowed(token); ++other)
    token = other;
  if (token != FakeEngine::kEndToken)
    GIRIH_TRY(mask.accept(token));
  return token;
}

} // namespace

std::optional<engine::FinishReason> FakeEngine::step(engine::RequestId id, Sequence &sequence, bool isCancelled) {
  const engine::Request &request = sequence.request;
  auto end = [&](engine::FinishReason reason, Status status) {
    engine::Usage usage;
    usage.numPromptTokens = static_cast<uint32_t>(request.promptTokens.size());
    usage.numOutputTokens = sequence.numGenerated;
    usage.numCachedTokens = std::min(usage.numPromptTokens, options.cachedTokens);
    sequence.listener->onFinish(id, reason, usage, status);
    return reason;
  };
  if (isCancelled)
    return end(engine::FinishReason::Cancelled, {});
  if (options.fails && sequence.numGenerated == 3)
    return end(engine::FinishReason::Failed, internalError("a logit is NaN"));
  if (request.wantPromptLogprobs && sequence.numGenerated == 0) {
    std::vector<engine::TokenResult> results;
    std::vector<engine::TopToken> best(request.numTopLogprobs, {65, -0.25f});
    for (size_t index = 1; index < request.promptTokens.size(); ++index)
      results.push_back({request.promptTokens[index], -1.5f, best});
    sequence.listener->onPromptLogprobs(id, 1, results);
  }
  if (request.wantHidden) {
    // In two pieces, as a long one comes.
    size_t numFirst = request.promptTokens.size() / 2, numRows = request.promptTokens.size();
    std::vector<float> rows(numRows * options.hiddenSize);
    for (size_t row = 0; row < numRows; ++row) {
      rows[row * options.hiddenSize] = kHiddenScale * static_cast<float>(request.promptTokens[row]);
      rows[row * options.hiddenSize + 1] = kHiddenScale;
    }
    auto first = std::span(rows).first(numFirst * options.hiddenSize), rest = std::span(rows).subspan(first.size());
    if (numFirst > 0)
      sequence.listener->onHidden(id, 0, static_cast<uint32_t>(numFirst), first);
    sequence.listener->onHidden(id, static_cast<uint32_t>(numFirst), static_cast<uint32_t>(numRows - numFirst), rest);
  }
  if (request.maxTokens == 0)
    return end(engine::FinishReason::Length, {});
  if (request.deadline && engine::Clock::now() >= *request.deadline)
    return end(engine::FinishReason::Expired, unavailable("too late"));
  size_t shift = request.sampling.temperature > 0 ? request.sampling.seed % options.says.size() : 0;
  size_t at = shift + sequence.numGenerated;
  engine::TokenResult result;
  bool saidAll = at >= options.says.size() && !request.ignoreStop;
  result.token = saidAll ? kEndToken : static_cast<unsigned char>(options.says[at % options.says.size()]);
  if (request.rules.mask) {
    auto masked = maskedToken(*request.rules.mask, result.token);
    if (!masked.isOk())
      return end(engine::FinishReason::Failed, std::move(masked).status());
    result.token = *masked;
  }
  result.logprob = -0.5f;
  std::vector<engine::TopToken> top(request.numTopLogprobs, {result.token, -0.5f});
  result.top = top;
  if (result.token == kEndToken) {
    sequence.listener->onStop(id, result);
    return end(engine::FinishReason::Stop, {});
  }
  ++sequence.numGenerated;
  sequence.listener->onTokens(id, {&result, 1});
  bool isFull = request.promptTokens.size() + sequence.numGenerated >= options.contextTokens;
  if (isFull || sequence.numGenerated >= request.maxTokens)
    return end(engine::FinishReason::Length, {});
  return std::nullopt;
}

void FakeEngine::run() {
  std::unique_lock lock(mutex);
  while (!isStopping || !sequences.empty()) {
    changed.wait(lock, [this] { return isStopping || !sequences.empty(); });
    struct Running {
      engine::RequestId id;
      Sequence *sequence;
      bool isCancelled;
    };
    std::vector<Running> running;
    for (auto &[id, sequence] : sequences)
      if (running.size() < options.maxRunning || sequence.isCancelled || isStopping)
        running.push_back({id, &sequence, sequence.isCancelled || isStopping});
    ++counters.numSteps;
    counters.numSharedSteps += running.size() > 1;
    counters.maxSequencesInStep = std::max(counters.maxSequencesInStep, static_cast<uint32_t>(running.size()));
    // As the real one: listeners are called without the lock, and may submit and cancel.
    lock.unlock();
    std::vector<std::pair<engine::RequestId, engine::FinishReason>> ended;
    for (auto &[id, sequence, isCancelled] : running)
      if (auto reason = step(id, *sequence, isCancelled))
        ended.emplace_back(id, *reason);
    std::this_thread::sleep_for(options.stepTime);
    lock.lock();
    for (const auto &[id, reason] : ended) {
      ++counters.numRequestsFinished[static_cast<int>(reason)];
      sequences.erase(id);
    }
  }
}

namespace {

// The character that byte-level vocabularies write for a byte (OpenAI's GPT-2 table), as UTF-8.
std::string visibleByte(int byte) {
  auto isVisible = [](int b) { return (b >= 33 && b <= 126) || (b >= 161 && b <= 172) || (b >= 174 && b <= 255); };
  int codePoint = byte;
  if (!isVisible(byte)) {
    codePoint = 256;
    for (int lower = 0; lower < byte; ++lower)
      codePoint += !isVisible(lower);
  }
  if (codePoint < 128)
    return {static_cast<char>(codePoint)};
  return {static_cast<char>(0xC0 | codePoint >> 6), static_cast<char>(0x80 | (codePoint & 63))};
}

}  // namespace

ServedModel fakeModel(FakeEngineOptions options) {
  GgufVocabulary vocabulary;
  vocabulary.model = "gpt2";
  vocabulary.preTokenizer = "gpt-2";
  for (int byte = 0; byte < 256; ++byte)
    vocabulary.tokens.push_back(visibleByte(byte));
  vocabulary.tokens.push_back("<|end|>");
  vocabulary.tokenTypes.assign(257, 1);
  vocabulary.tokenTypes[256] = 3;
  vocabulary.eosToken = FakeEngine::kEndToken;
  auto tokenizer = Tokenizer::fromGguf(vocabulary);
  if (!tokenizer.isOk())
    std::fprintf(stderr, "%s\n", std::string(tokenizer.status().message()).c_str());
  ServedModel model;
  model.names = {"fake", "also-fake"};
  model.tokenizer = std::move(tokenizer).value();
  model.eosText = "<|end|>";
  model.templateText = options.chatTemplate;
  auto chatTemplate = ChatTemplate::parse(model.templateText, "", model.eosText, model.tokenizer->specialTexts());
  if (!chatTemplate.isOk())
    std::fprintf(stderr, "%s\n", std::string(chatTemplate.status().message()).c_str());
  model.chatTemplate = std::move(chatTemplate).value();
  model.stopTokens = {FakeEngine::kEndToken};
  model.engine = std::make_unique<FakeEngine>(std::move(options));
  return model;
}

}  // namespace girih::server
