// SPDX-License-Identifier: Apache-2.0
// Service: names, counts and the order of shutting down.
#include "runtime/server/service.h"

#include "runtime/server/batch_runner.h"
#include "runtime/server/chat_prompt.h"
#include "runtime/server/endpoints.h"

#include "runtime/base/json.h"

#include <algorithm>
#include <charconv>
#include <cmath>

namespace girih::server {
namespace {

constexpr double kMostRetrySeconds = 60;
constexpr uint32_t kMaxCompiling = 64;  // a hostile shape takes half a second
constexpr std::chrono::seconds kRetainedTime{60};  // so much of what was kept is lost with the process
constexpr double kStuckSeconds = 60;  // no step takes that long

ResponseStore::Owners ownersOf(const ApiKeys &keys) {
  ResponseStore::Owners owners;
  for (const Client &client : keys.all())
    owners[client.identity] = client.number;
  return owners;
}

// Where it cannot be opened this process still counts, and says in /ledger and its log that nothing is written.
std::unique_ptr<Ledger> openLedger(const std::shared_ptr<StateFolder> &state) {
  if (state)
    if (auto opened = Ledger::open(state->part("ledger") + "/used"); opened.isOk())
      return std::move(opened).value();
  return std::make_unique<Ledger>();
}

class NobodyListens final : public engine::Listener {
  void onTokens(engine::RequestId, std::span<const engine::TokenResult>) override {}
  void onFinish(engine::RequestId, engine::FinishReason, const engine::Usage &, const Status &) override {}
};

}  // namespace

Service::Service(ServedModel model, ServiceOptions options) : served(std::move(model)), serviceOptions(std::move(options)), requestLog(serviceOptions.logFile), grammarStore(served.tokenizer, served.stopTokens),
      responseStore(ownState(), ownersOf(serviceOptions.keys)),
      namedPrompts(serviceOptions.state ? serviceOptions.state->part(kPromptFolder) : "", [this](const NamedPrompt &prompt) { return warmPrompt(prompt); }),
      fileStore(ownState() ? ownState()->part("files") : ""), usedLedger(openLedger(ownState())) {
  GIRIH_CHECK(serviceOptions.dispatch || (!served.names.empty() && served.engine));
  if (served.tokenizer && served.chatTemplate)
    served.toolFormat = findToolFormat(*served.chatTemplate, served.tokenizer->specialTexts());
  for (const std::string &name : namedPrompts.names())
    (void)namedPrompts.find(name);
  retainedThread = std::thread([this] { watchRetained(); });
  batchRunner = std::make_unique<BatchRunner>(*this, fileStore, ownState() ? ownState()->part("batches") : "");
}

void Service::watchRetained() {
  std::unique_lock lock(retainedMutex);
  while (!retainedChanged.wait_for(lock, kRetainedTime, [this] { return isStopping; })) {
    lock.unlock();
    meterRetained();
    lock.lock();
  }
}

void Service::meterRetained() {
  std::shared_lock engineLock(engineMutex);
  if (!served.engine)
    return;
  std::vector<double> retained = served.engine->stats().retainedByteSeconds;
  std::lock_guard lock(retainedMutex);
  meteredByteSeconds.resize(std::max(meteredByteSeconds.size(), retained.size()));
  for (const Client &client : serviceOptions.keys.all()) {
    if (client.number >= retained.size())
      continue;
    auto total = static_cast<uint64_t>(retained[client.number]);
    uint64_t &metered = meteredByteSeconds[client.number];
    if (total <= metered)
      continue;
    Used used;
    used.retainedByteSeconds = total - metered;
    metered = total;
    meter(client, UsedBy::Live, used);
  }
}

std::vector<std::pair<std::string, UsedInAll>> Service::usedByClient() const {
  std::vector<std::pair<std::string, UsedInAll>> named;
  for (const auto &[owner, used] : ledger().sums()) {
    std::string name = "key-" + hexDigits(owner).substr(0, 12);
    for (const Client &client : serviceOptions.keys.all())
      if (Ledger::digestOf(client.identity) == owner)
        name = client.name;
    named.emplace_back(std::move(name), used);
  }
  return named;
}

// Its KV is computed now, and kept for as long as anything is.
std::vector<int32_t> Service::warmPrompt(const NamedPrompt &prompt) {
  ChatCompletionRequest conversation;
  JsonWriter messages;
  messages.beginArray().beginObject().member("role", "system").member("content", prompt.text).endObject().endArray();
  conversation.chat.messagesJson = messages.take();
  conversation.chat.addGenerationPrompt = false;
  auto encoded = encodeChat(*this, conversation, "prompt");
  auto *tokens = std::get_if<ChatTokens>(&encoded);
  if (!tokens)
    return {};
  engine::Request request;
  request.promptTokens = tokens->tokens;
  request.maxTokens = 0;
  request.numSharedTokens = static_cast<uint32_t>(tokens->tokens.size());
  request.sharedSalt = prompt.sharedSalt;
  request.keepSeconds = engine::kMaxKeepSeconds;
  request.priority = kBackgroundPriority;
  request.isBackground = true;
  (void)served.engine->submit(std::move(request), std::make_shared<NobodyListens>());  // refused: computed when asked for
  return std::move(tokens->tokens);
}

Service::~Service() { shutDown(); }

std::optional<ApiError> Service::checkModelName(const std::string &name) const {
  if (name.empty() || std::find(served.names.begin(), served.names.end(), name) != served.names.end())
    return std::nullopt;
  std::string known;
  for (const std::string &servedName : served.names)
    known += (known.empty() ? "`" : ", `") + servedName + "`";
  return ApiError{404, "invalid_request_error", "model_not_found", "the model `" + name + "` does not exist here; this server has " + known, "model", 1};
}

const Client &Service::clientOf(const HttpRequest &request) const {
  if (request.batchClient)
    return serviceOptions.keys.all()[*request.batchClient];
  const Client *client = serviceOptions.keys.find(offeredKey(request));
  return client ? *client : serviceOptions.keys.anybody();
}

std::chrono::milliseconds Service::timeFor(const HttpRequest &request) const {
  if (request.batchClient)
    return std::chrono::milliseconds(0);
  std::chrono::milliseconds time = serviceOptions.requestTimeout;
  uint32_t seconds = 0;  // the client hangs up then anyway
  const std::string &text = request.clientTimeout;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), seconds);
  if (error == std::errc{} && seconds > 0)
    time = time.count() > 0 ? std::min<std::chrono::milliseconds>(time, std::chrono::seconds(seconds)) : std::chrono::seconds(seconds);
  return time;
}

