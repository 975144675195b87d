// SPDX-License-Identifier: Apache-2.0
// girih-cpu-count-work: how many instructions of each kind a dispatch runs, read off the loops that will run.
#include "backends/cpu/codegen/count_work.h"

#include "backends/cpu/codegen/microkernels/isa_table.h"
#include "backends/cpu/codegen/passes.h"
#include "backends/cpu/codegen/step_values.h"
#include "dialects/machine/dialect.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"
#include "mlir/Interfaces/SideEffectInterfaces.h"
#include "llvm/ADT/TypeSwitch.h"

#include <algorithm>
#include <cmath>
#include <map>

using namespace mlir;

namespace girih::cpu {

#define GEN_PASS_DEF_COUNTWORK
#include "backends/cpu/codegen/passes.h.inc"

namespace {

constexpr int64_t kMostDecodeTokens = 16;  // an entry of up to so many tokens is one of sequences that decode together
constexpr int64_t kMostVisited = 8;        // of a loop's iterations; of a longer one the first, middle and last
constexpr int64_t kMostWhile = 64;         // iterations followed of a loop without a count
// Divisions and roots are as many others, for 512 bits; half as many for 256. Source: uops.info, Skylake-X on.
constexpr double kDivide = 20, kSquareRoot = 24, kDivideF64 = 32;
constexpr double kTileBytes = 1024;  // of a tile register

bool isVectorOfBits(Type type) { return getElementTypeOrSelf(type).isInteger(1); }

// ---- The machine's slots ----
// Vector instructions start in slots; those that multiply only in some of them. A chain's next waits for the one before.
struct Slots {
  double perCycle = 2, latencyCycles = 4, perMultiply = 1;

  explicit Slots(machine::DescriptionAttr machine) {
    machine::UnitAttr multiplying = machine ? machine.unitFor("f32") : machine::UnitAttr();
    if (!multiplying)
      return;
    machine::UnitAttr any = machine.unitFor("i32");
    latencyCycles = double(multiplying.getLatencyCycles());
    perCycle = double((any ? any : multiplying).getPerCycle());
    perMultiply = any ? double(any.getLanes() * any.getPerCycle()) / double(multiplying.getLanes() * multiplying.getPerCycle()) : 1;
  }

  // What takes slots: all instructions, or those that multiply in what they have.
  Work taken(Work work) const {
    work.vectorBytes = std::max(work.vectorBytes, work.multiplyBytes * perMultiply);
    return work;
  }
};

// ---- Instructions of one op ----
class InstructionCosts {
public:
  explicit InstructionCosts(const IsaTraits &isa) : vectorBits(isa.registerLanes * 32) {}

  // Of an instruction's registers.
  double vectorBytes() const { return double(vectorBits) / 8; }

  Work of(Operation *op) const {
    Work work;
    llvm::TypeSwitch<Operation *>(op)
        .Case<LLVM::LoadOp, LLVM::MaskedLoadOp>([&](auto load) {
          // Pointers and whole numbers are the addressing of others.
          Type type = load->getResult(0).getType();
          work.loadBytes = isa<VectorType, FloatType>(type) || type.isInteger(32) ? bytesOf(type) : 0;
        })
        .Case([&](LLVM::StoreOp store) { work.storeBytes = bytesOf(store.getValue().getType()); })
        .Case([&](vector::StoreOp store) { work.storeBytes = bytesOf(store.getVectorType()); })
        .Case([&](LLVM::MaskedStoreOp store) { work.storeBytes = bytesOf(store.getValue().getType()); })
        .Case([&](LLVM::masked_gather gather) {
          // A load a lane.
          work.loadBytes = vectorBytes() * double(cast<VectorType>(gather.getRes().getType()).getNumElements());
        })
        .Case([&](LLVM::CallIntrinsicOp call) { work = ofIntrinsic(call); })
        .Default([&](Operation *) { work.vectorBytes = vectorBytes() * arithmetic(op); });
    if (isMultiply(op))
      work.multiplyBytes = work.vectorBytes;
    return work;
  }

private:
  static bool isMultiply(Operation *op) {
    if (auto call = dyn_cast<LLVM::CallIntrinsicOp>(op))
      return llvm::any_of(ArrayRef{"pmadd", "vpdp", "sdot", "smmla", "smull"},
                          [&](StringRef part) { return call.getIntrin().contains(part); });
    return isa<arith::MulFOp, arith::MulIOp, arith::DivFOp, math::FmaOp, math::SqrtOp, vector::FMAOp, LLVM::FMAOp>(op);
  }

