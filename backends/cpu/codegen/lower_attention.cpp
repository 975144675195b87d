// SPDX-License-Identifier: Apache-2.0
// girih-cpu-lower-attention: attention over the paged cache, and storing into it.
#include "backends/cpu/codegen/math_functions.h"
#include "backends/cpu/codegen/lower_attention.h"
#include "backends/cpu/codegen/microkernels/attention_generator.h"
#include "backends/cpu/codegen/microkernels/dot_attention_generator.h"
#include "backends/cpu/codegen/microkernels/matrix_attention_generator.h"
#include "backends/cpu/codegen/microkernels/shared_kernels.h"
#include "backends/cpu/codegen/passes.h"
#include "backends/cpu/codegen/step_memory.h"
#include "dialects/girih/dialect.h"
#include "runtime/abi/step.h"

#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"

#include <cstddef>
#include <limits>

using namespace mlir;
using namespace girih::dialect;

namespace girih::cpu {

#define GEN_PASS_DEF_LOWERATTENTION
#include "backends/cpu/codegen/passes.h.inc"

namespace {

// Where select_strategy has not spoken.
constexpr int64_t kDefaultChunk = 128;

bool hasUnitInnerStride(Value memref) {
  SmallVector<int64_t> strides;
  int64_t offset = 0;
  auto type = dyn_cast<MemRefType>(memref.getType());
  return type && succeeded(type.getStridesAndOffset(strides, offset)) && strides.back() == 1;
}

// The distance of two KV blocks, from where the cache's value comes from.
FailureOr<int64_t> blockBytesOf(Operation *op, Value kv) {
  while (auto append = kv.getDefiningOp<KvAppendOp>())
    kv = append.getKv();
  if (auto at = kv.getDefiningOp<KvAtOp>())
    return static_cast<int64_t>(at.getBlockBytes());
  return op->emitOpError("cache does not come from girih.kv_at, so the distance of its blocks is not known");
}

// Query heads for each kv head. A tile's operands no longer say it: they are then those of one kv head, or the tiler
// has left the attribute.
int64_t headsPerGroupOf(AttentionOp op) {
  int64_t heads = cast<ShapedType>(op.getQ().getType()).getDimSize(1);
  if (auto given = op->getAttrOfType<IntegerAttr>("girih.heads_per_group"))
    return given.getInt();
  return op.getOffsets().empty() ? heads / op.getKv().getType().getHeads() : heads;
}

// ---- Without a cache: token t of the step is at position t. No kernel, only a meaning: two passes over the keys. ----
LogicalResult lowerStateless(AttentionOp op) {
  if (!isa_and_nonnull<MemRefType>(op.getInit().getType()))
    return op.emitOpError("is still on tensors; bufferize first");
  OpBuilder b(op);
  KernelBuilder k(b, op.getLoc());
  Value q = op.getQ(), key = op.getKey(), value = op.getValue(), out = op.getInit();
  // A tile is of one kv head, and of tokens from some on.
  bool isTile = !op.getOffsets().empty();
  Value firstToken = isTile ? Value(op.getOffsets()[0]) : k.index(0);
  Value firstGroup = isTile ? Value(op.getOffsets()[1]) : k.index(0);
  int64_t headsPerGroup = cast<ShapedType>(q.getType()).getDimSize(1);
  if (!isTile)
    headsPerGroup /= cast<ShapedType>(key.getType()).getDimSize(1);
  auto at = [&](Value memref, Value i, Value j, Value l) -> Value {
    return memref::LoadOp::create(b, op.getLoc(), memref, ValueRange{i, j, l});
  };
  Value zero = k.index(0), valueDim = k.extentOf(value, 2);
  k.loop(zero, k.extentOf(q, 0), 1, [&](Value token) {
    k.loop(zero, k.extentOf(q, 1), 1, [&](Value head) {
      Value group = k.add(firstGroup, k.div(head, headsPerGroup));
      Value end = k.add(k.add(firstToken, token), 1), first = zero;
      if (op.getWindow())
        first = k.maxOf(k.sub(end, k.index(static_cast<int64_t>(*op.getWindow()))), zero);
      auto score = [&](Value position) {
        Value sum = k.loop(zero, k.extentOf(q, 2), 1, k.constF32(0), [&](Value d, ValueRange carried) {
          Value next = k.fma(at(q, token, head, d), at(key, position, group, d), carried[0]);
          return SmallVector<Value>{next};
        })[0];
        sum = k.mulf(sum, k.constF32(op.getScale().convertToDouble()));
        if (!op.getSoftCap())
          return sum;
        Value cap = k.constF32(op.getSoftCap()->convertToDouble());
        return k.mulf(cap, emitTanh(k, arith::DivFOp::create(b, op.getLoc(), sum, cap)));
      };
      auto forValues = [&](llvm::function_ref<Value(Value, Value)> update) {
        k.loop(zero, valueDim, 1, [&](Value d) {
          Value next = update(d, at(out, token, head, d));
          memref::StoreOp::create(b, op.getLoc(), next, out, ValueRange{token, head, d});
        });
      };
      Value lowest = k.constF32(-std::numeric_limits<double>::infinity());
      Value maximum = k.loop(first, end, 1, lowest, [&](Value position, ValueRange carried) {
        return SmallVector<Value>{k.maxf(carried[0], score(position))};
      })[0];
      forValues([&](Value, Value) { return k.constF32(0); });
      Value total = k.loop(first, end, 1, k.constF32(0), [&](Value position, ValueRange carried) {
        Value weight = emitExp(k, k.subf(score(position), maximum), /*atMostOne=*/true);
        forValues([&](Value d, Value sum) { return k.fma(weight, at(value, position, group, d), sum); });
        return SmallVector<Value>{k.addf(carried[0], weight)};
      })[0];
      forValues([&](Value, Value sum) { return arith::DivFOp::create(b, op.getLoc(), sum, total).getResult(); });
    });
  });
  op.erase();
  return success();
}

AttentionShape attentionShapeOf(AttentionOp op) {
  AttentionShape shape = {op.getKv().getType(), headsPerGroupOf(op), 0,
                          static_cast<int64_t>(op.getChunk().value_or(kDefaultChunk)),
                          op.getScale().convertToDouble(), std::nullopt, std::nullopt};
  if (op.getWindow())
    shape.window = static_cast<int64_t>(*op.getWindow());
  if (op.getSoftCap())
    shape.softCap = op.getSoftCap()->convertToDouble();
  return shape;
}

class AttentionLowering {
public:
  AttentionLowering(AttentionOp op, const IsaTraits &isa, OpBuilder &b) : op(op), isa(isa), k(b, op.getLoc()) {}

