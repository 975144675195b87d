// SPDX-License-Identifier: Apache-2.0
// The way from a scheduled step to an image.
#include "backends/vulkan/codegen/backend.h"

#include "backends/vulkan/codegen/image_writer.h"

#include "mlir/Dialect/Linalg/Passes.h"
#include "mlir/Pass/PassManager.h"

using namespace mlir;

namespace girih::vulkan {
namespace {

uint64_t bytesOf(ModuleOp module, StringRef name) {
  auto attribute = module->getAttrOfType<IntegerAttr>(name);
  return attribute ? uint64_t(attribute.getInt()) : 0;
}

} // namespace

Expected<StepImage> compileStepModule(ModuleOp module, StringRef profile) {
  // One kind of elementwise operation to lower.
  PassManager pipeline(module.getContext());
  pipeline.addNestedPass<func::FuncOp>(createLinalgGeneralizeNamedOpsPass());
  if (failed(pipeline.run(module)))
    return invalidArgument("the step's operations cannot be made general ones");
  if (module->hasAttr("girih.slot_bytes"))
    return unimplemented("a part of a step, whose other parts another backend runs, has no form as commands yet");
  StepImage image;
  const ShaderTraits traits = traitsOf(profile);
  std::vector<Kernel> kernels;
  std::vector<PlannedEntry> entries;
  for (auto function : module.getOps<func::FuncOp>()) {
    if (!function->hasAttr("girih.entry"))
      continue;
    GIRIH_ASSIGN(PlannedEntry entry, planCommands(function, traits, kernels));
    image.entries.push_back(entry.name);
    entries.push_back(std::move(entry));
  }
  if (entries.empty())
    return invalidArgument("the step module has no function with attribute girih.entry");
  image.arenaBytes = bytesOf(module, "girih.arena_bytes") + bytesOf(module, "girih.scratch_bytes");
  image.bytes = writeImage(kernels, entries, image.arenaBytes, traits.readsTexels ? kReadsTexels : 0);
  return image;
}

} // namespace girih::vulkan
