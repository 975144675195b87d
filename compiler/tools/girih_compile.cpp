// SPDX-License-Identifier: Apache-2.0
// girih-compile: the compiler's own binary; `girih compile` starts it.
#include "compiler/compile.h"

#include "backends/cpu/codegen/compile_table.h"
#include "backends/cpu/codegen/microkernels/isa_table.h"
#include "compiler/backend.h"
#include "dialects/machine/json.h"

#include "llvm/ADT/StringExtras.h"
#include "llvm/Support/CommandLine.h"
#include "llvm/Support/InitLLVM.h"
#include "llvm/Support/MemoryBuffer.h"

#include <chrono>
#include <csignal>
#include <unistd.h>

namespace cl = llvm::cl;
using girih::compiler::CompileOptions;

namespace {

constexpr int kUsage = 2, kFailure = 1;

// Prints a bar that fills on a terminal, one line a stage elsewhere.
class Progress {
public:
  explicit Progress(bool isQuiet) : isQuiet(isQuiet), isTerminal(isatty(STDERR_FILENO)) {}
  void operator()(std::string_view stage, double share) {
    if (isQuiet)
      return;
    if (isTerminal) {
      int filled = int(share * kWidth);
      std::fprintf(stderr, "\r[%s%s] %3d %% %-48.48s", std::string(filled, '#').c_str(),
                   std::string(kWidth - filled, '.').c_str(), int(share * 100), std::string(stage).c_str());
      if (share >= 1.0)
        std::fprintf(stderr, "\n");
    } else if (stage != last) {
      std::fprintf(stderr, "girih compile: %s\n", std::string(stage).c_str());
    }
    last = stage;
  }

private:
  static constexpr int kWidth = 28;
  bool isQuiet, isTerminal;
  std::string last;
};

int usageError(const std::string &message) {
  llvm::errs() << "girih compile: " << message << "\n";
  return kUsage;
}

// "cpu", "cpu:avx2", "cpu:x86,cpu:arm64" -> instruction sets, each once. The message of a usage error, or nothing.
// Tiles round in their own way: only `fast` uses them, elsewhere their variant would be the one before it again.
std::string parseTargets(llvm::StringRef targets, llvm::StringRef numerics, std::vector<std::string> &isas) {
  isas.clear();
  for (llvm::StringRef target : llvm::split(targets, ',')) {
    auto [backend, name] = target.split(':');
    if (backend != "cpu")
      return "--target is \"" + target.str() + "\"; cpu is built today, cuda and vulkan are planned";
    std::vector<std::string> variants = girih::cpu::variantsOf(name, numerics == "fast");
    if (variants.empty())
      return "--target names \"" + name.str() + "\"; after `cpu:` come " + girih::cpu::isaNames() + ", native, or all of " +
             girih::cpu::architectureNames();
    for (const std::string &isa : variants)
      if (!llvm::is_contained(isas, isa))
        isas.push_back(isa);
  }
  return "";
}

}  // namespace

