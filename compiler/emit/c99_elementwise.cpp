// SPDX-License-Identifier: Apache-2.0
// linalg as loops: the innermost one in pieces that fit the nearest memory, each element an expression.
#include "compiler/emit/c99_values.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Math/IR/Math.h"

using namespace mlir;
using namespace girih::dialect;

namespace girih::compiler::c99 {
namespace {

constexpr int64_t kMostElements = 1024;  // of a piece: longer transfers cost no less an element

struct Spelling {
  StringRef operation, inC;
};
constexpr Spelling kOperators[] = {
    {"arith.addf", "+"},  {"arith.subf", "-"},   {"arith.mulf", "*"},   {"arith.divf", "/"},    {"arith.addi", "+"},
    {"arith.subi", "-"},  {"arith.muli", "*"},   {"arith.divsi", "/"},  {"arith.divui", "/"},   {"arith.floordivsi", "/"},
    {"arith.remsi", "%"}, {"arith.remui", "%"},  {"arith.andi", "&"},   {"arith.ori", "|"},     {"arith.shli", "<<"},
    {"arith.shrsi", ">>"}};
constexpr Spelling kFunctions[] = {{"math.exp", "expf"},   {"math.sin", "sinf"},   {"math.cos", "cosf"}, {"math.tanh", "tanhf"},
                                   {"math.sqrt", "sqrtf"}, {"math.log", "logf"},   {"math.absf", "fabsf"}};

template <size_t N> StringRef spelling(const Spelling (&table)[N], Operation &op) {
  for (const Spelling &row : table)
    if (op.getName().getStringRef() == row.operation)
      return row.inC;
  return "";
}

StringRef comparison(arith::CmpFPredicate predicate) {
  using P = arith::CmpFPredicate;
  switch (predicate) {
  case P::OEQ: return "==";
  case P::OGT: return ">";
  case P::OGE: return ">=";
  case P::OLT: return "<";
  case P::OLE: return "<=";
  case P::UNE: return "!=";
  default: return "";
  }
}

StringRef comparison(arith::CmpIPredicate predicate) {
  using P = arith::CmpIPredicate;
  switch (predicate) {
  case P::eq: return "==";
  case P::ne: return "!=";
  case P::slt: return "<";
  case P::sle: return "<=";
  case P::sgt: return ">";
  case P::sge: return ">=";
  default: return "";
  }
}

// What 64 bits hold of a result of fewer.
Expr wrapped(Type type, const Expr &value) { return type.isInteger(32) ? "((int32_t)" + value + ")" : value; }

Expr constantOf(arith::ConstantOp op) {
  if (auto real = dyn_cast<FloatAttr>(op.getValue()))
    return floating(real.getValueAsDouble());
  auto integer = dyn_cast<IntegerAttr>(op.getValue());
  return !integer ? Expr() : op.getType().isInteger(1) ? number(integer.getValue().getBoolValue()) : number(integer.getInt());
}

}  // namespace

Expr StepValues::compute(Operation &op, llvm::function_ref<Expr(Value)> of) {
  if (auto constant = dyn_cast<arith::ConstantOp>(op))
    if (Expr known = constantOf(constant); !known.empty())
      return known;
  SmallVector<Expr> x = llvm::map_to_vector(op.getOperands(), [&](Value v) { return of(v); });
  Type type = op.getResult(0).getType();
  if (StringRef sign = spelling(kOperators, op); !sign.empty())
    return wrapped(type, binary(x[0], sign, x[1]));
  if (StringRef function = spelling(kFunctions, op); !function.empty())
    return call(function, x[0]);
  if (isa<math::RsqrtOp>(op))
    return "(1.0f / " + call("sqrtf", x[0]) + ")";
  if (isa<math::FmaOp>(op))
    return "fmaf(" + x[0] + ", " + x[1] + ", " + x[2] + ")";
  if (isa<math::PowFOp>(op))
    return "powf(" + x[0] + ", " + x[1] + ")";
  if (isa<arith::NegFOp>(op))
    return "(-" + x[0] + ")";
  if (isa<arith::MaximumFOp, arith::MaxNumFOp, arith::MaxSIOp, arith::MaxUIOp>(op))
    return choose(x[0] + " > " + x[1], x[0], x[1]);
  if (isa<arith::MinimumFOp, arith::MinNumFOp, arith::MinSIOp, arith::MinUIOp>(op))
    return choose(x[0] + " < " + x[1], x[0], x[1]);
  if (isa<arith::SelectOp>(op))
    return choose(x[0], x[1], x[2]);
  if (isa<arith::SIToFPOp>(op))
    return "((float)" + x[0] + ")";
  if (isa<arith::CeilDivSIOp, arith::CeilDivUIOp>(op))
    return ceilDiv(x[0], x[1]);
  // Integers keep their sign in 64 bits; what is wider or narrower is the same number as long as it fits.
  if (isa<arith::IndexCastOp, arith::IndexCastUIOp, arith::ExtSIOp>(op))
    return x[0];
  // What is narrower than f32 is kept in f32, as the number that it is.
  if (isa<arith::ExtFOp>(op))
    return x[0];
  if (isa<arith::TruncFOp>(op) && type.isF16())
    return call("girih_f32_of_f16", call("girih_f16_of_f32", x[0]));
  if (isa<arith::TruncFOp>(op) && type.isBF16())
    return call("girih_f32_of_bits", binary(bfloatBits(x[0]), "<<", "16"));
  StringRef relation = isa<arith::CmpFOp>(op)   ? comparison(cast<arith::CmpFOp>(op).getPredicate())
                       : isa<arith::CmpIOp>(op) ? comparison(cast<arith::CmpIOp>(op).getPredicate())
                                                : "";
  if (!relation.empty())
    return binary(x[0], relation, x[1]);
  fail("a step has " + Twine(op.getName().getStringRef()) + ", which has no form in C yet");
  return isa<FloatType>(type) ? "0.0f" : "0";
}

Expr StepValues::declare(Operation &op, llvm::function_ref<Expr(Value)> of) {
  Expr value = compute(op, of);
  if (isa<arith::ConstantOp>(op))
    return value;
  return isa<FloatType>(op.getResult(0).getType()) ? out.real(value) : out.integer(value);
}

namespace {

class GenericLowering {
public:
  GenericLowering(StepValues &values, linalg::LinalgOp op) : values(values), out(values.out), op(op) {}

