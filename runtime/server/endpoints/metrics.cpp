// SPDX-License-Identifier: Apache-2.0
// GET /metrics: counters and gauges in Prometheus' text format, version 0.0.4.
#include "runtime/server/endpoints.h"

#include <sstream>

namespace girih::server {
namespace {

// One metric family; rows follow as `name{labels} value`.
class MetricsText {
public:
  void family(std::string_view name, std::string_view type, std::string_view help) {
    text << "# HELP " << name << ' ' << help << "\n# TYPE " << name << ' ' << type << '\n';
  }
  template <typename Number>
  void row(std::string_view name, std::string_view labels, Number number) {
    text << name << labels << ' ' << number << '\n';
  }
  template <typename Number>
  void single(std::string_view name, std::string_view type, std::string_view help, Number number) {
    family(name, type, help);
    row(name, "", number);
  }
  std::string take() { return text.str(); }

private:
  std::ostringstream text;
};

void writeEngine(MetricsText &metrics, const engine::EngineStats &stats) {
  metrics.single("girih_steps_total", "counter", "Steps of the program.", stats.numSteps);
  metrics.single("girih_shared_steps_total", "counter", "Steps with more than one sequence in them.", stats.numSharedSteps);
  metrics.single("girih_step_sequences_max", "gauge", "Most sequences that shared one step.", stats.maxSequencesInStep);
  metrics.single("girih_step_seconds_total", "counter", "Time in the program.", stats.stepSeconds);
  metrics.single("girih_evaluated_tokens_total", "counter", "Tokens fed to the program.", stats.numTokensEvaluated);
  metrics.single("girih_prompt_tokens_total", "counter", "Prompt tokens of accepted requests.", stats.numPromptTokens);
  metrics.single("girih_output_tokens_total", "counter", "Tokens generated.", stats.numOutputTokens);
  metrics.single("girih_preemptions_total", "counter", "Sequences that gave their blocks back and were recomputed.", stats.numPreemptions);
  metrics.family("girih_generations_total", "counter", "Generations that ended, by reason.");
  constexpr const char *kReasons[] = {"stop", "length", "cancelled", "failed"};
  for (size_t reason = 0; reason < 4; ++reason)
    metrics.row("girih_generations_total", std::string("{reason=\"") + kReasons[reason] + "\"}", stats.numRequestsFinished[reason]);
  metrics.single("girih_sequences_running", "gauge", "Sequences that take part in steps.", stats.numRunning);
  metrics.single("girih_sequences_waiting", "gauge", "Requests that wait for a place.", stats.numWaiting);
  metrics.single("girih_kv_blocks", "gauge", "Blocks of the KV pool.", stats.numKvBlocks);
  metrics.single("girih_kv_blocks_used", "gauge", "Blocks that sequences hold.", stats.numKvBlocksUsed);
}

}  // namespace

void answerMetrics(Service &service, std::shared_ptr<Exchange> exchange) {
  MetricsText metrics;
  metrics.family("girih_http_requests_total", "counter", "Answers, by route and status.");
  for (const auto &[route, count] : service.answerCounts())
    metrics.row("girih_http_requests_total", "{path=\"" + route.first + "\",status=\"" + std::to_string(route.second) + "\"}", count);
  metrics.single("girih_requests_active", "gauge", "Generations that wait or run.", service.numActive.load());
  metrics.single("girih_clients_gone_total", "counter", "Generations that their client left.", service.numClientsGone.load());
  writeEngine(metrics, service.engine().stats());
  HttpResponse response;
  response.contentType = "text/plain; version=0.0.4";
  response.body = metrics.take();
  service.answer(*exchange, std::move(response));
}

}  // namespace girih::server
