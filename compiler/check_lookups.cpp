// SPDX-License-Identifier: Apache-2.0
// checkLookups: every token and every position that a step may hold has its row in the tables it is looked up in.
#include "compiler/check_lookups.h"

#include "dialects/girih/dialect.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "llvm/Support/raw_ostream.h"

using namespace mlir;

namespace girih::compiler {
namespace {

// The argument of a step whose elements `index` is, unchanged but for its type; null where it is computed.
BlockArgument argumentBehind(Value index) {
  while (Operation *cast = index.getDefiningOp()) {
    if (!isa<arith::IndexCastOp, arith::IndexCastUIOp, arith::ExtSIOp, arith::ExtUIOp>(cast))
      return {};
    index = cast->getOperand(0);
  }
  auto argument = cast<BlockArgument>(index);
  if (auto generic = dyn_cast<linalg::GenericOp>(argument.getOwner()->getParentOp()))
    return argumentBehind(generic->getOperand(argument.getArgNumber()));
  auto function = dyn_cast<func::FuncOp>(argument.getOwner()->getParentOp());
  return function && function->hasAttr("girih.max_tokens") ? argument : BlockArgument();
}

Status checkLookup(Operation *op, Value index, int64_t numRows, int64_t vocabSize, int64_t maxPositions) {
  BlockArgument argument = argumentBehind(index);
  if (!argument || argument.getArgNumber() > 1 || ShapedType::isDynamic(numRows))
    return {};
  bool isToken = argument.getArgNumber() == 0;  // then come the positions
  int64_t most = isToken ? vocabSize : maxPositions;
  if (numRows >= most)
    return {};
  std::string place;
  llvm::raw_string_ostream(place) << op->getLoc();
  return invalidArgument("a table of " + std::to_string(numRows) + " rows is looked up by " +
                         (isToken ? "tokens" : "positions") + ", of which there are " + std::to_string(most) + "; " +
                         (isToken ? "the logits have as many columns as the embedding has rows"
                                  : "state girih.model = {maxPositions = " + std::to_string(numRows) + "} on @main") +
                         " (" + place + ")");
}

int64_t rowsOf(Type table) {
  auto packed = dyn_cast<dialect::PackedType>(table);
  return packed ? packed.getColumns() : cast<ShapedType>(table).getDimSize(0);
}

}  // namespace

Status checkLookups(ModuleOp module, int64_t vocabSize, int64_t maxPositions) {
  Status status;
  module.walk([&](Operation *op) {
    if (auto gather = dyn_cast<dialect::GatherRowsOp>(op))
      status = checkLookup(op, gather.getIndices(), rowsOf(gather.getSource().getType()), vocabSize, maxPositions);
    if (auto extract = dyn_cast<tensor::ExtractOp>(op))
      for (auto [dimension, index] : llvm::enumerate(extract.getIndices()))
        if (status.isOk())
          status = checkLookup(op, index, extract.getTensor().getType().getDimSize(int64_t(dimension)), vocabSize,
                               maxPositions);
    return status.isOk() ? WalkResult::advance() : WalkResult::interrupt();
  });
  return status;
}

}  // namespace girih::compiler
