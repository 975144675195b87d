// SPDX-License-Identifier: Apache-2.0
// linalg on views: an invocation an element, or a workgroup a sum.
#include "backends/vulkan/codegen/lower_dispatch.h"

#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/IR/IRMapping.h"

#include <limits>

using namespace mlir;
using namespace girih::dialect;

namespace girih::vulkan {
namespace {

// sin(x) for |x| up to a few thousand: x less the nearest multiple of pi/2, in three parts, then a polynomial. Drivers' own
// sine is only good to 2^-11, and only between -pi and pi.
Value sine(ShaderBuilder &k, Value x, int64_t quarter) {
  Value turns = math::RoundEvenOp::create(k.b, k.loc, k.mulf(x, k.f(0.63661977236758134)));
  Value r = k.lessMultiple(k.lessMultiple(x, turns, 1.5703125), turns, 4.837512969970703125e-4);
  r = k.lessMultiple(r, turns, 7.54978995489188216e-8);
  Value whole = arith::FPToSIOp::create(k.b, k.loc, k.b.getI32Type(), turns);
  Value quadrant = k.add(whole, quarter), r2 = k.mulf(r, r);
  Value s = k.fma(r2, k.f(-1.9515295891e-4), k.f(8.3321608736e-3));
  s = k.fma(s, r2, k.f(-1.6666654611e-1));
  s = k.fma(k.mulf(s, r2), r, r);
  Value c = k.fma(r2, k.f(2.443315711809948e-5), k.f(-1.388731625493765e-3));
  c = k.fma(c, r2, k.f(4.166664568298827e-2));
  c = k.fma(k.mulf(c, r2), r2, k.fma(r2, k.f(-0.5), k.f(1)));
  Value odd = k.isEqual(k.bitAnd(quadrant, 1), k.c(1)), negative = k.isEqual(k.bitAnd(quadrant, 2), k.c(2));
  Value result = k.select(odd, c, s);
  return k.select(negative, arith::NegFOp::create(k.b, k.loc, result), result);
}

// One linalg.generic on views.
class GenericLowering {
public:
  GenericLowering(ShaderBuilder &k, KernelValues &values, linalg::GenericOp op) : k(k), values(values), op(op) {}

  void run() {
    for (OpOperand &operand : op->getOpOperands())
      if (isa<MemRefType>(operand.get().getType()))
        views[&operand] = values.anyView(operand.get());
      else
        values.scalar(operand.get());
    // Captured values too, while the builder stands outside of all loops.
    op.getBody()->walk([&](Operation *inner) {
      for (Value operand : inner->getOperands())
        if (operand.getParentRegion() != &op.getRegion() && operand.getType().isIntOrIndexOrFloat())
          values.scalar(operand);
    });
    findExtents();
    if (reductions.empty())
      return k.forEach(product(k, parallelExtents()), [&](Value index) { element(scatter(parallels, index, parallelExtents())); });
    if (isOneSum())
      return wholeSum();
    k.forEach(product(k, parallelExtents()), [&](Value index) { serialSums(scatter(parallels, index, parallelExtents())); });
  }

private:
  void findExtents() {
    extents.resize(op.getNumLoops());
    for (OpOperand &operand : op->getOpOperands()) {
      if (!views.count(&operand))
        continue;
      for (auto [axis, expr] : llvm::enumerate(op.getMatchingIndexingMap(&operand).getResults()))
        if (auto dimension = dyn_cast<AffineDimExpr>(expr); dimension && !extents[dimension.getPosition()])
          extents[dimension.getPosition()] = views[&operand].extents[axis];
    }
    for (auto [loop, kind] : llvm::enumerate(op.getIteratorTypesArray())) {
      (kind == utils::IteratorType::reduction ? reductions : parallels).push_back(unsigned(loop));
      if (!extents[loop]) {
        values.fail("a loop's extent is in no operand");
        extents[loop] = k.c(1);
      }
    }
  }

  SmallVector<Value> extentsOf(ArrayRef<unsigned> loops) {
    return llvm::map_to_vector(loops, [&](unsigned loop) { return extents[loop]; });
  }
  SmallVector<Value> parallelExtents() { return extentsOf(parallels); }

  // Positions of all loops, of which those of `loops` are number `index` of their extents.
  SmallVector<Value> scatter(ArrayRef<unsigned> loops, Value index, ValueRange within) {
    SmallVector<Value> position(extents.size());
    for (auto [loop, at] : llvm::zip(loops, positionOf(k, index, within)))
      position[loop] = at;
    return position;
  }

