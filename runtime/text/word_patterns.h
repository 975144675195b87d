// SPDX-License-Identifier: Apache-2.0
// The regular expressions of byte-level BPE pre-tokenizers, each as one function that matches at a position.
#pragma once

#include <cstddef>
#include <string_view>

namespace girih {

// All of these match at every position, so that their matches cover the text. Comments give the expression in
// Oniguruma's syntax; alternatives are tried in the order of the text.

// 's|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+
size_t matchGpt2(std::string_view text, size_t at);

// (?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,D}|
// ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+ with D = maxDigits; withMarks: \p{L} after the first
// class, and in the negated ones, is [\p{L}\p{M}].
size_t matchLlama3(std::string_view text, size_t at, int maxDigits, bool withMarks);

// With U = [\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}], W = [\p{Ll}\p{Lm}\p{Lo}\p{M}], C = (?i:'s|'t|'re|'ve|'m|'ll|'d)?
// if contractions, else nothing, D = maxDigits:
// [^\r\n\p{L}\p{N}]?U*W+C|[^\r\n\p{L}\p{N}]?U+W*C|\p{N}{1,D}|
// ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+
size_t matchCased(std::string_view text, size_t at, int maxDigits, bool contractions);

} // namespace girih
