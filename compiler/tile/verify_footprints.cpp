// SPDX-License-Identifier: Apache-2.0
// girih-verify-footprints: proves that every tile fits the memory level it was made for.
#include "compiler/tile/passes.h"

#include "dialects/girih/dialect.h"
#include "dialects/machine/dialect.h"

namespace girih::compiler {
#define GEN_PASS_DEF_VERIFYFOOTPRINTS
#include "compiler/tile/passes.h.inc"
}  // namespace girih::compiler

using namespace mlir;
using namespace girih::dialect;
using girih::machine::DescriptionAttr;
using girih::machine::LevelAttr;

namespace {

constexpr int64_t kF32Bytes = 4, kBf16Bytes = 2;

LogicalResult fits(Operation *op, int64_t bytes, LevelAttr level) {
  if (bytes <= level.getSizeBytes())
    return success();
  return op->emitOpError("has a tile of ") << bytes << " bytes; level " << level.getName() << " that it is for has "
                                           << level.getSizeBytes() << ", and no smaller tile is made";
}

struct VerifyFootprintsPass : girih::compiler::impl::VerifyFootprintsBase<VerifyFootprintsPass> {
  void runOnOperation() override {
    auto machine = getOperation()->getAttrOfType<DescriptionAttr>("girih.machine");
    if (!machine || machine.getLevels().empty()) {
      getOperation().emitError("module has no `girih.machine` with a memory level; tiles are proved against those");
      return signalPassFailure();
    }
    LevelAttr near = machine.getLevels().front(), far = machine.getLevels()[machine.getLevels().size() > 1 ? 1 : 0];
    bool allFit = true;
    getOperation().walk([&](QMatmulOp op) { allFit &= succeeded(verifyMatmul(op, near, far)); });
    getOperation().walk([&](AttentionOp op) { allFit &= succeeded(verifyAttention(op, near, far)); });
    if (!allFit)
      signalPassFailure();
    markAllAnalysesPreserved();
  }

  // The weights that all rows share, the activations that meet them, and their sums.
  LogicalResult verifyMatmul(QMatmulOp op, LevelAttr near, LevelAttr far) {
    int64_t rows = op.getRowTile().value_or(1), columns = op.getColumnTile().value_or(0), depth = op.getKTile().value_or(0);
    if (op.getStrategy() == StringRef("panel"))
      return fits(op, kF32Bytes * (depth * columns + rows * depth + rows * columns), far);
    if (op.getStrategy() == StringRef("matrix"))
      return fits(op, kBf16Bytes * depth * columns, near);
    return success();  // streams its weights once: sums are in registers
  }

  // Queries and sums of the rows that share a chunk of keys; those of a matrix unit go by it pass after pass, and are to
  // stay in the second level.
  LogicalResult verifyAttention(AttentionOp op, LevelAttr near, LevelAttr far) {
    auto q = cast<ShapedType>(op.getQ().getType()), out = cast<ShapedType>(op.getInit().getType());
    if (!op.getKv())
      return success();  // one row at a time
    int64_t heads = q.isDynamicDim(1) ? 1 : q.getDimSize(1);
    int64_t rows = op.getQueryTile().value_or(1) * heads;
    if (op.getOperandType())
      return fits(op, rows * (kBf16Bytes * q.getDimSize(2) + kF32Bytes * out.getDimSize(2)), far);
    return fits(op, kF32Bytes * rows * (q.getDimSize(2) + out.getDimSize(2)), near);
  }
};

}  // namespace
