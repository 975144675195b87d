// SPDX-License-Identifier: Apache-2.0
// girih-bind-memory: gives weights, caches, inputs and logits their addresses.
#include "compiler/allocate/passes.h"

#include "dialects/girih/dialect.h"
#include "runtime/weights/packed_layout.h"

#include <map>

namespace girih::compiler {
#define GEN_PASS_DEF_BINDMEMORY
#include "compiler/allocate/passes.h.inc"
}  // namespace girih::compiler

using namespace mlir;
using namespace girih::dialect;

namespace {

constexpr int64_t kSectionAlignment = 64;  // bytes: a cache line, and the widest vector load

// How many layers an operation of a loop stands for; a part of a step whose loop is cut has the count with the index.
int64_t iterationsOf(KvLayerOp cache) {
  if (!cache.getIndex())
    return 1;
  if (auto extent = cache.getIndex().getDefiningOp<StepExtentOp>())
    if (auto count = extent->getAttrOfType<IntegerAttr>("girih.iterations"))
      return count.getInt();
  auto loop = cache->getParentOfType<scf::ForOp>();
  return loop ? getConstantIntValue(loop.getUpperBound()).value_or(1) : 1;
}

// Offsets in the weight section. The same tensors in the same layout are stored once: a tied embedding and head.
class WeightPlan {
public:
  // `planned`: of the whole step, where this module is a part of one; may be null.
  WeightPlan(MLIRContext *context, ArrayAttr planned) : builder(context) {
    if (!planned)
      return;
    for (auto record : planned.getAsRange<DictionaryAttr>()) {
      int64_t offset = record.getAs<IntegerAttr>("offset").getInt(), size = record.getAs<IntegerAttr>("size").getInt();
      offsets[keyOf(record.getAs<ArrayAttr>("names"), record.getAs<IntegerAttr>("interleave").getInt(),
                    record.getAs<StringAttr>("layout").getValue())] = offset;
      end = std::max(end, int64_t(llvm::alignTo(offset + size, kSectionAlignment)));
      records.push_back(record);
    }
  }

  FailureOr<int64_t> offsetOf(LayerWeightOp weight, ArrayAttr names) {
    std::string layout = "dense:f32";
    int64_t sizeBytes = 0;
    SmallVector<int64_t> shape;
    if (auto packed = dyn_cast<PackedType>(weight.getResult().getType())) {
      layout = packed.getLayout().str();
      shape = {packed.getColumns(), packed.getDepth()};
      auto parsed = girih::weights::PackedLayout::parse(layout);
      if (!parsed.isOk())
        return weight.emitOpError("layout \"") << layout << "\": " << std::string(parsed.status().message());
      auto bytes = parsed->tensorBytes(packed.getColumns(), packed.getDepth());
      if (!bytes.isOk())
        return weight.emitOpError("size: ") << std::string(bytes.status().message());
      sizeBytes = *bytes;
    } else {
      auto tensor = cast<RankedTensorType>(weight.getResult().getType());
      shape = llvm::to_vector(tensor.getShape());
      sizeBytes = tensor.getNumElements() * 4;
    }
    auto [entry, isNew] = offsets.try_emplace(keyOf(names, weight.getInterleave(), layout), end);
    if (isNew) {
      record(weight, names, layout, shape, sizeBytes);
      end = llvm::alignTo(end + sizeBytes, kSectionAlignment);
    }
    return entry->second;
  }

  ArrayAttr plan() { return builder.getArrayAttr(records); }
  int64_t totalBytes() const { return end; }

private:
  using Key = std::tuple<const void *, int64_t, std::string>;
  static Key keyOf(ArrayAttr names, int64_t interleave, StringRef layout) {
    return {Attribute(names).getAsOpaquePointer(), interleave, layout.str()};
  }

