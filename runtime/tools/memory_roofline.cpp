// SPDX-License-Identifier: Apache-2.0
// MemoryRoofline: threads that sum up their share of the weights, timed together.
#include "runtime/tools/memory_roofline.h"

#include "runtime/abi/step.h"

#include <algorithm>
#include <atomic>
#include <barrier>
#include <chrono>
#include <cstring>
#include <span>
#include <string_view>
#include <thread>
#include <vector>

namespace girih::tools {
namespace {

constexpr int kPasses = 12;  // the first touches pages; the best of the others counts

bool isHead(std::string_view name) { return name == "output.weight" || name == "lm_head.weight"; }
bool isEmbedding(std::string_view name) { return name == "token_embd.weight" || name == "model.embed_tokens.weight"; }

constexpr size_t kPrefetchBytes = 4096;  // ahead, as generated code does: without it one core cannot keep memory busy

// Eight independent sums, so that the adds never wait for one another and the loop vectorises.
#if defined(__x86_64__)
__attribute__((target_clones("avx512f", "avx2", "default")))
#endif
uint64_t sumOf(std::span<const uint8_t> bytes) {
  uint64_t sums[8] = {};
  size_t at = 0;
  for (; at + sizeof(sums) <= bytes.size(); at += sizeof(sums)) {
    uint64_t words[8];
    std::memcpy(words, bytes.data() + at, sizeof(words));
    __builtin_prefetch(bytes.data() + at + kPrefetchBytes);
    for (int lane = 0; lane < 8; ++lane)
      sums[lane] += words[lane];
  }
  uint64_t total = 0;
  for (uint64_t sum : sums)
    total += sum;
  return total;
}

double bestReadSeconds(std::span<const uint8_t> bytes, int32_t numThreads) {
  using Clock = std::chrono::steady_clock;
  auto count = static_cast<size_t>(numThreads);
  size_t shareBytes = bytes.size() / count / 64 * 64;
  std::barrier meet(static_cast<std::ptrdiff_t>(count));
  std::atomic<uint64_t> keep = 0;
  std::vector<double> passSeconds(kPasses);
  auto readShare = [&](size_t threadIndex) {
    auto share = bytes.subspan(threadIndex * shareBytes, shareBytes);
    for (double &seconds : passSeconds) {
      meet.arrive_and_wait();
      auto start = Clock::now();
      keep += sumOf(share);
      meet.arrive_and_wait();
      if (threadIndex == 0)
        seconds = std::chrono::duration<double>(Clock::now() - start).count();
    }
  };
  std::vector<std::jthread> threads;
  for (size_t threadIndex = 1; threadIndex < count; ++threadIndex)
    threads.emplace_back(readShare, threadIndex);
  readShare(0);
  return *std::min_element(passSeconds.begin() + 1, passSeconds.end());
}

}  // namespace

uint64_t decodeStepBytes(const program::Program &program, uint32_t numSequences, uint32_t contextTokens) {
  const auto &tensors = program.tables().tensors;
  bool hasOwnHead = std::any_of(tensors.begin(), tensors.end(), [](const auto &tensor) { return isHead(tensor.name); });
  uint64_t total = 0;
  for (const program::Tensor &tensor : tensors) {
    bool isLookup = hasOwnHead && isEmbedding(tensor.name) && !tensor.shape.empty() && tensor.shape[0] > 0;
    total += isLookup ? tensor.sizeBytes / static_cast<uint64_t>(tensor.shape[0]) * numSequences : tensor.sizeBytes;
  }
  uint64_t positionBytes = program.model().kvBlockBytes / GIRIH_KV_BLOCK_TOKENS;
  return total + positionBytes * contextTokens * numSequences;
}

MemoryRoofline measureMemoryRoofline(const program::Program &program, int32_t numThreads, uint32_t numSequences,
                                     uint32_t contextTokens) {
  MemoryRoofline roofline;
  roofline.decodeStepBytes = decodeStepBytes(program, numSequences, contextTokens);
  auto weights = program.weights();
  if (weights.empty())
    return roofline;
  roofline.readBytesPerSecond = static_cast<double>(weights.size()) / bestReadSeconds(weights, std::max(numThreads, 1));
  roofline.decodeTokensPerSecond = numSequences * roofline.readBytesPerSecond / static_cast<double>(roofline.decodeStepBytes);
  return roofline;
}

}  // namespace girih::tools
