// SPDX-License-Identifier: Apache-2.0
// What stands between dispatches, and how their units are shared out; c99_* are the operations inside.
#include "compiler/emit/emit_c99.h"

#include "compiler/emit/c99_values.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"

using namespace mlir;
using namespace girih::dialect;

namespace girih::compiler {
namespace {

using namespace c99;

int64_t integer(Operation *op, StringRef name) {
  auto attribute = op->getAttrOfType<IntegerAttr>(name);
  return attribute ? attribute.getInt() : 0;
}

Units unitsOf(ModuleOp module) {
  Units units;
  auto machine = module->getAttrOfType<machine::DescriptionAttr>("girih.machine");
  auto named = [](StringAttr name) { return name ? name.str() : std::string(); };
  units.nearBytes = machine ? machine.getLevels().front().getSizeBytes() : 32768;
  if (!machine)
    return units;
  for (machine::LevelAttr level : machine.getLevels())
    if (level.getDmaIn() && level.getDmaOut()) {
      units.dmaIn = named(level.getDmaIn());
      units.dmaOut = named(level.getDmaOut());
    }
  units.barrier = named(machine.getBarrier());
  // It rounds both sides to f16, and its columns are a panel's.
  auto numerics = module->getAttrOfType<StringAttr>("girih.numerics");
  machine::UnitAttr matrix = machine.matrixUnitFor("f16");
  bool mayRound = numerics && numerics.getValue() == "fast";
  if (mayRound && matrix && matrix.getBuiltin() && matrix.getTile().getColumns() == weights::kPanelColumns &&
      weights::kBlockDepth % matrix.getTile().getDepth() == 0) {
    units.multiply = named(matrix.getBuiltin());
    units.tile = matrix.getTile();
  }
  return units;
}

class StepEmitter {
public:
  StepEmitter(ModuleOp module, CWriter &out)
      : out(out), values(module.getContext(), out, unitsOf(module), integer(module, "girih.arena_bytes"),
                         integer(module, "girih.scratch_bytes")) {}

  Status run(func::FuncOp function) {
    out.line("");
    out.line("void " + function.getName() + "(const girih_step_args *args, int64_t thread, int64_t threads)");
    out.block([&] { lowerBlock(function.getBody().front()); });
    return values.error.empty() ? Status() : unimplemented(values.error).withContext("`" + function.getName().str() + "` as C99");
  }

private:
  void lowerBlock(Block &block) {
    for (Operation &op : block.without_terminator())
      lower(op);
  }

  void lower(Operation &op) {
    if (auto loop = dyn_cast<scf::ForOp>(op))
      return lowerLoop(loop);
    if (auto units = dyn_cast<scf::ForallOp>(op))
      return lowerUnits(units);
    if (auto copy = dyn_cast<memref::CopyOp>(op))
      return lowerCopy(values, copy.getSource(), copy.getTarget());
    if (auto generic = dyn_cast<linalg::LinalgOp>(op))
      return lowerGeneric(values, generic);
    if (auto gather = dyn_cast<GatherRowsOp>(op))
      return lowerGatherRows(values, gather);
    if (auto matmul = dyn_cast<QMatmulOp>(op))
      return lowerQMatmul(values, matmul);
    if (auto append = dyn_cast<KvAppendOp>(op))
      return lowerKvAppend(values, append);
    if (auto attention = dyn_cast<AttentionOp>(op))
      return lowerAttention(values, attention);
    if (auto parts = dyn_cast<AttentionPartsOp>(op))
      return lowerAttentionParts(values, parts);
    if (auto joined = dyn_cast<JoinPartsOp>(op))
      return lowerJoinParts(values, joined);
    values.define(op);
  }

