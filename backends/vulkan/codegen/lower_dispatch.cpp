// SPDX-License-Identifier: Apache-2.0
// Walks a dispatch's unit: indices, then one operation after the other, barriers where memory demands them.
#include "backends/vulkan/codegen/lower_dispatch.h"

#include "backends/vulkan/codegen/emit_spirv.h"

#include "mlir/Dialect/Affine/IR/AffineOps.h"
#include "mlir/Dialect/Utils/StaticValueUtils.h"
#include "llvm/ADT/SmallSet.h"

using namespace mlir;
using namespace girih::dialect;

namespace girih::vulkan {
namespace {

constexpr int64_t kMostInvocations = 128; // what every device has
constexpr int64_t kAttentionInvocations = 64;

int64_t boundOf(ShapedType type, int64_t maxTokens) {
  int64_t elements = 1;
  for (int64_t extent : type.getShape())
    elements *= ShapedType::isDynamic(extent) ? maxTokens : extent;
  return elements;
}

// Elements that the operation could compute side by side.
int64_t parallelWork(Operation *op, const EntryFacts &entry) {
  if (auto matmul = dyn_cast<QMatmulOp>(op)) {
    auto type = cast<ShapedType>(matmul.getInit().getType());
    InvocationTile tile = invocationTile(matmul, entry);
    return boundOf(type, entry.layout.maxTokens) / (tile.rows * tile.columns);
  }
  // Keys side by side, then values' elements. By texels an invocation has several of them: more where they are codes.
  if (isa<AttentionOp, AttentionPartsOp>(op)) {
    bool hasCodes = llvm::any_of(op->getOperandTypes(), [](Type type) { return isa<KvType>(type) && cast<KvType>(type).hasScales(); });
    return entry.traits.readsTexels ? kAttentionInvocations / kTexelWords / (hasCodes ? 2 : 1) : kAttentionInvocations;
  }
  int64_t most = 1;
  for (Value operand : op->getOperands())
    if (auto type = dyn_cast<ShapedType>(operand.getType()))
      most = std::max(most, boundOf(type, 1));
  return most;
}

int64_t invocationsFor(scf::ForallOp dispatch, const EntryFacts &entry) {
  int64_t most = 1;
  dispatch.walk([&](Operation *op) {
    if (isa<linalg::LinalgOp, QMatmulOp, GatherRowsOp, AttentionOp, AttentionPartsOp, JoinPartsOp,
            memref::CopyOp>(op))
      most = std::max(most, parallelWork(op, entry));
  });
  return std::clamp<int64_t>(int64_t(llvm::PowerOf2Ceil(uint64_t(most))), entry.lanes, kMostInvocations);
}

// What is read and written between two barriers.
class Hazards {
public:
  explicit Hazards(ShaderBuilder &k) : k(k) {}
  // Different parts of one buffer count as the same: which parts an invocation touches is not asked.
  void meet(ArrayRef<uint32_t> reads, ArrayRef<uint32_t> writes) {
    auto overlaps = [](const llvm::SmallSet<uint32_t, 4> &set, ArrayRef<uint32_t> memories) {
      return llvm::any_of(memories, [&](uint32_t memory) { return set.contains(memory); });
    };
    if (overlaps(written, reads) || overlaps(written, writes) || overlaps(read, writes)) {
      k.barrier();
      read.clear();
      written.clear();
    }
    read.insert(reads.begin(), reads.end());
    written.insert(writes.begin(), writes.end());
  }

private:
  ShaderBuilder &k;
  llvm::SmallSet<uint32_t, 4> read, written;
};

class DispatchLowering {
public:
  DispatchLowering(scf::ForallOp dispatch, const EntryFacts &entry)
      : dispatch(dispatch), entry(entry), k(dispatch.getContext(), invocationsFor(dispatch, entry)),
        values(k, entry), hazards(k) {}

