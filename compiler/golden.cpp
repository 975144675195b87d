// SPDX-License-Identifier: Apache-2.0
// A golden answer for the program file: what the f64 reference says of the imported graph.
#include "compiler/golden.h"

#include "backends/reference/evaluator.h"

#include <algorithm>
#include <numeric>

namespace girih::compiler {
namespace {

constexpr int64_t kPromptTokens = 6;   // a few positions attend to each other; more cost seconds on large models
constexpr int64_t kLargest = 16;       // the logits that decide the next token
constexpr int64_t kSpread = 48;        // and some from all over the vocabulary: a wrong panel shows

}  // namespace

Expected<program::Golden> referenceGolden(mlir::ModuleOp graph, const weights::WeightStore &store, int64_t vocabSize,
                                          float tolerance) {
  program::Golden golden;
  golden.tolerance = tolerance;
  golden.source = "reference f64";
  std::vector<double> tokens, positions;
  for (int64_t position = 0; position < kPromptTokens; ++position) {
    // Steps of about 0.618 of the vocabulary visit it evenly and repeat nothing.
    golden.promptTokens.push_back(static_cast<int32_t>((position + 1) * (vocabSize * 618 / 1000 + 1) % vocabSize));
    tokens.push_back(golden.promptTokens.back());
    positions.push_back(static_cast<double>(position));
  }
  std::vector<reference::Tensor> arguments = {reference::Tensor({kPromptTokens}, tokens),
                                              reference::Tensor({kPromptTokens}, positions)};
  GIRIH_ASSIGN(auto results, reference::evaluate(graph, "main", std::move(arguments), reference::weightsOf(store)));
  if (results.size() != 1 || results[0].numElements() != kPromptTokens * vocabSize)
    return internalError("the reference's logits do not fill " + std::to_string(kPromptTokens) + " x " +
                         std::to_string(vocabSize));
  const double *last = results[0].elements() + (kPromptTokens - 1) * vocabSize;
  std::vector<int32_t> order(vocabSize);
  std::iota(order.begin(), order.end(), 0);
  int64_t numLargest = std::min(kLargest, vocabSize);
  std::partial_sort(order.begin(), order.begin() + numLargest, order.end(),
                    [&](int32_t a, int32_t b) { return last[a] > last[b]; });
  golden.logitsIndex.assign(order.begin(), order.begin() + numLargest);
  for (int64_t index = 0; index < kSpread; ++index)
    golden.logitsIndex.push_back(static_cast<int32_t>(index * vocabSize / kSpread));
  for (int32_t token : golden.logitsIndex)
    golden.logits.push_back(static_cast<float>(last[token]));
  return golden;
}

}  // namespace girih::compiler
