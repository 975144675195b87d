// SPDX-License-Identifier: Apache-2.0
// Which dimension of each tensor enumerates the tokens, and the proof that operations keep tokens apart.
#include "compiler/specialize/token_analysis.h"

#include "dialects/girih/dialect.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "mlir/Dialect/Utils/StaticValueUtils.h"
#include "llvm/ADT/TypeSwitch.h"

namespace girih::compiler {

using namespace mlir;

using State = TokenAnalysis::State;
using Kind = State::Kind;

TokenAnalysis::TokenAnalysis(ModuleOp module) : module(module) {
  auto main = module.lookupSymbol<func::FuncOp>("main");
  if (!main || main.isExternal())
    return;
  // Of main's arguments those with one dynamic extent, in front, are per token: tokens, positions.
  SmallVector<State> arguments;
  for (Type type : main.getArgumentTypes()) {
    auto tensor = dyn_cast<RankedTensorType>(type);
    bool isPerToken =
        tensor && tensor.getRank() >= 1 && tensor.isDynamicDim(0) && tensor.getNumDynamicDims() == 1;
    arguments.push_back(isPerToken ? State{Kind::Along, 0} : State{});
  }
  visitFunction(main, arguments);
}

void TokenAnalysis::refuse(Operation *op, std::string reason) {
  for (Value result : op->getResults())
    if (isa<RankedTensorType>(result.getType()))
      set(result, {Kind::Mixed});
  // A function that is called for many layers is told once.
  if (llvm::none_of(refused, [&](Refusal &known) { return known.op == op; }))
    refused.push_back({op, std::move(reason)});
}

void TokenAnalysis::visitFunction(func::FuncOp function, ArrayRef<State> arguments) {
  auto [known, isNew] = visitedWith.try_emplace(function, arguments.begin(), arguments.end());
  if (!isNew) {
    if (ArrayRef<State>(known->second) != arguments)
      refuse(function,
             "function `" + function.getName().str() + "` is called with tokens in different dimensions");
    return;
  }
  for (auto [argument, state] : llvm::zip_equal(function.getArguments(), arguments))
    set(argument, state);
  for (Operation &op : function.front())
    visit(&op);
}

void TokenAnalysis::visit(Operation *op) {
  // What comes of mixed tokens is mixed; it was told where it began.
  bool isMixed = llvm::any_of(op->getOperands(), [&](Value v) { return stateOf(v).kind == Kind::Mixed; });
  llvm::TypeSwitch<Operation *>(op)
      .Case<func::CallOp>([&](auto call) { visitCall(call); })
      .Case<tensor::DimOp>([&](tensor::DimOp dim) {
        State source = stateOf(dim.getSource());
        std::optional<int64_t> which = dim.getConstantIndex();
        bool isCount = source.kind == Kind::Along && which && *which == source.dim;
        set(dim.getResult(), isCount ? State{Kind::Count} : State{});
      })
      .Case<tensor::EmptyOp>([&](auto) { visitEmpty(op); })
      .Case<dialect::AttentionOp>([&](dialect::AttentionOp attention) {
        for (Value operand : {attention.getQ(), attention.getKey(), attention.getValue()})
          if (!operand || stateOf(operand) != State{Kind::Along, 0})
            return refuse(op, "attention whose queries, keys and values are not those of the step's tokens");
        set(attention.getResult(), {Kind::Along, 0});
      })
      .Case<dialect::GatherRowsOp>([&](dialect::GatherRowsOp gather) {
        if (stateOf(gather.getSource()).kind != Kind::None)
          return refuse(op, "rows of other tokens are read");
        set(gather.getResult(), stateOf(gather.getIndices()));
      })
      .Case<dialect::QMatmulOp>(
          [&](dialect::QMatmulOp matmul) { set(matmul.getResult(), stateOf(matmul.getX())); })
      .Default([&](Operation *other) {
        if (isMixed) {
          for (Value result : op->getResults())
            set(result, {Kind::Mixed});
        } else if (auto linalgOp = dyn_cast<linalg::LinalgOp>(other)) {
          visitLinalg(linalgOp);
        } else if (isa<tensor::ExpandShapeOp, tensor::CollapseShapeOp>(op)) {
          visitReshape(op);
        } else if (isa<tensor::ExtractSliceOp>(op)) {
          visitExtractSlice(op);
        } else if (isa<tensor::InsertSliceOp>(op)) {
          visitInsertSlice(op);
        } else {
          visitElementwise(op);
        }
      });
}

void TokenAnalysis::visitCall(func::CallOp call) {
  auto callee = module.lookupSymbol<func::FuncOp>(call.getCallee());
  SmallVector<State> arguments = llvm::map_to_vector(call.getOperands(), [&](Value v) { return stateOf(v); });
  visitFunction(callee, arguments);
  auto results = callee.front().getTerminator()->getOperands();
  for (auto [result, inner] : llvm::zip_equal(call.getResults(), results))
    set(result, stateOf(inner));
}

void TokenAnalysis::visitEmpty(Operation *op) {
  auto empty = cast<tensor::EmptyOp>(op);
  SmallVector<unsigned> tokenDims;
  for (auto [dim, size] : llvm::enumerate(empty.getMixedSizes()))
    if (auto value = dyn_cast<Value>(size); value && stateOf(value).kind == Kind::Count)
      tokenDims.push_back(dim);
  // Tokens by tokens is no tensor of tokens; what writes to it or reads it with some is refused there.
  set(empty, tokenDims.size() == 1 ? State{Kind::Along, tokenDims[0]} : State{});
}

void TokenAnalysis::visitLinalg(linalg::LinalgOp op) {
  std::optional<unsigned> tokenLoop;
  for (OpOperand &operand : op->getOpOperands()) {
    State state = stateOf(operand.get());
    if (state.kind != Kind::Along)
      continue;
    auto loop = dyn_cast<AffineDimExpr>(op.getMatchingIndexingMap(&operand).getResult(state.dim));
    if (!loop)
      return refuse(op, "reads tokens at a computed index, so a token depends on others");
    if (tokenLoop && *tokenLoop != loop.getPosition())
      return refuse(op, "combines each token with every other; only attention may");
    tokenLoop = loop.getPosition();
  }
  if (tokenLoop) {
    if (op.getIteratorTypesArray()[*tokenLoop] == utils::IteratorType::reduction)
      return refuse(op, "reduces over the tokens");
    for (OpOperand &operand : op->getOpOperands()) {
      // An operand of no token must not be walked along the tokens: it would be of as many rows as one
      // sequence has.
      if (!isa<RankedTensorType>(operand.get().getType()) || stateOf(operand.get()).kind == Kind::Along)
        continue;
      if (op.getMatchingIndexingMap(&operand).isFunctionOfDim(*tokenLoop))
        return refuse(op, "reads a tensor along the tokens that is not one of the step's tokens");
    }
  }
  for (auto [result, init] : llvm::zip_equal(op->getResults(), op.getDpsInitsMutable())) {
    State state;
    if (tokenLoop)
      for (auto [dim, affine] : llvm::enumerate(op.getMatchingIndexingMap(&init).getResults()))
        if (affine.isFunctionOfDim(*tokenLoop))
          state = {Kind::Along, static_cast<unsigned>(dim)};
    if (tokenLoop && state.kind == Kind::None)
      return refuse(op, "writes all tokens to one place");
    set(result, state);
  }
  visitBody(op, tokenLoop);
}

// A body computes from its elements; beyond them it may read tables of no token, and a token's number.
void TokenAnalysis::visitBody(linalg::LinalgOp op, std::optional<unsigned> tokenLoop) {
  op->walk([&](Operation *inner) {
    if (inner == op.getOperation())
      return;
    if (auto extract = dyn_cast<tensor::ExtractOp>(inner);
        extract && stateOf(extract.getTensor()).kind != Kind::None)
      return refuse(op, "reads elements of tokens at a computed index");
    if (auto index = dyn_cast<linalg::IndexOp>(inner); index && tokenLoop && index.getDim() == *tokenLoop)
      reads.push_back(index);
    for (Value operand : inner->getOperands())
      if (stateOf(operand).kind == Kind::Count)
        refuse(op, "computes with the number of tokens, which a step does not know of a sequence");
  });
}

void TokenAnalysis::visitReshape(Operation *op) {
  State source = stateOf(op->getOperand(0));
  if (source.kind != Kind::Along)
    return set(op->getResult(0), source);
  auto expand = dyn_cast<tensor::ExpandShapeOp>(op);
  auto groups =
      expand ? expand.getReassociationIndices() : cast<tensor::CollapseShapeOp>(op).getReassociationIndices();
  auto wideType = cast<RankedTensorType>(expand ? op->getResult(0).getType() : op->getOperand(0).getType());
  for (auto [narrowDim, group] : llvm::enumerate(groups)) {
    if (expand ? narrowDim != source.dim : !llvm::is_contained(group, source.dim))
      continue;
    // Only extents of 1 may share a group with the tokens.
    SmallVector<int64_t> large;
    llvm::copy_if(group, std::back_inserter(large),
                  [&](int64_t dim) { return wideType.getDimSize(dim) != 1; });
    if (large.size() != 1)
      return refuse(op, "a reshape merges tokens with something else or splits them");
    unsigned dim = expand ? static_cast<unsigned>(large[0]) : static_cast<unsigned>(narrowDim);
    return set(op->getResult(0), {Kind::Along, dim});
  }
}

bool TokenAnalysis::isWholeTokens(OpFoldResult offset, OpFoldResult size, OpFoldResult stride) {
  auto sizeValue = dyn_cast<Value>(size);
  return getConstantIntValue(offset) == 0 && getConstantIntValue(stride) == 1 && sizeValue &&
         stateOf(sizeValue).kind == Kind::Count;
}

void TokenAnalysis::visitExtractSlice(Operation *op) {
  auto slice = cast<tensor::ExtractSliceOp>(op);
  State source = stateOf(slice.getSource());
  if (source.kind != Kind::Along)
    return set(slice, source);
  unsigned dim = source.dim;
  if (!isWholeTokens(slice.getMixedOffsets()[dim], slice.getMixedSizes()[dim], slice.getMixedStrides()[dim]))
    return refuse(op, "takes some of the tokens");
  llvm::SmallBitVector dropped = slice.getDroppedDims();
  for (unsigned before = 0; before < source.dim; ++before)
    dim -= dropped.test(before);
  set(slice, {Kind::Along, dim});
}

void TokenAnalysis::visitInsertSlice(Operation *op) {
  auto slice = cast<tensor::InsertSliceOp>(op);
  State target = stateOf(slice.getDest()), source = stateOf(slice.getSource());
  if (target.kind == Kind::None && source.kind == Kind::None)
    return set(slice, target);
  if (target.kind != Kind::Along ||
      !isWholeTokens(slice.getMixedOffsets()[target.dim], slice.getMixedSizes()[target.dim],
                     slice.getMixedStrides()[target.dim]))
    return refuse(op, "puts tokens elsewhere than where they were");
  unsigned dim = target.dim;
  llvm::SmallBitVector dropped = slice.getDroppedDims();
  for (unsigned before = 0; before < target.dim; ++before)
    dim -= dropped.test(before);
  if (source != State{Kind::Along, dim})
    return refuse(op, "puts tokens elsewhere than where they were");
  set(slice, target);
}

// Whatever is left: operations of elements, constants, weights, and the unknown.
void TokenAnalysis::visitElementwise(Operation *op) {
  State all;
  bool isKnown = isa<tensor::CastOp>(op) || op->hasTrait<OpTrait::Elementwise>();
  auto concat = dyn_cast<tensor::ConcatOp>(op);
  auto softmax = dyn_cast<linalg::SoftmaxOp>(op);
  for (Value operand : op->getOperands()) {
    State state = stateOf(operand);
    if (state.kind == Kind::Count && op->getNumResults() == 1 && op->getResult(0).getType().isIndex())
      continue; // arithmetic on the number of tokens gives a number that nothing is known of
    if (state.kind != Kind::Along)
      continue;
    if (all.kind == Kind::Along && all != state)
      return refuse(op, "combines tokens in different dimensions");
    all = state;
  }
  if (all.kind == Kind::Along && concat && concat.getDim() == all.dim)
    return refuse(op, "puts tensors one after the other along the tokens");
  if (all.kind == Kind::Along && softmax && softmax.getDimension() == all.dim)
    return refuse(op, "normalises over the tokens");
  if (all.kind == Kind::Along && !isKnown && !concat && !softmax && !op->hasTrait<OpTrait::IsTerminator>())
    return refuse(op, "is not known to keep tokens apart");
  for (Value result : op->getResults())
    set(result, isa<RankedTensorType>(result.getType()) ? all : State{});
}

} // namespace girih::compiler
