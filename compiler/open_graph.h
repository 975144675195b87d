// SPDX-License-Identifier: Apache-2.0
// openGraph: the graph that is compiled, built from a checkpoint or read from a file beside it.
#pragma once

#include "models/build_graph.h"

#include <string>

namespace girih::compiler {

// With an empty `graphPath`, the textbook graph that `models` builds of the checkpoint. Else the MLIR file's, whose
// weights are tensors of `store` by name; what it says of the model stands in the attribute `girih.model` of @main,
// of which `maxPositions` and `numLayers` are read (0 layers: as many as get a cache). Fails: as buildGraph does;
// InvalidArgument (a file that does not parse, no logits [.., V], a weight whose shape or storage is not the
// checkpoint's), NotFound (a weight that the checkpoint lacks).
Expected<models::ImportedModel> openGraph(mlir::MLIRContext *context, const std::string &graphPath,
                                          const weights::WeightStore &store);

}  // namespace girih::compiler
