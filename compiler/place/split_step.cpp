// SPDX-License-Identifier: Apache-2.0
// girih-split-step: cuts a step into parts that two backends run by turns.
//
// Operations keep their order, so parts are the runs of one side. What a part reads of others it gets by slots: a value's
// slot is at the same offset of both arenas, so that a copy is a range of bytes, and it stays a value's own, so that a part
// planned by itself needs to know nothing of what others keep. A loop that is cut carries through one slot more: the next
// value is made in its own, and moved when nobody reads the one before.
#include "compiler/place/passes.h"

#include "dialects/girih/dialect.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Utils/StaticValueUtils.h"
#include "mlir/IR/IRMapping.h"
#include "mlir/Transforms/RegionUtils.h"
#include "llvm/ADT/MapVector.h"

namespace girih::compiler {
#define GEN_PASS_DEF_SPLITSTEP
#include "compiler/place/passes.h.inc"
}  // namespace girih::compiler

using namespace mlir;
using namespace girih::dialect;

namespace {

constexpr int64_t kSlotAlignment = 64;  // bytes: a cache line, and the widest vector load
constexpr StringRef kDeclined = "girih.declined";

enum Side { Own, Rest };
StringRef nameOf(Side side) { return side == Own ? "own" : "rest"; }

// What a slot's first extent is.
StringRef rowsName(unsigned argument) { return argument == 2 ? "num_logit_rows" : "num_tokens"; }

// Repeated in every part that reads it: it costs nothing, or, as the fill of a sum, less than a place of its own.
bool isFree(Operation &op) {
  return isa<arith::ConstantOp, tensor::EmptyOp, tensor::DimOp, tensor::ExtractSliceOp, tensor::ExpandShapeOp,
             tensor::CollapseShapeOp, linalg::FillOp, LayerWeightOp, KvLayerOp>(op) ||
         (op.getNumResults() > 0 && llvm::all_of(op.getResultTypes(), [](Type type) { return type.isIndex(); }));
}

bool holdsDeclined(Operation &op) {
  return op.walk([](Operation *inner) { return inner->hasAttr(kDeclined) ? WalkResult::interrupt() : WalkResult::advance(); })
      .wasInterrupted();
}

struct Part {
  Side side;
  scf::ForOp loop;  // that is cut and holds it; null: none
  SmallVector<Operation *> ops;
  SetVector<Value> reads, gives;  // slots
};

struct Slot {
  int64_t offset = 0, rowBytes = 0;
  StringRef rows;  // empty: one row, whose extents are known
};

class StepSplitter {
public:
  explicit StepSplitter(func::FuncOp step) : step(step), b(step.getContext()) {}

  // Replaces the step by its parts; its schedule is `schedule()`.
  LogicalResult split() {
    Block &body = step.getBody().front();
    if (step.getNumArguments() != 3 || step.getNumResults() != 1)
      return step.emitOpError("is no step: it has ") << step.getNumArguments() << " arguments and " << step.getNumResults()
                                                     << " results; tokens, positions and logit rows give logits";
    if (failed(collect(body, nullptr)) || failed(findCrossings()) || failed(placeSlots()))
      return failure();
    b.setInsertionPoint(step);
    for (size_t index = 0; index < parts.size(); ++index)
      build(parts[index], index);
    planCopies();
    step.erase();
    return success();
  }

  ArrayAttr schedule() { return b.getArrayAttr(records); }
  int64_t slotBytes() const { return endOfSlots; }

private:
  // Parts in running order.
  LogicalResult collect(Block &block, scf::ForOp loop) {
    bool isClosed = true;
    for (Operation &op : block.without_terminator()) {
      if (isFree(op))
        continue;
      auto inner = dyn_cast<scf::ForOp>(op);
      if (inner && holdsDeclined(op)) {
        if (loop || getConstantIntValue(inner.getLowerBound()) != 0 || getConstantIntValue(inner.getStep()) != 1 ||
            getConstantIntValue(inner.getUpperBound()).value_or(0) < 1)
          return inner.emitOpError("holds a declined operation; a loop that is cut counts from 0 by 1, and is in no other loop");
        if (failed(collect(*inner.getBody(), inner)))
          return failure();
        isClosed = true;
        continue;
      }
      Side side = op.hasAttr(kDeclined) ? Rest : Own;
      if (isClosed || parts.back().side != side)
        parts.push_back({side, loop, {}, {}, {}});
      isClosed = false;
      parts.back().ops.push_back(&op);
      home[&op] = parts.size() - 1;
    }
    return success();
  }

