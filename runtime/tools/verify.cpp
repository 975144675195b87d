// SPDX-License-Identifier: Apache-2.0
// girih verify: every checksum of the file, then its golden prompts on every variant that this machine grants.
#include "runtime/kv/block_cache.h"
#include "runtime/program/executor.h"
#include "runtime/tools/backend_choice.h"
#include "runtime/tools/commands.h"
#include "runtime/tools/loaded_model.h"

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <iostream>
#include <numeric>

namespace girih::tools {
namespace {

// One sequence on one variant. What a question shares with the one before is in the cache already, so a prompt that is
// the last one and a token more is one step of decode.
class Sequence {
public:
  static Expected<Sequence> open(const LoadedModel &model, const ExecutionFlags &flags, const std::string &isa) {
    size_t mostTokens = 0;
    for (const program::Golden &golden : model.tables().goldens) {
      GIRIH_TRY(check(golden, model.program->model()));
      mostTokens = std::max(mostTokens, golden.promptTokens.size() + golden.outputTokens.size());
    }
    GIRIH_ASSIGN(auto execution, flags.engineOptions());
    program::ExecutorOptions options;
    options.devices = execution.devices;
    options.device = execution.deviceOptions();
    options.isa = isa;
    options.numKvBlocks = kv::numBlocksFor(uint32_t(mostTokens));
    GIRIH_ASSIGN(auto executor, program::Executor::create(model.program, options));
    return Sequence(std::move(executor));
  }

  // [V], after the last of `tokens`; until the next question.
  Expected<std::span<const float>> logitsAfter(std::span<const int32_t> tokens) {
    const program::Model &model = executor->program().model();
    auto shared = size_t(std::mismatch(fed.begin(), fed.end(), tokens.begin(), tokens.end()).first - fed.begin());
    size_t first = model.recompute ? 0 : std::min(shared, tokens.size() - 1);
    fed.assign(tokens.begin(), tokens.end());
    while (true) {
      auto count = std::min<size_t>(tokens.size() - first, model.maxTokensPerStep);
      batch.clear();
      size_t numBlocks = model.recompute ? 0 : kv::numBlocksFor(uint32_t(first + count));
      batch.addSequence(tokens.subspan(first, count), uint32_t(first), std::span(blocks).first(numBlocks), 1);
      GIRIH_TRY(executor->run(batch));
      if ((first += count) == tokens.size())
        return std::span<const float>(executor->logits(0));
    }
  }

  const std::string &isa() const { return executor->executable().isa; }

private:
  explicit Sequence(std::unique_ptr<program::Executor> created)
      : executor(std::move(created)),
        batch(executor->program().model().maxTokensPerStep, 1, 1, std::max(executor->numKvBlocks(), 1u)),
        blocks(executor->numKvBlocks()) {
    std::iota(blocks.begin(), blocks.end(), 0);
  }

  static Status check(const program::Golden &golden, const program::Model &model) {
    auto isId = [&](int32_t id) { return id >= 0 && uint32_t(id) < model.vocabSize; };
    size_t most = model.recompute ? std::min(model.maxPositions, model.maxTokensPerStep) : model.maxPositions;
    if (golden.promptTokens.empty() || golden.promptTokens.size() + golden.outputTokens.size() > most ||
        golden.logits.size() != golden.logitsIndex.size() || !std::all_of(golden.promptTokens.begin(), golden.promptTokens.end(), isId) ||
        !std::all_of(golden.outputTokens.begin(), golden.outputTokens.end(), isId) ||
        !std::all_of(golden.logitsIndex.begin(), golden.logitsIndex.end(), isId))
      return dataLoss("a golden of the file is no question to its model: its tokens lie in a vocabulary of " + std::to_string(model.vocabSize) +
                      " and fill at most " + std::to_string(most) + " positions; compile the file again");
    return {};
  }

