// SPDX-License-Identifier: Apache-2.0
// compileCheckpoint: the library entry of the compiler: a checkpoint in, a .girih file out.
#include "compiler/compile.h"

#include "compiler/backend.h"
#include "compiler/check_lookups.h"
#include "compiler/code_cache.h"
#include "compiler/emit/pack_weights.h"
#include "compiler/emit/read_text_assets.h"
#include "compiler/golden.h"
#include "compiler/judge_passes.h"
#include "compiler/open_graph.h"
#include "compiler/pipeline.h"
#include "compiler/report.h"
#include "compiler/share_step.h"
#include "dialects/girih/activation_block.h"
#include "dialects/girih/dialect.h"
#include "dialects/machine/json.h"
#include "dialects/register.h"
#include "runtime/base/sha256.h"
#include "runtime/weights/packed_layout.h"
#include "runtime/weights/quantize_blocks.h"

#include "mlir/IR/BuiltinOps.h"
#include "mlir/IR/Diagnostics.h"
#include "mlir/Pass/PassManager.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/ADT/Twine.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/Format.h"
#include "llvm/Support/MemoryBuffer.h"
#include "llvm/Support/Path.h"

#include <future>
#include <set>
#include <thread>

using namespace mlir;

namespace girih::compiler {
namespace {

constexpr float kExactTolerance = 2e-3f;     // of a logit: f32 against f64, measured 1.2e-4 on the default model
constexpr float kHalfCacheTolerance = 0.25f;  // with K and V rounded to f16, measured 0.058 there
// Of the spread (standard deviation) of the logits, with activations of 8 bits.
constexpr float kQuantizedTolerance = 0.5f;
constexpr int32_t kLargerVectorsFirst = 10;  // step of Executable::preference from one ISA to the next

// Keeps the errors of MLIR, with their locations and notes, for the Status.
class DiagnosticLog {
public:
  explicit DiagnosticLog(MLIRContext *context)
      : handler(context, [this](Diagnostic &diagnostic) {
          if (diagnostic.getSeverity() == DiagnosticSeverity::Error)
            append(diagnostic);
          return success();
        }) {}
  Status failure(std::string_view what) const {
    return internalError(std::string(what) + (text.empty() ? " failed without saying why" : ": " + text));
  }

private:
  void append(Diagnostic &diagnostic) {
    llvm::raw_string_ostream stream(text);
    if (!text.empty())
      stream << "; ";
    stream << diagnostic.getLocation() << ": " << diagnostic.str();
  }
  std::string text;
  ScopedDiagnosticHandler handler;
};

// One target's way through the ladder.
struct CompiledTarget {
  CompilingBackend backend;
  std::string target;  // backend:variant
  std::string isa;     // the variant; a backend may have none
  const std::string &name() const { return isa.empty() ? target : isa; }
  OwningOpRef<ModuleOp> module;  // scheduled step
  CompiledStep step;
  // Where it declines some of the operations: how the step is shared, and the other parts, a variant each.
  std::optional<SharedStep> shared;
  std::vector<CompiledTarget> rests;
};

class Compilation {
public:
  explicit Compilation(const CompileOptions &options) : options(options) {
    DialectRegistry registry;
    dialect::registerDialects(registry);
    context.appendDialectRegistry(registry);
    context.loadAllAvailableDialects();
    if (!options.skippedPasses.empty())
      skipPasses();
  }

  Status run() {
    GIRIH_TRY(checkOptions());
    step("reading the checkpoint", 0.0);
    GIRIH_ASSIGN(auto opened, weights::WeightStore::open(options.inputPath));
    store = std::make_unique<weights::WeightStore>(std::move(opened));
    if (quantizeTo) {
      step("quantising the weights", 0.02);
      GIRIH_TRY(store->quantize(*quantizeTo).withContext(options.inputPath));
    }
    GIRIH_ASSIGN(model, openGraph(&context, options.graphPath, *store));
    if (options.judgesPasses)
      GIRIH_TRY(judgePasses(options.targets.front()));
    if (options.hasGolden) {
      step("asking the reference for golden answers", 0.03);
      float tolerance = kvType == "f32" ? kExactTolerance : kHalfCacheTolerance;
      float ofSpread = options.numerics == "exact" ? 0 : kQuantizedTolerance;
      GIRIH_ASSIGN(goldens, referenceGoldens(*model.module, *store, model.config.vocabSize, {tolerance, ofSpread}));
    }
    GIRIH_TRY(raiseGraph());
    for (const CompileTarget &target : options.targets)
      GIRIH_TRY(schedule(target));
    GIRIH_TRY(emit());
    return writeProgram();
  }

private:
  void step(std::string_view stage, double share) const {
    if (options.progress)
      options.progress(stage, share);
  }

