// SPDX-License-Identifier: Apache-2.0
// girih bench serve: load on a running endpoint, ours or another's; latencies, rates and the price of a token.
#include "runtime/base/json.h"
#include "runtime/tools/commands.h"
#include "runtime/tools/load_run.h"

#include <cstdio>
#include <iostream>
#include <random>

namespace girih::tools {
namespace {

struct ServeBenchFlags {
  std::string url = "http://127.0.0.1:8080";
  std::string apiKey;
  std::string model;
  int64_t numClients = 8;
  std::optional<double> requestsPerSecond;
  int64_t numConversations = 64;
  int64_t turns = 1;
  int64_t promptWords = 200;
  int64_t sharedWords = 0;
  int64_t outputTokens = 64;
  bool isMixed = false;
  bool untilEnd = false;
  int64_t seed = 1;
  std::optional<double> costPerHour;
  std::string format = "text";
};

void declare(CommandLine &line, ServeBenchFlags &flags) {
  line.text("--url", "URL", flags.url, "The endpoint; what stands before /v1");
  line.text("--api-key", "K", flags.apiKey, "Its key");
  line.text("--model", "NAME", flags.model, "The model to ask for; else whatever is served");
  line.integer("--clients", flags.numClients, 1, 4096,
               "Clients that ask at the same time (open loop: at most so many)");
  line.number("--rate", flags.requestsPerSecond, 1e-6, 1e6,
              "Open loop: conversations begin at random, so many a second; else each client asks again when "
              "answered");
  line.integer("--conversations", flags.numConversations, 1, 1 << 24, "Conversations in all");
  line.integer("--turns", flags.turns, 1, 1000, "Questions in each, every one with all that was said before");
  line.integer("--prompt-words", flags.promptWords, 1, 1 << 20,
               "Words of each question; a word is about a token");
  line.integer("--shared-words", flags.sharedWords, 0, 1 << 20,
               "Words before each conversation, the same for all");
  line.integer("--output-tokens", flags.outputTokens, 1, 1 << 20, "Tokens of each answer");
  line.flag("--mixed", flags.isMixed, "Questions and answers of different lengths: a quarter to seven quarters of these");
  line.flag("--until-end", flags.untilEnd,
            "Let answers end by themselves instead of after --output-tokens exactly");
  line.integer("--seed", flags.seed, 0, int64_t{1} << 62, "Other words and other arrivals");
  line.number("--cost-per-hour", flags.costPerHour, 0, 1e9,
              "What the machine costs: measures and prints the price of a million tokens");
  line.choice("--format", flags.format, {"text", "json"}, "How to print the figures");
  line.examples(
      "Examples:\n  girih bench serve --clients 32\n  girih bench serve --clients 8 --turns 10 "
      "--shared-words 1000 --cost-per-hour 0.09\n"
      "  girih bench serve --url http://127.0.0.1:9000 --rate 20 --conversations 500 --format json\n\n"
      "Times are seconds as the client sees them; tokens are counted as the server's `usage` says.");
}

struct Price {
  const char *name;
  double tokensPerSecond;
};

// Rates of each kind of token alone, all clients busy: prompts nobody asked before, the same again, and answers.
std::vector<Price> measurePrices(const Endpoint &endpoint, LoadPlan plan) {
  plan.requestsPerSecond = 0;
  plan.turns = 1;
  plan.promptWords += plan.sharedWords;
  plan.sharedWords = 0;
  plan.isMixed = false;
  plan.ignoresEnd = true;
  LoadPlan prompts = plan;
  prompts.outputTokens = 1;
  prompts.numConversations = std::max<uint32_t>(plan.numClients, 8);
  prompts.seed = std::random_device{}(); // nobody may have asked these before
  LoadResult uncached = runLoad(endpoint, prompts), cached = runLoad(endpoint, prompts);
  LoadPlan answers = plan;
  answers.promptWords = 8;
  answers.outputTokens = 128;
  answers.numConversations = plan.numClients * 2;
  LoadResult output = runLoad(endpoint, answers);
  auto rate = [](uint64_t count, double seconds) {
    return seconds > 0 ? static_cast<double>(count) / seconds : 0.0;
  };
  std::vector<Price> prices = {
      {"uncached_input", rate(uncached.numPromptTokens() - uncached.numCachedTokens(), uncached.seconds)}};
  if (cached.numCachedTokens() * 2 > cached.numPromptTokens())
    prices.push_back({"cached_input", rate(cached.numPromptTokens(), cached.seconds)});
  prices.push_back({"output", rate(output.numOutputTokens(), output.seconds)});
  return prices;
}

double dollarsPerMillion(double costPerHour, double tokensPerSecond) {
  return tokensPerSecond > 0 ? costPerHour / 3600 / tokensPerSecond * 1e6 : 0.0;
}

void writeQuantiles(JsonWriter &writer, std::string_view name, const std::vector<double> &sorted) {
  writer.key(name)
      .beginObject()
      .member("p50", quantileOf(sorted, 0.5))
      .member("p90", quantileOf(sorted, 0.9));
  writer.member("p99", quantileOf(sorted, 0.99))
      .member("max", sorted.empty() ? 0.0 : sorted.back())
      .endObject();
}

void printJson(const ServeBenchFlags &flags, const LoadResult &result, const std::vector<Price> &prices) {
  JsonWriter writer;
  writer.beginObject().member("seconds", result.seconds).member("answered", result.answered.size());
  writer.member("failed", result.failed.size()).member("rejected", result.numRejected);
  writer.member("prompt_tokens", result.numPromptTokens()).member("cached_tokens", result.numCachedTokens());
  writer.member("output_tokens", result.numOutputTokens());
  writer.member("output_tokens_per_second", static_cast<double>(result.numOutputTokens()) / result.seconds);
  writeQuantiles(writer, "first_text_seconds", result.firstText());
  writeQuantiles(writer, "between_pieces_seconds", result.betweenPieces());
  writeQuantiles(writer, "whole_seconds", result.whole());
  if (flags.costPerHour) {
    writer.key("dollars_per_million").beginObject();
    for (const Price &price : prices)
      writer.member(price.name, dollarsPerMillion(*flags.costPerHour, price.tokensPerSecond));
    writer.endObject();
  }
  std::cout << writer.endObject().text() << std::endl;
}

void printTable(const ServeBenchFlags &flags, const LoadResult &result, const std::vector<Price> &prices) {
  uint64_t numPrompt = result.numPromptTokens(), numCached = result.numCachedTokens();
  std::printf("%zu answered, %zu failed (%llu of them turned away) in %.2f s\n", result.answered.size(),
              result.failed.size(), static_cast<unsigned long long>(result.numRejected), result.seconds);
  std::printf("  output tokens/s   %10.1f\n  prompt tokens/s   %10.1f   (%.1f %% from a cache)\n",
              static_cast<double>(result.numOutputTokens()) / result.seconds,
              static_cast<double>(numPrompt) / result.seconds,
              numPrompt ? 100.0 * static_cast<double>(numCached) / static_cast<double>(numPrompt) : 0.0);
  std::printf("  milliseconds            p50        p90        p99        max\n");
  for (auto [name, sorted] :
       {std::pair("first text    ", result.firstText()), std::pair("between pieces", result.betweenPieces()),
        std::pair("whole answer  ", result.whole())})
    std::printf("    %s  %10.1f %10.1f %10.1f %10.1f\n", name, 1e3 * quantileOf(sorted, 0.5),
                1e3 * quantileOf(sorted, 0.9), 1e3 * quantileOf(sorted, 0.99),
                sorted.empty() ? 0.0 : 1e3 * sorted.back());
  for (const Price &price : prices)
    std::printf("  %-15s %10.1f tokens/s, %8.4f a million at %g an hour\n", price.name, price.tokensPerSecond,
                dollarsPerMillion(*flags.costPerHour, price.tokensPerSecond), *flags.costPerHour);
  if (!result.failed.empty())
    std::printf("  the first failure: status %d, %s\n", result.failed.front().status,
                result.failed.front().error.c_str());
}

} // namespace

Expected<int> benchServeCommand(const Arguments &arguments) {
  ServeBenchFlags flags;
  CommandLine line("bench serve", "Puts load on a running endpoint and measures what its clients see.");
  declare(line, flags);
  if (auto exitStatus = line.parse(arguments))
    return *exitStatus;
  GIRIH_ASSIGN(Endpoint endpoint, parseUrl(flags.url));
  endpoint.apiKey = flags.apiKey;
  LoadPlan plan;
  plan.numClients = static_cast<uint32_t>(flags.numClients);
  plan.requestsPerSecond = flags.requestsPerSecond.value_or(0);
  plan.numConversations = static_cast<uint32_t>(flags.numConversations);
  plan.turns = static_cast<uint32_t>(flags.turns);
  plan.promptWords = static_cast<uint32_t>(flags.promptWords);
  plan.sharedWords = static_cast<uint32_t>(flags.sharedWords);
  plan.outputTokens = static_cast<uint32_t>(flags.outputTokens);
  plan.isMixed = flags.isMixed;
  plan.ignoresEnd = !flags.untilEnd;
  plan.model = flags.model;
  plan.seed = static_cast<uint64_t>(flags.seed);
  LoadResult result = runLoad(endpoint, plan);
  if (result.answered.empty())
    return unavailable("no request was answered at " + flags.url + ": " +
                       (result.failed.empty() ? "" : result.failed.front().error));
  std::vector<Price> prices;
  if (flags.costPerHour)
    prices = measurePrices(endpoint, plan);
  if (flags.format == "json")
    printJson(flags, result, prices);
  else
    printTable(flags, result, prices);
  return 0;
}

} // namespace girih::tools
