// SPDX-License-Identifier: Apache-2.0
// The identity of a KV block's content: a chain of SHA-256 over everything that went into its bytes.
#pragma once

#include "runtime/base/sha256.h"

#include <cstdint>
#include <span>
#include <string_view>

namespace girih::kv {

using ContentKey = Sha256Digest;

// What makes the K and V of equal tokens differ: two caches with equal facts hold the same bytes.
struct CacheFacts {
  std::span<const uint8_t> programDigest; // of the source weights and the compiler's options
  std::string_view numerics;              // "exact"
  std::string_view variant;               // the kernels that ran: "avx512"
  std::string_view kvType;                // "f16"
};

// The start of every chain of one program on one machine.
ContentKey rootKey(const CacheFacts &facts);
// The start of the chains that only requests with this salt share. Salts are secrets of their owners: a key
// of 256 bits is what keeps one from probing for another's prompts. An empty salt is a salt like any other.
ContentKey saltedKey(const ContentKey &root, std::string_view salt);
// The key of a full block: `parent` is the key of the block before it, or the salted root.
ContentKey blockKey(const ContentKey &parent, std::span<const int32_t> tokens);

} // namespace girih::kv
