// SPDX-License-Identifier: Apache-2.0
// girih-plan-layouts: chooses how each weight lies in the program file.
#include "compiler/fuse/passes.h"

#include "dialects/girih/dialect.h"
#include "runtime/weights/formats.h"

namespace girih::compiler {
#define GEN_PASS_DEF_PLANLAYOUTS
#include "compiler/fuse/passes.h.inc"
}  // namespace girih::compiler

using namespace mlir;
using namespace girih::dialect;

namespace {

// girih.weight becomes a layer_weight of one layer, so that all weights have one form from here on.
void unifyWeights(func::FuncOp function) {
  function.walk([](WeightOp weight) {
    OpBuilder b(weight);
    Value zero = arith::ConstantIndexOp::create(b, weight.getLoc(), 0);
    Attribute names = b.getArrayAttr({b.getArrayAttr({weight.getNameAttr()})});
    auto unified = LayerWeightOp::create(b, weight.getLoc(), weight.getType(), zero, cast<ArrayAttr>(names),
                                         b.getI64IntegerAttr(0), StringAttr());
    weight.replaceAllUsesWith(unified.getResult());
    weight.erase();
  });
}

// Folds stacked weights into one layer_weight with several names a layer.
LogicalResult foldStacked(ConcatRowsOp concat) {
  SmallVector<LayerWeightOp> parts;
  for (Value part : concat.getParts()) {
    auto weight = part.getDefiningOp<LayerWeightOp>();
    if (!weight)
      return concat.emitOpError("stacks a value that is no weight of the checkpoint");
    parts.push_back(weight);
  }
  OpBuilder b(concat);
  SmallVector<Attribute> stacked;
  for (size_t layer = 0; layer < parts.front().getNames().size(); ++layer) {
    SmallVector<Attribute> names;
    for (LayerWeightOp part : parts)
      llvm::append_range(names, cast<ArrayAttr>(part.getNames()[layer]));
    stacked.push_back(b.getArrayAttr(names));
  }
  auto folded = LayerWeightOp::create(b, concat.getLoc(), concat.getType(), parts.front().getLayer(),
                                      b.getArrayAttr(stacked), concat.getInterleaveAttr(), StringAttr());
  concat.replaceAllUsesWith(folded.getResult());
  concat.erase();
  return success();
}

bool isPackedUse(OpOperand &use) {
  if (auto matmul = dyn_cast<QMatmulOp>(use.getOwner()))
    return use.get() == matmul.getW();
  if (auto gather = dyn_cast<GatherRowsOp>(use.getOwner()))
    return use.get() == gather.getSource();
  return false;
}

LogicalResult planLayout(LayerWeightOp weight) {
  auto type = dyn_cast<RankedTensorType>(weight.getResult().getType());
  if (!type || storageFormat(type).empty())
    return success();  // planned already
  StringRef storage = storageFormat(type);
  const girih::weights::FormatRow *row = girih::weights::findFormatByName({storage.data(), storage.size()});
  if (!row)
    return weight.emitOpError("storage \"") << storage << "\" is not in the formats table, which has "
                                            << girih::weights::supportedFormatNames();
  weight.setStorageAttr(StringAttr::get(weight.getContext(), storage));
  bool packs = type.getRank() == 2 && llvm::all_of(weight->getUses(), isPackedUse);
  Type planned = packs ? Type(PackedType::get(weight.getContext(), type.getDimSize(0), type.getDimSize(1),
                                              row->packed.print()))
                       : Type(RankedTensorType::get(type.getShape(), type.getElementType()));
  weight.getResult().setType(planned);
  return success();
}

struct PlanLayoutsPass : girih::compiler::impl::PlanLayoutsBase<PlanLayoutsPass> {
  void runOnOperation() override {
    for (auto function : getOperation().getOps<func::FuncOp>()) {
      unifyWeights(function);
      WalkResult stacked = function.walk([](ConcatRowsOp concat) { return WalkResult(foldStacked(concat)); });
      WalkResult planned = function.walk([](LayerWeightOp weight) {
        if (weight->use_empty()) {
          weight->erase();
          return WalkResult::advance();
        }
        return WalkResult(planLayout(weight));
      });
      if (stacked.wasInterrupted() || planned.wasInterrupted())
        return signalPassFailure();
    }
  }
};

}  // namespace
