// SPDX-License-Identifier: Apache-2.0
// CRC-32C (Castagnoli), the checksum of program files and caches.
#pragma once

#include <cstdint>
#include <span>

namespace girih {

// The checksum of `bytes`, continuing from `crc` (0 to begin). About 10 GB/s where the processor has SSE4.2.
uint32_t crc32c(std::span<const uint8_t> bytes, uint32_t crc = 0);

} // namespace girih
