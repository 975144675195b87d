// SPDX-License-Identifier: Apache-2.0
// The CPU backend's compile half: target rows, and the way from a scheduled step to an image.
#include "backends/cpu/codegen/backend.h"

#include "backends/cpu/codegen/cache_fetch.h"
#include "backends/cpu/codegen/emit_object.h"
#include "backends/cpu/codegen/lower_attention.h"
#include "backends/cpu/codegen/lower_qmatmul.h"
#include "backends/cpu/codegen/microkernels/dot_generator.h"
#include "backends/cpu/codegen/microkernels/isa_table.h"
#include "backends/cpu/codegen/microkernels/rounded_dot_generator.h"
#include "backends/cpu/codegen/microkernels/tile_generator.h"
#include "backends/cpu/codegen/passes.h"
#include "dialects/girih/activation_block.h"
#include "dialects/girih/dialect.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/Diagnostics.h"
#include "mlir/IR/Verifier.h"
#include "mlir/Pass/PassManager.h"

using namespace mlir;

namespace girih::cpu {

Expected<CpuTarget> cpuTarget(const std::string &name) {
  const IsaTraits *isa = name == "native" ? hostIsa() : findIsa(name);
  if (!isa && name == "native")
    return unavailable("this machine has neither AVX2 with FMA and F16C nor NEON; those are the least a step needs");
  if (!isa)
    return notFound("CPU variant \"" + name + "\" is not known; " + isaNames() + " are, and native");
  const Architecture &architecture = *isa->architecture;
  CpuTarget target;
  target.isa = isa->name.str();
  target.triple = architecture.triple.str();
  target.llvmCpu = architecture.baseCpu.empty() ? isa->cpu.str() : architecture.baseCpu.str();
  target.tuneCpu = isa->cpu.str();
  target.llvmFeatures = isa->features.str();
  target.imageFormat = architecture.imageFormat.str();
  SmallVector<StringRef> features;
  isa->features.split(features, ',');
  for (StringRef feature : features)
    if (feature.consume_front("+"))
      target.required.push_back(feature.str());
  if (isa->dots == ByteDots::Unsigned4)
    target.llvmFeatures += ",+fast-dpwssd"; // tuning: vpdpwssd is not made vpmaddwd and vpaddd
  return target;
}

int64_t kernelScratchBytes(Operation *module) {
  int64_t bytes = 0;
  module->walk([&](dialect::QMatmulOp op) {
    TileShape shape{1, int64_t(op.getColumnTile().value_or(32)) / kLanes, int64_t(op.getKTile().value_or(128))};
    if (op.getStrategy() != "panel")
      return;
    auto weight = dyn_cast<dialect::PackedType>(op.getW().getType());
    auto layout = weights::PackedLayout::parse(weight ? std::string_view(weight.getLayout()) : std::string_view());
    bool isQuantized = getElementTypeOrSelf(op.getX().getType()).isInteger(8) && layout.isOk();
    auto dotBytes = op->hasAttr(dialect::kRoundedScalesName) ? RoundedDotGenerator::scratchBytes : dotScratchBytes;
    bytes = std::max(bytes, isQuantized ? dotBytes(*layout, shape, weight.getDepth()) : panelScratchBytes(shape));
  });
  for (auto [op, frame] : tileFramesOf(module))
    bytes = std::max(bytes, frame);
  module->walk([&](dialect::AttentionOp op) { bytes = std::max(bytes, attentionScratch(op)); });
  // Before all others, which take theirs from the end.
  return llvm::alignTo(bytes, 64) + CacheFetch::scratchBytes(cast<ModuleOp>(module));
}

static std::vector<std::string> entriesOf(ModuleOp module) {
  std::vector<std::string> entries;
  for (auto function : module.getOps<func::FuncOp>())
    if (function->hasAttr("girih.entry"))
      entries.push_back(function.getName().str());
  return entries;
}

Expected<StepImage> compileStepModule(ModuleOp module, const CpuTarget &target) {
  StepImage image;
  image.entries = entriesOf(module);
  if (image.entries.empty())
    return invalidArgument("the step module has no function with attribute girih.entry");
  DialectRegistry registry;
  registerCpuDialects(registry);
  module.getContext()->appendDialectRegistry(registry);
  OwningOpRef<ModuleOp> clone(cast<ModuleOp>(module->clone()));
  std::string message;
  ScopedDiagnosticHandler handler(module.getContext(), [&](Diagnostic &diagnostic) {
    if (diagnostic.getSeverity() == DiagnosticSeverity::Error)
      message += (message.empty() ? "" : "; ") + diagnostic.str();
    return failure();  // the context's own handler sees it too
  });
  PassManager pipeline(module.getContext());
  buildLoweringPipeline(pipeline, target.isa);
  pipeline.enableVerifier(false);  // after every pass it costs a third of the time; once at the end is enough
  if (failed(pipeline.run(*clone)) || failed(verify(*clone)))
    return invalidArgument("the step does not lower to " + target.isa + ": " + message);
  image.work = countedWork(*clone);
  GIRIH_ASSIGN(auto objects, emitObjects(*clone, target, image.entries));
  GIRIH_ASSIGN(image.bytes, linkImage(objects, target));
  GIRIH_TRY(checkImage(image.bytes, target));
  return image;
}

}  // namespace girih::cpu