engine::Request Service::requestOf(const HttpRequest &httpRequest, engine::Clock::time_point received) const {
  const Client &client = clientOf(httpRequest);
  engine::Request request;
  request.client = client.number;
  request.clientWeight = client.weight;
  request.isBackground = httpRequest.batchClient.has_value();
  request.priority = request.isBackground ? kBackgroundPriority : client.priority;
  request.cacheSalt = client.salt;
  if (std::chrono::milliseconds time = timeFor(httpRequest); time.count() > 0)
    request.deadline = received + time;
  return request;
}

std::optional<ApiError> errorOf(engine::FinishReason reason, const Status &status) {
  switch (reason) {
  case engine::FinishReason::Failed: return apiErrorOf(status);
  case engine::FinishReason::Cancelled:
    return ApiError{503, "unavailable_error", "cancelled", "the server is shutting down", ""};
  case engine::FinishReason::Expired:
    return ApiError{408, "timeout", "request_timeout",
                    "the time that this request may take is over; ask for fewer tokens, or retry later", ""};
  default: return std::nullopt;
  }
}

std::optional<ApiError> Service::findOverload(size_t bodyBytes) {
  if (numActive >= serviceOptions.maxActiveRequests)
    return overloaded(std::to_string(serviceOptions.maxActiveRequests) + " requests are waiting or running, as many as this server takes");
  if (serviceOptions.maxQueuedTokens == 0)
    return std::nullopt;
  uint64_t numQueued = served.engine->load().numQueuedTokens + preparingTokens;
  uint64_t numTokens = estimateTokens(bodyBytes);
  // An empty queue takes any prompt, or a long one could never be answered.
  if (numQueued == 0 || numQueued + numTokens <= serviceOptions.maxQueuedTokens)
    return std::nullopt;
  return overloaded("prompts of about " + std::to_string(numQueued) + " tokens wait, this request has about " + std::to_string(numTokens) +
                    ", the queue takes " + std::to_string(serviceOptions.maxQueuedTokens));
}

ApiError Service::overloaded(std::string message) const {
  engine::EngineLoad load = served.engine->load();
  double seconds = load.tokensPerSecond > 0 ? static_cast<double>(load.numQueuedTokens) / load.tokensPerSecond : 1;
  ApiError error{429, "rate_limit_error", "queue_full", std::move(message), "", 1};
  error.retryAfterSeconds = static_cast<uint32_t>(std::clamp(std::ceil(seconds), 1.0, kMostRetrySeconds));
  error.message += "; retry in " + std::to_string(error.retryAfterSeconds) + " s";
  return error;
}

bool Service::isStuck() const { return served.engine && served.engine->stats().stillSeconds > kStuckSeconds; }

void Service::answer(Exchange &exchange, HttpResponse response) {
  countAnswer(exchange.request(), response.status);
  exchange.respond(std::move(response));
}

void Service::countAnswer(const HttpRequest &request, int status) {
  // Paths that nobody serves share one row: a scanner must not grow the table.
  std::string path(routeName(request.path));
  Service &counting = keeper();
  std::lock_guard lock(counting.countMutex);
  ++counting.counts[{path, status}];
}

std::map<std::pair<std::string, int>, uint64_t> Service::answerCounts() const {
  std::lock_guard lock(countMutex);
  return counts;
}

bool Service::compileLater(std::function<void()> task) {
  if (++numCompiling > kMaxCompiling) {
    --numCompiling;
    return false;
  }
  compilingWorker.post([this, task = std::move(task)] {
    task();
    --numCompiling;
  });
  return true;
}

void Service::cancel(engine::RequestId id) {
  std::shared_lock lock(engineMutex);
  if (served.engine)
    served.engine->cancel(id);
}

void Service::shutDown() {
  batchRunner->stop();
  {
    std::lock_guard lock(retainedMutex);
    isStopping = true;
  }
  retainedChanged.notify_all();
  if (retainedThread.joinable())
    retainedThread.join();
  meterRetained();
  // Requests still being prepared are submitted (or refused) first; the engine then cancels all, and what it says
  // last is spoken before the speaker ends.
  preparingWorker.stop();
  compilingWorker.stop();
  std::unique_ptr<engine::Engine> endingEngine;
  {
    std::unique_lock lock(engineMutex);
    endingEngine = std::move(served.engine);
  }
  endingEngine.reset();
  speakingWorker.stop();
}

}  // namespace girih::server
