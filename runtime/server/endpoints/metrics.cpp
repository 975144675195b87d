// SPDX-License-Identifier: Apache-2.0
// GET /metrics: counters, gauges and histograms in Prometheus' text format, version 0.0.4.
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
  template <typename Number> void row(std::string_view name, std::string_view labels, Number number) {
    text << name << labels << ' ' << number << '\n';
  }
  template <typename Number>
  void single(std::string_view name, std::string_view type, std::string_view help, Number number) {
    family(name, type, help);
    row(name, "", number);
  }
  void histogram(std::string_view name, std::string_view help, const engine::LatencyHistogram &histogram) {
    family(name, "histogram", help);
    uint64_t numUpTo = 0;
    for (size_t bucket = 0; bucket < histogram.counts.size(); ++bucket) {
      numUpTo += histogram.counts[bucket];
      text << name << "_bucket{le=\"";
      if (bucket < histogram.kBounds.size())
        text << histogram.kBounds[bucket];
      else
        text << "+Inf";
      text << "\"} " << numUpTo << '\n';
    }
    text << name << "_sum " << histogram.sumSeconds << '\n'
         << name << "_count " << histogram.numObserved << '\n';
  }
  std::string take() { return text.str(); }

private:
  std::ostringstream text;
};

// By where the guesses came from: the answer's own text, or the draft model.
void writeDrafts(MetricsText &metrics, const engine::EngineStats &stats) {
  auto bySource = [&](std::string_view name, std::string_view help, uint64_t all, uint64_t ofModel) {
    metrics.family(name, "counter", help);
    metrics.row(name, "{source=\"text\"}", all - ofModel);
    metrics.row(name, "{source=\"model\"}", ofModel);
  };
  bySource("girih_drafts_total", "Times that guessed tokens of a sequence were checked.", stats.numDrafts,
           stats.numModelDrafts);
  bySource("girih_draft_tokens_total", "Tokens guessed.", stats.numDraftedTokens,
           stats.numModelDraftedTokens);
  bySource("girih_draft_tokens_accepted_total", "Tokens guessed that came true.", stats.numAcceptedTokens,
           stats.numModelAcceptedTokens);
  metrics.single("girih_draft_seconds_total", "counter", "Time in the draft model.", stats.draftSeconds);
}

void writeSteps(MetricsText &metrics, const engine::EngineStats &stats) {
  metrics.single("girih_steps_total", "counter", "Steps of the program.", stats.numSteps);
  metrics.single("girih_shared_steps_total", "counter", "Steps with more than one sequence in them.",
                 stats.numSharedSteps);
  metrics.single("girih_step_sequences_max", "gauge", "Most sequences that shared one step.",
                 stats.maxSequencesInStep);
  metrics.single("girih_step_seconds_total", "counter", "Time in the program.", stats.stepSeconds);
  metrics.single("girih_busy_seconds_total", "counter", "Time in which there was something to do.",
                 stats.busySeconds);
  metrics.single("girih_evaluated_tokens_total", "counter", "Tokens fed to the program.",
                 stats.numTokensEvaluated);
  metrics.single("girih_preemptions_total", "counter",
                 "Sequences that gave their blocks back and were recomputed.", stats.numPreemptions);
  writeDrafts(metrics, stats);
}

void writeRequests(MetricsText &metrics, const engine::EngineStats &stats) {
  metrics.single("girih_prompt_tokens_total", "counter", "Prompt tokens of accepted requests.",
                 stats.numPromptTokens);
  metrics.single("girih_output_tokens_total", "counter", "Tokens generated.", stats.numOutputTokens);
  metrics.family("girih_generations_total", "counter", "Generations that ended, by reason.");
  constexpr const char *kReasons[engine::kNumFinishReasons] = {"stop", "length", "cancelled", "failed",
                                                               "expired"};
  for (size_t reason = 0; reason < engine::kNumFinishReasons; ++reason)
    metrics.row("girih_generations_total", std::string("{reason=\"") + kReasons[reason] + "\"}",
                stats.numRequestsFinished[reason]);
  metrics.single("girih_sequences_running", "gauge", "Sequences that take part in steps.", stats.numRunning);
  metrics.single("girih_sequences_waiting", "gauge", "Requests that wait for a place.", stats.numWaiting);
  metrics.single("girih_queued_tokens", "gauge", "Prompt tokens of requests that have not started.",
                 stats.numQueuedTokens);
  metrics.histogram("girih_queue_seconds", "From submission to the first step.", stats.queueTime);
  metrics.histogram("girih_first_token_seconds", "From submission to the first token.", stats.firstToken);
  metrics.histogram("girih_inter_token_seconds", "Between two tokens of one request.", stats.interToken);
  metrics.histogram("girih_request_seconds", "From submission to the end.", stats.wholeTime);
}

