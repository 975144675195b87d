// SPDX-License-Identifier: Apache-2.0
// buildGraph: from an open checkpoint to the textbook graph of its model.
#pragma once

#include "models/config.h"
#include "runtime/weights/weight_store.h"

#include "mlir/IR/BuiltinOps.h"
#include "mlir/IR/OwningOpRef.h"

namespace girih::models {

struct ImportedModel {
  mlir::OwningOpRef<mlir::ModuleOp> module;
  ModelConfig config;
  GenerationDefaults generation;
};

// The module holds `func.func @main(%tokens: tensor<?xi32>, %positions: tensor<?xi32>) -> tensor<?xVxf32>`
// for one sequence, with the attribute `girih.model`, and the private functions it calls: @embed, @rotary,
// @layer_0 ..,
// @head. Weights are `girih.weight` ops that name tensors of `store`; no weight's bytes are in the IR. Loads
// the dialects it needs into `context`. Fails: as readConfig; NotFound (a tensor is missing), InvalidArgument
// (a tensor's shape), Unimplemented (the checkpoint holds tensors that the family's graph has no use for: it
// is another model than it says).
Expected<ImportedModel> buildGraph(mlir::MLIRContext *context, const weights::WeightStore &store);

} // namespace girih::models