  // Attention with a cache becomes a call of a kernel of `kernels`.

  LogicalResult lower(SharedKernels &kernels) {
    if (!op.getKv())
      return lowerStateless(op);
    if (!hasUnitInnerStride(op.getQ()) || !hasUnitInnerStride(op.getInit()))
      return op.emitOpError("q and out need buffers with an innermost stride of 1, have ")
             << op.getQ().getType() << " and " << op.getInit().getType();
    if (ShapedType::isDynamic(cast<ShapedType>(op.getQ().getType()).getDimSize(1)))
      return op.emitOpError("has a dynamic number of heads; a tile takes whole kv heads");
    FailureOr<int64_t> blockBytes = blockBytesOf(op, op.getKv());
    if (failed(blockBytes))
      return failure();
    describe(*blockBytes);
    if (failed(callKernel(kernels)))
      return failure();
    op.erase();
    return success();
  }

private:
  // Many tokens on a matrix unit, or by dots; a single one, wherever it stands, by multiply-adds in f32.
  LogicalResult chooseUnit() {
    if (!op.getOperandType())
      return success();
    bool isByDots = op.getOperandType()->isInteger(16) && isa.dots == ByteDots::Unsigned4;
    if (!isByDots && !(op.getOperandType()->isBF16() && isa.hasTiles))
      return op.emitOpError("operand_type ") << *op.getOperandType() << " needs a unit that " << isa.name << " lacks";
    int64_t needed = attentionScratch(op), available = scratchBytesOf(op);
    if (needed > available)
      return op.emitOpError("tile of ") << queryTile << " tokens needs " << needed << " bytes of scratch, the module has "
                                        << "girih.scratch_bytes = " << available << "; reduce query_tile";
    scratch = k.at(threadScratch(k, op), available - needed);
    return success();
  }