void writeCache(MetricsText &metrics, const engine::EngineStats &stats) {
  metrics.single("girih_kv_blocks", "gauge", "Blocks of the KV pool.", stats.numKvBlocks);
  metrics.single("girih_kv_blocks_used", "gauge", "Blocks that sequences hold.", stats.numKvBlocksUsed);
  metrics.single("girih_kv_blocks_cached", "gauge", "Blocks that no sequence holds and requests may find.",
                 stats.numKvBlocksCached);
  metrics.family("girih_cached_prompt_tokens_total", "counter",
                 "Prompt tokens whose KV came from a cache, by tier.");
  // What came from disk was loaded into memory first, once for all that wanted it.
  metrics.row("girih_cached_prompt_tokens_total", "{tier=\"memory\"}", stats.numCachedTokens);
  metrics.row("girih_cached_prompt_tokens_total", "{tier=\"disk\"}", stats.disk.numTokensLoaded);
  metrics.single("girih_evictions_total", "counter", "Cached blocks given up for others.",
                 stats.numEvictions);
}

void writeDisk(MetricsText &metrics, const engine::DiskStats &disk) {
  metrics.single("girih_disk_files", "gauge", "Files of KV blocks on disk.", disk.numFiles);
  metrics.single("girih_disk_bytes", "gauge", "Their bytes.", disk.numBytes);
  metrics.single("girih_disk_read_bytes_total", "counter", "Bytes of KV read.", disk.numBytesRead);
  metrics.single("girih_disk_written_bytes_total", "counter", "Bytes of KV written.", disk.numBytesWritten);
  metrics.single("girih_disk_damaged_total", "counter", "Files refused and removed.", disk.numDamaged);
  metrics.single("girih_disk_write_failures_total", "counter", "Blocks that could not be written.",
                 disk.numWriteFailures);
  metrics.single("girih_disk_expired_total", "counter", "Files whose time was over.", disk.numExpired);
  metrics.single("girih_disk_erased_total", "counter", "Files that somebody asked to forget.",
                 disk.numErased);
  metrics.single("girih_disk_evictions_total", "counter", "Files given up for others.", disk.numEvicted);
}

// A label's text: models are named by their users.
std::string escaped(const std::string &text) {
  std::string result;
  for (char letter : text) {
    if (letter == '"' || letter == '\\')
      result += '\\';
    result += letter == '\n' ? ' ' : letter;
  }
  return result;
}

// What the ledger has: over all runs, so that a restart is no reset.
void writeUsed(MetricsText &metrics, const std::vector<std::pair<std::string, UsedInAll>> &used) {
  metrics.family("girih_client_tokens_total", "counter",
                 "Tokens of each key over all runs, by kind; cached are of the input.");
  for (const auto &[client, kinds] : used)
    for (size_t by = 0; by < kinds.size(); ++by) {
      auto row = [&, by = by](std::string_view kind, uint64_t number) {
        metrics.row("girih_client_tokens_total",
                    "{client=\"" + escaped(client) + "\",kind=\"" +
                        (by == static_cast<size_t>(UsedBy::Batch) ? "batch_" : "") + std::string(kind) +
                        "\"}",
                    number);
      };
      row("input", kinds[by].numInputTokens);
      row("cached", kinds[by].numCachedTokens);
      row("output", kinds[by].numOutputTokens);
    }
  metrics.family("girih_client_retained_byte_seconds_total", "counter",
                 "KV that was kept for each key while nobody used it.");
  for (const auto &[client, kinds] : used)
    metrics.row("girih_client_retained_byte_seconds_total", "{client=\"" + escaped(client) + "\"}",
                kinds[0].retainedByteSeconds);
}

void writeAnswers(MetricsText &metrics, const Service &service) {
  metrics.family("girih_http_requests_total", "counter", "Answers, by route and status.");
  for (const auto &[route, count] : service.answerCounts())
    metrics.row("girih_http_requests_total",
                "{path=\"" + route.first + "\",status=\"" + std::to_string(route.second) + "\"}", count);
}

// What dashboards for vLLM look for: the same figures under its names.
void writeVllmNames(MetricsText &metrics, const std::string &model, const engine::EngineStats &stats) {
  std::string labels = "{model_name=\"" + escaped(model) + "\"}";
  auto gauge = [&](std::string_view name, std::string_view type, auto number) {
    metrics.family(name, type, "As vLLM names it.");
    metrics.row(name, labels, number);
  };
  gauge("vllm:num_requests_running", "gauge", stats.numRunning);
  gauge("vllm:num_requests_waiting", "gauge", stats.numWaiting);
  gauge("vllm:kv_cache_usage_perc", "gauge",
        stats.numKvBlocks > 0 ? double(stats.numKvBlocksUsed) / double(stats.numKvBlocks) : 0.0);
  gauge("vllm:prompt_tokens_total", "counter", stats.numPromptTokens);
  gauge("vllm:generation_tokens_total", "counter", stats.numOutputTokens);
  gauge("vllm:prefix_cache_queries_total", "counter", stats.numPromptTokens);
  gauge("vllm:prefix_cache_hits_total", "counter", stats.numCachedTokens);
  gauge("vllm:num_preemptions_total", "counter", stats.numPreemptions);
  gauge("vllm:spec_decode_num_drafts_total", "counter", stats.numDrafts);
  gauge("vllm:spec_decode_num_draft_tokens_total", "counter", stats.numDraftedTokens);
  gauge("vllm:spec_decode_num_accepted_tokens_total", "counter", stats.numAcceptedTokens);
  metrics.histogram("vllm:time_to_first_token_seconds", "As vLLM names it.", stats.firstToken);
  metrics.histogram("vllm:inter_token_latency_seconds", "As vLLM names it.", stats.interToken);
  metrics.histogram("vllm:e2e_request_latency_seconds", "As vLLM names it.", stats.wholeTime);
  metrics.histogram("vllm:request_queue_time_seconds", "As vLLM names it.", stats.queueTime);
}

} // namespace