  // ---- what crosses ----

  // A loop's result lies where its body's argument does.
  static Value placeOf(Value value) {
    auto loop = value.getDefiningOp<scf::ForOp>();
    bool isCut = loop && holdsDeclined(*loop);
    return isCut ? Value(loop.getRegionIterArg(cast<OpResult>(value).getResultNumber())) : value;
  }

  bool isCarried(Value value) const {
    auto argument = dyn_cast<BlockArgument>(value);
    return argument && isa<scf::ForOp>(argument.getOwner()->getParentOp());
  }

  static SetVector<Value> usedFromOutside(Operation *op) {
    SetVector<Value> used;
    used.insert(op->operand_begin(), op->operand_end());
    getUsedValuesDefinedAbove(op->getRegions(), used);
    return used;
  }

  LogicalResult findCrossings() {
    for (Part &part : parts)
      for (Operation *op : part.ops)
        for (Value value : usedFromOutside(op))
          if (failed(read(part, value)))
            return failure();
    Value logits = cast<func::ReturnOp>(step.getBody().front().getTerminator()).getOperand(0);
    while (logits.getDefiningOp() && isFree(*logits.getDefiningOp()) && logits.getDefiningOp()->getNumOperands() > 0)
      logits = logits.getDefiningOp()->getOperand(0);
    auto made = home.find(logits.getDefiningOp());
    if (made == home.end())
      return step.emitOpError("gives what a loop carries as it is; a step whose backend takes a part ends with an operation");
    lastPart = made->second;
    for (scf::ForOp loop : cutLoops())
      for (Value value : llvm::concat<Value>(llvm::to_vector(loop.getInitArgs()), llvm::to_vector(loop.getYieldedValues())))
        if (isCarried(placeOf(value)))
          slots[placeOf(value)];
        else if (failed(give(value, loop)))
          return failure();
    return success();
  }

  SetVector<scf::ForOp> cutLoops() const {
    SetVector<scf::ForOp> loops;
    for (const Part &part : parts)
      if (part.loop)
        loops.insert(part.loop);
    return loops;
  }

  LogicalResult read(Part &part, Value value) {
    Operation *made = value.getDefiningOp();
    auto argument = dyn_cast<BlockArgument>(value);
    if (made && isFree(*made)) {
      if (isa<tensor::DimOp>(made))
        return success();  // an extent of the step
      for (Value operand : made->getOperands())
        if (failed(read(part, operand)))
          return failure();
      return success();
    }
    bool isOfStep = argument && argument.getOwner() == &step.getBody().front();
    bool isHere = made && home.count(made) && &parts[home[made]] == &part;
    if (isOfStep || isHere || value.getType().isIndex() || isa<KvType>(value.getType()))
      return success();
    if (!isa<RankedTensorType>(value.getType()))
      return emitError(value.getLoc(), "a part of a step reads ") << value.getType() << " of another; tensors cross alone";
    part.reads.insert(placeOf(value));
    slots[placeOf(value)];
    return isCarried(placeOf(value)) ? success() : give(value, made);
  }

  LogicalResult give(Value value, Operation *reader) {
    Operation *made = value.getDefiningOp();
    if (!made || !home.count(made))
      return reader->emitOpError("reads a value that no operation of the step makes; one of the step's parts must");
    parts[home[made]].gives.insert(value);
    slots[value];
    return success();
  }

  // ---- slots ----