  Status checkSkippedPasses() const {
    for (const std::string &pass : options.skippedPasses)
      if (!llvm::is_contained(optionalPasses(), pass))
        return invalidArgument("--without names \"" + pass + "\"; what can be left out is " +
                               llvm::join(optionalPasses(), ", "));
    return {};
  }

  void skipPasses() {
    context.registerActionHandler([this](llvm::function_ref<void()> run, const tracing::Action &action) {
      auto *pass = dyn_cast<PassExecutionAction>(&action);
      if (!pass || !llvm::is_contained(options.skippedPasses, pass->getPass().getArgument().str()))
        run();
    });
  }

  Status checkOptions() {
    if (options.numerics != "exact" && options.numerics != "invariant" && options.numerics != "fast")
      return invalidArgument("numerics is \"" + options.numerics + "\"; it is exact, invariant or fast");
    if (!options.quantizeTo.empty()) {
      const weights::FormatRow *row = weights::findFormatByName(options.quantizeTo);
      if (!row || !weights::isWritable(row->format))
        return invalidArgument("quantize is \"" + options.quantizeTo + "\"; weights are quantised to " +
                               weights::writableFormatNames());
      quantizeTo = row->format;
    }
    kvType = !options.kvType.empty() ? options.kvType : options.numerics == "exact" ? "f32" : "f16";
    if (kvType != "f32" && kvType != "f16" && kvType != "int8")
      return invalidArgument("KV type is \"" + kvType + "\"; it is f32, f16 or int8");
    if (options.numerics == "exact" && kvType != "f32")
      return invalidArgument("numerics exact keeps the KV cache in f32, not in " + kvType + "; leave --kv out, or use "
                             "--numerics fast");
    if (options.targets.empty())
      return invalidArgument("no variant to compile for; a target stands for one at least");
    std::set<std::string> variants;  // by which --isa and the report name an executable
    for (const CompileTarget &target : options.targets)
      if (!variants.insert(target.variant).second)
        return invalidArgument("two targets have a variant \"" + target.variant + "\"; a file has each name once");
    return checkSkippedPasses();
  }

  // Runs the ladder once more, on a cut-down copy, before the real one.
  Status judgePasses(const CompileTarget &target) {
    step("judging every pass", 0.02);
    GIRIH_ASSIGN(auto backend, CompilingBackend::create(*target.backend));
    GIRIH_ASSIGN(PassJudge judge, PassJudge::create(*model.module, reference::weightsOf(*store)));
    PassManager machineFree(&context), forMachine(&context);
    buildMachineFreeLadder(machineFree, {.kvElement = kvType, .maxTokens = rowCounts(), .givesHidden = options.givesHidden});
    GIRIH_TRY(judge.run(machineFree));
    GIRIH_ASSIGN(auto machine, machineFor(backend, backend.targetOf(target.variant)));
    judge.module()->setAttr("girih.machine", machine);
    judge.module()->setAttr("girih.numerics", StringAttr::get(&context, options.numerics));
    buildMachineLadder(forMachine);
    GIRIH_TRY(judge.run(forMachine));
    for (const Verdict &verdict : judge.verdicts())
      llvm::errs() << llvm::format("girih compile: %-28s changed the logits by %.1e of the largest\n", verdict.pass.c_str(),
                                   verdict.difference);
    return {};
  }

  // What holds for every machine: import, raise, specialize, fuse.
  Status raiseGraph() {
    step("raising the graph", 0.05);
    DiagnosticLog log(&context);
    PassManager pipeline(&context);
    LadderOptions ladder{.kvElement = kvType, .maxTokens = rowCounts(), .givesHidden = options.givesHidden};
    (*model.module)->setAttr("girih.numerics", StringAttr::get(&context, options.numerics));
    buildMachineFreeLadder(pipeline, ladder);
    addDumps(pipeline, "");
    OwningOpRef<ModuleOp> imported = model.module->clone();
    if (failed(pipeline.run(*model.module)))
      return log.failure("raising the graph of \"" + options.inputPath + "\"");
    GIRIH_TRY(checkLookups(*model.module, model.config.vocabSize, model.config.maxPositions));
    return checkRecompute(*imported);
  }

