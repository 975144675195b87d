// SPDX-License-Identifier: Apache-2.0
// Loads a variant, gives it memory, and calls it with a checked batch.
#include "runtime/program/executor.h"

#include "runtime/abi/step.h"
#include "runtime/hal/registry.h"
#include "runtime/program/variant.h"

#include <algorithm>

namespace girih::program {
namespace {

// A device that is not there or has no room leaves others to be tried; what is wrong with the file is wrong for all.
bool isOfDevice(const Status &status) {
  return status.code() == StatusCode::Unavailable || status.code() == StatusCode::ResourceExhausted;
}

uint64_t roundUp(uint64_t value, uint64_t multiple) { return (value + multiple - 1) / multiple * multiple; }

} // namespace

StepBatch::StepBatch(uint32_t maxTokens, uint32_t maxSequences, uint32_t maxLogitRows,
                     uint32_t maxBlocksPerSequence)
    : maxTokens(maxTokens), maxSequences(std::min(maxSequences, maxTokens)), maxLogitRows(maxLogitRows),
      tableStride(std::max(maxBlocksPerSequence, 1u)) {
  for (std::vector<int32_t> *array : {&tokens, &positions, &tokenSequences, &kvSlots})
    array->reserve(maxTokens);
  sequenceStarts.reserve(this->maxSequences + 1);
  contextLengths.reserve(this->maxSequences);
  blockTables.reserve(uint64_t{this->maxSequences} * tableStride);
  logitRows.reserve(maxLogitRows);
  clear();
}

void StepBatch::clear(RowKind newKind) {
  rowKind = newKind;
  for (std::vector<int32_t> *array :
       {&tokens, &positions, &tokenSequences, &kvSlots, &contextLengths, &blockTables, &logitRows})
    array->clear();
  sequenceStarts.assign(1, 0);
}

void StepBatch::addSequence(std::span<const int32_t> newTokens, uint32_t firstPosition,
                            std::span<const int32_t> blocks, uint32_t numLogitRows) {
  addSequence(newTokens, firstPosition, blocks, static_cast<uint32_t>(newTokens.size()) - numLogitRows,
              numLogitRows);
}

void StepBatch::addSequence(std::span<const int32_t> newTokens, uint32_t firstPosition,
                            std::span<const int32_t> blocks, uint32_t firstRow, uint32_t numRows) {
  uint32_t numNew = static_cast<uint32_t>(newTokens.size());
  GIRIH_CHECK(numNew > 0 && numNew <= tokensLeft() && sequencesLeft() > 0 && numRows <= logitRowsLeft());
  GIRIH_CHECK(firstRow + numRows <= numNew && blocks.size() <= tableStride);
  int32_t sequence = static_cast<int32_t>(numSequences());
  for (uint32_t row = 0; row < numRows; ++row)
    logitRows.push_back(static_cast<int32_t>(numTokens() + firstRow + row));
  for (uint32_t index = 0; index < numNew; ++index) {
    uint32_t position = firstPosition + index;
    uint32_t blockIndex = position / GIRIH_KV_BLOCK_TOKENS;
    int32_t slot = 0;
    if (!blocks.empty()) {
      GIRIH_CHECK(blockIndex < blocks.size());
      slot =
          blocks[blockIndex] * GIRIH_KV_BLOCK_TOKENS + static_cast<int32_t>(position % GIRIH_KV_BLOCK_TOKENS);
    }
    tokens.push_back(newTokens[index]);
    positions.push_back(static_cast<int32_t>(position));
    tokenSequences.push_back(sequence);
    kvSlots.push_back(slot);
  }
  sequenceStarts.push_back(static_cast<int32_t>(numTokens()));
  contextLengths.push_back(static_cast<int32_t>(firstPosition + numNew));
  blockTables.insert(blockTables.end(), blocks.begin(), blocks.end());
  blockTables.resize(uint64_t{numSequences()} * tableStride, 0);
}

Expected<std::unique_ptr<Executor>> Executor::create(std::shared_ptr<const Program> program,
                                                     const ExecutorOptions &options) {
  DeviceChoice choice{options.devices, {}};
  if (choice.devices.empty()) {
    GIRIH_ASSIGN(choice, chooseDevices(program->tables(), hal::builtInBackends(), options.isa));
  }
  auto tell = [&](const std::string &note) {
    if (options.device.onNote)
      options.device.onNote(note);
  };
  for (const std::string &reason : choice.absent)
    tell(reason + "; running on " + describe(choice.devices.front()));
  for (size_t index = 0;; ++index) {
    auto executor = createOn(choice.devices[index], program, options);
    if (executor.isOk())
      (*executor)->left.assign(choice.devices.begin() + static_cast<std::ptrdiff_t>(index) + 1, choice.devices.end());
    if (executor.isOk() || index + 1 == choice.devices.size() || !isOfDevice(executor.status()))
      return executor;
    tell(describe(choice.devices[index]) + ": " + std::string(executor.status().message()) + "; running on " +
         describe(choice.devices[index + 1]));
  }
}

Status Executor::openSide(Side &side, const DeviceName &device, const Executable &executable,
                          const std::vector<std::string> &symbols, const hal::DeviceOptions &options) {
  if (!side.device) {
    GIRIH_ASSIGN(side.device, hal::Device::open(*device.backend, device.index, options));
  }
  auto loaded = hal::Executable::load(side.device, executable.format, executable.image, symbols);
  if (!loaded.isOk())
    return std::move(loaded).status().withContext("loading the code of \"" + source->path() + "\"");
  side.code = std::move(*loaded);
  GIRIH_ASSIGN(side.weights, hal::Buffer::import(side.device, source->weights()));
  std::vector<girih_buffer_view> parts;
  for (const Tensor &tensor : source->tables().tensors)
    parts.push_back({side.weights.view().buffer, tensor.offsetBytes, tensor.sizeBytes});
  GIRIH_TRY(hal::Buffer::place(*side.device, parts));
  uint64_t numThreads = static_cast<uint64_t>(side.device->numThreads());
  GIRIH_ASSIGN(side.arena, hal::Buffer::allocate(side.device, executable.arenaBytes +
                                                                  numThreads * executable.scratchBytesPerThread));
  return {};
}

Status Executor::openRest(const hal::DeviceOptions &options) {
  auto chosen = chooseRest(variant->rests, hal::builtInBackends());
  if (!chosen.isOk())
    return std::move(chosen).status().withContext(std::string(name.backend->name) + " runs a part of the step");
  const auto &[device, executable] = *chosen;
  GIRIH_TRY(openSide(rest, device, *executable, executable->symbols, options));
  if (!own.arena.mapped() && !rest.arena.mapped())
    staging.resize(variant->slotBytes);
  return {};
}

Status Executor::allocateResults(const ExecutorOptions &options) {
  // Every factor was bounded when the tables were checked, so no product wraps.
  const Model &model = source->model();
  uint64_t rows = roundUp(model.maxLogitRows, GIRIH_ROW_PADDING);
  numBlocks = model.recompute ? 0 : options.numKvBlocks;
  uint64_t most = sideOfCache().device->facts().maxBufferBytes;
  if (most && options.leastKvBlocks && numBlocks * model.kvBlockBytes > most)
    numBlocks = std::max(options.leastKvBlocks, static_cast<uint32_t>(most / model.kvBlockBytes));
  uint64_t numRowElements = rows * std::max(model.vocabSize, model.hiddenSize);
  for (Side *side : {&own, &rest}) {
    if (!side->device)
      continue;
    bool hasCache = side == &sideOfCache(), hasLogits = side == &sideOfLogits();
    GIRIH_ASSIGN(side->kvPool, hal::Buffer::allocate(side->device, hasCache ? numBlocks * model.kvBlockBytes : 0));
    GIRIH_ASSIGN(side->logitRows, hal::Buffer::allocate(side->device, hasLogits ? numRowElements * sizeof(float) : 0));
  }
  vocabSize = model.vocabSize;
  logitBytes = static_cast<float *>(sideOfLogits().logitRows.mapped());
  if (!logitBytes) {
    readBack.resize(numRowElements);
    logitBytes = readBack.data();
  }
  return {};
}

Expected<std::unique_ptr<Executor>> Executor::createOn(const DeviceName &name, std::shared_ptr<const Program> program,
                                                       const ExecutorOptions &options) {
  std::unique_ptr<Executor> executor(new Executor);
  executor->name = name;
  executor->source = std::move(program);
  GIRIH_ASSIGN(hal::DeviceFacts facts, hal::describeDevice(*name.backend, name.index));
  Expected<const Executable *> chosen =
      selectVariant(executor->source->tables(), name.backend->name, facts.features, options.isa);
  if (!chosen.isOk())
    return std::move(chosen).status().withContext("\"" + executor->source->path() + "\"");
  executor->variant = *chosen;
  const Executable &variant = **chosen;
  bool isShared = !variant.schedules.empty();
  std::vector<std::string> symbols = variant.symbols;
  if (!isShared)
    for (const std::vector<Entry> *entries : {&variant.entries, &variant.hiddenEntries})
      for (const Entry &entry : *entries)
        symbols.push_back(entry.symbol);
  executor->own.device = options.openDevice;
  GIRIH_TRY(executor->openSide(executor->own, name, variant, symbols, options.device));
  if (isShared)
    GIRIH_TRY(executor->openRest(options.device));
  GIRIH_TRY(executor->allocateResults(options));
  return executor;
}

uint64_t Executor::smallestEntry(const std::vector<Entry> &entries, uint32_t numTokens) {
  uint64_t best = 0;
  uint32_t bestTokens = 0;
  for (uint64_t index = 0; index < entries.size(); ++index) {
    uint32_t maxTokens = entries[index].maxTokens;
    if (maxTokens >= numTokens && (bestTokens == 0 || maxTokens < bestTokens)) {
      best = index;
      bestTokens = maxTokens;
    }
  }
  return best;
}

Status Executor::checkBatch(const StepBatch &batch) const {
  const Model &model = source->model();
  if (batch.numTokens() == 0 || batch.numTokens() > model.maxTokensPerStep ||
      batch.numLogitRows() > model.maxLogitRows || (model.recompute && batch.numSequences() != 1))
    return internalError("a step of " + std::to_string(batch.numTokens()) + " tokens, " +
                         std::to_string(batch.numSequences()) + " sequences and " +
                         std::to_string(batch.numLogitRows()) + " logit rows is beyond the program's " +
                         std::to_string(model.maxTokensPerStep) + " tokens and " +
                         std::to_string(model.maxLogitRows) + " rows; please report this");
  if (batch.kind() == RowKind::Hidden && variant->hiddenEntries.empty())
    return internalError("a step asks for hidden states, which the program does not give; please report this");
  bool isSound = true;
  for (int32_t token : batch.tokens)
    isSound &= token >= 0 && static_cast<uint32_t>(token) < model.vocabSize;
  for (int32_t position : batch.positions)
    isSound &= position >= 0 && static_cast<uint32_t>(position) < model.maxPositions;
  for (int32_t block : batch.blockTables)
    isSound &= block >= 0 && static_cast<uint32_t>(block) < std::max(numBlocks, 1u);
  return isSound ? Status()
                 : internalError("a step holds a token, position or block out of range; please report this");
}

Status Executor::fillKvPool() {
  std::vector<uint8_t> zeros(source->model().kvBlockBytes);
  for (uint64_t block = 0; block < numBlocks; ++block)
    GIRIH_TRY(sideOfCache().kvPool.write(block * zeros.size(), zeros));
  return {};
}

std::span<uint8_t> Executor::kvBlock(int32_t block) const {
  auto *pool = static_cast<uint8_t *>(sideOfCache().kvPool.mapped());
  uint64_t blockBytes = source->model().kvBlockBytes;
  if (!pool || block < 0 || static_cast<uint32_t>(block) >= numBlocks)
    return {};
  return {pool + static_cast<uint64_t>(block) * blockBytes, blockBytes};
}

Status Executor::run(const StepBatch &batch, StepTimes *times) {
  GIRIH_TRY(checkBatch(batch));
  girih_step_args args = {};
  args.struct_size = sizeof args;
  args.num_tokens = batch.numTokens();
  args.num_sequences = batch.numSequences();
  args.num_logit_rows = batch.numLogitRows();
  args.tokens = batch.tokens.data();
  args.positions = batch.positions.data();
  args.token_sequences = batch.tokenSequences.data();
  args.kv_slots = batch.kvSlots.data();
  args.sequence_starts = batch.sequenceStarts.data();
  args.context_lengths = batch.contextLengths.data();
  args.block_tables = batch.blockTables.data();
  args.block_table_stride = batch.tableStride;
  args.logit_rows = batch.logitRows.data();
  bool isHidden = batch.kind() == RowKind::Hidden;
  // Entries are numbered as they were loaded.
  uint64_t entry = isHidden ? variant->entries.size() + smallestEntry(variant->hiddenEntries, batch.numTokens())
                            : smallestEntry(variant->entries, batch.numTokens());
  GIRIH_TRY(variant->schedules.empty() ? submit(own, entry, args, times) : runShared(variant->schedules[entry], args));
  if (!readBack.empty()) {
    uint64_t rowSize = isHidden ? source->model().hiddenSize : vocabSize;
    uint64_t numBytes = batch.numLogitRows() * rowSize * sizeof(float);
    return sideOfLogits().logitRows.read(0, {reinterpret_cast<uint8_t *>(readBack.data()), numBytes});
  }
  return {};
}

Status Executor::submit(Side &side, uint64_t entry, const girih_step_args &args, StepTimes *times) {
  girih_buffer_view bindings[GIRIH_STEP_NUM_BINDINGS] = {};
  bindings[GIRIH_STEP_BINDING_WEIGHTS] = side.weights.view();
  bindings[GIRIH_STEP_BINDING_KV_POOL] = side.kvPool.view();
  bindings[GIRIH_STEP_BINDING_ARENA] = side.arena.view();
  bindings[GIRIH_STEP_BINDING_LOGITS] = side.logitRows.view();
  girih_submission submission = {sizeof submission, nullptr,  entry, &args,
                                 sizeof args,       bindings, GIRIH_STEP_NUM_BINDINGS, nullptr};
  girih_step_times meetings = {sizeof meetings, nullptr, 0, 0};
  if (times) {
    meetings.nanoseconds = times->endNanoseconds.data();
    meetings.capacity = times->endNanoseconds.size();
    submission.times = &meetings;
  }
  GIRIH_TRY(side.code.run(submission));
  if (times)
    times->numDispatches = meetings.num_meetings;
  return {};
}

Status Executor::runShared(const Schedule &schedule, girih_step_args &args) {
  for (size_t begin = 0, end = 0; begin < schedule.size(); begin = end) {
    uint32_t loop = schedule[begin].loop;
    end = begin + 1;
    while (loop && end < schedule.size() && schedule[end].loop == loop)
      ++end;
    for (uint32_t iteration = 0; iteration < schedule[begin].repetitions; ++iteration) {
      args.iteration = iteration;
      for (size_t index = begin; index < end; ++index)
        GIRIH_TRY(runPart(schedule[index], args));
    }
  }
  return {};
}

Status Executor::runPart(const Part &part, const girih_step_args &args) {
  for (const Copy &copy : part.copies)
    GIRIH_TRY(copyRows(copy, rowsOf(copy, static_cast<uint64_t>(args.num_tokens), static_cast<uint64_t>(args.num_logit_rows))));
  if (part.symbol < 0)
    return {};
  return submit(part.isOnRest ? rest : own, static_cast<uint64_t>(part.symbol), args, nullptr);
}

Status Executor::copyRows(const Copy &copy, uint64_t numRows) {
  uint64_t numBytes = copy.rowBytes * numRows;
  hal::Buffer &from = (copy.isFromRest ? rest : own).arena, &to = (copy.isToRest ? rest : own).arena;
  if (copy.isFromRest == copy.isToRest)
    return from.copy(copy.toOffset, copy.fromOffset, numBytes);
  ++crossed.numCopies;
  crossed.numBytes += numBytes;
  auto *source = static_cast<uint8_t *>(from.mapped()), *target = static_cast<uint8_t *>(to.mapped());
  if (target)
    return from.read(copy.fromOffset, {target + copy.toOffset, numBytes});
  if (source)
    return to.write(copy.toOffset, {source + copy.fromOffset, numBytes});
  GIRIH_TRY(from.read(copy.fromOffset, {staging.data(), numBytes}));
  return to.write(copy.toOffset, {staging.data(), numBytes});
}

hal::Traffic Executor::traffic() const {
  hal::Traffic sum = own.device->traffic();
  if (rest.device) {
    sum.bytesRead += rest.device->traffic().bytesRead;
    sum.bytesWritten += rest.device->traffic().bytesWritten;
  }
  return sum;
}

} // namespace girih::program
