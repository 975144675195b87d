// SPDX-License-Identifier: Apache-2.0
// Reads the `tokenizer.*` keys through the weights room; keys that are absent keep their defaults.
#include "tests/runtime/text/gguf_vocabulary.h"

#include "runtime/weights/weight_store.h"

namespace girih {
namespace {

const std::string kPrefix = "tokenizer.ggml.";

std::string textAt(const weights::Metadata &metadata, const std::string &key) {
  auto value = metadata.string(key);
  return value.isOk() ? std::string(*value) : std::string();
}

int32_t idAt(const weights::Metadata &metadata, const std::string &key) {
  auto value = metadata.integer(kPrefix + key);
  return value.isOk() ? static_cast<int32_t>(*value) : -1;
}

std::optional<bool> flagAt(const weights::Metadata &metadata, const std::string &key) {
  auto value = metadata.boolean(kPrefix + key);
  return value.isOk() ? std::optional<bool>(*value) : std::nullopt;
}

Expected<std::vector<std::string>> textsAt(const weights::Metadata &metadata, const std::string &key) {
  auto array = metadata.array(kPrefix + key);
  if (!array.isOk())
    return std::vector<std::string>();
  GIRIH_ASSIGN(std::span<const std::string_view> views, (*array)->asStrings());
  return std::vector<std::string>(views.begin(), views.end());
}

} // namespace

Expected<GgufText> readGgufText(const std::string &path) {
  GIRIH_ASSIGN(weights::WeightStore store, weights::WeightStore::open(path));
  const weights::Metadata &metadata = store.metadata();
  GgufText out;
  GgufVocabulary &v = out.vocabulary;
  out.chatTemplate = textAt(metadata, "tokenizer.chat_template");
  v.model = textAt(metadata, kPrefix + "model");
  v.preTokenizer = textAt(metadata, kPrefix + "pre");
  GIRIH_ASSIGN(v.tokens, textsAt(metadata, "tokens"));
  GIRIH_ASSIGN(v.merges, textsAt(metadata, "merges"));
  if (auto array = metadata.array(kPrefix + "scores"); array.isOk()) {
    GIRIH_ASSIGN(v.scores, (*array)->asNumbers());
  }
  if (auto array = metadata.array(kPrefix + "token_type"); array.isOk()) {
    GIRIH_ASSIGN(std::vector<int64_t> types, (*array)->asIntegers());
    v.tokenTypes.assign(types.begin(), types.end());
  }
  v.bosToken = idAt(metadata, "bos_token_id");
  v.eosToken = idAt(metadata, "eos_token_id");
  v.unknownToken = idAt(metadata, "unknown_token_id");
  v.separatorToken = idAt(metadata, "seperator_token_id"); // the key is spelled so
  v.classToken = idAt(metadata, "cls_token_id");
  v.addBos = flagAt(metadata, "add_bos_token");
  v.addEos = flagAt(metadata, "add_eos_token");
  v.addSpacePrefix = flagAt(metadata, "add_space_prefix");
  v.removeExtraWhitespaces = flagAt(metadata, "remove_extra_whitespaces");
  return out;
}

} // namespace girih