  // A graph without a cache runs by computing its prefix again, which is right only where no token sees later ones.
  Status checkRecompute(ModuleOp imported) {
    ModuleOp module = *model.module;
    if (!module->hasAttr("girih.recompute"))
      return {};
    std::string reasons;
    if (auto notes = module->getAttrOfType<ArrayAttr>("girih.notes"))
      for (auto note : notes.getAsRange<StringAttr>())
        reasons += "; " + note.str();
    GIRIH_ASSIGN(std::string difference, differenceByLaterTokens(imported, *store, model.config.vocabSize));
    if (difference.empty())
      return {};
    return unimplemented("the graph is not causal, so it cannot generate: " + difference + reasons);
  }

  std::vector<int64_t> rowCounts() const {
    std::vector<int64_t> counts;
    for (int64_t count : {int64_t(1), int64_t(8), int64_t(16), int64_t(64)})
      if (count < options.maxTokensPerStep)
        counts.push_back(count);
    counts.push_back(options.maxTokensPerStep);
    return counts;
  }

  static Expected<CompiledTarget> begin(const CompileTarget &target) {
    GIRIH_ASSIGN(auto backend, CompilingBackend::create(*target.backend));
    return CompiledTarget{backend, backend.targetOf(target.variant), target.variant, {}, {}, {}, {}};
  }

  // One target's step, and what it declines as the rest's.
  Status schedule(const CompileTarget &target) {
    GIRIH_ASSIGN(CompiledTarget result, begin(target));
    step("scheduling for " + result.target, 0.1 + 0.1 * double(compiled.size()) / double(options.targets.size()));
    GIRIH_ASSIGN(result.shared, shareStep(*model.module, result.backend, result.target));
    result.module = result.shared ? std::move(result.shared->own) : model.module->clone();
    GIRIH_ASSIGN(auto machine, machineFor(result.backend, result.target));
    GIRIH_TRY(lower(result, machine));
    if (result.shared)
      GIRIH_TRY(scheduleRests(result, target));
    compiled.push_back(std::move(result));
    return {};
  }

  Status scheduleRests(CompiledTarget &of, const CompileTarget &target) {
    if (options.rest.empty() || options.rest.front().backend == target.backend)
      return unimplemented(of.target + " declines " + of.shared->declined.front() + "; no other backend is there for it");
    for (const CompileTarget &other : options.rest) {
      GIRIH_ASSIGN(CompiledTarget rest, begin(other));
      step("scheduling for " + rest.target + " what " + of.target + " declines", 0.2);
      rest.module = of.shared->rest->clone();
      GIRIH_ASSIGN(auto machine, rest.backend.describe(&context, rest.target));
      GIRIH_TRY(lower(rest, machine));
      of.rests.push_back(std::move(rest));
    }
    return {};
  }

  // tile and allocate.
  Status lower(CompiledTarget &target, machine::DescriptionAttr machine) {
    (*target.module)->setAttr("girih.machine", machine);
    DiagnosticLog log(&context);
    PassManager pipeline(&context);
    buildMachineLadder(pipeline);
    addDumps(pipeline, target.isa);
    return succeeded(pipeline.run(*target.module)) ? Status() : log.failure("tiling for " + target.target);
  }

