// SPDX-License-Identifier: Apache-2.0
// packWeights: streams every weight of the plan from the checkpoint into the program file, in its layout.
#include "compiler/emit/pack_weights.h"

#include "runtime/base/mapped_file.h"
#include "runtime/weights/pack.h"

#include <algorithm>
#include <atomic>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <thread>

namespace girih::compiler {
namespace {

constexpr int64_t kPieceBytes = 8 << 20;  // packed at a time; large against a panel, small against a model

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
  const weights::StoredTensor &stored = *store.find(weight.names.front());
  tensor.storage = weights::formatRow(stored.format).name;
  tensor.layout = weight.layout;
  tensor.offsetBytes = weight.offsetBytes;
  tensor.treatment = weight.layout == "dense:f32" && tensor.storage != "f32"
                         ? "dequantised to f32, lossless"
                         : "kept as stored, repacked, lossless";
  if (stored.quantizedFrom)
    tensor.treatment = "quantised from " + std::string(weights::formatRow(*stored.quantizedFrom).name) + ", as asked";
  return tensor;
}

// Panels of one weight that are packed by one thread and written at once.
struct Piece {
  const PlannedWeight *weight;
  const weights::PackPlan *packing;
  int64_t firstPanel, lastPanel;
  bool isFirst() const { return firstPanel == 0; }
  bool isLast() const { return lastPanel == packing->numPanels(); }
};

std::vector<Piece> piecesOf(const PlannedWeight &weight, const weights::PackPlan &packing) {
  std::vector<Piece> pieces;
  bool isEmpty = packing.panelBytes() == 0;  // depth 0: a file may then claim 2^62 rows
  int64_t panelsAtOnce = isEmpty ? packing.numPanels() : std::max<int64_t>(1, kPieceBytes / packing.panelBytes());
  int64_t first = 0;
  do {
    int64_t last = std::min(first + panelsAtOnce, packing.numPanels());
    pieces.push_back({&weight, &packing, first, last});
    first = last;
  } while (first < packing.numPanels());
  return pieces;
}

// Threads that each pack the next piece and then wait for their turn to write it: while one writes the others pack, and
// the file is the same for any number of them.
class PieceQueue {
public:
  PieceQueue(const weights::WeightStore &store, const std::vector<Piece> &pieces, ProgramWriter &writer,
             const std::function<void(double)> &progress)
      : store(store), pieces(pieces), writer(writer), progress(progress) {}

  Status run(int32_t numThreads) {
    std::vector<std::thread> helpers;
    for (int32_t thread = 1; thread < numThreads && size_t(thread) < pieces.size(); ++thread)
      helpers.emplace_back([this] { work(); });
    work();
    for (std::thread &helper : helpers)
      helper.join();
    return std::move(failure);
  }

private:
  void work() {
    std::vector<uint8_t> packed;
    for (size_t index; (index = nextToPack.fetch_add(1)) < pieces.size();) {
      pack(pieces[index], packed);
      std::unique_lock lock(mutex);
      turn.wait(lock, [&] { return nextToWrite == index; });
      if (failure.isOk())
        failure = write(pieces[index], packed);
      if (!failure.isOk())
        nextToPack = pieces.size();
      if (progress)
        progress(double(index + 1) / double(pieces.size()));
      ++nextToWrite;
      turn.notify_all();
    }
  }

  // What was read is given back at once, so that the checkpoint is never resident as a whole.
  static void pack(const Piece &piece, std::vector<uint8_t> &packed) {
    auto sources = piece.packing->sourcesOf(piece.firstPanel, piece.lastPanel);
    for (std::span<const uint8_t> source : sources)
      MappedFile::willRead(source);
    packed.resize(size_t((piece.lastPanel - piece.firstPanel) * piece.packing->panelBytes()));
    piece.packing->packPanels(piece.firstPanel, piece.lastPanel, packed.data());
    for (std::span<const uint8_t> source : sources)
      MappedFile::hasRead(source);
  }

  Status write(const Piece &piece, const std::vector<uint8_t> &packed) {
    if (piece.isFirst()) {
      auto offset = writer.beginTensor(describe(store, *piece.weight));
      if (!offset.isOk())
        return std::move(offset).status();
    }
    GIRIH_TRY(writer.append(packed));
    return piece.isLast() ? writer.endTensor() : Status();
  }

  const weights::WeightStore &store;
  const std::vector<Piece> &pieces;
  ProgramWriter &writer;
  const std::function<void(double)> &progress;
  std::atomic<size_t> nextToPack{0};
  std::mutex mutex;
  std::condition_variable turn;
  size_t nextToWrite = 0;  // under the mutex, as all that follows
  Status failure;
};

}  // namespace

Status packWeights(const weights::WeightStore &store, const std::vector<PlannedWeight> &plan, ProgramWriter &writer,
                   int32_t numThreads, const std::function<void(double)> &progress) {
  std::deque<weights::PackPlan> packings;
  std::vector<Piece> pieces;
  for (const PlannedWeight &weight : plan) {
    auto packing = planOf(store, weight);
    if (!packing.isOk())
      return std::move(packing).status().withContext("packing \"" + joined(weight.names) + "\"");
    packings.push_back(std::move(*packing));
    for (const Piece &piece : piecesOf(weight, packings.back()))
      pieces.push_back(piece);
  }
  return PieceQueue(store, pieces, writer, progress).run(numThreads);
}

}  // namespace girih::compiler