  void record(LayerWeightOp weight, ArrayAttr names, StringRef layout, ArrayRef<int64_t> shape, int64_t sizeBytes) {
    records.push_back(builder.getDictionaryAttr({
        builder.getNamedAttr("names", names),
        builder.getNamedAttr("interleave", weight.getInterleaveAttr()),
        builder.getNamedAttr("storage", weight.getStorageAttr()),
        builder.getNamedAttr("layout", builder.getStringAttr(layout)),
        builder.getNamedAttr("shape", builder.getDenseI64ArrayAttr(shape)),
        builder.getNamedAttr("offset", builder.getI64IntegerAttr(end)),
        builder.getNamedAttr("size", builder.getI64IntegerAttr(sizeBytes)),
    }));
  }

  Builder builder;
  int64_t end = 0;
  std::map<Key, int64_t> offsets;
  SmallVector<Attribute> records;
};

class StepBinder {
public:
  StepBinder(ModuleOp module, WeightPlan &weights, ArrayRef<int64_t> cacheOffsets, int64_t blockBytes)
      : module(module), symbols(module), weights(weights), cacheOffsets(cacheOffsets), blockBytes(blockBytes) {}

  LogicalResult bind(func::FuncOp function) {
    if (failed(bindWeights(function)) || failed(bindSignature(function)))
      return failure();
    return bindCaches(function);
  }

private:
  LogicalResult bindWeights(func::FuncOp function) {
    SmallVector<LayerWeightOp> ops;
    function.walk([&](LayerWeightOp op) { ops.push_back(op); });
    for (LayerWeightOp weight : ops) {
      SmallVector<int64_t> offsets;
      for (Attribute names : weight.getNames()) {
        FailureOr<int64_t> offset = weights.offsetOf(weight, cast<ArrayAttr>(names));
        if (failed(offset))
          return failure();
        offsets.push_back(*offset);
      }
      OpBuilder b(weight);
      Value offset = offsetValue(b, weight.getLoc(), weight.getLayer(), offsets);
      weight.getResult().replaceAllUsesWith(addressOf(b, weight, offset));
      weight.erase();
    }
    return success();
  }

  // offsets[layer], from a constant or from a table in the code.
  Value offsetValue(OpBuilder &b, Location loc, Value layer, ArrayRef<int64_t> offsets) {
    if (llvm::all_equal(offsets))
      return arith::ConstantIndexOp::create(b, loc, offsets.front());
    auto type = MemRefType::get({int64_t(offsets.size())}, b.getI64Type());
    auto values = DenseIntElementsAttr::get(RankedTensorType::get(type.getShape(), b.getI64Type()), offsets);
    memref::GlobalOp table = tables[values];
    if (!table) {
      OpBuilder top = OpBuilder::atBlockBegin(module.getBody());
      table = memref::GlobalOp::create(top, loc, "offsets", top.getStringAttr("private"), type, values, true,
                                       IntegerAttr());
      symbols.insert(table);
      tables[values] = table;
    }
    Value base = memref::GetGlobalOp::create(b, loc, type, table.getSymName());
    Value offset = memref::LoadOp::create(b, loc, base, layer);
    return arith::IndexCastOp::create(b, loc, b.getIndexType(), offset);
  }

  Value addressOf(OpBuilder &b, LayerWeightOp weight, Value offset) {
    Type type = weight.getResult().getType();
    if (isa<PackedType>(type))
      return PackedAtOp::create(b, weight.getLoc(), type, offset);
    auto tensor = cast<RankedTensorType>(type);
    Value buffer = BufferAtOp::create(b, weight.getLoc(), MemRefType::get(tensor.getShape(), tensor.getElementType()),
                                      "weights", offset, Value());
    return bufferization::ToTensorOp::create(b, weight.getLoc(), type, buffer, /*restrict=*/true);
  }

  LogicalResult bindCaches(func::FuncOp function) {
    SmallVector<KvLayerOp> ops;
    function.walk([&](KvLayerOp op) { ops.push_back(op); });
    for (KvLayerOp cache : ops) {
      OpBuilder b(cache);
      Location loc = cache.getLoc();
      int64_t first = cacheOffsets[cache.getLayer()];
      Value offset = arith::ConstantIndexOp::create(b, loc, first);
      if (Value index = cache.getIndex()) {
        FailureOr<int64_t> step = distanceOfLayers(cache);
        if (failed(step))
          return failure();
        Value distance = arith::MulIOp::create(b, loc, index, arith::ConstantIndexOp::create(b, loc, *step));
        offset = arith::AddIOp::create(b, loc, offset, distance);
      }
      Value bound = KvAtOp::create(b, loc, cache.getResult().getType(), offset, blockBytes);
      cache.getResult().replaceAllUsesWith(bound);
      cache.erase();
    }
    return success();
  }