int main(int argc, char **argv) {
  llvm::InitLLVM init(argc, argv);
  std::signal(SIGXFSZ, SIG_IGN);  // a limit on file sizes is an error like a full disk, not a crash
  cl::ResetCommandLineParser();  // libLLVM's own options: their names are not ours to avoid
  cl::OptionCategory category("Options");
  cl::opt<std::string> input(cl::Positional, cl::desc("<checkpoint: a .gguf file or a Hugging Face folder>"),
                             cl::cat(category));
  cl::opt<std::string> output("o", cl::desc("the program file to write (default: the input's name with .girih)"),
                              cl::value_desc("file"), cl::cat(category));
  cl::opt<std::string> target("target", cl::init("cpu"),
                              cl::desc("separated by commas: cpu (this machine's kind), cpu:x86 (avx2, avx512 and amx), cpu:arm64 "
                                       "(neon, dotprod and i8mm), one of those by its name, or cpu:native"),
                              cl::value_desc("targets"), cl::cat(category));
  cl::opt<std::string> numerics("numerics", cl::init("fast"),
                                cl::desc("exact: f32 throughout, the reference's own tokens; invariant: 8-bit activations, "
                                         "the same bits in any company; fast: the machine's best arithmetic"),
                                cl::value_desc("mode"), cl::cat(category));
  cl::opt<std::string> kv("kv", cl::desc("KV cache: f32 or f16 (default: by numerics)"), cl::value_desc("type"),
                          cl::cat(category));
  cl::opt<std::string> report("report", cl::desc("write what became of each tensor and dispatch, as JSON"),
                              cl::value_desc("file"), cl::cat(category));
  cl::opt<std::string> graph("graph", cl::desc("compile this graph (MLIR) with the checkpoint's weights"),
                             cl::value_desc("file.mlir"), cl::cat(category));
  cl::list<std::string> without("without", cl::desc("debugging: leave these passes out, girih-fuse-elementwise,..."),
                                cl::CommaSeparated, cl::value_desc("passes"), cl::cat(category));
  cl::opt<std::string> machine("machine", cl::desc("tile for the machine that this JSON describes, not for this one"),
                               cl::value_desc("file"), cl::cat(category));
  cl::opt<std::string> codeCache("code-cache",
                                 cl::desc("keep code in this folder for models that differ in weights alone; `girih "
                                          "compile` names one of its own (--code-cache= keeps none)"),
                                 cl::value_desc("folder"), cl::cat(category));
  cl::opt<std::string> dump("dump-ir", cl::desc("write the IR after each pass into this folder"),
                            cl::value_desc("folder"), cl::cat(category));
  cl::opt<bool> judge("judge-passes",
                      cl::desc("debugging: evaluate the graph after every pass, and name the first that changes the answer"),
                      cl::cat(category));
  cl::opt<int> maxTokens("max-tokens-per-step", cl::init(512), cl::desc("most tokens of one step"),
                         cl::value_desc("n"), cl::cat(category));
  cl::opt<int> threads("threads", cl::init(0), cl::desc("threads that pack weights (default: all)"),
                       cl::value_desc("n"), cl::cat(category));
  cl::opt<bool> noGolden("no-golden",
                         cl::desc("do not ask the f64 reference for the answer that `girih verify` compares with"),
                         cl::cat(category));
  cl::opt<bool> quiet("quiet", cl::desc("no progress"), cl::cat(category));
  cl::opt<std::string> printMachine("print-machine", cl::desc("print this machine as JSON, seen through a variant's name"),
                                    cl::value_desc("isa"), cl::cat(category));
  cl::HideUnrelatedOptions(category);
  std::string errors;
  llvm::raw_string_ostream errorStream(errors);
  if (!cl::ParseCommandLineOptions(argc, argv,
                                   "girih compile: a checkpoint in, one .girih file out\n\n"
                                   "  girih compile model.gguf -o model.girih\n"
                                   "  girih compile model.gguf --numerics exact --target cpu:native\n",
                                   &errorStream))
    return usageError(errors);
  if (!printMachine.empty()) {
    mlir::MLIRContext context;
    context.loadDialect<girih::machine::MachineDialect>();
    auto backend = girih::compiler::CompilingBackend::create(girih_cpu_compile_query);
    if (!backend.isOk())
      return usageError(std::string(backend.status().message()));
    auto described = backend->describe(&context, "cpu:" + printMachine);
    if (!described.isOk())
      return usageError(std::string(described.status().message()));
    llvm::outs() << girih::machine::printJson(*described) << "\n";
    return 0;
  }
  if (input.empty())
    return usageError("no checkpoint given; `girih compile model.gguf -o model.girih`");
  if (maxTokens < 16 || maxTokens > 8192)
    return usageError("--max-tokens-per-step is " + std::to_string(maxTokens) + "; it is 16 to 8192");

  CompileOptions options;
  options.inputPath = input;
  options.outputPath = output.empty() ? llvm::StringRef(input).rsplit('/').second.rsplit('.').first.str() + ".girih"
                                      : std::string(output);
  if (output.empty() && !llvm::StringRef(input).contains('/'))
    options.outputPath = llvm::StringRef(input).rsplit('.').first.str() + ".girih";
  if (std::string error = parseTargets(target.getValue(), numerics.getValue(), options.isas); !error.empty())
    return usageError(error);
  options.graphPath = graph;
  options.skippedPasses.assign(without.begin(), without.end());
  options.backend = girih_cpu_compile_query;
  options.numerics = numerics;
  options.kvType = kv;
  options.reportPath = report;
  options.dumpFolder = dump;
  options.codeCacheFolder = codeCache;
  options.judgesPasses = judge;
  options.hasGolden = !noGolden;
  options.maxTokensPerStep = maxTokens;
  options.numThreads = threads;
  options.progress = Progress(quiet);
  if (!machine.empty()) {
    auto file = llvm::MemoryBuffer::getFile(machine);
    if (!file)
      return usageError("--machine \"" + machine + "\": " + file.getError().message());
    options.machineJson = (*file)->getBuffer().str();
  }
  girih::Status status = girih::compiler::compileCheckpoint(options);
  if (!status.isOk()) {
    llvm::errs() << (quiet ? "" : "\n") << "girih compile: " << status.message() << "\n";
    return status.code() == girih::StatusCode::InvalidArgument && status.message().find("--") != std::string::npos
               ? kUsage
               : kFailure;
  }
  return 0;
}