  static double bytesOf(Type type) {
    auto vector = dyn_cast<VectorType>(type);
    double bits = getElementTypeOrSelf(type).isIntOrFloat() ? getElementTypeOrSelf(type).getIntOrFloatBitWidth() : 64;
    return (vector ? double(vector.getNumElements()) : 1) * bits / 8;
  }

  double registersOf(Type type) const {
    auto vector = dyn_cast<VectorType>(type);
    if (!vector || isVectorOfBits(type))
      return 1;
    return std::ceil(8 * bytesOf(vector) / double(vectorBits));
  }

  // The widest of what it takes and gives.
  double registersOf(Operation *op) const {
    double most = 1;
    for (Type type : op->getOperandTypes())
      most = std::max(most, registersOf(type));
    for (Type type : op->getResultTypes())
      most = std::max(most, registersOf(type));
    return most;
  }

  Work ofIntrinsic(LLVM::CallIntrinsicOp call) const {
    Work work;
    StringRef name = call.getIntrin();
    if (name.contains(".tdp"))
      work.tileProducts = 1;
    else if (name.contains(".tileload"))
      work.loadBytes = kTileBytes;
    else if (name.contains(".tilestore"))
      work.storeBytes = kTileBytes;
    else
      work.vectorBytes = vectorBytes() * registersOf(call.getOperation());
    return work;
  }

  static bool isMaximum(arith::SelectOp select) {
    auto compared = select.getCondition().getDefiningOp<arith::CmpFOp>();
    return compared && llvm::is_contained(compared.getOperands(), select.getTrueValue()) &&
           llvm::is_contained(compared.getOperands(), select.getFalseValue());
  }

  // Registers of the result that are no register of an operand as it is.
  double shuffledRegisters(vector::ShuffleOp shuffle) const {
    auto type = cast<VectorType>(shuffle.getType());
    int64_t lanes = vectorBits / type.getElementTypeBitWidth(), count = 0;
    ArrayRef<int64_t> mask = shuffle.getMask();
    for (int64_t first = 0; first < int64_t(mask.size()); first += lanes) {
      int64_t size = std::min<int64_t>(lanes, int64_t(mask.size()) - first);
      bool isWhole = mask[first] % lanes == 0;
      for (int64_t lane = 1; lane < size; ++lane)
        isWhole &= mask[first + lane] == mask[first] + lane;
      count += !isWhole;
    }
    return double(count);
  }

  double arithmetic(Operation *op) const {
    bool isFloat = llvm::any_of(op->getResultTypes(), [](Type type) { return isa<FloatType>(type); });
    bool isVector = llvm::any_of(op->getOperandTypes(), llvm::IsaPred<VectorType>) ||
                    llvm::any_of(op->getResultTypes(), llvm::IsaPred<VectorType>);
    // Integers outside vectors have units of their own.
    if ((!isVector && !isFloat) || op->getNumRegions() > 0 || op->hasTrait<OpTrait::ConstantLike>())
      return 0;
    double registers = registersOf(op), wide = registers * double(vectorBits) / 512;
    if (!isVector)
      registers = wide = 1;
    return llvm::TypeSwitch<Operation *, double>(op)
        .Case<arith::BitcastOp, LLVM::BitcastOp, vector::BitCastOp, LLVM::InlineAsmOp, LLVM::GEPOp>([](auto) { return 0; })
        .Case([&](vector::ShuffleOp shuffle) { return shuffledRegisters(shuffle); })
        // A number that is loaded for all lanes is loaded so.
        .Case([&](vector::BroadcastOp broadcast) { return broadcast.getSource().getDefiningOp<LLVM::LoadOp>() ? 0 : registers; })
        .Case([&](arith::SelectOp select) { return isMaximum(select) ? 0 : registers; })
        .Case([&](arith::DivFOp divide) {
          return wide * (getElementTypeOrSelf(divide.getType()).isF64() ? kDivideF64 : kDivide);
        })
        .Case([&](math::SqrtOp) { return wide * kSquareRoot; })
        .Case<func::CallOp, func::ReturnOp>([](auto) { return 0; })
        .Default(registers);
  }

  int64_t vectorBits;
};

// ---- What stands in a block itself, and what of inner loops will be computed before them ----
// The same whatever the step, so counted once for all entries and contexts.
class BlockCounts {
public:
  BlockCounts(ModuleOp module, const IsaTraits &isa, machine::DescriptionAttr machine)
      : symbols(module), costs(isa), slots(machine) {}