  // Buffers that a loop hands on are addresses in variables.
  void lowerLoop(scf::ForOp loop) {
    SmallVector<Expr> carried;
    for (auto [argument, init, result] : llvm::zip(loop.getRegionIterArgs(), loop.getInitArgs(), loop.getResults())) {
      if (!isa<MemRefType>(init.getType()))
        return values.fail("a loop hands on a number, which has no form in C yet");
      View view = values.view(init);
      carried.push_back(out.variable("girih_address", "m", values.addressOf(view)));
      view.base = carried.back();
      view.offset = "0";
      values.setView(argument, view);
      values.setView(result, view);
    }
    out.loop(values.scalar(loop.getLowerBound()), values.scalar(loop.getUpperBound()), values.scalar(loop.getStep()),
             [&](const Expr &index) {
               values.setScalar(loop.getInductionVar(), index);
               lowerBlock(*loop.getBody());
               // All are read before the first is written.
               SmallVector<Expr> next;
               for (Value yielded : loop.getYieldedValues())
                 next.push_back(out.variable("girih_address", "m", values.addressOf(values.view(yielded))));
               for (auto [variable, value] : llvm::zip(carried, next))
                 out.line(variable + " = " + value + ";");
             });
  }

  // Units by turns, then all meet; or each thread does them all for itself.
  void lowerUnits(scf::ForallOp units) {
    auto name = units->getAttrOfType<StringAttr>("girih.dispatch");
    out.line("// " + (name ? name.getValue() : StringRef("copy")));
    auto distribution = units->getAttrOfType<StringAttr>("girih.distribution");
    bool isRepeated = distribution && distribution.getValue() == "every";
    SmallVector<Expr> begins, steps, counts;
    Expr total = "1";
    out.block([&] {
      for (auto [lower, upper, by] : llvm::zip(units.getMixedLowerBound(), units.getMixedUpperBound(), units.getMixedStep())) {
        begins.push_back(values.scalar(lower));
        steps.push_back(values.scalar(by));
        counts.push_back(out.integer(ceilDiv(sub(values.scalar(upper), begins.back()), steps.back())));
        total = out.integer(mul(total, counts.back()));
      }
      out.loop(isRepeated ? "0" : "thread", total, isRepeated ? "1" : "threads", [&](const Expr &unit) {
        Expr rest = unit;
        for (size_t axis = counts.size(); axis-- > 0;) {
          Expr index = axis == 0 ? rest : rem(rest, counts[axis]);
          values.setScalar(units.getInductionVars()[axis], out.integer(add(begins[axis], mul(index, steps[axis]))));
          rest = axis == 0 ? rest : out.integer(div(rest, counts[axis]));
        }
        for (Operation &op : units.getBody()->without_terminator())
          lower(op);
      });
    });
    if (!isRepeated)
      values.barrier();
  }

  CWriter &out;
  StepValues values;
};

void writeTables(ModuleOp module, CWriter &out) {
  for (auto global : module.getOps<memref::GlobalOp>()) {
    auto elements = dyn_cast_or_null<DenseElementsAttr>(global.getConstantInitValue());
    if (!elements)
      continue;
    std::string numbers;
    bool isReal = elements.getElementType().isF32();
    for (Attribute each : elements.getValues<Attribute>()) {
      Expr value = isReal ? floating(cast<FloatAttr>(each).getValueAsDouble()) : number(cast<IntegerAttr>(each).getInt());
      numbers += (numbers.empty() ? "" : ", ") + StringRef(value).trim("()").str();
    }
    out.line("static const " + Twine(isReal ? "float" : "int64_t") + " table_" + global.getName() + "[" +
             Twine(elements.getNumElements()) + "] = {" + numbers + "};");
  }
}

}  // namespace

Expected<std::string> emitC99(ModuleOp module) {
  CWriter out;
  out.line("#include <girih/kernel.h>");
  writeTables(module, out);
  for (auto function : module.getOps<func::FuncOp>())
    if (function->hasAttr("girih.entry"))
      GIRIH_TRY(StepEmitter(module, out).run(function));
  return std::move(out.text);
}

}  // namespace girih::compiler
