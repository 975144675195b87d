// SPDX-License-Identifier: Apache-2.0
// girih-cpu-distribute: each thread of the team takes its share of a dispatch's units, then all meet.
#include "backends/cpu/codegen/kernel_builder.h"
#include "backends/cpu/codegen/passes.h"
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

LogicalResult distribute(scf::ForallOp op) {
  if (op.getNumResults() != 0)
    return op.emitOpError("has results; a dispatch of a scheduled step writes buffers");
  auto attribute = op->getAttrOfType<StringAttr>("girih.distribution");
  StringRef distribution = attribute ? attribute.getValue() : "block";
  if (distribution != "block" && distribution != "cyclic" && distribution != "every")
    return op.emitOpError("girih.distribution \"")
           << distribution << "\" is not known; block, cyclic and every are";
  OpBuilder b(op);
  KernelBuilder k(b, op.getLoc());
  UnitSpace units = unitsOf(k, op);
  Value begin = k.threadIndex(), end = units.total, step = k.numThreads();
  if (distribution == "every") {
    begin = k.index(0);
    step = k.index(1);
  } else if (distribution == "block") {
    begin = k.div(k.mul(units.total, k.threadIndex()), k.numThreads());
    end = k.div(k.mul(units.total, k.add(k.threadIndex(), 1)), k.numThreads());
    step = k.index(1);
  }
  auto loop = scf::ForOp::create(b, op.getLoc(), begin, end, step);
  {
    OpBuilder::InsertionGuard guard(b);
    b.setInsertionPointToStart(loop.getBody());
    IRMapping mapping;
    mapping.map(op.getInductionVars(), indicesOf(k, units, loop.getInductionVar()));
    for (Operation &inner : op.getBody()->without_terminator())
      b.clone(inner, mapping);
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
    for (scf::ForallOp op : outer)
      if (failed(distribute(op)))
        return signalPassFailure();
  }
};

}  // namespace

}  // namespace girih::cpu
