// SPDX-License-Identifier: Apache-2.0
// What the compiler did, for people: dispatches with their tiles, and the JSON of --report.
#include "compiler/report.h"

#include "compiler/analysis/cost_model.h"
#include "dialects/girih/dialect.h"
#include "dialects/machine/dialect.h"
#include "runtime/base/json.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/SCF/IR/SCF.h"

#include <cstdio>

using namespace mlir;

namespace girih::compiler {
namespace {

std::string tilesOf(scf::ForallOp loop) {
  std::string text;
  loop.walk([&](dialect::QMatmulOp matmul) {
    if (!text.empty())
      text += "; ";
    text += "rows " + std::to_string(matmul.getRowTile().value_or(0)) + " x columns " +
            std::to_string(matmul.getColumnTile().value_or(0)) + " x k " + std::to_string(matmul.getKTile().value_or(0));
  });
  loop.walk([&](dialect::AttentionOp attention) {
    text += "queries " + std::to_string(attention.getQueryTile().value_or(0));
  });
  loop.walk([&](dialect::AttentionPartsOp parts) { text += "positions " + std::to_string(parts.getChunk()); });
  return text.empty() ? "rows 1" : text;
}

std::string strategyOf(scf::ForallOp loop) {
  std::string strategy = "elementwise";
  loop.walk([&](dialect::QMatmulOp matmul) { strategy = matmul.getStrategy().value_or("").str(); });
  loop.walk([&](dialect::AttentionOp) { strategy = "online"; });
  loop.walk([&](dialect::AttentionPartsOp) { strategy = "chunks"; });
  loop.walk([&](dialect::JoinPartsOp) { strategy = "join"; });
  return strategy;
}

std::string matmulsOf(scf::ForallOp loop) {
  std::string text;
  loop.walk([&](dialect::QMatmulOp matmul) {
    if (auto weight = dyn_cast<dialect::PackedType>(matmul.getW().getType()))
      text += (text.empty() ? "" : ", ") + std::to_string(weight.getColumns()) + "x" + std::to_string(weight.getDepth());
  });
  return text;
}

// Loops over layers have constant bounds.
uint32_t tripsOf(scf::ForOp loop) {
  auto begin = getConstantIntValue(loop.getLowerBound()), end = getConstantIntValue(loop.getUpperBound());
  auto step = getConstantIntValue(loop.getStep());
  return begin && end && step && *step > 0 && *end > *begin ? uint32_t((*end - *begin + *step - 1) / *step) : 1;
}

// Predictions of one dispatch, from what was counted of it where it was.
class Predictor {
public:
  Predictor(machine::DescriptionAttr machine, const std::vector<CountedDispatch> &work) : machine(machine), work(work) {}

  void predict(scf::ForallOp loop, StringRef entry, int64_t maxTokens, program::DispatchReport &row) {
    // As `girih bench --kernels` feeds an entry.
    BatchShape batch{maxTokens, maxTokens <= kMostDecodeTokens ? maxTokens : 1, 0};
    DispatchCost cost = estimateDispatch(loop, batch, machine, countedFor(entry, row.name));
    row.predictedSeconds = cost.seconds;
    row.numBytes = uint64_t(cost.bytes);
    row.numOperations = uint64_t(cost.operations);
    row.bound = cost.isMemoryBound ? "memory" : "compute";
    row.footprintBytes = uint64_t(cost.footprintBytes);
    row.level = cost.level;
    std::optional<CountedWork> later = countedFor(entry, row.name);
    batch.contextTokens = next > 0 && later ? work[next - 1].contextTokens : kLaterContext;
    double seconds = estimateDispatch(loop, batch, machine, later).seconds;
    row.secondsPerPosition = std::max(0.0, seconds - cost.seconds) / double(batch.contextTokens);
  }

private:
  static constexpr int64_t kMostDecodeTokens = 16, kLaterContext = 1024;

