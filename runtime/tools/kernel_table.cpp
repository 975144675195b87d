// SPDX-License-Identifier: Apache-2.0
// The table of `girih bench --kernels`.
#include "runtime/tools/kernel_table.h"

#include "runtime/base/json.h"

#include <cstdio>

namespace girih::tools {
namespace {

template <typename... Values> std::string formatted(const char *format, Values... values) {
  char line[256];
  std::snprintf(line, sizeof line, format, values...);
  return line;
}

// Of a repeated layer, all runs together.
double stepSeconds(const engine::KernelTime &kernel) { return kernel.median * kernel.report.repetitions; }

double perSecond(uint64_t amount, double seconds) { return seconds > 0 ? static_cast<double>(amount) / seconds : 0.0; }

std::string row(const engine::KernelTime &kernel, double allSeconds) {
  const program::DispatchReport &report = kernel.report;
  double error = kernel.median > 0 ? 100 * (report.predictedSeconds - kernel.median) / kernel.median : 0;
  std::string bound = report.bound == "memory" ? "bytes" : report.bound == "compute" ? "ops" : report.bound;
  return formatted("  %-40.40s %4u %10.1f %10.1f  (%.1f .. %.1f)", report.name.c_str(), report.repetitions,
                   report.predictedSeconds * 1e6, kernel.median * 1e6, kernel.min * 1e6, kernel.max * 1e6) +
         formatted("  %+5.0f %%  %-5s %6.1f GB/s %7.1f Gop/s  %4.1f %%\n", error, bound.c_str(),
                   perSecond(report.numBytes, kernel.median) / 1e9, perSecond(report.numOperations, kernel.median) / 1e9,
                   allSeconds > 0 ? 100 * stepSeconds(kernel) / allSeconds : 0.0);
}

}  // namespace

std::string kernelTableText(const engine::KernelBenchResult &result) {
  std::string text = formatted("%s, %d threads; microseconds of one run, bound as predicted, share of all kernels\n", result.isa.c_str(),
                               result.numThreads);
  for (const engine::StepProfile &step : result.steps) {
    text += formatted("\n%s: %u tokens of %u sequences, logits of all; a step takes %.2f ms\n", step.entry.c_str(), step.numTokens,
                      step.numSequences, step.seconds * 1e3);
    text += formatted("  %-40s %4s %10s %10s  %s\n", "kernel", "runs", "predicted", "measured", "(least .. most)  error  bound");
    double allSeconds = 0;
    for (const engine::KernelTime &kernel : step.kernels)
      allSeconds += stepSeconds(kernel);
    for (const engine::KernelTime &kernel : step.kernels)
      text += row(kernel, allSeconds);
    engine::PredictionQuality quality = engine::judgePredictions(step);
    text += formatted("  median error of the prediction %.0f %%; the three dearest %s\n", 100 * quality.medianError,
                      quality.isOrderRight ? "come in the predicted order" : "do not come in the predicted order");
  }
  return text;
}

std::string kernelTableJson(const engine::KernelBenchResult &result) {
  JsonWriter writer;
  writer.beginObject().member("isa", result.isa).member("threads", result.numThreads).key("entries").beginArray();
  for (const engine::StepProfile &step : result.steps) {
    engine::PredictionQuality quality = engine::judgePredictions(step);
    writer.beginObject().member("entry", step.entry).member("tokens", step.numTokens).member("sequences", step.numSequences);
    writer.member("step_seconds", step.seconds).member("median_error", quality.medianError);
    writer.member("three_dearest_in_order", quality.isOrderRight).key("kernels").beginArray();
    for (const engine::KernelTime &kernel : step.kernels) {
      const program::DispatchReport &report = kernel.report;
      writer.beginObject().member("name", report.name).member("tiles", report.tiles).member("strategy", report.strategy);
      writer.member("matmuls", report.matmuls);
      writer.member("repetitions", report.repetitions).member("predicted_seconds", report.predictedSeconds);
      writer.member("seconds", kernel.median).member("seconds_min", kernel.min).member("seconds_max", kernel.max);
      writer.member("bound", report.bound).member("bytes", report.numBytes).member("operations", report.numOperations);
      writer.member("bytes_per_second", perSecond(report.numBytes, kernel.median));
      writer.member("operations_per_second", perSecond(report.numOperations, kernel.median)).endObject();
    }
    writer.endArray().endObject();
  }
  return writer.endArray().endObject().take();
}

}  // namespace girih::tools
