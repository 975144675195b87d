// SPDX-License-Identifier: Apache-2.0
// Golden answers for the program file: what the f64 reference says of the imported graph.
#include "compiler/golden.h"

#include "backends/reference/evaluator.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace girih::compiler {
namespace {

constexpr int64_t kPromptTokens = 6;   // a few positions attend to each other; more cost seconds on large models
constexpr int64_t kDecodeSteps = 3;    // tokens that follow it one by one
constexpr int64_t kLargest = 16;       // the logits that decide the next token
constexpr int64_t kSpread = 48;        // and some from all over the vocabulary: a wrong panel shows
constexpr size_t kOutputTokens = 4;    // the greedy continuation, where another evaluation is cheap
constexpr int64_t kCheapElements = int64_t{1} << 24;  // weights that one more evaluation in f64 may read, about 0.1 s

class Asker {
public:
  Asker(mlir::ModuleOp graph, const weights::WeightStore &store, int64_t vocabSize)
      : graph(graph), weights(reference::weightsOf(store)), vocabSize(vocabSize) {}

  // [V], the logits after the last token.
  Expected<std::vector<double>> logitsAfter(const std::vector<int32_t> &ids) {
    return logitsAt(ids, ids.size() - 1);
  }

  // [V], the logits after token number `position`.
  Expected<std::vector<double>> logitsAt(const std::vector<int32_t> &ids, size_t position) {
    GIRIH_ASSIGN(auto rows, logitsFrom(ids, position));
    return std::move(rows.front());
  }

  // The logits after token number `position` and after each that follows, from one evaluation.
  Expected<std::vector<std::vector<double>>> logitsFrom(const std::vector<int32_t> &ids, size_t position) {
    auto numTokens = static_cast<int64_t>(ids.size());
    std::vector<double> tokens(ids.begin(), ids.end()), positions(ids.size());
    std::iota(positions.begin(), positions.end(), 0.0);
    auto main = graph.lookupSymbol<mlir::func::FuncOp>("main");
    std::vector<reference::Tensor> arguments;
    // A graph from another importer may take a batch, which here is one.
    for (mlir::Type type : main.getArgumentTypes()) {
      std::vector<int64_t> shape(mlir::cast<mlir::ShapedType>(type).getRank(), 1);
      shape.back() = numTokens;
      arguments.emplace_back(shape, arguments.empty() ? tokens : positions);
    }
    GIRIH_ASSIGN(auto results, reference::evaluate(graph, "main", std::move(arguments), weights));
    if (results.empty() || results[0].numElements() != numTokens * vocabSize)
      return internalError("the reference's logits do not fill " + std::to_string(numTokens) + " x " +
                           std::to_string(vocabSize));
    std::vector<std::vector<double>> rows;
    for (const double *elements = results[0].elements(); position < ids.size(); ++position)
      rows.emplace_back(elements + int64_t(position) * vocabSize, elements + int64_t(position + 1) * vocabSize);
    return rows;
  }

private:
  mlir::ModuleOp graph;
  reference::WeightProvider weights;
  int64_t vocabSize;
};

// Steps of about 0.618 of the vocabulary visit it evenly and repeat nothing.
std::vector<int32_t> spreadTokens(int64_t count, int64_t vocabSize) {
  std::vector<int32_t> tokens;
  for (int64_t position = 0; position < count; ++position)
    tokens.push_back(static_cast<int32_t>((position + 1) * (vocabSize * 618 / 1000 + 1) % vocabSize));
  return tokens;
}

// The most likely token; -1 when `tolerance` could make it another.
int32_t certainToken(const std::vector<double> &logits, float tolerance) {
  auto best = std::max_element(logits.begin(), logits.end());
  bool isCertain = std::all_of(logits.begin(), logits.end(),
                               [&](const double &other) { return &other == &*best || other < *best - 2 * tolerance; });
  return isCertain ? static_cast<int32_t>(best - logits.begin()) : -1;
}

// Their standard deviation.
float spreadOf(const std::vector<double> &logits) {
  double sum = 0, squares = 0, count = double(logits.size());
  for (double logit : logits) {
    sum += logit;
    squares += logit * logit;
  }
  return static_cast<float>(std::sqrt(std::max(0.0, squares / count - (sum / count) * (sum / count))));
}

void keepLogits(const std::vector<double> &logits, program::Golden &golden) {
  auto vocabSize = static_cast<int64_t>(logits.size());
  std::vector<int32_t> order(logits.size());
  std::iota(order.begin(), order.end(), 0);
  int64_t numLargest = std::min(kLargest, vocabSize);
  std::partial_sort(order.begin(), order.begin() + numLargest, order.end(),
                    [&](int32_t a, int32_t b) { return logits[a] > logits[b]; });
  golden.logitsIndex.assign(order.begin(), order.begin() + numLargest);
  for (int64_t index = 0; index < kSpread; ++index)
    golden.logitsIndex.push_back(static_cast<int32_t>(index * vocabSize / kSpread));
  for (int32_t token : golden.logitsIndex)
    golden.logits.push_back(static_cast<float>(logits[token]));
}

}  // namespace

