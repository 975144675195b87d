// SPDX-License-Identifier: Apache-2.0
// Proof that an attention mask is the causal one, with or without a window.
#pragma once

#include "compiler/raise/pull_back.h"

#include <optional>
#include <string>

namespace girih::compiler {

// One reason for a score to be hidden, as the graph has it.
struct MaskTerm {
  const Expr *expr = nullptr;
  // Added to the score (0: seen; at most kHidden: hidden), or a truth value that selects.
  bool isAdded = false;
  bool seenWhen = true; // for a truth value: which one leaves the score as it is
};

// Scores that are this low have a weight of 0 in f32 after softmax, whatever the others are.
constexpr double kHidden = -1e9;

struct CausalMask {
  std::optional<int64_t> window;
};

// Proves that query `query` sees exactly the keys u <= t, or t - window < u <= t. `reason` tells why it could
// not.
std::optional<CausalMask> proveCausal(PullBack &pullBack, llvm::ArrayRef<MaskTerm> terms, unsigned query,
                                      unsigned key, std::string &reason);

} // namespace girih::compiler
