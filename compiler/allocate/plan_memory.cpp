// SPDX-License-Identifier: Apache-2.0
// girih-plan-memory: replaces allocations by offsets into one arena.
//
// A shared buffer lives from its allocation to its last use, uses through views and loops included (one that a loop
// carries, through the whole loop); buffers are placed largest first at the lowest offset where no living neighbour is.
// What a dispatch "every" thread runs reads lives on through the next dispatch: no meeting parts the two. Its results,
// marked `girih.own`, stand at the beginning of each thread's scratch.
#include "compiler/allocate/passes.h"

#include "dialects/girih/dialect.h"

#include "mlir/Interfaces/LoopLikeInterface.h"
#include "mlir/Interfaces/ValueBoundsOpInterface.h"
#include "mlir/Interfaces/ViewLikeInterface.h"

namespace girih::compiler {
#define GEN_PASS_DEF_PLANMEMORY
#include "compiler/allocate/passes.h.inc"
}  // namespace girih::compiler

using namespace mlir;
using namespace girih::dialect;

namespace {

constexpr int64_t kAlignment = 64;  // bytes; the widest vector

struct Buffer {
  memref::AllocOp alloc;
  int64_t sizeBytes = 0;
  int64_t firstUse = 0, lastUse = 0;  // numbers of operations in walk order
  int64_t offset = 0;
};

class FunctionPlanner {
public:
  // The first `slotBytes` of the arena are spoken for.
  FunctionPlanner(func::FuncOp function, int64_t maxTokens, int64_t slotBytes)
      : function(function), maxTokens(maxTokens), slotBytes(slotBytes), arenaBytes(slotBytes) {}

  LogicalResult plan() {
    function.walk<WalkOrder::PreOrder>([&](Operation *op) { numbers[op] = int64_t(numbers.size()); });
    if (failed(collect()))
      return failure();
    placeShared();
    placeScratch();
    for (Buffer &buffer : shared)
      replace(buffer, "arena");
    for (Buffer &buffer : own)
      replace(buffer, "scratch");
    for (Buffer &buffer : local)
      replace(buffer, "scratch");
    function.walk([](memref::DeallocOp op) { op.erase(); });
    return success();
  }

  int64_t arenaSize() const { return arenaBytes; }
  int64_t scratchSize() const { return scratchBytes; }

private:
  LogicalResult collect() {
    WalkResult walked = function.walk([&](memref::AllocOp alloc) {
      Buffer buffer{alloc};
      FailureOr<int64_t> size = sizeBytes(alloc);
      if (failed(size))
        return WalkResult::interrupt();
      buffer.sizeBytes = llvm::alignTo(*size, kAlignment);
      if (alloc->hasAttr("girih.own")) {
        own.push_back(buffer);
        return WalkResult::advance();
      }
      if (alloc->getParentOfType<scf::ForallOp>()) {
        local.push_back(buffer);
        return WalkResult::advance();
      }
      if (failed(checkCarried(alloc)))
        return WalkResult::interrupt();
      findLife(buffer);
      shared.push_back(buffer);
      return WalkResult::advance();
    });
    return failure(walked.wasInterrupted());
  }

  // Bytes at the largest extents a step can have.
  FailureOr<int64_t> sizeBytes(memref::AllocOp alloc) {
    int64_t bytes = alloc.getType().getElementTypeBitWidth() / 8;
    unsigned dynamic = 0;
    for (int64_t extent : alloc.getType().getShape()) {
      if (ShapedType::isDynamic(extent))
        extent = bound(alloc.getDynamicSizes()[dynamic++]);
      if (extent < 0 || llvm::MulOverflow(bytes, extent, bytes))
        return alloc.emitOpError("size overflows");
    }
    return bytes;
  }

  int64_t bound(Value extent) {
    auto found = ValueBoundsConstraintSet::computeConstantBound(presburger::BoundType::UB,
                                                                ValueBoundsConstraintSet::Variable(extent), nullptr,
                                                                /*closedUB=*/true);
    return succeeded(found) ? std::min(*found, maxTokens) : maxTokens;
  }

  // From the first to the last operation that may touch the buffer. A buffer that a loop hands to its next iteration
  // lives as long as the whole loop: what stands earlier in the body runs again while the next iteration reads it.
  void findLife(Buffer &buffer) {
    Block *home = buffer.alloc->getBlock();
    buffer.firstUse = buffer.lastUse = numbers[buffer.alloc];
    SmallVector<Value> aliases{buffer.alloc.getResult()};
    llvm::SmallPtrSet<void *, 16> seen;
    while (!aliases.empty()) {
      Value alias = aliases.pop_back_val();
      if (!seen.insert(alias.getAsOpaquePointer()).second)
        continue;
      for (OpOperand &use : alias.getUses()) {
        Operation *user = use.getOwner();
        // A use beyond a loop around the allocation: of the loop's result.
        Block *level = home;
        while (!level->findAncestorOpInBlock(*user))
          level = outlive(buffer, level);
        buffer.lastUse = std::max(buffer.lastUse, endOf(nextMeeting(level->findAncestorOpInBlock(*user))));
        if (isa<scf::YieldOp>(user) && user->getBlock() == home && isa<scf::ForOp>(home->getParentOp()))
          outlive(buffer, home);
        addAliases(use, aliases);
      }
    }
  }

