// SPDX-License-Identifier: Apache-2.0
// The toy program's tables, file and reference answers.
#include "tests/runtime/program/toy_program.h"

#include "runtime/abi/step.h"

#include <algorithm>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iterator>

namespace girih::testing {
namespace {

std::string makeFolder() {
  std::string pattern = (std::filesystem::temp_directory_path() / "girih_test_XXXXXX").string();
  GIRIH_CHECK(::mkdtemp(pattern.data()) != nullptr);
  return pattern;
}

uint32_t mix(uint32_t value) {
  value ^= value >> 16;
  value *= 0x7feb352du;
  value ^= value >> 15;
  value *= 0x846ca68bu;
  return value ^ (value >> 16);
}

} // namespace

TemporaryFolder::TemporaryFolder() : path(makeFolder()) {}
TemporaryFolder::~TemporaryFolder() {
  std::error_code ignored;
  std::filesystem::remove_all(path, ignored);
}

std::vector<uint8_t> readWholeFile(const std::string &path) {
  std::ifstream file(path, std::ios::binary);
  GIRIH_CHECK(file.good());
  return {std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
}

program::Tables toyTables(const ToyOptions &options, const std::vector<uint8_t> &image,
                          const std::vector<uint8_t> &otherImage) {
  program::Tables tables;
  tables.compiler = "toy";
  tables.digest.assign(32, 7);
  program::Model &model = tables.model;
  model.name = "toy";
  model.architecture = "toy";
  model.numerics = "exact";
  model.kvType = "f32";
  model.vocabSize = options.vocabSize;
  model.numLayers = 1;
  model.maxPositions = options.maxPositions;
  model.maxTokensPerStep = options.maxTokensPerStep;
  model.maxLogitRows = options.maxLogitRows;
  model.kvBlockBytes = options.recompute ? 0 : 64;
  model.recompute = options.recompute;
  program::Executable executable;
  executable.backend = "cpu";
  executable.format = "elf-x86-64";
  executable.isa = "baseline";
  executable.image = image;
  executable.entries = {{"girih_step_toy", options.maxTokensPerStep, true},
                        {"girih_step_toy_small", 4, true}};
  if (options.givesHidden) {
    model.hiddenSize = kToyHiddenSize;
    executable.hiddenEntries = {{"girih_step_toy_hidden", options.maxTokensPerStep, true}};
  }
  executable.arenaBytes = 4096;
  executable.scratchBytesPerThread = 64;
  executable.layoutIds = {program::layoutIdOf("dense:f32"), program::layoutIdOf("toy:raw")};
  tables.executables.push_back(executable);
  tables.dispatches = options.dispatches;
  if (options.hasOtherVariant) {
    executable.isa = "other";
    executable.image = otherImage;
    executable.requiredFeatures = options.extraFeatures;
    executable.preference = 10;
    tables.executables.push_back(executable);
  }
  return tables;
}

void writeToyProgram(const std::string &path, const ToyOptions &options) {
  std::vector<uint8_t> image = readWholeFile(options.recompute ? TOY_RECOMPUTE_IMAGE : options.imagePath);
  std::vector<uint8_t> otherImage = readWholeFile(TOY_OTHER_IMAGE);
  auto writer = compiler::ProgramWriter::create(path);
  GIRIH_CHECK(writer.isOk());
  uint32_t words[2] = {options.vocabSize, options.salt};
  std::vector<uint8_t> bytes(sizeof words);
  std::memcpy(bytes.data(), words, sizeof words);
  program::Tensor tensor;
  tensor.name = "toy.weights";
  tensor.shape = {2};
  tensor.storage = "u32";
  tensor.layout = "toy:raw";
  tensor.offsetBytes = compiler::ProgramWriter::kNextOffset;
  GIRIH_CHECK((*writer)->addTensor(tensor, bytes).isOk());
  Status status = (*writer)->finish(toyTables(options, image, otherImage));
  GIRIH_CHECK(status.isOk());
}

std::shared_ptr<const program::Program> openToyProgram(const ToyOptions &options) {
  TemporaryFolder folder;
  writeToyProgram(folder.file("toy.girih"), options);
  // The mapping outlives the name.
  auto program = program::Program::open(folder.file("toy.girih"));
  GIRIH_CHECK(program.isOk());
  return std::move(program).value();
}

namespace {

uint32_t foldTokens(const std::vector<int32_t> &tokens, uint32_t salt) {
  uint32_t hash = salt;
  for (size_t position = 0; position < tokens.size(); ++position) {
    uint32_t stored =
        mix(static_cast<uint32_t>(tokens[position]) * 2654435761u + static_cast<uint32_t>(position) + 1u);
    hash = mix(hash * 31u + stored);
  }
  return hash;
}

} // namespace

std::vector<float> toyLogits(const std::vector<int32_t> &tokens, const ToyOptions &options) {
  uint32_t hash = foldTokens(tokens, options.salt);
  std::vector<float> logits(options.vocabSize);
  for (uint32_t id = 0; id < options.vocabSize; ++id)
    logits[id] = static_cast<float>(mix(hash + id) >> 8) * (16.0f / 16777216.0f) - 8.0f;
  return logits;
}

std::vector<float> toyHidden(const std::vector<int32_t> &tokens, const ToyOptions &options) {
  uint32_t hash = mix(foldTokens(tokens, options.salt));
  std::vector<float> hidden(kToyHiddenSize);
  for (uint32_t index = 0; index < kToyHiddenSize; ++index)
    hidden[index] = static_cast<float>(mix(hash + index) >> 8) * (2.0f / 16777216.0f) - 1.0f;
  return hidden;
}

std::vector<int32_t> toyGreedy(std::vector<int32_t> tokens, uint32_t numTokens, const ToyOptions &options) {
  size_t numPrompt = tokens.size();
  for (uint32_t step = 0; step < numTokens; ++step) {
    std::vector<float> logits = toyLogits(tokens, options);
    tokens.push_back(static_cast<int32_t>(std::max_element(logits.begin(), logits.end()) - logits.begin()));
  }
  return {tokens.begin() + static_cast<std::ptrdiff_t>(numPrompt), tokens.end()};
}

} // namespace girih::testing
