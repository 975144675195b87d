// SPDX-License-Identifier: Apache-2.0
// A run of load: a thread for each client, blocked most of the time.
#include "runtime/tools/load_run.h"

#include "runtime/base/json.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <mutex>
#include <random>
#include <thread>

namespace girih::tools {
namespace {

// One token each in the vocabularies of English models.
constexpr std::array<std::string_view, 32> kWords = {
    "the",   "water", "house", "light",  "people", "night",  "small",  "world", "read",  "green", "story",
    "river", "work",  "time",  "city",   "white",  "long",   "hand",   "food",  "music", "road",  "open",
    "money", "voice", "paper", "family", "day",    "school", "friend", "early", "north", "table"};

std::string someWords(uint64_t seed, uint32_t count) {
  std::mt19937_64 random(seed);
  std::string text;
  for (uint32_t index = 0; index < count; ++index)
    text.append(index ? " " : "").append(kWords[random() % kWords.size()]);
  return text;
}

struct Message {
  std::string role, text;
};

// A quarter to seven quarters of it: as much on average.
uint32_t mixed(uint32_t count, std::mt19937_64 &random) {
  return std::max<uint32_t>(1, static_cast<uint32_t>(count * (1 + 6 * std::generate_canonical<double, 32>(random)) / 4));
}

std::string bodyOf(const LoadPlan &plan, uint32_t outputTokens, const std::vector<Message> &messages) {
  JsonWriter writer;
  writer.beginObject();
  if (!plan.model.empty())
    writer.member("model", plan.model);
  writer.key("messages").beginArray();
  for (const Message &message : messages)
    writer.beginObject().member("role", message.role).member("content", message.text).endObject();
  writer.endArray().member("max_tokens", outputTokens).member("temperature", 0).member("stream", true);
  writer.key("stream_options").beginObject().member("include_usage", true).endObject();
  if (plan.ignoresEnd)
    writer.member("ignore_eos", true);
  return writer.endObject().take();
}

class Run {
public:
  Run(const Endpoint &endpoint, const LoadPlan &plan) : endpoint(endpoint), plan(plan) {
    if (plan.requestsPerSecond <= 0)
      return;
    std::mt19937_64 random(plan.seed);
    std::exponential_distribution<double> gap(plan.requestsPerSecond);
    double at = 0;
    for (uint32_t index = 0; index < plan.numConversations; ++index)
      arrivals.push_back(at += gap(random));
  }

  LoadResult all() {
    std::vector<std::thread> clients;
    begin = LoadClock::now();
    for (uint32_t index = 0; index < std::min(plan.numClients, plan.numConversations); ++index)
      clients.emplace_back([this] { ask(); });
    for (std::thread &client : clients)
      client.join();
    result.seconds = std::chrono::duration<double>(LoadClock::now() - begin).count();
    return std::move(result);
  }

private:
  void ask() {
    LoadClient client(endpoint);
    for (uint32_t index; (index = next++) < plan.numConversations;) {
      LoadClock::time_point due = LoadClock::now();
      if (!arrivals.empty()) {
        due = begin +
              std::chrono::duration_cast<LoadClock::duration>(std::chrono::duration<double>(arrivals[index]));
        std::this_thread::sleep_until(due);
      }
      converse(client, index, due);
    }
  }

  void converse(LoadClient &client, uint32_t index, LoadClock::time_point due) {
    std::vector<Message> messages;
    if (plan.sharedWords > 0)
      messages.push_back({"system", someWords(plan.seed, plan.sharedWords)});
    for (uint32_t turn = 0; turn < plan.turns; ++turn) {
      uint64_t seed = plan.seed * 1'000'003 + uint64_t{index} * 1009 + turn + 1;
      std::mt19937_64 lengths(seed);
      uint32_t numWords = plan.isMixed ? mixed(plan.promptWords, lengths) : plan.promptWords;
      uint32_t numTokens = plan.isMixed ? mixed(plan.outputTokens, lengths) : plan.outputTokens;
      messages.push_back({"user", someWords(seed, numWords)});
      Outcome outcome = client.post("/v1/chat/completions", bodyOf(plan, numTokens, messages));
      if (turn == 0)
        outcome.sent = std::min(outcome.sent, due);
      messages.push_back({"assistant", outcome.text});
      if (!keep(std::move(outcome)))
        return;
    }
  }

  bool keep(Outcome outcome) {
    bool isAnswered = outcome.status == 200 && outcome.error.empty();
    std::lock_guard lock(mutex);
    result.numRejected += outcome.status == 429 || outcome.status == 503;
    (isAnswered ? result.answered : result.failed).push_back(std::move(outcome));
    return isAnswered;
  }

  const Endpoint &endpoint;
  const LoadPlan &plan;
  std::vector<double> arrivals; // seconds after the beginning
  LoadClock::time_point begin;
  std::atomic<uint32_t> next = 0;
  std::mutex mutex;
  LoadResult result;
};

template <typename Take> std::vector<double> sortedSeconds(const std::vector<Outcome> &outcomes, Take take) {
  std::vector<double> seconds;
  auto add = [&](LoadClock::time_point from, LoadClock::time_point to) {
    seconds.push_back(std::chrono::duration<double>(to - from).count());
  };
  for (const Outcome &outcome : outcomes)
    take(outcome, add);
  std::sort(seconds.begin(), seconds.end());
  return seconds;
}

} // namespace

uint64_t LoadResult::numPromptTokens() const {
  uint64_t sum = 0;
  for (const Outcome &outcome : answered)
    sum += outcome.numPromptTokens;
  return sum;
}
uint64_t LoadResult::numCachedTokens() const {
  uint64_t sum = 0;
  for (const Outcome &outcome : answered)
    sum += outcome.numCachedTokens;
  return sum;
}
uint64_t LoadResult::numOutputTokens() const {
  uint64_t sum = 0;
  for (const Outcome &outcome : answered)
    sum += outcome.numOutputTokens;
  return sum;
}

std::vector<double> LoadResult::firstText() const {
  return sortedSeconds(answered, [](const Outcome &outcome, auto add) {
    if (!outcome.pieces.empty())
      add(outcome.sent, outcome.pieces.front());
  });
}
std::vector<double> LoadResult::betweenPieces() const {
  return sortedSeconds(answered, [](const Outcome &outcome, auto add) {
    for (size_t index = 1; index < outcome.pieces.size(); ++index)
      add(outcome.pieces[index - 1], outcome.pieces[index]);
  });
}
std::vector<double> LoadResult::whole() const {
  return sortedSeconds(answered, [](const Outcome &outcome, auto add) { add(outcome.sent, outcome.ended); });
}

double quantileOf(const std::vector<double> &sorted, double share) {
  if (sorted.empty())
    return 0;
  return sorted[std::min(sorted.size() - 1, static_cast<size_t>(share * static_cast<double>(sorted.size())))];
}

LoadResult runLoad(const Endpoint &endpoint, const LoadPlan &plan) { return Run(endpoint, plan).all(); }

} // namespace girih::tools
