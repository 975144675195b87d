// SPDX-License-Identifier: Apache-2.0
// Feeds made-up tokens to each entry of a program and reads when its dispatches ended.
#include "runtime/engine/kernel_bench.h"

#include "runtime/kv/block_cache.h"
#include "runtime/program/executor.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <numeric>

namespace girih::engine {
namespace {

constexpr uint32_t kMostDecodeRows = 16; // an entry of up to so many tokens is one for sequences that decode together
constexpr uint64_t kMostDispatches = 1 << 16; // of one step; a file that states more is not believed
constexpr size_t kDearest = 3;
// Steps before the timed ones: what caches keep of weights that are larger than they settles in some ten passes.
constexpr std::chrono::milliseconds kWarming{100};

double middleOf(std::vector<double> values) {
  if (values.empty())
    return 0;
  std::sort(values.begin(), values.end());
  size_t middle = values.size() / 2;
  return values.size() % 2 ? values[middle] : 0.5 * (values[middle - 1] + values[middle]);
}

// Which row of `kernels` each dispatch of a step is: loops over layers unrolled.
Expected<std::vector<size_t>> runningOrder(const std::vector<KernelTime> &kernels) {
  std::vector<size_t> order;
  for (size_t begin = 0; begin < kernels.size();) {
    const program::DispatchReport &first = kernels[begin].report;
    size_t end = begin + 1;
    while (first.loop != 0 && end < kernels.size() && kernels[end].report.loop == first.loop)
      ++end;
    if (order.size() + uint64_t{first.repetitions} * (end - begin) > kMostDispatches)
      return failedPrecondition("the file states more than " + std::to_string(kMostDispatches) +
                                " dispatches for a step; compile it again");
    for (uint32_t repetition = 0; repetition < first.repetitions; ++repetition)
      for (size_t index = begin; index < end; ++index)
        order.push_back(index);
    begin = end;
  }
  return order;
}

// One entry, fed again and again with the same batch.
class EntryBench {
public:
  EntryBench(program::Executor &executor, const program::Entry &entry, const KernelBenchOptions &options)
      : executor(executor), options(options) {
    bool isDecode = entry.maxTokens <= kMostDecodeRows;
    profile.entry = entry.symbol;
    // A prompt never exceeds the context, which in a small model is shorter than a step.
    uint32_t roomTokens = executor.program().model().maxPositions - options.contextTokens;
    profile.numTokens = isDecode ? entry.maxTokens : std::min(entry.maxTokens, roomTokens);
    profile.numSequences = isDecode ? entry.maxTokens : 1;
    for (const program::DispatchReport &report : executor.program().tables().dispatches)
      if (report.isa == executor.executable().isa && report.entry == entry.symbol)
        profile.kernels.push_back({atContext(report)});
  }

  static uint32_t blocksFor(const program::Entry &entry, uint32_t contextTokens) {
    bool isDecode = entry.maxTokens <= kMostDecodeRows;
    return isDecode ? entry.maxTokens * kv::numBlocksFor(contextTokens + 1)
                    : kv::numBlocksFor(contextTokens + entry.maxTokens);
  }

  // False when so few positions are left that a smaller entry takes the step.
  bool isReached() const { return executor.entryOf(profile.numTokens).symbol == profile.entry; }

  Expected<StepProfile> run() {
    if (profile.kernels.empty())
      return failedPrecondition("the file names no dispatch of its entry \"" + profile.entry +
                                "\"; compile the model again");
    GIRIH_ASSIGN(order, runningOrder(profile.kernels));
    kernelSeconds.resize(profile.kernels.size());
    uint32_t tokensEach = profile.numTokens / profile.numSequences;
    uint32_t blocksEach = kv::numBlocksFor(options.contextTokens + tokensEach);
    uint32_t numRows = std::min(profile.numTokens, executor.program().model().maxLogitRows);
    program::StepBatch batch(profile.numTokens, profile.numSequences, numRows, blocksEach);
    fill(batch, tokensEach, blocksEach);
    // Zeros cost what anything costs: a context need not be computed to be read.
    auto begin = std::chrono::steady_clock::now();
    do {
      GIRIH_TRY(timeStep(batch, /*counts=*/false));
    } while (std::chrono::steady_clock::now() - begin < kWarming);
    for (uint32_t repetition = 0; repetition < options.repetitions; ++repetition)
      GIRIH_TRY(timeStep(batch, /*counts=*/true));
    summarise();
    return std::move(profile);
  }

private:
  program::DispatchReport atContext(program::DispatchReport report) const {
    report.predictedSeconds += report.secondsPerPosition * options.contextTokens;
    return report;
  }

  void fill(program::StepBatch &batch, uint32_t tokensEach, uint32_t blocksEach) {
    std::vector<int32_t> tokens(tokensEach), blocks(blocksEach);
    uint32_t vocabSize = executor.program().model().vocabSize;
    for (uint32_t sequence = 0; sequence < profile.numSequences; ++sequence) {
      for (uint32_t index = 0; index < tokensEach; ++index)
        tokens[index] = static_cast<int32_t>(((sequence + index) * 2654435761u >> 8) % vocabSize);
      std::iota(blocks.begin(), blocks.end(), static_cast<int32_t>(sequence * blocksEach));
      batch.addSequence(tokens, options.contextTokens, blocks, std::min(tokensEach, batch.logitRowsLeft()));
    }
  }