  void run() {
    findExtents();
    nest(0);
  }

private:
  struct Operand {
    OpOperand *from;
    View view;
    int64_t step;  // elements further with each turn of the innermost loop
  };

  void findExtents() {
    extents.resize(op.getNumLoops());
    for (OpOperand &operand : op->getOpOperands()) {
      if (!isa<MemRefType>(operand.get().getType()))
        continue;
      View view = values.view(operand.get());
      int64_t step = 0;
      for (auto [axis, expr] : llvm::enumerate(op.getMatchingIndexingMap(&operand).getResults())) {
        auto dimension = dyn_cast<AffineDimExpr>(expr);
        if (!dimension && !isa<AffineConstantExpr>(expr))
          values.fail("an elementwise operation reads elements at " + Twine("sums of indices, which has no form in C yet"));
        if (!dimension)
          continue;
        extents[dimension.getPosition()] = view.extents[axis];
        if (dimension.getPosition() + 1 == op.getNumLoops())
          step += view.strides[axis];
      }
      operands.push_back({&operand, view, step});
    }
    for (Expr &extent : extents)
      if (extent.empty()) {
        values.fail("a loop's extent is in no operand");
        extent = "1";
      }
  }

  // Loops but the innermost one.
  void nest(size_t loop) {
    if (loop + 1 < extents.size())
      return out.loop("0", extents[loop], "1", [&](const Expr &index) {
        position.push_back(index);
        nest(loop + 1);
        position.pop_back();
      });
    out.block([&] { row(); });
  }

