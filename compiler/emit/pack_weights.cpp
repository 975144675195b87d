// SPDX-License-Identifier: Apache-2.0
// packWeights: streams every weight of the plan from the checkpoint into the program file, in its layout.
#include "compiler/emit/pack_weights.h"

#include "runtime/weights/pack.h"

#include <algorithm>
#include <atomic>
#include <thread>

namespace girih::compiler {
namespace {

constexpr int64_t kPieceBytes = 8 << 20;  // packed at a time; large against a panel, small against a model

// Packs panels [first, last) with all threads, each taking the next few panels that nobody has.
void packPiece(const weights::PackPlan &plan, int64_t first, int64_t last, uint8_t *out, int32_t numThreads) {
  constexpr int64_t kPanelsAtOnce = 4;
  std::atomic<int64_t> next{first};
  auto work = [&] {
    for (int64_t panel; (panel = next.fetch_add(kPanelsAtOnce)) < last;)
      plan.packPanels(panel, std::min(panel + kPanelsAtOnce, last), out + (panel - first) * plan.panelBytes());
  };
  std::vector<std::thread> helpers;
  for (int32_t thread = 1; thread < numThreads; ++thread)
    helpers.emplace_back(work);
  work();
  for (std::thread &helper : helpers)
    helper.join();
}

Expected<weights::PackPlan> planOf(const weights::WeightStore &store, const PlannedWeight &weight) {
  std::vector<weights::RowMatrix> inputs;
  for (const std::string &name : weight.names) {
    GIRIH_ASSIGN(const weights::StoredTensor *tensor, store.require(name));
    inputs.push_back(weights::RowMatrix::of(*tensor));
  }
  GIRIH_ASSIGN(auto layout, weights::PackedLayout::parse(weight.layout));
  auto runs = weight.interleave > 0 ? weights::interleaveRows(inputs, weight.interleave)
                                    : weights::concatenateRows(inputs);
  GIRIH_ASSIGN(auto plan, weights::PackPlan::create(layout, std::move(inputs), std::move(runs)));
  if (uint64_t(plan.totalBytes()) != weight.sizeBytes)
    return internalError("packed size is " + std::to_string(plan.totalBytes()) + " bytes, the plan says " +
                         std::to_string(weight.sizeBytes));
  return plan;
}

std::string joined(const std::vector<std::string> &names) {
  std::string text;
  for (const std::string &name : names)
    text += (text.empty() ? "" : "+") + name;
  return text;
}

program::Tensor describe(const weights::WeightStore &store, const PlannedWeight &weight) {
  program::Tensor tensor;
  tensor.name = joined(weight.names);
  tensor.shape = weight.shape;
  tensor.storage = weights::formatRow(store.find(weight.names.front())->format).name;
  tensor.layout = weight.layout;
  tensor.offsetBytes = weight.offsetBytes;
  tensor.treatment = weight.layout == "dense:f32" && tensor.storage != "f32"
                         ? "dequantised to f32, lossless"
                         : "kept as stored, repacked, lossless";
  return tensor;
}

}  // namespace

Status packWeights(const weights::WeightStore &store, const std::vector<PlannedWeight> &plan, ProgramWriter &writer,
                   int32_t numThreads, const std::function<void(double)> &progress) {
  uint64_t totalBytes = 1, doneBytes = 0;
  for (const PlannedWeight &weight : plan)
    totalBytes += weight.sizeBytes;
  std::vector<uint8_t> piece;
  for (const PlannedWeight &weight : plan) {
    auto packing = planOf(store, weight);
    if (!packing.isOk())
      return std::move(packing).status().withContext("packing \"" + joined(weight.names) + "\"");
    auto offset = writer.beginTensor(describe(store, weight));
    if (!offset.isOk())
      return std::move(offset).status();
    int64_t panelsAtOnce = std::max<int64_t>(1, kPieceBytes / packing->panelBytes());
    for (int64_t first = 0; first < packing->numPanels(); first += panelsAtOnce) {
      int64_t last = std::min(first + panelsAtOnce, packing->numPanels());
      piece.resize((last - first) * packing->panelBytes());
      packPiece(*packing, first, last, piece.data(), numThreads);
      GIRIH_TRY(writer.append(piece));
    }
    GIRIH_TRY(writer.endTensor());
    doneBytes += weight.sizeBytes;
    if (progress)
      progress(double(doneBytes) / double(totalBytes));
  }
  return {};
}

}  // namespace girih::compiler
