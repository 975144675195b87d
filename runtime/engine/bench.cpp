// SPDX-License-Identifier: Apache-2.0
// Raw speed of a program's steps: prefill and decode, each at a given depth of context, as llama-bench does.
#include "runtime/engine/engine.h"
#include "runtime/kv/block_cache.h"
#include "runtime/program/executor.h"

#include <algorithm>
#include <chrono>

namespace girih::engine {
namespace {

using Clock = std::chrono::steady_clock;

// Sequences at the same depth, each with blocks of its own. Not counted by any scheduler: the bench is alone.
class Runner {
public:
  Runner(program::Executor &executor, const BenchOptions &options, uint32_t maxTokensPerStep)
      : executor(executor), options(options),
        batch(maxTokensPerStep, options.numSequences, executor.program().model().maxLogitRows,
              kv::numBlocksFor(depthLimit(options))) {
    uint32_t blocksEach = kv::numBlocksFor(depthLimit(options));
    for (uint32_t sequence = 0; sequence < options.numSequences; ++sequence) {
      blocks.emplace_back();
      for (uint32_t block = 0; block < blocksEach; ++block)
        blocks.back().push_back(static_cast<int32_t>(sequence * blocksEach + block));
    }
    madeUp.resize(maxTokensPerStep);
  }
  static uint32_t depthLimit(const BenchOptions &options) {
    return options.contextTokens + std::max(options.promptTokens, options.generateTokens);
  }

  // Feeds `count` tokens to every sequence from `depth` on; the last of each gives a row of logits. Steps are
  // as full as they can be: a short prompt shares its step with the next sequence's.
  Status feed(uint32_t depth, uint32_t count) {
    batch.clear();
    for (uint32_t sequence = 0; sequence < options.numSequences; ++sequence)
      for (uint32_t done = 0; done < count;) {
        if (batch.tokensLeft() == 0 || batch.logitRowsLeft() == 0)
          GIRIH_TRY(flush());
        uint32_t numTokens = std::min(count - done, batch.tokensLeft());
        makeUp(numTokens, depth + done);
        done += numTokens;
        batch.addSequence(std::span<const int32_t>(madeUp).first(numTokens), depth + done - numTokens,
                          blocks[sequence], done == count ? 1u : 0u);
      }
    return flush();
  }

  // One greedy step of every sequence at once, and the choice of the next tokens.
  Status decode(uint32_t depth, std::vector<int32_t> &next) {
    for (uint32_t begin = 0; begin < options.numSequences;) {
      batch.clear();
      uint32_t end = begin;
      for (; end < options.numSequences && batch.tokensLeft() > 0 && batch.logitRowsLeft() > 0; ++end)
        batch.addSequence({&next[end], 1}, depth, blocks[end], 1u);
      GIRIH_TRY(flush(/*clear=*/false));
      for (uint32_t sequence = begin; sequence < end; ++sequence) {
        GIRIH_ASSIGN(next[sequence], argmax(executor.logits(sequence - begin)));
      }
      begin = end;
    }
    return {};
  }

  uint64_t numSteps = 0, numSharedSteps = 0;

private:
  Status flush(bool clear = true) {
    if (batch.numTokens() == 0)
      return {};
    GIRIH_TRY(executor.run(batch));
    ++numSteps;
    numSharedSteps += batch.numSequences() > 1;
    if (clear)
      batch.clear();
    return {};
  }
  // Any tokens do: the time of a step does not depend on them.
  void makeUp(uint32_t count, uint32_t position) {
    uint32_t vocabSize = executor.program().model().vocabSize;
    for (uint32_t index = 0; index < count; ++index)
      madeUp[index] = static_cast<int32_t>(((position + index) * 2654435761u >> 8) % vocabSize);
  }

