// SPDX-License-Identifier: Apache-2.0
// girih-roll-layers: turns runs of calls to the same blocks into loops over layers, and inlines the blocks.
//
// A run is `count` repetitions of a period of calls (one call, or two where layers alternate). In a repetition,
// an operand is the carried activation, a weight, a layer's cache, or a value that is the same in all of them.
#include "compiler/fuse/passes.h"

#include "dialects/girih/dialect.h"

#include "mlir/IR/IRMapping.h"

namespace girih::compiler {
#define GEN_PASS_DEF_ROLLLAYERS
#include "compiler/fuse/passes.h.inc"
}  // namespace girih::compiler

using namespace mlir;
using namespace girih::dialect;

namespace {

constexpr int64_t kMaxPeriod = 8;  // calls in one repetition; no published family alternates among more

struct Run {
  size_t first = 0;   // index of its first call
  size_t period = 1;  // calls in a repetition
  size_t count = 1;   // repetitions
};

// Puts the body of the callee in place of the call.
LogicalResult inlineCall(func::CallOp call, SymbolTable &symbols) {
  auto callee = symbols.lookup<func::FuncOp>(call.getCallee());
  if (!callee || callee.isDeclaration() || !llvm::hasSingleElement(callee.getBody()))
    return call.emitOpError("calls `") << call.getCallee() << "`, which has no body of one basic block";
  IRMapping mapping;
  mapping.map(callee.getArguments(), call.getOperands());
  OpBuilder builder(call);
  for (Operation &op : callee.front().without_terminator())
    builder.clone(op, mapping);
  auto results = llvm::map_to_vector(callee.front().getTerminator()->getOperands(),
                                     [&](Value value) { return mapping.lookupOrDefault(value); });
  call.replaceAllUsesWith(results);
  call.erase();
  return success();
}

LogicalResult inlineAllCalls(func::FuncOp function, SymbolTable &symbols) {
  while (true) {  // a block may call another
    SmallVector<func::CallOp> calls;
    function.walk([&](func::CallOp call) { calls.push_back(call); });
    if (calls.empty())
      return success();
    for (func::CallOp call : calls)
      if (failed(inlineCall(call, symbols)))
        return failure();
  }
}

// Rolls one function. The calls of the run are `calls[run.first + repetition * run.period + index]`.
class LayerRoller {
public:
  LayerRoller(ArrayRef<func::CallOp> calls, Run run) : calls(calls), run(run) {}

  // Whether the run is one: every operand has one of the four forms. Fills `carried`.
  bool matches() {
    for (size_t index = 0; index < run.period; ++index)
      if (!operandsMatch(index))
        return false;
    return carriedOperands.size() == run.period;
  }

  void roll() {
    func::CallOp first = call(0, 0), last = call(run.count - 1, run.period - 1);
    OpBuilder builder(last);
    Location loc = first.getLoc();
    Value zero = arith::ConstantIndexOp::create(builder, loc, 0);
    Value one = arith::ConstantIndexOp::create(builder, loc, 1);
    Value count = arith::ConstantIndexOp::create(builder, loc, run.count);
    Value initial = first.getOperand(carriedOperands[0]);
    auto loop = scf::ForOp::create(builder, loc, zero, count, one, initial,
                                   [&](OpBuilder &b, Location l, Value layer, ValueRange carried) {
                                     Value x = carried[0];
                                     for (size_t index = 0; index < run.period; ++index)
                                       x = emitCall(b, index, layer, x);
                                     scf::YieldOp::create(b, l, x);
                                   });
    last.getResult(0).replaceAllUsesWith(loop.getResult(0));
    for (size_t at = run.first + run.count * run.period; at-- > run.first;)
      calls[at]->erase();
  }

private:
  func::CallOp call(size_t repetition, size_t index) const {
    return calls[run.first + repetition * run.period + index];
  }

  Value valueBefore(size_t repetition, size_t index) const {  // the activation that this call takes
    size_t at = run.first + repetition * run.period + index;
    return at == run.first ? Value() : func::CallOp(calls[at - 1]).getResult(0);
  }

  bool operandsMatch(size_t index) {
    func::CallOp first = call(0, index);
    if (first.getNumResults() != 1)
      return false;
    for (unsigned operand = 0; operand < first.getNumOperands(); ++operand) {
      if (isCarried(index, operand)) {
        if (carriedOperands.size() != index)
          return false;  // carried twice
        carriedOperands.push_back(operand);
      } else if (!isWeight(index, operand) && !isCache(index, operand) && !isInvariant(index, operand)) {
        return false;
      }
    }
    return carriedOperands.size() == index + 1;
  }

  bool isCarried(size_t index, unsigned operand) const {
    if (call(0, index).getResultTypes().front() != call(0, index).getOperand(operand).getType())
      return false;
    for (size_t repetition = 0; repetition < run.count; ++repetition) {
      Value before = valueBefore(repetition, index);
      Value value = call(repetition, index).getOperand(operand);
      if (before ? value != before : run.count > 1 && value == call(1, index).getOperand(operand))
        return false;
    }
    return true;
  }

  bool isInvariant(size_t index, unsigned operand) const {
    for (size_t repetition = 1; repetition < run.count; ++repetition)
      if (call(repetition, index).getOperand(operand) != call(0, index).getOperand(operand))
        return false;
    return true;
  }