  // The step's argument whose extent the value's first one is.
  std::optional<unsigned> rowsOf(Value value) {
    if (auto argument = dyn_cast<BlockArgument>(value)) {
      if (argument.getOwner() == &step.getBody().front())
        return argument.getArgNumber();
      auto loop = dyn_cast<scf::ForOp>(argument.getOwner()->getParentOp());
      return loop && argument.getArgNumber() > 0 ? rowsOf(loop.getInitArgs()[argument.getArgNumber() - 1]) : std::nullopt;
    }
    Operation *made = value.getDefiningOp();
    unsigned number = cast<OpResult>(value).getResultNumber();
    if (auto loop = dyn_cast<scf::ForOp>(made))
      return rowsOf(loop.getInitArgs()[number]);
    if (auto empty = dyn_cast<tensor::EmptyOp>(made))
      return empty.getDynamicSizes().empty() ? std::nullopt : rowsOf(empty.getDynamicSizes()[0]);
    if (auto slice = dyn_cast<tensor::ExtractSliceOp>(made))
      return slice.getSizes().empty() ? std::nullopt : rowsOf(slice.getSizes()[0]);
    if (auto written = dyn_cast<DestinationStyleOpInterface>(made))
      return rowsOf(written.getDpsInitOperand(number)->get());
    if (auto inserted = dyn_cast<tensor::InsertSliceOp>(made))
      return rowsOf(inserted.getDest());
    if (isa<tensor::DimOp, tensor::ExpandShapeOp, tensor::CollapseShapeOp>(made))
      return rowsOf(made->getOperand(0));
    return std::nullopt;
  }

  LogicalResult placeSlots() {
    int64_t maxTokens = step->getAttrOfType<IntegerAttr>("girih.max_tokens").getInt();
    for (auto &[value, slot] : slots) {
      auto type = cast<RankedTensorType>(value.getType());
      bool hasRows = type.getRank() > 0 && type.isDynamicDim(0);
      ArrayRef<int64_t> extents = type.getShape().drop_front(hasRows ? 1 : 0);
      std::optional<unsigned> argument = hasRows ? rowsOf(value) : 0;
      if (ShapedType::isDynamicShape(extents) || !argument)
        return emitError(value.getLoc(), "a part of a step reads ")
               << type << " of another; what crosses has the rows of the step's tokens or logits, and no other extent that "
                          "is not known";
      slot.rowBytes = llvm::divideCeil(type.getElementTypeBitWidth(), 8);
      for (int64_t extent : extents)
        slot.rowBytes *= extent;
      slot.rows = hasRows ? rowsName(*argument) : "";
      slot.offset = endOfSlots;
      endOfSlots = llvm::alignTo(endOfSlots + slot.rowBytes * (hasRows ? maxTokens : 1), kSlotAlignment);
    }
    return success();
  }

  DictionaryAttr slotAttributes(Value value) {
    const Slot &slot = slots.find(value)->second;
    return b.getDictionaryAttr({b.getNamedAttr("girih.slot", b.getI64IntegerAttr(slot.offset)),
                                b.getNamedAttr("girih.rows", b.getStringAttr(slot.rows))});
  }

  // ---- parts ----

  void build(Part &part, size_t index) {
    SmallVector<Type> inputs(step.getArgumentTypes()), outputs;
    SmallVector<Attribute> inputAttributes(inputs.size(), b.getDictionaryAttr({})), outputAttributes;
    for (Value value : part.reads) {
      inputs.push_back(value.getType());
      inputAttributes.push_back(slotAttributes(value));
    }
    bool isLast = index == lastPart;
    if (isLast) {
      outputs.push_back(step.getResultTypes().front());
      outputAttributes.push_back(b.getDictionaryAttr({}));
    }
    for (Value value : part.gives) {
      outputs.push_back(value.getType());
      outputAttributes.push_back(slotAttributes(value));
    }
    auto function = func::FuncOp::create(b, step.getLoc(), symbolOf(index), b.getFunctionType(inputs, outputs));
    for (StringRef name : {"girih.max_tokens", "girih.gives"})
      if (Attribute value = step->getAttr(name))
        function->setAttr(name, value);
    function->setAttr("girih.side", b.getStringAttr(nameOf(part.side)));
    function.setAllArgAttrs(inputAttributes);
    function.setAllResultAttrs(outputAttributes);
    OpBuilder::InsertionGuard guard(b);
    b.setInsertionPointToStart(function.addEntryBlock());
    IRMapping mapping;
    mapping.map(step.getArguments(), function.getArguments().take_front(3));
    for (auto [value, argument] : llvm::zip(part.reads, function.getArguments().drop_front(3)))
      mapping.map(value, argument);
    for (Operation *op : part.ops) {
      for (Value value : usedFromOutside(op))
        (void)valueIn(mapping, value);
      b.clone(*op, mapping)->removeAttr(kDeclined);
    }
    SmallVector<Value> given;
    if (isLast)
      given.push_back(valueIn(mapping, cast<func::ReturnOp>(step.getBody().front().getTerminator()).getOperand(0)));
    for (Value value : part.gives)
      given.push_back(mapping.lookup(value));
    func::ReturnOp::create(b, step.getLoc(), given);
  }

