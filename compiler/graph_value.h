// SPDX-License-Identifier: Apache-2.0
// GraphValue: a value of a graph (runtime/abi/graph.h) as readGraph spells it in MLIR.
#pragma once

#include "runtime/base/expected.h"

#include "llvm/ADT/ArrayRef.h"
#include "llvm/Support/FormatVariadic.h"

#include <cstdint>
#include <string>
#include <vector>

namespace girih::compiler {

// A row-major tensor in a binding: the first extent is rows, the others together are columns. Of a packed weight or a cache
// `element` is the descriptor, and `inner` all extents.
struct GraphValue {
  std::string id, binding, element, extents;
  int64_t offset = 0, rows = 1, columns = 1;  // rows < 0: of the step
  std::string rowsName;                       // of the step_extent
  std::vector<int64_t> inner;                 // extents but the rows

  bool isPacked() const { return llvm::StringRef(element).starts_with("p16:") || element == "dense:f32"; }
  bool isCache() const { return llvm::StringRef(element).starts_with("kv:"); }
  bool isHeads() const { return rowsName == "T" && element == "f32" && inner.size() == 2; }  // of the step's tokens
  std::string type() const {
    return llvm::formatv("memref<{0}x{1}x{2}>", rows < 0 ? "?" : std::to_string(rows), columns, element).str();
  }
  std::string rowType() const {
    return llvm::formatv("memref<1x{0}x{1}, strided<[{0}, 1], offset: ?>>", columns, element).str();
  }
  // !girih.packed<N x K, "layout">; !girih.kv<G, D, E, element>
  std::string packedType() const;
  std::string cacheType() const;
};

// Dispatches of the operations whose tokens know their place in a sequence, and of packed weights; `serial` tells an
// operation's names from those of others, and what is outside of functions goes to `globals`. Fails: InvalidArgument, with
// what the operation wants to see.
struct TokenOperation {
  llvm::ArrayRef<const GraphValue *> operands;
  int64_t serial;
  std::string &globals;
  // scale=0.125 as a pair; those that the operation does not know are refused.
  llvm::ArrayRef<std::pair<std::string, double>> attributes;
};
Expected<std::string> lowerRope(const TokenOperation &op);
Expected<std::string> lowerKvAppend(const TokenOperation &op);
Expected<std::string> lowerAttention(const TokenOperation &op);
Expected<std::string> lowerPackedMatmul(const TokenOperation &op);

}  // namespace girih::compiler