  // Code for all targets, each by a thread of its own: a compilation sees nothing but its bytecode.
  Status emit() {
    std::string names;
    for (const CompiledTarget &target : compiled)
      names += (names.empty() ? "" : ", ") + target.name();
    step("generating code for " + names, 0.2);
    CodeCache cache(options.codeCacheFolder);
    std::vector<std::future<Status>> running;  // ends before what it refers to
    std::vector<CompiledTarget *> all;
    for (CompiledTarget &target : compiled) {
      all.push_back(&target);
      for (CompiledTarget &rest : target.rests)
        all.push_back(&rest);
    }
    for (CompiledTarget *each : all) {
      CompiledTarget &target = *each;
      std::string key = cache.keyOf(*target.module, target.target, target.backend.file());
      if (auto kept = cache.find(key)) {
        target.step = std::move(*kept);
        step("taking the code for " + target.name() + " from the cache", 0.3);
        continue;
      }
      running.push_back(std::async(std::launch::async, [&target, &cache, key]() -> Status {
        GIRIH_ASSIGN(target.step, target.backend.compile(*target.module, target.target));
        cache.keep(key, target.step);
        return {};
      }));
    }
    Status status;
    for (std::future<Status> &one : running)
      if (Status ended = one.get(); status.isOk())
        status = std::move(ended);
    return status;
  }

  Expected<machine::DescriptionAttr> machineFor(const CompilingBackend &backend, const std::string &target) {
    if (options.machineJson.empty())
      return backend.describe(&context, target);
    std::string error;
    machine::DescriptionAttr described = machine::parseJson(&context, options.machineJson, error);
    if (!described)
      return invalidArgument(error);
    return described;
  }

  void addDumps(PassManager &pipeline, StringRef isa) {
    if (options.dumpFolder.empty())
      return;
    context.disableMultithreading();
    std::string folder = (Twine(options.dumpFolder) + "/" + (isa.empty() ? "graph" : isa)).str();
    (void)llvm::sys::fs::create_directories(folder);  // else the printer says for every pass that it cannot
    pipeline.enableIRPrintingToFileTree([](Pass *, Operation *) { return false; },
                                        [](Pass *, Operation *) { return true; }, true, false, false, folder);
  }

  static int64_t integer(ModuleOp module, StringRef name) {
    auto attribute = module->getAttrOfType<IntegerAttr>(name);
    return attribute ? attribute.getInt() : 0;
  }

  static std::vector<PlannedWeight> plannedWeights(ModuleOp module) {
    std::vector<PlannedWeight> plan;
    for (auto record : module->getAttrOfType<ArrayAttr>("girih.weights").getAsRange<DictionaryAttr>()) {
      PlannedWeight weight;
      for (auto name : record.getAs<ArrayAttr>("names").getAsRange<StringAttr>())
        weight.names.push_back(name.str());
      weight.interleave = record.getAs<IntegerAttr>("interleave").getInt();
      weight.layout = record.getAs<StringAttr>("layout").str();
      auto shape = record.getAs<DenseI64ArrayAttr>("shape").asArrayRef();
      weight.shape.assign(shape.begin(), shape.end());
      weight.offsetBytes = record.getAs<IntegerAttr>("offset").getInt();
      weight.sizeBytes = record.getAs<IntegerAttr>("size").getInt();
      plan.push_back(std::move(weight));
    }
    return plan;
  }

  Status writeProgram() {
    step("packing the weights", 0.5);
    ModuleOp first = *compiled.front().module;
    for (CompiledTarget &isa : compiled)
      if ((*isa.module)->getAttr("girih.weights") != first->getAttr("girih.weights"))
        return internalError("executables disagree on where the weights are");
    std::vector<PlannedWeight> plan = plannedWeights(first);
    GIRIH_ASSIGN(auto writer, ProgramWriter::create(options.outputPath));
    int32_t threads = options.numThreads > 0 ? options.numThreads : int32_t(std::thread::hardware_concurrency());
    GIRIH_TRY(packWeights(*store, plan, *writer, std::max(1, threads),
                          [&](double share) { step("packing the weights", 0.5 + 0.45 * share); }));
    program::Tables tables;
    GIRIH_ASSIGN(TextAssets text, readTextAssets(*store));
    fillModel(tables, first);
    fillExecutables(tables, plan);
    fillText(tables, text);
    fillReport(tables, first);
    tables.goldens = goldens;
    tables.digest = digestOf(writer->tensors());
    step("writing " + options.outputPath, 0.97);
    GIRIH_TRY(writer->finish(tables));
    if (!options.reportPath.empty())
      GIRIH_TRY(writeReport(options.reportPath, tables, writer->tensors()));
    step("done", 1.0);
    return {};
  }

