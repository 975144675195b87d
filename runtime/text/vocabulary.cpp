// SPDX-License-Identifier: Apache-2.0
// Checks a tokenizer's stored form once, and looks words and merges up in it.
#include "runtime/text/vocabulary.h"

#include <bit>
#include <cstring>
#include <string>

namespace girih {
namespace {

constexpr char kMagic[8] = {'G', 'I', 'R', 'I', 'H', 'T', 'O', 'K'};

uint64_t mix(uint64_t x) {
  x = (x ^ (x >> 32)) * 0x9E3779B97F4A7C15ull;
  return x ^ (x >> 29);
}

template <typename T>
Status extract(std::span<const std::byte> bytes, TableExtent extent, std::string_view name,
               std::span<const T> &out) {
  uint64_t size = uint64_t(extent.count) * sizeof(T);
  if (extent.offset % alignof(T) != 0 || extent.offset > bytes.size() || size > bytes.size() - extent.offset)
    return dataLoss("tokenizer table \"" + std::string(name) + "\" spans " + std::to_string(size) +
                    " bytes from " + std::to_string(extent.offset) + ", but the tokenizer has " +
                    std::to_string(bytes.size()));
  out = {reinterpret_cast<const T *>(bytes.data() + extent.offset), extent.count};
  return {};
}

Status extractText(std::span<const std::byte> bytes, TableExtent extent, std::string_view name,
                   std::string_view &out) {
  std::span<const char> span;
  GIRIH_TRY(extract(bytes, extent, name, span));
  out = {span.data(), span.size()};
  return {};
}

Status damaged(std::string what) {
  return dataLoss("the tokenizer's tables contradict each other: " + std::move(what) +
                  "; the file is damaged, compile it again");
}

// A table that find*() walks must have an empty slot, or a missing key would never end the walk.
template <typename T, typename IsEmpty>
Status checkHashTable(std::span<const T> slots, std::string_view name, IsEmpty isEmpty) {
  if (!std::has_single_bit(slots.size()))
    return damaged("table \"" + std::string(name) + "\" has " + std::to_string(slots.size()) +
                   " slots, which is no power of two");
  for (const T &slot : slots)
    if (isEmpty(slot))
      return {};
  return damaged("table \"" + std::string(name) + "\" has no empty slot");
}

} // namespace

uint64_t Vocabulary::hashWord(std::string_view word, bool continuation) {
  uint64_t hash = word.size() * 2 + continuation;
  size_t at = 0;
  for (; at + 8 <= word.size(); at += 8) {
    uint64_t chunk;
    std::memcpy(&chunk, word.data() + at, 8);
    hash = mix(hash ^ chunk) + 0x632BE59BD9B4E019ull;
  }
  uint64_t tail = 0;
  std::memcpy(&tail, word.data() + at, word.size() - at);
  return mix(mix(hash ^ tail));
}

uint64_t Vocabulary::hashMerge(int32_t left, int32_t right) {
  return mix(uint64_t(uint32_t(left)) << 32 | uint32_t(right));
}

bool Vocabulary::isGuarded(int32_t id) const {
  if (tokenHas(id, kTokenSpecial))
    return true;
  std::string_view token = tokenBytes(id);
  constexpr std::string_view kWideBar = "\xEF\xBD\x9C"; // DeepSeek writes U+FF5C
  auto opens = [&](std::string_view bar) {
    return token.starts_with("<") && token.substr(1).starts_with(bar);
  };
  auto closes = [&](std::string_view bar) {
    return token.ends_with(">") && token.substr(0, token.size() - 1).ends_with(bar);
  };
  return tokenHas(id, kTokenAdded) && (opens("|") || closes("|") || opens(kWideBar) || closes(kWideBar));
}

int32_t Vocabulary::findWord(std::string_view word, bool continuation) const {
  size_t mask = words.size() - 1;
  for (size_t at = hashWord(word, continuation) & mask;; at = (at + 1) & mask) {
    int32_t id = words[at];
    if (id < 0)
      return -1;
    if (tokenBytes(id) == word && tokenHas(id, kTokenContinuation) == continuation)
      return id;
  }
}

const MergeSlot *Vocabulary::findMerge(int32_t left, int32_t right) const {
  size_t mask = merges.size() - 1;
  for (size_t at = hashMerge(left, right) & mask;; at = (at + 1) & mask) {
    const MergeSlot &slot = merges[at];
    if (slot.left < 0)
      return nullptr;
    if (slot.left == left && slot.right == right)
      return &slot;
  }
}

Expected<Vocabulary> Vocabulary::view(std::span<const std::byte> data) {
  if (data.size() < sizeof(VocabularyHeader))
    return dataLoss("the tokenizer has " + std::to_string(data.size()) + " bytes; its header alone takes " +
                    std::to_string(sizeof(VocabularyHeader)));
  if (reinterpret_cast<uintptr_t>(data.data()) % 8 != 0)
    return invalidArgument("the tokenizer's bytes are not 8-byte aligned; map them at an aligned offset");
  Vocabulary v;
  v.head = reinterpret_cast<const VocabularyHeader *>(data.data());
  if (std::memcmp(v.head->magic, kMagic, sizeof kMagic) != 0)
    return dataLoss("the tokenizer does not begin with \"GIRIHTOK\"; the file is damaged or not one of ours");
  if (v.head->version != kVocabularyVersion)
    return failedPrecondition("the tokenizer has version " + std::to_string(v.head->version) +
                              "; this build reads " + std::to_string(kVocabularyVersion) +
                              ": compile the model again");
  GIRIH_TRY(extract(data, v.head->tokenEnds, "token ends", v.ends));
  GIRIH_TRY(extract(data, v.head->tokenFlags, "token flags", v.flags));
  GIRIH_TRY(extractText(data, v.head->bytes, "bytes", v.bytes));
  GIRIH_TRY(extract(data, v.head->wordSlots, "words", v.words));
  GIRIH_TRY(extract(data, v.head->mergeSlots, "merges", v.merges));
  GIRIH_TRY(extract(data, v.head->byteTokens, "byte tokens", v.byteTokens));
  GIRIH_TRY(extract(data, v.head->addedTokens, "added tokens", v.added));
  GIRIH_TRY(extractText(data, v.head->crateJson, "json", v.json));
  GIRIH_TRY(checkHashTable(v.words, "words", [](int32_t id) { return id < 0; }));
  GIRIH_TRY(checkHashTable(v.merges, "merges", [](const MergeSlot &slot) { return slot.left < 0; }));
  GIRIH_TRY(v.checkIds());
  return v;
}

Status Vocabulary::checkIds() const {
  if (ends.size() > size_t(INT32_MAX) || flags.size() != ends.size() || byteTokens.size() != 256)
    return damaged("the token tables differ in length");
  if (head->kind > TokenizerKind::Crate || head->prefixCount > kMaxAffix || head->suffixCount > kMaxAffix)
    return damaged("the header names a kind or a count that does not exist");
  uint32_t previous = 0;
  for (uint32_t end : ends) {
    if (end < previous || end > bytes.size())
      return damaged("a token ends at byte " + std::to_string(end) + " of " + std::to_string(bytes.size()));
    previous = end;
  }
  // -1 stands for "none" everywhere; one test for all ids keeps this loop at memory speed.
  uint32_t limit = static_cast<uint32_t>(ends.size());
  auto isId = [limit](int32_t id) { return uint32_t(id) < limit; };
  bool allHold = true;
  for (int32_t id : words)
    allHold &= id == -1 || isId(id);
  for (const MergeSlot &slot : merges)
    allHold &= slot.left < 0 || isId(slot.result);
  for (int32_t id : byteTokens)
    allHold &= id == -1 || isId(id);
  for (int32_t id : added)
    allHold &= isId(id) && !tokenBytes(id).empty();
  // The crate's own vocabulary is not in these tables.
  // Looking an added token up narrows a sorted range and reads no further than its tokens reach.
  for (size_t i = 0; allHold && i < added.size(); ++i)
    allHold &= i == 0 || tokenBytes(added[i - 1]) < tokenBytes(added[i]);
  for (int32_t id : {head->bosToken, head->eosToken, head->unknownToken})
    allHold &= id == -1 || isId(id) || (head->kind == TokenizerKind::Crate && id >= 0);
  for (size_t i = 0; i < kMaxAffix; ++i)
    allHold &= (i >= head->prefixCount || isId(head->prefix[i])) &&
               (i >= head->suffixCount || isId(head->suffix[i]));
  return allHold ? Status()
                 : damaged("an id lies outside the " + std::to_string(limit) +
                           " tokens, or added tokens are out of order");
}

} // namespace girih
