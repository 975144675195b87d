// SPDX-License-Identifier: Apache-2.0
// StepValues: implementation. Expressions are small trees, so nothing is remembered between questions.
#include "backends/cpu/codegen/step_values.h"

#include "dialects/girih/dialect.h"
#include "runtime/abi/step.h"

#include "mlir/Dialect/Affine/IR/AffineOps.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "llvm/ADT/TypeSwitch.h"

#include <cmath>
#include <cstddef>

using namespace mlir;

namespace girih::cpu {
namespace {

double compare(arith::CmpIPredicate predicate, double x, double y) {
  if (std::isnan(x) || std::isnan(y))
    return StepValues::kUnknown;
  switch (predicate) {
  case arith::CmpIPredicate::eq: return x == y;
  case arith::CmpIPredicate::ne: return x != y;
  case arith::CmpIPredicate::slt: case arith::CmpIPredicate::ult: return x < y;
  case arith::CmpIPredicate::sle: case arith::CmpIPredicate::ule: return x <= y;
  case arith::CmpIPredicate::sgt: case arith::CmpIPredicate::ugt: return x > y;
  case arith::CmpIPredicate::sge: case arith::CmpIPredicate::uge: return x >= y;
  }
  return StepValues::kUnknown;
}

double evaluateAffine(AffineExpr expression, ArrayRef<double> dimensions, ArrayRef<double> symbols) {
  if (auto constant = dyn_cast<AffineConstantExpr>(expression))
    return double(constant.getValue());
  if (auto dimension = dyn_cast<AffineDimExpr>(expression))
    return dimensions[dimension.getPosition()];
  if (auto symbol = dyn_cast<AffineSymbolExpr>(expression))
    return symbols[symbol.getPosition()];
  auto binary = cast<AffineBinaryOpExpr>(expression);
  double x = evaluateAffine(binary.getLHS(), dimensions, symbols);
  double y = evaluateAffine(binary.getRHS(), dimensions, symbols);
  switch (binary.getKind()) {
  case AffineExprKind::Add: return x + y;
  case AffineExprKind::Mul: return x * y;
  case AffineExprKind::Mod: return x - y * std::floor(x / y);
  case AffineExprKind::FloorDiv: return std::floor(x / y);
  case AffineExprKind::CeilDiv: return std::ceil(x / y);
  default: return StepValues::kUnknown;
  }
}

}  // namespace

double StepValues::number(Value value) {
  Scalar scalar = evaluate(value);
  return scalar.kind == Scalar::Number ? scalar.number : kUnknown;
}

double StepValues::number(OpFoldResult value) {
  if (auto constant = getConstantIntValue(value))
    return double(*constant);
  return number(cast<Value>(value));
}

StepValues::Scalar StepValues::evaluate(Value value) {
  if (auto found = bound.find(value); found != bound.end())
    return found->second;
  if (auto constant = getConstantIntValue(value))
    return {Scalar::Number, double(*constant), 0};
  auto result = dyn_cast<OpResult>(value);
  return result ? evaluateOp(result.getOwner(), result.getResultNumber()) : Scalar{};
}

StepValues::Scalar StepValues::evaluateOp(Operation *op, unsigned result) {
  auto numbered = [](double number) { return Scalar{Scalar::Number, number, 0}; };
  if (auto extentOp = dyn_cast<dialect::StepExtentOp>(op)) {
    if (extentOp.getName() == "iteration")
      return numbered(0);
    bool isContext = extentOp.getName() == "longest_context";
    double tokensEach = double(batch.numTokens) / double(batch.numSequences);
    return numbered(isContext ? double(batch.contextTokens) + tokensEach : double(batch.numTokens));
  }
  if (auto dim = dyn_cast<memref::DimOp>(op)) {
    auto index = dim.getConstantIndex();
    return numbered(index ? extent(dim.getSource(), *index) : kUnknown);
  }
  if (auto metadata = dyn_cast<memref::ExtractStridedMetadataOp>(op)) {
    int64_t dimension = int64_t(result) - 2;  // after base and offset
    bool isSize = dimension >= 0 && dimension < metadata.getSource().getType().getRank();
    return numbered(isSize ? extent(metadata.getSource(), dimension) : kUnknown);
  }
  if (auto load = dyn_cast<LLVM::LoadOp>(op))
    return loaded(load.getAddr());
  if (auto step = dyn_cast<LLVM::GEPOp>(op)) {
    Scalar base = evaluate(step.getBase());
    if (base.kind == Scalar::Number || step.getIndices().size() != 1 || !step.getElemType().isInteger(8))
      return {};
    auto index = step.getIndices()[0];
    base.number += isa<IntegerAttr>(index) ? double(cast<IntegerAttr>(index).getInt()) : number(cast<Value>(index));
    return base;
  }
  if (auto minimum = dyn_cast<scf::IfOp>(op)) {
    double condition = number(minimum.getCondition());
    if (std::isnan(condition))
      return {};
    Region &region = condition != 0 ? minimum.getThenRegion() : minimum.getElseRegion();
    return evaluate(region.front().getTerminator()->getOperand(result));
  }
  return numbered(arithmetic(op));
}

double StepValues::arithmetic(Operation *op) {
  auto at = [&](unsigned operand) { return number(op->getOperand(operand)); };
  auto affine = [&](AffineMap map, auto combine) {
    SmallVector<double> operands;
    for (Value operand : op->getOperands())
      operands.push_back(number(operand));
    ArrayRef<double> all(operands);
    double value = kUnknown;
    for (AffineExpr expression : map.getResults()) {
      double next = evaluateAffine(expression, all.take_front(map.getNumDims()), all.drop_front(map.getNumDims()));
      value = std::isnan(value) ? next : combine(value, next);
    }
    return value;
  };
  auto least = [](double x, double y) { return x < y ? x : y; };
  auto most = [](double x, double y) { return x > y ? x : y; };
  return llvm::TypeSwitch<Operation *, double>(op)
      .Case<arith::IndexCastOp, arith::ExtSIOp, arith::ExtUIOp, arith::TruncIOp>([&](auto) { return at(0); })
      .Case([&](arith::AddIOp) { return at(0) + at(1); })
      .Case([&](arith::SubIOp) { return at(0) - at(1); })
      .Case([&](arith::MulIOp) { return at(0) * at(1); })
      .Case<arith::DivUIOp, arith::DivSIOp, arith::FloorDivSIOp>([&](auto) { return std::floor(at(0) / at(1)); })
      .Case<arith::CeilDivUIOp, arith::CeilDivSIOp>([&](auto) { return std::ceil(at(0) / at(1)); })
      .Case<arith::RemUIOp, arith::RemSIOp>([&](auto) { return std::fmod(at(0), at(1)); })
      .Case<arith::MinSIOp, arith::MinUIOp>([&](auto) { return least(at(0), at(1)); })
      .Case<arith::MaxSIOp, arith::MaxUIOp>([&](auto) { return most(at(0), at(1)); })
      .Case([&](arith::CmpIOp cmp) { return compare(cmp.getPredicate(), at(0), at(1)); })
      .Case([&](arith::SelectOp) {
        double condition = at(0);
        return std::isnan(condition) ? kUnknown : condition != 0 ? at(1) : at(2);
      })
      .Case([&](arith::AndIOp) { return op->getResult(0).getType().isInteger(1) ? at(0) * at(1) : kUnknown; })
      .Case([&](arith::XOrIOp) { return op->getResult(0).getType().isInteger(1) ? std::fabs(at(0) - at(1)) : kUnknown; })
      .Case([&](arith::OrIOp) { return op->getResult(0).getType().isInteger(1) ? most(at(0), at(1)) : kUnknown; })
      .Case([&](affine::AffineApplyOp apply) { return affine(apply.getAffineMap(), least); })
      .Case([&](affine::AffineMinOp minimum) { return affine(minimum.getAffineMap(), least); })
      .Case([&](affine::AffineMaxOp maximum) { return affine(maximum.getAffineMap(), most); })
      .Default([](Operation *) { return kUnknown; });
}

StepValues::Scalar StepValues::loaded(Value address) {
  Scalar pointer = evaluate(address);
  if (pointer.kind == Scalar::StepArgs) {
    auto field = size_t(pointer.number);
    if (field == offsetof(girih_step_args, num_tokens) || field == offsetof(girih_step_args, num_logit_rows))
      return {Scalar::Number, double(batch.numTokens), 0};
    if (field == offsetof(girih_step_args, num_sequences))
      return {Scalar::Number, double(batch.numSequences), 0};
    return {Scalar::Field, 0, int64_t(field)};
  }
  if (pointer.kind != Scalar::Field)
    return {};
  double index = std::floor(pointer.number / sizeof(int32_t));
  double tokensEach = double(batch.numTokens) / double(batch.numSequences), context = double(batch.contextTokens);
  auto numbered = [](double number) { return Scalar{Scalar::Number, number, 0}; };
  switch (pointer.field) {
  case offsetof(girih_step_args, positions): return numbered(context + std::fmod(index, tokensEach));
  case offsetof(girih_step_args, token_sequences): return numbered(std::floor(index / tokensEach));
  case offsetof(girih_step_args, sequence_starts): return numbered(index * tokensEach);
  case offsetof(girih_step_args, context_lengths): return numbered(context + tokensEach);
  default: return {};
  }
}

double StepValues::extent(Value memref, int64_t dimension) {
  auto type = cast<MemRefType>(memref.getType());
  if (!type.isDynamicDim(dimension))
    return double(type.getDimSize(dimension));
  if (auto found = bound.find(memref); found != bound.end())
    return found->second.number;
  if (auto buffer = memref.getDefiningOp<dialect::BufferAtOp>())
    return buffer.getRows() ? number(buffer.getRows()) : kUnknown;
  if (auto view = memref.getDefiningOp<memref::SubViewOp>()) {
    bool keepsRank = view.getSourceType().getRank() == type.getRank();
    return keepsRank ? number(view.getMixedSizes()[dimension]) : kUnknown;
  }
  if (auto view = memref.getDefiningOp<ViewLikeOpInterface>(); view && dimension == 0)
    return extent(view.getViewSource(), 0);
  // Carried from layer to layer: as it came in.
  auto argument = dyn_cast<BlockArgument>(memref);
  auto loop = argument ? dyn_cast<scf::ForOp>(argument.getOwner()->getParentOp()) : scf::ForOp();
  if (loop && argument.getArgNumber() > 0)
    return extent(loop.getInitArgs()[argument.getArgNumber() - 1], dimension);
  if (auto made = memref.getDefiningOp<scf::ForOp>())
    return extent(made.getInitArgs()[cast<OpResult>(memref).getResultNumber()], dimension);
  return kUnknown;
}

}  // namespace girih::cpu
