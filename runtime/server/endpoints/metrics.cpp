// SPDX-License-Identifier: Apache-2.0
// GET /metrics: counters, gauges and histograms in Prometheus' text format, version 0.0.4.
#include "runtime/server/endpoints.h"

#include <functional>
#include <sstream>
#include <type_traits>

namespace girih::server {
namespace {

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

using Stats = engine::EngineStats;

// Families of rows: of one model, or of each of several, whose rows then say which.
class MetricsText {
public:
  MetricsText(std::span<const ModelFigures> models, bool areNamed) : models(models), areNamed(areNamed) {}

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

  // A row for each model, by a function of its figures or of its engine's, or by one of their members.
  template <typename Figure>
  void each(std::string_view name, std::string_view type, std::string_view help, Figure figure) {
    family(name, type, help);
    rows(name, "", figure);
  }
  template <typename Figure> void rows(std::string_view name, std::string_view label, Figure figure) {
    for (const ModelFigures &model : models)
      row(name, labels(model, label), figureOf(model, figure));
  }
  void histogram(std::string_view name, std::string_view help, engine::LatencyHistogram Stats::*member) {
    family(name, "histogram", help);
    for (const ModelFigures &model : models) {
      const engine::LatencyHistogram &histogram = model.stats.*member;
      uint64_t numUpTo = 0;
      for (size_t bucket = 0; bucket < histogram.counts.size(); ++bucket) {
        numUpTo += histogram.counts[bucket];
        std::ostringstream bound;
        if (bucket < histogram.kBounds.size())
          bound << histogram.kBounds[bucket];
        else
          bound << "+Inf";
        row(std::string(name) + "_bucket", labels(model, "le=\"" + bound.str() + "\""), numUpTo);
      }
      row(std::string(name) + "_sum", labels(model, ""), histogram.sumSeconds);
      row(std::string(name) + "_count", labels(model, ""), histogram.numObserved);
    }
  }
  std::string take() { return text.str(); }

  // By what dashboards call a model, from here on.
  void nameModelsBy(std::string_view label) {
    areNamed = true;
    modelLabel = label;
  }

private:
  std::string labels(const ModelFigures &model, std::string_view label) const {
    std::string all = areNamed ? std::string(modelLabel) + "=\"" + escaped(model.name) + "\"" : std::string();
    all += (all.empty() || label.empty() ? "" : ",") + std::string(label);
    return all.empty() ? all : "{" + all + "}";
  }
  template <typename Figure> static auto figureOf(const ModelFigures &model, Figure figure) {
    if constexpr (std::is_invocable_v<Figure, const ModelFigures &>)
      return std::invoke(figure, model);
    else if constexpr (std::is_invocable_v<Figure, const Stats &>)
      return std::invoke(figure, model.stats);
    else
      return std::invoke(figure, model.stats.disk);
  }