  SmallVector<Value> indicesOf(OpOperand &operand, ValueRange position) {
    return llvm::map_to_vector(op.getMatchingIndexingMap(&operand).getResults(),
                               [&](AffineExpr expr) { return values.evaluate(expr, position); });
  }

  Value operandAt(OpOperand &operand, ValueRange position) {
    auto view = views.find(&operand);
    return view == views.end() ? values.scalar(operand.get())
                               : loadElement(k, view->second, indicesOf(operand, position));
  }

  // The body's results, given what the outputs hold.
  SmallVector<Value> body(ValueRange position, ValueRange outputs) {
    IRMapping map;
    for (OpOperand *input : op.getDpsInputOperands())
      if (!op.getMatchingBlockArgument(input).use_empty())
        map.map(op.getMatchingBlockArgument(input), operandAt(*input, position));
    for (auto [argument, value] : llvm::zip(op.getRegionOutputArgs(), outputs))
      map.map(argument, value);
    for (Operation &inner : op.getBody()->without_terminator())
      map.map(inner.getResult(0), evaluate(inner, map, position));
    return llvm::map_to_vector(op.getBody()->getTerminator()->getOperands(), [&](Value v) { return inside(v, map); });
  }

  Value inside(Value value, IRMapping &map) { return map.contains(value) ? map.lookup(value) : values.scalar(value); }

  Value evaluate(Operation &inner, IRMapping &map, ValueRange position) {
    if (auto index = dyn_cast<linalg::IndexOp>(inner))
      return position[index.getDim()];
    if (isa<arith::ConstantOp>(inner))
      return constant(cast<arith::ConstantOp>(inner));
    SmallVector<Value> operands = llvm::map_to_vector(inner.getOperands(), [&](Value v) { return inside(v, map); });
    if (isa<arith::IndexCastOp, arith::IndexCastUIOp>(inner))
      return operands[0];
    if (Value narrow = evaluateNarrow(inner, operands))
      return narrow;
    if (isa<math::SinOp>(inner))
      return sine(k, operands[0], 0);
    if (isa<math::CosOp>(inner))
      return sine(k, operands[0], 1);
    Type type = inner.getResult(0).getType().isIndex() ? Type(k.b.getI32Type()) : inner.getResult(0).getType();
    if (isa<math::ExpOp>(inner) && inner.getResult(0).getType().isF32())
      return k.exp(operands[0]);
    auto isHeldSo = [](Type type) { return type.isF32() || type.isInteger(32) || type.isInteger(1) || type.isIndex(); };
    if (inner.getNumRegions() != 0 || !isHeldSo(type) || !llvm::all_of(inner.getOperandTypes(), isHeldSo))
      values.fail("an elementwise operation has " + Twine(inner.getName().getStringRef()) + " of a type that has no shader yet");
    OperationState state(k.loc, inner.getName(), operands, {type}, inner.getAttrs());
    return k.b.create(state)->getResult(0);
  }

  // Narrow values are held as f32 and i32: so widening is nothing, and what makes one must round or wrap. Null: not such.
  Value evaluateNarrow(Operation &inner, ValueRange operands) {
    Type type = inner.getResult(0).getType();
    if (isa<arith::ExtFOp, arith::ExtSIOp>(inner) && (type.isF32() || type.isInteger(32)) && !isOfBits(inner))
      return operands[0];
    if (isa<arith::TruncFOp>(inner) && (type.isF16() || type.isBF16()))
      return k.rounded(operands[0], type);
    if (!type.isInteger(8) || !isa<arith::AddIOp, arith::SubIOp, arith::MulIOp>(inner))
      return Value();
    OperationState state(k.loc, inner.getName(), operands, {k.b.getI32Type()});
    return k.ofByte(k.b.create(state)->getResult(0));
  }
  static bool isOfBits(Operation &inner) { return inner.getOperand(0).getType().isInteger(1); }

  Value constant(arith::ConstantOp op) {
    if (auto integer = dyn_cast<IntegerAttr>(op.getValue()); integer && op.getType().isIndex())
      return k.c(integer.getInt());
    return arith::ConstantOp::create(k.b, k.loc, cast<TypedAttr>(op.getValue()));
  }

  void element(SmallVector<Value> position) {
    SmallVector<Value> outputs;
    for (auto [argument, init] : llvm::zip(op.getRegionOutputArgs(), op.getDpsInitsMutable()))
      outputs.push_back(argument.use_empty() ? Value() : operandAt(init, position));
    for (auto [result, init] : llvm::zip(body(position, outputs), op.getDpsInitsMutable()))
      storeElement(k, views[&init], indicesOf(init, position), result);
  }