  void describe(int64_t blockBytes) {
    shape = attentionShapeOf(op);
    shape.blockBytes = blockBytes;
    queryTile = std::max<int64_t>(1, op.getQueryTile().value_or(1));
    while (!op.getOperandType() && queryTile > 1 && attentionFrameBytes(shape, queryTile) > kMaxFrameBytes)
      queryTile /= 2;
  }

  AttentionOperands operandsOf() {
    AttentionOperands operands;
    operands.q = k.addressOf(op.getQ());
    operands.out = k.addressOf(op.getInit());
    operands.qTokenStride = k.mul(k.strideOf(op.getQ(), 0), 4);
    operands.qHeadStride = k.mul(k.strideOf(op.getQ(), 1), 4);
    operands.outElement = getElementTypeOrSelf(op.getInit());
    int64_t outBytes = operands.outElement.getIntOrFloatBitWidth() / 8;
    operands.outTokenStride = k.mul(k.strideOf(op.getInit(), 0), outBytes);
    operands.outHeadStride = k.mul(k.strideOf(op.getInit(), 1), outBytes);
    operands.cache = pointerOf(k, op.getKv());
    operands.firstToken = op.getOffsets().empty() ? k.index(0) : Value(op.getOffsets()[0]);
    return operands;
  }

  LogicalResult callKernel(SharedKernels &kernels) {
    std::string kind;
    llvm::raw_string_ostream(kind) << op->getOperandTypes() << op->getAttrDictionary() << shape.blockBytes;
    AttentionOperands all = operandsOf();
    Value numTokens = k.extentOf(op.getQ(), 0);
    firstGroup = op.getOffsets().empty() ? k.index(0) : Value(op.getOffsets()[1]);
    Value *operands[] = {&all.q,     &all.out,        &all.qTokenStride, &all.qHeadStride, &all.outTokenStride, &all.outHeadStride,
                         &all.cache, &all.firstToken, &firstGroup,       &numTokens};
    return kernels.call(k, "attention", kind, operands, [&](KernelBuilder &) {
      if (failed(chooseUnit()))
        return failure();
      emit(all, numTokens);
      return success();
    });
  }

  void emit(const AttentionOperands &operands, Value numTokens) {
    AttentionGenerator single(k, isa, shape, operands, 1);
    Value one = k.index(1);
    if (queryTile == 1)
      return k.loop(k.index(0), numTokens, 1, [&](Value token) { attend(single, one, token); });
    auto alone = [&](Value token) { attend(single, one, token); };
    if (scratch && op.getOperandType()->isInteger()) {
      DotAttentionGenerator many(k, shape, operands, queryTile, scratch);
      return forTogether(operands, numTokens, [&](Value count, Value token) { attend(many, count, token); }, alone);
    }
    if (scratch) {
      MatrixAttentionGenerator many(k, shape, operands, queryTile, scratch);
      return forTogether(operands, numTokens, [&](Value count, Value token) {
        many.configure();
        attend(many, count, token);
        many.release();
      }, alone);
    }
    AttentionGenerator many(k, isa, shape, operands, queryTile);
    forTogether(operands, numTokens, [&](Value count, Value token) { attend(many, count, token); }, alone);
  }

  void attend(AttentionRows &generator, Value count, Value token) {
    int64_t numGroups = cast<ShapedType>(op.getQ().getType()).getDimSize(1) / shape.headsPerGroup;
    k.loop(k.index(0), k.index(numGroups), 1,
           [&](Value group) { generator.emit(count, token, group, k.add(firstGroup, group)); });
  }

