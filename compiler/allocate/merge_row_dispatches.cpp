// SPDX-License-Identifier: Apache-2.0
// girih-merge-row-dispatches: makes one dispatch of neighbours that work row by row on the same rows.
//
// What the first writes to a row, the second reads while it is in the nearest cache, and the team meets once.
#include "compiler/allocate/passes.h"

#include "compiler/allocate/dispatch_accesses.h"

#include "mlir/IR/IRMapping.h"

namespace girih::compiler {
#define GEN_PASS_DEF_MERGEROWDISPATCHES
#include "compiler/allocate/passes.h.inc"

using namespace mlir;

namespace {

bool isRowWise(scf::ForallOp dispatch) {
  auto distribution = dispatch->getAttrOfType<StringAttr>("girih.distribution");
  return dispatch.getRank() == 1 && dispatch.isNormalized() && (!distribution || distribution.getValue() == "block");
}

// Whether unit i of `second` may run right after unit i of `first`: memory that one of them writes and the other
// touches is touched by both in row i alone. A buffer that a loop hands on keeps its dispatches: its next content
// takes the place of the last.
bool areIndependent(ArrayRef<Access> first, ArrayRef<Access> second) {
  for (const Access &a : first)
    for (const Access &b : second) {
      if (a.memory != b.memory || !(a.isWrite || b.isWrite))
        continue;
      bool isCarried = a.memory && isa<BlockArgument>(a.memory) &&
                       isa<scf::ForOp>(Value(a.memory).getParentBlock()->getParentOp());
      if (!a.memory || isCarried || !a.isOwnRow || !b.isOwnRow)
        return false;
    }
  return true;
}

bool canMerge(scf::ForallOp first, scf::ForallOp second) {
  if (!isRowWise(first) || !isRowWise(second) ||
      originOf(first.getMixedUpperBound().front()) != originOf(second.getMixedUpperBound().front()))
    return false;
  auto earlier = accessesOf(first), later = accessesOf(second);
  return earlier && later && areIndependent(*earlier, *later);
}

// An elementwise name says less than that of an op of ours.
StringAttr nameOf(scf::ForallOp first, scf::ForallOp second) {
  auto a = first->getAttrOfType<StringAttr>("girih.dispatch"), b = second->getAttrOfType<StringAttr>("girih.dispatch");
  return a && b && b.getValue().starts_with("generic") ? a : b;
}

void merge(scf::ForallOp first, scf::ForallOp second) {
  while (first->getNextNode() != second)
    first->getNextNode()->moveBefore(first);
  if (StringAttr name = nameOf(first, second))
    first->setAttr("girih.dispatch", name);
  OpBuilder b(first.getTerminator());
  IRMapping mapping;
  mapping.map(second.getInductionVars(), first.getInductionVars());
  for (Operation &op : second.getBody()->without_terminator())
    b.clone(op, mapping);
  second.erase();
}

struct MergeRowDispatchesPass : impl::MergeRowDispatchesBase<MergeRowDispatchesPass> {
  void runOnOperation() override {
    SmallVector<scf::ForallOp> dispatches;
    getOperation().walk([&](scf::ForallOp op) {
      if (!op->getParentOfType<scf::ForallOp>())
        dispatches.push_back(op);
    });
    // Last first: what a dispatch merges with is already as long as it gets.
    for (scf::ForallOp dispatch : llvm::reverse(dispatches))
      if (scf::ForallOp next = nextDispatch(dispatch); next && canMerge(dispatch, next))
        merge(dispatch, next);
  }
};

}  // namespace
}  // namespace girih::compiler
