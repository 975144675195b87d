// SPDX-License-Identifier: Apache-2.0
// PassJudge: evaluates the graph after every pass of the ladder and names the first pass that changed the
// answer.
#include "compiler/judge_passes.h"

#include "dialects/girih/dialect.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/Diagnostics.h"
#include "mlir/IR/SymbolTable.h"
#include "mlir/Pass/PassInstrumentation.h"
#include "llvm/ADT/StringSet.h"
#include "llvm/Support/raw_ostream.h"

#include <cmath>

using namespace mlir;

namespace girih::compiler {
namespace {

constexpr int64_t kJudgedTokens = 16;
// Of the largest logit. Sums in another order and constants folded in f32 stay far below; a wrong mask, scale
// or epsilon stays far above.
constexpr double kSameBound = 1e-7;
// A cache of f16 keeps 11 bits of every key and value.
constexpr double kF16CacheBound = 2e-3;
constexpr llvm::StringLiteral kCachePass = "girih-insert-kv-cache";
// Activations of 8 bits and a scale for each 32: half of 1/127 of the largest of them, over a few layers.
constexpr double kQuantizedBound = 2.5e-2;  // measured 8e-3 on a layer of the default model
constexpr llvm::StringLiteral kArithmeticPass = "girih-choose-arithmetic";

bool any(ModuleOp module, llvm::function_ref<bool(Type)> test) {
  auto isMatch = [&](Operation *op) { return llvm::any_of(op->getResultTypes(), test); };
  return module
      .walk([&](Operation *op) { return isMatch(op) ? WalkResult::interrupt() : WalkResult::advance(); })
      .wasInterrupted();
}

bool hasF16Cache(ModuleOp module) {
  return any(module, [](Type type) {
    auto kv = dyn_cast<dialect::KvType>(type);
    return kv && !kv.getElement().isF32();
  });
}

bool hasBuffers(ModuleOp module) {
  return any(module, [](Type type) { return isa<BaseMemRefType>(type); });
}

// The function's text without its own name and those of its weights.
std::string kindOf(func::FuncOp function) {
  OwningOpRef<func::FuncOp> copy = function.clone();
  copy->setName("f");
  copy->walk([](dialect::WeightOp weight) { weight.setName(""); });
  std::string text;
  llvm::raw_string_ostream stream(text);
  copy->print(stream);
  return text;
}

std::string scientific(double value) {
  char text[32];
  std::snprintf(text, sizeof(text), "%.2e", value);
  return text;
}

} // namespace

int64_t cutToOneLayerOfEachKind(ModuleOp module) {
  auto main = module.lookupSymbol<func::FuncOp>("main");
  if (!main)
    return 0;
  llvm::StringSet<> seen;
  int64_t numRemoved = 0;
  for (auto call : llvm::make_early_inc_range(main.getOps<func::CallOp>())) {
    auto callee = module.lookupSymbol<func::FuncOp>(call.getCallee());
    bool isLayer = call.getNumResults() == 1 && call.getNumOperands() > 0 &&
                   call.getOperand(0).getType() == call.getResult(0).getType();
    if (!isLayer || !callee || seen.insert(kindOf(callee)).second)
      continue;
    call.getResult(0).replaceAllUsesWith(call.getOperand(0));
    call.erase();
    ++numRemoved;
  }
  for (auto function : llvm::make_early_inc_range(module.getOps<func::FuncOp>()))
    if (function.isPrivate() && SymbolTable::symbolKnownUseEmpty(function, module))
      function.erase();
  return numRemoved;
}

// Judges after each pass on the module; the passes nested in a function are judged with the next of those.
class JudgeInstrumentation : public PassInstrumentation {
public:
  JudgeInstrumentation(PassJudge &judge, Status &failure) : judge(judge), failure(failure) {}