  bool isWeight(size_t index, unsigned operand) const {
    for (size_t repetition = 0; repetition < run.count; ++repetition)
      if (!call(repetition, index).getOperand(operand).getDefiningOp<WeightOp>())
        return false;
    return true;
  }

  bool isCache(size_t index, unsigned operand) const {
    auto first = call(0, index).getOperand(operand).getDefiningOp<KvLayerOp>();
    if (!first)
      return false;
    for (size_t repetition = 0; repetition < run.count; ++repetition) {
      auto cache = call(repetition, index).getOperand(operand).getDefiningOp<KvLayerOp>();
      int64_t expected = int64_t(first.getLayer()) + int64_t(repetition) * cacheStride(index, operand);
      if (!cache || cache.getIndex() || int64_t(cache.getLayer()) != expected)
        return false;
    }
    return true;
  }

  int64_t cacheStride(size_t index, unsigned operand) const {
    auto layer = [&](size_t repetition) {
      auto cache = call(repetition, index).getOperand(operand).getDefiningOp<KvLayerOp>();
      return cache ? int64_t(cache.getLayer()) : 0;
    };
    return run.count > 1 ? layer(1) - layer(0) : 1;
  }

  Value emitCall(OpBuilder &builder, size_t index, Value layer, Value carried) const {
    func::CallOp original = call(0, index);
    SmallVector<Value> operands;
    for (unsigned operand = 0; operand < original.getNumOperands(); ++operand) {
      if (operand == carriedOperands[index])
        operands.push_back(carried);
      else if (isInvariant(index, operand))
        operands.push_back(original.getOperand(operand));
      else if (isWeight(index, operand))
        operands.push_back(emitWeight(builder, index, operand, layer));
      else
        operands.push_back(emitCache(builder, index, operand, layer));
    }
    return func::CallOp::create(builder, original.getLoc(), original.getCallee(), original.getResultTypes(), operands)
        .getResult(0);
  }

  Value emitWeight(OpBuilder &builder, size_t index, unsigned operand, Value layer) const {
    SmallVector<Attribute> names;
    for (size_t repetition = 0; repetition < run.count; ++repetition) {
      auto weight = call(repetition, index).getOperand(operand).getDefiningOp<WeightOp>();
      names.push_back(builder.getArrayAttr({weight.getNameAttr()}));
    }
    Value first = call(0, index).getOperand(operand);
    return LayerWeightOp::create(builder, first.getLoc(), first.getType(), layer, builder.getArrayAttr(names),
                                 builder.getI64IntegerAttr(0), StringAttr());
  }

  Value emitCache(OpBuilder &builder, size_t index, unsigned operand, Value layer) const {
    auto first = call(0, index).getOperand(operand).getDefiningOp<KvLayerOp>();
    return KvLayerOp::create(builder, first.getLoc(), first.getType(), first.getLayerAttr(), layer,
                             builder.getI64IntegerAttr(cacheStride(index, operand)));
  }

  ArrayRef<func::CallOp> calls;
  Run run;
  SmallVector<unsigned> carriedOperands;  // of each call of the period
};

bool samePeriod(ArrayRef<func::CallOp> calls, size_t a, size_t b, size_t period) {
  for (size_t index = 0; index < period; ++index)
    if (func::CallOp(calls[a + index]).getCallee() != func::CallOp(calls[b + index]).getCallee())
      return false;
  return true;
}

// The run that covers most calls from `first` on; shorter periods win ties.
Run longestRun(ArrayRef<func::CallOp> calls, size_t first) {
  Run best{first, 1, 1};
  for (size_t period = 1; period <= kMaxPeriod && first + 2 * period <= calls.size(); ++period) {
    Run run{first, period, 1};
    while (first + (run.count + 1) * period <= calls.size() &&
           samePeriod(calls, first, first + run.count * period, period))
      ++run.count;
    // What a repetition needs may break before the callee does; take what rolls.
    while (run.count > 1 && !LayerRoller(calls, run).matches())
      --run.count;
    if (run.count > 1 && run.count * run.period > best.count * best.period)
      best = run;
  }
  return best;
}

struct RollLayersPass : girih::compiler::impl::RollLayersBase<RollLayersPass> {
  void runOnOperation() override {
    ModuleOp module = getOperation();
    SymbolTable symbols(module);
    for (auto function : module.getOps<func::FuncOp>()) {
      if (!function->hasAttr("girih.max_tokens"))
        continue;
      rollFunction(function);
      if (failed(inlineAllCalls(function, symbols)))
        return signalPassFailure();
      eraseUnused<WeightOp>(function);
      eraseUnused<KvLayerOp>(function);
    }
    for (auto function : llvm::make_early_inc_range(module.getOps<func::FuncOp>()))
      if (function.isPrivate() && SymbolTable::symbolKnownUseEmpty(function, module))
        function.erase();
  }

  void rollFunction(func::FuncOp function) {
    SmallVector<func::CallOp> calls(function.getOps<func::CallOp>());
    for (size_t at = 0; at < calls.size();) {
      Run run = longestRun(calls, at);
      if (run.count > 1) {
        LayerRoller roller(calls, run);
        if (roller.matches())
          roller.roll();
      }
      at += run.count * run.period;
    }
  }

  template <typename OpTy>
  void eraseUnused(func::FuncOp function) {
    function.walk([](OpTy op) {
      if (op->use_empty())
        op->erase();
    });
  }
};

}  // namespace
