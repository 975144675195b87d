// SPDX-License-Identifier: Apache-2.0
// girih-narrow-last-layer: computes what follows the last layer's attention only for the rows that the head reads.
#include "compiler/fuse/passes.h"

#include "dialects/girih/dialect.h"

#include "mlir/IR/IRMapping.h"

namespace girih::compiler {
#define GEN_PASS_DEF_NARROWLASTLAYER
#include "compiler/fuse/passes.h.inc"
}  // namespace girih::compiler

using namespace mlir;
using namespace girih::dialect;

namespace {

// The code of a layer once more, which shorter steps do not repay.
constexpr int64_t kLeastTokens = 128;

bool isPerToken(Value value) {
  auto type = dyn_cast<RankedTensorType>(value.getType());
  return type && type.getRank() > 0 && type.isDynamicDim(0);
}

// What `gather_rows` can read.
bool isMatrixOfTokens(Value value) {
  auto type = cast<RankedTensorType>(value.getType());
  return type.getRank() == 2 && !type.isDynamicDim(1) && type.getElementType().isF32();
}

// Whether a token's row of the result is computed from that token's rows of the operands alone.
bool isByRow(linalg::LinalgOp op) {
  if (op->getNumResults() != 1 || !op.hasPureTensorSemantics())
    return false;
  auto row = dyn_cast<AffineDimExpr>(op.getIndexingMapMatchingResult(op->getResult(0)).getResult(0));
  if (!row || op.getIteratorTypesArray()[row.getPosition()] != utils::IteratorType::parallel || op.hasIndexSemantics())
    return false;
  return llvm::all_of(op->getOpOperands(), [&](OpOperand &operand) {
    AffineMap map = op.getMatchingIndexingMap(&operand);
    bool startsWithRow = map.getNumResults() > 0 && map.getResult(0) == row;
    return startsWithRow == isPerToken(operand.get()) &&
           llvm::count_if(map.getResults(), [&](AffineExpr expr) { return expr.isFunctionOfDim(row.getPosition()); }) ==
               startsWithRow;
  });
}

bool keepsRows(ArrayRef<ReassociationIndices> groups) { return groups.front().size() == 1; }

bool isByRow(Operation *op) {
  if (auto structured = dyn_cast<linalg::LinalgOp>(op))
    return isByRow(structured);
  if (auto collapse = dyn_cast<tensor::CollapseShapeOp>(op))
    return keepsRows(collapse.getReassociationIndices());
  if (auto expand = dyn_cast<tensor::ExpandShapeOp>(op))
    return keepsRows(expand.getReassociationIndices());
  return isa<QMatmulOp, tensor::EmptyOp>(op);
}

// Makes values of the rows that are wanted from values of all tokens.
class Narrower {
public:
  Narrower(OpBuilder &builder, Value rows) : builder(builder), rows(rows) {
    numRows = tensor::DimOp::create(builder, rows.getLoc(), rows, 0);
  }

  // Null where neither the op above nor a gather can.
  Value narrow(Value value) {
    if (!isPerToken(value))
      return value;
    Value &known = narrowed[value];
    if (known)
      return known;
    Operation *op = value.getDefiningOp();
    Value made = op && isByRow(op) ? remade(op) : Value();
    if (!made && isMatrixOfTokens(value))
      made = gathered(value);
    return narrowed[value] = made;
  }

private:
  Value remade(Operation *op) {
    IRMapping mapping;
    for (Value operand : op->getOperands()) {
      Value instead = operand.getType().isIndex() ? numRows : narrow(operand);  // an extent: rows alone are dynamic
      if (!instead)
        return {};
      mapping.map(operand, instead);
    }
    bool isOfRows = llvm::count_if(cast<RankedTensorType>(op->getResult(0).getType()).getShape(), ShapedType::isDynamic) == 1;
    return isOfRows ? builder.clone(*op, mapping)->getResult(0) : Value();
  }

  Value gathered(Value value) {
    auto type = cast<RankedTensorType>(value.getType());
    Value init = tensor::EmptyOp::create(builder, value.getLoc(), type.getShape(), type.getElementType(), numRows);
    return GatherRowsOp::create(builder, value.getLoc(), type, rows, value, init).getResult();
  }

  OpBuilder &builder;
  Value rows, numRows;
  DenseMap<Value, Value> narrowed;
};

// The rows of a loop's only result that are wanted, and nothing else of it.
GatherRowsOp onlyReader(scf::ForOp loop) {
  if (loop.getNumResults() != 1 || !loop.getResult(0).hasOneUse())
    return {};
  auto gather = dyn_cast<GatherRowsOp>(*loop.getResult(0).user_begin());
  return gather && gather.getSource() == loop.getResult(0) ? gather : GatherRowsOp();
}

// The last iteration, behind the loop: what its result was made from is then there by name.
Value peelLast(scf::ForOp loop, int64_t last) {
  OpBuilder builder(loop);
  loop.setUpperBound(arith::ConstantIndexOp::create(builder, loop.getLoc(), last));
  builder.setInsertionPointAfter(loop);
  IRMapping mapping;
  mapping.map(loop.getInductionVar(), arith::ConstantIndexOp::create(builder, loop.getLoc(), last));
  mapping.map(loop.getRegionIterArgs()[0], loop.getResult(0));
  for (Operation &op : loop.getBody()->without_terminator()) {
    auto cache = dyn_cast<KvLayerOp>(op);
    if (!cache || cache.getIndex() != loop.getInductionVar()) {
      builder.clone(op, mapping);
      continue;
    }
    int64_t layer = int64_t(cache.getLayer()) + last * int64_t(cache.getStride());
    mapping.map(cache.getResult(), KvLayerOp::create(builder, op.getLoc(), cache.getResult().getType(), layer).getResult());
  }
  return mapping.lookupOrDefault(loop.getYieldedValues()[0]);
}

void narrow(scf::ForOp loop, GatherRowsOp gather) {
  auto first = getConstantIntValue(loop.getLowerBound()), end = getConstantIntValue(loop.getUpperBound());
  if (!first || !end || getConstantIntValue(loop.getStep()) != 1 || *end - *first < 2 ||
      !isByRow(loop.getYieldedValues()[0].getDefiningOp()))
    return;
  Value last = peelLast(loop, *end - 1);
  OpBuilder builder(gather);
  Value wanted = Narrower(builder, gather.getIndices()).narrow(last);
  gather.getResult().replaceAllUsesWith(wanted);
  gather.erase();
}

struct NarrowLastLayerPass : girih::compiler::impl::NarrowLastLayerBase<NarrowLastLayerPass> {
  void runOnOperation() override {
    for (auto function : getOperation().getOps<func::FuncOp>()) {
      auto maxTokens = function->getAttrOfType<IntegerAttr>("girih.max_tokens");
      if (!maxTokens || maxTokens.getInt() < kLeastTokens)
        continue;
      SmallVector<scf::ForOp> loops(function.getOps<scf::ForOp>());
      for (scf::ForOp loop : loops)
        if (GatherRowsOp gather = onlyReader(loop))
          narrow(loop, gather);
    }
  }
};

}  // namespace