  // As many tokens of one sequence as a tile takes go together; a single one has code of its own.
  void forTogether(const AttentionOperands &operands, Value numTokens, llvm::function_ref<void(Value, Value)> many,
                   llvm::function_ref<void(Value)> single) {
    auto loop = scf::WhileOp::create(k.b, k.loc, TypeRange(k.b.getIndexType()), ValueRange(k.index(0)));
    OpBuilder::InsertionGuard guard(k.b);
    Block *before = k.b.createBlock(&loop.getBefore(), {}, {k.b.getIndexType()}, {k.loc});
    Value isLeft = k.less(before->getArgument(0), numTokens);
    scf::ConditionOp::create(k.b, k.loc, isLeft, before->getArguments());
    Block *body = k.b.createBlock(&loop.getAfter(), {}, {k.b.getIndexType()}, {k.loc});
    Value token = body->getArgument(0);
    Value count = tokensTogether(token, numTokens, operands.firstToken);
    k.when(k.less(k.index(1), count), [&] { many(count, token); }, [&] { single(token); });
    scf::YieldOp::create(k.b, k.loc, ValueRange(k.add(token, count)));
  }

  // How many tokens from `token` on belong to its sequence, at most a tile of them; a sequence's tokens are neighbours.
  Value tokensTogether(Value token, Value numTokens, Value firstToken) {
    auto stepInt = [&](size_t field, Value number) {
      return k.toIndex(k.load(k.b.getI32Type(), k.at(k.stepPointer(field), k.mul(number, 4))));
    };
    Value first = k.add(firstToken, token);
    Value sequence = stepInt(offsetof(girih_step_args, token_sequences), first);
    Value end = stepInt(offsetof(girih_step_args, sequence_starts), k.add(sequence, 1));
    return k.minOf(k.minOf(k.sub(end, first), k.sub(numTokens, token)), k.index(queryTile));
  }