  Expected<Kernel> run() {
    if (entry.traits.readsTexels)
      k.stepSource += kTexelBinding;
    values.noteWrites(dispatch);
    values.shareScratch(dispatch, entry.layout.maxTokens);
    if (dispatch.getRank() > 3)
      return unimplemented("a dispatch of " + std::to_string(dispatch.getRank()) +
                           " dimensions; workgroups have 3");
    if (auto count = unitsBeyondGroups(dispatch))
      k.loop(k.group(0), k.c(*count), k.c(kMaxGroups), [&](Value number) {
        lowerUnit({number});
        k.barrier(); // the next unit takes the same shared memory
      });
    else
      lowerUnit({k.group(0), k.group(1), k.group(2)});
    if (!values.error.empty())
      return unimplemented(values.error);
    Kernel kernel;
    auto name = dispatch->getAttrOfType<StringAttr>("girih.dispatch");
    kernel.name = name ? name.str() : "copy";
    kernel.invocations = k.invocations;
    kernel.inputs = std::move(values.inputs);
    kernel.sharedBytes = k.sharedBytes();
    if (kernel.sharedBytes > entry.sharedBytes)
      return unimplemented("dispatch \"" + kernel.name + "\" shares " + std::to_string(kernel.sharedBytes) +
                           " bytes in a workgroup; the machine has " + std::to_string(entry.sharedBytes) +
                           ": smaller tiles are needed");
    OwningOpRef<spirv::ModuleOp> module = k.take();
    auto spirv = emitSpirv(*module, k.invocations);
    if (!spirv.isOk())
      return std::move(spirv).status().withContext("dispatch \"" + kernel.name + "\"");
    kernel.spirv = std::move(*spirv);
    return kernel;
  }

private:
  // The body, for the unit whose number along each axis is given.
  void lowerUnit(ArrayRef<Value> numbers) {
    for (auto [axis, index] : llvm::enumerate(dispatch.getInductionVars()))
      values.set(index, k.add(values.scalar(dispatch.getMixedLowerBound()[axis]),
                              k.mul(numbers[axis], values.scalar(dispatch.getMixedStep()[axis]))));
    for (Operation &op : dispatch.getBody()->without_terminator())
      lower(&op);
  }

  void order(Operation *op) {
    SmallVector<uint32_t> reads, writes;
    auto memoryOf = [&](Value operand, SmallVectorImpl<uint32_t> &into) {
      if (isa<MemRefType>(operand.getType()))
        into.push_back(values.anyView(operand).memory);
    };
    if (auto append = dyn_cast<KvAppendOp>(op)) {
      memoryOf(append.getKey(), reads);
      memoryOf(append.getValue(), reads);
      writes.push_back(kKvBinding);
    } else if (auto copy = dyn_cast<memref::CopyOp>(op)) {
      memoryOf(copy.getSource(), reads);
      memoryOf(copy.getTarget(), writes);
    } else if (auto structured = dyn_cast<DestinationStyleOpInterface>(op)) {
      for (OpOperand &operand : op->getOpOperands())
        memoryOf(operand.get(), structured.isDpsInit(&operand) ? writes : reads);
      if (isa<AttentionOp, AttentionPartsOp>(op))
        reads.push_back(kKvBinding);
    }
    hazards.meet(reads, writes);
  }

  void lower(Operation *op) {
    if (isPure(op))
      return; // resolved where it is used
    if (!isa<linalg::GenericOp, memref::CopyOp, GatherRowsOp, QMatmulOp, KvAppendOp, AttentionOp,
             AttentionPartsOp, JoinPartsOp>(op))
      return values.fail("a dispatch has " + Twine(op->getName().getStringRef()) +
                         ", which has no shader yet");
    order(op);
    if (!values.error.empty())
      return;
    if (auto generic = dyn_cast<linalg::GenericOp>(op))
      lowerGeneric(k, values, generic);
    else if (auto copy = dyn_cast<memref::CopyOp>(op))
      lowerCopy(k, values, copy.getSource(), copy.getTarget());
    else if (auto gather = dyn_cast<GatherRowsOp>(op))
      lowerGatherRows(k, values, gather);
    else if (auto matmul = dyn_cast<QMatmulOp>(op))
      lowerQMatmul(k, values, matmul);
    else if (auto append = dyn_cast<KvAppendOp>(op))
      lowerKvAppend(k, values, append, entry.layout);
    else if (auto attention = dyn_cast<AttentionOp>(op))
      lowerAttention(k, values, attention, entry.layout);
    else if (auto parts = dyn_cast<AttentionPartsOp>(op))
      lowerAttentionParts(k, values, parts, entry.layout);
    else
      lowerJoinParts(k, values, cast<JoinPartsOp>(op), entry.layout);
  }

