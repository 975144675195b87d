// SPDX-License-Identifier: Apache-2.0
// Constants and dialect tensor: shapes, slices, elements.
#include "backends/reference/tensor_ops.h"

#include "backends/reference/frame.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"

#include <cmath>
#include <limits>

using namespace mlir;

namespace girih::reference {

Expected<double> scalarOf(Attribute attribute) {
  if (auto number = dyn_cast<FloatAttr>(attribute))
    return number.getValueAsDouble();
  if (auto number = dyn_cast<IntegerAttr>(attribute)) {
    if (number.getType().isInteger(1))
      return number.getValue().isZero() ? 0.0 : 1.0;
    return static_cast<double>(number.getInt());
  }
  return unimplemented("the reference reads float and integer constants only");
}

int64_t extentOf(const Frame &frame, OpFoldResult extent) {
  if (auto attribute = dyn_cast<Attribute>(extent))
    return cast<IntegerAttr>(attribute).getInt();
  return frame.index(cast<Value>(extent));
}

namespace {

std::vector<int64_t> extentsOf(const Frame &frame, llvm::ArrayRef<OpFoldResult> extents) {
  std::vector<int64_t> result;
  for (OpFoldResult extent : extents)
    result.push_back(extentOf(frame, extent));
  return result;
}

// The shape of a type, its dynamic extents from `dynamic` in order.
std::vector<int64_t> shapeOf(const Frame &frame, ShapedType type, ValueRange dynamic) {
  std::vector<int64_t> shape;
  size_t next = 0;
  for (int64_t extent : type.getShape())
    shape.push_back(ShapedType::isDynamic(extent) ? frame.index(dynamic[next++]) : extent);
  return shape;
}

Status checkShape(const std::vector<int64_t> &shape) {
  constexpr int64_t kMaxElements = int64_t(1) << 32;
  int64_t count = 1;
  for (int64_t extent : shape) {
    if (extent < 0 || (extent > 0 && count > kMaxElements / extent))
      return invalidArgument("a tensor has extent " + std::to_string(extent) +
                             " and more than 2^32 elements, or less than none");
    count *= extent;
  }
  return {};
}

Status evaluateConstant(Frame &frame, Operation &operation) {
  auto op = cast<arith::ConstantOp>(operation);
  auto dense = dyn_cast<DenseElementsAttr>(op.getValue());
  if (!dense) {
    GIRIH_ASSIGN(double value, scalarOf(op.getValue()));
    frame.set(op.getResult(), value);
    return {};
  }
  std::vector<double> elements;
  if (isa<FloatType>(dense.getElementType()))
    for (const APFloat &value : dense.getValues<APFloat>())
      elements.push_back(FloatAttr::get(dense.getElementType(), value).getValueAsDouble());
  else
    for (const APInt &value : dense.getValues<APInt>())
      elements.push_back(value.getBitWidth() == 1 ? double(value.getZExtValue())
                                                  : double(value.getSExtValue()));
  frame.set(op.getResult(), Tensor(dense.getType().getShape().vec(), std::move(elements)));
  return {};
}

// NaN, so that whoever reads what nobody wrote is found out.
Status evaluateEmpty(Frame &frame, Operation &operation) {
  auto op = cast<tensor::EmptyOp>(operation);
  std::vector<int64_t> shape = shapeOf(frame, op.getType(), op.getDynamicSizes());
  GIRIH_TRY(checkShape(shape));
  frame.set(op.getResult(), Tensor(std::move(shape), std::numeric_limits<double>::quiet_NaN()));
  return {};
}

Status evaluateDim(Frame &frame, Operation &operation) {
  auto op = cast<tensor::DimOp>(operation);
  const Tensor &source = frame.tensor(op.getSource());
  int64_t axis = frame.index(op.getIndex());
  if (axis < 0 || axis >= source.rank())
    return invalidArgument("axis " + std::to_string(axis) + " of a tensor of rank " +
                           std::to_string(source.rank()));
  frame.set(op.getResult(), static_cast<double>(source.shape()[axis]));
  return {};
}

Status setReshaped(Frame &frame, Operation &op, const Tensor &source, std::vector<int64_t> shape) {
  if (countElements(shape) != source.numElements())
    return invalidArgument("a tensor of " + std::to_string(source.numElements()) + " elements cannot have " +
                           std::to_string(countElements(shape)));
  frame.set(op.getResult(0), source.reshaped(std::move(shape)));
  return {};
}

Status evaluateExpandShape(Frame &frame, Operation &operation) {
  auto op = cast<tensor::ExpandShapeOp>(operation);
  return setReshaped(frame, operation, frame.tensor(op.getSrc()), extentsOf(frame, op.getMixedOutputShape()));
}

Status evaluateCollapseShape(Frame &frame, Operation &operation) {
  auto op = cast<tensor::CollapseShapeOp>(operation);
  const Tensor &source = frame.tensor(op.getSrc());
  std::vector<int64_t> shape;
  for (const ReassociationIndices &group : op.getReassociationIndices()) {
    int64_t extent = 1;
    for (int64_t axis : group)
      extent *= source.shape()[axis];
    shape.push_back(extent);
  }
  return setReshaped(frame, operation, source, std::move(shape));
}

Status evaluateCast(Frame &frame, Operation &op) {
  frame.set(op.getResult(0), frame[op.getOperand(0)]);
  return {};
}

// ---- Slices ----

struct Slice {
  std::vector<int64_t> offsets, extents, strides;
};

template <typename SliceOp> Expected<Slice> sliceOf(const Frame &frame, SliceOp op, const Tensor &whole) {
  Slice slice{extentsOf(frame, op.getMixedOffsets()), extentsOf(frame, op.getMixedSizes()),
              extentsOf(frame, op.getMixedStrides())};
  for (int64_t axis = 0; axis < whole.rank(); ++axis) {
    int64_t first = slice.offsets[axis], extent = slice.extents[axis];
    int64_t last = first + (extent - 1) * slice.strides[axis];
    bool isInside = extent == 0 || (first >= 0 && last >= 0 && std::max(first, last) < whole.shape()[axis]);
    if (extent < 0 || !isInside)
      return invalidArgument("a slice takes " + std::to_string(extent) + " elements from " +
                             std::to_string(first) + " on axis " + std::to_string(axis) +
                             "; the tensor has " + std::to_string(whole.shape()[axis]));
  }
  return slice;
}

// Calls visit(offset in the whole, position in the slice) in row-major order of the slice.
template <typename Visit> void visitSlice(const Slice &slice, const Tensor &whole, Visit visit) {
  std::vector<int64_t> strides = whole.strides();
  std::vector<int64_t> point(slice.extents.size());
  int64_t count = countElements(slice.extents);
  for (int64_t position = 0; position < count; ++position) {
    int64_t offset = 0;
    for (size_t axis = 0; axis < point.size(); ++axis)
      offset += (slice.offsets[axis] + point[axis] * slice.strides[axis]) * strides[axis];
    visit(offset, position);
    for (size_t axis = point.size(); axis-- > 0;) {
      if (++point[axis] < slice.extents[axis])
        break;
      point[axis] = 0;
    }
  }
}

Status evaluateExtractSlice(Frame &frame, Operation &operation) {
  auto op = cast<tensor::ExtractSliceOp>(operation);
  const Tensor &source = frame.tensor(op.getSource());
  GIRIH_ASSIGN(Slice slice, sliceOf(frame, op, source));
  llvm::SmallBitVector dropped = op.getDroppedDims();
  std::vector<int64_t> shape;
  for (size_t axis = 0; axis < slice.extents.size(); ++axis)
    if (!dropped[axis])
      shape.push_back(slice.extents[axis]);
  std::vector<double> elements(countElements(slice.extents));
  visitSlice(slice, source,
             [&](int64_t offset, int64_t position) { elements[position] = source.elements()[offset]; });
  frame.set(op.getResult(), Tensor(std::move(shape), std::move(elements)));
  return {};
}

template <typename InsertOp> Expected<Tensor> insertSlice(Frame &frame, InsertOp op) {
  const Tensor &part = frame.tensor(op.getSource());
  Tensor whole = frame.tensor(op.getDest());
  GIRIH_ASSIGN(Slice slice, sliceOf(frame, op, whole));
  if (countElements(slice.extents) != part.numElements())
    return invalidArgument("a slice of " + std::to_string(countElements(slice.extents)) +
                           " elements is written from " + std::to_string(part.numElements()));
  double *out = whole.mutableElements();
  visitSlice(slice, whole,
             [&](int64_t offset, int64_t position) { out[offset] = part.elements()[position]; });
  return whole;
}

Status evaluateInsertSlice(Frame &frame, Operation &operation) {
  auto op = cast<tensor::InsertSliceOp>(operation);
  GIRIH_ASSIGN(Tensor result, insertSlice(frame, op));
  frame.set(op.getResult(), std::move(result));
  return {};
}

Status evaluateConcat(Frame &frame, Operation &operation) {
  auto op = cast<tensor::ConcatOp>(operation);
  auto axis = static_cast<size_t>(op.getDim());
  std::vector<int64_t> shape = frame.tensor(op.getInputs()[0]).shape();
  shape[axis] = 0;
  for (Value input : op.getInputs())
    shape[axis] += frame.tensor(input).shape()[axis];
  Tensor result(shape);
  double *out = result.mutableElements();
  int64_t begin = 0;
  for (Value input : op.getInputs()) {
    const Tensor &part = frame.tensor(input);
    Slice slice{std::vector<int64_t>(shape.size()), part.shape(), std::vector<int64_t>(shape.size(), 1)};
    slice.offsets[axis] = begin;
    visitSlice(slice, result,
               [&](int64_t offset, int64_t position) { out[offset] = part.elements()[position]; });
    begin += part.shape()[axis];
  }
  frame.set(op.getResult(), std::move(result));
  return {};
}

// ---- Elements ----

Expected<int64_t> elementOffset(const Frame &frame, const Tensor &tensor, ValueRange indices) {
  int64_t offset = 0;
  for (auto [axis, value] : llvm::enumerate(indices)) {
    int64_t index = frame.index(value), extent = tensor.shape()[axis];
    if (index < 0 || index >= extent)
      return invalidArgument("index " + std::to_string(index) + " on axis " + std::to_string(axis) +
                             "; the tensor has " + std::to_string(extent) + " there");
    offset = offset * extent + index;
  }
  return offset;
}

Status evaluateExtract(Frame &frame, Operation &operation) {
  auto op = cast<tensor::ExtractOp>(operation);
  const Tensor &source = frame.tensor(op.getTensor());
  GIRIH_ASSIGN(int64_t offset, elementOffset(frame, source, op.getIndices()));
  frame.set(op.getResult(), source.elements()[offset]);
  return {};
}

Status evaluateInsert(Frame &frame, Operation &operation) {
  auto op = cast<tensor::InsertOp>(operation);
  Tensor result = frame.tensor(op.getDest());
  GIRIH_ASSIGN(int64_t offset, elementOffset(frame, result, op.getIndices()));
  result.mutableElements()[offset] = frame.scalar(op.getScalar());
  frame.set(op.getResult(), std::move(result));
  return {};
}

Status evaluateSplat(Frame &frame, Operation &operation) {
  auto op = cast<tensor::SplatOp>(operation);
  frame.set(op.getResult(),
            Tensor(shapeOf(frame, op.getType(), op.getDynamicSizes()), frame.scalar(op.getInput())));
  return {};
}

Status evaluateFromElements(Frame &frame, Operation &operation) {
  auto op = cast<tensor::FromElementsOp>(operation);
  std::vector<double> elements;
  for (Value value : op.getElements())
    elements.push_back(frame.scalar(value));
  frame.set(op.getResult(), Tensor(op.getType().getShape().vec(), std::move(elements)));
  return {};
}

Status evaluateReshape(Frame &frame, Operation &operation) {
  auto op = cast<tensor::ReshapeOp>(operation);
  const Tensor &source = frame.tensor(op.getSource()), &wanted = frame.tensor(op.getShape());
  std::vector<int64_t> shape(wanted.elements(), wanted.elements() + wanted.numElements());
  GIRIH_TRY(checkShape(shape));
  if (countElements(shape) != source.numElements())
    return invalidArgument("a reshape of " + std::to_string(source.numElements()) + " elements to " +
                           std::to_string(countElements(shape)));
  frame.set(op.getResult(), source.reshaped(std::move(shape)));
  return {};
}

struct Row {
  const char *name;
  Handler handler;
};

constexpr Row kRows[] = {
    {"arith.constant", evaluateConstant},
    {"tensor.cast", evaluateCast},
    {"tensor.collapse_shape", evaluateCollapseShape},
    {"tensor.concat", evaluateConcat},
    {"tensor.dim", evaluateDim},
    {"tensor.empty", evaluateEmpty},
    {"tensor.expand_shape", evaluateExpandShape},
    {"tensor.extract", evaluateExtract},
    {"tensor.extract_slice", evaluateExtractSlice},
    {"tensor.from_elements", evaluateFromElements},
    {"tensor.insert", evaluateInsert},
    {"tensor.insert_slice", evaluateInsertSlice},
    {"tensor.reshape", evaluateReshape},
    {"tensor.splat", evaluateSplat},
};

} // namespace

Expected<Tensor> insertParallelSlice(Frame &frame, Operation &operation) {
  return insertSlice(frame, cast<tensor::ParallelInsertSliceOp>(operation));
}

Handler findTensorHandler(llvm::StringRef opName) {
  for (const Row &row : kRows)
    if (opName == row.name)
      return row.handler;
  return nullptr;
}

} // namespace girih::reference
