// SPDX-License-Identifier: Apache-2.0
// Interprets what stands between dispatches: constants, tables of offsets, loops over layers, extents as symbols.
#include "backends/vulkan/codegen/plan_commands.h"

#include "dialects/machine/dialect.h"

#include "mlir/Dialect/Affine/IR/AffineOps.h"
#include "mlir/Dialect/Utils/StaticValueUtils.h"

using namespace mlir;
using namespace girih::dialect;

namespace girih::vulkan {
namespace {

constexpr int64_t kLeastSharedBytes = 16 << 10; // what every device has
constexpr int64_t kLeastLanes = 32;

struct Buffer {
  AffineExpr offset; // in bytes
  GroupCount rows;   // empty: static
};

class Planner {
public:
  Planner(func::FuncOp function, ShaderTraits traits, std::vector<Kernel> &kernels)
      : function(function), kernels(kernels), context(function.getContext()) {
    facts.traits = traits;
  }

  Expected<PlannedEntry> run() {
    auto maxTokens = function->getAttrOfType<IntegerAttr>("girih.max_tokens");
    auto arena = function->getParentOp()->getAttrOfType<IntegerAttr>("girih.arena_bytes");
    if (!maxTokens)
      return invalidArgument("the step function has no girih.max_tokens");
    entry.name = function.getName().str();
    entry.maxTokens = uint32_t(maxTokens.getInt());
    facts.arenaBytes = arena ? arena.getInt() : 0;
    auto machine = function->getParentOp()->getAttrOfType<machine::DescriptionAttr>("girih.machine");
    auto shared = machine ? machine.level("shared") : machine::LevelAttr();
    auto unit = machine ? machine.unitFor("f32") : machine::UnitAttr();
    facts.lanes = unit ? unit.getLanes() : kLeastLanes;
    facts.sharedBytes = shared ? shared.getSizeBytes() : kLeastSharedBytes;
    // How many grids there are decides where a step's arrays lie, which shaders must know: grids first.
    GIRIH_TRY(block(function.getBody().front(), /*lowers=*/false));
    facts.layout = {entry.maxTokens, uint32_t(entry.grids.size())};
    values.clear();
    buffers.clear();
    GIRIH_TRY(block(function.getBody().front(), /*lowers=*/true));
    return std::move(entry);
  }

private:
  Status block(Block &body, bool lowers) {
    for (Operation &op : body.without_terminator()) {
      Status status;
      if (auto loop = dyn_cast<scf::ForOp>(op))
        status = unroll(loop, lowers);
      else if (auto dispatch = dyn_cast<scf::ForallOp>(op))
        status = lowers ? emit(dispatch) : noteGrid(dispatch);
      else if (!isPure(&op) && !isa<memref::LoadOp>(op))
        status = unimplemented("between dispatches stands " + op.getName().getStringRef().str());
      GIRIH_TRY(std::move(status));
    }
    return {};
  }

  Status unroll(scf::ForOp loop, bool lowers) {
    auto begin = number(loop.getLowerBound()), end = number(loop.getUpperBound()),
         step = number(loop.getStep());
    if (!begin || !end || !step || *step <= 0)
      return unimplemented("a loop over dispatches has bounds that the step decides");
    SmallVector<Value> carried(loop.getInitArgs());
    SmallVector<Buffer> state = llvm::map_to_vector(carried, [&](Value v) { return bufferOf(v); });
    for (int64_t turn = *begin; turn < *end; turn += *step) {
      forget(*loop.getBody());
      values[loop.getInductionVar()] = {getAffineConstantExpr(turn, context)};
      for (auto [argument, buffer] : llvm::zip(loop.getRegionIterArgs(), state))
        buffers[argument] = buffer;
      GIRIH_TRY(block(*loop.getBody(), lowers));
      state = llvm::map_to_vector(loop.getBody()->getTerminator()->getOperands(),
                                  [&](Value v) { return bufferOf(v); });
    }
    for (auto [result, buffer] : llvm::zip(loop.getResults(), state))
      buffers[result] = buffer;
    return {};
  }

  // What depends on the turn of a loop is computed again in the next.
  void forget(Block &body) {
    body.walk([&](Operation *op) {
      for (Value result : op->getResults()) {
        values.erase(result);
        buffers.erase(result);
      }
    });
  }