  // Bytes from one layer's cache to that of the next iteration. The code multiplies by it, so it must be one number:
  // layers of other sizes in between (alternating attention with caches of two types) would have to stand evenly too.
  FailureOr<int64_t> distanceOfLayers(KvLayerOp cache) {
    int64_t count = iterationsOf(cache);
    auto offsetOf = [&](int64_t index) { return cacheOffsets[cache.getLayer() + index * cache.getStride()]; };
    int64_t step = count > 1 ? offsetOf(1) - offsetOf(0) : 0;
    for (int64_t index = 1; index < count; ++index)
      if (offsetOf(index) - offsetOf(index - 1) != step)
        return cache.emitOpError("layers of a loop are not evenly spaced in a block: iteration ")
               << index << " is " << offsetOf(index) - offsetOf(index - 1) << " bytes after the one before, the first "
               << step;
    return step;
  }

  struct Place {
    StringRef space;
    int64_t offset;
    StringRef rows;  // a step_extent; empty: all extents are known
  };

  // Where a part of a step (girih-split-step) shares a value with others.
  static Place slotOf(DictionaryAttr attributes) {
    auto slot = attributes.getAs<IntegerAttr>("girih.slot");
    auto rows = attributes.getAs<StringAttr>("girih.rows");
    return {"arena", slot ? slot.getInt() : 0, rows ? rows.getValue() : ""};
  }

  Value extent(OpBuilder &b, Location loc, StringRef name) {
    return name.empty() ? Value() : StepExtentOp::create(b, loc, b.getIndexType(), name);
  }

  Value bufferFor(OpBuilder &b, Location loc, Type tensor, const Place &place, Value rows) {
    auto type = cast<RankedTensorType>(tensor);
    Value offset = arith::ConstantIndexOp::create(b, loc, place.offset);
    return BufferAtOp::create(b, loc, MemRefType::get(type.getShape(), type.getElementType()), place.space, offset, rows);
  }

  // (tokens, positions, logit_rows) -> logits becomes (args, thread, threads) -> (); so do the slots of a part of a step.
  LogicalResult bindSignature(func::FuncOp function) {
    bool isPart = function->hasAttr("girih.side");
    if (!isPart && (function.getNumArguments() != 3 || function.getNumResults() != 1))
      return function.emitOpError("is no step: it has ")
             << function.getNumArguments() << " arguments and " << function.getNumResults()
             << " results; a step has tokens, positions and logit rows, and logits";
    MLIRContext *context = function.getContext();
    Block &body = function.getBody().front();
    OpBuilder b = OpBuilder::atBlockBegin(&body);
    Location loc = function.getLoc();
    SmallVector<Place> inputs = {
        {"tokens", 0, "num_tokens"}, {"positions", 0, "num_tokens"}, {"logit_rows", 0, "num_logit_rows"}};
    for (unsigned index = 3; index < function.getNumArguments(); ++index)
      inputs.push_back(slotOf(function.getArgAttrDict(index)));
    for (auto [argument, input] : llvm::zip(body.getArguments(), inputs)) {
      Value rows = extent(b, loc, input.rows);
      Value buffer = bufferFor(b, loc, argument.getType(), input, rows);
      Value tensor = bufferization::ToTensorOp::create(b, loc, argument.getType(), buffer, /*restrict=*/true);
      // Extents are the step's own, not to be asked of a buffer.
      for (OpOperand &use : llvm::make_early_inc_range(argument.getUses()))
        if (auto dim = dyn_cast<tensor::DimOp>(use.getOwner()); rows && dim && getConstantIntValue(dim.getIndex()) == 0) {
          dim.replaceAllUsesWith(rows);
          dim.erase();
        }
      argument.replaceAllUsesWith(tensor);
    }
    auto returned = cast<func::ReturnOp>(body.getTerminator());
    b.setInsertionPoint(returned);
    for (auto [index, result] : llvm::enumerate(returned.getOperands())) {
      DictionaryAttr attributes = function.getResultAttrDict(unsigned(index));
      bool isSlot = attributes && attributes.contains("girih.slot");
      Place place = isSlot ? slotOf(attributes) : Place{"logits", 0, "num_logit_rows"};
      Value buffer = bufferFor(b, loc, result.getType(), place, extent(b, loc, place.rows));
      auto store = bufferization::MaterializeInDestinationOp::create(b, loc, result, buffer);
      store.setRestrict(true);
      store.setWritable(true);
    }
    returned->setOperands({});
    body.eraseArguments(0, body.getNumArguments());
    body.addArguments({LLVM::LLVMPointerType::get(context), b.getIndexType(), b.getIndexType()}, {loc, loc, loc});
    function->removeAttr(function.getArgAttrsAttrName());
    function->removeAttr(function.getResAttrsAttrName());
    function.setType(FunctionType::get(context, body.getArgumentTypes(), {}));
    function->setAttr("girih.entry", UnitAttr::get(context));
    return success();
  }

