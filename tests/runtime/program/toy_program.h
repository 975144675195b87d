// SPDX-License-Identifier: Apache-2.0
// Writes the toy model as a .girih file, for tests of everything above the program.
#pragma once

#include "compiler/emit/program_writer.h"
#include "runtime/program/program.h"

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace girih::testing {

struct ToyOptions {
  uint32_t vocabSize = 97;
  uint32_t salt = 1;
  uint32_t maxPositions = 256;
  uint32_t maxTokensPerStep = 32;
  uint32_t maxLogitRows = 16;
  bool recompute = false;
  bool givesHidden = false;
  std::string imagePath = TOY_IMAGE;      // another shared object instead of the toy
  std::vector<std::string> extraFeatures; // required of the second variant, "other"
  bool hasOtherVariant = false;           // of higher preference, answers differently
  std::vector<program::DispatchReport> dispatches;
};

// A folder of its own for each object, removed with everything in it.
class TemporaryFolder {
public:
  TemporaryFolder();
  ~TemporaryFolder();
  std::string file(const std::string &name) const { return path + "/" + name; }
  const std::string path;
};

std::vector<uint8_t> readWholeFile(const std::string &path);
// The tables of the toy program, images in place; the caller may change them before writing.
program::Tables toyTables(const ToyOptions &options, const std::vector<uint8_t> &image,
                          const std::vector<uint8_t> &otherImage);
// Writes the file; aborts the test when that fails.
void writeToyProgram(const std::string &path, const ToyOptions &options = {});
std::shared_ptr<const program::Program> openToyProgram(const ToyOptions &options = {});
// What the toy model answers, by a few lines of plain C++: logits [V] after `tokens`.
std::vector<float> toyLogits(const std::vector<int32_t> &tokens, const ToyOptions &options = {});
// And its hidden state [kToyHiddenSize] after them.
inline constexpr uint32_t kToyHiddenSize = 24;
std::vector<float> toyHidden(const std::vector<int32_t> &tokens, const ToyOptions &options = {});
// Its greedy continuation.
std::vector<int32_t> toyGreedy(std::vector<int32_t> tokens, uint32_t numTokens,
                               const ToyOptions &options = {});

} // namespace girih::testing
