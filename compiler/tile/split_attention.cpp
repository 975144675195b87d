// SPDX-License-Identifier: Apache-2.0
// girih-split-attention: in steps of few tokens, chunks of the cache are units of work.
#include "compiler/tile/passes.h"

#include "dialects/girih/dialect.h"
#include "dialects/machine/dialect.h"

namespace girih::compiler {
#define GEN_PASS_DEF_SPLITATTENTION
#include "compiler/tile/passes.h.inc"
}  // namespace girih::compiler

using namespace mlir;
using namespace girih::dialect;
using girih::machine::DescriptionAttr;

namespace {

constexpr int64_t kFewTokens = 16;  // as are decoded together; more have units enough, one for each tile of queries and kv head

void split(AttentionOp op, int64_t maxPositions) {
  OpBuilder b(op);
  Location loc = op.getLoc();
  KvType kv = op.getKv().getType();
  int64_t chunk = *op.getChunk();
  SmallVector<OpFoldResult> extents{tensor::getMixedSize(b, loc, op.getQ(), 0),
                                    b.getIndexAttr(cast<ShapedType>(op.getQ().getType()).getDimSize(1)),
                                    b.getIndexAttr(llvm::divideCeil(maxPositions, chunk)),
                                    b.getIndexAttr(AttentionPartsOp::partElements(kv.getValueDim()))};
  Value empty = tensor::EmptyOp::create(b, loc, extents, b.getF32Type());
  auto parts = AttentionPartsOp::create(b, loc, empty.getType(), op.getQ(), op.getKv(), ValueRange(), empty,
                                        op.getScaleAttr(), op.getWindowAttr(), op.getSoftCapAttr(), op.getChunkAttr());
  auto joined = JoinPartsOp::create(b, loc, op.getInit().getType(), parts.getResult(), Value(), op.getInit(),
                                    op.getChunkAttr(), op.getWindowAttr());
  op.getResult().replaceAllUsesWith(joined.getResult());
  op.erase();
}

struct SplitAttentionPass : girih::compiler::impl::SplitAttentionBase<SplitAttentionPass> {
  void runOnOperation() override {
    auto machine = getOperation()->getAttrOfType<DescriptionAttr>("girih.machine");
    auto model = getOperation()->getAttrOfType<DictionaryAttr>("girih.model");
    auto maxPositions = model ? model.getAs<IntegerAttr>("maxPositions") : IntegerAttr();
    if (!machine || machine.getCores() < 2 || !maxPositions)
      return;
    for (auto function : getOperation().getOps<func::FuncOp>()) {
      auto maxTokens = function->getAttrOfType<IntegerAttr>("girih.max_tokens");
      if (!maxTokens || maxTokens.getInt() > kFewTokens)
        continue;
      SmallVector<AttentionOp> ops;
      function.walk([&](AttentionOp op) {
        if (op.getKv() && op.getOffsets().empty() && op.getChunk() && *op.getChunk() < uint64_t(maxPositions.getInt()))
          ops.push_back(op);
      });
      for (AttentionOp op : ops)
        split(op, maxPositions.getInt());
    }
  }
};

}  // namespace
