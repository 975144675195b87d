// SPDX-License-Identifier: Apache-2.0
// Executor: a program's variant loaded on a device, its KV pool and arena; runs one step at a time.
#pragma once

#include "runtime/abi/step.h"
#include "runtime/base/expected.h"
#include "runtime/hal/device.h"
#include "runtime/program/device_choice.h"
#include "runtime/program/program.h"

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace girih::program {

// What a step computes for the rows that are wanted of it.
enum class RowKind { Logits, Hidden };

// The rows of one step, gathered sequence by sequence. Allocates in the constructor only.
class StepBatch {
public:
  StepBatch(uint32_t maxTokens, uint32_t maxSequences, uint32_t maxLogitRows, uint32_t maxBlocksPerSequence);

  void clear(RowKind newKind = RowKind::Logits);
  // Adds consecutive tokens of one sequence, the first at `firstPosition`; `blocks` hold its positions from 0
  // up to the last of these (empty in a program without a cache). Logits are wanted for the last
  // `numLogitRows` of them. Requires: room for all.
  void addSequence(std::span<const int32_t> newTokens, uint32_t firstPosition,
                   std::span<const int32_t> blocks, uint32_t numLogitRows);
  // The same with the rows named: [firstRow, firstRow + numLogitRows) within newTokens.
  void addSequence(std::span<const int32_t> newTokens, uint32_t firstPosition,
                   std::span<const int32_t> blocks, uint32_t firstRow, uint32_t numLogitRows);

  RowKind kind() const { return rowKind; }
  uint32_t numTokens() const { return static_cast<uint32_t>(tokens.size()); }
  uint32_t numSequences() const { return static_cast<uint32_t>(contextLengths.size()); }
  uint32_t numLogitRows() const { return static_cast<uint32_t>(logitRows.size()); }
  uint32_t tokensLeft() const { return maxTokens - numTokens(); }
  uint32_t sequencesLeft() const { return maxSequences - numSequences(); }
  uint32_t logitRowsLeft() const { return maxLogitRows - numLogitRows(); }

private:
  friend class Executor;
  uint32_t maxTokens, maxSequences, maxLogitRows, tableStride;
  RowKind rowKind = RowKind::Logits;
  std::vector<int32_t> tokens, positions, tokenSequences, kvSlots; // [T]
  std::vector<int32_t> sequenceStarts;                             // [R + 1]
  std::vector<int32_t> contextLengths;                             // [R]
  std::vector<int32_t> blockTables;                                // [R, tableStride]
  std::vector<int32_t> logitRows;                                  // [Q]
};

// When the dispatches of one step ended. A step that has more of them than there is room for tells how many.
struct StepTimes {
  std::vector<int64_t> endNanoseconds; // since the step began; as long as there is room for
  uint64_t numDispatches = 0;          // of the last run
};

struct ExecutorOptions {
  std::vector<DeviceName> devices; // tried in this order; empty: the built-in ones that the file has code for, best first
  hal::DeviceOptions device;
  std::string isa; // "": the best granted variant
  uint32_t numKvBlocks = 0;
  uint32_t leastKvBlocks = 0; // where the device has smaller buffers; 0: numKvBlocks
  std::shared_ptr<hal::Device>
      openDevice; // of devices.front(), shared with another program's executor; null: a new one
};

// Thread-compatible: one thread runs steps, and that thread becomes member 0 of the team. From create on, the
// file's code is loaded and may run.
class Executor {
public:
  // Where a device cannot be had or has no room, the next one is taken and options.device.onNote told. Fails: as the last
  // device does.
  static Expected<std::unique_ptr<Executor>> create(std::shared_ptr<const Program> program,
                                                    const ExecutorOptions &options);

  // Runs the smallest entry that holds the batch. Fails: Internal for a batch beyond the program's bounds
  // (our bug: generated code would trust it), or as the device fails.
  // With `times`, also when each dispatch ended.
  Status run(const StepBatch &batch, StepTimes *times = nullptr);
  // Writes the pool's zeros. Until then its pages may all be one page of the system's, which costs nothing to read.
  Status fillKvPool();
  // The entry that run would call for so many tokens.
  const Entry &entryOf(uint32_t numTokens) const {
    return variant->entries[smallestEntry(variant->entries, numTokens)];
  }
  // [V] of the row that was wanted as number `rowIndex` in the last run; the caller may change it until the
  // next.
  std::span<float> logits(uint32_t rowIndex) {
    return {logitBytes + uint64_t{rowIndex} * vocabSize, vocabSize};
  }
  // Rows [firstRow, firstRow + numRows) at once.
  std::span<const float> logits(uint32_t firstRow, uint32_t numRows) const {
    return {logitBytes + uint64_t{firstRow} * vocabSize, uint64_t{numRows} * vocabSize};
  }

  // The same after a step of hidden rows: [numRows, hiddenSize].
  std::span<const float> hidden(uint32_t firstRow, uint32_t numRows) const {
    uint64_t hiddenSize = source->model().hiddenSize;
    return {logitBytes + firstRow * hiddenSize, numRows * hiddenSize};
  }

  const Program &program() const { return *source; }
  const Executable &executable() const { return *variant; }
  const DeviceName &deviceName() const { return name; }
  // Those that would have been tried next.
  const std::vector<DeviceName> &devicesLeft() const { return left; }
  // For another program on the same threads. One of them runs at a time.
  const std::shared_ptr<hal::Device> &openDevice() const { return own.device; }
  int64_t numThreads() const { return own.device->numThreads(); }
  // Of both devices, where two share the step.
  hal::Traffic traffic() const;
  // What they copied for one another so far.
  const Crossings &crossings() const { return crossed; }
  uint32_t numKvBlocks() const { return numBlocks; }
  // The bytes of one KV block, where the host can see the device's memory; else empty. Not while a step runs that reads
  // or writes this block.
  std::span<uint8_t> kvBlock(int32_t block) const;

private:
  // A device with what the program keeps on it.
  struct Side {
    std::shared_ptr<hal::Device> device;
    hal::Executable code;
    hal::Buffer weights, kvPool, arena, logitRows;
  };

  Executor() = default;
  static Expected<std::unique_ptr<Executor>> createOn(const DeviceName &device, std::shared_ptr<const Program> program,
                                                      const ExecutorOptions &options);
  // Loads the code and the weights, and makes the arena.
  Status openSide(Side &side, const DeviceName &device, const Executable &code, const std::vector<std::string> &symbols,
                  const hal::DeviceOptions &options);
  Status openRest(const hal::DeviceOptions &options);
  // The cache and the logits, which one side has.
  Status allocateResults(const ExecutorOptions &options);
  Status checkBatch(const StepBatch &batch) const;
  Status submit(Side &side, uint64_t entry, const girih_step_args &args, StepTimes *times);
  // Parts by turns, each after its copies.
  Status runShared(const Schedule &schedule, girih_step_args &args);
  Status runPart(const Part &part, const girih_step_args &args);
  Status copyRows(const Copy &copy, uint64_t numRows);
  static uint64_t smallestEntry(const std::vector<Entry> &entries, uint32_t numTokens);

  std::shared_ptr<const Program> source;
  const Executable *variant = nullptr;
  DeviceName name;
  std::vector<DeviceName> left;
  Side own, rest; // `rest` of a step that two devices share
  Side &sideOfCache() { return variant->restHasCache ? rest : own; }
  const Side &sideOfCache() const { return variant->restHasCache ? rest : own; }
  Side &sideOfLogits() { return variant->restHasLogits ? rest : own; }
  std::vector<uint8_t> staging; // of copies between devices whose memory the host cannot see
  Crossings crossed;
  std::vector<float> readBack; // only for a device whose memory the host cannot see
  float *logitBytes = nullptr;
  uint32_t numBlocks = 0;
  uint32_t vocabSize = 0;
};

} // namespace girih::program