  AttentionOp op;
  const IsaTraits &isa;
  KernelBuilder k;
  AttentionShape shape;
  int64_t queryTile = 1;
  Value firstGroup;
  Value scratch;  // null: no matrix unit
};

// ---- Attention in parts ----
LogicalResult lowerParts(AttentionPartsOp op, const IsaTraits &isa) {
  if (!isa_and_nonnull<MemRefType>(op.getInit().getType()) || op.getOffsets().empty())
    return op.emitOpError("is no tile on buffers; bufferize and tile first");
  if (!hasUnitInnerStride(op.getQ()) || !hasUnitInnerStride(op.getInit()))
    return op.emitOpError("q and out need buffers with an innermost stride of 1, have ")
           << op.getQ().getType() << " and " << op.getInit().getType();
  FailureOr<int64_t> blockBytes = blockBytesOf(op, op.getKv());
  if (failed(blockBytes))
    return failure();
  OpBuilder b(op);
  KernelBuilder k(b, op.getLoc());
  AttentionShape shape = {op.getKv().getType(), cast<ShapedType>(op.getQ().getType()).getDimSize(1), *blockBytes,
                          static_cast<int64_t>(op.getChunk()), op.getScale().convertToDouble(), std::nullopt,
                          std::nullopt};
  if (op.getWindow())
    shape.window = static_cast<int64_t>(*op.getWindow());
  if (op.getSoftCap())
    shape.softCap = op.getSoftCap()->convertToDouble();
  AttentionOperands operands;
  operands.q = k.addressOf(op.getQ());
  operands.qTokenStride = k.mul(k.strideOf(op.getQ(), 0), 4);
  operands.qHeadStride = k.mul(k.strideOf(op.getQ(), 1), 4);
  operands.cache = pointerOf(k, op.getKv());
  operands.firstToken = op.getOffsets()[0];
  AttentionGenerator generator(k, isa, shape, operands, 1);
  // Dealt out in turn, the next chunk is another thread's.
  auto dispatch = op->getParentOfType<scf::ForallOp>();
  auto distribution = dispatch ? dispatch->getAttrOfType<StringAttr>("girih.distribution") : StringAttr();
  bool readsAhead = dispatch && (!distribution || distribution.getValue() != "cyclic");
  generator.emitPart(k.index(0), k.index(0), op.getOffsets()[1], op.getOffsets()[2], k.addressOf(op.getInit()),
                     k.mul(k.strideOf(op.getInit(), 1), 4), readsAhead);
  op.erase();
  return success();
}

LogicalResult lowerJoin(JoinPartsOp op) {
  if (!isa_and_nonnull<MemRefType>(op.getInit().getType()))
    return op.emitOpError("is still on tensors; bufferize first");
  if (cast<ShapedType>(op.getInit().getType()).isDynamicDim(1))
    return op.emitOpError("has a dynamic number of heads; a tile takes known ones");
  if (!hasUnitInnerStride(op.getParts()) || !hasUnitInnerStride(op.getInit()))
    return op.emitOpError("parts and out need buffers with an innermost stride of 1, have ")
           << op.getParts().getType() << " and " << op.getInit().getType();
  OpBuilder b(op);
  KernelBuilder k(b, op.getLoc());
  auto chunk = static_cast<int64_t>(op.getChunk());
  auto outType = cast<ShapedType>(op.getInit().getType());
  int64_t numHeads = outType.getDimSize(1), together = 1;
  for (int64_t rows : {2, 3, 4})
    if (numHeads % rows == 0)
      together = rows;
  std::optional<int64_t> window;
  if (op.getWindow())
    window = static_cast<int64_t>(*op.getWindow());
  Value parts = k.addressOf(op.getParts()), out = k.addressOf(op.getInit());
  Value positions = k.stepPointer(offsetof(girih_step_args, positions));
  auto rowOf = [&](Value base, Value memref, Value token, Value head) {
    return k.at(base, k.mul(k.add(k.mul(token, k.strideOf(memref, 0)), k.mul(head, k.strideOf(memref, 1))), 4));
  };
  k.loop(k.index(0), k.extentOf(op.getInit(), 0), 1, [&](Value token) {
    Value number = op.getTokenOffset() ? k.add(op.getTokenOffset(), token) : token;
    Value position = k.toIndex(k.load(b.getI32Type(), k.at(positions, k.mul(number, 4))));
    k.loop(k.index(0), k.index(numHeads), together, [&](Value head) {
      SmallVector<Value> sources, targets;
      for (int64_t row = 0; row < together; ++row) {
        sources.push_back(rowOf(parts, op.getParts(), token, k.add(head, row)));
        targets.push_back(rowOf(out, op.getInit(), token, k.add(head, row)));
      }
      emitJoinedParts(k, sources, k.mul(k.strideOf(op.getParts(), 2), 4), k.div(firstSeen(k, position, window), chunk),
                      k.add(k.div(position, chunk), 1), targets, outType.getDimSize(2));
    });
  });
  op.erase();
  return success();
}

// ---- kv_append ----
Value narrow(KernelBuilder &k, Value value, Type element) {
  if (element.isF32())
    return value;
  Type type = isa<VectorType>(value.getType()) ? Type(k.lanes(element)) : element;
  return arith::TruncFOp::create(k.b, k.loc, type, value);
}

// The scale that brings the largest of `extent` f32 values to 127, and its inverse; 0 for a row of zeros.
std::pair<Value, Value> scaleOf(KernelBuilder &k, Value source, int64_t extent) {
  Value largest = k.lanesOf(0);
  for (int64_t first = 0; first < extent; first += kLanes) {
    Value mask = extent - first >= kLanes ? Value() : k.maskOf(k.index(extent - first));
    Value address = k.at(source, first * 4);
    Value values = mask ? k.loadMasked(k.lanesF32(), address, mask) : k.load(k.lanesF32(), address);
    largest = k.maxf(math::AbsFOp::create(k.b, k.loc, values), largest);
  }
  Value most = k.reduceTree(largest, [&](Value x, Value y) { return k.maxf(x, y); });
  Value scale = k.mulf(most, k.constF32(1.0 / 127));
  Value isZero = arith::CmpFOp::create(k.b, k.loc, arith::CmpFPredicate::OEQ, scale, k.constF32(0));
  Value inverse = arith::DivFOp::create(k.b, k.loc, k.constF32(1), scale);
  return {scale, k.select(isZero, k.constF32(0), inverse)};
}

// To the nearest integer of 8 bits, halves to even: the low bits of a sum with 1.5 * 2^23 are that integer.
Value codesOf(KernelBuilder &k, Value values, Value inverse) {
  Value moved = k.fma(values, k.splat(inverse), k.lanesOf(12582912.0));
  Value bits = arith::BitcastOp::create(k.b, k.loc, k.lanes(k.b.getI32Type()), moved);
  return arith::TruncIOp::create(k.b, k.loc, k.lanes(k.b.getI8Type()), bits);
}

// Copies `extent` f32 values to places `stride` bytes apart, each rounded once.
void storeRow(KernelBuilder &k, Value source, Value target, int64_t extent, int64_t stride, Type element,
              Value scaleTarget) {
  int64_t bytes = element.getIntOrFloatBitWidth() / 8;
  Value inverse;
  if (scaleTarget) {
    auto [scale, inverted] = scaleOf(k, source, extent);
    k.store(scale, scaleTarget);
    inverse = inverted;
  }
  for (int64_t first = 0; first < extent; first += kLanes) {
    int64_t count = std::min(kLanes, extent - first);
    Value mask = count == kLanes ? Value() : k.maskOf(k.index(count));
    Value address = k.at(source, first * 4);
    Value loaded = mask ? k.loadMasked(k.lanesF32(), address, mask) : k.load(k.lanesF32(), address);
    Value values = inverse ? codesOf(k, loaded, inverse) : narrow(k, loaded, element);
    // LLVM 22 makes the masked store of one truncated lane one of all its 32 bits, over what follows.
    if (stride == bytes && !(count == 1 && inverse)) {
      mask ? k.storeMasked(values, k.at(target, first * bytes), mask) : k.store(values, k.at(target, first * bytes));
      continue;
    }
    for (int64_t lane = 0; lane < count; ++lane)
      k.store(vector::ExtractOp::create(k.b, k.loc, values, ArrayRef<int64_t>{lane}),
              k.at(target, (first + lane) * stride));
  }
}

// Column j of 16 rows becomes row j: at each step rows that are `distance` apart exchange the halves of each 2 * distance.
SmallVector<Value> transposed(KernelBuilder &k, SmallVector<Value> rows) {
  for (int64_t distance = kLanes / 2; distance > 0; distance /= 2)
    for (int64_t row = 0; row < kLanes; ++row) {
      if (row & distance)
        continue;
      SmallVector<int64_t> upper, lower;
      for (int64_t lane = 0; lane < kLanes; ++lane) {
        upper.push_back(lane & distance ? kLanes + lane - distance : lane);
        lower.push_back(lane & distance ? kLanes + lane : lane + distance);
      }
      Value x = rows[row], y = rows[row + distance];
      rows[row] = vector::ShuffleOp::create(k.b, k.loc, x, y, upper);
      rows[row + distance] = vector::ShuffleOp::create(k.b, k.loc, x, y, lower);
    }
  return rows;
}

// The keys of 16 tokens `stride` bytes apart that fill a block: a line of it holds one element of each.
void storeKeys(KernelBuilder &k, Value source, Value stride, Value target, int64_t extent, Type element) {
  int64_t bytes = element.getIntOrFloatBitWidth() / 8;
  for (int64_t first = 0; first < extent; first += kLanes) {
    int64_t count = std::min(kLanes, extent - first);
    SmallVector<Value> rows;
    for (int64_t token = 0; token < kLanes; ++token) {
      Value address = k.at(k.at(source, k.mul(stride, token)), first * 4);
      Value row = count == kLanes ? k.load(k.lanesF32(), address)
                                  : k.loadMasked(k.lanesF32(), address, k.maskOf(k.index(count)));
      rows.push_back(narrow(k, row, element));
    }
    rows = transposed(k, rows);
    for (int64_t line = 0; line < count; ++line)
      k.store(rows[line], k.at(target, (first + line) * kLanes * bytes));
  }
}

// Whether the tile's tokens fill one block from its first slot on.
Value fillsBlock(KernelBuilder &k, Value numTokens, Value slots) {
  Type bit = k.b.getI1Type();
  Value isMany = arith::CmpIOp::create(k.b, k.loc, arith::CmpIPredicate::eq, numTokens, k.index(kLanes));
  return k.when(isMany, k.integer(bit, 0), [&] {
    VectorType lanes = k.lanes(k.b.getI32Type());
    Value found = k.load(lanes, slots), first = k.load(k.b.getI32Type(), slots);
    Value wanted = arith::AddIOp::create(k.b, k.loc, k.splat(first), k.laneNumbers());
    Value others = LLVM::BitcastOp::create(
        k.b, k.loc, k.b.getI16Type(), arith::CmpIOp::create(k.b, k.loc, arith::CmpIPredicate::ne, found, wanted));
    Value isInOrder = arith::CmpIOp::create(k.b, k.loc, arith::CmpIPredicate::eq, others, k.integer(k.b.getI16Type(), 0));
    Value within = arith::AndIOp::create(k.b, k.loc, first, k.integer(k.b.getI32Type(), kLanes - 1));
    Value isAtStart = arith::CmpIOp::create(k.b, k.loc, arith::CmpIPredicate::eq, within, k.integer(k.b.getI32Type(), 0));
    return SmallVector<Value>{arith::AndIOp::create(k.b, k.loc, isInOrder, isAtStart)};
  })[0];
}

LogicalResult lowerAppend(KvAppendOp op) {
  if (!hasUnitInnerStride(op.getKey()) || !hasUnitInnerStride(op.getValue()))
    return op.emitOpError("key and value need buffers with an innermost stride of 1, have ")
           << op.getKey().getType() << " and " << op.getValue().getType();
  FailureOr<int64_t> blockBytes = blockBytesOf(op, op.getKv());
  if (failed(blockBytes))
    return failure();
  OpBuilder b(op);
  KernelBuilder k(b, op.getLoc());
  KvType kv = op.getKv().getType();
  int64_t bytes = kv.getElement().getIntOrFloatBitWidth() / 8;
  constexpr int64_t kPositions = GIRIH_KV_BLOCK_TOKENS;
  auto rowOf = [&](Value memref, Value token, Value group) {
    Value offset = k.add(k.mul(token, k.strideOf(memref, 0)), k.mul(group, k.strideOf(memref, 1)));
    return k.at(k.addressOf(memref), k.mul(offset, 4));
  };
  int64_t keyBytes = kv.getKeyDim() * kPositions * bytes, valueBytes = kv.getValueDim() * kPositions * bytes;
  Value numTokens = k.extentOf(op.getKey(), 0), slots = k.stepPointer(offsetof(girih_step_args, kv_slots));
  if (op.getTokenOffset())
    slots = k.at(slots, k.mul(op.getTokenOffset(), 4));
  auto slotOf = [&](Value token) { return k.toIndex(k.load(b.getI32Type(), k.at(slots, k.mul(token, 4)))); };
  auto blockOf = [&](Value slot) {
    return k.at(pointerOf(k, op.getKv()), k.mul(k.div(slot, kPositions), *blockBytes));
  };
  auto appendToken = [&](Value token) {
    Value slot = slotOf(token), block = blockOf(slot);
    Value position = k.rem(slot, k.index(kPositions));
    Value keys = k.at(block, k.mul(position, bytes));
    Value values = k.at(k.at(block, kv.getHeads() * keyBytes), k.mul(position, kv.getValueDim() * bytes));
    // Scales of a kind and kv head lie side by side, one for each position.
    auto scaleAt = [&](Value group, bool ofValues) -> Value {
      if (!kv.hasScales())
        return {};
      Value first = k.at(block, kv.scalesOffset() + (ofValues ? kv.getHeads() * kPositions * 4 : 0));
      return k.at(first, k.mul(k.add(k.mul(group, kPositions), position), 4));
    };
    k.loop(k.index(0), k.index(kv.getHeads()), 1, [&](Value group) {
      storeRow(k, rowOf(op.getKey(), token, group), k.at(keys, k.mul(group, keyBytes)), kv.getKeyDim(),
               kPositions * bytes, kv.getElement(), scaleAt(group, false));
      storeRow(k, rowOf(op.getValue(), token, group), k.at(values, k.mul(group, valueBytes)), kv.getValueDim(), bytes,
               kv.getElement(), scaleAt(group, true));
    });
  };
  auto appendBlock = [&] {
    Value block = blockOf(slotOf(k.index(0))), stride = k.mul(k.strideOf(op.getKey(), 0), 4);
    k.loop(k.index(0), k.index(kv.getHeads()), 1, [&](Value group) {
      storeKeys(k, rowOf(op.getKey(), k.index(0), group), stride, k.at(block, k.mul(group, keyBytes)), kv.getKeyDim(),
                kv.getElement());
      Value values = k.at(k.at(block, kv.getHeads() * keyBytes), k.mul(group, valueBytes));
      k.loop(k.index(0), k.index(kPositions), 1, [&](Value token) {
        storeRow(k, rowOf(op.getValue(), token, group), k.at(values, k.mul(token, valueBytes / kPositions)),
                 kv.getValueDim(), bytes, kv.getElement(), Value());
      });
    });
  };
  auto appendTokens = [&] { k.loop(k.index(0), numTokens, 1, appendToken); };
  std::optional<int64_t> known = getConstantIntValue(numTokens);
  if (kv.hasScales() || (known && *known != kPositions))
    appendTokens();
  else
    k.when(fillsBlock(k, numTokens, slots), appendBlock, appendTokens);
  op.replaceAllUsesWith(op.getKv());
  op.erase();
  return success();
}

struct LowerAttention : impl::LowerAttentionBase<LowerAttention> {
  using LowerAttentionBase::LowerAttentionBase;

