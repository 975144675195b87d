// SPDX-License-Identifier: Apache-2.0
// The pair with the smallest rank merges first, the leftmost of equals; two loops, for short words and for
// long texts.
#include "runtime/text/byte_pair_encoding.h"

#include "runtime/text/unicode/unicode.h"

#include <queue>

namespace girih {
namespace {

// Up to here scanning all pairs for the best beats a heap.
constexpr size_t kShortWord = 48;
constexpr uint32_t kNoRank = UINT32_MAX;

void appendUnknown(const Vocabulary &vocabulary, std::vector<int32_t> &ids) {
  int32_t unknown = vocabulary.header().unknownToken;
  bool fused = vocabulary.has(kFuseUnknown) && !ids.empty() && ids.back() == unknown;
  if (unknown >= 0 && !fused)
    ids.push_back(unknown);
}

void appendBytes(const Vocabulary &vocabulary, std::string_view word, std::vector<int32_t> &ids) {
  for (char c : word) {
    int32_t id = vocabulary.byteToken(static_cast<uint8_t>(c));
    if (id >= 0)
      ids.push_back(id);
    else
      appendUnknown(vocabulary, ids);
  }
}

// SentencePiece's first symbols are characters; one that is no token falls back to its bytes, all or none.
void appendCharacters(const Vocabulary &vocabulary, std::string_view word, std::vector<int32_t> &ids) {
  for (size_t at = 0; at < word.size();) {
    std::string_view character = word.substr(at, unicode::decodeAt(word, at).length);
    at += character.size();
    if (int32_t id = vocabulary.findWord(character); id >= 0) {
      ids.push_back(id);
      continue;
    }
    bool hasBytes = vocabulary.has(kByteFallback);
    for (char c : character)
      hasBytes = hasBytes && vocabulary.byteToken(static_cast<uint8_t>(c)) >= 0;
    if (hasBytes)
      appendBytes(vocabulary, character, ids);
    else
      appendUnknown(vocabulary, ids);
  }
}

// Merges ids[begin..] in place.
void mergeShort(const Vocabulary &vocabulary, std::vector<int32_t> &ids, size_t begin) {
  size_t count = ids.size() - begin;
  int32_t *symbols = ids.data() + begin;
  uint32_t ranks[kShortWord]; // of the pair that begins at each symbol
  int32_t results[kShortWord];
  auto look = [&](size_t i) {
    const MergeSlot *merge = i + 1 < count ? vocabulary.findMerge(symbols[i], symbols[i + 1]) : nullptr;
    ranks[i] = merge ? merge->rank : kNoRank;
    results[i] = merge ? merge->result : -1;
  };
  for (size_t i = 0; i < count; ++i)
    look(i);
  for (;;) {
    size_t best = 0;
    for (size_t i = 1; i + 1 < count; ++i)
      if (ranks[i] < ranks[best])
        best = i;
    if (count < 2 || ranks[best] == kNoRank)
      break;
    symbols[best] = results[best];
    --count;
    for (size_t i = best + 1; i < count; ++i) {
      symbols[i] = symbols[i + 1];
      ranks[i] = ranks[i + 1];
      results[i] = results[i + 1];
    }
    look(best);
    if (best > 0)
      look(best - 1);
  }
  ids.resize(begin + count);
}

struct Symbol {
  int32_t id; // -1: merged into an earlier one
  int32_t previous, next;
};

struct Candidate {
  uint32_t rank;
  int32_t position;
  int32_t left, right, result;
  // Smallest rank first, then leftmost.
  bool operator<(const Candidate &other) const {
    return rank != other.rank ? rank > other.rank : position > other.position;
  }
};

// O(n log n). A candidate whose symbols have changed since it was queued is dropped when it comes up.
void mergeLong(const Vocabulary &vocabulary, std::vector<int32_t> &ids, size_t begin) {
  std::vector<Symbol> symbols;
  int32_t count = static_cast<int32_t>(ids.size() - begin);
  for (int32_t i = 0; i < count; ++i)
    symbols.push_back({ids[begin + size_t(i)], i - 1, i + 1 < count ? i + 1 : -1});
  std::priority_queue<Candidate> queue;
  auto consider = [&](int32_t at) {
    if (at < 0 || symbols[size_t(at)].next < 0)
      return;
    int32_t left = symbols[size_t(at)].id, right = symbols[size_t(symbols[size_t(at)].next)].id;
    if (const MergeSlot *merge = vocabulary.findMerge(left, right))
      queue.push({merge->rank, at, left, right, merge->result});
  };
  for (int32_t i = 0; i < count; ++i)
    consider(i);
  while (!queue.empty()) {
    Candidate best = queue.top();
    queue.pop();
    Symbol &left = symbols[size_t(best.position)];
    if (left.id != best.left || left.next < 0 || symbols[size_t(left.next)].id != best.right)
      continue;
    Symbol &right = symbols[size_t(left.next)];
    left.id = best.result;
    right.id = -1;
    left.next = right.next;
    if (right.next >= 0)
      symbols[size_t(right.next)].previous = best.position;
    consider(left.previous);
    consider(best.position);
  }
  ids.resize(begin);
  for (int32_t at = 0; at >= 0; at = symbols[size_t(at)].next)
    ids.push_back(symbols[size_t(at)].id);
}

} // namespace

void encodeByPairs(const Vocabulary &vocabulary, std::string_view word, bool useWhole,
                   std::vector<int32_t> &ids) {
  if (int32_t id = vocabulary.findWord(word);
      id >= 0 && useWhole && (vocabulary.has(kIgnoreMerges) || vocabulary.tokenHas(id, kTokenWhole))) {
    ids.push_back(id);
    return;
  }
  size_t begin = ids.size();
  if (vocabulary.header().kind == TokenizerKind::ByteLevelBpe)
    appendBytes(vocabulary, word, ids);
  else
    appendCharacters(vocabulary, word, ids);
  size_t count = ids.size() > begin ? ids.size() - begin : 0;
  if (count > kShortWord)
    mergeLong(vocabulary, ids, begin);
  else if (count > 1)
    mergeShort(vocabulary, ids, begin);
}

} // namespace girih
