// SPDX-License-Identifier: Apache-2.0
// AnswerRules: each rule is a pass over as few logits as it names; the mask is one over all.
#include "runtime/engine/answer_rules.h"

#include <algorithm>
#include <cstdio>
#include <limits>

namespace girih::engine {
namespace {

constexpr float kImpossible = -std::numeric_limits<float>::infinity();

Status checkRange(const char *name, float value, float most) {
  if (value >= -most && value <= most)
    return {};
  char text[120];
  std::snprintf(text, sizeof text, "%s is %g; it must be from %g to %g", name, value, -most, most);
  return invalidArgument(text);
}

void applyMask(std::span<const uint32_t> words, std::span<float> logits) {
  for (size_t first = 0; first < logits.size(); first += 32) {
    uint32_t word = words[first / 32];
    if (word == ~uint32_t{0})
      continue;
    size_t numTokens = std::min<size_t>(32, logits.size() - first);
    for (size_t bit = 0; bit < numTokens; ++bit)
      if (!(word >> bit & 1))
        logits[first + bit] = kImpossible;
  }
}

} // namespace

void OutputCounts::add(int32_t token) {
  auto place = std::lower_bound(counted.begin(), counted.end(), token,
                                [](const Entry &entry, int32_t wanted) { return entry.token < wanted; });
  if (place != counted.end() && place->token == token)
    ++place->count;
  else
    counted.insert(place, {token, 1});
}

Status checkRules(const AnswerRules &rules, uint32_t vocabSize) {
  GIRIH_TRY(checkRange("presence_penalty", rules.presencePenalty, 2.0f));
  GIRIH_TRY(checkRange("frequency_penalty", rules.frequencyPenalty, 2.0f));
  if (rules.biases.size() > kMaxTokenBiases)
    return invalidArgument("logit_bias has " + std::to_string(rules.biases.size()) + " tokens; at most " +
                           std::to_string(kMaxTokenBiases) + " are accepted");
  for (const TokenBias &entry : rules.biases) {
    if (entry.token < 0 || static_cast<uint32_t>(entry.token) >= vocabSize)
      return invalidArgument("logit_bias names token " + std::to_string(entry.token) +
                             ", which is no id of this vocabulary of " + std::to_string(vocabSize));
    GIRIH_TRY(checkRange("logit_bias", entry.bias, 100.0f));
  }
  return {};
}

Status applyRules(const AnswerRules &rules, const OutputCounts &counts, uint32_t numOutputTokens,
                  std::span<const int32_t> stopTokens, std::span<float> logits,
                  std::span<uint32_t> maskWords) {
  for (const TokenBias &entry : rules.biases)
    logits[static_cast<size_t>(entry.token)] += entry.bias;
  if (rules.countsOutput())
    for (const OutputCounts::Entry &entry : counts.entries())
      logits[static_cast<size_t>(entry.token)] -=
          rules.presencePenalty + rules.frequencyPenalty * static_cast<float>(entry.count);
  if (numOutputTokens < rules.minTokens)
    for (int32_t token : stopTokens)
      logits[static_cast<size_t>(token)] = kImpossible;
  if (rules.mask) {
    GIRIH_TRY(rules.mask->fill(maskWords));
    applyMask(maskWords, logits);
  }
  return {};
}

} // namespace girih::engine
