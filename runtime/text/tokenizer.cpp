// SPDX-License-Identifier: Apache-2.0
// The public face of both engines, and the streaming decoder.
#include "runtime/text/tokenizer.h"

#include "runtime/text/token_model.h"
#include "runtime/text/unicode/unicode.h"

#include <algorithm>

namespace girih {
namespace {

Expected<std::shared_ptr<const TokenizerModel>> makeModel(std::span<const std::byte> bytes,
                                                          std::vector<std::byte> owned) {
  GIRIH_ASSIGN(Vocabulary vocabulary, Vocabulary::view(bytes));
  auto make = vocabulary.header().kind == TokenizerKind::Crate ? makeCrateModel : makeTableModel;
  return make(bytes, std::move(owned), vocabulary);
}

} // namespace

Expected<Tokenizer> Tokenizer::load(std::span<const std::byte> bytes) {
  GIRIH_ASSIGN(auto model, makeModel(bytes, {}));
  return Tokenizer(std::move(model));
}

Expected<Tokenizer> Tokenizer::adopt(std::vector<std::byte> bytes) {
  std::span<const std::byte> view = bytes; // a moved vector keeps its storage
  GIRIH_ASSIGN(auto model, makeModel(view, std::move(bytes)));
  return Tokenizer(std::move(model));
}

std::span<const std::byte> Tokenizer::serialize() const { return model->serialized(); }

Expected<std::vector<int32_t>> Tokenizer::encode(std::string_view text, const EncodeOptions &options) const {
  if (!std::is_sorted(options.barriers.begin(), options.barriers.end()) ||
      (!options.barriers.empty() && options.barriers.back() > text.size()))
    return invalidArgument("barriers must ascend and lie within the text's " + std::to_string(text.size()) +
                           " bytes");
  return model->encode(text, options);
}

std::string Tokenizer::decode(std::span<const int32_t> ids, bool skipSpecial) const {
  std::string bytes = model->decodeBytes(ids, skipSpecial);
  return unicode::isWellFormed(bytes) ? bytes : unicode::replaceMalformed(bytes);
}

std::string Tokenizer::decodeBytes(std::span<const int32_t> ids, bool skipSpecial) const {
  return model->decodeBytes(ids, skipSpecial);
}

int32_t Tokenizer::vocabSize() const { return model->vocabSize(); }
int32_t Tokenizer::tokenToId(std::string_view token) const { return model->tokenToId(token); }
std::string Tokenizer::idToToken(int32_t id) const { return model->idToToken(id); }
bool Tokenizer::isSpecial(int32_t id) const { return model->isSpecial(id); }

std::vector<std::string> Tokenizer::specialTexts() const {
  std::vector<std::string> texts;
  for (int32_t id = 0; id < vocabSize(); ++id)
    if (model->isGuarded(id))
      texts.push_back(idToToken(id));
  return texts;
}

int32_t Tokenizer::bosToken() const { return model->form().header().bosToken; }
int32_t Tokenizer::eosToken() const { return model->form().header().eosToken; }

bool Tokenizer::addsBos() const {
  const VocabularyHeader &header = model->form().header();
  return header.prefixCount > 0 && header.prefix[0] == header.bosToken;
}

bool Tokenizer::addsEos() const {
  const VocabularyHeader &header = model->form().header();
  return header.suffixCount > 0 && header.suffix[header.suffixCount - 1] == header.eosToken;
}

std::string_view Tokenizer::kind() const {
  switch (model->form().header().kind) {
  case TokenizerKind::ByteLevelBpe:
    return "byte-level bpe";
  case TokenizerKind::SentencePieceBpe:
    return "sentencepiece bpe";
  case TokenizerKind::WordPiece:
    return "wordpiece";
  case TokenizerKind::Crate:
    break;
  }
  return "tokenizers";
}

StreamingDecoder::StreamingDecoder(Tokenizer tokenizer, bool skipSpecial)
    : tokenizer(std::move(tokenizer)), skipSpecial(skipSpecial) {}

std::string StreamingDecoder::push(int32_t id) {
  if (!tokenizer.model->decodesTokenByToken())
    return pushInContext(id);
  tokenizer.model->appendToken(id, skipSpecial, atStart, pending);
  size_t complete = pending.size() - unicode::incompleteTail(pending);
  std::string out = unicode::replaceMalformed(std::string_view(pending).substr(0, complete));
  pending.erase(0, complete);
  return out;
}

// A decoder of the crate may treat a token by its neighbours: decode from the last border, and give what is
// new. A text that ends in U+FFFD may still be the beginning of a character.
std::string StreamingDecoder::pushInContext(int32_t id) {
  window.push_back(id);
  std::string text = tokenizer.decode(window, skipSpecial);
  if (text.size() <= pending.size() || text.ends_with("\xEF\xBF\xBD"))
    return {};
  std::string out = text.substr(pending.size());
  window.erase(window.begin(), window.begin() + static_cast<ptrdiff_t>(windowGiven));
  windowGiven = window.size();
  pending = tokenizer.decode(window, skipSpecial);
  return out;
}

std::string StreamingDecoder::finish() {
  std::string out;
  if (tokenizer.model->decodesTokenByToken()) {
    out = unicode::replaceMalformed(pending);
  } else {
    std::string text = tokenizer.decode(window, skipSpecial);
    out = text.substr(std::min(pending.size(), text.size()));
  }
  window.clear();
  windowGiven = 0;
  pending.clear();
  atStart = true;
  return out;
}

} // namespace girih
