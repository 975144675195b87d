// SPDX-License-Identifier: Apache-2.0
// Asks, marks what is declined, and reads what the pass girih-split-step makes of the marks.
#include "compiler/share_step.h"

#include "compiler/allocate/passes.h"
#include "compiler/place/passes.h"
#include "dialects/girih/dialect.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/IR/Diagnostics.h"
#include "mlir/Pass/PassManager.h"
#include "llvm/ADT/STLExtras.h"
#include "llvm/Support/raw_ostream.h"

#include <map>
#include <set>

using namespace mlir;
using namespace girih::dialect;

namespace girih::compiler {
namespace {

// A shape of graph.h: its first extent is the step's tokens, or its logit rows, which no backend tells apart.
std::string extentsOf(ArrayRef<int64_t> shape) {
  std::string text;
  for (int64_t extent : shape)
    text += (text.empty() ? "" : ",") + (ShapedType::isDynamic(extent) ? "T" : std::to_string(extent));
  return text;
}

std::string textOf(Type type) {
  if (auto packed = dyn_cast<PackedType>(type))
    return packed.getLayout().str() + "[" + extentsOf({packed.getColumns(), packed.getDepth()}) + "]";
  std::string element;
  llvm::raw_string_ostream stream(element);
  if (auto kv = dyn_cast<KvType>(type)) {
    stream << "kv:" << kv.getElement();
    return element + "[" + extentsOf({kv.getHeads(), kv.getKeyDim(), kv.getValueDim()}) + "]";
  }
  auto shaped = cast<ShapedType>(type);
  stream << shaped.getElementType();
  return element + "[" + extentsOf(shaped.getShape()) + "]";
}

std::string signatureOf(ArrayRef<Value> values) {
  std::string text;
  for (Value value : values)
    text += (text.empty() ? "" : " ") + textOf(value.getType());
  return text;
}

// The sum of a row's squares that a norm divides by, which is one operation with it.
linalg::GenericOp squaresOf(linalg::GenericOp norm) {
  bool hasRoot = !norm.getBody()->getOps<math::RsqrtOp>().empty();
  for (Value input : norm.getInputs())
    if (auto sum = input.getDefiningOp<linalg::GenericOp>(); hasRoot && sum && sum.getNumReductionLoops() == 1)
      return sum;
  return nullptr;
}

// What graph.h calls it; without a name what it has none for.
AskedOperation askedOf(Operation *op) {
  if (auto matmul = dyn_cast<QMatmulOp>(op))
    return {"matmul", signatureOf({matmul.getX(), matmul.getW(), matmul.getInit()})};
  if (auto append = dyn_cast<KvAppendOp>(op))
    return {"kv_append", signatureOf({append.getKey(), append.getValue(), append.getKv()})};
  if (auto attention = dyn_cast<AttentionOp>(op); attention && attention.getKv())
    return {"attention", signatureOf({attention.getQ(), attention.getKv(), attention.getInit()})};
  if (auto norm = dyn_cast<linalg::GenericOp>(op); norm && squaresOf(norm))
    return {"rms_norm", signatureOf({norm.getInputs().front(), norm.getInputs().back(), norm.getOutputs().front()})};
  return {};
}

void mark(Operation *op) {
  op->setAttr("girih.declined", UnitAttr::get(op->getContext()));
  auto norm = dyn_cast<linalg::GenericOp>(op);
  if (auto sum = norm ? squaresOf(norm) : nullptr)
    sum->setAttr("girih.declined", UnitAttr::get(op->getContext()));
}

// Marks what is declined, and returns it with the reasons. Fails: Unimplemented, when nothing is left.
Expected<std::vector<std::string>> markDeclined(ModuleOp module, const CompilingBackend &backend, const std::string &target) {
  std::map<std::pair<std::string, std::string>, std::vector<Operation *>> found;
  module.walk([&](Operation *op) {
    if (AskedOperation asked = askedOf(op); !asked.name.empty())
      found[{asked.name, asked.signature}].push_back(op);
  });
  std::vector<AskedOperation> asked;
  for (const auto &[key, ops] : found)
    asked.push_back({key.first, key.second});
  GIRIH_ASSIGN(auto reasons, backend.declines(target, asked));
  bool cacheIsDeclined = false;
  for (size_t index = 0; index < asked.size(); ++index)
    cacheIsDeclined |= !reasons[index].empty() && (asked[index].name == "attention" || asked[index].name == "kv_append");
  std::vector<std::string> declined;
  size_t numTaken = 0;
  for (size_t index = 0; index < asked.size(); ++index) {
    bool isOfCache = asked[index].name == "attention" || asked[index].name == "kv_append";
    if (reasons[index].empty() && isOfCache && cacheIsDeclined)
      reasons[index] = "the cache is where what is declined reads it";
    if (reasons[index].empty()) {
      ++numTaken;
      continue;
    }
    declined.push_back(asked[index].name + " of " + asked[index].signature + ": " + reasons[index]);
    for (Operation *op : found[{asked[index].name, asked[index].signature}])
      mark(op);
  }
  if (!declined.empty() && numTaken == 0)
    return unimplemented("backend \"" + backend.name() + "\" declines all that was asked of it, so nothing is gained by it: " +
                         declined.front() + (declined.size() > 1 ? "; and " + std::to_string(declined.size() - 1) + " more" : ""));
  return declined;
}

std::string text(DictionaryAttr of, StringRef name) { return of.getAs<StringAttr>(name).str(); }
uint64_t integer(DictionaryAttr of, StringRef name) { return uint64_t(of.getAs<IntegerAttr>(name).getInt()); }

program::Copy copyOf(DictionaryAttr from) {
  program::Copy copy{integer(from, "from_offset"), integer(from, "to_offset"), integer(from, "row_bytes")};
  std::string rows = text(from, "rows");
  copy.rows = rows.empty()            ? program::Copy::Rows::One
              : rows == "num_tokens"  ? program::Copy::Rows::Tokens
                                      : program::Copy::Rows::LogitRows;
  copy.isFromRest = text(from, "from") == "rest";
  copy.isToRest = text(from, "to") == "rest";
  return copy;
}

// A module of the functions of one side, which all that they share is kept in.
OwningOpRef<ModuleOp> sideOf(ModuleOp split, StringRef side) {
  OwningOpRef<ModuleOp> module = split.clone();
  for (auto function : llvm::make_early_inc_range(module->getOps<func::FuncOp>()))
    if (function->getAttrOfType<StringAttr>("girih.side").getValue() != side)
      function.erase();
  return module;
}

void fillSchedules(ModuleOp split, const std::vector<std::pair<program::Entry, bool>> &entries, program::Executable &to) {
  auto schedules = split->getAttrOfType<DictionaryAttr>("girih.schedule");
  program::Executable &rest = to.rests.emplace_back();
  for (bool isHidden : {false, true})
    for (const auto &[entry, givesHidden] : entries) {
      if (givesHidden != isHidden)
        continue;
      (isHidden ? to.hiddenEntries : to.entries).push_back(entry);
      program::Schedule &schedule = to.schedules.emplace_back();
      for (auto from : cast<ArrayAttr>(schedules.get(entry.symbol)).getAsRange<DictionaryAttr>()) {
        program::Part &part = schedule.emplace_back();
        part.isOnRest = text(from, "side") == "rest";
        part.loop = uint32_t(integer(from, "loop"));
        part.repetitions = uint32_t(integer(from, "repetitions"));
        for (auto copy : from.getAs<ArrayAttr>("copies").getAsRange<DictionaryAttr>())
          part.copies.push_back(copyOf(copy));
        std::vector<std::string> &symbols = part.isOnRest ? rest.symbols : to.symbols;
        if (std::string symbol = text(from, "symbol"); !symbol.empty()) {
          part.symbol = int32_t(symbols.size());
          symbols.push_back(std::move(symbol));
        }
      }
    }
  to.slotBytes = uint64_t(split->getAttrOfType<IntegerAttr>("girih.slot_bytes").getInt());
  split.walk([&](func::FuncOp function) {
    bool isRest = function->getAttrOfType<StringAttr>("girih.side").getValue() == "rest";
    function.walk([&](KvAppendOp) { to.restHasCache |= isRest; });
    auto hasSlot = [&](unsigned index) { return bool(function.getResultAttr(index, "girih.slot")); };
    for (unsigned index = 0; index < function.getNumResults(); ++index)
      to.restHasLogits |= isRest && !hasSlot(index);
  });
}

}  // namespace

Expected<std::optional<SharedStep>> shareStep(ModuleOp raised, const CompilingBackend &backend, const std::string &target) {
  if (!backend.isAskedOfModels())
    return std::optional<SharedStep>();
  OwningOpRef<ModuleOp> whole = raised.clone();
  SharedStep shared;
  GIRIH_ASSIGN(shared.declined, markDeclined(*whole, backend, target));
  if (shared.declined.empty())
    return std::optional<SharedStep>();
  std::vector<std::pair<program::Entry, bool>> entries;
  for (auto step : whole->getOps<func::FuncOp>())
    if (auto maxTokens = step->getAttrOfType<IntegerAttr>("girih.max_tokens"))
      entries.push_back({{step.getName().str(), uint32_t(maxTokens.getInt()), false}, step->hasAttr("girih.gives")});
  std::string errors;
  ScopedDiagnosticHandler handler(raised.getContext(), [&](Diagnostic &diagnostic) {
    if (diagnostic.getSeverity() == DiagnosticSeverity::Error)
      errors += (errors.empty() ? "" : "; ") + diagnostic.str();
    return success();
  });
  // Where weights and caches lie is planned for the step as a whole, so that the parts agree on it.
  OwningOpRef<ModuleOp> planned = raised.clone();
  PassManager planning(raised.getContext()), placing(raised.getContext());
  planning.addPass(createBindMemory());
  buildPlacePipeline(placing);
  if (failed(planning.run(*planned)) || failed(placing.run(*whole)))
    return unimplemented("backend \"" + backend.name() + "\" declines " + shared.declined.front() +
                         "; the step cannot be cut there: " + errors);
  for (StringRef name : {"girih.weights", "girih.weight_bytes", "girih.kv_layers", "girih.kv_block_bytes"})
    (*whole)->setAttr(name, (*planned)->getAttr(name));
  fillSchedules(*whole, entries, shared.schedules);
  (*whole)->removeAttr("girih.schedule");
  shared.own = sideOf(*whole, "own");
  shared.rest = sideOf(*whole, "rest");
  return std::optional<SharedStep>(std::move(shared));
}

}  // namespace girih::compiler