  // ---- Numbers: one expression, or the least of several; none is what the host does not know ----
  const GroupCount &valueOf(Value value) {
    if (auto known = values.find(value); known != values.end())
      return known->second;
    GroupCount computed = compute(value);
    return values[value] = std::move(computed);
  }

  GroupCount compute(Value value) {
    if (auto constant = getConstantIntValue(value))
      return {getAffineConstantExpr(*constant, context)};
    Operation *op = value.getDefiningOp();
    if (!op)
      return {};
    if (auto extent = dyn_cast<StepExtentOp>(op))
      return {getAffineSymbolExpr(extent.getName() == "num_tokens"       ? kNumTokens
                                  : extent.getName() == "num_logit_rows" ? kNumLogitRows
                                                                         : kLongestContext,
                                  context)};
    if (auto dim = dyn_cast<memref::DimOp>(op))
      return extentOf(dim.getSource(), dim.getConstantIndex().value_or(0));
    if (auto load = dyn_cast<memref::LoadOp>(op))
      return tableEntry(load);
    if (isa<arith::IndexCastOp, arith::IndexCastUIOp>(op))
      return valueOf(op->getOperand(0));
    if (isa<affine::AffineApplyOp, affine::AffineMinOp>(op))
      return applied(cast<AffineMapAttr>(op->getAttr("map")).getValue(), op->getOperands());
    if (isa<arith::AddIOp, arith::MulIOp>(op)) {
      GroupCount x = valueOf(op->getOperand(0)), y = valueOf(op->getOperand(1));
      if (x.size() == 1 && y.size() == 1)
        return {isa<arith::AddIOp>(op) ? x[0] + y[0] : x[0] * y[0]};
    }
    return {};
  }

  GroupCount applied(AffineMap map, ValueRange operands) {
    SmallVector<AffineExpr> arguments;
    for (Value operand : operands) {
      GroupCount value = valueOf(operand);
      if (value.size() != 1)
        return {};
      arguments.push_back(value[0]);
    }
    GroupCount results;
    for (AffineExpr expr : map.getResults())
      results.push_back(expr.replaceDimsAndSymbols(ArrayRef(arguments).take_front(map.getNumDims()),
                                                   ArrayRef(arguments).drop_front(map.getNumDims())));
    return results;
  }

  GroupCount tableEntry(memref::LoadOp load) {
    auto get = load.getMemRef().getDefiningOp<memref::GetGlobalOp>();
    auto global = get ? SymbolTable::lookupNearestSymbolFrom<memref::GlobalOp>(get, get.getNameAttr())
                      : memref::GlobalOp();
    auto table = global ? dyn_cast_or_null<DenseIntElementsAttr>(global.getConstantInitValue())
                        : DenseIntElementsAttr();
    auto index = load.getIndices().size() == 1 ? number(load.getIndices()[0]) : std::nullopt;
    if (!table || !index || *index < 0 || *index >= table.getNumElements())
      return {};
    return {getAffineConstantExpr(table.getValues<APInt>()[size_t(*index)].getSExtValue(), context)};
  }

  std::optional<int64_t> number(Value value) {
    const GroupCount &found = valueOf(value);
    auto constant = found.size() == 1 ? dyn_cast<AffineConstantExpr>(found[0]) : AffineConstantExpr();
    return constant ? std::optional(constant.getValue()) : std::nullopt;
  }

  // ---- Buffers ----
  Buffer bufferOf(Value memref) {
    if (auto known = buffers.find(memref); known != buffers.end())
      return known->second;
    Operation *op = memref.getDefiningOp();
    if (auto at = dyn_cast_or_null<BufferAtOp>(op)) {
      auto offset = number(at.getOffsetBytes());
      return {offset ? getAffineConstantExpr(*offset, context) : AffineExpr(),
              at.getRows() ? valueOf(at.getRows()) : GroupCount{}};
    }
    if (auto view = dyn_cast_or_null<memref::CastOp>(op))
      return bufferOf(view.getSource());
    return {};
  }

  GroupCount extentOf(Value memref, int64_t dimension) {
    auto type = cast<MemRefType>(memref.getType());
    if (!type.isDynamicDim(unsigned(dimension)))
      return {getAffineConstantExpr(type.getDimSize(unsigned(dimension)), context)};
    // Only the outermost extent is dynamic, and views keep it or say what it is.
    Operation *op = memref.getDefiningOp();
    if (auto sub = dyn_cast_or_null<memref::SubViewOp>(op)) {
      OpFoldResult extent = sub.getMixedSizes()[size_t(dimension)];
      auto constant = getConstantIntValue(extent);
      return constant ? GroupCount{getAffineConstantExpr(*constant, context)} : valueOf(cast<Value>(extent));
    }
    if (auto view = dyn_cast_or_null<ViewLikeOpInterface>(op))
      return extentOf(view.getViewSource(), dimension);
    return bufferOf(memref).rows;
  }

