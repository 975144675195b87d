// SPDX-License-Identifier: Apache-2.0
// Content keys: every part is preceded by its length, so that no two different lists of parts hash alike.
#include "runtime/kv/content_key.h"

#include <array>

namespace girih::kv {
namespace {

// Raised whenever the meaning of the bytes below changes: caches on disk then miss instead of misleading.
constexpr std::string_view kScheme = "girih kv 1";

void updateSized(Sha256 &hash, std::span<const uint8_t> part) {
  std::array<uint8_t, 8> length;
  for (size_t index = 0; index < length.size(); ++index)
    length[index] = static_cast<uint8_t>(uint64_t{part.size()} >> (8 * index));
  hash.update(length);
  hash.update(part);
}

void updateSized(Sha256 &hash, std::string_view part) {
  updateSized(hash, {reinterpret_cast<const uint8_t *>(part.data()), part.size()});
}

} // namespace

ContentKey rootKey(const CacheFacts &facts) {
  Sha256 hash;
  updateSized(hash, kScheme);
  updateSized(hash, facts.programDigest);
  for (std::string_view part : {facts.numerics, facts.variant, facts.kvType})
    updateSized(hash, part);
  return hash.finish();
}

ContentKey saltedKey(const ContentKey &root, std::string_view salt) {
  Sha256 hash;
  hash.update(root);
  updateSized(hash, salt);
  return hash.finish();
}

ContentKey blockKey(const ContentKey &parent, std::span<const int32_t> tokens) {
  Sha256 hash;
  hash.update(parent);
  for (int32_t token : tokens) {
    auto bits = static_cast<uint32_t>(token);
    std::array<uint8_t, 4> bytes = {static_cast<uint8_t>(bits), static_cast<uint8_t>(bits >> 8),
                                    static_cast<uint8_t>(bits >> 16), static_cast<uint8_t>(bits >> 24)};
    hash.update(bytes);
  }
  return hash.finish();
}

} // namespace girih::kv
