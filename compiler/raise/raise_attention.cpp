// SPDX-License-Identifier: Apache-2.0
// Recognises causal attention by its meaning.
//
// Each contraction is asked what it means (match_attention); where the answer is attention, the result is
// replaced at the first view of it that costs no copy, and the scores, then without users, vanish.
#include "compiler/raise/equal_extents.h"
#include "compiler/raise/match_attention.h"
#include "compiler/raise/passes.h"

#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "mlir/Interfaces/SideEffectInterfaces.h"
#include "llvm/Support/DebugLog.h"

#define DEBUG_TYPE "girih-raise-attention"

namespace girih::compiler {

#define GEN_PASS_DEF_RAISEATTENTION
#include "compiler/raise/passes.h.inc"

namespace {

using namespace mlir;

bool isPureView(Operation *op) {
  return isa<tensor::ExpandShapeOp, tensor::CollapseShapeOp, tensor::CastOp, linalg::TransposeOp>(op);
}

// A place where attention's result may be put in: a view of the contraction's result, and its layout.
struct Target {
  Value value;
  Layout layout;
};

// The layout of a view, given the one of what it views; null when a dimension splits a variable.
std::optional<Layout> layoutOfView(PullBack &pullBack, Operation *view, const Layout &layout) {
  if (isa<tensor::CastOp>(view))
    return layout;
  if (auto transpose = dyn_cast<linalg::TransposeOp>(view))
    return Layout(llvm::map_range(transpose.getPermutation(), [&](int64_t dim) { return layout[dim]; }));
  Layout result;
  if (auto collapse = dyn_cast<tensor::CollapseShapeOp>(view)) {
    for (const ReassociationIndices &group : collapse.getReassociationIndices()) {
      result.emplace_back();
      for (int64_t dim : group)
        result.back().append(layout[dim].begin(), layout[dim].end());
    }
    return result;
  }
  auto expand = cast<tensor::ExpandShapeOp>(view);
  for (auto [dim, group] : llvm::enumerate(expand.getReassociationIndices())) {
    ArrayRef<unsigned> rest = layout[dim];
    for (int64_t resultDim : group) {
      int64_t extent = expand.getResultType().getDimSize(resultDim);
      result.emplace_back();
      int64_t covered = 1;
      while (covered != extent && !rest.empty()) {
        int64_t next = pullBack.extentOf(rest.front());
        covered = ShapedType::isDynamic(next) ? ShapedType::kDynamic : covered * next;
        result.back().push_back(rest.front());
        rest = rest.drop_front();
        if (ShapedType::isDynamic(covered))
          break;
      }
      if (covered != extent)
        return std::nullopt;
    }
    if (!rest.empty())
      return std::nullopt;
  }
  return result;
}

// Where to put attention's result: the first view that is a mere reshape of it, else the contraction's own
// result.
Target chooseTarget(PullBack &pullBack, Value mixed, const AttentionMatch &match) {
  Target first{mixed, match.result};
  Target current = first;
  while (!isReshape(match.resultLayout(), current.layout)) {
    if (!current.value.hasOneUse() || !isPureView(*current.value.user_begin()))
      return first;
    Operation *view = *current.value.user_begin();
    if (view->getOperand(0) != current.value)
      return first;
    std::optional<Layout> layout = layoutOfView(pullBack, view, current.layout);
    if (!layout)
      return first;
    current = {view->getResult(0), *layout};
  }
  return current;
}

// An operation outside of what was recognised that keeps the scores alive once `mix` is gone, or null.
Operation *foreignUser(const PullBack &pullBack, const AttentionMatch &match, linalg::LinalgOp mix) {
  // Each with the first operation on its way that was not part of the recognised formula.
  SmallVector<std::pair<Operation *, Operation *>> pending;
  for (Operation *dot : match.dotProducers)
    pending.push_back({dot, nullptr});
  llvm::DenseSet<Operation *> seen;
  while (!pending.empty()) {
    auto [op, foreign] = pending.pop_back_val();
    if (!seen.insert(op).second)
      continue;
    for (Operation *user : op->getUsers()) {
      if (user == mix || isa<tensor::DimOp>(user))
        continue;
      Operation *first = foreign || pullBack.visited().contains(user) ? foreign : user;
      if (user->hasTrait<OpTrait::IsTerminator>() || !isMemoryEffectFree(user))
        return first ? first : user;
      pending.push_back({user, first});
    }
  }
  return nullptr;
}

unsigned tokenDimOf(const Source &source, unsigned token) {
  for (auto [dim, group] : llvm::enumerate(source.layout))
    if (llvm::is_contained(group, token))
      return dim;
  llvm_unreachable("a source has its token");
}

// The extent `dim` of `tensor`: where possible the very number that its destination was made with, else that
// of `other`, which is as large. Not an extent of `tensor` itself, which is about to go.
OpFoldResult extentOf(OpBuilder &builder, Location loc, Value tensor, int64_t dim, Value other,
                      int64_t otherDim) {
  Value made = tensor;
  while (auto structured = made.getDefiningOp<DestinationStyleOpInterface>())
    made = structured.getTiedOpOperand(cast<OpResult>(made))->get();
  if (auto empty = made.getDefiningOp<tensor::EmptyOp>())
    return empty.getMixedSizes()[dim];
  return tensor::getMixedSize(builder, loc, other, otherDim);
}

struct RaiseAttentionPass : impl::RaiseAttentionBase<RaiseAttentionPass> {
  void runOnOperation() override {
    SmallVector<linalg::LinalgOp> contractions;
    getOperation().walk([&](linalg::LinalgOp op) {
      if (op.getNumReductionLoops() > 0 && op.getNumDpsInputs() == 2)
        contractions.push_back(op);
    });
    for (linalg::LinalgOp mix : contractions) {
      std::string reason;
      if (succeeded(raise(mix, reason)) || reason.empty())
        continue;
      mix->emitRemark("not raised to attention: ") << reason;
      note(mix, reason);
    }
  }

