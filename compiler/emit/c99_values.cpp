// SPDX-License-Identifier: Apache-2.0
// Values are declared where their operation stands, so C's scopes are those of the regions.
#include "compiler/emit/c99_values.h"

#include "mlir/Dialect/Affine/IR/AffineOps.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Utils/StaticValueUtils.h"

using namespace mlir;
using namespace girih::dialect;

namespace girih::compiler::c99 {

int64_t bytesOf(Type element) {
  if (element.isIndex())
    return 8;
  return std::max<int64_t>(1, int64_t(element.getIntOrFloatBitWidth()) / 8);
}

StringRef nameOf(Type element) {
  if (element.isF32())
    return "float";
  if (element.isF16() || element.isBF16())
    return "uint16_t";
  switch (bytesOf(element)) {
  case 1:
    return element.isInteger(1) ? "uint8_t" : "int8_t";
  case 2:
    return "uint16_t";
  case 4:
    return "int32_t";
  default:
    return "int64_t";
  }
}

// The step's own types differ, and some are const.
Expr stepAddress(StringRef field) { return ("((girih_address)args->" + field + ")").str(); }

// ---- Numbers ----
Expr StepValues::scalar(Value value) {
  if (auto known = scalars.find(value); known != scalars.end())
    return known->second;
  fail("a value of " + (value.getDefiningOp() ? Twine(value.getDefiningOp()->getName().getStringRef()) : Twine("an argument")) +
       " is used, which has no form in C yet");
  return "0";
}

Expr StepValues::scalar(OpFoldResult value) {
  if (auto constant = getConstantIntValue(value))
    return number(*constant);
  return scalar(cast<Value>(value));
}

Expr StepValues::affine(AffineExpr expr, ArrayRef<Expr> dimensions, ArrayRef<Expr> symbols) {
  if (auto constant = dyn_cast<AffineConstantExpr>(expr))
    return number(constant.getValue());
  if (auto dimension = dyn_cast<AffineDimExpr>(expr))
    return dimensions[dimension.getPosition()];
  if (auto symbol = dyn_cast<AffineSymbolExpr>(expr))
    return symbols[symbol.getPosition()];
  auto parts = cast<AffineBinaryOpExpr>(expr);
  Expr x = affine(parts.getLHS(), dimensions, symbols), y = affine(parts.getRHS(), dimensions, symbols);
  switch (expr.getKind()) {
  case AffineExprKind::Add:
    return add(x, y);
  case AffineExprKind::Mul:
    return mul(x, y);
  case AffineExprKind::Mod:
    return rem(x, y);
  case AffineExprKind::FloorDiv:
    return div(x, y);
  default:
    return ceilDiv(x, y);
  }
}

Expr StepValues::minMax(Operation &op) {
  SmallVector<Expr> operands = llvm::map_to_vector(op.getOperands(), [&](Value v) { return scalar(v); });
  AffineMap map = cast<AffineMapAttr>(op.getAttr("map")).getValue();
  ArrayRef<Expr> all(operands);
  Expr best;
  for (AffineExpr expr : map.getResults()) {
    Expr next = out.integer(affine(expr, all.take_front(map.getNumDims()), all.drop_front(map.getNumDims())));
    best = best.empty() ? next : out.integer(isa<affine::AffineMinOp>(op) ? least(best, next) : most(best, next));
  }
  return best;
}

Expr StepValues::longestContext() {
  Expr longest = out.variable("int64_t", "v", "0");
  out.loop("0", "args->num_sequences", "1", [&](const Expr &sequence) {
    Expr length = stepNumber("context_lengths", sequence);
    out.line(longest + " = " + most(length, longest) + ";");
  });
  return longest;
}

void StepValues::define(Operation &op) {
  if (op.getNumResults() != 1)
    return fail("a step has " + Twine(op.getName().getStringRef()) + ", which has no form in C yet");
  Value result = op.getResult(0);
  if (isa<PackedType, KvType>(result.getType()))
    return;  // resolved where it is used
  if (isa<MemRefType>(result.getType()))
    return defineView(op);
  if (auto extent = dyn_cast<StepExtentOp>(op)) {
    StringRef name = extent.getName();
    return setScalar(result, name == "longest_context" ? longestContext() : out.integer(("args->" + name).str()));
  }
  if (auto dim = dyn_cast<memref::DimOp>(op)) {
    if (auto index = dim.getConstantIndex())
      return setScalar(result, view(dim.getSource()).extents[size_t(*index)]);
    return fail("a dimension is asked for by a number that is not known");
  }
  if (auto apply = dyn_cast<affine::AffineApplyOp>(op)) {
    SmallVector<Expr> operands = llvm::map_to_vector(apply.getOperands(), [&](Value v) { return scalar(v); });
    AffineMap map = apply.getAffineMap();
    ArrayRef<Expr> all(operands);
    return setScalar(result, out.integer(affine(map.getResult(0), all.take_front(map.getNumDims()),
                                                all.drop_front(map.getNumDims()))));
  }
  if (isa<affine::AffineMinOp, affine::AffineMaxOp>(op))
    return setScalar(result, minMax(op));
  if (auto read = dyn_cast<memref::LoadOp>(op)) {
    View from = view(read.getMemref());
    SmallVector<Expr> position = llvm::map_to_vector(read.getIndices(), [&](Value v) { return scalar(v); });
    Expr at = offsetOf(from, position);
    Window window = from.table.empty() ? fetch(addressOf(from, at), from.element, "1", 1) : Window{from.table, 1, from.element, at};
    Expr loaded = load(window, "0");
    return setScalar(result, isa<FloatType>(result.getType()) ? out.real(loaded) : out.integer(loaded));
  }
  setScalar(result, declare(op, [&](Value v) { return scalar(v); }));
}

// ---- Views ----
View StepValues::view(Value memref) {
  if (auto known = views.find(memref); known != views.end())
    return known->second;
  fail("a buffer is used that has no place");
  View nowhere;
  auto type = cast<MemRefType>(memref.getType());
  nowhere.element = type.getElementType();
  nowhere.strides.assign(size_t(type.getRank()), 1);
  nowhere.extents.assign(size_t(type.getRank()), "1");
  return nowhere;
}

Expr StepValues::offsetOf(const View &view, ArrayRef<Expr> position) {
  Expr elements = "0";
  for (auto [index, stride] : llvm::zip(position, view.strides))
    elements = add(elements, mul(index, number(stride)));
  return elements;
}

Expr StepValues::addressOf(const View &view, const Expr &elements) {
  return add(view.base, add(view.offset, mul(elements, number(bytesOf(view.element)))));
}

// A view of the same memory in another shape; dynamic extents stay what they are, outermost.
View StepValues::reshaped(Value source, MemRefType type) {
  View result = view(source);
  Expr rows = result.extents.empty() ? Expr("1") : result.extents.front();
  int64_t offset = 0;
  result.strides.clear();
  if (failed(type.getStridesAndOffset(result.strides, offset)) || llvm::is_contained(result.strides, ShapedType::kDynamic))
    fail("a view has strides that are not known");
  result.extents.clear();
  for (int64_t extent : type.getShape())
    result.extents.push_back(ShapedType::isDynamic(extent) ? rows : number(extent));
  return result;
}

View StepValues::ofBuffer(BufferAtOp op) {
  View result;
  auto type = cast<MemRefType>(op.getType());
  int64_t offset = 0;
  (void)type.getStridesAndOffset(result.strides, offset);
  result.element = type.getElementType();
  StringRef space = op.getSpace();
  result.base = stepAddress(space == "scratch" ? "arena" : space);
  result.offset = scalar(op.getOffsetBytes());
  if (space == "scratch")
    result.offset = add(add(number(arenaBytes), mul("thread", number(scratchBytes))), result.offset);
  for (int64_t extent : type.getShape())
    result.extents.push_back(ShapedType::isDynamic(extent) ? scalar(op.getRows()) : number(extent));
  return result;
}

View StepValues::ofSubview(memref::SubViewOp op) {
  View result = view(op.getSource());
  SmallVector<Expr> offsets;
  for (OpFoldResult at : op.getMixedOffsets())
    offsets.push_back(scalar(at));
  Expr elements = offsetOf(result, offsets);
  if (result.table.empty())
    result.offset = out.integer(add(result.offset, mul(elements, number(bytesOf(result.element)))));
  else
    result.offset = out.integer(add(result.offset, elements));
  int64_t offset = 0;
  result.strides.clear();
  if (failed(op.getType().getStridesAndOffset(result.strides, offset)) ||
      llvm::is_contained(result.strides, ShapedType::kDynamic))
    fail("a view has strides that are not known");
  result.extents.clear();
  auto dropped = op.getDroppedDims();
  for (auto [dimension, extent] : llvm::enumerate(op.getMixedSizes()))
    if (!dropped.test(unsigned(dimension)))
      result.extents.push_back(scalar(extent));
  return result;
}

void StepValues::defineView(Operation &op) {
  Value result = op.getResult(0);
  auto type = cast<MemRefType>(result.getType());
  if (auto buffer = dyn_cast<BufferAtOp>(op))
    return setView(result, ofBuffer(buffer));
  if (auto part = dyn_cast<memref::SubViewOp>(op))
    return setView(result, ofSubview(part));
  if (isa<memref::ExpandShapeOp, memref::CollapseShapeOp, memref::CastOp>(op))
    return setView(result, reshaped(op.getOperand(0), type));
  auto global = dyn_cast<memref::GetGlobalOp>(op);
  if (!global)
    return fail("a step has " + Twine(op.getName().getStringRef()) + ", which has no form in C yet");
  View table;
  int64_t offset = 0;
  table.table = ("table_" + global.getName()).str();
  table.element = type.getElementType();
  (void)type.getStridesAndOffset(table.strides, offset);
  for (int64_t extent : type.getShape())
    table.extents.push_back(number(extent));
  setView(result, table);
}

PackedWeight StepValues::packed(Value weight) {
  auto type = cast<PackedType>(weight.getType());
  auto at = weight.getDefiningOp<PackedAtOp>();
  auto layout = weights::PackedLayout::parse(std::string_view(type.getLayout()));
  if (!at || !layout.isOk()) {
    fail("a packed weight has no address or an unknown layout");
    return {stepAddress("weights"), type.getDepth(), type.getColumns(), {}};
  }
  return {add(stepAddress("weights"), scalar(at.getOffsetBytes())), type.getDepth(), type.getColumns(), *layout};
}

// ---- Memory ----
namespace {
// Rows, bytes of a row and bytes between rows: one row, or one for each element.
std::string transfer(const Expr &count, int64_t bytes, int64_t stride) {
  return stride == 1 ? "1, " + mul(count, number(bytes)) + ", 0"
                     : count + ", " + number(bytes) + ", " + number(stride * bytes);
}
}  // namespace

Window StepValues::room(const Expr &address, Type element, int64_t most, int64_t stride) {
  StringRef type = nameOf(element);
  if (!units.dmaIn.empty())
    return {out.array(type, most), 1, element};
  return {out.variable((type + " *").str(), "w", ("(" + type + " *)(" + address + ")").str()), stride, element};
}

Window StepValues::fetch(const Expr &address, Type element, const Expr &count, int64_t most, int64_t stride) {
  Window window = room(address, element, most, stride);
  int64_t bytes = bytesOf(element);
  if (!units.dmaIn.empty())
    out.line(units.dmaIn + "(" + window.name + ", " + address + ", " + transfer(count, bytes, stride) + ");");
  return window;
}

void StepValues::flush(const Window &window, const Expr &address, const Expr &count, int64_t stride) {
  if (!units.dmaOut.empty())
    out.line(units.dmaOut + "(" + address + ", " + window.name + ", " + transfer(count, bytesOf(window.element), stride) + ");");
}

Window StepValues::fetchRows(const Expr &address, Type element, const Expr &rows, int64_t mostRows, const Expr &count,
                             int64_t mostCount, Expr &apart) {
  Window window = room(address, element, mostRows * mostCount);
  if (units.dmaIn.empty())
    return window;
  int64_t bytes = bytesOf(element);
  out.line(units.dmaIn + "(" + window.name + ", " + address + ", " + rows + ", " + mul(count, number(bytes)) + ", " +
           mul(apart, number(bytes)) + ");");
  apart = count;
  return window;
}

Expr StepValues::load(const Window &window, const Expr &index) {
  Expr raw = element(window.name, add(window.first, mul(index, number(window.stride))));
  if (window.element.isF16())
    return call("girih_f32_of_f16", raw);
  if (window.element.isBF16())
    return call("girih_f32_of_bits", "(int64_t)" + raw + " << 16");
  // C would calculate with the element's own width, or an int's.
  return window.element.isF32() || bytesOf(window.element) == 8 ? raw : "((int64_t)" + raw + ")";
}

void StepValues::store(const Window &window, const Expr &index, const Expr &value) {
  Type type = window.element;
  Expr stored = type.isF16() ? call("girih_f16_of_f32", value) : type.isBF16() ? bfloatBits(value) : value;
  out.line(element(window.name, mul(index, number(window.stride))) + " = " + stored + ";");
}

// The nearest bf16, ties to even.
Expr StepValues::bfloatBits(const Expr &value) {
  Expr bits = out.integer(call("girih_bits_of_f32", value));
  return binary(add(add(bits, number(0x7fff)), binary(binary(bits, ">>", "16"), "&", "1")), ">>", "16");
}

Expr StepValues::stepNumber(StringRef array, const Expr &index) {
  Type i32 = IntegerType::get(context, 32);
  return out.integer(load(fetch(add(stepAddress(array), mul(index, "4")), i32, "1", 1), "0"));
}

}  // namespace girih::compiler::c99