  int64_t pieceElements(const Expr &extent) {
    int64_t bytes = 0;
    for (const Operand &operand : operands)
      bytes += bytesOf(operand.view.element);
    int64_t most = std::clamp<int64_t>(values.units.nearBytes / 2 / std::max<int64_t>(bytes, 1), 1, kMostElements);
    return std::min(most, knownNumber(extent).value_or(most));
  }

  Expr placeOf(const Operand &operand, const Expr &first) {
    SmallVector<Expr> at(position);
    if (!extents.empty())
      at.push_back(first);
    SmallVector<Expr> indices;
    for (AffineExpr expr : op.getMatchingIndexingMap(operand.from).getResults())
      indices.push_back(values.affine(expr, at));
    return out.integer(values.offsetOf(operand.view, indices));
  }

  bool isOutput(const Operand &operand) { return op.isDpsInit(operand.from); }
  bool isRead(const Operand &operand) { return !op.getMatchingBlockArgument(operand.from).use_empty(); }

  // The innermost loop: operands that it does not move along stay in variables, the others come in pieces.
  void row() {
    Expr extent = extents.empty() ? Expr("1") : extents.back();
    for (Operand &operand : operands)
      if (operand.step == 0)
        still(operand);
    int64_t most = pieceElements(extent);
    auto piece = [&](const Expr &first, const Expr &count) {
      SmallVector<std::pair<Operand *, Expr>> written;
      for (Operand &operand : operands)
        if (operand.step != 0 && (isRead(operand) || isOutput(operand)))
          open(operand, first, count, most, written);
      out.loop("0", count, "1", [&](const Expr &index) { element(first, index); });
      for (auto &[operand, address] : written)
        values.flush(windows[operand->from], address, count, operand->step);
    };
    if (auto known = knownNumber(extent); known && *known <= most)
      piece("0", extent);
    else
      out.loop("0", extent, number(most), [&](const Expr &first) {
        piece(first, out.integer(least(number(most), out.integer(sub(extent, first)))));
      });
    for (Operand &operand : operands)
      if (operand.step == 0 && isOutput(operand))
        finish(operand);
  }

  void open(Operand &operand, const Expr &first, const Expr &count, int64_t most,
            SmallVectorImpl<std::pair<Operand *, Expr>> &written) {
    Expr place = placeOf(operand, first);
    const View &view = operand.view;
    if (!view.table.empty()) {
      windows[operand.from] = {view.table, operand.step, view.element, add(view.offset, place)};
      return;
    }
    Expr address = out.variable("girih_address", "m", values.addressOf(view, place));
    windows[operand.from] = isRead(operand) ? values.fetch(address, view.element, count, most, operand.step)
                                            : values.room(address, view.element, most, operand.step);
    if (isOutput(operand))
      written.push_back({&operand, address});
  }

  void still(Operand &operand) {
    const View &view = operand.view;
    Expr place = placeOf(operand, "0");
    if (!view.table.empty()) {
      held[operand.from] = values.load({view.table, 1, view.element, add(view.offset, place)}, "0");
      return;
    }
    Window window = values.fetch(values.addressOf(view, place), view.element, "1", 1);
    Expr loaded = values.load(window, "0");
    held[operand.from] = isFloat(view.element) ? out.variable("float", "f", loaded) : out.variable("int64_t", "v", loaded);
  }

  void finish(Operand &operand) {
    Expr address = values.addressOf(operand.view, placeOf(operand, "0"));
    Window window = values.room(address, operand.view.element, 1);
    values.store(window, "0", held[operand.from]);
    values.flush(window, address, "1");
  }

  static bool isFloat(Type type) { return isa<FloatType>(type); }