  program::Executor &executor;
  const BenchOptions options;
  program::StepBatch batch;
  std::vector<std::vector<int32_t>> blocks;
  std::vector<int32_t> madeUp;
};

// Rates of the repetitions, slowest to fastest, into median and bounds.
BenchRate summarise(std::vector<double> rates) {
  if (rates.empty())
    return {};
  std::sort(rates.begin(), rates.end());
  size_t middle = rates.size() / 2;
  double median = rates.size() % 2 ? rates[middle] : 0.5 * (rates[middle - 1] + rates[middle]);
  return {median, rates.front(), rates.back()};
}

Status checkOptions(const program::Model &model, const BenchOptions &options) {
  if (options.numSequences == 0 || options.repetitions == 0 ||
      options.promptTokens + options.generateTokens == 0)
    return invalidArgument("a benchmark takes at least one sequence, one repetition and one token");
  if (model.recompute)
    return unimplemented(
        "this program has no KV cache (see `girih inspect`), so prefill and decode have no speed "
        "of their own; time `girih run` instead");
  uint64_t depth = uint64_t{options.contextTokens} + std::max(options.promptTokens, options.generateTokens);
  if (depth > model.maxPositions)
    return outOfRange("context and tokens make " + std::to_string(depth) + " positions, the model has " +
                      std::to_string(model.maxPositions) +
                      "; lower --context, --prompt-tokens or --generate");
  return {};
}

double secondsSince(Clock::time_point begin) {
  return std::chrono::duration<double>(Clock::now() - begin).count();
}

} // namespace

Expected<BenchResult> bench(std::shared_ptr<const program::Program> program, const EngineOptions &options,
                            const BenchOptions &bench) {
  const program::Model &model = program->model();
  GIRIH_TRY(checkOptions(model, bench));
  uint32_t stepTokens = options.maxTokensPerStep ? options.maxTokensPerStep : model.maxTokensPerStep;
  if (stepTokens > model.maxTokensPerStep)
    return invalidArgument("max tokens per step is " + std::to_string(stepTokens) +
                           "; the program takes at most " + std::to_string(model.maxTokensPerStep));
  uint64_t numBlocks = uint64_t{kv::numBlocksFor(Runner::depthLimit(bench))} * bench.numSequences;
  if (numBlocks > (uint64_t{1} << 26))
    return resourceExhausted(std::to_string(bench.numSequences) + " sequences take " +
                             std::to_string(numBlocks) + " KV blocks; lower --sequences or --context");
  program::ExecutorOptions executorOptions;
  executorOptions.devices = options.devices;
  executorOptions.device = options.deviceOptions();
  executorOptions.isa = options.isa;
  executorOptions.numKvBlocks = static_cast<uint32_t>(numBlocks);
  GIRIH_ASSIGN(auto executor, program::Executor::create(program, executorOptions));

  const hal::Traffic before = executor->traffic(); // the weights'
  Runner runner(*executor, bench, stepTokens);
  if (bench.contextTokens > 0)
    GIRIH_TRY(runner.feed(0, bench.contextTokens));
  std::vector<double> prefillRates, decodeRates;
  std::vector<int32_t> next(bench.numSequences);
  // The first repetition touches all memory and wakes the team; it does not count.
  for (uint32_t repetition = 0; repetition <= bench.repetitions; ++repetition) {
    Clock::time_point begin = Clock::now();
    if (bench.promptTokens > 0)
      GIRIH_TRY(runner.feed(bench.contextTokens, bench.promptTokens));
    double prefillSeconds = secondsSince(begin);
    std::fill(next.begin(), next.end(), 0);
    begin = Clock::now();
    for (uint32_t index = 0; index < bench.generateTokens; ++index)
      GIRIH_TRY(runner.decode(bench.contextTokens + index, next));
    double decodeSeconds = secondsSince(begin);
    if (repetition == 0)
      continue;
    if (bench.promptTokens > 0)
      prefillRates.push_back(double(bench.promptTokens) * bench.numSequences / prefillSeconds);
    if (bench.generateTokens > 0)
      decodeRates.push_back(double(bench.generateTokens) * bench.numSequences / decodeSeconds);
  }
  BenchResult result;
  result.prefill = summarise(prefillRates);
  result.decode = summarise(decodeRates);
  result.isa = executor->executable().isa;
  result.numThreads = static_cast<int32_t>(executor->numThreads());
  result.numSteps = runner.numSteps;
  result.numSharedSteps = runner.numSharedSteps;
  result.traffic = {executor->traffic().bytesRead - before.bytesRead,
                    executor->traffic().bytesWritten - before.bytesWritten};
  return result;
}

} // namespace girih::engine
