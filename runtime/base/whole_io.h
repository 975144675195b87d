// SPDX-License-Identifier: Apache-2.0
// readWhole, writeWhole: all bytes through a descriptor, however few the system moves at once.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

namespace girih {

// From where the descriptor is, in as many calls as it takes; a signal in between changes nothing. False where it ends
// or fails before all are there: errno says why, 0 is the end of the file.
bool readWhole(int descriptor, std::span<uint8_t> bytes);
bool writeWhole(int descriptor, std::span<const uint8_t> bytes);
bool writeWhole(int descriptor, std::string_view text);

} // namespace girih
