// SPDX-License-Identifier: Apache-2.0
// Drafter: prompt lookup (Saxena, "Prompt Lookup Decoding", 2023), with a price on each guess.
#include "runtime/engine/drafter.h"

#include <algorithm>
#include <bit>

namespace girih::engine {
namespace {

constexpr size_t kLeastSlots = 256, kMostSlots = size_t{1} << 17;
// Guesses must promise so much more than they cost: what was measured is noisy.
constexpr double kLeastGain = 1.05;
// What a row beyond all known ones is taken to cost, in parts of a step: little, so that it is tried.
constexpr double kCostOfUnknownRow = 0.1;
// Steps after which a measurement says nothing any more: the context grew, or the machine was busy then.
constexpr uint64_t kMemory = 1000;

} // namespace

size_t NgramIndex::slotOf(std::span<const int32_t> text, size_t end) const {
  uint64_t hash = 0;
  for (size_t index = end - kRun; index < end; ++index)
    hash = (hash ^ static_cast<uint32_t>(text[index])) * 0x9e3779b97f4a7c15;
  return static_cast<size_t>(hash >> (64 - std::countr_zero(ends.size())));
}

void NgramIndex::propose(std::span<const int32_t> text, uint32_t maxTokens, uint32_t most,
                         std::vector<int32_t> &draft) {
  if (text.size() <= kRun)
    return;
  // Twice the text, so that runs seldom fall on each other.
  if (ends.empty())
    ends.assign(std::clamp(std::bit_ceil(size_t{2} * maxTokens), kLeastSlots, kMostSlots), 0);
  // All runs but the last, which is what is looked for.
  for (size_t end = std::max<size_t>(numIndexed + 1, kRun); end < text.size(); ++end)
    ends[slotOf(text, end)] = static_cast<uint32_t>(end);
  numIndexed = text.size() - 1;
  size_t end = ends[slotOf(text, text.size())];
  if (end == 0 || !std::equal(text.end() - kRun, text.end(), text.begin() + static_cast<std::ptrdiff_t>(end - kRun)))
    return;
  for (size_t next = end; next < text.size() && most > 0; ++next, --most)
    draft.push_back(text[next]);
}

void DraftRecord::observe(uint32_t numDrafted, uint32_t numAccepted) {
  for (uint32_t count = 0; count < numAccepted; ++count)
    rate += kWeightOfLast * (1.0 - rate);
  if (numAccepted < numDrafted)
    rate -= kWeightOfLast * rate;
}

// A pause of the machine is no cost: what is faster than the average counts more than what is slower.
void StepCosts::observe(uint32_t numRows, double seconds) {
  ++numSteps;
  if (numRows == 0 || numRows > kMaxRows)
    return;
  Size &size = sizes[numRows];
  size.seconds = isKnown(numRows) ? size.seconds + (seconds < size.seconds ? 0.5 : 0.1) * (seconds - size.seconds) : seconds;
  size.seenAt = numSteps;
}

bool StepCosts::isKnown(uint32_t numRows) const {
  return numRows <= kMaxRows && sizes[numRows].seenAt > 0 && sizes[numRows].seenAt + kMemory > numSteps;
}

double StepCosts::seconds(uint32_t numRows) const {
  uint32_t below = std::min(numRows, kMaxRows), above = below;
  while (!isKnown(below))
    --below;
  while (above <= kMaxRows && !isKnown(above))
    ++above;
  double known = sizes[below].seconds;
  if (below == numRows)
    return known;
  if (above > kMaxRows)
    return known * (1.0 + kCostOfUnknownRow * (numRows - below));
  double part = static_cast<double>(numRows - below) / (above - below);
  return std::max(known, known + part * (sizes[above].seconds - known));
}

double StepCosts::rate(uint32_t numRows, double numTokens, double acceptance, uint32_t numGuesses,
                       const GuessPrice &price) const {
  double chance = 1.0;
  for (uint32_t guess = 0; guess < numGuesses; ++guess)
    numTokens += chance *= acceptance;
  return numTokens / (seconds(numRows + numGuesses) + price.secondsBefore + numGuesses * price.secondsEach);
}

uint32_t StepCosts::bestDraft(uint32_t numRows, double numTokens, double acceptance, uint32_t most,
                              const GuessPrice &price) const {
  if (numRows >= kMaxRows)
    return 0;
  double bestRate = kLeastGain * rate(numRows, numTokens, acceptance, 0, price);
  uint32_t best = 0;
  for (uint32_t length = 1; length <= std::min(most, kMaxRows - numRows); ++length) {
    double with = rate(numRows, numTokens, acceptance, length, price);
    if (with > bestRate) {
      bestRate = with;
      best = length;
    }
  }
  return best;
}

} // namespace girih::engine
