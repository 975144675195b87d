// SPDX-License-Identifier: Apache-2.0
// Tokenizer::fromHuggingFace: vocabulary, merges and added tokens of a tokenizer.json.
#include "runtime/text/byte_alphabet.h"
#include "runtime/text/merge_list.h"
#include "runtime/text/tokenizer.h"
#include "runtime/text/tokenizer_json.h"
#include "runtime/text/vocabulary_builder.h"

#include <simdjson.h>

#include <algorithm>

namespace girih {
namespace {

using simdjson::dom::array;
using simdjson::dom::element;
using simdjson::dom::object;

constexpr int64_t kMostTokens = 1 << 22;

// The element itself, or null where there is none.
element child(const element &parent, const char *key, const element &null) {
  element found;
  return parent[key].get(found) ? null : found;
}

// `"bos_token": "<s>"` or `{"content": "<s>", ...}`.
std::string configuredToken(const element &config, const char *key) {
  std::string_view text;
  if (!config[key].get(text) || !config[key]["content"].get(text))
    return std::string(text);
  return {};
}

struct AddedToken {
  std::string_view content;
  int64_t id = -1;
  bool special = false, singleWord = false, stripLeft = false, stripRight = false, normalized = false;
};

bool isAscii(std::string_view text) {
  return std::all_of(text.begin(), text.end(), [](char c) { return static_cast<unsigned char>(c) < 0x80; });
}

class Importer {
public:
  Importer(const element &root, const element &null) : root(root), null(null) {}

  Status read() {
    reading.description.flags |= readModelFlags();
    readNormalizer(child(root, "normalizer", null), reading);
    // Only a normaliser that replaces spaces, or Metaspace, makes byte pairs SentencePiece's.
    readPreTokenizer(child(root, "pre_tokenizer", null), reading);
    if (reading.description.kind == TokenizerKind::ByteLevelBpe &&
        !hasByteLevel(child(root, "pre_tokenizer", null)))
      unknown("model BPE over neither bytes nor SentencePiece's spaces");
    readDecoder(child(root, "decoder", null), reading);
    readPostProcessor(child(root, "post_processor", null), reading);
    GIRIH_TRY(readAdded());
    if (reading.unknownPart.empty())
      GIRIH_TRY(readVocabulary());
    return {};
  }

  // The id of a token that the configuration names; -1: not among the added ones.
  int32_t idOf(std::string_view content) const {
    for (const AddedToken &token : added)
      if (!content.empty() && token.content == content)
        return static_cast<int32_t>(token.id);
    return -1;
  }

  TokenizerJsonReading reading;

private:
  void unknown(std::string part) {
    if (reading.unknownPart.empty())
      reading.unknownPart = std::move(part);
  }

  static bool hasByteLevel(const element &preTokenizer) {
    std::string_view type;
    array steps;
    if (!preTokenizer["type"].get(type) && type == "ByteLevel")
      return true;
    if (preTokenizer["pretokenizers"].get(steps))
      return false;
    return std::any_of(steps.begin(), steps.end(), [](const element &step) { return hasByteLevel(step); });
  }

  uint32_t readModelFlags() {
    element model = child(root, "model", null);
    std::string_view type, text;
    bool fallback = false, fuse = false, ignore = false;
    if (model["type"].get(type))
      type = "BPE"; // files older than the field
    if (type == "WordPiece") {
      reading.description.kind = TokenizerKind::WordPiece;
      if (model["continuing_subword_prefix"].get(text) || text != "##")
        unknown("model WordPiece with a prefix other than ##");
      return 0;
    }
    if (type != "BPE")
      unknown("model " + std::string(type));
    for (const char *key : {"continuing_subword_prefix", "end_of_word_suffix"})
      if (!model[key].get(text) && !text.empty())
        unknown("model BPE with " + std::string(key));
    double dropout = 0;
    if (!model["dropout"].get(dropout) && dropout != 0)
      unknown("model BPE with dropout");
    fallback = !model["byte_fallback"].get(fallback) && fallback;
    fuse = !model["fuse_unk"].get(fuse) && fuse;
    ignore = !model["ignore_merges"].get(ignore) && ignore;
    return (fallback ? kByteFallback : 0u) | (fuse ? kFuseUnknown : 0u) | (ignore ? kIgnoreMerges : 0u);
  }

  Status readAdded() {
    array list;
    if (root["added_tokens"].get(list))
      return {};
    for (element item : list) {
      AddedToken token;
      if (item["content"].get(token.content) || item["id"].get(token.id) || token.id < 0 ||
          token.id >= kMostTokens)
        return invalidArgument("an entry of added_tokens has no content, or an id outside 0 to 4194303");
      auto flag = [&](const char *key, bool &out) {
        bool value;
        out = !item[key].get(value) && value;
      };
      flag("special", token.special);
      flag("single_word", token.singleWord);
      flag("lstrip", token.stripLeft);
      flag("rstrip", token.stripRight);
      flag("normalized", token.normalized);
      bool normalizes = !child(root, "normalizer", null).is_null();
      bool onlyNfc = reading.description.kind == TokenizerKind::ByteLevelBpe && isAscii(token.content);
      if (token.normalized && normalizes && !onlyNfc)
        unknown("added token \"" + std::string(token.content) + "\" that is looked for in normalised text");
      added.push_back(token);
    }
    return {};
  }