  void serialSums(SmallVector<Value> position) {
    SmallVector<Value> carried;
    for (OpOperand &init : op.getDpsInitsMutable())
      carried.push_back(operandAt(init, position));
    SmallVector<Value> within = extentsOf(reductions);
    auto sums = k.loop(k.c(0), product(k, within), k.c(1), carried, [&](Value index, ValueRange outputs) {
      SmallVector<Value> at = position;
      for (auto [loop, value] : llvm::zip(reductions, positionOf(k, index, within)))
        at[loop] = value;
      return body(at, outputs);
    });
    for (auto [sum, init] : llvm::zip(sums, op.getDpsInitsMutable()))
      storeElement(k, views[&init], indicesOf(init, position), sum);
  }

  // One result, folded by an operation that may be reordered: then invocations share the elements.
  bool isOneSum() {
    if (op.getNumDpsInits() != 1 || !op.getRegionOutputArgs()[0].getType().isF32())
      return false;
    for (Value extent : parallelExtents())
      if (!matchPattern(extent, m_One()))
        return false;
    combiner = op.getBody()->getTerminator()->getOperand(0).getDefiningOp();
    Value carried = op.getRegionOutputArgs()[0];
    return combiner && carried.hasOneUse() && *carried.user_begin() == combiner &&
           isa<arith::AddFOp, arith::MaximumFOp, arith::MaxNumFOp>(combiner);
  }

  Value combine(Value x, Value y) { return isa<arith::AddFOp>(combiner) ? k.addf(x, y) : k.maxf(x, y); }

  void wholeSum() {
    SmallVector<Value> within = extentsOf(reductions), origin(extents.size(), k.c(0));
    Value neutral = k.f(isa<arith::AddFOp>(combiner) ? 0 : -std::numeric_limits<float>::max());
    auto partial = k.loop(k.invocation(), product(k, within), k.c(k.invocations), ValueRange(neutral),
                          [&](Value index, ValueRange sums) {
                            SmallVector<Value> at = origin;
                            for (auto [loop, value] : llvm::zip(reductions, positionOf(k, index, within)))
                              at[loop] = value;
                            return body(at, sums);
                          });
    Value sum = k.reduce(partial[0], [&](Value x, Value y) { return combine(x, y); });
    OpOperand &init = op.getDpsInitsMutable()[0];
    k.when(k.isEqual(k.invocation(), k.c(0)), [&] {
      storeElement(k, views[&init], indicesOf(init, origin), combine(operandAt(init, origin), sum));
    });
  }

  ShaderBuilder &k;
  KernelValues &values;
  linalg::GenericOp op;
  DenseMap<OpOperand *, View> views;
  SmallVector<Value> extents;  // of each loop
  SmallVector<unsigned> parallels, reductions;
  Operation *combiner = nullptr;
};

}  // namespace

void lowerGeneric(ShaderBuilder &k, KernelValues &values, linalg::GenericOp op) { GenericLowering(k, values, op).run(); }

void lowerCopy(ShaderBuilder &k, KernelValues &values, Value from, Value to) {
  View source = values.anyView(from), target = values.anyView(to);
  k.forEach(product(k, source.extents), [&](Value index) {
    SmallVector<Value> position = positionOf(k, index, source.extents);
    if (source.array)
      return storeElement(k, target, position, loadElement(k, source, position));
    storeBits(k, target, position, loadBits(k, source, position));
  });
}

void lowerGatherRows(ShaderBuilder &k, KernelValues &values, GatherRowsOp op) {
  View indices = values.view(op.getIndices()), target = values.view(op.getInit());
  bool isPacked = isa<PackedType>(op.getSource().getType());
  PackedWeight weight = isPacked ? values.packed(op.getSource()) : PackedWeight();
  View source = isPacked ? View() : values.view(op.getSource());
  Value last = isPacked ? k.c(weight.type.getColumns() - 1) : k.sub(source.extents[0], k.c(1));
  k.forEach(product(k, target.extents), [&](Value number) {
    SmallVector<Value> position = positionOf(k, number, target.extents);
    // No program reads elsewhere, whatever the index.
    Value row = k.max(k.min(loadElement(k, indices, ValueRange(position[0])), last), k.c(0));
    Value value = isPacked ? loadWeight(k, weight, row, position[1])
                           : loadElement(k, source, ValueRange{row, position[1]});
    storeElement(k, target, position, value);
  });
}

}  // namespace girih::vulkan