  scf::ForallOp dispatch;
  const EntryFacts &entry;
  ShaderBuilder k;
  KernelValues values;
  Hazards hazards;
};

} // namespace

std::optional<int64_t> unitsBeyondGroups(scf::ForallOp dispatch) {
  if (dispatch.getRank() != 1)
    return std::nullopt;
  auto begin = getConstantIntValue(dispatch.getMixedLowerBound()[0]), end = getConstantIntValue(dispatch.getMixedUpperBound()[0]),
       step = getConstantIntValue(dispatch.getMixedStep()[0]);
  if (!begin || !end || !step || *end <= *begin)
    return std::nullopt;
  int64_t count = llvm::divideCeil(*end - *begin, *step);
  return count > int64_t(kMaxGroups) ? std::optional(count) : std::nullopt;
}

Expected<Kernel> lowerDispatch(scf::ForallOp dispatch, const EntryFacts &entry) {
  return DispatchLowering(dispatch, entry).run();
}

// ---- Elements of views ----
Value placeOf(ShaderBuilder &k, const View &view, ValueRange position) {
  Value element = view.offset;
  for (auto [index, stride] : llvm::zip(position, view.strides))
    element = k.add(element, k.mul(index, stride));
  return element;
}

Value loadBits(ShaderBuilder &k, const View &view, ValueRange position) {
  Value element = placeOf(k, view, position);
  int64_t count = view.perWord();
  return count == 1 ? k.load(view.source, element) : k.loadPart(view.source, k.div(element, count), k.rem(element, count), count);
}

void storeBits(ShaderBuilder &k, const View &view, ValueRange position, Value bits) {
  Value element = placeOf(k, view, position);
  int64_t count = view.perWord();
  if (count == 1)
    return k.store(view.memory, element, bits);
  k.storePart(view.memory, k.div(element, count), k.rem(element, count), count, bits);
}

Value loadElement(ShaderBuilder &k, const View &view, ValueRange position) {
  if (view.array)
    return k.loadConstant(view.array, placeOf(k, view, position));
  Value bits = loadBits(k, view, position);
  if (view.element.isF32())
    return k.asFloat(bits);
  if (view.element.isF16())
    return k.halfOf(bits, k.c(0));
  if (view.element.isBF16())
    return k.asFloat(k.shiftLeft(bits, 16));
  return view.element.isInteger(8) ? k.ofByte(bits) : bits;
}

void storeElement(ShaderBuilder &k, const View &view, ValueRange position, Value value) {
  Value bits = view.element.isF16()    ? k.asHalves(value)
               : view.element.isBF16() ? k.shiftRight(k.asWord(value), 16)
               : view.element.isF32()  ? k.asWord(value)
                                       : value;
  storeBits(k, view, position, bits);
}

SmallVector<Value> positionOf(ShaderBuilder &k, Value index, ValueRange extents) {
  SmallVector<Value> position(extents.size());
  for (size_t axis = extents.size(); axis-- > 0;) {
    APInt known;
    bool isConstant = matchPattern(extents[axis], m_ConstantInt(&known));
    if (isConstant && known == 1) {
      position[axis] = k.c(0);
    } else if (axis == 0) {
      position[axis] = index;
    } else {
      position[axis] = isConstant ? k.rem(index, known.getSExtValue()) : k.rem(index, extents[axis]);
      index = isConstant ? k.div(index, known.getSExtValue()) : k.div(index, extents[axis]);
    }
  }
  return position;
}

Value product(ShaderBuilder &k, ValueRange extents) {
  Value total = k.c(1);
  for (Value extent : extents)
    total = k.mul(total, extent);
  return total;
}

} // namespace girih::vulkan
