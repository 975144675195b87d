// SPDX-License-Identifier: Apache-2.0
// Calls, structured control flow, and the index arithmetic of dialect affine.
#include "backends/reference/frame.h"
#include "backends/reference/tensor_ops.h"

#include "mlir/Dialect/Affine/IR/AffineOps.h"
#include "mlir/Dialect/ControlFlow/IR/ControlFlowOps.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"

using namespace mlir;

namespace girih::reference {
namespace {

void setResults(Frame &frame, Operation &op, std::vector<Datum> results) {
  for (auto [value, datum] : llvm::zip_equal(op.getResults(), results))
    frame.set(value, std::move(datum));
}

Status evaluateCall(Frame &frame, Operation &operation) {
  auto op = cast<func::CallOp>(operation);
  GIRIH_ASSIGN(auto results, frame.call(op.getCallee(), frame.take(op.getOperands())));
  setResults(frame, operation, std::move(results));
  return {};
}

Status evaluateFor(Frame &frame, Operation &operation) {
  auto op = cast<scf::ForOp>(operation);
  int64_t begin = frame.index(op.getLowerBound()), end = frame.index(op.getUpperBound());
  int64_t step = frame.index(op.getStep());
  if (step <= 0)
    return invalidArgument("the loop's step is " + std::to_string(step) + "; must be above 0");
  std::vector<Datum> carried = frame.take(op.getInitArgs());
  for (int64_t i = begin; i < end; i += step) {
    std::vector<Datum> arguments = {static_cast<double>(i)};
    std::move(carried.begin(), carried.end(), std::back_inserter(arguments));
    GIRIH_ASSIGN(carried, frame.run(*op.getBody(), std::move(arguments)));
  }
  setResults(frame, operation, std::move(carried));
  return {};
}

Status evaluateIf(Frame &frame, Operation &operation) {
  auto op = cast<scf::IfOp>(operation);
  Region &region = frame.scalar(op.getCondition()) != 0 ? op.getThenRegion() : op.getElseRegion();
  if (region.empty())
    return {};
  GIRIH_ASSIGN(auto results, frame.run(region.front(), {}));
  setResults(frame, operation, std::move(results));
  return {};
}

// Points run one after the other, each seeing what the ones before it inserted: a correct program cannot
// tell.
Status evaluateForall(Frame &frame, Operation &operation) {
  auto op = cast<scf::ForallOp>(operation);
  std::vector<int64_t> begin, end, step;
  for (auto [lower, upper, stride] :
       llvm::zip_equal(op.getMixedLowerBound(), op.getMixedUpperBound(), op.getMixedStep())) {
    begin.push_back(extentOf(frame, lower));
    end.push_back(extentOf(frame, upper));
    step.push_back(extentOf(frame, stride));
    if (step.back() <= 0)
      return invalidArgument("a loop's step is " + std::to_string(step.back()) + "; must be above 0");
  }
  std::vector<Datum> outputs = frame.take(op.getOutputs());
  std::vector<int64_t> point = begin;
  bool isEmpty = false;
  for (size_t axis = 0; axis < point.size(); ++axis)
    isEmpty |= begin[axis] >= end[axis];
  while (!isEmpty) {
    std::vector<Datum> arguments;
    for (int64_t index : point)
      arguments.emplace_back(static_cast<double>(index));
    std::move(outputs.begin(), outputs.end(), std::back_inserter(arguments));
    GIRIH_ASSIGN(auto none, frame.run(*op.getBody(), std::move(arguments)));
    (void)none;
    for (Operation &insert : op.getTerminator().getBody()->getOperations()) {
      GIRIH_ASSIGN(Tensor whole, insertParallelSlice(frame, insert));
      frame.set(cast<tensor::ParallelInsertSliceOp>(insert).getDest(), std::move(whole));
    }
    outputs = frame.take(op.getRegionIterArgs());
    size_t axis = point.size();
    while (axis-- > 0) {
      if ((point[axis] += step[axis]) < end[axis])
        break;
      point[axis] = begin[axis];
    }
    if (axis == static_cast<size_t>(-1))
      break;
  }
  setResults(frame, operation, std::move(outputs));
  return {};
}

// ---- affine.apply, min, max ----

// The map's results at the op's operands.
template <typename AffineOp> Expected<std::vector<int64_t>> applyMap(Frame &frame, AffineOp op) {
  MLIRContext *context = op->getContext();
  SmallVector<Attribute> operands, results;
  for (Value operand : op->getOperands())
    operands.push_back(IntegerAttr::get(IndexType::get(context), frame.index(operand)));
  if (failed(op.getMap().constantFold(operands, results)))
    return invalidArgument("the map divides by 0");
  std::vector<int64_t> numbers;
  for (Attribute result : results)
    numbers.push_back(cast<IntegerAttr>(result).getInt());
  return numbers;
}

Status evaluateApply(Frame &frame, Operation &operation) {
  GIRIH_ASSIGN(auto results, applyMap(frame, cast<affine::AffineApplyOp>(operation)));
  frame.set(operation.getResult(0), static_cast<double>(results[0]));
  return {};
}

Status evaluateMin(Frame &frame, Operation &operation) {
  GIRIH_ASSIGN(auto results, applyMap(frame, cast<affine::AffineMinOp>(operation)));
  frame.set(operation.getResult(0), static_cast<double>(*llvm::min_element(results)));
  return {};
}

Status evaluateMax(Frame &frame, Operation &operation) {
  GIRIH_ASSIGN(auto results, applyMap(frame, cast<affine::AffineMaxOp>(operation)));
  frame.set(operation.getResult(0), static_cast<double>(*llvm::max_element(results)));
  return {};
}

// A graph's own condition on its extents.
Status evaluateAssert(Frame &frame, Operation &operation) {
  auto op = cast<cf::AssertOp>(operation);
  return frame.scalar(op.getArg()) != 0 ? Status() : invalidArgument("the graph asserts: " + op.getMsg().str());
}

struct Row {
  const char *name;
  Handler handler;
};

constexpr Row kRows[] = {
    {"affine.apply", evaluateApply}, {"affine.max", evaluateMax}, {"affine.min", evaluateMin},
    {"cf.assert", evaluateAssert},   {"func.call", evaluateCall}, {"scf.for", evaluateFor},
    {"scf.forall", evaluateForall},  {"scf.if", evaluateIf},
};

} // namespace

Handler findControlHandler(llvm::StringRef opName) {
  for (const Row &row : kRows)
    if (opName == row.name)
      return row.handler;
  return nullptr;
}

} // namespace girih::reference