  const std::span<const ModelFigures> models;
  bool areNamed;
  std::string_view modelLabel = "model";
  std::ostringstream text;
};

// By where the guesses came from: the answer's own text, or the draft model.
void writeDrafts(MetricsText &metrics) {
  auto bySource = [&](std::string_view name, std::string_view help, uint64_t Stats::*all,
                      uint64_t Stats::*ofModel) {
    metrics.family(name, "counter", help);
    metrics.rows(name, "source=\"text\"", [=](const Stats &stats) { return stats.*all - stats.*ofModel; });
    metrics.rows(name, "source=\"model\"", ofModel);
  };
  bySource("girih_drafts_total", "Times that guessed tokens of a sequence were checked.", &Stats::numDrafts,
           &Stats::numModelDrafts);
  bySource("girih_draft_tokens_total", "Tokens guessed.", &Stats::numDraftedTokens,
           &Stats::numModelDraftedTokens);
  bySource("girih_draft_tokens_accepted_total", "Tokens guessed that came true.", &Stats::numAcceptedTokens,
           &Stats::numModelAcceptedTokens);
  metrics.each("girih_draft_seconds_total", "counter", "Time in the draft model.", &Stats::draftSeconds);
}

void writeSteps(MetricsText &metrics) {
  metrics.each("girih_steps_total", "counter", "Steps of the program.", &Stats::numSteps);
  metrics.each("girih_shared_steps_total", "counter", "Steps with more than one sequence in them.",
               &Stats::numSharedSteps);
  metrics.each("girih_step_sequences_max", "gauge", "Most sequences that shared one step.",
               &Stats::maxSequencesInStep);
  metrics.each("girih_step_seconds_total", "counter", "Time in the program.", &Stats::stepSeconds);
  metrics.each("girih_busy_seconds_total", "counter", "Time in which there was something to do.",
               &Stats::busySeconds);
  metrics.each("girih_evaluated_tokens_total", "counter", "Tokens fed to the program.",
               &Stats::numTokensEvaluated);
  metrics.each("girih_preemptions_total", "counter",
               "Sequences that gave their blocks back and were recomputed.", &Stats::numPreemptions);
  writeDrafts(metrics);
}

void writeRequests(MetricsText &metrics) {
  metrics.each("girih_requests_active", "gauge", "Generations that wait or run.", &ModelFigures::numActive);
  metrics.each("girih_clients_gone_total", "counter", "Generations that their client left.",
               &ModelFigures::numClientsGone);
  metrics.family("girih_rejections_total", "counter",
                 "Requests turned away, before they were read or by the engine.");
  metrics.rows("girih_rejections_total", "by=\"estimate\"", &ModelFigures::numRejected);
  metrics.rows("girih_rejections_total", "by=\"queue\"", &Stats::numRefused);
  metrics.each("girih_prompt_tokens_total", "counter", "Prompt tokens of accepted requests.",
               &Stats::numPromptTokens);
  metrics.each("girih_output_tokens_total", "counter", "Tokens generated.", &Stats::numOutputTokens);
  metrics.family("girih_generations_total", "counter", "Generations that ended, by reason.");
  constexpr const char *kReasons[engine::kNumFinishReasons] = {"stop", "length", "cancelled", "failed",
                                                               "expired"};
  for (size_t reason = 0; reason < engine::kNumFinishReasons; ++reason)
    metrics.rows("girih_generations_total", std::string("reason=\"") + kReasons[reason] + "\"",
                 [reason](const Stats &stats) { return stats.numRequestsFinished[reason]; });
  metrics.each("girih_sequences_running", "gauge", "Sequences that take part in steps.", &Stats::numRunning);
  metrics.each("girih_sequences_waiting", "gauge", "Requests that wait for a place.", &Stats::numWaiting);
  metrics.each("girih_queued_tokens", "gauge", "Prompt tokens of requests that have not started.",
               &Stats::numQueuedTokens);
  metrics.histogram("girih_queue_seconds", "From submission to the first step.", &Stats::queueTime);
  metrics.histogram("girih_first_token_seconds", "From submission to the first token.", &Stats::firstToken);
  metrics.histogram("girih_inter_token_seconds", "Between two tokens of one request.", &Stats::interToken);
  metrics.histogram("girih_request_seconds", "From submission to the end.", &Stats::wholeTime);
}

void writeCache(MetricsText &metrics) {
  using Disk = engine::DiskStats;
  metrics.each("girih_kv_blocks", "gauge", "Blocks of the KV pool.", &Stats::numKvBlocks);
  metrics.each("girih_kv_blocks_used", "gauge", "Blocks that sequences hold.", &Stats::numKvBlocksUsed);
  metrics.each("girih_kv_blocks_cached", "gauge", "Blocks that no sequence holds and requests may find.",
               &Stats::numKvBlocksCached);
  metrics.family("girih_cached_prompt_tokens_total", "counter",
                 "Prompt tokens whose KV came from a cache, by tier.");
  // What came from disk was loaded into memory first, once for all that wanted it.
  metrics.rows("girih_cached_prompt_tokens_total", "tier=\"memory\"", &Stats::numCachedTokens);
  metrics.rows("girih_cached_prompt_tokens_total", "tier=\"disk\"", &Disk::numTokensLoaded);
  metrics.each("girih_evictions_total", "counter", "Cached blocks given up for others.",
               &Stats::numEvictions);
  metrics.each("girih_disk_files", "gauge", "Files of KV blocks on disk.", &Disk::numFiles);
  metrics.each("girih_disk_bytes", "gauge", "Their bytes.", &Disk::numBytes);
  metrics.each("girih_disk_read_bytes_total", "counter", "Bytes of KV read.", &Disk::numBytesRead);
  metrics.each("girih_disk_written_bytes_total", "counter", "Bytes of KV written.", &Disk::numBytesWritten);
  metrics.each("girih_disk_damaged_total", "counter", "Files refused and removed.", &Disk::numDamaged);
  metrics.each("girih_disk_write_failures_total", "counter", "Blocks that could not be written.",
               &Disk::numWriteFailures);
  metrics.each("girih_disk_expired_total", "counter", "Files whose time was over.", &Disk::numExpired);
  metrics.each("girih_disk_erased_total", "counter", "Files that somebody asked to forget.",
               &Disk::numErased);
  metrics.each("girih_disk_evictions_total", "counter", "Files given up for others.", &Disk::numEvicted);
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
void writeVllmNames(MetricsText &metrics) {
  metrics.nameModelsBy("model_name");
  auto figure = [&](std::string_view name, std::string_view type, auto figure) {
    metrics.each(name, type, "As vLLM names it.", figure);
  };
  figure("vllm:num_requests_running", "gauge", &Stats::numRunning);
  figure("vllm:num_requests_waiting", "gauge", &Stats::numWaiting);
  figure("vllm:kv_cache_usage_perc", "gauge", [](const Stats &stats) {
    return stats.numKvBlocks > 0 ? double(stats.numKvBlocksUsed) / double(stats.numKvBlocks) : 0.0;
  });
  figure("vllm:prompt_tokens_total", "counter", &Stats::numPromptTokens);
  figure("vllm:generation_tokens_total", "counter", &Stats::numOutputTokens);
  figure("vllm:prefix_cache_queries_total", "counter", &Stats::numPromptTokens);
  figure("vllm:prefix_cache_hits_total", "counter", &Stats::numCachedTokens);
  figure("vllm:num_preemptions_total", "counter", &Stats::numPreemptions);
  figure("vllm:spec_decode_num_drafts_total", "counter", &Stats::numDrafts);
  figure("vllm:spec_decode_num_draft_tokens_total", "counter", &Stats::numDraftedTokens);
  figure("vllm:spec_decode_num_accepted_tokens_total", "counter", &Stats::numAcceptedTokens);
  metrics.histogram("vllm:time_to_first_token_seconds", "As vLLM names it.", &Stats::firstToken);
  metrics.histogram("vllm:inter_token_latency_seconds", "As vLLM names it.", &Stats::interToken);
  metrics.histogram("vllm:e2e_request_latency_seconds", "As vLLM names it.", &Stats::wholeTime);
  metrics.histogram("vllm:request_queue_time_seconds", "As vLLM names it.", &Stats::queueTime);
}

void writeAll(MetricsText &metrics, const Service &front) {
  writeRequests(metrics);
  writeSteps(metrics);
  writeCache(metrics);
  writeUsed(metrics, front.usedByClient());
  if (front.options().vllmMetricNames)
    writeVllmNames(metrics);
}

} // namespace

ModelFigures figuresOf(Service &service) {
  service.meterRetained();
  return {service.model().names.front(), service.engine().stats(), service.numActive.load(),
          service.numClientsGone.load(), service.numRejected.load()};
}

std::string fleetMetrics(Service &front, const FleetCounters &counters, std::span<const ModelLoad> models) {
  std::vector<ModelFigures> figures;
  for (const ModelLoad &model : models) {
    figures.push_back(model.figures.value_or(ModelFigures()));
    figures.back().name = model.name;
  }
  MetricsText metrics(figures, /*areNamed=*/true);
  writeAnswers(metrics, front);
  metrics.single("girih_model_loads_total", "counter", "Models loaded.", counters.numLoads);
  metrics.single("girih_model_unloads_total", "counter", "Models unloaded for others.", counters.numUnloads);
  metrics.single("girih_model_load_failures_total", "counter", "Models that could not be loaded.",
                 counters.numFailedLoads);
  metrics.single("girih_model_rejections_total", "counter",
                 "Requests turned away because too many wait for models.", front.numRejected.load());
  metrics.single("girih_models_bytes", "gauge", "Memory that the loaded models are taken to need.",
                 counters.numBytes);
  auto ofLoads = [&](std::string_view name, std::string_view help, auto figure) {
    metrics.family(name, "gauge", help);
    for (const ModelLoad &model : models)
      metrics.row(name, "{model=\"" + escaped(model.name) + "\"}", figure(model));
  };
  ofLoads("girih_model_loaded", "1: it is in memory.",
          [](const ModelLoad &model) { return int(model.figures.has_value()); });
  ofLoads("girih_model_requests_waiting", "Requests that wait until it is loaded.",
          [](const ModelLoad &model) { return model.numWaiting; });
  // Counters of a model begin anew when it is loaded again, as those of a process do.
  writeAll(metrics, front);
  return metrics.take();
}

void answerMetrics(Service &service, std::shared_ptr<Exchange> exchange) {
  ModelFigures figures = figuresOf(service);
  MetricsText metrics({&figures, 1}, /*areNamed=*/false);
  writeAnswers(metrics, service);
  writeAll(metrics, service);
  HttpResponse response;
  response.contentType = "text/plain; version=0.0.4";
  response.body = metrics.take();
  service.answer(*exchange, std::move(response));
}

} // namespace girih::server
