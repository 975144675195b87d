// SPDX-License-Identifier: Apache-2.0
// GraphBuilder: writes the textbook graph of a model, one function a layer, in linalg, tensor, arith and
// math.
#include "models/graph_builder.h"

#include "dialects/girih/dialect.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "mlir/IR/ImplicitLocOpBuilder.h"

using namespace mlir;

namespace girih::models {
namespace {

std::string shapeText(llvm::ArrayRef<int64_t> shape) {
  std::string text = "[";
  for (size_t axis = 0; axis < shape.size(); ++axis)
    text += (axis ? ", " : "") + std::to_string(shape[axis]);
  return text + "]";
}

AffineMap loopMap(int64_t numLoops, llvm::ArrayRef<int64_t> loops, MLIRContext *context) {
  SmallVector<AffineExpr> exprs;
  for (int64_t loop : loops)
    exprs.push_back(getAffineDimExpr(loop, context));
  return AffineMap::get(numLoops, 0, exprs, context);
}

SmallVector<int64_t> allLoops(int64_t numLoops) { return llvm::to_vector(llvm::seq<int64_t>(0, numLoops)); }

} // namespace

GraphBuilder::GraphBuilder(MLIRContext *context, const weights::WeightStore &store, const ModelConfig &config)
    : builder(context), store(store), modelConfig(config) {
  moduleOp = ModuleOp::create(NameLoc::get(builder.getStringAttr(config.family)));
}

// ---- Functions and places ----

Location GraphBuilder::location() { return NameLoc::get(builder.getStringAttr(path)); }

SmallVector<Value> GraphBuilder::beginFunction(llvm::StringRef name, llvm::StringRef modulePath,
                                               llvm::ArrayRef<Type> arguments, llvm::ArrayRef<Type> results) {
  path = modulePath.str();
  builder.setInsertionPointToEnd(moduleOp->getBody());
  auto function =
      func::FuncOp::create(builder, location(), name, builder.getFunctionType(arguments, results));
  function.setPrivate();
  Block *entry = function.addEntryBlock();
  builder.setInsertionPointToStart(entry);
  tokenCount = tensor::DimOp::create(builder, location(), entry->getArgument(0), 0);
  return llvm::to_vector_of<Value>(entry->getArguments());
}

void GraphBuilder::endFunction(ValueRange results) {
  func::ReturnOp::create(builder, location(), results);
  tokenCount = {};
}

void GraphBuilder::buildMain(int64_t numLayers) {
  path = "model";
  const ModelConfig &c = modelConfig;
  Type indices = RankedTensorType::get({kT}, builder.getI32Type());
  Type logits = f32Tensor({kT, c.vocabSize});
  builder.setInsertionPointToStart(moduleOp->getBody());
  auto main = func::FuncOp::create(builder, location(), "main",
                                   builder.getFunctionType({indices, indices}, {logits}));
  auto number = [&](int64_t value) { return builder.getI64IntegerAttr(value); };
  main->setAttr(
      "girih.model",
      builder.getDictionaryAttr({
          builder.getNamedAttr("family", builder.getStringAttr(c.family)),
          builder.getNamedAttr("headDim", number(c.headDim)),
          builder.getNamedAttr("hiddenSize", number(c.hiddenSize)),
          builder.getNamedAttr("intermediateSize", number(c.intermediateSize)),
          builder.getNamedAttr("maxPositions", number(c.maxPositions)),
          builder.getNamedAttr("numHeads", number(c.numHeads)),
          builder.getNamedAttr("numKvHeads", number(c.numKvHeads)),
          builder.getNamedAttr("numLayers", number(c.numLayers)),
          builder.getNamedAttr("ropeConvention", builder.getStringAttr(ropeConventionName(c.ropeConvention))),
          builder.getNamedAttr("vocabSize", number(c.vocabSize)),
      }));
  Block *entry = main.addEntryBlock();
  builder.setInsertionPointToStart(entry);
  Type hidden = f32Tensor({kT, c.hiddenSize});
  Type angles = f32Tensor({kT, c.headDim / 2});
  auto call = [&](std::string name, TypeRange results, ValueRange operands) {
    return func::CallOp::create(builder, location(), name, results, operands);
  };
  Value x = call("embed", hidden, entry->getArgument(0)).getResult(0);
  auto rotary = call("rotary", {angles, angles}, entry->getArgument(1));
  for (int64_t layer = 0; layer < numLayers; ++layer)
    x = call("layer_" + std::to_string(layer), hidden, {x, rotary.getResult(0), rotary.getResult(1)})
            .getResult(0);
  Value result = call("head", logits, x).getResult(0);
  func::ReturnOp::create(builder, location(), result);
}

GraphBuilder::Scope::Scope(GraphBuilder &builder, llvm::StringRef part)
    : builder(builder), outerLength(builder.path.size()) {
  builder.path += (builder.path.empty() ? "" : ".") + part.str();
}

GraphBuilder::Scope::~Scope() { builder.path.resize(outerLength); }

// ---- Weights ----

void GraphBuilder::fail(Status status) {
  if (firstFailure.isOk())
    firstFailure = std::move(status);
}

Value GraphBuilder::weight(llvm::StringRef suffix, llvm::ArrayRef<int64_t> shape) {
  return weightNamed(path + "." + suffix.str(), shape);
}

Value GraphBuilder::weightNamed(llvm::StringRef fullName, llvm::ArrayRef<int64_t> shape) {
  std::string name = checkpointTensorName(modelConfig, fullName.str());
  std::string format = "f32";
  auto stored = store.require(name);
  if (!stored.isOk()) {
    fail(std::move(stored).status());
  } else {
    const weights::StoredTensor &tensor = **stored;
    if (llvm::ArrayRef<int64_t>(tensor.shape) != shape)
      fail(invalidArgument("tensor \"" + name + "\" has shape " + shapeText(tensor.shape) +
                           "; the config asks for " + shapeText(shape)));
    format = weights::formatRow(tensor.format).name;
  }
  used.insert(name);
  auto storage = dialect::StorageAttr::get(builder.getContext(), format);
  auto type = RankedTensorType::get(shape, builder.getF32Type(), storage);
  return dialect::WeightOp::create(builder, location(), type, builder.getStringAttr(name));
}

// ---- Tensors ----

RankedTensorType GraphBuilder::f32Tensor(llvm::ArrayRef<int64_t> shape) {
  return RankedTensorType::get(shape, builder.getF32Type());
}

Value GraphBuilder::emptyTensor(llvm::ArrayRef<int64_t> shape) {
  SmallVector<Value> dynamicExtents(llvm::count(shape, kT), tokenCount);
  return tensor::EmptyOp::create(builder, location(), f32Tensor(shape), dynamicExtents);
}

Value GraphBuilder::filled(llvm::ArrayRef<int64_t> shape, float value) {
  Value scalar = arith::ConstantOp::create(builder, location(), builder.getF32FloatAttr(value));
  return linalg::FillOp::create(builder, location(), scalar, emptyTensor(shape)).getResult(0);
}

Value GraphBuilder::expand(Value source, llvm::ArrayRef<int64_t> shape,
                           llvm::ArrayRef<ReassociationIndices> groups) {
  SmallVector<OpFoldResult> extents;
  for (int64_t extent : shape)
    extents.push_back(extent == kT ? OpFoldResult(tokenCount) : OpFoldResult(builder.getIndexAttr(extent)));
  return tensor::ExpandShapeOp::create(builder, location(), f32Tensor(shape), source, groups, extents);
}

Value GraphBuilder::collapse(Value source, llvm::ArrayRef<ReassociationIndices> groups) {
  return tensor::CollapseShapeOp::create(builder, location(), source, groups);
}

Value GraphBuilder::transpose(Value source, llvm::ArrayRef<int64_t> permutation) {
  auto type = cast<RankedTensorType>(source.getType());
  SmallVector<int64_t> shape;
  for (int64_t axis : permutation)
    shape.push_back(type.getDimSize(axis));
  return linalg::TransposeOp::create(builder, location(), source, emptyTensor(shape), permutation)
      ->getResult(0);
}

Value GraphBuilder::broadcast(Value source, llvm::ArrayRef<int64_t> shape,
                              llvm::ArrayRef<int64_t> addedAxes) {
  return linalg::BroadcastOp::create(builder, location(), source, emptyTensor(shape), addedAxes)
      ->getResult(0);
}

namespace {

// Offsets, sizes and strides of one axis' slice, the other axes whole.
struct AxisSlice {
  SmallVector<OpFoldResult> offsets, extents, strides;
  SmallVector<int64_t> shape;
};

AxisSlice axisSlice(OpBuilder &b, RankedTensorType type, Value tokenCount, int64_t axis, int64_t begin,
                    int64_t extent) {
  AxisSlice slice;
  for (int64_t i = 0; i < type.getRank(); ++i) {
    int64_t whole = i == axis ? extent : type.getDimSize(i);
    slice.offsets.push_back(b.getIndexAttr(i == axis ? begin : 0));
    slice.extents.push_back(whole == ShapedType::kDynamic ? OpFoldResult(tokenCount)
                                                          : OpFoldResult(b.getIndexAttr(whole)));
    slice.strides.push_back(b.getIndexAttr(1));
    slice.shape.push_back(whole);
  }
  return slice;
}

} // namespace

Value GraphBuilder::sliceAxis(Value source, int64_t axis, int64_t begin, int64_t extent, bool dropAxis) {
  AxisSlice slice =
      axisSlice(builder, cast<RankedTensorType>(source.getType()), tokenCount, axis, begin, extent);
  if (dropAxis)
    slice.shape.erase(slice.shape.begin() + axis);
  return tensor::ExtractSliceOp::create(builder, location(), f32Tensor(slice.shape), source, slice.offsets,
                                        slice.extents, slice.strides);
}

Value GraphBuilder::insertAxis(Value part, Value target, int64_t axis, int64_t begin, int64_t extent) {
  AxisSlice slice =
      axisSlice(builder, cast<RankedTensorType>(target.getType()), tokenCount, axis, begin, extent);
  return tensor::InsertSliceOp::create(builder, location(), part, target, slice.offsets, slice.extents,
                                       slice.strides);
}

// ---- Structured ops ----

Value GraphBuilder::constant(ImplicitLocOpBuilder &b, double value) {
  return arith::ConstantOp::create(b, b.getF32FloatAttr(static_cast<float>(value)));
}

SmallVector<Value> GraphBuilder::mapMany(llvm::ArrayRef<Operand> operands, llvm::ArrayRef<int64_t> shape,
                                         size_t numResults, Bodies body) {
  int64_t numLoops = shape.size();
  SmallVector<Value> inputs, inits;
  SmallVector<AffineMap> maps;
  for (const Operand &operand : operands) {
    inputs.push_back(operand.tensor);
    maps.push_back(loopMap(numLoops, operand.loops, builder.getContext()));
  }
  for (size_t i = 0; i < numResults; ++i) {
    inits.push_back(emptyTensor(shape));
    maps.push_back(builder.getMultiDimIdentityMap(numLoops));
  }
  SmallVector<utils::IteratorType> loops(numLoops, utils::IteratorType::parallel);
  auto generic =
      linalg::GenericOp::create(builder, location(), TypeRange(ValueRange(inits)), inputs, inits, maps, loops,
                                [&](OpBuilder &nested, Location loc, ValueRange arguments) {
                                  ImplicitLocOpBuilder b(loc, nested);
                                  linalg::YieldOp::create(b, body(b, arguments.drop_back(numResults)));
                                });
  return llvm::to_vector_of<Value>(generic.getResults());
}

Value GraphBuilder::map(llvm::ArrayRef<Operand> operands, llvm::ArrayRef<int64_t> shape, Body body) {
  return mapMany(operands, shape, 1, [&](ImplicitLocOpBuilder &b, ValueRange arguments) {
    return SmallVector<Value>{body(b, arguments)};
  })[0];
}

Value GraphBuilder::buildGeneric(llvm::ArrayRef<Operand> operands, llvm::ArrayRef<int64_t> resultLoops,
                                 Value init, int64_t numLoops, Body body) {
  SmallVector<Value> inputs;
  SmallVector<AffineMap> maps;
  for (const Operand &operand : operands) {
    inputs.push_back(operand.tensor);
    maps.push_back(loopMap(numLoops, operand.loops, builder.getContext()));
  }
  maps.push_back(loopMap(numLoops, resultLoops, builder.getContext()));
  SmallVector<utils::IteratorType> loops(numLoops, utils::IteratorType::reduction);
  for (int64_t loop : resultLoops)
    loops[loop] = utils::IteratorType::parallel;
  return linalg::GenericOp::create(builder, location(), init.getType(), inputs, init, maps, loops,
                                   [&](OpBuilder &nested, Location loc, ValueRange arguments) {
                                     ImplicitLocOpBuilder b(loc, nested);
                                     linalg::YieldOp::create(b, body(b, arguments));
                                   })
      .getResult(0);
}

Value GraphBuilder::reduceInnermost(Value source, float initial, Body body) {
  auto type = cast<RankedTensorType>(source.getType());
  int64_t rank = type.getRank();
  Value init = filled(type.getShape().drop_back(), initial);
  return buildGeneric({{source, SmallVector<int64_t, 4>(allLoops(rank))}}, allLoops(rank - 1), init, rank,
                      body);
}

Value GraphBuilder::contract(const Operand &a, const Operand &b, llvm::ArrayRef<int64_t> resultLoops,
                             llvm::ArrayRef<int64_t> resultShape, int64_t numLoops) {
  return buildGeneric({a, b}, resultLoops, filled(resultShape, 0.0f), numLoops,
                      [](ImplicitLocOpBuilder &nested, ValueRange v) -> Value {
                        Value product = arith::MulFOp::create(nested, v[0], v[1]);
                        return arith::AddFOp::create(nested, v[2], product);
                      });
}

} // namespace girih::models