  // The operation itself, or the dispatch whose meeting is the first after it.
  static Operation *nextMeeting(Operation *op) {
    auto isRepeated = [](Operation *dispatch) {
      auto distribution = dispatch->getAttrOfType<StringAttr>("girih.distribution");
      return isa<scf::ForallOp>(dispatch) && distribution && distribution.getValue() == "every";
    };
    while (isRepeated(op) && op->getNextNode())
      do
        op = op->getNextNode();
      while (op->getNextNode() && !isa<scf::ForallOp>(op));
    return op;
  }

  // Makes the buffer live through the loop that `block` is the body of; returns the block around it.
  Block *outlive(Buffer &buffer, Block *block) {
    Operation *loop = block->getParentOp();
    buffer.firstUse = std::min(buffer.firstUse, numbers[loop]);
    buffer.lastUse = std::max(buffer.lastUse, endOf(loop));
    return loop->getBlock();
  }

  // A buffer of a body that becomes the next iteration's argument is written again at the same address: every read
  // of the argument must come before. In one and the same dispatch, a tile may read just the elements it writes.
  LogicalResult checkCarried(memref::AllocOp alloc) {
    Block *home = alloc->getBlock();
    auto loop = dyn_cast<scf::ForOp>(home->getParentOp());
    if (!loop)
      return success();
    for (OpOperand &yielded : home->getTerminator()->getOpOperands()) {
      if (yielded.get() != alloc.getResult())
        continue;
      SmallVector<Operation *> writes = usesOf(alloc, home);
      SmallVector<Operation *> reads = usesOf(loop.getRegionIterArg(yielded.getOperandNumber()), home);
      for (Operation *read : reads)
        for (Operation *write : writes) {
          Operation *readAt = home->findAncestorOpInBlock(*read), *writeAt = home->findAncestorOpInBlock(*write);
          if (readAt->isBeforeInBlock(writeAt) || (readAt == writeAt && isSameTile(read, write)))
            continue;
          return alloc.emitOpError("is written while the iteration before is still read from it; the loop needs two "
                                   "buffers in turn");
        }
    }
    return success();
  }

  // Operations of the body that touch a buffer, at home level or in a dispatch; views at home level are looked through.
  SmallVector<Operation *> usesOf(Value buffer, Block *home) {
    SmallVector<Operation *> found;
    SmallVector<Value> aliases{buffer};
    while (!aliases.empty())
      for (Operation *user : aliases.pop_back_val().getUsers()) {
        if (isa<ViewLikeOpInterface>(user) && user->getBlock() == home)
          llvm::append_range(aliases, user->getResults());
        else if (!isa<scf::YieldOp, memref::DimOp>(user))
          found.push_back(user);
      }
    return found;
  }

  static bool isSameTile(Operation *a, Operation *b) {
    auto left = dyn_cast<memref::SubViewOp>(a), right = dyn_cast<memref::SubViewOp>(b);
    return left && right && left.getMixedOffsets() == right.getMixedOffsets() &&
           left.getMixedSizes() == right.getMixedSizes() && left.getMixedStrides() == right.getMixedStrides();
  }

  int64_t endOf(Operation *op) {
    int64_t end = numbers[op];
    op->walk([&](Operation *nested) { end = std::max(end, numbers[nested]); });
    return end;
  }

  void addAliases(OpOperand &use, SmallVectorImpl<Value> &aliases) {
    Operation *user = use.getOwner();
    if (isa<ViewLikeOpInterface, arith::SelectOp>(user))
      llvm::append_range(aliases, user->getResults());
    if (auto loop = dyn_cast<scf::ForOp>(user))
      if (BlockArgument argument = loop.getTiedLoopRegionIterArg(&use)) {
        aliases.push_back(argument);
        aliases.push_back(loop.getTiedLoopResult(&use));
      }
    if (auto yield = dyn_cast<scf::YieldOp>(user))
      if (auto loop = dyn_cast<scf::ForOp>(yield->getParentOp())) {
        aliases.push_back(loop.getResult(use.getOperandNumber()));
        aliases.push_back(loop.getRegionIterArg(use.getOperandNumber()));
      }
  }

