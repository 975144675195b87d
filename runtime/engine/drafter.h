// SPDX-License-Identifier: Apache-2.0
// Drafter: guesses the next tokens of a sequence, as long as guessing pays.
#pragma once

#include <array>
#include <cstdint>
#include <span>
#include <vector>

namespace girih::engine {

// Where each run of kRun tokens of one text was last followed by something. A table of a fixed size, in which a later run
// takes the place of an earlier one that falls on it. Takes no memory until it is asked.
class NgramIndex {
public:
  static constexpr uint32_t kRun = 3; // two match by chance too often, four miss edited text
  // Appends at most `most` tokens that followed the last run when it stood in the text before. Requires, from call to call:
  // the text only grows, to at most `maxTokens`, which stays.
  void propose(std::span<const int32_t> text, uint32_t maxTokens, uint32_t most, std::vector<int32_t> &draft);

private:
  size_t slotOf(std::span<const int32_t> text, size_t end) const;
  std::vector<uint32_t> ends; // by hash of a run: where it ended; 0: nowhere
  size_t numIndexed = 0;      // runs that end at or before this are in the table
};

// Where guesses come from: the sequence's own text, or a smaller model.
enum class DraftSource { Text, Model };
inline constexpr size_t kNumDraftSources = 2;

// How often the guesses of one sequence came true, of late.
class DraftRecord {
public:
  double acceptance() const { return rate; }
  // What is expected before the first guess.
  void startFrom(double acceptance) { rate = acceptance; }
  void observe(uint32_t numDrafted, uint32_t numAccepted);
  // A guess was there and was not worth trying. Little by little it is again: a text may change its nature.
  void forgetSome() { rate += kForgetting * (kPrior - rate); }

private:
  static constexpr double kPrior = 0.6, kForgetting = 0.005, kWeightOfLast = 0.2;
  double rate = kPrior;
};

// What a smaller model has seen of one sequence, in its own KV pool.
struct DraftCache {
  std::vector<int32_t> blocks;
  std::vector<int32_t> tokens; // whose K and V they hold; the last ones may be guesses that did not come true
  uint32_t numSure = 0;        // of them, the sequence's own
  uint32_t numWanted = 0;      // guesses, this time
  bool hasStarted = false;     // a guess was asked for
};

// What guesses cost beside the step that checks them.
struct GuessPrice {
  double secondsBefore = 0.0; // of those that are made in any case
  double secondsEach = 0.0;
};

// How long steps of single tokens and guesses take by their number of rows: measured, since a row more costs nothing in one
// kernel and as much as the first in another. What was not seen for long is estimated from the sizes around it.
class StepCosts {
public:
  static constexpr uint32_t kMaxRows = 64;
  void observe(uint32_t numRows, double seconds);
  bool isKnown(uint32_t numRows) const;
  // How many guesses more, each right with the chance `acceptance` if those before it are, make the most tokens a second
  // where a step so far has `numRows` rows and is expected to yield `numTokens` tokens; 0: none does. Requires: a step of so
  // many rows or fewer is known.
  uint32_t bestDraft(uint32_t numRows, double numTokens, double acceptance, uint32_t most,
                     const GuessPrice &price = {}) const;
  // Tokens a second with so many guesses more.
  double rate(uint32_t numRows, double numTokens, double acceptance, uint32_t numGuesses,
              const GuessPrice &price) const;
  // What a step of so many rows takes. Requires: one of so many rows or fewer is known.
  double seconds(uint32_t numRows) const;

private:
  struct Size {
    double seconds = 0.0;
    uint64_t seenAt = 0; // numSteps of then; 0: never
  };
  std::array<Size, kMaxRows + 1> sizes{};
  uint64_t numSteps = 0;
};

} // namespace girih::engine