  Status readVocabulary() {
    element model = child(root, "model", null);
    object vocabulary;
    if (model["vocab"].get(vocabulary))
      return invalidArgument("tokenizer.json has no object \"model.vocab\"");
    VocabularyDescription &out = reading.description;
    TokenIndex index;
    for (auto [spelling, value] : vocabulary) {
      int64_t id;
      if (value.get(id) || id < 0 || id >= kMostTokens)
        return invalidArgument("token \"" + std::string(spelling) + "\" has no id from 0 to 4194303");
      GIRIH_TRY(place(spelling, id));
      index.emplace(spelling, static_cast<int32_t>(id));
    }
    for (const AddedToken &token : added)
      placeAdded(token, index);
    std::string_view unknownText;
    if (!model["unk_token"].get(unknownText))
      if (auto it = index.find(unknownText); it != index.end())
        out.unknownToken = it->second;
    return readMerges(model, index);
  }

  TokenDescription &slot(int64_t id) {
    auto &tokens = reading.description.tokens;
    if (tokens.size() <= size_t(id))
      tokens.resize(size_t(id) + 1, {"", 0, false});
    return tokens[size_t(id)];
  }

  Status place(std::string_view spelling, int64_t id) {
    VocabularyDescription &out = reading.description;
    TokenDescription &token = slot(id);
    token.isWord = true;
    token.bytes = spelling;
    switch (out.kind) {
    case TokenizerKind::ByteLevelBpe: {
      std::optional<std::string> bytes = bytesFromAlphabet(spelling);
      token.isWord = bytes.has_value();
      token.bytes = bytes.value_or(std::string(spelling));
      if (bytes && bytes->size() == 1)
        out.byteTokens[static_cast<uint8_t>((*bytes)[0])] = static_cast<int32_t>(id);
      break;
    }
    case TokenizerKind::SentencePieceBpe:
      placeSentencePiece(token, id);
      break;
    case TokenizerKind::WordPiece:
      if (spelling.starts_with("##") && spelling.size() > 2) {
        token.bytes = spelling.substr(2);
        token.flags |= kTokenContinuation;
      }
      break;
    case TokenizerKind::Crate:
      return internalError("a tokenizer of the crate has no tables");
    }
    return {};
  }

  void placeSentencePiece(TokenDescription &token, int64_t id) {
    VocabularyDescription &out = reading.description;
    unsigned byte = 0;
    bool isByte = (out.flags & kByteFallback) && token.bytes.size() == 6 && token.bytes.starts_with("<0x") &&
                  std::sscanf(token.bytes.c_str(), "<0x%2X>", &byte) == 1;
    if (isByte) {
      token = {std::string(1, static_cast<char>(byte)), kTokenByte, false};
      out.byteTokens[byte] = static_cast<int32_t>(id);
      return;
    }
    constexpr std::string_view kMark = "\xE2\x96\x81";
    for (size_t at = 0; (at = token.bytes.find(kMark, at)) != std::string::npos; ++at)
      token.bytes.replace(at, kMark.size(), " ");
  }

  void placeAdded(const AddedToken &added, TokenIndex &index) {
    TokenDescription &token = slot(added.id);
    bool inModel = index.contains(added.content);
    index.emplace(added.content, static_cast<int32_t>(added.id));
    token.bytes = added.content; // matched and printed as written
    token.flags = kTokenAdded | (added.special ? kTokenSpecial : 0) |
                  (added.singleWord ? kTokenSingleWord : 0) | (added.stripLeft ? kTokenStripLeft : 0) |
                  (added.stripRight ? kTokenStripRight : 0);
    token.isWord = inModel && !added.special && reading.description.kind == TokenizerKind::SentencePieceBpe;
  }

  Status readMerges(const element &model, const TokenIndex &index) {
    array list;
    if (model["merges"].get(list))
      return {};
    std::vector<std::pair<std::string_view, std::string_view>> pairs;
    for (element item : list) {
      std::string_view left, right, both;
      if (!item.get(both)) { // "left right", the older writing
        size_t space = std::min(both.find(' '), both.size());
        left = both.substr(0, space);
        right = both.substr(std::min(space + 1, both.size()));
      } else if (item.at(0).get(left) || item.at(1).get(right)) {
        return invalidArgument("merge " + std::to_string(pairs.size()) +
                               " of tokenizer.json is not two tokens");
      }
      pairs.emplace_back(left, right);
    }
    GIRIH_ASSIGN(reading.description.merges, resolveMerges(pairs, index, reading.description.tokens));
    return {};
  }

  const element &root;
  const element &null;
  std::vector<AddedToken> added;
};

} // namespace

Expected<Tokenizer> Tokenizer::fromHuggingFace(std::string_view tokenizerJson,
                                               std::string_view tokenizerConfigJson) {
  simdjson::dom::parser parser, configParser, nullParser;
  element root, config, null;
  if (nullParser.parse(std::string_view("null")).get(null))
    return internalError("the JSON parser does not read null");
  if (auto error = parser.parse(tokenizerJson.data(), tokenizerJson.size()).get(root))
    return invalidArgument(std::string("tokenizer.json: ") + simdjson::error_message(error));
  config = null;
  if (!tokenizerConfigJson.empty())
    if (auto error = configParser.parse(tokenizerConfigJson.data(), tokenizerConfigJson.size()).get(config))
      return invalidArgument(std::string("tokenizer_config.json: ") + simdjson::error_message(error));

  Importer importer(root, null);
  GIRIH_TRY(importer.read());
  VocabularyDescription description = std::move(importer.reading.description);
  if (!importer.reading.unknownPart.empty()) {
    description = {}; // the crate runs the whole file
    description.kind = TokenizerKind::Crate;
    description.crateJson = tokenizerJson;
  }
  description.bosToken = importer.idOf(configuredToken(config, "bos_token"));
  description.eosToken = importer.idOf(configuredToken(config, "eos_token"));
  GIRIH_ASSIGN(std::vector<std::byte> bytes, buildVocabulary(description));
  return adopt(std::move(bytes));
}

} // namespace girih
