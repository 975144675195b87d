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
  if (executable.arenaBytes > kMaxWorkBytes)
    return outside("the arena size", executable.arenaBytes, 0, kMaxWorkBytes);
  if (executable.scratchBytesPerThread > kMaxWorkBytes)
    return outside("the scratch size of a thread", executable.scratchBytesPerThread, 0, kMaxWorkBytes);
  return checkLayouts(executable, tables.tensors);
}

} // namespace

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