  void runOnOperation() override {
    const IsaTraits *traits = findIsa(isa);
    if (!traits) {
      getOperation().emitError("isa \"") << isa << "\" is not known; " << isaNames() << " are";
      return signalPassFailure();
    }
    SmallVector<AttentionOp> attentions;
    SmallVector<KvAppendOp> appends;
    getOperation().walk([&](AttentionOp op) { attentions.push_back(op); });
    getOperation().walk([&](KvAppendOp op) { appends.push_back(op); });
    SharedKernels kernels;
    for (AttentionOp op : attentions) {
      OpBuilder b(op);
      if (failed(AttentionLowering(op, *traits, b).lower(kernels)))
        return signalPassFailure();
    }
    SmallVector<Operation *> parts;
    getOperation().walk([&](Operation *op) {
      if (llvm::isa<AttentionPartsOp, JoinPartsOp>(op))
        parts.push_back(op);
    });
    for (Operation *op : parts) {
      auto join = dyn_cast<JoinPartsOp>(op);
      if (failed(join ? lowerJoin(join) : lowerParts(cast<AttentionPartsOp>(op), *traits)))
        return signalPassFailure();
    }
    for (KvAppendOp op : appends)
      if (failed(lowerAppend(op)))
        return signalPassFailure();
  }
};

}  // namespace

int64_t attentionScratch(AttentionOp op) {
  if (!op.getKv() || !op.getOperandType())
    return 0;
  auto queryTile = static_cast<int64_t>(op.getQueryTile().value_or(1));
  return op.getOperandType()->isInteger() ? DotAttentionGenerator::scratchBytes(attentionShapeOf(op), queryTile)
                                          : MatrixAttentionGenerator::scratchBytes(attentionShapeOf(op), queryTile);
}

}  // namespace girih::cpu
