// SPDX-License-Identifier: Apache-2.0
// Bounds: usual values for what was not given, and refusals of what cannot be.
#include "runtime/engine/bounds.h"

#include "runtime/abi/step.h"
#include "runtime/kv/block_cache.h"

#include <algorithm>

namespace girih::engine {
namespace {

constexpr uint64_t kDefaultKvBytes = uint64_t{1} << 30;
constexpr uint32_t kDefaultFullSequences = 4;
constexpr uint64_t kMaxKvBlocks = uint64_t{1} << 26; // a slot, block * 16 + offset, must fit 31 bits

Status rejectOption(const char *name, uint64_t value, const std::string &rule) {
  return invalidArgument(std::string(name) + " is " + std::to_string(value) + "; " + rule);
}

} // namespace

Expected<Bounds> resolveOptions(const program::Model &model, const EngineOptions &options) {
  Bounds bounds;
  bounds.maxTokensPerStep = options.maxTokensPerStep ? options.maxTokensPerStep : model.maxTokensPerStep;
  if (bounds.maxTokensPerStep > model.maxTokensPerStep)
    return rejectOption("max tokens per step", bounds.maxTokensPerStep,
                        "the program takes at most " + std::to_string(model.maxTokensPerStep));
  if (options.maxSequences == 0)
    return rejectOption("max sequences", 0, "it must be at least 1");
  // Fewer sequences than tokens: a prompt then always finds room beside those that generate.
  bounds.maxSequences = std::min(options.maxSequences, bounds.maxTokensPerStep);
  uint32_t positions =
      model.recompute ? std::min(model.maxPositions, bounds.maxTokensPerStep) : model.maxPositions;
  bounds.contextTokens = options.maxContextTokens ? options.maxContextTokens : positions;
  if (bounds.contextTokens > positions)
    return rejectOption("max context", bounds.contextTokens,
                        "the program's sequences have at most " + std::to_string(positions) + " positions");
  bounds.numKvBlocks = 0;
  if (model.recompute)
    return bounds;
  uint64_t wholeContext = kv::numBlocksFor(bounds.contextTokens);
  uint64_t numBlocks = options.kvBytes / model.kvBlockBytes;
  if (options.kvBytes == 0)
    numBlocks = std::max(
        wholeContext, std::min(wholeContext * kDefaultFullSequences, kDefaultKvBytes / model.kvBlockBytes));
  numBlocks = std::min(numBlocks, kMaxKvBlocks);
  if (numBlocks == 0)
    return rejectOption("the KV pool's size", options.kvBytes,
                        "one block of 16 tokens takes " + std::to_string(model.kvBlockBytes) + " bytes");
  bounds.numKvBlocks = static_cast<uint32_t>(numBlocks);
  // One sequence alone must always fit, or nothing could move.
  bounds.contextTokens =
      static_cast<uint32_t>(std::min<uint64_t>(bounds.contextTokens, numBlocks * GIRIH_KV_BLOCK_TOKENS));
  return bounds;
}

Expected<EngineNeeds> needsOf(const program::Program &program, const EngineOptions &options) {
  GIRIH_ASSIGN(Bounds bounds, resolveOptions(program.model(), options));
  uint64_t numBytes = program.weights().size() + bounds.numKvBlocks * program.model().kvBlockBytes;
  if (options.draft)
    numBytes += options.draft->weights().size() + bounds.numKvBlocks * options.draft->model().kvBlockBytes;
  return EngineNeeds{bounds.contextTokens, numBytes};
}

} // namespace girih::engine