  // The next row, if it is of this dispatch: rows come in running order.
  std::optional<CountedWork> countedFor(StringRef entry, StringRef dispatch) {
    if (next >= work.size() || work[next].entry != entry || work[next].dispatch != dispatch)
      return std::nullopt;
    return work[next++].work;
  }

  machine::DescriptionAttr machine;
  const std::vector<CountedDispatch> &work;
  size_t next = 0;
};

}  // namespace

void appendDispatches(ModuleOp module, std::string_view isa, const std::vector<CountedDispatch> &work,
                      std::vector<program::DispatchReport> &rows) {
  Predictor predictor(module->getAttrOfType<machine::DescriptionAttr>("girih.machine"), work);
  for (auto function : module.getOps<func::FuncOp>()) {
    auto maxTokens = function->getAttrOfType<IntegerAttr>("girih.max_tokens");
    if (!maxTokens)
      continue;
    llvm::DenseMap<Operation *, uint32_t> loops;
    function.walk([&](scf::ForallOp loop) {
      auto name = loop->getAttrOfType<StringAttr>("girih.dispatch");
      // What every thread does by itself ends at no meeting: nothing to time, and its cost is the next one's.
      auto distribution = loop->getAttrOfType<StringAttr>("girih.distribution");
      if (!name || (distribution && distribution.getValue() == "every"))
        return;
      program::DispatchReport row;
      row.name = name.str();
      row.isa = isa;
      row.entry = function.getName().str();
      row.tiles = tilesOf(loop);
      row.strategy = strategyOf(loop);
      row.matmuls = matmulsOf(loop);
      predictor.predict(loop, function.getName(), maxTokens.getInt(), row);
      if (auto layers = loop->getParentOfType<scf::ForOp>()) {
        row.repetitions = tripsOf(layers);
        row.loop = loops.try_emplace(layers, loops.size() + 1).first->second;
      }
      rows.push_back(std::move(row));
    });
  }
}

Status writeReport(const std::string &path, const program::Tables &tables,
                   const std::vector<program::Tensor> &tensors) {
  JsonWriter json;
  json.beginObject().member("model", tables.model.name).member("numerics", tables.model.numerics);
  json.key("tensors").beginArray();
  for (const program::Tensor &tensor : tensors)
    json.beginObject()
        .member("name", tensor.name)
        .member("storage", tensor.storage)
        .member("layout", tensor.layout)
        .member("bytes", tensor.sizeBytes)
        .member("treatment", tensor.treatment)
        .endObject();
  json.endArray().key("dispatches").beginArray();
  for (const program::DispatchReport &row : tables.dispatches)
    json.beginObject()
        .member("name", row.name)
        .member("isa", row.isa)
        .member("entry", row.entry)
        .member("strategy", row.strategy)
        .member("tiles", row.tiles)
        .member("matmuls", row.matmuls)
        .member("predicted_seconds", row.predictedSeconds)
        .member("seconds_per_position", row.secondsPerPosition)
        .member("bytes", row.numBytes)
        .member("operations", row.numOperations)
        .member("bound", row.bound)
        .member("footprint_bytes", row.footprintBytes)
        .member("level", row.level)
        .member("repetitions", row.repetitions)
        .member("loop", row.loop)
        .endObject();
  json.endArray().key("notes").beginArray();
  for (const program::Note &note : tables.notes)
    json.beginObject().member("topic", note.topic).member("text", note.text).endObject();
  json.endArray().endObject();
  std::string text = json.take() + "\n";
  std::FILE *file = std::fopen(path.c_str(), "w");
  bool isWritten = file && std::fwrite(text.data(), 1, text.size(), file) == text.size();
  if (file && std::fclose(file) != 0)
    isWritten = false;
  if (!isWritten)
    return unavailable("cannot write the report to \"" + path + "\"; give --report a path that can be written");
  return {};
}

}  // namespace girih::compiler
