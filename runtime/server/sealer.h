// SPDX-License-Identifier: Apache-2.0
// Sealer: AES-256-GCM under the secret of this installation; the one file that sees OpenSSL is sealer.cpp.
#pragma once

#include "runtime/base/expected.h"
#include "runtime/kv/block_cipher.h"

#include <memory>
#include <string>
#include <string_view>

namespace girih::server {

// Without the secret what is kept on disk says nothing but its size and its time. Losing it loses what it sealed, never
// an answer: what cannot be opened counts as absent. Each sealing draws a nonce of 96 random bits, and blocks and texts
// have keys of their own. Immutable and thread-safe.
class Sealer final : public kv::BlockCipher {
public:
  // The secret in `folder`: 32 random bytes in a file that only its owner may read, made where there is none. Fails:
  // Unavailable (no such folder), FailedPrecondition (others may read it), DataLoss (it is of another size).
  static Expected<std::shared_ptr<const Sealer>> ofFolder(const std::string &folder);
  explicit Sealer(const kv::ContentKey &secret);

  bool seal(std::span<const uint8_t> facts, std::span<const uint8_t> plain, std::span<uint8_t> sealed,
            kv::CipherMark &mark) const override;
  bool open(std::span<const uint8_t> facts, const kv::CipherMark &mark,
            std::span<uint8_t> bytes) const override;
  kv::ContentKey hide(const kv::ContentKey &key) const override;

  // A text with what opens it. `purpose` must be the same again: a file moved to another's place does not open.
  std::string sealText(std::string_view purpose, std::string_view text) const;
  // Fails: DataLoss when it was changed, or sealed under another secret or for another purpose.
  Expected<std::string> openText(std::string_view purpose, std::string_view sealed) const;

private:
  kv::ContentKey blockKey, textKey, nameKey;
};

} // namespace girih::server
