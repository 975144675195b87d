// SPDX-License-Identifier: Apache-2.0
// buildGraph: from an open checkpoint to the textbook graph of its model.
#include "models/build_graph.h"

#include "dialects/girih/dialect.h"
#include "models/graph_builder.h"
#include "models/registry.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "mlir/IR/Verifier.h"

namespace girih::models {
namespace {

// Buffers that older writers store besides the weights, and the rope table that the config holds.
bool isKnownBuffer(std::string_view name) {
  return name == "rope_freqs.weight" || name.ends_with(".rotary_emb.inv_freq");
}

// A tensor that nothing reads means that the graph computes something else than the checkpoint's model does.
Status checkAllUsed(const weights::WeightStore &store, const GraphBuilder &builder,
                    const ModelConfig &config) {
  constexpr size_t kMaxListed = 5;
  size_t numUnused = 0;
  std::string list;
  auto visit = [&](const std::string &name) {
    if (builder.usedTensors().count(name) || isKnownBuffer(name))
      return;
    if (++numUnused <= kMaxListed)
      list += (list.empty() ? "\"" : ", \"") + name + "\"";
  };
  for (const weights::StoredTensor &tensor : store.tensors())
    visit(tensor.name);
  for (const weights::UnreadableTensor &tensor : store.unreadableTensors())
    visit(tensor.name);
  if (numUnused == 0)
    return {};
  return unimplemented("the checkpoint holds " + std::to_string(numUnused) +
                       " tensors that the graph of family " + config.family + " does not use: " + list +
                       (numUnused > kMaxListed ? ", ..." : "") +
                       "; it may be a variant of the family that is not supported");
}

} // namespace

Expected<ImportedModel> buildGraph(mlir::MLIRContext *context, const weights::WeightStore &store) {
  context->loadDialect<dialect::GirihDialect, mlir::arith::ArithDialect, mlir::func::FuncDialect,
                       mlir::linalg::LinalgDialect, mlir::math::MathDialect, mlir::tensor::TensorDialect>();
  ImportedModel model;
  GIRIH_ASSIGN(model.config, readConfig(store));
  GIRIH_ASSIGN(model.generation, readGenerationDefaults(store));
  const FamilyRow *family = findFamilyByModelType(model.config.family);
  GIRIH_CHECK(family);

  GraphBuilder builder(context, store, model.config);
  family->build(builder);
  builder.buildMain(model.config.numLayers);
  GIRIH_TRY(builder.takeStatus());
  GIRIH_TRY(checkAllUsed(store, builder, model.config));
  model.module = builder.takeModule();
  if (mlir::failed(mlir::verify(*model.module)))
    return internalError("the graph built for family " + model.config.family + " does not verify");
  return model;
}

} // namespace girih::models
