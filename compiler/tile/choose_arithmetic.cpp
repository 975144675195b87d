// SPDX-License-Identifier: Apache-2.0
// girih-choose-arithmetic: says for each matmul and attention in which arithmetic it multiplies.
//
// The choice is a function of the program's numerics, the weight's layout, the machine's units and the step's bound on
// tokens, and nothing else: what it says for one matmul of an entry it says for its like in every file.
#include "compiler/tile/passes.h"

#include "dialects/girih/activation_block.h"
#include "dialects/girih/dialect.h"
#include "dialects/machine/dialect.h"
#include "runtime/weights/packed_layout.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Dialect/Linalg/Transforms/Transforms.h"

namespace girih::compiler {
#define GEN_PASS_DEF_CHOOSEARITHMETIC
#include "compiler/tile/passes.h.inc"
} // namespace girih::compiler

using namespace mlir;
using namespace girih::dialect;
using girih::machine::DescriptionAttr;

namespace {

// Rows of a step; what `fast` means by a short prompt. These are no machine's figures: an answer must not depend on where
// it was made more than its arithmetic does.
constexpr int64_t kMostDecodedTogether = 16, kShortPrompt = 64;

enum class Arithmetic { F32, I8, BF16 };

struct Facts {
  StringRef numerics;
  DescriptionAttr machine;
  int64_t maxTokens;
};

bool hasIntegerCodes(Type weight) {
  auto packed = dyn_cast<PackedType>(weight);
  if (!packed)
    return false;
  auto layout = girih::weights::PackedLayout::parse(std::string_view(packed.getLayout()));
  return layout.isOk() && !layout->isDense && !layout->hasFloatCodes();
}

// A matrix unit rounds in its own way, so it is for `fast` alone; with fewer rows than its tile has it stays half empty.
bool suitsMatrixUnit(const Facts &facts) {
  girih::machine::UnitAttr unit = facts.machine.matrixUnitFor("bf16");
  return facts.numerics == "fast" && unit && facts.maxTokens >= unit.getTile().getRows();
}

// Signed codes of a byte, of a weight that one tile of rows meets: a unit of bytes multiplies them as they are stored. What
// rounding x to 8 bits adds to a sum is that of code * error: small where codes have both signs, as errors have; where they
// are all positive, with a least value, their mean adds up.
bool suitsUnitOfBytes(Type weight, const Facts &facts) {
  girih::machine::UnitAttr unit = facts.machine.matrixUnitFor("i8");
  if (!unit || facts.maxTokens > unit.getTile().getRows() || !hasIntegerCodes(weight))
    return false;
  auto layout = girih::weights::PackedLayout::parse(std::string_view(cast<PackedType>(weight).getLayout()));
  return layout->codes == girih::weights::CodeType::S8 && layout->mins == girih::weights::ScaleType::None && layout->numGroups() == 1;
}

// What the step gives: no other layer carries its rounding on.
bool isLast(QMatmulOp op) {
  Value result = op.getResult();
  return result && llvm::all_of(result.getUsers(), [](Operation *user) { return isa<func::ReturnOp>(user); });
}

Arithmetic choose(QMatmulOp op, const Facts &facts) {
  bool mayRound = facts.numerics == "invariant" || facts.numerics == "fast";
  Type weight = op.getW().getType();
  bool roundsLast = isLast(op) && suitsUnitOfBytes(weight, facts);
  if (suitsMatrixUnit(facts) && isa<PackedType>(weight) && !roundsLast)
    return Arithmetic::BF16;
  if (mayRound && hasIntegerCodes(weight) && facts.machine.unitFor("i8"))
    return Arithmetic::I8;
  return Arithmetic::F32;
}

// What attention rounds its operands to, null for f32: bf16 for a matrix unit, else 16 bits where a unit multiplies those,
// but in short prompts. Rows that are decoded together are of as many sequences, whose few heads fill no tile.
Type attentionOperands(const Facts &facts, MLIRContext *context) {
  if (suitsMatrixUnit(facts) && facts.maxTokens > kMostDecodedTogether)
    return BFloat16Type::get(context);
  bool hasDots = facts.machine.unitFor("i16") && facts.maxTokens > kShortPrompt;
  return facts.numerics == "fast" && hasDots ? Type(IntegerType::get(context, 16)) : Type();
}

// `fast` gives x 16 bits in short prompts, where one near tie decides what the whole answer is and twice the products
// are soon done. Steps of fewer rows decode, long prompts have many: both would take nearly twice their time. The other
// numerics have one rule for any number of rows.
bool hasBothDigits(const Facts &facts) {
  return facts.numerics == "fast" && facts.maxTokens > kMostDecodedTogether &&
         facts.maxTokens <= kShortPrompt;
}

// Whether scales of weights may be rounded, which saves a multiplication in three where rows are many. What the step gives
// is of few rows.
bool roundsScales(QMatmulOp op, const Facts &facts) {
  return facts.numerics == "fast" && facts.maxTokens > kShortPrompt && !isLast(op);
}

// The rows of `x`. Asked of what x is written to where possible: a question to x itself would be one more reader, and a
// producer with two readers is computed in the tiles of neither.
OpFoldResult rowsOf(OpBuilder &b, Value x) {
  Value place = x;
  while (auto op = place.getDefiningOp<DestinationStyleOpInterface>())
    place = op.getTiedOpOperand(cast<OpResult>(place))->get();
  if (auto empty = place.getDefiningOp<tensor::EmptyOp>())
    return empty.getMixedSizes()[0];
  return tensor::getMixedSize(b, x.getLoc(), x, 0);
}

// The codes of `x`, made where x is made, once for all matmuls that read it.
Value quantized(Value x, bool bothDigits, DenseMap<Value, Value> &made) {
  Value &codes = made[x];
  if (codes)
    return codes;
  OpBuilder b(x.getContext());
  b.setInsertionPointAfterValue(x);
  Location loc = x.getLoc();
  auto type = cast<RankedTensorType>(x.getType());
  SmallVector<OpFoldResult> extents{rowsOf(b, x), b.getIndexAttr(activationStrideBytes(type.getDimSize(1)))};
  Value init = tensor::EmptyOp::create(b, loc, extents, b.getI8Type());
  codes = QuantizeRowsOp::create(b, loc, init.getType(), x, init, bothDigits).getResult();
  return codes;
}

// Memory for rows of bf16. They lie an odd number of a tile's rows apart: with an even number, those that a tile takes
// together would share few sets of the caches.
Value memoryOfRows(OpBuilder &b, Location loc, OpFoldResult rows, int64_t depth, int64_t tileDepth) {
  int64_t stride = (llvm::divideCeil(depth, tileDepth) | 1) * tileDepth;
  OpFoldResult zero = b.getIndexAttr(0), one = b.getIndexAttr(1);
  SmallVector<OpFoldResult> extents{rows, b.getIndexAttr(stride)}, used{rows, b.getIndexAttr(depth)};
  Value memory = tensor::EmptyOp::create(b, loc, extents, b.getBF16Type());
  return tensor::ExtractSliceOp::create(b, loc, memory, ArrayRef<OpFoldResult>{zero, zero}, used, ArrayRef<OpFoldResult>{one, one});
}

// Attention on a matrix unit rounds its result itself where nobody else reads it; null where that is not so. What it
// gave before is gone.
Value roundedByAttention(Value x, int64_t tileDepth) {
  auto collapse = x.getDefiningOp<tensor::CollapseShapeOp>();
  auto attention = collapse ? collapse.getSrc().getDefiningOp<AttentionOp>() : AttentionOp();
  if (!attention || !attention.getOperandType() || !attention.getOperandType()->isBF16() || !attention.getKv() || !attention->hasOneUse() || !collapse->hasOneUse())
    return {};
  OpBuilder b(attention);
  Location loc = attention.getLoc();
  SmallVector<OpFoldResult> extents = tensor::getMixedSizes(b, loc, attention.getInit());
  int64_t depth = cast<RankedTensorType>(x.getType()).getDimSize(1);
  Value rows = memoryOfRows(b, loc, extents[0], depth, tileDepth);
  auto type = cast<RankedTensorType>(attention.getInit().getType()).clone(*attention.getOperandType());
  Value init = tensor::ExpandShapeOp::create(b, loc, type, rows, collapse.getReassociationIndices(), extents);
  auto rounding = cast<AttentionOp>(b.clone(*attention));
  rounding.getInitMutable().assign(init);
  rounding->getResult(0).setType(init.getType());
  b.setInsertionPoint(collapse);
  Value flat = tensor::CollapseShapeOp::create(b, collapse.getLoc(), rounding->getResult(0),
                                               collapse.getReassociationIndices());
  x.replaceAllUsesWith(flat);
  collapse.erase();
  attention.erase();
  return flat;
}

// `x` rounded to bf16, likewise.
Value rounded(Value x, int64_t tileDepth, DenseMap<Value, Value> &made) {
  if (getElementTypeOrSelf(x).isBF16())
    return x;
  if (Value flat = roundedByAttention(x, tileDepth))
    return flat;
  Value &halves = made[x];
  if (halves)
    return halves;
  OpBuilder b(x.getContext());
  b.setInsertionPointAfterValue(x);
  Location loc = x.getLoc();
  int64_t depth = cast<RankedTensorType>(x.getType()).getDimSize(1);
  Value init = memoryOfRows(b, loc, rowsOf(b, x), depth, tileDepth);
  SmallVector<AffineMap> maps(2, b.getMultiDimIdentityMap(2));
  SmallVector<utils::IteratorType> parallel(2, utils::IteratorType::parallel);
  auto round = [](OpBuilder &inner, Location at, ValueRange elements) {
    Value half = arith::TruncFOp::create(inner, at, inner.getBF16Type(), elements[0]);
    linalg::YieldOp::create(inner, at, half);
  };
  halves = linalg::GenericOp::create(b, loc, init.getType(), x, init, maps, parallel, round).getResult(0);
  return halves;
}

// What computes f32 only to have it rounded rounds at once: one loop, and no f32 in memory. `halves` are of one x each.
void roundInProducers(DenseMap<Value, Value> &halves) {
  for (auto [x, rounded] : halves) {
    OpOperand &operand = rounded.getDefiningOp()->getOpOperand(0);
    if (!linalg::areElementwiseOpsFusable(&operand) || !x.hasOneUse())
      continue;
    IRRewriter rewriter(x.getContext());
    rewriter.setInsertionPoint(rounded.getDefiningOp());
    Operation *producer = x.getDefiningOp(), *rounding = rounded.getDefiningOp();
    FailureOr<linalg::ElementwiseOpFusionResult> fused = linalg::fuseElementwiseOps(rewriter, &operand);
    if (failed(fused))
      continue;
    rewriter.replaceOp(rounding, fused->replacements.lookup(rounded));
    rewriter.eraseOp(producer);
  }
}

struct ChooseArithmeticPass : girih::compiler::impl::ChooseArithmeticBase<ChooseArithmeticPass> {
  void runOnOperation() override {
    auto numerics = getOperation()->getAttrOfType<StringAttr>("girih.numerics");
    auto machine = getOperation()->getAttrOfType<DescriptionAttr>("girih.machine");
    if (!numerics || !machine)
      return; // nothing may round, or no unit is known: f32 as written
    for (auto function : getOperation().getOps<func::FuncOp>()) {
      auto maxTokens = function->getAttrOfType<IntegerAttr>("girih.max_tokens");
      if (!maxTokens)
        continue;
      Facts facts{numerics.getValue(), machine, maxTokens.getInt()};
      DenseMap<Value, Value> codes, halves;
      // Attention keeps its queries, keys and values in f32 and the cache's type: its kernel rounds them itself.
      if (Type operands = attentionOperands(facts, &getContext()))
        function.walk([&](AttentionOp op) { op.setOperandType(operands); });
      function.walk([&](QMatmulOp op) {
        Arithmetic arithmetic = choose(op, facts);
        if (arithmetic == Arithmetic::I8 && roundsScales(op, facts))
          op->setAttr(kRoundedScalesName, UnitAttr::get(&getContext()));
        if (arithmetic == Arithmetic::I8)
          op.getXMutable().assign(quantized(op.getX(), hasBothDigits(facts), codes));
        if (arithmetic == Arithmetic::BF16)
          op.getXMutable().assign(rounded(op.getX(), machine.matrixUnitFor("bf16").getTile().getDepth(), halves));
      });
      roundInProducers(halves);
    }
  }
};

} // namespace