  void fillModel(program::Tables &tables, ModuleOp module) const {
    const models::ModelConfig &config = model.config;
    tables.compiler = "girih 0.1.0, LLVM 22.1";
    program::Model &m = tables.model;
    m.name = llvm::sys::path::stem(options.inputPath).str();
    m.architecture = config.family;
    m.numerics = options.numerics;
    m.kvType = kvType;
    m.vocabSize = uint32_t(config.vocabSize);
    m.numLayers = uint32_t(config.numLayers ? config.numLayers : integer(module, "girih.kv_layers"));
    m.maxPositions = uint32_t(config.maxPositions);
    m.maxTokensPerStep = uint32_t(options.maxTokensPerStep);
    m.maxLogitRows = uint32_t(options.maxTokensPerStep);
    m.kvBlockBytes = uint64_t(integer(module, "girih.kv_block_bytes"));
    m.recompute = module->hasAttr("girih.recompute");
    m.hiddenSize = uint32_t(integer(module, "girih.hidden_size"));
    for (const weights::StoredTensor &tensor : store->tensors())
      m.numParameters += uint64_t(tensor.numElements);
  }

  // Every kernel keeps one order of operations whatever its tiles (docs of girih.qmatmul), so a token's result depends on
  // the rest of the step only where the number of tokens chooses between entries of different arithmetic.
  static bool hasOneArithmetic(ModuleOp module) {
    WalkResult result = module.walk([](Operation *op) {
      auto matmul = dyn_cast<dialect::QMatmulOp>(op);
      auto codes = dyn_cast<dialect::QuantizeRowsOp>(op);
      bool isOfThisEntry =
          (matmul && (getElementTypeOrSelf(matmul.getX()).isBF16() || matmul->hasAttr(dialect::kRoundedScalesName))) || (codes && codes.getBothDigits());
      return isOfThisEntry ? WalkResult::interrupt() : WalkResult::advance();
    });
    return !result.wasInterrupted();
  }

  static void fillCode(program::Executable &executable, const CompiledTarget &from, const std::set<uint64_t> &layouts,
                       int32_t preference) {
    executable.backend = from.backend.name();
    executable.isa = from.isa;
    executable.requiredFeatures = from.step.requiredFeatures;
    executable.format = from.step.format;
    executable.image = from.step.image;
    executable.arenaBytes = from.step.arenaBytes;
    executable.scratchBytesPerThread = from.step.scratchBytesPerThread;
    executable.layoutIds.assign(layouts.begin(), layouts.end());
    executable.preference = preference;
  }

  static void fillEntries(program::Executable &executable, ModuleOp module) {
    bool isInvariant = hasOneArithmetic(module);
    module.walk([&](func::FuncOp function) {
      if (auto maxTokens = function->getAttrOfType<IntegerAttr>("girih.max_tokens"))
        (function->hasAttr("girih.gives") ? executable.hiddenEntries : executable.entries)
            .push_back({function.getName().str(), uint32_t(maxTokens.getInt()), isInvariant});
    });
  }

  // The other backend's variants have the same parts.
  static void fillRests(program::Executable &executable, const CompiledTarget &from, const std::set<uint64_t> &layouts) {
    bool isInvariant = hasOneArithmetic(*from.module);
    program::Executable parts = std::move(executable.rests.front());
    executable.rests.clear();
    for (const CompiledTarget &rest : from.rests) {
      isInvariant &= hasOneArithmetic(*rest.module);
      int32_t preference = kLargerVectorsFirst * int32_t(executable.rests.size() + 1);
      fillCode(executable.rests.emplace_back(parts), rest, layouts, preference);
    }
    for (std::vector<program::Entry> *entries : {&executable.entries, &executable.hiddenEntries})
      for (program::Entry &entry : *entries)
        entry.isInvariant = isInvariant;
  }

  void fillExecutables(program::Tables &tables, const std::vector<PlannedWeight> &plan) const {
    std::set<uint64_t> layouts;
    for (const PlannedWeight &weight : plan)
      layouts.insert(program::layoutIdOf(weight.layout));
    int32_t preference = 0;
    for (const CompiledTarget &isa : compiled) {
      program::Executable executable = isa.shared ? isa.shared->schedules : program::Executable();
      fillCode(executable, isa, layouts, preference += kLargerVectorsFirst);
      if (isa.shared)
        fillRests(executable, isa, layouts);
      else
        fillEntries(executable, *isa.module);
      tables.executables.push_back(std::move(executable));
    }
    // Of the first backend that was named, the best variant's.
    auto isOfFirst = [&](const CompiledTarget &one) { return one.backend.name() == compiled.front().backend.name(); };
    ModuleOp best = *std::find_if(compiled.rbegin(), compiled.rend(), isOfFirst)->module;
    tables.machineJson = machine::printJson(best->getAttrOfType<machine::DescriptionAttr>("girih.machine"));
  }