  // The value as the part that is being built has it.
  Value valueIn(IRMapping &mapping, Value value) {
    if (Value known = mapping.lookupOrNull(value))
      return known;
    if (Value place = placeOf(value); place != value)
      mapping.map(value, mapping.lookup(place));
    else if (auto argument = dyn_cast<BlockArgument>(value))  // a loop's index: all else of other parts was mapped
      mapping.map(value, iterationOf(argument));
    else if (auto append = value.getDefiningOp<KvAppendOp>())  // in a part before; the cache is where it was
      mapping.map(value, valueIn(mapping, append.getKv()));
    else if (auto dim = value.getDefiningOp<tensor::DimOp>())
      mapping.map(value, extentIn(mapping, dim));
    else {
      for (Value operand : value.getDefiningOp()->getOperands())
        (void)valueIn(mapping, operand);
      b.clone(*value.getDefiningOp(), mapping);
    }
    return mapping.lookup(value);
  }

  Value iterationOf(BlockArgument index) {
    auto loop = cast<scf::ForOp>(index.getOwner()->getParentOp());
    auto number = StepExtentOp::create(b, index.getLoc(), b.getIndexType(), "iteration");
    number->setAttr("girih.iterations", b.getI64IntegerAttr(*getConstantIntValue(loop.getUpperBound())));
    return number;
  }

  Value extentIn(IRMapping &mapping, tensor::DimOp dim) {
    std::optional<unsigned> argument = rowsOf(dim.getSource());
    Value source = argument ? mapping.lookup(step.getArgument(*argument)) : valueIn(mapping, dim.getSource());
    return tensor::DimOp::create(b, dim.getLoc(), source, valueIn(mapping, dim.getIndex()));
  }

  std::string symbolOf(size_t index) { return (step.getName() + "_" + Twine(index)).str(); }

  // ---- copies ----

  struct Copies {
    SmallVector<Attribute> list;
  };

  void addCopy(Copies &copies, Value from, Side fromSide, Value to, Side toSide) {
    const Slot &source = slots.find(from)->second, &target = slots.find(to)->second;
    copies.list.push_back(b.getDictionaryAttr({
        b.getNamedAttr("from", b.getStringAttr(nameOf(fromSide))),
        b.getNamedAttr("from_offset", b.getI64IntegerAttr(source.offset)),
        b.getNamedAttr("to", b.getStringAttr(nameOf(toSide))),
        b.getNamedAttr("to_offset", b.getI64IntegerAttr(target.offset)),
        b.getNamedAttr("row_bytes", b.getI64IntegerAttr(source.rowBytes)),
        b.getNamedAttr("rows", b.getStringAttr(source.rows)),
    }));
  }

  // Which sides' slots hold a value: a bit each.
  void bring(Copies &copies, Value value, Side side) {
    unsigned &holders = held[value];
    if (holders & (1u << side))
      return;
    addCopy(copies, value, side == Own ? Rest : Own, value, side);
    holders |= 1u << side;
  }