std::string fleetMetrics(Service &front, const FleetCounters &counters, std::span<const ModelLoad> models) {
  MetricsText metrics;
  writeAnswers(metrics, front);
  metrics.single("girih_model_loads_total", "counter", "Models loaded.", counters.numLoads);
  metrics.single("girih_model_unloads_total", "counter", "Models unloaded for others.", counters.numUnloads);
  metrics.single("girih_model_load_failures_total", "counter", "Models that could not be loaded.",
                 counters.numFailedLoads);
  metrics.single("girih_models_bytes", "gauge", "Memory that the loaded models are taken to need.", counters.numBytes);
  // Counters of a model begin anew when it is loaded again, as those of a process do.
  auto family = [&](std::string_view name, std::string_view type, std::string_view help, auto figure) {
    metrics.family(name, type, help);
    for (const ModelLoad &model : models)
      metrics.row(name, "{model=\"" + escaped(model.name) + "\"}", figure(model));
  };
  using Stats = engine::EngineStats;
  auto ofEngine = [](auto member) {
    return [member](const ModelLoad &model) { return model.stats ? (*model.stats).*member : std::decay_t<decltype(Stats().*member)>(); };
  };
  family("girih_model_loaded", "gauge", "1: it is in memory.", [](const ModelLoad &model) { return int(model.stats.has_value()); });
  family("girih_model_requests_waiting", "gauge", "Requests that wait until it is loaded.", [](const ModelLoad &model) { return model.numWaiting; });
  family("girih_requests_active", "gauge", "Generations that wait or run.", [](const ModelLoad &model) { return model.numActive; });
  family("girih_steps_total", "counter", "Steps of the program.", ofEngine(&Stats::numSteps));
  family("girih_prompt_tokens_total", "counter", "Prompt tokens of accepted requests.", ofEngine(&Stats::numPromptTokens));
  family("girih_cached_prompt_tokens_total", "counter", "Prompt tokens whose KV came from a cache.", ofEngine(&Stats::numCachedTokens));
  family("girih_output_tokens_total", "counter", "Tokens generated.", ofEngine(&Stats::numOutputTokens));
  family("girih_sequences_running", "gauge", "Sequences that take part in steps.", ofEngine(&Stats::numRunning));
  family("girih_sequences_waiting", "gauge", "Requests that wait for a place.", ofEngine(&Stats::numWaiting));
  family("girih_kv_blocks", "gauge", "Blocks of the KV pool.", ofEngine(&Stats::numKvBlocks));
  family("girih_kv_blocks_used", "gauge", "Blocks that sequences hold.", ofEngine(&Stats::numKvBlocksUsed));
  writeUsed(metrics, front.usedByClient());
  return metrics.take();
}

void answerMetrics(Service &service, std::shared_ptr<Exchange> exchange) {
  MetricsText metrics;
  writeAnswers(metrics, service);
  metrics.single("girih_requests_active", "gauge", "Generations that wait or run.", service.numActive.load());
  metrics.single("girih_clients_gone_total", "counter", "Generations that their client left.",
                 service.numClientsGone.load());
  engine::EngineStats stats = service.engine().stats();
  metrics.family("girih_rejections_total", "counter",
                 "Requests turned away, before they were read or by the engine.");
  metrics.row("girih_rejections_total", "{by=\"estimate\"}", service.numRejected.load());
  metrics.row("girih_rejections_total", "{by=\"queue\"}", stats.numRefused);
  writeSteps(metrics, stats);
  writeRequests(metrics, stats);
  writeCache(metrics, stats);
  writeDisk(metrics, stats.disk);
  service.meterRetained();
  writeUsed(metrics, service.usedByClient());
  if (service.options().vllmMetricNames)
    writeVllmNames(metrics, service.model().names.front(), stats);
  HttpResponse response;
  response.contentType = "text/plain; version=0.0.4";
  response.body = metrics.take();
  service.answer(*exchange, std::move(response));
}

} // namespace girih::server
