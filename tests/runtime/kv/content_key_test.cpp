// SPDX-License-Identifier: Apache-2.0
// Content keys: whatever makes KV bytes differ makes the keys differ, on every machine alike.
#include "runtime/kv/content_key.h"

#include <gtest/gtest.h>
#include <set>

namespace girih::kv {
namespace {

const std::vector<uint8_t> kDigest = {1, 2, 3};

ContentKey rootOf(std::string_view numerics, std::string_view variant, std::string_view kvType,
                  const std::vector<uint8_t> &digest = kDigest) {
  return rootKey({digest, numerics, variant, kvType});
}

TEST(ContentKey, DiffersByEveryFact) {
  std::set<ContentKey> keys = {rootOf("exact", "avx2", "f32"), rootOf("fast", "avx2", "f32"),
                               rootOf("exact", "amx", "f32"), rootOf("exact", "avx2", "int8"),
                               rootOf("exact", "avx2", "f32", {1, 2}),
                               // The same letters, split elsewhere.
                               rootOf("exacta", "vx2", "f32")};
  EXPECT_EQ(keys.size(), 6u);
  EXPECT_EQ(rootOf("exact", "avx2", "f32"), rootOf("exact", "avx2", "f32"));
}

TEST(ContentKey, DiffersBySaltParentAndEveryToken) {
  ContentKey root = rootOf("exact", "avx2", "f32");
  std::vector<int32_t> tokens(16, 5), other = tokens;
  other[15] = 6;
  ContentKey salted = saltedKey(root, "a"), first = blockKey(salted, tokens);
  std::set<ContentKey> keys = {root,
                               saltedKey(root, ""),
                               salted,
                               saltedKey(root, "b"),
                               first,
                               blockKey(saltedKey(root, "b"), tokens),
                               blockKey(salted, other),
                               blockKey(first, tokens)};
  EXPECT_EQ(keys.size(), 8u);
}

// The bytes that are hashed are a format: files on disk are found by these keys. Computed by Python's hashlib.
TEST(ContentKey, IsTheSha256OfTheStatedBytes) {
  ContentKey parent = {};
  std::vector<int32_t> tokens = {0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 49151};
  EXPECT_EQ(hexDigits(blockKey(parent, tokens)),
            "050108b05ebbabddded7532e7220b86f16a04f7a23d6fbabca16d0ae8936a36f");
  EXPECT_EQ(hexDigits(saltedKey(rootOf("exact", "avx2", "f32"), "salt")),
            "9fae485bebbf86b4b483bb445c2ee38fd7887472f10242e0899ddda0270328de");
}

} // namespace
} // namespace girih::kv
