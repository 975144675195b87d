// SPDX-License-Identifier: Apache-2.0
// The own engine: added tokens, normaliser, pre-tokenizer and model over one mapped vocabulary.
#include "runtime/text/token_model.h"

#include "runtime/text/byte_pair_encoding.h"
#include "runtime/text/split_text.h"
#include "runtime/text/unicode/unicode.h"
#include "runtime/text/word_piece.h"

#include <algorithm>

namespace girih {
namespace {

// SentencePiece writes spaces as this character; the tables hold plain spaces instead.
constexpr std::string_view kSpaceMark = "\xE2\x96\x81";

std::string spaceMarksToSpaces(std::string_view text) {
  std::string out;
  out.reserve(text.size() + 1);
  for (size_t at = 0; at < text.size();) {
    size_t mark = std::min(text.find(kSpaceMark, at), text.size());
    out.append(text.substr(at, mark - at));
    if (mark < text.size())
      out.push_back(' ');
    at = mark + kSpaceMark.size();
  }
  return out;
}

// Before these words and signs Hugging Face's WordPiece decoder drops the space.
bool joinsWordBefore(std::string_view token) {
  static constexpr std::string_view kJoining[] = {".", "?", "!", ",", "n't", "'m", "'s", "'ve", "'re"};
  return std::find(std::begin(kJoining), std::end(kJoining), token) != std::end(kJoining);
}

class TableModel final : public TokenizerModel {
public:
  using TokenizerModel::TokenizerModel;

  Expected<std::vector<int32_t>> encode(std::string_view text, const EncodeOptions &options) const override {
    std::string replaced;
    if (options.malformed == MalformedText::Replace && !unicode::isWellFormed(text)) {
      if (!options.barriers.empty())
        return invalidArgument(
            "a text with barriers holds bytes that are no UTF-8; rendered prompts never do");
      replaced = unicode::replaceMalformed(text);
      text = replaced;
    }
    const VocabularyHeader &header = vocabulary.header();
    std::vector<int32_t> ids;
    ids.reserve(text.size() / 3 + 8);
    if (options.addSpecial)
      ids.insert(ids.end(), header.prefix, header.prefix + header.prefixCount);
    for (const TextPart &part : cutAddedTokens(vocabulary, text, options.parseSpecial, options.barriers)) {
      if (part.id >= 0)
        ids.push_back(part.id);
      else
        encodePart(part.text, part.text.data() == text.data(), ids);
    }
    if (options.addSpecial)
      ids.insert(ids.end(), header.suffix, header.suffix + header.suffixCount);
    return ids;
  }

  std::string decodeBytes(std::span<const int32_t> ids, bool skipSpecial) const override {
    std::string out;
    bool atStart = true;
    for (int32_t id : ids)
      appendToken(id, skipSpecial, atStart, out);
    return out;
  }

  bool decodesTokenByToken() const override { return true; }

  void appendToken(int32_t id, bool skipSpecial, bool &atStart, std::string &out) const override {
    if (!vocabulary.contains(id) || (skipSpecial && vocabulary.tokenHas(id, kTokenSpecial)))
      return;
    std::string_view token = vocabulary.tokenBytes(id);
    if (vocabulary.header().kind == TokenizerKind::WordPiece) {
      bool joins = vocabulary.tokenHas(id, kTokenContinuation) ||
                   (vocabulary.has(kCleanUpSpaces) && joinsWordBefore(token));
      if (!atStart && !joins)
        out.push_back(' ');
    } else if (atStart && vocabulary.has(kStripLeadingSpace) && token.starts_with(' ')) {
      token.remove_prefix(1);
      atStart = false;
    }
    out.append(token);
    atStart = atStart && token.empty();
  }

  int32_t vocabSize() const override { return vocabulary.size(); }

  int32_t tokenToId(std::string_view token) const override {
    auto added = vocabulary.addedTokens();
    auto it = std::lower_bound(added.begin(), added.end(), token,
                               [&](int32_t id, std::string_view x) { return vocabulary.tokenBytes(id) < x; });
    if (it != added.end() && vocabulary.tokenBytes(*it) == token)
      return *it;
    if (int32_t id = vocabulary.findWord(token); id >= 0)
      return id;
    return token.size() == 1 ? vocabulary.byteToken(static_cast<uint8_t>(token[0])) : -1;
  }

  std::string idToToken(int32_t id) const override {
    return vocabulary.contains(id) ? std::string(vocabulary.tokenBytes(id)) : std::string();
  }

  bool isSpecial(int32_t id) const override {
    return vocabulary.contains(id) && vocabulary.tokenHas(id, kTokenSpecial);
  }

  bool isGuarded(int32_t id) const override { return vocabulary.contains(id) && vocabulary.isGuarded(id); }

private:
  void encodePart(std::string_view part, bool isFirst, std::vector<int32_t> &ids) const {
    std::string normalized;
    if (vocabulary.has(kNormalizeNfc)) {
      normalized = unicode::toNfc(part);
      part = normalized;
    }
    switch (vocabulary.header().kind) {
    case TokenizerKind::ByteLevelBpe:
      if (vocabulary.has(kAddSpacePrefix) && !part.starts_with(' ')) {
        normalized = " " + std::string(part);
        part = normalized;
      }
      for (std::string_view piece : splitText(part, vocabulary.header().splitSteps))
        encodeByPairs(vocabulary, piece, true, ids);
      break;
    case TokenizerKind::SentencePieceBpe:
      encodeSentencePiece(part, isFirst, ids);
      break;
    case TokenizerKind::WordPiece:
      encodeByWordPiece(vocabulary, normalizeForWordPiece(vocabulary, part), ids);
      break;
    case TokenizerKind::Crate:
      break;
    }
  }

  void encodeSentencePiece(std::string_view part, bool isFirst, std::vector<int32_t> &ids) const {
    std::string text = spaceMarksToSpaces(part);
    bool prefixed = vocabulary.has(kAddSpacePrefix) && (isFirst || !vocabulary.has(kPrefixFirstOnly)) &&
                    !(vocabulary.has(kPrefixUnlessSpace) && text.starts_with(' '));
    if (prefixed)
      text.insert(text.begin(), ' ');
    for (std::string_view piece : splitText(text, vocabulary.header().splitSteps)) {
      for (size_t at = 0; at < piece.size();) {
        size_t end = wordEnd(piece, at);
        encodeByPairs(vocabulary, piece.substr(at, end - at), true, ids);
        at = end;
      }
    }
  }

  // With kWordsStartWithSpace: the next space that follows a character which is none.
  size_t wordEnd(std::string_view text, size_t at) const {
    if (!vocabulary.has(kWordsStartWithSpace))
      return text.size();
    for (size_t end = at + 1; end < text.size(); ++end)
      if (text[end] == ' ' && text[end - 1] != ' ')
        return end;
    return text.size();
  }
};

} // namespace

Expected<std::shared_ptr<const TokenizerModel>>
makeTableModel(std::span<const std::byte> bytes, std::vector<std::byte> owned, Vocabulary vocabulary) {
  return std::shared_ptr<const TokenizerModel>(
      std::make_shared<TableModel>(bytes, std::move(owned), vocabulary));
}

} // namespace girih
