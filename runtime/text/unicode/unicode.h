// SPDX-License-Identifier: Apache-2.0
// Unicode as tokenizers need it: UTF-8, character classes, NFC and NFD, lower case; exactly as Hugging Face's
// parts have it.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>
#include <string_view>

namespace girih::unicode {

constexpr char32_t kReplacementCharacter = 0xFFFD;

// One step through a text. `length` is 1 to 4, also for bytes that are no UTF-8: they read as U+FFFD, a
// maximal ill-formed part at a time, with `wellFormed` false.
struct Character {
  char32_t value;
  uint8_t length;
  bool wellFormed;
};
// Requires: at < text.size().
Character decodeMultibyte(std::string_view text, size_t at);
inline Character decodeAt(std::string_view text, size_t at) {
  unsigned char first = static_cast<unsigned char>(text[at]);
  return first < 0x80 ? Character{first, 1, true} : decodeMultibyte(text, at);
}

void append(std::string &text, char32_t character);
bool isWellFormed(std::string_view text);
// U+FFFD for each maximal ill-formed part, as Python's bytes.decode("utf-8", "replace").
std::string replaceMalformed(std::string_view text);
// How many bytes at the end of `text` begin a character that further bytes could complete: 0 to 3.
size_t incompleteTail(std::string_view text);

#include "runtime/text/unicode/class_names.inc"
// Bits of one character: kLetter, kSpace, ... of class_names.inc. Classes of the same name differ between
// Hugging Face's parts: kNumber is a regular expression's \p{N}, kDigit what the Digits pre-tokenizer splits
// at, and so on.
uint16_t classOfWide(char32_t character);
inline uint16_t classOf(char32_t character) {
  return character < 0x80 ? kAsciiClasses[character] : classOfWide(character);
}

// Canonical normalisation; bytes that are no UTF-8 stay as they are.
std::string toNfc(std::string_view text);
std::string toNfd(std::string_view text);
void appendLowerCase(std::string &text, char32_t character);

} // namespace girih::unicode