  ModuleOp module;
  SymbolTable symbols;
  WeightPlan &weights;
  ArrayRef<int64_t> cacheOffsets;
  int64_t blockBytes;
  DenseMap<Attribute, memref::GlobalOp> tables;
};

struct BindMemoryPass : girih::compiler::impl::BindMemoryBase<BindMemoryPass> {
  void runOnOperation() override {
    ModuleOp module = getOperation();
    SmallVector<int64_t> cacheOffsets;
    FailureOr<int64_t> blockBytes = layOutCache(module, cacheOffsets);
    if (failed(blockBytes))
      return signalPassFailure();
    WeightPlan weights(module.getContext(), module->getAttrOfType<ArrayAttr>("girih.weights"));
    StepBinder binder(module, weights, cacheOffsets, *blockBytes);
    for (auto function : module.getOps<func::FuncOp>())
      if (function->hasAttr("girih.max_tokens") && failed(binder.bind(function)))
        return signalPassFailure();
    Builder b(module.getContext());
    module->setAttr("girih.weights", weights.plan());
    module->setAttr("girih.weight_bytes", b.getI64IntegerAttr(weights.totalBytes()));
    if (module->hasAttr("girih.kv_block_bytes"))
      return;  // of a part of a step: planned for all of it
    module->setAttr("girih.kv_layers", b.getI64IntegerAttr(int64_t(cacheOffsets.size())));
    module->setAttr("girih.kv_block_bytes", b.getI64IntegerAttr(*blockBytes));
  }

  // Fills the offset of each cached layer in a KV block; returns the block's size in bytes.
  FailureOr<int64_t> layOutCache(ModuleOp module, SmallVectorImpl<int64_t> &offsets) {
    std::map<int64_t, KvType> layers;
    bool consistent = true;
    module.walk([&](KvLayerOp cache) {
      int64_t count = iterationsOf(cache);
      for (int64_t index = 0; index < count; ++index) {
        auto [entry, isNew] =
            layers.try_emplace(cache.getLayer() + index * cache.getStride(), cache.getResult().getType());
        consistent &= entry->second == cache.getResult().getType();
      }
    });
    int64_t end = 0;
    for (auto &[layer, kv] : layers) {
      consistent &= layer == int64_t(offsets.size());
      offsets.push_back(end);
      end += kv.blockBytes();
    }
    // A loader refuses a cache of no bytes; a graph whose tokens never meet has no use for one all the same.
    if (consistent)
      return end == 0 && !module->hasAttr("girih.recompute") ? kSectionAlignment : end;
    return module.emitError("cached layers are not numbered 0 to ")
           << int64_t(layers.size()) - 1 << " with one type each";
  }
};

}  // namespace