  const Work &ownOf(Block &block) {
    auto *top = block.getParentOp();
    while (!isa<func::FuncOp>(top) && !(isa<scf::ForallOp>(top) && top->hasAttr("girih.dispatch")))
      top = top->getParentOp();
    if (counted.insert(top).second)
      countStraight(top);
    return own[&block];
  }

  ArrayRef<Operation *> controlOf(Block &block) {
    auto [found, isNew] = control.try_emplace(&block);
    if (isNew)
      for (Operation &op : block)
        if (isa<scf::ForOp, scf::ForallOp, scf::WhileOp, scf::IfOp, func::CallOp>(op))
          found->second.push_back(&op);
    return found->second;
  }

  double chainOf(scf::ForOp loop) {
    auto [found, isNew] = chains.try_emplace(loop, 0);
    if (isNew)
      found->second = countChain(loop);
    return found->second;
  }

  SymbolTable symbols;
  const InstructionCosts costs;
  const Slots slots;

private:
  void countStraight(Operation *top) {
    top->walk<WalkOrder::PreOrder>([&](Operation *op) {
      if (op != top)
        own[homeOf(op)] += costs.of(op);
    });
  }

  // Instructions of the longest way from what an iteration is given to what it hands on: each waits for the one before.
  static double countChain(scf::ForOp loop) {
    llvm::DenseMap<Value, double> length;
    for (Value carried : loop.getRegionIterArgs())
      if (isa<VectorType, FloatType>(carried.getType()))
        length[carried] = 0;
    if (length.empty())
      return 0;
    for (Operation &op : loop.getBody()->without_terminator()) {
      double longest = -1;
      for (Value operand : op.getOperands())
        if (auto found = length.find(operand); found != length.end())
          longest = std::max(longest, found->second);
      bool isArithmetic = !isa<LLVM::InlineAsmOp, LLVM::BitcastOp, arith::BitcastOp, arith::CmpFOp>(op);
      for (Value result : op.getResults())
        if (longest >= 0)
          length[result] = longest + isArithmetic;
    }
    double longest = 0;
    for (Value handed : loop.getBody()->getTerminator()->getOperands())
      if (auto found = length.find(handed); found != length.end())
        longest = std::max(longest, found->second);
    return longest;
  }

  // LLVM moves what does not change with a loop out of it.
  Block *homeOf(Operation *op) {
    Block *home = op->getBlock();
    if (op->getNumRegions() > 0 || !isMemoryEffectFree(op))
      return home;
    while (isa<scf::ForOp, scf::WhileOp>(home->getParentOp()) && llvm::none_of(op->getOperands(), [&](Value operand) {
      auto found = homes.find(operand);
      Block *block = found != homes.end() ? found->second : operand.getParentBlock();
      return home->getParentOp()->isAncestor(block->getParentOp());
    }))
      home = home->getParentOp()->getBlock();
    for (Value result : op->getResults())
      homes[result] = home;
    return home;
  }

  llvm::DenseSet<Operation *> counted;
  std::map<Block *, Work> own;
  llvm::DenseMap<Value, Block *> homes;
  std::map<Block *, SmallVector<Operation *>> control;
  std::map<Operation *, double> chains;
};

// ---- How often each runs ----
class WorkCounter {
public:
  WorkCounter(BlockCounts &blocks, StepBatchShape batch) : blocks(blocks), values(batch) {}

  Work ofDispatch(scf::ForallOp loop) {
    // Outer loops are over layers, all alike.
    for (auto layers = loop->getParentOfType<scf::ForOp>(); layers; layers = layers->getParentOfType<scf::ForOp>())
      values.bind(layers.getInductionVar(), 0);
    auto function = loop->getParentOfType<func::FuncOp>();
    bothDigits = function->hasAttr("girih.both_digits");
    values.bind(function.getArgument(0), {StepValues::Scalar::StepArgs, 0, 0});
    values.bind(function.getArgument(1), 0);
    Work work = overDimensions(loop, 0);
    work.units = unitsOf(loop);
    return work;
  }

private:
  double unitsOf(scf::ForallOp loop) {
    double units = 1;
    for (auto [begin, end, step] : llvm::zip(loop.getMixedLowerBound(), loop.getMixedUpperBound(), loop.getMixedStep()))
      units *= trips(values.number(begin), values.number(end), values.number(step));
    return units;
  }

  static double trips(double begin, double end, double step) {
    double count = std::ceil((end - begin) / step);
    return std::isnan(count) ? 1 : std::max(0.0, count);
  }

