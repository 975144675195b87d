// SPDX-License-Identifier: Apache-2.0
// girih-cpu-distribute: each thread of the team takes its share of a dispatch's units, then all meet.
#include "backends/cpu/codegen/kernel_builder.h"
#include "backends/cpu/codegen/passes.h"
#include "backends/cpu/codegen/step_memory.h"
#include "runtime/abi/step.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/SCF/Transforms/Transforms.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"

#include <cstddef>

using namespace mlir;

namespace girih::cpu {

#define GEN_PASS_DEF_DISTRIBUTE
#include "backends/cpu/codegen/passes.h.inc"

namespace {

struct UnitSpace {
  SmallVector<Value> begins, steps, counts;
  Value total;
};

UnitSpace unitsOf(KernelBuilder &k, scf::ForallOp op) {
  UnitSpace units;
  units.begins = op.getLowerBound(k.b);
  units.steps = op.getStep(k.b);
  units.total = k.index(1);
  for (auto [begin, end, step] : llvm::zip(units.begins, op.getUpperBound(k.b), units.steps)) {
    Value span = k.maxOf(k.sub(end, begin), k.index(0));
    units.counts.push_back(k.div(k.add(span, k.sub(step, k.index(1))), step));
    units.total = k.mul(units.total, units.counts.back());
  }
  return units;
}

// The induction values of unit number `unit`, the last dimension fastest.
SmallVector<Value> indicesOf(KernelBuilder &k, const UnitSpace &units, Value unit) {
  SmallVector<Value> indices(units.counts.size());
  for (size_t dimension = units.counts.size(); dimension-- > 0;) {
    Value number = dimension == 0 ? unit : k.rem(unit, units.counts[dimension]);
    indices[dimension] = k.add(units.begins[dimension], k.mul(number, units.steps[dimension]));
    unit = k.div(unit, units.counts[dimension]);
  }
  return indices;
}

void callBarrier(KernelBuilder &k) {
  Value barrier = k.stepPointer(offsetof(girih_step_args, barrier));
  Value team = k.stepPointer(offsetof(girih_step_args, team));
  Value thread = k.toInteger(k.threadIndex(), k.b.getI64Type());
  auto type = LLVM::LLVMFunctionType::get(LLVM::LLVMVoidType::get(k.b.getContext()),
                                          {k.pointerType(), k.b.getI64Type()});
  LLVM::CallOp::create(k.b, k.loc, type, ValueRange{barrier, team, thread});
}

// Number `thread`'s range of units.
std::pair<Value, Value> shareOf(KernelBuilder &k, const UnitSpace &units, Value thread) {
  return {k.div(k.mul(units.total, thread), k.numThreads()),
          k.div(k.mul(units.total, k.add(thread, 1)), k.numThreads())};
}

void cloneUnit(KernelBuilder &k, scf::ForallOp op, const UnitSpace &units, Value unit) {
  IRMapping mapping;
  mapping.map(op.getInductionVars(), indicesOf(k, units, unit));
  for (Operation &inner : op.getBody()->without_terminator())
    k.b.clone(inner, mapping);
}

Value queueOf(KernelBuilder &k, scf::ForallOp op, Value thread) {
  return k.at(scratchOf(k, op, thread), op->getAttrOfType<IntegerAttr>("girih.queue").getInt());
}

// A unit that another thread takes over finds its rows, and what was prepared for it, in the wrong core. So a share's last
// units, two at most and an eighth of them, are left to the thread that has it.
constexpr int64_t kMostLeftToOwner = 2, kPartLeftToOwner = 8;

// Each thread takes the units of its own range one by one through a counter in its scratch, and then helps the others
// through theirs. Which thread computes a unit changes nothing in it. After the meeting nobody counts any more, and
// each thread sets its counter back.
void distributeDynamically(KernelBuilder &k, scf::ForallOp op, const UnitSpace &units) {
  Type i64 = k.b.getI64Type();
  k.loop(k.index(0), k.numThreads(), 1, [&](Value distance) {
    Value owner = k.rem(k.add(k.threadIndex(), distance), k.numThreads());
    auto [begin, end] = shareOf(k, units, owner);
    Value queue = queueOf(k, op, owner);
    Value left = k.minOf(k.div(k.sub(end, begin), kPartLeftToOwner), k.index(kMostLeftToOwner));
    Value last = k.sub(end, k.select(k.less(k.index(0), distance), left, k.index(0)));
    auto nextUnit = [&, begin = begin, end = end]() -> Value {
      auto take = [&]() -> SmallVector<Value> {
        Value taken = LLVM::AtomicRMWOp::create(k.b, k.loc, LLVM::AtomicBinOp::add, queue, k.integer(i64, 1),
                                                LLVM::AtomicOrdering::monotonic);
        return {k.add(begin, k.toIndex(taken))};
      };
      Value count = LLVM::LoadOp::create(k.b, k.loc, i64, queue, 8, false, false, false, false, LLVM::AtomicOrdering::monotonic);
      return k.when(k.less(k.add(begin, k.toIndex(count)), last), ValueRange{end}, take)[0];
    };
    auto loop = scf::WhileOp::create(k.b, k.loc, TypeRange{k.b.getIndexType()}, ValueRange{});
    OpBuilder::InsertionGuard guard(k.b);
    k.b.createBlock(&loop.getBefore());
    Value unit = nextUnit();
    scf::ConditionOp::create(k.b, k.loc, k.less(unit, end), ValueRange{unit});
    Block *body = k.b.createBlock(&loop.getAfter(), {}, {k.b.getIndexType()}, {k.loc});
    cloneUnit(k, op, units, body->getArgument(0));
    scf::YieldOp::create(k.b, k.loc);
  });
  callBarrier(k);
  k.store(k.integer(i64, 0), queueOf(k, op, k.threadIndex()));
}

// Counters start at zero, before anybody can count: a first dispatch that counts has a meeting before it.
void resetQueues(func::FuncOp function, ArrayRef<scf::ForallOp> dispatches) {
  auto counts = [](scf::ForallOp op) { return op->hasAttr("girih.queue"); };
  SmallVector<scf::ForallOp> own;
  for (scf::ForallOp op : dispatches)
    if (op->getParentOfType<func::FuncOp>() == function)
      own.push_back(op);
  if (llvm::none_of(own, counts))
    return;
  OpBuilder b(function.getContext());
  b.setInsertionPointToStart(&function.getBody().front());
  KernelBuilder k(b, function.getLoc());
  for (scf::ForallOp op : own)
    if (counts(op))
      k.store(k.integer(b.getI64Type(), 0), queueOf(k, op, k.threadIndex()));
  // One that every thread does by itself has no meeting.
  auto *first = llvm::find_if(own, [](scf::ForallOp op) {
    auto distribution = op->getAttrOfType<StringAttr>("girih.distribution");
    return !distribution || distribution.getValue() != "every";
  });
  if (counts(*first))
    callBarrier(k);
}

LogicalResult distribute(scf::ForallOp op) {
  if (op.getNumResults() != 0)
    return op.emitOpError("has results; a dispatch of a scheduled step writes buffers");
  auto attribute = op->getAttrOfType<StringAttr>("girih.distribution");
  StringRef distribution = attribute ? attribute.getValue() : "block";
  if (distribution != "block" && distribution != "cyclic" && distribution != "every" &&
      distribution != "dynamic")
    return op.emitOpError("girih.distribution \"")
           << distribution << "\" is not known; block, cyclic, dynamic and every are";
  if (distribution == "dynamic" && !op->hasAttr("girih.queue"))
    return op.emitOpError("is dynamic and has no `girih.queue`; girih-plan-memory gives it a counter");
  OpBuilder b(op);
  KernelBuilder k(b, op.getLoc());
  UnitSpace units = unitsOf(k, op);
  if (distribution == "dynamic") {
    distributeDynamically(k, op, units);
    op.erase();
    return success();
  }
  Value begin = k.threadIndex(), end = units.total, step = k.numThreads();
  if (distribution == "every") {
    begin = k.index(0);
    step = k.index(1);
  } else if (distribution == "block") {
    std::tie(begin, end) = shareOf(k, units, k.threadIndex());
    step = k.index(1);
  }
  auto loop = scf::ForOp::create(b, op.getLoc(), begin, end, step);
  {
    OpBuilder::InsertionGuard guard(b);
    b.setInsertionPointToStart(loop.getBody());
    cloneUnit(k, op, units, loop.getInductionVar());
  }
  if (distribution != "every")
    callBarrier(k);
  op.erase();
  return success();
}

struct Distribute : impl::DistributeBase<Distribute> {
  void runOnOperation() override {
    SmallVector<scf::ForallOp> outer, nested;
    getOperation().walk([&](scf::ForallOp op) {
      (op->getParentOfType<scf::ForallOp>() ? nested : outer).push_back(op);
    });
    // Inner ones first: the walk is post-order.
    IRRewriter rewriter(&getContext());
    for (scf::ForallOp op : nested) {
      rewriter.setInsertionPoint(op);
      if (failed(scf::forallToForLoop(rewriter, op)))
        return signalPassFailure();
    }
    for (auto function : getOperation().getOps<func::FuncOp>())
      resetQueues(function, outer);
    for (scf::ForallOp op : outer)
      if (failed(distribute(op)))
        return signalPassFailure();
  }
};

}  // namespace

}  // namespace girih::cpu