Expected<std::vector<program::Golden>> referenceGoldens(mlir::ModuleOp graph, const weights::WeightStore &store,
                                                        int64_t vocabSize, GoldenTolerance tolerance) {
  Asker asker(graph, store, vocabSize);
  std::vector<int32_t> sequence = spreadTokens(kPromptTokens + kDecodeSteps, vocabSize);
  GIRIH_ASSIGN(auto rows, asker.logitsFrom(sequence, kPromptTokens - 1));
  std::vector<program::Golden> goldens;
  for (size_t step = 0; step < rows.size(); ++step) {
    program::Golden &golden = goldens.emplace_back();
    golden.source = "reference f64";
    golden.promptTokens.assign(sequence.begin(), sequence.begin() + kPromptTokens + long(step));
    golden.tolerance = std::max(tolerance.absolute, tolerance.ofSpread * spreadOf(rows[step]));
    keepLogits(rows[step], golden);
  }
  int64_t numElements = 0;
  for (const weights::StoredTensor &tensor : store.tensors())
    numElements += tensor.numElements;
  size_t numOutputs = numElements <= kCheapElements ? kOutputTokens : 1;
  program::Golden &last = goldens.back();
  std::vector<double> logits = std::move(rows.back());
  while (true) {
    int32_t token = certainToken(logits, last.tolerance);
    if (token < 0)
      break;
    last.outputTokens.push_back(token);
    sequence.push_back(token);
    if (last.outputTokens.size() == numOutputs)
      break;
    GIRIH_ASSIGN(logits, asker.logitsAfter(sequence));
  }
  return goldens;
}

Expected<std::string> differenceByLaterTokens(mlir::ModuleOp graph, const weights::WeightStore &store,
                                              int64_t vocabSize) {
  Asker asker(graph, store, vocabSize);
  std::vector<int32_t> whole = spreadTokens(kPromptTokens, vocabSize);
  for (size_t length : {size_t(1), whole.size() / 2, whole.size() - 1}) {
    std::vector<int32_t> prefix(whole.begin(), whole.begin() + long(length));
    GIRIH_ASSIGN(std::vector<double> alone, asker.logitsAfter(prefix));
    GIRIH_ASSIGN(std::vector<double> followed, asker.logitsAt(whole, length - 1));
    for (size_t id = 0; id < alone.size(); ++id)
      // The same sums in the same order: f64 has room for any that are not.
      if (!(std::fabs(alone[id] - followed[id]) <= 1e-9 * (1 + std::fabs(alone[id]))))
        return "the logit of token " + std::to_string(id) + " after " + std::to_string(length) + " tokens is " +
               std::to_string(alone[id]) + ", and " + std::to_string(followed[id]) + " once " +
               std::to_string(whole.size() - length) + " more follow";
  }
  return std::string();
}

}  // namespace girih::compiler
