// SPDX-License-Identifier: Apache-2.0
// Sha256 gives the digests of FIPS 180-4's examples, however the bytes are cut into pieces.
#include "runtime/base/sha256.h"

#include <gtest/gtest.h>

#include <vector>

namespace girih {
namespace {

std::string digestOf(std::string_view text) {
  Sha256 hash;
  hash.update(text);
  return hexDigits(hash.finish());
}

TEST(Sha256, MatchesThePublishedExamples) {
  EXPECT_EQ(digestOf(""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  EXPECT_EQ(digestOf("abc"), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_EQ(digestOf("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq"),
            "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
  EXPECT_EQ(digestOf(std::string(1000000, 'a')), "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

TEST(Sha256, DoesNotDependOnThePieces) {
  std::vector<uint8_t> bytes(1000);
  for (size_t index = 0; index < bytes.size(); ++index)
    bytes[index] = static_cast<uint8_t>(index * 7);
  Sha256Digest whole = sha256(bytes);
  for (size_t pieceBytes : {1, 3, 55, 56, 63, 64, 65, 127, 128, 999}) {
    Sha256 hash;
    for (size_t first = 0; first < bytes.size(); first += pieceBytes)
      hash.update(std::span(bytes).subspan(first, std::min(pieceBytes, bytes.size() - first)));
    EXPECT_EQ(hash.finish(), whole) << pieceBytes;
  }
}

TEST(Sha256, HandlesEveryLengthAroundABlock) {
  // The padding takes one block or two; the last digest is of 130 zeros, from `head -c 130 /dev/zero | sha256sum`.
  std::vector<uint8_t> zeros(130);
  Sha256Digest previous = {};
  for (size_t numBytes = 0; numBytes <= zeros.size(); ++numBytes) {
    Sha256Digest digest = sha256(std::span(zeros).first(numBytes));
    EXPECT_NE(digest, previous);
    previous = digest;
  }
  EXPECT_EQ(hexDigits(previous), "e55a5c27736a8761c8e96acec072102325e08cb2d0dbb4d4702cfe38f8ab0709");
}

}  // namespace
}  // namespace girih