  Work overDimensions(scf::ForallOp loop, size_t dimension) {
    if (dimension == loop.getInductionVars().size())
      return ofBlock(*loop.getBody());
    return over(loop.getInductionVars()[dimension], values.number(loop.getMixedLowerBound()[dimension]),
                values.number(loop.getMixedUpperBound()[dimension]), values.number(loop.getMixedStep()[dimension]),
                [&] { return overDimensions(loop, dimension + 1); });
  }

  // The sum over a loop's iterations. Of a long one, those between the first and the last are taken for that in the
  // middle: right where the work grows evenly, as that of causal attention.
  Work over(Value variable, double begin, double end, double step, llvm::function_ref<Work()> body) {
    double count = trips(begin, end, step);
    auto at = [&](double iteration) {
      values.bind(variable, begin + iteration * step);
      return body();
    };
    Work sum;
    if (count <= double(kMostVisited)) {
      for (double iteration = 0; iteration < count; ++iteration)
        sum += at(iteration);
      return sum;
    }
    sum += at(0);
    sum += at(std::floor((count - 1) / 2)).times(count - 2);
    sum += at(count - 1);
    return sum;
  }

  // What runs once each time the block runs.
  Work ofBlock(Block &block) {
    Work work = blocks.slots.taken(blocks.ownOf(block));
    for (Operation *op : blocks.controlOf(block))
      llvm::TypeSwitch<Operation *>(op)
          .Case([&](scf::ForOp loop) { work += ofLoop(loop); })
          .Case([&](scf::ForallOp loop) { work += overDimensions(loop, 0); })
          .Case([&](scf::WhileOp loop) { work += ofWhile(loop); })
          .Case([&](scf::IfOp branch) { work += ofBranch(branch); })
          .Case([&](func::CallOp call) { work += ofCall(call); });
    return work;
  }

  Work ofLoop(scf::ForOp loop) {
    double begin = values.number(loop.getLowerBound()), end = values.number(loop.getUpperBound());
    double step = values.number(loop.getStep());
    if (blocks.controlOf(*loop.getBody()).empty()) {
      Work once = blocks.slots.taken(blocks.ownOf(*loop.getBody()));
      double waiting = blocks.slots.perCycle * blocks.slots.latencyCycles * blocks.chainOf(loop);
      once.vectorBytes = std::max(once.vectorBytes, blocks.costs.vectorBytes() * waiting);
      return once.times(trips(begin, end, step));
    }
    return over(loop.getInductionVar(), begin, end, step, [&] { return ofBlock(*loop.getBody()); });
  }

  // Over bits that no one knows here: those of second digits, which only a function whose rows all have them has.
  Work ofBits(scf::WhileOp loop, int64_t most) {
    return bothDigits ? ofBlock(*loop.getAfterBody()).times(double(most)) : Work();
  }

  Work ofWhile(scf::WhileOp loop) {
    if (auto most = loop->getAttrOfType<IntegerAttr>("girih.bits"))
      return ofBits(loop, most.getInt());
    Work sum;
    SmallVector<StepValues::Scalar> carried;
    for (Value initial : loop.getInits())
      carried.push_back(values.evaluate(initial));
    for (int64_t iteration = 0; iteration < kMostWhile; ++iteration) {
      for (auto [argument, scalar] : llvm::zip(loop.getBeforeArguments(), carried))
        values.bind(argument, scalar);
      if (!(values.number(loop.getConditionOp().getCondition()) != 0))
        break;
      SmallVector<StepValues::Scalar> handed;
      for (Value value : loop.getConditionOp().getArgs())
        handed.push_back(values.evaluate(value));
      for (auto [argument, scalar] : llvm::zip(loop.getAfterArguments(), handed))
        values.bind(argument, scalar);
      sum += ofBlock(*loop.getAfterBody());
      carried.clear();
      for (Value value : loop.getYieldOp().getOperands())
        carried.push_back(values.evaluate(value));
      if (llvm::all_of(carried, [](const StepValues::Scalar &scalar) { return std::isnan(scalar.number); }))
        break;
    }
    return sum;
  }

  // The dearer branch where it is not known which, and none says that it is seldom taken.
  Work ofBranch(scf::IfOp branch) {
    double condition = branch->hasAttr("girih.seldom") ? 0 : values.number(branch.getCondition());
    if (branch->hasAttr("girih.outliers"))
      condition = bothDigits ? 1 : 0;
    Work otherwise = branch.getElseRegion().empty() || condition == 1 ? Work() : ofBlock(branch.getElseRegion().front());
    if (condition == 0)
      return otherwise;
    Work then = ofBlock(branch.getThenRegion().front());
    return then.vectorBytes + then.loadBytes >= otherwise.vectorBytes + otherwise.loadBytes || condition == 1 ? then : otherwise;
  }

