// SPDX-License-Identifier: Apache-2.0
// One KV block as a file: a header of 128 bytes, then the block, checksummed or sealed.
#pragma once

#include "runtime/kv/block_cipher.h"

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace girih::kv {

inline constexpr size_t kBlockHeaderBytes = 128;

// What a file's name says: found again without opening it, and changed by renaming, which no crash leaves half done.
struct BlockFileName {
  ContentKey key = {};   // as BlockCipher::hide has it
  uint32_t depth = 0;    // the block's place in its chain
  int64_t expiresAt = 0; // Unix seconds; from then on the file is nobody's
  std::string text() const;
  static std::optional<BlockFileName> parse(std::string_view text);
};
// The end of every name, by which files of other versions are told from foreign ones.
inline constexpr std::string_view kBlockFileSuffix = ".kv";

// Writes a new file. `scratch` is used where there is a cipher. False: nothing of it is to be trusted.
bool writeBlockFile(const std::string &path, const BlockFileName &name, std::span<const uint8_t> block,
                    const BlockCipher *cipher, std::vector<uint8_t> &scratch);

enum class BlockRead { Sound, Absent, Damaged };
// Fills `block`, which holds anything where the file is not sound. Links are not followed.
BlockRead readBlockFile(const std::string &path, const BlockFileName &name, std::span<uint8_t> block,
                        const BlockCipher *cipher);

} // namespace girih::kv
