// SPDX-License-Identifier: Apache-2.0
// Golden answers for the program file: what the f64 reference says of the imported graph.
#pragma once

#include "runtime/program/tables.h"
#include "runtime/weights/weight_store.h"

#include "mlir/IR/BuiltinOps.h"

namespace girih::compiler {

// What a program's logits may differ by: the larger of a number and a share of the logits' standard deviation.
struct GoldenTolerance {
  float absolute;
  float ofSpread;
};

// Evaluates @main of the textbook graph, before any pass has seen it, once, on a few token ids spread over the
// vocabulary: a prompt, and the same with one, two and three tokens more, so that who answers them in turn prefills and
// then decodes. Keeps the largest logits of the last position of each and some others, and the greedy continuation of
// the last as far as rounding cannot change it (one token where the model is large). Fails as the reference does.
Expected<std::vector<program::Golden>> referenceGoldens(mlir::ModuleOp graph, const weights::WeightStore &store,
                                                        int64_t vocabSize, GoldenTolerance tolerance);

// What becomes of a token's logits when others follow it: empty when nothing does, for tokens spread over the
// vocabulary, else a sentence. Fails as the reference does.
Expected<std::string> differenceByLaterTokens(mlir::ModuleOp graph, const weights::WeightStore &store,
                                              int64_t vocabSize);

}  // namespace girih::compiler