  Work ofCall(func::CallOp call) {
    auto callee = blocks.symbols.lookup<func::FuncOp>(call.getCallee());
    if (!callee || callee.isExternal())
      return {};
    for (auto [argument, operand] : llvm::zip(callee.getArguments(), call.getOperands()))
      values.bind(argument, values.evaluate(operand));
    return ofBlock(callee.getBody().front());
  }

  BlockCounts &blocks;
  StepValues values;
  bool bothDigits = false;
};

Attribute attributeOf(MLIRContext *context, const Work &work) {
  return DenseF64ArrayAttr::get(context, {work.units, work.vectorBytes, work.tileProducts, work.loadBytes,
                                          work.storeBytes});
}

Work workOf(Attribute attribute) {
  ArrayRef<double> numbers = cast<DenseF64ArrayAttr>(attribute).asArrayRef();
  return {numbers[0], numbers[1], numbers[2], numbers[3], numbers[4]};
}

struct CountWork : impl::CountWorkBase<CountWork> {
  using CountWorkBase::CountWorkBase;

  void runOnOperation() override {
    const IsaTraits *traits = findIsa(isa);
    if (!traits) {
      getOperation().emitError() << "has no ISA \"" << isa << "\"; " << isaNames() << " are known";
      return signalPassFailure();
    }
    auto machine = getOperation()->getAttrOfType<machine::DescriptionAttr>("girih.machine");
    BlockCounts blocks(getOperation(), *traits, machine);
    double cores = machine ? double(machine.getCores()) : 1;
    SmallVector<Attribute> rows;
    for (auto function : getOperation().getOps<func::FuncOp>())
      if (auto maxTokens = function->getAttrOfType<IntegerAttr>("girih.max_tokens"))
        count(function, blocks, cores, maxTokens.getInt(), rows);
    getOperation()->setAttr("girih.work", ArrayAttr::get(&getContext(), rows));
  }

private:
  void count(func::FuncOp function, BlockCounts &blocks, double cores, int64_t numTokens, SmallVector<Attribute> &rows) {
    StepBatchShape batch{numTokens, numTokens <= kMostDecodeTokens ? numTokens : 1, 0};
    WorkCounter first(blocks, batch);
    batch.contextTokens = kCountedContext;
    WorkCounter later(blocks, batch);
    Work alone;  // what every thread does for itself before the next dispatch
    function.walk([&](scf::ForallOp loop) {
      auto name = loop->getAttrOfType<StringAttr>("girih.dispatch");
      if (!name)
        return;
      auto distribution = loop->getAttrOfType<StringAttr>("girih.distribution");
      Work start = first.ofDispatch(loop), then = later.ofDispatch(loop);
      if (distribution && distribution.getValue() == "every") {
        alone += start.times(cores);
        return;
      }
      double units = start.units, unitsThen = then.units;
      start += alone;
      then += alone;
      start.units = units;
      then.units = unitsThen;
      alone = {};
      Builder b(&getContext());
      rows.push_back(b.getDictionaryAttr({b.getNamedAttr("entry", b.getStringAttr(function.getName())),
                                          b.getNamedAttr("dispatch", name),
                                          b.getNamedAttr("first", attributeOf(&getContext(), start)),
                                          b.getNamedAttr("later", attributeOf(&getContext(), then))}));
    });
  }
};

}  // namespace

Work &Work::operator+=(const Work &other) {
  units += other.units;
  vectorBytes += other.vectorBytes;
  tileProducts += other.tileProducts;
  loadBytes += other.loadBytes;
  storeBytes += other.storeBytes;
  multiplyBytes += other.multiplyBytes;
  return *this;
}

Work Work::times(double count) const {
  return {units * count, vectorBytes * count, tileProducts * count, loadBytes * count, storeBytes * count,
          multiplyBytes * count};
}

std::vector<DispatchWork> countedWork(ModuleOp module) {
  std::vector<DispatchWork> rows;
  if (auto attribute = module->getAttrOfType<ArrayAttr>("girih.work"))
    for (auto row : attribute.getAsRange<DictionaryAttr>())
      rows.push_back({row.getAs<StringAttr>("entry").str(), row.getAs<StringAttr>("dispatch").str(),
                      workOf(row.get("first")), workOf(row.get("later"))});
  return rows;
}

}  // namespace girih::cpu