  void record(StringRef symbol, Side side, scf::ForOp loop, Copies copies) {
    int64_t number = loop ? int64_t(llvm::find(loops, loop) - loops.begin()) + 1 : 0;
    records.push_back(b.getDictionaryAttr({
        b.getNamedAttr("symbol", b.getStringAttr(symbol)),
        b.getNamedAttr("side", b.getStringAttr(nameOf(side))),
        b.getNamedAttr("loop", b.getI64IntegerAttr(number)),
        b.getNamedAttr("repetitions", b.getI64IntegerAttr(loop ? *getConstantIntValue(loop.getUpperBound()) : 1)),
        b.getNamedAttr("copies", b.getArrayAttr(copies.list)),
    }));
  }

  void planCopies() {
    loops = cutLoops().takeVector();
    for (size_t index = 0; index < parts.size(); ++index) {
      Part &part = parts[index];
      bool isFirst = part.loop && (index == 0 || parts[index - 1].loop != part.loop);
      if (isFirst)
        enter(part.loop);
      Copies copies;
      for (Value value : part.reads)
        bring(copies, value, part.side);
      record(symbolOf(index), part.side, part.loop, std::move(copies));
      for (Value value : part.gives)
        held[value] = 1u << part.side;
      if (part.loop && (index + 1 == parts.size() || parts[index + 1].loop != part.loop))
        repeat(part.loop);
    }
  }

  // Sides whose parts read what a loop carries; where it only passes through, one of them all the same.
  unsigned readersOf(Value carried) const {
    unsigned sides = 0;
    for (const Part &part : parts)
      if (part.reads.contains(carried))
        sides |= 1u << part.side;
    return sides ? sides : 1u << Own;
  }

  void move(Copies &copies, Value from, Value carried) {
    unsigned readers = readersOf(carried);
    for (Side side : {Own, Rest})
      if (readers & (1u << side))
        addCopy(copies, from, held[from] & (1u << side) ? side : (side == Own ? Rest : Own), carried, side);
    held[carried] = readers;
  }

  // Once, before the loop: what it carries, and what its parts read of those before.
  void enter(scf::ForOp loop) {
    Copies copies;
    for (auto [init, carried] : llvm::zip(loop.getInitArgs(), loop.getRegionIterArgs()))
      if (slots.count(carried))
        move(copies, placeOf(init), carried);
    for (const Part &part : parts)
      if (part.loop == loop)
        for (Value value : part.reads)
          if (!loop->isAncestor(value.getParentBlock()->getParentOp()))
            bring(copies, value, part.side);
    record("", Own, nullptr, std::move(copies));
  }

  // At the end of each iteration.
  void repeat(scf::ForOp loop) {
    Copies copies;
    for (auto [yielded, carried] : llvm::zip(loop.getYieldedValues(), loop.getRegionIterArgs()))
      if (slots.count(carried) && yielded != carried)
        move(copies, placeOf(yielded), carried);
    record("", Own, loop, std::move(copies));
  }

  func::FuncOp step;
  OpBuilder b;
  SmallVector<Part> parts;
  DenseMap<Operation *, size_t> home;  // in `parts`
  llvm::MapVector<Value, Slot> slots;
  size_t lastPart = 0;  // gives the logits
  int64_t endOfSlots = 0;
  SmallVector<scf::ForOp> loops;
  DenseMap<Value, unsigned> held;
  SmallVector<Attribute> records;
};

struct SplitStepPass : girih::compiler::impl::SplitStepBase<SplitStepPass> {
  void runOnOperation() override {
    ModuleOp module = getOperation();
    if (!holdsDeclined(*module))
      return;
    Builder b(&getContext());
    SmallVector<NamedAttribute> schedules;
    int64_t slotBytes = 0;
    for (auto step : llvm::make_early_inc_range(module.getOps<func::FuncOp>())) {
      if (!step->hasAttr("girih.max_tokens"))
        continue;
      std::string name = step.getName().str();
      StepSplitter splitter(step);
      if (failed(splitter.split()))
        return signalPassFailure();
      schedules.push_back(b.getNamedAttr(name, splitter.schedule()));
      slotBytes = std::max(slotBytes, splitter.slotBytes());
    }
    module->setAttr("girih.schedule", b.getDictionaryAttr(schedules));
    module->setAttr("girih.slot_bytes", b.getI64IntegerAttr(slotBytes));
  }
};

}  // namespace
