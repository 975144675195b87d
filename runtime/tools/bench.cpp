// SPDX-License-Identifier: Apache-2.0
// girih bench: prefill and decode speed, medians with spread, beside what reading memory allows.
#include "runtime/base/json.h"
#include "runtime/engine/kernel_bench.h"
#include "runtime/tools/commands.h"
#include "runtime/tools/kernel_table.h"
#include "runtime/tools/loaded_model.h"
#include "runtime/tools/memory_roofline.h"

#include <cstdio>
#include <iostream>

namespace girih::tools {
namespace {

struct BenchFlags {
  std::string file;
  int64_t promptTokens = 512;
  int64_t generateTokens = 128;
  int64_t numSequences = 1;
  int64_t contextTokens = 0;
  int64_t repetitions = 5;
  bool kernels = false;
  std::string format = "text";
  ExecutionFlags execution;
};

void declare(CommandLine &line, BenchFlags &flags) {
  line.positional("FILE", flags.file, "A .girih file, a checkpoint (.gguf file or Hugging Face folder), or smollm2");
  line.integer("--prompt-tokens", flags.promptTokens, 1, 1 << 24, "Tokens of prefill, in each sequence");
  line.integer("--generate", flags.generateTokens, 1, 1 << 24, "Tokens decoded, in each sequence");
  line.integer("--sequences", flags.numSequences, 1, 4096, "Sequences that share every step");
  line.integer("--context", flags.contextTokens, 0, 1 << 24, "Positions that are in the cache already");
  line.integer("--repetitions", flags.repetitions, 1, 1000, "Timed repetitions, after one that is not timed");
  line.flag("--kernels", flags.kernels, "Times every kernel of the program instead, beside the compiler's prediction");
  flags.execution.declare(line);
  line.choice("--format", flags.format, {"text", "json"}, "How to print the figures");
  line.examples("Examples:\n  girih bench smollm2\n  girih bench model.girih --sequences 8 --context 1024 --format json\n"
                "  girih bench model.girih --kernels --threads 1\n"
                "  girih bench serve --help      (load on a running endpoint)\n\n"
                "JSON: prefill_tokens_per_second and decode_tokens_per_second (medians over all sequences together), each\n"
                "with _min and _max; steps, shared_steps (with more than one sequence in them); bytes_from_device,\n"
                "bytes_to_device (copied in all of them, where the host cannot see the device's memory); roofline: bytes that one\n"
                "decode step must read, bandwidth measured in the same run on the same bytes, tokens a second of the two.");
}

void writeRate(JsonWriter &writer, const std::string &name, const engine::BenchRate &rate) {
  writer.member(name, rate.median).member(name + "_min", rate.min).member(name + "_max", rate.max);
}

void printJson(const BenchFlags &flags, const engine::BenchResult &result, const MemoryRoofline &roofline) {
  JsonWriter writer;
  writer.beginObject();
  writeRate(writer, "prefill_tokens_per_second", result.prefill);
  writeRate(writer, "decode_tokens_per_second", result.decode);
  writer.member("prompt_tokens", flags.promptTokens).member("generate", flags.generateTokens);
  writer.member("sequences", flags.numSequences).member("context", flags.contextTokens).member("repetitions", flags.repetitions);
  writer.member("isa", result.isa).member("threads", result.numThreads);
  writer.member("steps", result.numSteps).member("shared_steps", result.numSharedSteps);
  writer.member("bytes_from_device", result.traffic.bytesRead).member("bytes_to_device", result.traffic.bytesWritten);
  writer.key("roofline").beginObject().member("decode_step_bytes", roofline.decodeStepBytes);
  writer.member("read_bytes_per_second", roofline.readBytesPerSecond);
  writer.member("decode_tokens_per_second", roofline.decodeTokensPerSecond);
  writer.member("decode_share", roofline.decodeTokensPerSecond > 0 ? result.decode.median / roofline.decodeTokensPerSecond : 0.0);
  writer.endObject().endObject();
  std::cout << writer.text() << std::endl;
}

void printTable(const BenchFlags &flags, const engine::BenchResult &result, const MemoryRoofline &roofline) {
  std::printf("%s, %d threads, %lld sequences, context %lld, %lld repetitions: median (min .. max) tokens/s\n", result.isa.c_str(),
              result.numThreads, static_cast<long long>(flags.numSequences), static_cast<long long>(flags.contextTokens),
              static_cast<long long>(flags.repetitions));
  std::printf("  prefill %5lld  %9.1f  (%.1f .. %.1f)\n", static_cast<long long>(flags.promptTokens), result.prefill.median,
              result.prefill.min, result.prefill.max);
  std::printf("  decode  %5lld  %9.1f  (%.1f .. %.1f)", static_cast<long long>(flags.generateTokens), result.decode.median,
              result.decode.min, result.decode.max);
  if (roofline.decodeTokensPerSecond > 0)
    std::printf("   %.0f %% of what memory allows: %.1f (%.1f MB a step at %.1f GB/s)", 100 * result.decode.median / roofline.decodeTokensPerSecond,
                roofline.decodeTokensPerSecond, static_cast<double>(roofline.decodeStepBytes) / 1e6, roofline.readBytesPerSecond / 1e9);
  std::printf("\n  %llu steps, %llu of them shared by several sequences\n", static_cast<unsigned long long>(result.numSteps),
              static_cast<unsigned long long>(result.numSharedSteps));
}

Expected<int> benchTheKernels(const LoadedModel &model, const BenchFlags &flags) {
  engine::KernelBenchOptions options{static_cast<uint32_t>(flags.contextTokens), static_cast<uint32_t>(flags.repetitions)};
  GIRIH_ASSIGN(auto execution, flags.execution.engineOptions());
  GIRIH_ASSIGN(auto result, engine::benchKernels(model.program, execution, options));
  std::cout << (flags.format == "json" ? kernelTableJson(result) + "\n" : kernelTableText(result)) << std::flush;
  return 0;
}

}  // namespace

Expected<int> benchCommand(const Arguments &arguments) {
  if (!arguments.empty() && arguments.front() == "serve")
    return benchServeCommand(Arguments(arguments.begin() + 1, arguments.end()));
  BenchFlags flags;
  CommandLine line("bench", "Measures prefill and decode with made-up tokens, beside what reading memory allows.");
  declare(line, flags);
  if (auto exitStatus = line.parse(arguments))
    return *exitStatus;
  GIRIH_ASSIGN(LoadedModel model, loadModel(flags.file, /*needsText=*/false));
  if (flags.kernels)
    return benchTheKernels(model, flags);
  engine::BenchOptions options;
  options.promptTokens = static_cast<uint32_t>(flags.promptTokens);
  options.generateTokens = static_cast<uint32_t>(flags.generateTokens);
  options.numSequences = static_cast<uint32_t>(flags.numSequences);
  options.contextTokens = static_cast<uint32_t>(flags.contextTokens);
  options.repetitions = static_cast<uint32_t>(flags.repetitions);
  GIRIH_ASSIGN(auto execution, flags.execution.engineOptions());
  GIRIH_ASSIGN(auto result, engine::bench(model.program, execution, options));
  // Decode is measured from `context` on, so its middle stands for all of it.
  uint32_t middleContext = options.contextTokens + options.generateTokens / 2;
  MemoryRoofline roofline = measureMemoryRoofline(*model.program, result.numThreads, options.numSequences, middleContext);
  if (flags.format == "json")
    printJson(flags, result, roofline);
  else
    printTable(flags, result, roofline);
  return 0;
}

}  // namespace girih::tools
