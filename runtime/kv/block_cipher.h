// SPDX-License-Identifier: Apache-2.0
// BlockCipher: what keeps the bytes of KV files from whoever reads the disk; the server brings one.
#pragma once

#include "runtime/kv/content_key.h"

#include <array>
#include <cstdint>
#include <span>

namespace girih::kv {

// What stands beside sealed bytes: a nonce of its own for each sealing, and the proof that nothing was changed.
struct CipherMark {
  std::array<uint8_t, 12> nonce = {};
  std::array<uint8_t, 16> tag = {};
};

// An interface, because the library that products embed links no cryptography. Thread-safe.
class BlockCipher {
public:
  virtual ~BlockCipher() = default;
  // `facts` stay readable and are proven with the bytes. `sealed` has as many bytes as `plain`. False: not sealed.
  virtual bool seal(std::span<const uint8_t> facts, std::span<const uint8_t> plain, std::span<uint8_t> sealed,
                    CipherMark &mark) const = 0;
  // In place. False: changed, or sealed under another secret; the bytes are then worthless.
  virtual bool open(std::span<const uint8_t> facts, const CipherMark &mark,
                    std::span<uint8_t> bytes) const = 0;
  // What stands for a key in the names of files: who knows a text must not find it by computing its key.
  virtual ContentKey hide(const ContentKey &key) const = 0;
};

} // namespace girih::kv
