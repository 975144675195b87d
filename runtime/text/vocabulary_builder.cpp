// SPDX-License-Identifier: Apache-2.0
// Writes the header, the flat arrays and the two hash tables of a tokenizer's stored form.
#include "runtime/text/vocabulary_builder.h"

#include "runtime/text/byte_pair_encoding.h"

#include <algorithm>
#include <bit>
#include <cstring>

namespace girih {
namespace {

// Appends tables, each 8-byte aligned, behind the header.
class Writer {
public:
  Writer() : bytes(sizeof(VocabularyHeader)) {}

  template <typename T> TableExtent append(const std::vector<T> &table) {
    bytes.resize((bytes.size() + 7) / 8 * 8);
    TableExtent extent{static_cast<uint32_t>(bytes.size()), static_cast<uint32_t>(table.size())};
    const std::byte *data = reinterpret_cast<const std::byte *>(table.data());
    bytes.insert(bytes.end(), data, data + table.size() * sizeof(T));
    return extent;
  }

  std::vector<std::byte> bytes;
};

// At most 3/4 full, and always with an empty slot.
size_t slotCount(size_t entries) { return std::bit_ceil(entries + entries / 3 + 1); }

std::vector<int32_t> hashWords(const VocabularyDescription &description) {
  std::vector<int32_t> ids;
  for (size_t id = 0; id < description.tokens.size(); ++id)
    if (description.tokens[id].isWord)
      ids.push_back(static_cast<int32_t>(id));
  std::vector<int32_t> slots(slotCount(ids.size()), -1);
  size_t mask = slots.size() - 1;
  // Ascending ids: of two tokens with the same bytes the look-up finds the first.
  for (int32_t id : ids) {
    const TokenDescription &token = description.tokens[size_t(id)];
    size_t at = Vocabulary::hashWord(token.bytes, token.flags & kTokenContinuation) & mask;
    while (slots[at] >= 0)
      at = (at + 1) & mask;
    slots[at] = id;
  }
  return slots;
}

std::vector<MergeSlot> hashMerges(const VocabularyDescription &description) {
  std::vector<MergeSlot> slots(slotCount(description.merges.size()), MergeSlot{-1, -1, 0, -1});
  size_t mask = slots.size() - 1;
  uint32_t rank = 0;
  for (const auto &merge : description.merges) {
    size_t at = Vocabulary::hashMerge(merge.left, merge.right) & mask;
    while (slots[at].left >= 0 && (slots[at].left != merge.left || slots[at].right != merge.right))
      at = (at + 1) & mask;
    // A pair named twice keeps its last rank, as in Hugging Face's map of merges.
    slots[at] = {merge.left, merge.right, rank++, merge.result};
  }
  return slots;
}

std::vector<int32_t> sortAdded(const VocabularyDescription &description) {
  std::vector<int32_t> added;
  for (size_t id = 0; id < description.tokens.size(); ++id)
    if ((description.tokens[id].flags & kTokenAdded) && !description.tokens[id].bytes.empty())
      added.push_back(static_cast<int32_t>(id));
  std::sort(added.begin(), added.end(), [&](int32_t a, int32_t b) {
    int order = description.tokens[size_t(a)].bytes.compare(description.tokens[size_t(b)].bytes);
    return order != 0 ? order < 0 : a < b;
  });
  auto sameBytes = [&](int32_t a, int32_t b) {
    return description.tokens[size_t(a)].bytes == description.tokens[size_t(b)].bytes;
  };
  added.erase(std::unique(added.begin(), added.end(), sameBytes), added.end());
  return added;
}

// Whether a merge may cross from a character that is no space to a space.
bool mergesCrossWords(const VocabularyDescription &description) {
  return std::any_of(description.merges.begin(), description.merges.end(), [&](const auto &merge) {
    const std::string &bytes = description.tokens[size_t(merge.result)].bytes;
    for (size_t i = 1; i < bytes.size(); ++i)
      if (bytes[i] == ' ' && bytes[i - 1] != ' ')
        return true;
    return false;
  });
}

Status check(const VocabularyDescription &description) {
  size_t count = description.tokens.size(), bytes = 0;
  for (const TokenDescription &token : description.tokens)
    bytes += token.bytes.size();
  if (count > (1u << 27) || bytes + description.crateJson.size() > (1u << 30) ||
      description.merges.size() > (1u << 26))
    return invalidArgument("the vocabulary has " + std::to_string(count) + " tokens of " +
                           std::to_string(bytes) + " bytes and " + std::to_string(description.merges.size()) +
                           " merges; at most 134217728 tokens, 1 GiB and 67108864 merges fit");
  if (description.splitSteps.size() > kMaxSplitSteps || description.prefix.size() > kMaxAffix ||
      description.suffix.size() > kMaxAffix)
    return invalidArgument("the tokenizer puts " + std::to_string(description.prefix.size()) +
                           " tokens before and " + std::to_string(description.suffix.size()) +
                           " after a text; at most 4 each fit");
  auto isId = [&](int32_t id) { return id >= 0 && size_t(id) < count; };
  for (const auto &merge : description.merges)
    if (!isId(merge.left) || !isId(merge.right) || !isId(merge.result))
      return invalidArgument("a merge names token " + std::to_string(merge.result) + " of " +
                             std::to_string(count));
  return {};
}

// Sets kTokenWhole on each token that merging its own bytes gives back.
Status markWholeTokens(std::vector<std::byte> &bytes) {
  GIRIH_ASSIGN(Vocabulary vocabulary, Vocabulary::view(bytes));
  auto *flags = reinterpret_cast<uint16_t *>(bytes.data() + vocabulary.header().tokenFlags.offset);
  std::vector<int32_t> ids;
  for (int32_t id = 0; id < vocabulary.size(); ++id) {
    if (vocabulary.findWord(vocabulary.tokenBytes(id)) != id)
      continue;
    ids.clear();
    encodeByPairs(vocabulary, vocabulary.tokenBytes(id), false, ids);
    if (ids.size() == 1 && ids[0] == id)
      flags[id] |= kTokenWhole;
  }
  return {};
}

} // namespace

Expected<std::vector<std::byte>> buildVocabulary(const VocabularyDescription &description) {
  GIRIH_TRY(check(description));
  VocabularyHeader header{};
  std::memcpy(header.magic, "GIRIHTOK", 8);
  header.version = kVocabularyVersion;
  header.kind = description.kind;
  header.flags = description.flags;
  if (description.kind == TokenizerKind::SentencePieceBpe && !mergesCrossWords(description))
    header.flags |= kWordsStartWithSpace;
  header.bosToken = description.bosToken;
  header.eosToken = description.eosToken;
  header.unknownToken = description.unknownToken;
  std::copy(description.splitSteps.begin(), description.splitSteps.end(), header.splitSteps);
  header.prefixCount = static_cast<uint32_t>(description.prefix.size());
  header.suffixCount = static_cast<uint32_t>(description.suffix.size());
  std::copy(description.prefix.begin(), description.prefix.end(), header.prefix);
  std::copy(description.suffix.begin(), description.suffix.end(), header.suffix);

  std::vector<uint32_t> ends;
  std::vector<uint16_t> flags;
  std::vector<char> text;
  for (const TokenDescription &token : description.tokens) {
    text.insert(text.end(), token.bytes.begin(), token.bytes.end());
    ends.push_back(static_cast<uint32_t>(text.size()));
    flags.push_back(token.flags);
  }
  Writer writer;
  header.tokenEnds = writer.append(ends);
  header.tokenFlags = writer.append(flags);
  header.bytes = writer.append(text);
  header.wordSlots = writer.append(hashWords(description));
  header.mergeSlots = writer.append(hashMerges(description));
  header.byteTokens = writer.append(description.byteTokens);
  header.addedTokens = writer.append(sortAdded(description));
  header.crateJson =
      writer.append(std::vector<char>(description.crateJson.begin(), description.crateJson.end()));
  std::memcpy(writer.bytes.data(), &header, sizeof header);
  bool isBpe =
      description.kind == TokenizerKind::ByteLevelBpe || description.kind == TokenizerKind::SentencePieceBpe;
  if (isBpe)
    GIRIH_TRY(markWholeTokens(writer.bytes));
  else
    GIRIH_TRY(Vocabulary::view(writer.bytes).isOk()
                  ? Status()
                  : internalError("the tokenizer's own form does not load"));
  return std::move(writer.bytes);
}

} // namespace girih
