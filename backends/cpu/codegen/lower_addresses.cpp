// SPDX-License-Identifier: Apache-2.0
// girih-cpu-lower-addresses: names of the step's memory become loads of girih_step_args and pointer arithmetic.
#include "backends/cpu/codegen/passes.h"
#include "backends/cpu/codegen/step_memory.h"
#include "dialects/girih/dialect.h"
#include "runtime/abi/step.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"
#include "mlir/IR/Matchers.h"

#include <cstddef>

using namespace mlir;
using namespace girih::dialect;

namespace girih::cpu {

#define GEN_PASS_DEF_LOWERADDRESSES
#include "backends/cpu/codegen/passes.h.inc"

static int64_t moduleBytes(Operation *op, StringRef name) {
  auto module = op->getParentOfType<ModuleOp>();
  auto bytes = module ? module->getAttrOfType<IntegerAttr>(name) : IntegerAttr();
  return bytes ? bytes.getInt() : 0;
}

int64_t scratchBytesOf(Operation *op) { return moduleBytes(op, "girih.scratch_bytes"); }

Value threadScratch(KernelBuilder &k, Operation *op) { return scratchOf(k, op, k.threadIndex()); }

Value scratchOf(KernelBuilder &k, Operation *op, Value thread) {
  Value mine = k.mul(thread, scratchBytesOf(op));
  return k.at(k.stepPointer(offsetof(girih_step_args, arena)), k.add(mine, moduleBytes(op, "girih.arena_bytes")));
}

Value pointerOf(KernelBuilder &k, Value opaque) {
  return UnrealizedConversionCastOp::create(k.b, k.loc, k.pointerType(), opaque).getResult(0);
}

namespace {

struct Space {
  StringLiteral name;
  size_t fieldOffset;
};

constexpr Space kSpaces[] = {
    {"weights", offsetof(girih_step_args, weights)},
    {"kv_pool", offsetof(girih_step_args, kv_pool)},
    {"arena", offsetof(girih_step_args, arena)},
    {"logits", offsetof(girih_step_args, logits)},
    {"tokens", offsetof(girih_step_args, tokens)},
    {"positions", offsetof(girih_step_args, positions)},
    {"logit_rows", offsetof(girih_step_args, logit_rows)},
};

// A memref of `type` that starts at `pointer`, as the LLVM conversion lays its descriptor out.
Value memrefAt(KernelBuilder &k, MemRefType type, Value pointer, Value rows) {
  auto i64 = k.b.getI64Type();
  auto extents = LLVM::LLVMArrayType::get(i64, type.getRank());
  auto structType = LLVM::LLVMStructType::getLiteral(k.b.getContext(),
                                                     {k.pointerType(), k.pointerType(), i64, extents, extents});
  SmallVector<int64_t> strides;
  int64_t offset = 0;
  (void)type.getStridesAndOffset(strides, offset);
  Value descriptor = LLVM::PoisonOp::create(k.b, k.loc, structType);
  auto insert = [&](Value value, ArrayRef<int64_t> position) {
    descriptor = LLVM::InsertValueOp::create(k.b, k.loc, descriptor, value, position);
  };
  insert(pointer, {0});
  insert(pointer, {1});
  insert(k.integer(i64, 0), {2});
  for (int64_t dimension = 0; dimension < type.getRank(); ++dimension) {
    bool isDynamic = type.isDynamicDim(dimension);
    insert(isDynamic ? k.toInteger(rows, i64) : k.integer(i64, type.getDimSize(dimension)), {3, dimension});
    insert(k.integer(i64, strides[dimension]), {4, dimension});
  }
  return UnrealizedConversionCastOp::create(k.b, k.loc, type, descriptor).getResult(0);
}

LogicalResult lowerBuffer(BufferAtOp op) {
  OpBuilder b(op);
  KernelBuilder k(b, op.getLoc());
  auto type = cast<MemRefType>(op.getType());
  SmallVector<int64_t> strides;
  int64_t offset = 0;
  if (failed(type.getStridesAndOffset(strides, offset)) || offset != 0 || llvm::any_of(strides, ShapedType::isDynamic))
    return op.emitOpError("has type ") << type << "; a buffer of the step has static strides and offset 0";
  for (int64_t dimension = 0; dimension < type.getRank(); ++dimension)
    if (type.isDynamicDim(dimension) && (dimension != 0 || !op.getRows()))
      return op.emitOpError("has type ") << type << "; only extent 0 may be dynamic, and then `rows` gives it";
  Value base;
  if (op.getSpace() == "scratch") {
    base = threadScratch(k, op);
  } else {
    const Space *space = llvm::find_if(kSpaces, [&](const Space &row) { return row.name == op.getSpace(); });
    if (space == std::end(kSpaces))
      return op.emitOpError("space \"") << op.getSpace() << "\" is not a buffer of the step";
    base = k.stepPointer(space->fieldOffset);
  }
  op.replaceAllUsesWith(memrefAt(k, type, k.at(base, op.getOffsetBytes()), op.getRows()));
  op.erase();
  return success();
}

Value longestContext(KernelBuilder &k) {
  Value lengths = k.stepPointer(offsetof(girih_step_args, context_lengths));
  Value count = k.stepInteger(offsetof(girih_step_args, num_sequences));
  return k.loop(k.index(0), count, 1, k.index(0), [&](Value sequence, ValueRange longest) {
    Value length = k.toIndex(k.load(k.b.getI32Type(), k.at(lengths, k.mul(sequence, 4))));
    return SmallVector<Value>{k.maxOf(longest[0], length)};
  })[0];
}

LogicalResult lowerExtent(StepExtentOp op) {
  OpBuilder b(op);
  KernelBuilder k(b, op.getLoc());
  size_t field = 0;
  if (op.getName() == "longest_context") {
    op.replaceAllUsesWith(longestContext(k));
    op.erase();
    return success();
  }
  if (op.getName() == "num_tokens")
    field = offsetof(girih_step_args, num_tokens);
  else if (op.getName() == "num_logit_rows")
    field = offsetof(girih_step_args, num_logit_rows);
  else if (op.getName() == "iteration")
    field = offsetof(girih_step_args, iteration);
  else
    return op.emitOpError("\"") << op.getName() << "\" is not an extent of the step; known: num_tokens, num_logit_rows, longest_context, iteration";
  op.replaceAllUsesWith(k.stepInteger(field));
  op.erase();
  return success();
}

// The opaque value becomes a pointer behind a cast, which folds with the casts of its users.
void lowerOpaque(Operation *op, Value offset, size_t fieldOffset) {
  OpBuilder b(op);
  KernelBuilder k(b, op->getLoc());
  Value pointer = k.at(k.stepPointer(fieldOffset), offset);
  op->replaceAllUsesWith(UnrealizedConversionCastOp::create(b, op->getLoc(), op->getResultTypes(), pointer));
  op->erase();
}

struct LowerAddresses : impl::LowerAddressesBase<LowerAddresses> {
  void runOnOperation() override {
    SmallVector<Operation *> ops;
    getOperation().walk([&](Operation *op) {
      if (isa<BufferAtOp, StepExtentOp, PackedAtOp, KvAtOp>(op))
        ops.push_back(op);
    });
    for (Operation *op : ops) {
      LogicalResult result = success();
      if (auto buffer = dyn_cast<BufferAtOp>(op))
        result = lowerBuffer(buffer);
      else if (auto extent = dyn_cast<StepExtentOp>(op))
        result = lowerExtent(extent);
      else if (auto packed = dyn_cast<PackedAtOp>(op))
        lowerOpaque(op, packed.getOffsetBytes(), offsetof(girih_step_args, weights));
      else if (auto kv = dyn_cast<KvAtOp>(op))
        lowerOpaque(op, kv.getOffsetBytes(), offsetof(girih_step_args, kv_pool));
      if (failed(result))
        return signalPassFailure();
    }
  }
};

}  // namespace

}  // namespace girih::cpu