  void element(const Expr &first, const Expr &index) {
    DenseMap<Value, Expr> known;
    for (Operand &operand : operands)
      if (isRead(operand)) {
        BlockArgument argument = op.getMatchingBlockArgument(operand.from);
        known[argument] = operand.step == 0 ? held[operand.from] : values.load(windows[operand.from], index);
      }
    for (OpOperand &operand : op->getOpOperands())
      if (!isa<MemRefType>(operand.get().getType()))
        known[op.getMatchingBlockArgument(&operand)] = values.scalar(operand.get());
    auto of = [&](Value value) { return known.contains(value) ? known.lookup(value) : values.scalar(value); };
    for (Operation &inner : op.getBlock()->without_terminator()) {
      if (auto number = dyn_cast<linalg::IndexOp>(inner)) {
        unsigned loop = unsigned(number.getDim());
        known[number] = loop + 1 == extents.size() ? add(first, index) : position[loop];
        continue;
      }
      if (inner.getNumRegions() > 0 || inner.getNumResults() != 1)
        return values.fail("an elementwise operation has " + Twine(inner.getName().getStringRef()) + ", which has no form in C yet");
      known[inner.getResult(0)] = values.declare(inner, of);
    }
    for (auto [value, init] : llvm::zip(op.getBlock()->getTerminator()->getOperands(), op.getDpsInitsMutable())) {
      auto operand = llvm::find_if(operands, [&](const Operand &one) { return one.from == &init; });
      if (operand->step == 0)
        out.line(held[&init] + " = " + of(value) + ";");
      else
        values.store(windows[&init], index, of(value));
    }
  }

  StepValues &values;
  CWriter &out;
  linalg::LinalgOp op;
  SmallVector<Operand> operands;
  SmallVector<Expr> extents, position;
  DenseMap<OpOperand *, Window> windows;
  DenseMap<OpOperand *, Expr> held;
};

}  // namespace

void lowerGeneric(StepValues &values, linalg::LinalgOp op) { GenericLowering(values, op).run(); }

namespace {

// Dimensions that lie one after the other on both sides are one: fewer and longer transfers.
void joinDimensions(View &source, View &target) {
  for (size_t at = source.extents.size(); at-- > 1;) {
    auto inner = knownNumber(source.extents[at]);
    auto follows = [&](const View &view) { return view.strides[at - 1] == *inner * view.strides[at]; };
    if (!inner || !follows(source) || !follows(target))
      continue;
    for (View *view : {&source, &target}) {
      view->extents[at - 1] = mul(view->extents[at - 1], number(*inner));
      view->strides[at - 1] = view->strides[at];
      view->extents.erase(view->extents.begin() + ptrdiff_t(at));
      view->strides.erase(view->strides.begin() + ptrdiff_t(at));
    }
  }
}

}  // namespace

void lowerCopy(StepValues &values, Value from, Value to) {
  View source = values.view(from), target = values.view(to);
  CWriter &out = values.out;
  int64_t bytes = bytesOf(source.element);
  // Bits are moved: as floats some would change.
  source.element = target.element = IntegerType::get(from.getContext(), unsigned(8 * bytes));
  if (!source.table.empty() || source.extents.empty())
    return values.fail("a copy of a table or of one element has no form in C yet");
  joinDimensions(source, target);
  SmallVector<Expr> position;
  auto piece = [&](const Expr &count, int64_t most) {
    Expr place = values.addressOf(target, values.offsetOf(target, position));
    int64_t apart = target.strides.back();
    Window read = values.fetch(values.addressOf(source, values.offsetOf(source, position)), source.element,
                               count, most, source.strides.back());
    if (!values.units.dmaOut.empty())
      return values.flush(read, place, count, apart);
    Window written = values.room(place, target.element, most, apart);
    out.loop("0", count, "1",
             [&](const Expr &index) { values.store(written, index, values.load(read, index)); });
  };
  auto nest = [&](auto &self, size_t loop) -> void {
    const Expr &extent = source.extents[loop];
    bool isInnermost = loop + 1 == source.extents.size();
    int64_t most =
        !isInnermost ? 1 : std::clamp<int64_t>(values.units.nearBytes / 2 / bytes, 1, kMostElements);
    most = std::min(most, knownNumber(extent).value_or(most));
    out.loop("0", extent, number(most), [&](const Expr &first) {
      position.push_back(first);
      if (isInnermost)
        piece(out.integer(least(number(most), out.integer(sub(extent, first)))), most);
      else
        self(self, loop + 1);
      position.pop_back();
    });
  };
  out.block([&] { nest(nest, 0); });
}

}  // namespace girih::compiler::c99
