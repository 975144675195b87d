// SPDX-License-Identifier: Apache-2.0
// The fallback engine: a tokenizer.json that the `tokenizers` crate reads and runs.
#include "runtime/text/ffi_call.h"
#include "runtime/text/token_model.h"
#include "runtime/text/unicode/unicode.h"

#include <algorithm>

namespace girih {
namespace {

struct DestroyCrateTokenizer {
  void operator()(GirihCrateTokenizer *tokenizer) const { girih_crate_tokenizer_destroy(tokenizer); }
};
using CrateHandle = std::unique_ptr<GirihCrateTokenizer, DestroyCrateTokenizer>;

class CrateModel final : public TokenizerModel {
public:
  CrateModel(std::span<const std::byte> bytes, std::vector<std::byte> owned, Vocabulary vocabulary,
             CrateHandle crate, std::vector<int32_t> specials)
      : TokenizerModel(bytes, std::move(owned), vocabulary), crate(std::move(crate)),
        specials(std::move(specials)) {
    std::sort(this->specials.begin(), this->specials.end());
  }

  Expected<std::vector<int32_t>> encode(std::string_view text, const EncodeOptions &options) const override {
    if (!options.barriers.empty())
      return encodeGuarded(text, options);
    std::string wellFormed = unicode::replaceMalformed(text); // the crate takes nothing else
    std::vector<int32_t> ids;
    GIRIH_TRY(append(wellFormed, options.addSpecial, options.parseSpecial, ids));
    return ids;
  }

  std::string decodeBytes(std::span<const int32_t> ids, bool skipSpecial) const override {
    FfiBuffer text, error;
    int32_t failed = girih_crate_tokenizer_decode(crate.get(), ids.data(), ids.size(), skipSpecial,
                                                  text.out(), error.out());
    return failed ? std::string() : text.text();
  }

  bool decodesTokenByToken() const override { return false; }
  void appendToken(int32_t, bool, bool &, std::string &) const override {}

  int32_t vocabSize() const override { return girih_crate_tokenizer_size(crate.get()); }
  int32_t tokenToId(std::string_view token) const override {
    return girih_crate_tokenizer_find(crate.get(), ffiSlice(token));
  }
  std::string idToToken(int32_t id) const override {
    FfiBuffer text, error;
    return girih_crate_tokenizer_token(crate.get(), id, text.out(), error.out()) ? std::string()
                                                                                 : text.text();
  }
  bool isSpecial(int32_t id) const override {
    return std::binary_search(specials.begin(), specials.end(), id);
  }
  bool isGuarded(int32_t id) const override { return isSpecial(id); }

private:
  Status append(std::string_view text, bool addSpecial, bool parseSpecial, std::vector<int32_t> &ids) const {
    FfiBuffer out, error;
    if (girih_crate_tokenizer_encode(crate.get(), ffiSlice(text), addSpecial, parseSpecial, out.out(),
                                     error.out()))
      return invalidArgument("tokenizing " + std::to_string(text.size()) + " bytes: " + error.text());
    std::vector<int32_t> part = out.elements<int32_t>();
    ids.insert(ids.end(), part.begin(), part.end());
    return {};
  }

  // The crate knows no barriers: special tokens are cut out here, and what lies between is encoded as plain
  // text.
  Expected<std::vector<int32_t>> encodeGuarded(std::string_view text, const EncodeOptions &options) const {
    std::vector<int32_t> ids, affixes;
    if (options.addSpecial)
      GIRIH_TRY(append("", true, false, affixes));
    size_t gap = 0;
    for (size_t at = 0; options.parseSpecial && at < text.size();) {
      int32_t id = specialAt(text, at, options.barriers);
      if (id < 0) {
        ++at;
        continue;
      }
      GIRIH_TRY(append(text.substr(gap, at - gap), false, false, ids));
      ids.push_back(id);
      gap = at += idToToken(id).size();
    }
    GIRIH_TRY(append(text.substr(gap), false, false, ids));
    // What stands around an empty text stands in front, except a closing end-of-text token.
    bool closes = !affixes.empty() && affixes.back() == vocabulary.header().eosToken && affixes.size() > 1;
    ids.insert(ids.begin(), affixes.begin(), affixes.end() - closes);
    if (closes)
      ids.push_back(affixes.back());
    return ids;
  }

  int32_t specialAt(std::string_view text, size_t at, std::span<const size_t> barriers) const {
    int32_t best = -1;
    size_t bestSize = 0;
    auto barrier = std::upper_bound(barriers.begin(), barriers.end(), at);
    for (int32_t id : specials) {
      std::string token = idToToken(id);
      bool crosses = barrier != barriers.end() && *barrier < at + token.size();
      if (!crosses && token.size() > bestSize && text.substr(at).starts_with(token)) {
        best = id;
        bestSize = token.size();
      }
    }
    return best;
  }

  CrateHandle crate;
  std::vector<int32_t> specials;
};

} // namespace

Expected<std::shared_ptr<const TokenizerModel>>
makeCrateModel(std::span<const std::byte> bytes, std::vector<std::byte> owned, Vocabulary vocabulary) {
  FfiBuffer error, specials;
  GirihCrateTokenizer *raw = nullptr;
  if (girih_crate_tokenizer_create(ffiSlice(vocabulary.crateJson()), &raw, error.out()))
    return invalidArgument("tokenizer.json is not one that the tokenizers crate reads: " + error.text());
  CrateHandle crate(raw);
  if (girih_crate_tokenizer_specials(raw, specials.out(), error.out()))
    return internalError("listing special tokens: " + error.text());
  return std::shared_ptr<const TokenizerModel>(std::make_shared<CrateModel>(
      bytes, std::move(owned), vocabulary, std::move(crate), specials.elements<int32_t>()));
}

} // namespace girih
