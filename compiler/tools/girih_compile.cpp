// SPDX-License-Identifier: Apache-2.0
// girih-compile: the compiler's own binary; `girih compile` starts it.
#include "compiler/compile.h"

#include "compiler/backend.h"
#include "dialects/machine/json.h"
#include "runtime/hal/backend_library.h"
#include "runtime/hal/probe_backend.h"

#include "llvm/ADT/StringExtras.h"
#include "llvm/Support/CommandLine.h"
#include "llvm/Support/InitLLVM.h"
#include "llvm/Support/MemoryBuffer.h"

#include <chrono>
#include <csignal>
#include <unistd.h>

// The backends that were built in, in the order of GIRIH_BACKENDS: their queries, and a table of them.
#define GIRIH_COMPILES(name) extern "C" const girih_backend *girih_##name##_compile_query(const girih_host *host);
#include "compiler/tools/compiling_backends.inc"
#undef GIRIH_COMPILES

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

struct BuiltIn {
  llvm::StringRef name;
  girih_backend_query_fn query;
};
constexpr BuiltIn kBuiltIns[] = {
#define GIRIH_COMPILES(name) {#name, girih_##name##_compile_query},
#include "compiler/tools/compiling_backends.inc"
#undef GIRIH_COMPILES
};

// A vendor's library, which is probed in a process of its own before this one opens it.
girih::Expected<const girih_backend *> openLibrary(llvm::StringRef library) {
  std::string path = library.contains('/') ? library.str() : "./" + library.str();
  GIRIH_TRY(girih::hal::probeBackend(path));
  return girih::hal::loadBackend(path);
}

// The backend that `target` ("cpu:avx2") begins with: the vendor's, or a built-in one.
girih::Expected<const girih_backend *> backendOf(llvm::StringRef target, const girih_backend *vendors) {
  llvm::StringRef name = target.split(':').first;
  if (vendors && name == vendors->name)
    return vendors;
  std::string known = vendors ? vendors->name : "";
  for (const BuiltIn &candidate : kBuiltIns) {
    if (candidate.name == name)
      return girih::hal::adoptBackend(candidate.query, candidate.name.str());
    known += (known.empty() ? "" : ", ") + candidate.name.str();
  }
  return girih::invalidArgument("--target names the backend \"" + name.str() + "\"; there are " + known +
                                "; --backend path/lib.so adds another");
}

// "cpu", "cpu:avx2", "cpu:x86,vulkan" -> variants, each once; "" is the vendor's backend, or the first built-in one.
girih::Expected<std::vector<girih::compiler::CompileTarget>>
parseTargets(const std::string &targets, const std::string &numerics, const girih_backend *vendors) {
  const std::string named = !targets.empty() ? targets : vendors ? vendors->name : kBuiltIns[0].name.str();
  std::vector<girih::compiler::CompileTarget> parsed;
  for (llvm::StringRef target : llvm::split(named, ',')) {
    GIRIH_ASSIGN(const girih_backend *backend, backendOf(target, vendors));
    GIRIH_ASSIGN(auto compiling, girih::compiler::CompilingBackend::create(*backend));
    GIRIH_ASSIGN(auto variants, compiling.variants(target.str(), numerics));
    for (std::string &variant : variants)
      if (llvm::none_of(parsed, [&](const auto &one) { return one.backend == backend && one.variant == variant; }))
        parsed.push_back({backend, std::move(variant)});
  }
  return parsed;
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
  cl::opt<std::string> target("target",
                              cl::desc("separated by commas: cpu (this machine's kind, the default), cpu:x86 (avx2, avx512 and amx), cpu:arm64 "
                                       "(neon, dotprod and i8mm), one of those by its name, cpu:native, or vulkan; "
                                       "all share one copy of the weights"),
                              cl::value_desc("targets"), cl::cat(category));
  cl::opt<std::string> library("backend", cl::desc("compile for this vendor's library: alone, or beside those that --target names"),
                               cl::value_desc("path/lib.so"), cl::cat(category));
  cl::opt<std::string> numerics("numerics", cl::init("fast"),
                                cl::desc("exact: f32 throughout, the reference's own tokens; invariant: 8-bit activations, "
                                         "the same bits in any company; fast: the machine's best arithmetic"),
                                cl::value_desc("mode"), cl::cat(category));
  cl::opt<std::string> quantize("quantize",
                                cl::desc("make matrices of f16, bf16 and f32 this format: q4_0, q4_1, q5_0, q5_1 or q8_0; "
                                         "the embeddings and the head become q8_0 whatever is asked for, since they "
                                         "cost most quality, and small tensors stay as they are"),
                                cl::value_desc("format"), cl::cat(category));
  cl::opt<std::string> kv("kv", cl::desc("KV cache: f32, f16 or int8 (default: by numerics)"), cl::value_desc("type"),
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
  cl::opt<bool> embeddings("embeddings", cl::desc("code that gives embeddings, too: compiling takes a sixth longer"), cl::cat(category));
  cl::opt<bool> quiet("quiet", cl::desc("no progress"), cl::cat(category));
  cl::opt<std::string> printMachine("print-machine", cl::desc("print this machine as JSON, seen through a variant's name"),
                                    cl::value_desc("isa"), cl::cat(category));
  cl::HideUnrelatedOptions(category);
  std::string errors;
  llvm::raw_string_ostream errorStream(errors);
  if (!cl::ParseCommandLineOptions(argc, argv,
                                   "girih compile: a checkpoint in, one .girih file out\n\n"
                                   "  girih compile model.gguf -o model.girih\n"
                                   "  girih compile model.gguf --numerics exact --target cpu:native\n"
                                   "  girih compile model.gguf --target cpu,vulkan\n"
                                   "  girih compile model.gguf --embeddings\n",
                                   &errorStream))
    return usageError(errors);
  auto fail = [](const girih::Status &status) {
    llvm::errs() << "girih compile: " << status.message() << "\n";
    return kFailure;
  };
  const girih_backend *vendors = nullptr;
  if (!library.empty()) {
    auto opened = openLibrary(library.getValue());  // before any thread is started: it forks
    if (!opened.isOk())
      return fail(opened.status());
    vendors = *opened;
  }
  auto targets = parseTargets(target, numerics, vendors);
  if (!targets.isOk())
    return targets.status().code() == girih::StatusCode::InvalidArgument ? usageError(std::string(targets.status().message()))
                                                                         : fail(targets.status());
  if (!printMachine.empty()) {
    mlir::MLIRContext context;
    context.loadDialect<girih::machine::MachineDialect>();
    auto backend = girih::compiler::CompilingBackend::create(*targets->front().backend);
    if (!backend.isOk())
      return fail(backend.status());
    auto described = backend->describe(&context, backend->targetOf(printMachine));
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
  options.targets = std::move(*targets);
  // What a vendor's backend declines the first built-in one does.
  if (vendors) {
    auto rest = parseTargets("", numerics, nullptr);
    if (!rest.isOk())
      return fail(rest.status());
    options.rest = std::move(*rest);
  }
  options.graphPath = graph;
  options.skippedPasses.assign(without.begin(), without.end());
  options.numerics = numerics;
  options.kvType = kv;
  options.quantizeTo = quantize;
  options.reportPath = report;
  options.dumpFolder = dump;
  options.codeCacheFolder = codeCache;
  options.judgesPasses = judge;
  options.hasGolden = !noGolden;
  options.givesHidden = embeddings;
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
