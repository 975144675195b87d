// SPDX-License-Identifier: Apache-2.0
// Recognition of attention in the meaning of a contraction.
#pragma once

#include "compiler/raise/layout.h"
#include "compiler/raise/mask_proof.h"

#include "mlir/Dialect/Linalg/IR/Linalg.h"

namespace girih::compiler {

// What was recognised: attention of `query` [t, kv heads, heads of one kv head, d] over `key` and `value`.
struct AttentionMatch {
  Source query, key, value;                     // in the variables below
  unsigned queryToken = 0, keyToken = 0;        // t, u
  unsigned channel = 0;                         // d
  llvm::SmallVector<unsigned, 2> valueChannels; // of the result; none for one channel
  llvm::SmallVector<unsigned, 2> kvHeads;       // variables that tell kv heads apart
  llvm::SmallVector<unsigned, 2> headsOfGroup;  // variables that tell the query heads of one kv head apart
  Layout result;                                // of the contraction's result
  llvm::SmallVector<mlir::Operation *, 1> dotProducers; // what computes the products of queries and keys
  double scale = 1;
  std::optional<double> softCap;
  std::optional<int64_t> window;

  Layout queryLayout() const { return {{queryToken}, heads(), {channel}}; }
  Layout keyLayout() const { return {{keyToken}, kvHeads, {channel}}; }
  Layout valueLayout() const { return {{keyToken}, kvHeads, valueChannels}; }
  Layout resultLayout() const { return {{queryToken}, heads(), valueChannels}; }
  llvm::SmallVector<unsigned, 2> heads() const {
    llvm::SmallVector<unsigned, 2> all(kvHeads);
    all.append(headsOfGroup.begin(), headsOfGroup.end());
    return all;
  }
};

// Matches `mix` as the sum over keys of weights times values. Null with an empty `reason` when it has nothing
// of attention, with a reason when a softmax is there and something else is not as it should be.
std::optional<AttentionMatch> matchAttention(PullBack &pullBack, mlir::linalg::LinalgOp mix,
                                             std::string &reason);

} // namespace girih::compiler