  // ---- Dispatches ----
  Expected<uint32_t> gridOf(scf::ForallOp dispatch) {
    std::array<GroupCount, 3> counts;
    AffineExpr one = getAffineConstantExpr(1, context);
    counts.fill({one});
    auto lower = dispatch.getMixedLowerBound(), upper = dispatch.getMixedUpperBound(),
         steps = dispatch.getMixedStep();
    if (dispatch.getRank() > 3)
      return unimplemented("a dispatch of " + std::to_string(dispatch.getRank()) +
                           " dimensions; workgroups have 3");
    for (size_t axis = 0; axis < upper.size(); ++axis) {
      auto begin = getConstantIntValue(lower[axis]), step = getConstantIntValue(steps[axis]);
      auto end = getConstantIntValue(upper[axis]);
      GroupCount ends =
          end ? GroupCount{getAffineConstantExpr(*end, context)} : valueOf(cast<Value>(upper[axis]));
      if (!begin || !step || ends.empty())
        return unimplemented("a dispatch has bounds that are no function of the step's extents");
      counts[axis].clear();
      for (AffineExpr expr : ends)
        counts[axis].push_back((expr - *begin).ceilDiv(*step));
    }
    if (unitsBeyondGroups(dispatch))
      counts[0] = {getAffineConstantExpr(kMaxGroups, context)};
    for (size_t index = 0; index < entry.grids.size(); ++index)
      if (entry.grids[index] == counts)
        return uint32_t(index);
    entry.grids.push_back(counts);
    return uint32_t(entry.grids.size() - 1);
  }

  Status noteGrid(scf::ForallOp dispatch) {
    GIRIH_ASSIGN([[maybe_unused]] uint32_t number, gridOf(dispatch));
    return {};
  }

  Status emit(scf::ForallOp dispatch) {
    auto known = lowered.find(dispatch);
    if (known == lowered.end()) {
      GIRIH_ASSIGN(Kernel kernel, lowerDispatch(dispatch, facts));
      kernels.push_back(std::move(kernel));
      known = lowered.try_emplace(dispatch, uint32_t(kernels.size() - 1)).first;
    }
    const KernelInputs &inputs = kernels[known->second].inputs;
    PlannedDispatch planned;
    planned.kernel = known->second;
    GIRIH_ASSIGN(planned.grid, gridOf(dispatch));
    for (auto [offset, numBytes] : llvm::zip(inputs.weightOffsets, inputs.weightBytes)) {
      auto at = number(offset);
      if (!at)
        return unimplemented("a weight's offset is not known when the model is compiled");
      if (facts.traits.readsTexels && *at % kTexelBytes != 0)
        return internalError("a weight lies at byte " + std::to_string(*at) + ", which is no texel's beginning");
      planned.weights.push_back({uint64_t(*at), uint64_t(numBytes)});
    }
    for (const KernelInputs::Word &word : inputs.words) {
      auto constant = word.isOffset ? offsetOf(word.value) : number(word.value);
      if (!constant)
        return unimplemented("a dispatch takes a value that is not known when the model is compiled");
      planned.words.push_back(uint32_t(*constant));
    }
    entry.dispatches.push_back(std::move(planned));
    return {};
  }

  // In words.
  std::optional<int64_t> offsetOf(Value memref) {
    auto constant = dyn_cast_or_null<AffineConstantExpr>(bufferOf(memref).offset);
    return constant ? std::optional(constant.getValue() / 4) : std::nullopt;
  }

  func::FuncOp function;
  std::vector<Kernel> &kernels;
  MLIRContext *context;
  PlannedEntry entry;
  EntryFacts facts = {};
  DenseMap<Value, GroupCount> values;
  DenseMap<Value, Buffer> buffers;
  DenseMap<Operation *, uint32_t> lowered;
};

} // namespace

Expected<PlannedEntry> planCommands(func::FuncOp function, ShaderTraits traits,
                                    std::vector<Kernel> &kernels) {
  return Planner(function, traits, kernels).run();
}

} // namespace girih::vulkan
