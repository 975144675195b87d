// SPDX-License-Identifier: Apache-2.0
// Vocabulary: the tokenizer's form in a .girih file, read in place: flat arrays and two hash tables, nothing
// to build.
#pragma once

#include "runtime/base/expected.h"

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

namespace girih {

enum class TokenizerKind : uint32_t { ByteLevelBpe = 0, SentencePieceBpe = 1, WordPiece = 2, Crate = 3 };

// How a text is cut before merging; a pipeline is up to eight of them in order (0 ends it). The numbers are
// stored.
enum class SplitStep : uint8_t {
  None = 0,
  Gpt2 = 1,              // the pattern of GPT-2, also ByteLevel(use_regex=true)
  Llama3 = 2,            // digits by three, contractions in any case
  Qwen2 = 3,             // the same with single digits
  SingleDigits = 4,      // Digits(individual_digits=true)
  DigitRuns = 5,         // Digits(individual_digits=false)
  PunctuationRuns = 6,   // Punctuation(contiguous)
  DigitTriples = 7,      // [0-9][0-9][0-9]
  SingleNewlines = 8,    // [\r\n]
  SpaceLetters = 9,      // \s?\p{L}+
  SpacePunctuation = 10, // \s?\p{P}+
  CjkRuns = 11,          // DeepSeek's ideograph ranges
  CasedWords = 12,       // DeepSeek LLM's list of cased letters, with \s? before
  WidePunctuation = 13,  // DeepSeek LLM's punctuation, with \s? before
  TrailingSpace = 14,    // \s+$
  Gpt4o = 15,            // words split where case changes, with contractions
  Tekken = 16,           // the same without contractions, single digits
  Qwen35 = 17,           // Qwen2 with marks among the letters
  Newlines = 18,         // runs of line feeds
  ByteDigitRuns = 19, // DigitRuns after ByteLevel: runs of bytes whose letter in the byte alphabet is numeric
};

enum VocabularyFlag : uint32_t {
  kAddSpacePrefix = 1u << 0,
  kNormalizeNfc = 1u << 1,
  kIgnoreMerges = 1u << 2, // a word that is a token needs no merging
  kByteFallback = 1u << 3, // characters without a token become byte tokens
  kFuseUnknown = 1u << 4,
  kWordsStartWithSpace = 1u << 5, // no merge crosses from a non-space to a space: words merge alone
  kStripLeadingSpace = 1u << 6,   // decode drops one space at the start
  kCleanText = 1u << 7,           // the BERT normalizer's four parts
  kSplitIdeographs = 1u << 8,
  kStripAccents = 1u << 9,
  kLowerCase = 1u << 10,
  kCleanUpSpaces = 1u << 11, // WordPiece decoder: no space before "." and its like
  kPrefixFirstOnly =
      1u << 12, // Metaspace "first": the space stands before the text, not after each special token,
  kPrefixUnlessSpace = 1u << 13, //   and not where there is one already
};

enum TokenFlag : uint16_t {
  kTokenSpecial = 1u << 0,      // skipped when decoding; never made from the text of a message
  kTokenAdded = 1u << 1,        // cut out of the text before anything else
  kTokenWhole = 1u << 2,        // merging its own bytes gives the token: a word found so needs no merging
  kTokenContinuation = 1u << 3, // WordPiece's "##"
  kTokenByte = 1u << 4,         // SentencePiece's <0x0A>
  kTokenStripLeft = 1u << 5,    // takes the white space around it along
  kTokenStripRight = 1u << 6,
  kTokenSingleWord = 1u << 7, // only between non-word characters
};

constexpr size_t kMaxSplitSteps = 8;
constexpr size_t kMaxAffix = 4;
constexpr uint32_t kVocabularyVersion = 1;

// One merge in the hash table: `left` then `right` become `result`; the smallest rank goes first.
struct MergeSlot {
  int32_t left, right; // left -1: empty
  uint32_t rank;
  int32_t result;
};

// Of a table in the form: byte offset from the start, and how many elements.
struct TableExtent {
  uint32_t offset, count;
};

struct VocabularyHeader {
  char magic[8]; // "GIRIHTOK"
  uint32_t version;
  TokenizerKind kind;
  uint32_t flags;
  int32_t bosToken, eosToken, unknownToken; // -1: none
  SplitStep splitSteps[kMaxSplitSteps];
  uint32_t prefixCount, suffixCount; // ids put around a text
  int32_t prefix[kMaxAffix], suffix[kMaxAffix];
  TableExtent tokenEnds;   // uint32_t: where each token's bytes end in `bytes`
  TableExtent tokenFlags;  // uint16_t
  TableExtent bytes;       // char
  TableExtent wordSlots;   // int32_t, a power of two: ids by hash of the bytes, -1 empty
  TableExtent mergeSlots;  // MergeSlot, a power of two
  TableExtent byteTokens;  // int32_t, 256
  TableExtent addedTokens; // int32_t: ids of added tokens, sorted by bytes
  TableExtent crateJson;   // char: TokenizerKind::Crate only, the tokenizer.json
};
static_assert(sizeof(VocabularyHeader) == 144 && alignof(VocabularyHeader) == 4);

// A checked view; copies are cheap, and the bytes must outlive them.
class Vocabulary {
public:
  Vocabulary() = default;
  // DataLoss when any offset, id or size does not hold; afterwards no access can leave the bytes.
  static Expected<Vocabulary> view(std::span<const std::byte> bytes);

  const VocabularyHeader &header() const { return *head; }
  bool has(VocabularyFlag flag) const { return head->flags & flag; }
  int32_t size() const { return static_cast<int32_t>(ends.size()); }
  bool contains(int32_t id) const { return id >= 0 && id < size(); }
  // Requires: contains(id), here and below.
  std::string_view tokenBytes(int32_t id) const {
    uint32_t begin = id == 0 ? 0 : ends[id - 1];
    return bytes.substr(begin, ends[id] - begin);
  }
  bool tokenHas(int32_t id, TokenFlag flag) const { return flags[id] & flag; }
  // Added tokens that the text of a message may not become: the special ones, and those written like one
  // ("<|turn|>"): some vocabularies list the tokens that part their turns as ordinary words.
  bool isGuarded(int32_t id) const;
  // Ordinary tokens only, neither special nor byte tokens; -1: none.
  int32_t findWord(std::string_view word, bool continuation = false) const;
  // Null: these two do not merge.
  const MergeSlot *findMerge(int32_t left, int32_t right) const;
  int32_t byteToken(uint8_t byte) const { return byteTokens[byte]; }
  // Sorted by bytes.
  std::span<const int32_t> addedTokens() const { return added; }
  std::string_view crateJson() const { return json; }

  static uint64_t hashWord(std::string_view word, bool continuation);
  static uint64_t hashMerge(int32_t left, int32_t right);

private:
  Status checkIds() const;

  const VocabularyHeader *head = nullptr;
  std::span<const uint32_t> ends;
  std::span<const uint16_t> flags;
  std::string_view bytes;
  std::span<const int32_t> words;
  std::span<const MergeSlot> merges;
  std::span<const int32_t> byteTokens;
  std::span<const int32_t> added;
  std::string_view json;
};

} // namespace girih
