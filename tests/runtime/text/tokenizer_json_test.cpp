// SPDX-License-Identifier: Apache-2.0
// tokenizer.json: known pipelines run on the own engine, others by the crate; both give the crate's ids.
#include "runtime/text/tokenizer.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace girih {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;

const char *kAdded = R"("added_tokens": [
  {"id": 6, "content": "<s>", "single_word": false, "lstrip": false, "rstrip": false, "normalized": false, "special": true},
  {"id": 7, "content": "<x>", "single_word": false, "lstrip": true, "rstrip": true, "normalized": false, "special": false}])";

std::string byteLevel(const std::string &preTokenizer, const std::string &post = "null") {
  return std::string("{") + kAdded + R"(, "normalizer": null, "pre_tokenizer": )" + preTokenizer +
         R"(, "post_processor": )" + post +
         R"(, "decoder": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true},
    "model": {"type": "BPE", "vocab": {"a": 0, "b": 1, "Ġ": 2, "ab": 3, "Ġab": 4, "1": 5},
              "merges": ["a b", "Ġ ab"]}})";
}

const char *kByteLevelStep =
    R"({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true})";

Tokenizer make(const std::string &json, const std::string &config = "") {
  auto tokenizer = Tokenizer::fromHuggingFace(json, config);
  EXPECT_TRUE(tokenizer.isOk()) << (tokenizer.isOk() ? "" : tokenizer.status().message());
  return *tokenizer;
}

TEST(TokenizerJson, RunsByteLevelItself) {
  Tokenizer tokenizer = make(byteLevel(kByteLevelStep), R"({"bos_token": {"content": "<s>"}})");
  EXPECT_EQ(tokenizer.kind(), "byte-level bpe");
  EXPECT_EQ(tokenizer.bosToken(), 6);
  EXPECT_EQ(tokenizer.eosToken(), -1);
  EXPECT_THAT(tokenizer.encode("ab ab<s>a  <x> b").value(), ElementsAre(3, 4, 6, 0, 7, 1));
}

TEST(TokenizerJson, TakesMergesInBothWritings) {
  std::string json = byteLevel(kByteLevelStep);
  std::string pairs = json;
  pairs.replace(pairs.find(R"(["a b", "Ġ ab"])"), std::string(R"(["a b", "Ġ ab"])").size(),
                R"([["a", "b"], ["Ġ", "ab"]])");
  EXPECT_EQ(make(pairs).encode("ab ab a").value(), make(json).encode("ab ab a").value());
}

TEST(TokenizerJson, PutsTheTemplatesTokensAround) {
  Tokenizer tokenizer = make(byteLevel(kByteLevelStep, R"({"type": "TemplateProcessing",
    "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
    "pair": [], "special_tokens": {"<s>": {"id": "<s>", "ids": [6], "tokens": ["<s>"]}}})"));
  EXPECT_THAT(tokenizer.encode("a").value(), ElementsAre(6, 0));
  EXPECT_THAT(tokenizer.encode("a", {.addSpecial = false}).value(), ElementsAre(0));
}

TEST(TokenizerJson, LeavesUnknownPipelinesToTheCrate) {
  std::string json = byteLevel(R"({"type": "Sequence", "pretokenizers": [{"type": "WhitespaceSplit"}, )" +
                               std::string(kByteLevelStep) + "]}");
  Tokenizer tokenizer = make(json);
  EXPECT_EQ(tokenizer.kind(), "tokenizers");
  EXPECT_THAT(tokenizer.encode("ab ab<s>").value(), ElementsAre(3, 3, 6));
  EXPECT_EQ(tokenizer.decode(std::vector<int32_t>{3, 6, 4}, true), "ab ab");
  EXPECT_THAT(tokenizer.encode("<s>", {.parseSpecial = false}).value(), testing::Not(testing::Contains(6)));
  EXPECT_TRUE(tokenizer.isSpecial(6));
  auto loaded = Tokenizer::load(tokenizer.serialize());
  ASSERT_TRUE(loaded.isOk());
  EXPECT_EQ(loaded->encode("ab 1").value(), tokenizer.encode("ab 1").value());
}

TEST(TokenizerJson, CrateKeepsBarriersAndStreams) {
  Tokenizer tokenizer =
      make(byteLevel(R"({"type": "Sequence", "pretokenizers": [{"type": "WhitespaceSplit"}, )" +
                     std::string(kByteLevelStep) + "]}"));
  std::vector<size_t> barriers = {4};
  EXPECT_THAT(tokenizer.encode("<s>a<s>", {.barriers = barriers}).value(), testing::Contains(6).Times(2));
  barriers = {5};
  EXPECT_THAT(tokenizer.encode("<s>a<s>", {.barriers = barriers}).value(), testing::Contains(6).Times(1));
  StreamingDecoder decoder(tokenizer, true);
  std::string joined;
  for (int32_t id : {3, 4, 6, 2, 0, 5})
    joined += decoder.push(id);
  joined += decoder.finish();
  EXPECT_EQ(joined, tokenizer.decode(std::vector<int32_t>{3, 4, 6, 2, 0, 5}, true));
}

TEST(TokenizerJson, RunsSentencePieceItself) {
  Tokenizer tokenizer = make(R"({"added_tokens": [], "normalizer": {"type": "Sequence", "normalizers": [
      {"type": "Prepend", "prepend": "▁"}, {"type": "Replace", "pattern": {"String": " "}, "content": "▁"}]},
    "pre_tokenizer": null, "post_processor": null,
    "decoder": {"type": "Sequence", "decoders": [{"type": "Replace", "pattern": {"String": "▁"}, "content": " "},
      {"type": "ByteFallback"}, {"type": "Fuse"}, {"type": "Strip", "content": " ", "start": 1, "stop": 0}]},
    "model": {"type": "BPE", "unk_token": "<unk>", "fuse_unk": true, "byte_fallback": true,
      "vocab": {"<unk>": 0, "<0xC3>": 1, "<0xA9>": 2, "▁": 3, "a": 4, "▁a": 5}, "merges": [["▁", "a"]]}})");
  EXPECT_EQ(tokenizer.kind(), "sentencepiece bpe");
  EXPECT_THAT(tokenizer.encode("a aé").value(), ElementsAre(5, 5, 1, 2));
  EXPECT_THAT(tokenizer.encode("xy").value(), ElementsAre(3, 0));
  EXPECT_EQ(tokenizer.decode(std::vector<int32_t>{5, 5, 1, 2}, true), "a aé");
}

TEST(TokenizerJson, SaysWhatIsWrong) {
  for (std::string json :
       {"", "{", "[]", "{}", R"({"model": {"type": "BPE", "vocab": {"a": -1}, "merges": []}})"}) {
    auto refused = Tokenizer::fromHuggingFace(json, "");
    ASSERT_FALSE(refused.isOk()) << json;
    EXPECT_EQ(refused.status().code(), StatusCode::InvalidArgument) << refused.status().message();
  }
  auto refused = Tokenizer::fromHuggingFace(byteLevel(kByteLevelStep), "{");
  EXPECT_THAT(std::string(refused.status().message()), HasSubstr("tokenizer_config.json"));
}

} // namespace
} // namespace girih