  void placeShared() {
    SmallVector<Buffer *> order;
    for (Buffer &buffer : shared)
      order.push_back(&buffer);
    llvm::stable_sort(order, [](Buffer *a, Buffer *b) { return a->sizeBytes > b->sizeBytes; });
    SmallVector<Buffer *> placed;
    for (Buffer *buffer : order) {
      buffer->offset = slotBytes;
      SmallVector<Buffer *> neighbours;
      for (Buffer *other : placed)
        if (buffer->firstUse <= other->lastUse && other->firstUse <= buffer->lastUse)
          neighbours.push_back(other);
      llvm::sort(neighbours, [](Buffer *a, Buffer *b) { return a->offset < b->offset; });
      for (Buffer *other : neighbours)
        if (buffer->offset + buffer->sizeBytes > other->offset)
          buffer->offset = std::max(buffer->offset, other->offset + other->sizeBytes);
      placed.push_back(buffer);
      arenaBytes = std::max(arenaBytes, buffer->offset + buffer->sizeBytes);
    }
  }

  // The counters of dynamic dispatches come first, then a thread's own results, each at a place of its own. A tile's buffers stand side by side; dispatches do not run at the same time, so each starts anew.
  void placeScratch() {
    int64_t numQueues = 0;
    function.walk([&](scf::ForallOp dispatch) {
      auto distribution = dispatch->getAttrOfType<StringAttr>("girih.distribution");
      if (distribution && distribution.getValue() == "dynamic")
        dispatch->setAttr("girih.queue", Builder(dispatch).getI64IntegerAttr(8 * numQueues++));
    });
    scratchBytes = llvm::alignTo(8 * numQueues, kAlignment);
    for (Buffer &buffer : own) {
      buffer.offset = scratchBytes;
      scratchBytes += buffer.sizeBytes;
    }
    DenseMap<Operation *, int64_t> ends;
    int64_t begin = scratchBytes;
    for (Buffer &buffer : local) {
      Operation *dispatch = buffer.alloc->getParentOfType<scf::ForallOp>();
      int64_t &end = ends.try_emplace(dispatch, begin).first->second;
      buffer.offset = end;
      end += buffer.sizeBytes;
      scratchBytes = std::max(scratchBytes, end);
    }
  }

  void replace(Buffer &buffer, StringRef space) {
    memref::AllocOp alloc = buffer.alloc;
    OpBuilder b(alloc);
    Location loc = alloc.getLoc();
    MemRefType type = alloc.getType();
    Value offset = arith::ConstantIndexOp::create(b, loc, buffer.offset);
    Value address;
    if (type.getNumDynamicDims() == 0 || (type.getNumDynamicDims() == 1 && type.isDynamicDim(0))) {
      Value rows = type.isDynamicDim(0) ? Value(alloc.getDynamicSizes()[0]) : Value();
      address = BufferAtOp::create(b, loc, type, space, offset, rows);
    } else {
      Value bytes = arith::ConstantIndexOp::create(b, loc, buffer.sizeBytes);
      auto raw = MemRefType::get({ShapedType::kDynamic}, b.getI8Type());
      Value memory = BufferAtOp::create(b, loc, raw, space, offset, bytes);
      Value zero = arith::ConstantIndexOp::create(b, loc, 0);
      address = memref::ViewOp::create(b, loc, type, memory, zero, alloc.getDynamicSizes());
    }
    alloc.replaceAllUsesWith(address);
    alloc.erase();
  }

  func::FuncOp function;
  int64_t maxTokens, slotBytes;
  int64_t arenaBytes, scratchBytes = 0;
  SmallVector<Buffer> shared, local, own;
  DenseMap<Operation *, int64_t> numbers;
};

struct PlanMemoryPass : girih::compiler::impl::PlanMemoryBase<PlanMemoryPass> {
  void runOnOperation() override {
    ModuleOp module = getOperation();
    auto slots = module->getAttrOfType<IntegerAttr>("girih.slot_bytes");
    int64_t slotBytes = slots ? llvm::alignTo(slots.getInt(), kAlignment) : 0, arena = slotBytes, scratch = 0;
    for (auto function : module.getOps<func::FuncOp>()) {
      auto maxTokens = function->getAttrOfType<IntegerAttr>("girih.max_tokens");
      if (!maxTokens)
        continue;
      FunctionPlanner planner(function, maxTokens.getInt(), slotBytes);
      if (failed(planner.plan()))
        return signalPassFailure();
      arena = std::max(arena, planner.arenaSize());
      scratch = std::max(scratch, planner.scratchSize());
    }
    Builder b(module.getContext());
    module->setAttr("girih.arena_bytes", b.getI64IntegerAttr(arena));
    module->setAttr("girih.scratch_bytes", b.getI64IntegerAttr(llvm::alignTo(scratch, kAlignment)));
  }
};

}  // namespace