  void fillText(program::Tables &tables, const TextAssets &text) {
    tables.chatTemplate = text.chatTemplate;
    tables.bosText = text.bosText;
    tables.eosText = text.eosText;
    const models::GenerationDefaults &defaults = model.generation;
    if (text.tokenizer) {
      tokenizer = text.tokenizer;
      tables.tokenizer.kind = std::string(tokenizer->kind());
      auto bytes = tokenizer->serialize();
      tables.tokenizer.payload = {reinterpret_cast<const uint8_t *>(bytes.data()), bytes.size()};
      tables.tokenizer.bosToken = tokenizer->bosToken();
      tables.tokenizer.addBos = tokenizer->addsBos();
      tables.tokenizer.addEos = tokenizer->addsEos();
    } else {
      tables.notes.push_back({"tokenizer", "only token ids can be fed: " + text.note});
    }
    if (defaults.bosToken && tables.tokenizer.bosToken < 0)
      tables.tokenizer.bosToken = *defaults.bosToken;
    tables.tokenizer.eosTokens = defaults.eosTokens;
    if (defaults.eosTokens.empty() && tokenizer && tokenizer->eosToken() >= 0)
      tables.tokenizer.eosTokens = {tokenizer->eosToken()};
    tables.generation.hasSampling = defaults.doSample.value_or(false);
    if (tables.generation.hasSampling) {
      tables.generation.temperature = float(defaults.temperature.value_or(1.0));
      tables.generation.topK = int32_t(defaults.topK.value_or(0));
      tables.generation.topP = float(defaults.topP.value_or(1.0));
      tables.generation.minP = float(defaults.minP.value_or(0.0));
    }
    tables.generation.repetitionPenalty = float(defaults.repetitionPenalty.value_or(1.0));
  }

  void fillReport(program::Tables &tables, ModuleOp module) const {
    for (const CompiledTarget &isa : compiled) {
      appendDispatches(*isa.module, isa.isa, isa.step.work, tables.dispatches);
      for (const CompiledTarget &rest : isa.rests)
        appendDispatches(*rest.module, rest.isa, rest.step.work, tables.dispatches);
      for (size_t index = 0; isa.shared && index < isa.shared->declined.size(); ++index)
        tables.notes.push_back({"sharing", isa.target + " leaves to " + isa.rests.front().backend.name() + ": " +
                                               isa.shared->declined[index]});
    }
    if (auto notes = module->getAttrOfType<ArrayAttr>("girih.notes"))
      for (auto note : notes.getAsRange<StringAttr>())
        tables.notes.push_back({"compiler", note.str()});
  }

  // Keys KV caches: the same weights compiled with the same options give the same digest.
  std::vector<uint8_t> digestOf(const std::vector<program::Tensor> &tensors) const {
    Sha256 hash;
    hash.update("girih program 1\n" + options.numerics + "\n" + kvType + "\n" + model.config.family + "\n");
    for (const program::Tensor &tensor : tensors)
      hash.update(tensor.name + " " + tensor.layout + " " + std::to_string(tensor.sizeBytes) + " " +
                  std::to_string(tensor.crc32c) + "\n");
    Sha256Digest digest = hash.finish();
    return {digest.begin(), digest.end()};
  }

  const CompileOptions &options;
  std::string kvType;
  std::optional<weights::StorageFormat> quantizeTo;
  MLIRContext context;
  std::unique_ptr<weights::WeightStore> store;
  models::ImportedModel model;
  std::vector<CompiledTarget> compiled;
  std::vector<program::Golden> goldens;
  std::optional<Tokenizer> tokenizer;
};

}  // namespace

Status compileCheckpoint(const CompileOptions &options) {
  return Compilation(options).run().withContext("compiling \"" + options.inputPath + "\"");
}

}  // namespace girih::compiler