  std::unique_ptr<program::Executor> executor;
  program::StepBatch batch;
  std::vector<int32_t> blocks, fed;
};

std::string logitDifference(const program::Golden &golden, std::span<const float> logits) {
  for (size_t index = 0; index < golden.logits.size(); ++index) {
    auto id = static_cast<size_t>(golden.logitsIndex[index]);
    if (!(std::abs(logits[id] - golden.logits[index]) <= golden.tolerance)) {
      char text[160];
      std::snprintf(text, sizeof(text), "the logit of token %zu is %.6g, expected %.6g within %.3g", id, logits[id], golden.logits[index], golden.tolerance);
      return text;
    }
  }
  return {};
}

// What a golden's answer differs in; empty: nothing.
Expected<std::string> differenceFrom(const program::Golden &golden, Sequence &sequence) {
  std::vector<int32_t> tokens = golden.promptTokens;
  GIRIH_ASSIGN(std::span<const float> logits, sequence.logitsAfter(tokens));
  if (std::string difference = logitDifference(golden, logits); !difference.empty())
    return difference;
  for (size_t position = 0; position < golden.outputTokens.size(); ++position) {
    auto got = int32_t(std::max_element(logits.begin(), logits.end()) - logits.begin());
    if (got != golden.outputTokens[position])
      return "token " + std::to_string(position + 1) + " is " + std::to_string(got) + ", expected " + std::to_string(golden.outputTokens[position]);
    tokens.push_back(got);
    if (position + 1 < golden.outputTokens.size()) {
      GIRIH_ASSIGN(logits, sequence.logitsAfter(tokens));
    }
  }
  return std::string();
}

// Prints a line for each golden; the number of those that differ.
Expected<int> countDifferences(const LoadedModel &model, Sequence &sequence) {
  int numDifferent = 0;
  size_t goldenIndex = 0;
  for (const program::Golden &golden : model.tables().goldens) {
    GIRIH_ASSIGN(std::string difference, differenceFrom(golden, sequence));
    std::printf("%-9s golden %zu on %s: %zu + %zu tokens, from %s%s%s\n", difference.empty() ? "ok" : "DIFFERENT", ++goldenIndex,
                sequence.isa().c_str(), golden.promptTokens.size(), golden.outputTokens.size(), golden.source.c_str(),
                difference.empty() ? "" : ": ", difference.c_str());
    numDifferent += !difference.empty();
  }
  return numDifferent;
}

Expected<int> verifyVariants(const LoadedModel &model, const ExecutionFlags &flags) {
  int numDifferent = 0, numRun = 0;
  GIRIH_ASSIGN(std::vector<program::DeviceName> wanted, openDevices(flags.device, flags.backend));
  for (const program::Executable &executable : model.tables().executables) {
    bool isOfWanted = wanted.empty() || executable.backend == wanted.front().backend->name;
    if (!isOfWanted || (!flags.isa.empty() && flags.isa != executable.isa))
      continue;
    auto sequence = Sequence::open(model, flags, executable.isa);
    if (!sequence.isOk() && sequence.status().code() != StatusCode::Unavailable)
      return std::move(sequence).status();
    if (!sequence.isOk()) {
      std::printf("skipped   %s: %s\n", executable.isa.c_str(), std::string(sequence.status().message()).c_str());
      continue;
    }
    ++numRun;
    GIRIH_ASSIGN(int differences, countDifferences(model, *sequence));
    numDifferent += differences;
  }
  if (numRun == 0)
    return unavailable("no variant of " + model.program->path() + " could run here" + (flags.isa.empty() ? "" : " under --isa " + flags.isa) + "; `girih inspect` lists them and what they need");
  return numDifferent;
}

}  // namespace

Expected<int> verifyCommand(const Arguments &arguments) {
  std::string file;
  ExecutionFlags execution;
  CommandLine line("verify", "Checks every checksum of a .girih file, then runs its golden prompts on every variant that this machine grants.");
  line.positional("FILE", file, "A .girih file, a checkpoint (.gguf file or Hugging Face folder), or smollm2");
  execution.declare(line);
  line.examples("Examples:\n  girih verify model.girih\n\nThe goldens come from the f64 reference or from outside, never from the code under test.\n"
                "Exit status: 0 all is as expected, 1 something differs.");
  if (auto exitStatus = line.parse(arguments))
    return *exitStatus;
  GIRIH_ASSIGN(LoadedModel model, loadModel(file, /*needsText=*/false));
  GIRIH_TRY(model.program->verifyChecksums());
  std::printf("ok        checksums of %zu tensors and every section, %.1f MB\n", model.tables().tensors.size(), static_cast<double>(model.program->fileBytes()) / 1e6);
  if (model.tables().goldens.empty()) {
    std::printf("none      the file holds no golden prompts\n");
    return 0;
  }
  GIRIH_ASSIGN(int numDifferent, verifyVariants(model, execution));
  if (numDifferent > 0)
    return dataLoss(std::to_string(numDifferent) + " answers of " + model.program->path() + " differ from its goldens; compile it again, and report it if that does not help");
  return 0;
}

}  // namespace girih::tools
