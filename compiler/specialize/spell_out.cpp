// SPDX-License-Identifier: Apache-2.0
// Spells out what has no loops of its own: concatenation and softmax.
#include "compiler/specialize/passes.h"

#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"

namespace girih::compiler {

#define GEN_PASS_DEF_SPELLOUT
#include "compiler/specialize/passes.h.inc"

namespace {

using namespace mlir;

struct SpellOutPass : impl::SpellOutBase<SpellOutPass> {
  void runOnOperation() override {
    SmallVector<tensor::ConcatOp> concats;
    getOperation().walk([&](tensor::ConcatOp op) { concats.push_back(op); });
    for (tensor::ConcatOp concat : concats)
      place(concat);
    SmallVector<linalg::SoftmaxOp> softmaxes;
    getOperation().walk([&](linalg::SoftmaxOp op) { softmaxes.push_back(op); });
    for (linalg::SoftmaxOp softmax : softmaxes) {
      OpBuilder builder(softmax);
      FailureOr<SmallVector<Value>> steps = softmax.decomposeOperation(builder);
      if (failed(steps))
        return signalPassFailure();
      softmax->replaceAllUsesWith(*steps);
      softmax.erase();
    }
  }

  void place(tensor::ConcatOp concat) {
    OpBuilder builder(concat);
    Location loc = concat.getLoc();
    int64_t dim = concat.getDim(), rank = concat.getRank();
    SmallVector<OpFoldResult> sizes = tensor::getMixedSizes(builder, loc, concat.getInputs().front());
    SmallVector<OpFoldResult> offsets(rank, builder.getIndexAttr(0)), strides(rank, builder.getIndexAttr(1));
    SmallVector<OpFoldResult> whole = sizes;
    whole[dim] = builder.getIndexAttr(concat.getResultType().getDimSize(dim));
    int64_t offset = 0;
    if (concat.getResultType().isDynamicDim(dim))
      return; // along the tokens: token analysis has refused it
    Value result = tensor::EmptyOp::create(builder, loc, whole, concat.getResultType().getElementType());
    for (Value part : concat.getInputs()) {
      auto type = cast<RankedTensorType>(part.getType());
      sizes[dim] = builder.getIndexAttr(type.getDimSize(dim));
      offsets[dim] = builder.getIndexAttr(offset);
      offset += type.getDimSize(dim);
      result = tensor::InsertSliceOp::create(builder, loc, computed(builder, loc, part), result, offsets, sizes, strides);
    }
    if (result.getType() != concat.getType())
      result = tensor::CastOp::create(builder, loc, concat.getType(), result);
    concat.replaceAllUsesWith(result);
    concat.erase();
  }

  // A part that no structured operation computes for this place alone needs one that copies it.
  Value computed(OpBuilder &builder, Location loc, Value part) {
    auto numReads = llvm::count_if(part.getUsers(), [](Operation *user) { return !isa<tensor::DimOp>(user); });
    if (part.getDefiningOp<linalg::LinalgOp>() && numReads == 1)
      return part;
    SmallVector<OpFoldResult> sizes = tensor::getMixedSizes(builder, loc, part);
    Value init = tensor::EmptyOp::create(builder, loc, sizes, getElementTypeOrSelf(part));
    return linalg::CopyOp::create(builder, loc, part, init).getResult(0);
  }
};

} // namespace
} // namespace girih::compiler
