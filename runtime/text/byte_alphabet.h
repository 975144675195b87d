// SPDX-License-Identifier: Apache-2.0
// The alphabet in which byte-level vocabularies are written: each byte as one printable character.
#pragma once

#include <optional>
#include <string>
#include <string_view>

namespace girih {

// The bytes that a token so written stands for; nothing where a character is outside the alphabet.
std::optional<std::string> bytesFromAlphabet(std::string_view token);

} // namespace girih