  LogicalResult raise(linalg::LinalgOp mix, std::string &reason) {
    PullBack pullBack(&getContext());
    std::optional<AttentionMatch> match = matchAttention(pullBack, mix, reason);
    if (!match)
      return failure();
    if (Operation *user = foreignUser(pullBack, *match, mix)) {
      reason = "its scores are also used by `" + user->getName().getStringRef().str() + "`";
      return failure();
    }
    EqualExtents extents(mix->getParentOfType<func::FuncOp>());
    unsigned keyDim = tokenDimOf(match->key, match->keyToken);
    if (!extents.areEqual(match->key.tensor, keyDim, match->value.tensor,
                          tokenDimOf(match->value, match->keyToken)) ||
        !extents.areEqual(match->key.tensor, keyDim, match->query.tensor,
                          tokenDimOf(match->query, match->queryToken))) {
      reason = "queries, keys and values are not seen to be of the same tokens";
      return failure();
    }
    LDBG() << "attention at " << mix.getLoc();
    rewrite(pullBack, *match, mix);
    return success();
  }

  void rewrite(PullBack &pullBack, const AttentionMatch &match, linalg::LinalgOp mix) {
    OpBuilder builder(mix);
    Location loc = mix.getLoc();
    Value query = relayout(builder, loc, pullBack, match.query, match.queryLayout()); // [T, H, D]
    Value key = relayout(builder, loc, pullBack, match.key, match.keyLayout());       // [T, G, D]
    Value value = relayout(builder, loc, pullBack, match.value, match.valueLayout()); // [T, G, Dv]
    auto extent = [&](ArrayRef<unsigned> variables) {
      int64_t product = 1;
      for (unsigned variable : variables)
        product *= pullBack.extentOf(variable);
      return product;
    };
    int64_t tokenDim =
        llvm::find_if(match.result,
                      [&](auto &group) { return group.size() == 1 && group[0] == match.queryToken; }) -
        match.result.begin();
    SmallVector<OpFoldResult> sizes = {extentOf(builder, loc, mix->getResult(0), tokenDim, query, 0),
                                       builder.getIndexAttr(extent(match.heads())),
                                       builder.getIndexAttr(extent(match.valueChannels))};
    Value init = tensor::EmptyOp::create(builder, loc, sizes, builder.getF32Type());
    auto attention = dialect::AttentionOp::create(
        builder, loc, init.getType(), query, key, value, /*kv=*/Value(), /*offsets=*/ValueRange(), init,
        builder.getF32FloatAttr(static_cast<float>(match.scale)),
        match.window ? builder.getI64IntegerAttr(*match.window) : IntegerAttr(),
        match.softCap ? builder.getF32FloatAttr(static_cast<float>(*match.softCap)) : FloatAttr(),
        /*query_tile=*/IntegerAttr(), /*chunk=*/IntegerAttr(), /*operand_type=*/TypeAttr());
    Value result = attention.getResult(); // [T, H, Dv]

    Target target = chooseTarget(pullBack, mix->getResult(0), match);
    Source source;
    source.tensor = result;
    source.offsets.assign(3, 0);
    llvm::append_range(source.sizes, cast<RankedTensorType>(result.getType()).getShape());
    source.layout = match.resultLayout();
    // The reshape stands where the view stood: what it reads dominates it.
    if (Operation *view = target.value.getDefiningOp())
      builder.setInsertionPoint(view);
    Value replacement = relayout(builder, loc, pullBack, source, target.layout);
    if (replacement.getType() != target.value.getType())
      replacement = tensor::CastOp::create(builder, loc, target.value.getType(), replacement);
    target.value.replaceAllUsesWith(replacement);
    eraseDead(target.value.getDefiningOp());
  }

  // Erases `op` and the producers that nothing else uses.
  void eraseDead(Operation *op) {
    SmallVector<Operation *> pending = {op};
    while (!pending.empty()) {
      Operation *dead = pending.pop_back_val();
      if (!isOpTriviallyDead(dead))
        continue;
      llvm::SetVector<Operation *> producers;
      dead->walk([&](Operation *inner) {
        for (Value operand : inner->getOperands())
          if (Operation *producer = operand.getDefiningOp(); producer && !dead->isAncestor(producer))
            producers.insert(producer);
      });
      dead->erase();
      // An operation that is waiting already must not wait twice.
      for (Operation *producer : producers)
        if (!llvm::is_contained(pending, producer))
          pending.push_back(producer);
    }
  }

  void note(Operation *op, llvm::StringRef reason) {
    std::string text;
    llvm::raw_string_ostream stream(text);
    op->getLoc().print(stream);
    stream << ": not raised to attention: " << reason;
    Builder builder(&getContext());
    SmallVector<Attribute> notes;
    if (auto known = getOperation()->getAttrOfType<ArrayAttr>("girih.notes"))
      llvm::append_range(notes, known);
    notes.push_back(builder.getStringAttr(text));
    getOperation()->setAttr("girih.notes", builder.getArrayAttr(notes));
  }
};

} // namespace
} // namespace girih::compiler
