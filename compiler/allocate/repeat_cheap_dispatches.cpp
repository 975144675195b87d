// SPDX-License-Identifier: Apache-2.0
// girih-repeat-cheap-dispatches: lets every thread do all of a dispatch that costs less than a meeting.
//
// Where all wait for the norm of one row, each can as well compute it: nobody waits, and the row is in each one's cache.
#include "compiler/allocate/passes.h"

#include "compiler/allocate/dispatch_accesses.h"
#include "dialects/girih/dialect.h"
#include "dialects/machine/dialect.h"

namespace girih::compiler {
#define GEN_PASS_DEF_REPEATCHEAPDISPATCHES
#include "compiler/allocate/passes.h.inc"

using namespace mlir;
using machine::DescriptionAttr;

namespace {

double vectorsOf(ShapedType type, int64_t maxTokens, int64_t lanes) {
  double elements = 1;
  for (int64_t extent : type.getShape())
    elements *= ShapedType::isDynamic(extent) ? double(maxTokens) : double(extent);
  return elements / double(lanes);
}

// Cycles that one thread takes for the tile of one unit: an instruction a vector for each operation and operand.
std::optional<double> unitCycles(scf::ForallOp dispatch, int64_t maxTokens, int64_t lanes) {
  constexpr double kQuantizeInstructions = 12;  // amax, scale, rounding, sums
  double cycles = 0;
  bool isKnown = true;
  dispatch.getBody()->walk([&](Operation *op) {
    if (!isa<linalg::LinalgOp, dialect::QuantizeRowsOp>(op)) {
      isKnown &= !isa<DestinationStyleOpInterface, dialect::KvAppendOp, memref::CopyOp>(op);
      return;
    }
    double vectors = 0;
    for (Value operand : op->getOperands())
      if (auto type = dyn_cast<ShapedType>(operand.getType()); type && !type.getElementType().isInteger(8))
        vectors = std::max(vectors, vectorsOf(type, maxTokens, lanes));
    double perVector = isa<dialect::QuantizeRowsOp>(op)
                           ? kQuantizeInstructions
                           : double(op->getRegion(0).front().getOperations().size() - 1 + op->getNumOperands());
    cycles += vectors * perVector;
  });
  return isKnown ? std::optional(cycles) : std::nullopt;
}

// Rows cost C on one thread, C / cores and a meeting on all of them.
bool isCheaperRepeated(scf::ForallOp dispatch, int64_t maxTokens, DescriptionAttr machine) {
  auto unit = machine.unitFor("f32");
  if (!unit || dispatch.getRank() != 1 || machine.getCores() < 2)
    return false;
  auto rows = getConstantIntValue(dispatch.getMixedUpperBound().front());
  std::optional<double> cycles = unitCycles(dispatch, maxTokens, unit.getLanes());
  if (!cycles)
    return false;
  double nanoseconds = *cycles * double(rows.value_or(maxTokens)) * 1000 / double(machine.getClockMhz());
  return nanoseconds * (1 - 1 / double(machine.getCores())) <= double(machine.getBarrierNs());
}

// Every use of the buffer is in this block's dispatches: none of a loop's next iteration, none of another block.
bool staysInBlock(memref::AllocOp alloc) {
  SmallVector<Value> views{alloc.getResult()};
  while (!views.empty())
    for (Operation *user : views.pop_back_val().getUsers()) {
      if (isa<ViewLikeOpInterface>(user) && user->getBlock() == alloc->getBlock())
        llvm::append_range(views, user->getResults());
      else if (Operation *home = alloc->getBlock()->findAncestorOpInBlock(*user);
               !home || !isa<scf::ForallOp, memref::DimOp>(home))
        return false;
    }
  return true;
}

// Whether another dispatch of the block writes into the buffer, too: a copy of each thread's own would then lack what
// other threads wrote there.
bool isWrittenElsewhere(memref::AllocOp alloc, scf::ForallOp dispatch) {
  return llvm::any_of(alloc->getBlock()->getOps<scf::ForallOp>(), [&](scf::ForallOp other) {
    if (other == dispatch)
      return false;
    auto accesses = accessesOf(other);
    return !accesses || llvm::any_of(*accesses, [&](const Access &access) {
      return access.isWrite && access.memory == alloc.getResult();
    });
  });
}

// The buffers that the units fill, when nobody else does and nobody but later dispatches of this block reads them.
std::optional<llvm::SetVector<Operation *>> resultsOf(scf::ForallOp dispatch, ArrayRef<Access> accesses) {
  llvm::SetVector<Operation *> results;
  for (const Access &access : accesses) {
    if (!access.isWrite)
      continue;
    auto alloc = access.memory ? access.memory.getDefiningOp<memref::AllocOp>() : memref::AllocOp();
    if (!alloc || alloc->getBlock() != dispatch->getBlock() || !staysInBlock(alloc) ||
        isWrittenElsewhere(alloc, dispatch))
      return std::nullopt;
    results.insert(alloc);
  }
  return results;
}

struct RepeatCheapDispatchesPass : impl::RepeatCheapDispatchesBase<RepeatCheapDispatchesPass> {
  void runOnOperation() override {
    auto machine = getOperation()->getAttrOfType<DescriptionAttr>("girih.machine");
    if (!machine)
      return;
    for (auto function : getOperation().getOps<func::FuncOp>()) {
      auto maxTokens = function->getAttrOfType<IntegerAttr>("girih.max_tokens");
      if (!maxTokens)
        continue;
      SmallVector<scf::ForallOp> dispatches;
      function.walk([&](scf::ForallOp op) {
        if (!op->getParentOfType<scf::ForallOp>())
          dispatches.push_back(op);
      });
      // Last first: what follows has its final distribution.
      for (scf::ForallOp dispatch : llvm::reverse(dispatches))
        if (isCheaperRepeated(dispatch, maxTokens.getInt(), machine))
          repeat(dispatch);
    }
  }

  // A thread that is done goes on to the next dispatch while others still read here: that one must write nothing
  // that is read here. The meeting after it ends the danger.
  void repeat(scf::ForallOp dispatch) {
    scf::ForallOp next = nextDispatch(dispatch);
    auto every = StringAttr::get(&getContext(), "every");
    if (!next || dispatch->hasAttr("girih.distribution") || next->getAttr("girih.distribution") == every)
      return;
    auto here = accessesOf(dispatch), after = accessesOf(next);
    if (!here || !after)
      return;
    std::optional<llvm::SetVector<Operation *>> results = resultsOf(dispatch, *here);
    bool overwrites = llvm::any_of(*after, [&](const Access &write) {
      return write.isWrite &&
             llvm::any_of(*here, [&](const Access &access) { return access.memory == write.memory; });
    });
    if (!results || overwrites)
      return;
    dispatch->setAttr("girih.distribution", every);
    for (Operation *alloc : *results)
      alloc->setAttr("girih.own", UnitAttr::get(&getContext()));
  }
};

}  // namespace
}  // namespace girih::compiler
