// SPDX-License-Identifier: Apache-2.0
// girih batch: a file of requests to a file of answers, without a server.
#include "runtime/server/batch_run.h"
#include "runtime/tools/commands.h"
#include "runtime/tools/served_model.h"

#include <atomic>
#include <csignal>
#include <filesystem>
#include <iostream>

namespace girih::tools {
namespace {

std::atomic<bool> isInterrupted = false;

void interrupt(int) { isInterrupted = true; }

struct BatchFlags {
  std::string model, input, output, errors;
  int64_t maxSequences = 64;
  int64_t kvMegabytes = 0;
  ExecutionFlags execution;
};

void declare(CommandLine &line, BatchFlags &flags) {
  line.positional("IN", flags.input, "Requests, one JSON object a line: custom_id, method (POST), url, body");
  line.positional("OUT", flags.output, "Answers, one a line, in the order in which they are ready");
  line.text("--model", "FILE", flags.model, "A .girih file, a checkpoint, or smollm2");
  line.text("--errors", "FILE", flags.errors, "What is no answer (default: OUT.errors)");
  line.integer("--max-sequences", flags.maxSequences, 1, 4096, "Sequences that may share a step");
  line.integer("--kv-mib", flags.kvMegabytes, 0, 1 << 24,
               "Memory of the KV cache in MiB; 0: 4 full contexts, at most 1 GiB");
  flags.execution.declare(line);
  flags.execution.declareDrafts(line, engine::kMaxDraft);
  line.examples("Examples:\n"
                "  girih batch in.jsonl out.jsonl --model smollm2\n\n"
                "A line as OpenAI's batches have it: {\"custom_id\": \"1\", \"method\": \"POST\", \"url\": "
                "\"/v1/chat/completions\",\n"
                "\"body\": {\"messages\": [{\"role\": \"user\", \"content\": \"Hello!\"}]}}. Requests that "
                "begin alike run together, and what\n"
                "they share is computed once. Interrupted or killed, the same command goes on where it was: "
                "a line that has its\n"
                "answer in OUT or its error is not asked again.");
}

int tellFaults(const std::vector<server::BatchFault> &faults, const std::string &file) {
  for (const server::BatchFault &fault : faults)
    std::cerr << "girih batch: " << file << (fault.line > 0 ? ":" + std::to_string(fault.line) : "") << ": "
              << fault.message << '\n';
  return kExitFailure;
}

void tellProgress(const server::BatchCounts &counts, bool isLast) {
  static uint64_t numTold = ~uint64_t{0};
  uint64_t numDone = counts.completed + counts.failed;
  if (numDone == numTold && !isLast)
    return;
  numTold = numDone;
  std::cerr << '\r' << numDone << " of " << counts.total << " done, " << counts.failed << " of them errors"
            << (isLast ? "\n" : "") << std::flush;
}

} // namespace

Expected<int> batchCommand(const Arguments &arguments) {
  BatchFlags flags;
  CommandLine line("batch", "Answers a file of requests; together, so that steps and prefixes are shared.");
  declare(line, flags);
  if (auto exitStatus = line.parse(arguments))
    return *exitStatus;
  if (flags.model.empty())
    flags.model = "smollm2";
  if (flags.errors.empty())
    flags.errors = flags.output + ".errors";
  GIRIH_ASSIGN(LoadedModel model, loadModel(flags.model, /*needsText=*/true));
  GIRIH_ASSIGN(auto options, flags.execution.engineOptions());
  options.maxSequences = static_cast<uint32_t>(flags.maxSequences);
  options.maxSlowdown = 0; // nobody reads along
  options.kvBytes = static_cast<uint64_t>(flags.kvMegabytes) << 20;
  std::string name = model.program->model().name.empty() ? std::filesystem::path(flags.model).stem().string()
                                                         : model.program->model().name;
  GIRIH_ASSIGN(auto served, serveModel(model, {name}, options));
  server::Service service(std::move(served), {});
  server::BatchRun run(
      service, {flags.input, flags.output, flags.errors, "", 0, static_cast<size_t>(2 * flags.maxSequences)});
  std::vector<server::BatchFault> faults;
  GIRIH_TRY(run.open(faults));
  if (!faults.empty())
    return tellFaults(faults, flags.input);
  std::signal(SIGINT, interrupt);
  std::signal(SIGTERM, interrupt);
  GIRIH_ASSIGN(bool isDone, run.run([](const server::BatchCounts &counts) {
    tellProgress(counts, /*isLast=*/false);
    return !isInterrupted;
  }));
  tellProgress(run.counts(), /*isLast=*/true);
  return isDone ? 0 : kExitInterrupted;
}

} // namespace girih::tools