  Status timeStep(const program::StepBatch &batch, bool counts) {
    program::StepTimes times;
    times.endNanoseconds.resize(order.size());
    auto begin = std::chrono::steady_clock::now();
    GIRIH_TRY(executor.run(batch, &times));
    double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    if (times.numDispatches != order.size())
      return failedPrecondition("a step of \"" + profile.entry + "\" ran " + std::to_string(times.numDispatches) +
                                " dispatches, the file states " + std::to_string(order.size()) +
                                "; compile the model again");
    if (!counts)
      return {};
    stepSeconds.push_back(seconds);
    int64_t last = 0;
    for (size_t index = 0; index < order.size(); ++index) {
      kernelSeconds[order[index]].push_back(1e-9 * double(times.endNanoseconds[index] - last));
      last = times.endNanoseconds[index];
    }
    return {};
  }

  void summarise() {
    profile.seconds = middleOf(stepSeconds);
    for (size_t index = 0; index < profile.kernels.size(); ++index) {
      const std::vector<double> &seconds = kernelSeconds[index];
      KernelTime &kernel = profile.kernels[index];
      kernel.median = middleOf(seconds);
      kernel.min = *std::min_element(seconds.begin(), seconds.end());
      kernel.max = *std::max_element(seconds.begin(), seconds.end());
    }
  }

  program::Executor &executor;
  const KernelBenchOptions options;
  StepProfile profile;
  std::vector<size_t> order;
  std::vector<double> stepSeconds;
  std::vector<std::vector<double>> kernelSeconds; // [row of profile.kernels][run, of all layers and steps]
};

} // namespace

PredictionQuality judgePredictions(const StepProfile &step) {
  std::vector<double> errors;
  std::vector<size_t> measured(step.kernels.size());
  for (const KernelTime &kernel : step.kernels)
    if (kernel.median > 0)
      errors.push_back(std::abs(kernel.report.predictedSeconds - kernel.median) / kernel.median);
  std::iota(measured.begin(), measured.end(), size_t{0});
  std::vector<size_t> predicted = measured;
  auto dearestFirst = [&](auto seconds) {
    return [&, seconds](size_t left, size_t right) {
      return seconds(step.kernels[left]) * step.kernels[left].report.repetitions >
             seconds(step.kernels[right]) * step.kernels[right].report.repetitions;
    };
  };
  std::stable_sort(measured.begin(), measured.end(), dearestFirst([](const KernelTime &kernel) { return kernel.median; }));
  std::stable_sort(predicted.begin(), predicted.end(),
                   dearestFirst([](const KernelTime &kernel) { return kernel.report.predictedSeconds; }));
  size_t compared = std::min(kDearest, measured.size());
  return {middleOf(errors), std::equal(measured.begin(), measured.begin() + compared, predicted.begin())};
}

Expected<KernelBenchResult> benchKernels(std::shared_ptr<const program::Program> program, const EngineOptions &options,
                                         const KernelBenchOptions &bench) {
  const program::Model &model = program->model();
  if (bench.repetitions == 0)
    return invalidArgument("a benchmark takes at least one repetition");
  if (model.recompute)
    return unimplemented("this program has no KV cache (see `girih inspect`), so its steps have no fixed dispatches");
  if (bench.contextTokens >= model.maxPositions)
    return outOfRange("a context of " + std::to_string(bench.contextTokens) + " leaves no room in the model's " +
                      std::to_string(model.maxPositions) + " positions; lower --context");
  uint32_t numBlocks = 0;
  for (const program::Executable &executable : program->tables().executables)
    for (const program::Entry &entry : executable.entries)
      numBlocks = std::max(numBlocks, EntryBench::blocksFor(entry, bench.contextTokens));
  program::ExecutorOptions executorOptions;
  executorOptions.devices = options.devices;
  executorOptions.device = options.deviceOptions();
  executorOptions.isa = options.isa;
  executorOptions.numKvBlocks = numBlocks;
  GIRIH_ASSIGN(auto executor, program::Executor::create(program, executorOptions));
  GIRIH_TRY(executor->fillKvPool());
  if (!executor->executable().schedules.empty())
    return unimplemented("two devices share the steps of this program, whose dispatches have no one clock");
  KernelBenchResult result;
  result.isa = executor->executable().isa;
  result.numThreads = static_cast<int32_t>(executor->numThreads());
  for (const program::Entry &entry : executor->executable().entries) {
    EntryBench entryBench(*executor, entry, bench);
    if (!entryBench.isReached())
      continue;
    GIRIH_ASSIGN(StepProfile profile, entryBench.run());
    result.steps.push_back(std::move(profile));
  }
  return result;
}

} // namespace girih::engine
