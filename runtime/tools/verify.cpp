// SPDX-License-Identifier: Apache-2.0
// girih verify: every checksum of the file, then its golden prompts on every variant that this machine grants.
#include "runtime/tools/commands.h"
#include "runtime/tools/loaded_model.h"

#include <cmath>
#include <cstdio>
#include <iostream>

namespace girih::tools {
namespace {

// What a golden's answer differs in; empty: nothing.
Expected<std::string> differenceFrom(const program::Golden &golden, engine::Engine &engine, uint32_t vocabSize) {
  engine::Request request;
  request.promptTokens = golden.promptTokens;
  request.maxTokens = static_cast<uint32_t>(golden.outputTokens.size());
  request.ignoreStop = true;
  request.wantLogits = true;
  GIRIH_ASSIGN(auto completion, engine::generate(engine, std::move(request)));
  for (size_t position = 0; position < golden.outputTokens.size(); ++position) {
    int32_t got = position < completion.tokens.size() ? completion.tokens[position] : -1;
    if (got != golden.outputTokens[position])
      return "token " + std::to_string(position + 1) + " is " + std::to_string(got) + ", expected " + std::to_string(golden.outputTokens[position]);
  }
  size_t lastRow = (golden.promptTokens.size() - 1) * vocabSize;
  for (size_t index = 0; index < golden.logits.size(); ++index) {
    auto id = static_cast<size_t>(golden.logitsIndex[index]);
    float got = completion.logits.at(lastRow + id);
    if (!(std::abs(got - golden.logits[index]) <= golden.tolerance)) {
      char text[160];
      std::snprintf(text, sizeof(text), "the logit of token %zu is %.6g, expected %.6g within %.3g", id, got, golden.logits[index], golden.tolerance);
      return std::string(text);
    }
  }
  return std::string();
}

// Prints a line for each golden; the number of those that differ.
Expected<int> countDifferences(const LoadedModel &model, engine::Engine &engine) {
  int numDifferent = 0;
  size_t goldenIndex = 0;
  for (const program::Golden &golden : model.tables().goldens) {
    GIRIH_ASSIGN(std::string difference, differenceFrom(golden, engine, model.program->model().vocabSize));
    std::printf("%-9s golden %zu on %s: %zu + %zu tokens, from %s%s%s\n", difference.empty() ? "ok" : "DIFFERENT", ++goldenIndex,
                engine.executable().isa.c_str(), golden.promptTokens.size(), golden.outputTokens.size(), golden.source.c_str(),
                difference.empty() ? "" : ": ", difference.c_str());
    numDifferent += !difference.empty();
  }
  return numDifferent;
}

Expected<int> verifyVariants(const LoadedModel &model, const ExecutionFlags &flags) {
  int numDifferent = 0, numRun = 0;
  Status lastRefusal;
  for (const program::Executable &executable : model.tables().executables) {
    if (!flags.isa.empty() && flags.isa != executable.isa)
      continue;
    engine::EngineOptions options = flags.engineOptions();
    options.isa = executable.isa;
    auto engine = engine::Engine::create(model.program, options);
    if (!engine.isOk() && engine.status().code() != StatusCode::Unavailable)
      return std::move(engine).status();
    if (!engine.isOk()) {
      std::printf("skipped   %s: %s\n", executable.isa.c_str(), std::string(engine.status().message()).c_str());
      continue;
    }
    ++numRun;
    GIRIH_ASSIGN(int differences, countDifferences(model, **engine));
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