  void runAfterPass(Pass *pass, Operation *op) override {
    bool isAdaptor = pass->getArgument().empty();
    if (failure.isOk() && !isAdaptor && op == judge.module().getOperation())
      failure = judge.judge(pass->getArgument());
  }

private:
  PassJudge &judge;
  Status &failure;
};

Expected<PassJudge> PassJudge::create(ModuleOp imported, reference::WeightProvider weights) {
  PassJudge judge;
  judge.judged = imported.clone();
  judge.weights = std::move(weights);
  cutToOneLayerOfEachKind(*judge.judged);
  auto main = judge.judged->lookupSymbol<func::FuncOp>("main");
  if (!main)
    return invalidArgument("the graph to be judged has no function @main");
  GIRIH_ASSIGN(judge.expected, judge.answer(main, kJudgedTokens));
  return judge;
}

Expected<reference::Tensor> PassJudge::answer(func::FuncOp entry, int64_t numTokens) const {
  auto logits =
      dyn_cast<RankedTensorType>(entry.getResultTypes().empty() ? Type() : entry.getResultTypes()[0]);
  if (!logits || logits.getRank() != 2 || logits.isDynamicDim(1))
    return invalidArgument("@" + entry.getName().str() + " gives no logits [T, V]");
  std::vector<double> tokens, positions;
  for (int64_t i = 0; i < numTokens; ++i) {
    constexpr int64_t kStride = 7919; // a prime, so that tokens differ in every vocabulary
    tokens.push_back(static_cast<double>(kStride * (i + 1) % logits.getDimSize(1)));
    positions.push_back(static_cast<double>(i));
  }
  std::vector<reference::Tensor> arguments = {reference::Tensor({numTokens}, tokens),
                                              reference::Tensor({numTokens}, positions)};
  if (entry.getNumArguments() == 3) // the rows whose logits are wanted
    arguments.push_back(arguments[1]);
  ModuleOp module = *judged;
  GIRIH_ASSIGN(auto results, reference::evaluate(module, entry.getName(), std::move(arguments), weights));
  return std::move(results.at(0));
}

Status PassJudge::judge(llvm::StringRef pass) {
  if (hasBuffers(*judged))
    return {};
  bool roundsCache = pass == kCachePass && hasF16Cache(*judged);
  bool mayRound = roundsCache || pass == kArithmeticPass;
  Verdict verdict{pass.str(), 0, roundsCache ? kF16CacheBound : mayRound ? kQuantizedBound : kSameBound};
  double largest = 0;
  for (int64_t i = 0; i < expected.numElements(); ++i)
    largest = std::max(largest, std::fabs(expected.elements()[i]));
  for (auto function : judged->getOps<func::FuncOp>()) {
    // What gives something else than logits is part of a step that gives them.
    if (function.isPrivate() || function->hasAttr("girih.gives"))
      continue;
    auto limit = function->getAttrOfType<IntegerAttr>("girih.max_tokens");
    int64_t numTokens = limit ? std::min(kJudgedTokens, limit.getInt()) : kJudgedTokens;
    auto actual = answer(function, numTokens);
    if (!actual.isOk())
      return internalError("after pass " + pass.str() + " @" + function.getName().str() +
                           " cannot be evaluated: " + std::string(actual.status().message()));
    // A token's logits depend on nothing after it, so a shorter step's are the first rows.
    for (int64_t i = 0; i < actual->numElements(); ++i) {
      double difference = std::fabs(actual->elements()[i] - expected.elements()[i]) / largest;
      verdict.difference = difference <= verdict.difference ? verdict.difference : difference; // NaN stays
      if (!(difference <= verdict.bound))
        return internalError(
            "pass " + pass.str() + " changed the answer of @" + function.getName().str() + ": logit " +
            std::to_string(i % expected.shape()[1]) + " of token " + std::to_string(i / expected.shape()[1]) +
            " was " + std::to_string(expected.elements()[i]) + " and is " +
            std::to_string(actual->elements()[i]) + ", a difference of " + scientific(difference) +
            " of the largest; the bound is " + scientific(verdict.bound));
    }
    if (numTokens == kJudgedTokens && mayRound)
      expected = std::move(*actual);
  }
  passed.push_back(std::move(verdict));
  return {};
}

Status PassJudge::run(PassManager &ladder) {
  Status failure;
  std::string diagnostic;
  ScopedDiagnosticHandler handler(judged->getContext(), [&](Diagnostic &error) {
    if (diagnostic.empty() && error.getSeverity() == DiagnosticSeverity::Error)
      diagnostic = error.str();
    return success();
  });
  ladder.addInstrumentation(std::make_unique<JudgeInstrumentation>(*this, failure));
  bool hasRun = succeeded(ladder.run(*judged));
  if (!failure.isOk())
    return failure;
  return hasRun ? Status() : internalError("the ladder failed on the judged graph: " + diagnostic);
}

} // namespace girih::compiler
