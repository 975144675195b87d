// SPDX-License-Identifier: Apache-2.0
// Checks the meaning of decoded tables: ranges of the model, entries and layouts of every executable.
#include "runtime/program/check_tables.h"

#include "runtime/abi/step.h"

#include <algorithm>
#include <cstdio>

namespace girih::program {
namespace {

// Far above any real program, and low enough that products of two of them stay within 64 bits.
constexpr uint64_t kMaxIds = uint64_t{1} << 24;
constexpr uint64_t kMaxPositions = uint64_t{1} << 28;
constexpr uint64_t kMaxTokensPerStep = uint64_t{1} << 20;
constexpr uint64_t kMaxWorkBytes = uint64_t{1} << 40;
constexpr uint32_t kMaxRepetitions = 1 << 16;

Status outside(const std::string &what, uint64_t seen, uint64_t least, uint64_t most) {
  return dataLoss(what + " is " + std::to_string(seen) + ", it must be from " + std::to_string(least) +
                  " to " + std::to_string(most) + "; compile the file again");
}

struct Range {
  const char *what;
  uint64_t seen, least, most;
};

Status checkModel(const Model &model) {
  const Range ranges[] = {
      {"the vocabulary size", model.vocabSize, 1, kMaxIds},
      {"the most positions of a sequence", model.maxPositions, 1, kMaxPositions},
      {"the most tokens of a step", model.maxTokensPerStep, 1, kMaxTokensPerStep},
      {"the most logit rows of a step", model.maxLogitRows, 1, model.maxTokensPerStep},
      {"the size of a hidden state", model.hiddenSize, 0, model.recompute ? 0 : kMaxIds},
      {"the size of a KV block", model.kvBlockBytes, model.recompute ? 0u : 1u, kMaxWorkBytes},
  };
  for (const Range &range : ranges)
    if (range.seen < range.least || range.seen > range.most)
      return outside(range.what, range.seen, range.least, range.most);
  if (model.kvBlockBytes % kTensorAlignmentBytes != 0)
    return dataLoss("the size of a KV block is " + std::to_string(model.kvBlockBytes) +
                    " bytes, it must be a multiple of " + std::to_string(kTensorAlignmentBytes) +
                    "; compile the file again");
  const std::string known[] = {"exact", "invariant", "fast"};
  if (std::find(std::begin(known), std::end(known), model.numerics) == std::end(known))
    return unimplemented(
        "the numerics are \"" + model.numerics +
        "\"; this build knows exact, invariant and fast; compile the file with this version");
  return {};
}

std::string hexadecimal(uint64_t id) {
  char digits[24];
  std::snprintf(digits, sizeof digits, "0x%016llx", static_cast<unsigned long long>(id));
  return digits;
}

Status checkLayouts(const Executable &executable, const std::vector<Tensor> &tensors) {
  std::vector<uint64_t> known = executable.layoutIds;
  std::sort(known.begin(), known.end());
  for (const Tensor &tensor : tensors)
    if (!std::binary_search(known.begin(), known.end(), tensor.layoutId))
      return unimplemented("tensor \"" + tensor.name + "\" is packed as \"" + tensor.layout +
                           "\", which the code does not read; compile the file again");
  return {};
}

// A step of any size that the program promises must find one that holds it.
Status checkEntries(const std::vector<Entry> &entries, const Model &model) {
  uint32_t mostTokens = 0;
  for (const Entry &entry : entries) {
    if (entry.symbol.empty() || entry.maxTokens == 0)
      return dataLoss("entry \"" + entry.symbol + "\" holds " + std::to_string(entry.maxTokens) +
                      " tokens; an entry has a name and holds at least 1; compile the file again");
    mostTokens = std::max(mostTokens, entry.maxTokens);
  }
  if (mostTokens < model.maxTokensPerStep)
    return dataLoss("the largest entry holds " + std::to_string(mostTokens) +
                    " tokens, the program promises " + std::to_string(model.maxTokensPerStep) +
                    "; compile the file again");
  return {};
}

Status checkWork(const Executable &executable) {
  if (executable.arenaBytes > kMaxWorkBytes)
    return outside("the arena size", executable.arenaBytes, 0, kMaxWorkBytes);
  if (executable.scratchBytesPerThread > kMaxWorkBytes)
    return outside("the scratch size of a thread", executable.scratchBytesPerThread, 0, kMaxWorkBytes);
  return {};
}

// The range that `offset` begins lies in the slots, whatever the entry's step has.
bool isInSlots(const Copy &copy, uint64_t offset, uint64_t slotBytes, uint64_t maxTokens) {
  uint64_t rows = rowsOf(copy, maxTokens, maxTokens);
  return copy.rowBytes <= slotBytes / rows && offset <= slotBytes - copy.rowBytes * rows;
}

Status checkPart(const Part &part, const Part *before, const Executable &executable, const Entry &entry) {
  const std::vector<std::string> &symbols = part.isOnRest ? executable.rests.front().symbols : executable.symbols;
  if (part.symbol < -1 || (part.symbol >= 0 && static_cast<size_t>(part.symbol) >= symbols.size()))
    return dataLoss("a part is symbol " + std::to_string(part.symbol) + " of " + std::to_string(symbols.size()) +
                    "; compile the file again");
  bool isAlike = part.loop ? !before || before->loop != part.loop || before->repetitions == part.repetitions : part.repetitions == 1;
  if (!isAlike || part.repetitions == 0 || part.repetitions > kMaxRepetitions)
    return dataLoss("a part repeats " + std::to_string(part.repetitions) +
                    " times; parts of a loop repeat equally often, others run once; compile the file again");
  for (const Copy &copy : part.copies)
    if (copy.rows > Copy::Rows::LogitRows || !isInSlots(copy, copy.fromOffset, executable.slotBytes, entry.maxTokens) ||
        !isInSlots(copy, copy.toOffset, executable.slotBytes, entry.maxTokens))
      return dataLoss("a copy of " + std::to_string(copy.rowBytes) + " bytes a row from " + std::to_string(copy.fromOffset) +
                      " to " + std::to_string(copy.toOffset) + " leaves the " + std::to_string(executable.slotBytes) +
                      " bytes of slots; compile the file again");
  return {};
}

// A step that two backends share: the parts that they run by turns.
Status checkShared(const Executable &executable, const Tables &tables) {
  size_t numEntries = executable.entries.size() + executable.hiddenEntries.size();
  if (executable.schedules.size() != numEntries || executable.rests.empty())
    return dataLoss(std::to_string(executable.schedules.size()) + " schedules are for " + std::to_string(numEntries) +
                    " entries, with " + std::to_string(executable.rests.size()) +
                    " variants for the rest; an entry has one each, and there is a variant; compile the file again");
  uint64_t least = executable.arenaBytes;
  for (const Executable &rest : executable.rests) {
    GIRIH_TRY(checkWork(rest));
    GIRIH_TRY(checkLayouts(rest, tables.tensors));
    least = std::min(least, rest.arenaBytes);
    if (rest.symbols != executable.rests.front().symbols || rest.backend != executable.rests.front().backend)
      return dataLoss("variants of the rest are of several backends or have other parts; compile the file again");
  }
  if (executable.slotBytes > least)
    return dataLoss("the slots have " + std::to_string(executable.slotBytes) + " bytes, an arena has " + std::to_string(least) +
                    "; compile the file again");
  for (size_t number = 0; number < numEntries; ++number) {
    const Entry &entry = number < executable.entries.size() ? executable.entries[number]
                                                            : executable.hiddenEntries[number - executable.entries.size()];
    const Schedule &schedule = executable.schedules[number];
    for (size_t index = 0; index < schedule.size(); ++index)
      GIRIH_TRY(checkPart(schedule[index], index ? &schedule[index - 1] : nullptr, executable, entry)
                    .withContext("entry \"" + entry.symbol + "\""));
  }
  return {};
}

Status checkExecutable(const Executable &executable, const Tables &tables) {
  if (executable.entries.empty())
    return dataLoss("there is no entry; compile the file again");
  GIRIH_TRY(checkEntries(executable.entries, tables.model));
  if (executable.hiddenEntries.empty() != (tables.model.hiddenSize == 0))
    return dataLoss(std::to_string(executable.hiddenEntries.size()) + " entries give hidden states of " +
                    std::to_string(tables.model.hiddenSize) +
                    " numbers; a program has both or neither; compile the file again");
  if (!executable.hiddenEntries.empty())
    GIRIH_TRY(checkEntries(executable.hiddenEntries, tables.model).withContext("hidden states"));
  GIRIH_TRY(checkWork(executable));
  if (!executable.schedules.empty() || !executable.rests.empty())
    GIRIH_TRY(checkShared(executable, tables));
  return checkLayouts(executable, tables.tensors);
}

} // namespace

Crossings crossingsOf(const Schedule &schedule, uint64_t numTokens, uint64_t numLogitRows) {
  Crossings sum;
  for (const Part &part : schedule)
    for (const Copy &copy : part.copies)
      if (copy.isFromRest != copy.isToRest) {
        sum.numCopies += part.repetitions;
        sum.numBytes += part.repetitions * copy.rowBytes * rowsOf(copy, numTokens, numLogitRows);
      }
  return sum;
}

Status checkTables(const Tables &tables) {
  if (tables.stepAbiVersion != GIRIH_STEP_ABI_VERSION)
    return unimplemented("the code was made for step ABI " + std::to_string(tables.stepAbiVersion) +
                         ", this build calls " + std::to_string(GIRIH_STEP_ABI_VERSION) +
                         "; compile the file with this version");
  GIRIH_TRY(checkModel(tables.model));
  for (const Tensor &tensor : tables.tensors)
    if (tensor.layoutId != layoutIdOf(tensor.layout))
      return unimplemented("tensor \"" + tensor.name + "\" states layout \"" + tensor.layout + "\" as " +
                           hexadecimal(tensor.layoutId) + ", here that layout is " +
                           hexadecimal(layoutIdOf(tensor.layout)) + "; compile the file with this version");
  if (tables.executables.empty())
    return dataLoss("there is no executable; compile the file again");
  for (const Executable &executable : tables.executables)
    GIRIH_TRY(checkExecutable(executable, tables)
                  .withContext("executable " + executable.backend + ":" + executable.isa));
  for (int32_t token : tables.tokenizer.eosTokens)
    if (token < 0 || static_cast<uint32_t>(token) >= tables.model.vocabSize)
      return dataLoss("end token " + std::to_string(token) + " is no id of a vocabulary of " +
                      std::to_string(tables.model.vocabSize) + "; compile the file again");
  return {};
}

} // namespace girih::program
