// SPDX-License-Identifier: Apache-2.0
// ModelFleet: leases of models, and one thread that loads and unloads them.
#include "runtime/server/model_fleet.h"

#include "runtime/base/json.h"
#include "runtime/server/generation_fields.h"

#include <pthread.h>

#include <algorithm>

namespace girih::server {
namespace {

using Clock = std::chrono::steady_clock;

} // namespace

struct ModelFleet::Member {
  FleetModel facts;
  std::unique_ptr<Service> service; // null: not loaded
  bool isClosing = false;           // takes no new requests: another one waits for its room
  size_t numLeases = 0;
  std::deque<Waiting> waiting;
  Clock::time_point loadedAt, usedAt;
  std::chrono::duration<double> loadTime{0};
};

ModelFleet::ModelFleet(std::vector<FleetModel> models, Loader loader, FleetOptions newOptions)
    : loader(std::move(loader)), options(std::move(newOptions)) {
  GIRIH_CHECK(!models.empty());
  for (FleetModel &model : models) {
    members.push_back(std::make_unique<Member>());
    members.back()->facts = std::move(model);
  }
  ServiceOptions ofFront = options.service;
  // The lines of batches name models as requests do.
  ofFront.dispatch = [this](std::shared_ptr<Exchange> exchange) { answerByName(exchange); };
  frontService = std::make_unique<Service>(ServedModel(), ofFront);
  thread = std::thread([this] { work(); });
}

ModelFleet::~ModelFleet() { shutDown(); }

void ModelFleet::shutDown() {
  std::deque<Waiting> left;
  {
    std::lock_guard lock(mutex);
    isStopping = true;
    for (auto &member : members) {
      std::move(member->waiting.begin(), member->waiting.end(), std::back_inserter(left));
      member->waiting.clear();
    }
  }
  changed.notify_all();
  for (Waiting &waiting : left)
    front().answerError(*waiting.exchange,
                        {503, "unavailable_error", "cancelled", "the server is shutting down", "", 1});
  left.clear();
  if (thread.joinable())
    thread.join();
  // The front's batches end first: they ask the others. Nobody loads or unloads any more.
  front().shutDown();
  for (auto &member : members)
    if (member->service)
      member->service->shutDown();
}

HttpHandlers ModelFleet::handlers() {
  HttpHandlers handlers = makeHandlers(front());
  handlers.handle = [this](std::shared_ptr<Exchange> exchange) { answer(std::move(exchange)); };
  return handlers;
}

HttpHandlers ModelFleet::adminHandlers() {
  HttpHandlers handlers = makeAdminHandlers(front());
  handlers.handle = [this, own = handlers.handle](std::shared_ptr<Exchange> exchange) {
    const std::string &path = exchange->request().path;
    if (path == "/cache/clear")
      return clearCaches(*exchange);
    if (path == "/metrics")
      return answerMetrics(*exchange);
    own(std::move(exchange));
  };
  return handlers;
}

void ModelFleet::answer(std::shared_ptr<Exchange> exchange) {
  const HttpRequest &request = exchange->request();
  if (request.path == "/metrics")
    return answerMetrics(*exchange);
  if (request.path == "/v1/models" || request.path.starts_with("/v1/models/"))
    return answerModels(*exchange);
  if (!isOfOneModel(request))
    return answerRequest(front(), std::move(exchange));
  // A large body is read where it is parsed.
  prepare(front(), exchange, [this, exchange] { answerByName(exchange); });
}

void ModelFleet::answerByName(const std::shared_ptr<Exchange> &exchange) {
  auto found = memberFor(exchange->request());
  if (auto *error = std::get_if<ApiError>(&found))
    return front().answerError(*exchange, *error);
  if (Member *member = std::get<Member *>(found))
    return enter(*member, exchange);
  answerRequest(front(), exchange);
}

ApiError ModelFleet::noSuchModel(const std::string &name) const {
  std::string known;
  for (const auto &member : members)
    known += (known.empty() ? "`" : ", `") + member->facts.name + "`";
  if (name.empty())
    return invalidField("model", "`model` is missing; this server has " + known,
                        "missing_required_parameter");
  return {404,
          "invalid_request_error",
          "model_not_found",
          "the model `" + name.substr(0, 200) + "` does not exist here; this server has " + known,
          "model",
          1};
}

// Null: it is about none, or about one that is no longer here.
ApiResult<ModelFleet::Member *> ModelFleet::memberFor(const HttpRequest &request) {
  auto named = [&](auto isIt) -> Member * {
    auto found =
        std::find_if(members.begin(), members.end(), [&](const auto &member) { return isIt(member->facts); });
    return found == members.end() ? nullptr : found->get();
  };
  if (request.method == "DELETE") {
    auto stored = front().responses().find(request.path.substr(request.path.rfind('/') + 1),
                                           front().clientOf(request).number);
    return stored ? named([&](const FleetModel &model) { return model.programId == stored->program; })
                  : nullptr;
  }
  std::string name;
  if (request.method == "POST") {
    auto document = parseObject(request.body);
    if (auto *error = std::get_if<ApiError>(&document))
      return *error;
    RequestFields fields(std::get<JsonDocument>(document).root());
    fields.takeText("model", name);
    if (fields.hasFailed())
      return fields.error();
  }
  if (name.empty() && members.size() == 1)
    return members.front().get();
  Member *member = named([&](const FleetModel &model) { return model.name == name; });
  if (!member)
    return noSuchModel(name);
  return member;
}

// Now, or when it is loaded.
void ModelFleet::enter(Member &member, std::shared_ptr<Exchange> exchange) {
  std::shared_ptr<Service> service;
  bool isFull = false, isOver = false;
  {
    std::lock_guard lock(mutex);
    isOver = isStopping;
    if (!isOver && member.service && !member.isClosing && member.waiting.empty()) {
      service = leaseOf(member);
    } else if (!isOver) {
      isFull = counters.numWaiting >= options.maxWaiting && !exchange->request().batchClient;
      if (!isFull) {
        ++counters.numWaiting;
        member.waiting.push_back({exchange, Clock::now()});
      }
    }
  }
  if (isOver)
    return front().answerError(*exchange,
                               {503, "unavailable_error", "cancelled", "the server is shutting down", "", 1});
  if (isFull) {
    ++front().numRejected;
    return front().answerError(*exchange, {429, "rate_limit_error", "queue_full",
                                           std::to_string(options.maxWaiting) +
                                               " requests wait for models that are being loaded; retry later",
                                           "model", 1});
  }
  if (!service) {
    changed.notify_all();
    return;
  }
  exchange->keep(service);
  answerRequest(*service, std::move(exchange));
}

// Requires: `mutex` is held, and it is loaded. It counts as used until the last copy is gone.
std::shared_ptr<Service> ModelFleet::leaseOf(Member &member) {
  ++member.numLeases;
  member.usedAt = Clock::now();
  return {member.service.get(), [this, &member](Service *) { release(member); }};
}

void ModelFleet::release(Member &member) {
  {
    std::lock_guard lock(mutex);
    --member.numLeases;
    member.usedAt = Clock::now();
  }
  changed.notify_all();
}

// Requires: `mutex` is held, as the three below.
ModelFleet::Member *ModelFleet::longestWaiting() {
  Member *first = nullptr;
  for (auto &member : members)
    counters.numWaiting -= std::erase_if(
        member->waiting, [](const Waiting &waiting) { return waiting.exchange->isClientGone(); });
  for (auto &member : members)
    if (!member->waiting.empty() && (!first || member->waiting.front().since < first->waiting.front().since))
      first = member.get();
  return first;
}

bool ModelFleet::hasRoomFor(const Member &member) const {
  return options.memoryBytes == 0 || counters.numBytes == 0 ||
         counters.numBytes + member.facts.numBytes <= options.memoryBytes;
}

// Of those that stayed long enough: an idle one before a busy one, then the one used longest ago.
ModelFleet::Member *ModelFleet::nextToGo() {
  Member *chosen = nullptr;
  Clock::time_point now = Clock::now();
  for (auto &member : members) {
    if (!member->service)
      continue;
    if (member->isClosing)
      return member.get(); // one at a time
    bool isIdle = member->numLeases == 0;
    std::chrono::duration<double> stay = options.leastStayPerLoad * member->loadTime;
    if (!isIdle)
      stay = std::max<std::chrono::duration<double>>(stay, options.leastStay);
    if (now - member->loadedAt < stay)
      continue;
    if (!chosen || (isIdle && chosen->numLeases > 0) ||
        (isIdle == (chosen->numLeases == 0) && member->usedAt < chosen->usedAt))
      chosen = member.get();
  }
  return chosen;
}

void ModelFleet::work() {
  ::pthread_setname_np(::pthread_self(), "girih-fleet");
  constexpr std::chrono::milliseconds kLook{50}; // at whether one stayed long enough
  std::unique_lock lock(mutex);
  while (!isStopping) {
    Member *wanted = longestWaiting();
    if (!wanted) {
      for (auto &member : members)
        member->isClosing = false; // who waited for its room has gone
      changed.wait(lock);
      continue;
    }
    if (wanted->service && !wanted->isClosing) { // came while it was being loaded
      std::deque<Waiting> ready;
      ready.swap(wanted->waiting);
      counters.numWaiting -= ready.size();
      std::vector<std::pair<std::shared_ptr<Exchange>, std::shared_ptr<Service>>> leased;
      for (Waiting &waiting : ready)
        leased.emplace_back(std::move(waiting.exchange), leaseOf(*wanted));
      lock.unlock();
      for (auto &[exchange, service] : leased) {
        exchange->keep(service);
        answerRequest(*service, exchange);
      }
      ready.clear();
      leased.clear();
      lock.lock();
      continue;
    }
    if (!wanted->service && hasRoomFor(*wanted)) {
      load(lock, *wanted);
      continue;
    }
    Member *leaving = nextToGo();
    if (leaving)
      leaving->isClosing = true;
    if (leaving && leaving->numLeases == 0)
      unload(lock, *leaving);
    else
      changed.wait_for(lock, kLook);
  }
}

void ModelFleet::load(std::unique_lock<std::mutex> &lock, Member &member) {
  counters.numBytes += member.facts.numBytes;
  lock.unlock();
  Clock::time_point begin = Clock::now();
  auto model = loader(member.facts);
  std::unique_ptr<Service> service;
  if (model.isOk()) {
    ServiceOptions ofModel = options.service;
    ofModel.front = frontService.get();
    service = std::make_unique<Service>(std::move(model).value(), std::move(ofModel));
  }
  lock.lock();
  if (service) {
    ++counters.numLoads;
    member.service = std::move(service);
    member.loadedAt = member.usedAt = Clock::now();
    member.loadTime = member.loadedAt - begin;
    return;
  }
  ++counters.numFailedLoads;
  counters.numBytes -= member.facts.numBytes;
  std::deque<Waiting> failed;
  failed.swap(member.waiting);
  counters.numWaiting -= failed.size();
  lock.unlock();
  ApiError error = apiErrorOf(std::move(model).status().withContext("loading `" + member.facts.name + "`"));
  if (error.status < 500)
    error.status = 500; // what is wrong with a file is not the client's
  for (Waiting &waiting : failed)
    front().answerError(*waiting.exchange, error);
  failed.clear();
  lock.lock();
}

// Requires: nobody holds it.
void ModelFleet::unload(std::unique_lock<std::mutex> &lock, Member &member) {
  std::unique_ptr<Service> leaving = std::move(member.service);
  lock.unlock();
  front().numClientsGone += leaving->numClientsGone;
  leaving.reset();
  lock.lock();
  member.isClosing = false;
  counters.numBytes -= member.facts.numBytes;
  ++counters.numUnloads;
}

FleetCounts ModelFleet::counts() const {
  std::lock_guard lock(mutex);
  return counters;
}

bool ModelFleet::isLoaded(std::string_view name) const {
  std::lock_guard lock(mutex);
  return std::any_of(members.begin(), members.end(),
                     [&](const auto &member) { return member->facts.name == name && member->service; });
}

void ModelFleet::answerModels(Exchange &exchange) const {
  std::vector<ModelFacts> facts;
  for (const auto &member : members)
    facts.push_back({member->facts.name, member->facts.createdSeconds, member->facts.contextTokens});
  auto described = describeModels(facts, exchange.request().path);
  if (auto *name = std::get_if<UnknownName>(&described))
    return frontService->answerError(exchange, noSuchModel(name->name));
  HttpResponse response;
  response.body = std::get<std::string>(described);
  frontService->answer(exchange, std::move(response));
}

// What is counted for all, and the figures of each model that is loaded.
void ModelFleet::answerMetrics(Exchange &exchange) {
  std::vector<ModelLoad> loads;
  FleetCounts now;
  {
    std::lock_guard lock(mutex);
    now = counters;
    for (auto &member : members)
      loads.push_back({member->facts.name, member->waiting.size(),
                       member->service ? std::optional(figuresOf(*member->service)) : std::nullopt});
  }
  HttpResponse response;
  response.contentType = "text/plain; version=0.0.4";
  response.body =
      fleetMetrics(front(), {now.numLoads, now.numUnloads, now.numFailedLoads, now.numBytes}, loads);
  front().answer(exchange, std::move(response));
}

void ModelFleet::clearCaches(Exchange &exchange) {
  std::vector<std::shared_ptr<Service>> loaded;
  {
    std::lock_guard lock(mutex);
    for (auto &member : members)
      if (member->service)
        loaded.push_back(leaseOf(*member));
  }
  for (const auto &service : loaded)
    service->engine().clearCache();
  HttpResponse response;
  response.body = R"({"cleared":true})";
  front().answer(exchange, std::move(response));
}

} // namespace girih::server
