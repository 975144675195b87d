// SPDX-License-Identifier: Apache-2.0
// What a checkpoint says about text: its tokenizer, chat template and special tokens, as the program file carries them.
#include "compiler/emit/read_text_assets.h"

#include "runtime/base/json_reader.h"

namespace girih::compiler {
namespace {

// Assigns the value of a key that may be absent; a value of another type is an error.
template <typename T, typename Read>
Status readOptional(const weights::Metadata &metadata, std::string_view key, T &target, Read read) {
  if (!metadata.find(key))
    return {};
  auto value = read();
  if (!value.isOk())
    return std::move(value).status();
  target = static_cast<T>(*value);
  return {};
}

Expected<GgufVocabulary> readGgufVocabulary(const weights::Metadata &metadata) {
  GgufVocabulary vocabulary;
  const std::string prefix = "tokenizer.ggml.";
  auto strings = [&](const char *name, std::vector<std::string> &target) -> Status {
    if (!metadata.find(prefix + name))
      return {};
    GIRIH_ASSIGN(const weights::MetadataArray *array, metadata.array(prefix + name));
    GIRIH_ASSIGN(auto values, array->asStrings());
    target.assign(values.begin(), values.end());
    return {};
  };
  GIRIH_ASSIGN(auto model, metadata.string(prefix + "model"));
  vocabulary.model = model;
  GIRIH_TRY(readOptional(metadata, prefix + "pre", vocabulary.preTokenizer, [&] { return metadata.string(prefix + "pre"); }));
  GIRIH_TRY(strings("tokens", vocabulary.tokens));
  GIRIH_TRY(strings("merges", vocabulary.merges));
  if (metadata.find(prefix + "scores")) {
    GIRIH_ASSIGN(const weights::MetadataArray *array, metadata.array(prefix + "scores"));
    GIRIH_ASSIGN(vocabulary.scores, array->asNumbers());
  }
  if (metadata.find(prefix + "token_type")) {
    GIRIH_ASSIGN(const weights::MetadataArray *array, metadata.array(prefix + "token_type"));
    GIRIH_ASSIGN(auto types, array->asIntegers());
    vocabulary.tokenTypes.assign(types.begin(), types.end());
  }
  const std::pair<const char *, int32_t *> tokens[] = {{"bos_token_id", &vocabulary.bosToken},
                                                       {"eos_token_id", &vocabulary.eosToken},
                                                       {"unknown_token_id", &vocabulary.unknownToken},
                                                       {"seperator_token_id", &vocabulary.separatorToken},
                                                       {"cls_token_id", &vocabulary.classToken}};
  for (auto [name, target] : tokens)
    GIRIH_TRY(readOptional(metadata, prefix + name, *target, [&] { return metadata.integer(prefix + name); }));
  const std::pair<const char *, std::optional<bool> *> flags[] = {
      {"add_bos_token", &vocabulary.addBos},
      {"add_eos_token", &vocabulary.addEos},
      {"add_space_prefix", &vocabulary.addSpacePrefix},
      {"remove_extra_whitespaces", &vocabulary.removeExtraWhitespaces}};
  for (auto [name, target] : flags)
    GIRIH_TRY(readOptional(metadata, prefix + name, *target, [&] { return metadata.boolean(prefix + name); }));
  return vocabulary;
}

Status readGguf(const weights::WeightStore &store, TextAssets &assets) {
  const weights::Metadata &metadata = store.metadata();
  if (!metadata.find("tokenizer.ggml.model")) {
    assets.note = "the checkpoint has no tokenizer.ggml.model";
    return {};
  }
  GIRIH_ASSIGN(auto vocabulary, readGgufVocabulary(metadata));
  GIRIH_TRY(readOptional(metadata, "tokenizer.chat_template", assets.chatTemplate,
                         [&] { return metadata.string("tokenizer.chat_template"); }));
  auto textOf = [&](int32_t token) {
    return token >= 0 && size_t(token) < vocabulary.tokens.size() ? vocabulary.tokens[token] : std::string();
  };
  assets.bosText = textOf(vocabulary.bosToken);
  assets.eosText = textOf(vocabulary.eosToken);
  auto tokenizer = Tokenizer::fromGguf(vocabulary);
  if (tokenizer.isOk())
    assets.tokenizer = std::move(tokenizer).value();
  else
    assets.note = tokenizer.status().message();
  return {};
}

// A special token stands as a text or as an object with its text in "content".
std::string tokenText(std::optional<JsonValue> token) {
  if (token && token->isObject())
    token = token->find("content");
  if (!token || !token->isString())
    return {};
  return std::string(*token->asString());
}

void readTokenizerConfig(std::string_view text, TextAssets &assets) {
  auto document = JsonDocument::parse(text.empty() ? "{}" : text);
  if (!document.isOk()) {
    assets.note = "tokenizer_config.json: " + std::string(document.status().message());
    return;
  }
  JsonValue config = document->root();
  assets.bosText = tokenText(config.find("bos_token"));
  assets.eosText = tokenText(config.find("eos_token"));
  std::optional<JsonValue> chat = config.find("chat_template");
  if (chat && chat->isArray())  // several by name; "default" is the one for chat
    for (JsonValue named : chat->elements())
      if (tokenText(named.find("name")) == "default")
        assets.chatTemplate = tokenText(named.find("template"));
  if (chat && chat->isString())
    assets.chatTemplate = *chat->asString();
}

void readHuggingFace(const weights::WeightStore &store, TextAssets &assets) {
  auto json = store.text("tokenizer.json");
  if (!json) {
    assets.note = "the folder has no tokenizer.json";
    return;
  }
  std::string_view config = store.text("tokenizer_config.json").value_or("");
  auto tokenizer = Tokenizer::fromHuggingFace(*json, config);
  if (tokenizer.isOk())
    assets.tokenizer = std::move(tokenizer).value();
  else
    assets.note = tokenizer.status().message();
  readTokenizerConfig(config, assets);
  if (auto own = store.text("chat_template.jinja"))  // newer folders keep the template in a file of its own
    assets.chatTemplate = *own;
}

}  // namespace

Expected<TextAssets> readTextAssets(const weights::WeightStore &store) {
  TextAssets assets;
  if (store.kind() == weights::CheckpointKind::Gguf)
    GIRIH_TRY(readGguf(store, assets));
  else
    readHuggingFace(store, assets);
  return assets;
}

}  // namespace girih::compiler
