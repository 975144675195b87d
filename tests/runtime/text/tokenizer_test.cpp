// SPDX-License-Identifier: Apache-2.0
// The tokenizer over small vocabularies: merging, special tokens, malformed text, streaming, the stored form.
#include "tests/runtime/text/small_vocabulary.h"

#include "tests/runtime/text/gguf_vocabulary.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <chrono>
#include <cstdlib>
#include <cstring>

namespace girih {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using Ids = std::vector<int32_t>;

Tokenizer make(const GgufVocabulary &vocabulary) {
  auto tokenizer = Tokenizer::fromGguf(vocabulary);
  EXPECT_TRUE(tokenizer.isOk()) << tokenizer.status().message();
  return *tokenizer;
}

Ids encode(const Tokenizer &tokenizer, std::string_view text, EncodeOptions options = {.addSpecial = false}) {
  return tokenizer.encode(text, options).value();
}

TEST(Tokenizer, MergesTheEarliestRuleFirst) {
  Tokenizer tokenizer = make(smallByteLevel());
  EXPECT_THAT(encode(tokenizer, "hello"), ElementsAre(kHello));
  EXPECT_THAT(encode(tokenizer, "a hello"), ElementsAre('a', kSpaceHello));
  EXPECT_THAT(encode(tokenizer, "helxo"), ElementsAre(kHe, 'l', 'x', 'o'));
  EXPECT_THAT(encode(tokenizer, "lll"), ElementsAre(kLl, 'l'));
}

TEST(Tokenizer, MergesLongWordsAsShortOnes) {
  Tokenizer tokenizer = make(smallByteLevel());
  std::string word(1001, 'l');
  Ids ids = encode(tokenizer, word);
  EXPECT_EQ(ids.size(), 501u);
  EXPECT_EQ(ids.front(), kLl);
  EXPECT_EQ(ids.back(), 'l');
}

TEST(Tokenizer, CutsAddedTokensOutOfText) {
  Tokenizer tokenizer = make(smallByteLevel());
  EXPECT_THAT(encode(tokenizer, "a<|end|>hello<tool>"), ElementsAre('a', kEnd, kHello, kTool));
  EXPECT_THAT(encode(tokenizer, "<|end<|end|>").back(), kEnd);
}

TEST(Tokenizer, LeavesSpecialTokensTextWhereAskedTo) {
  Tokenizer tokenizer = make(smallByteLevel());
  Ids ids = encode(tokenizer, "<|end|><tool>", {.addSpecial = false, .parseSpecial = false});
  EXPECT_THAT(ids, testing::Not(testing::Contains(kEnd)));
  EXPECT_EQ(ids.back(), kTool); // an added word that controls nothing
  EXPECT_EQ(tokenizer.decode(ids, true), "<|end|><tool>");
}

TEST(Tokenizer, GuardsAddedWordsThatAreSpelledLikeControlTokens) {
  GgufVocabulary vocabulary = smallByteLevel();
  vocabulary.tokens.push_back("<|turn|>");
  vocabulary.tokenTypes.push_back(4);
  int32_t turn = static_cast<int32_t>(vocabulary.tokens.size()) - 1;
  Tokenizer tokenizer = make(vocabulary);
  EXPECT_THAT(encode(tokenizer, "<|turn|>"), ElementsAre(turn));
  EXPECT_THAT(encode(tokenizer, "<|turn|>", {.addSpecial = false, .parseSpecial = false}),
              testing::Not(testing::Contains(turn)));
  EXPECT_THAT(tokenizer.specialTexts(), testing::Contains("<|turn|>"));
  EXPECT_EQ(tokenizer.decode(Ids{turn}, true), "<|turn|>"); // still a word where it is printed
}

TEST(Tokenizer, LetsNoSpecialTokenSpanABarrier) {
  Tokenizer tokenizer = make(smallByteLevel());
  std::string text = "<|end|>hi<|end|><|end|>";
  std::vector<size_t> barriers = {10}; // within the second
  Ids ids = encode(tokenizer, text, {.addSpecial = false, .barriers = barriers});
  EXPECT_EQ(std::count(ids.begin(), ids.end(), kEnd), 2);
  EXPECT_EQ(tokenizer.decode(ids, false), text);
  barriers = {9, 16}; // at the borders, not within
  ids = encode(tokenizer, text, {.addSpecial = false, .barriers = barriers});
  EXPECT_EQ(std::count(ids.begin(), ids.end(), kEnd), 3);
}

TEST(Tokenizer, RefusesBarriersOutOfOrderOrRange) {
  Tokenizer tokenizer = make(smallByteLevel());
  for (std::vector<size_t> barriers : {std::vector<size_t>{2, 1}, std::vector<size_t>{4}}) {
    auto ids = tokenizer.encode("abc", {.barriers = barriers});
    ASSERT_FALSE(ids.isOk());
    EXPECT_EQ(ids.status().code(), StatusCode::InvalidArgument);
  }
}

TEST(Tokenizer, PutsBosWhereTheFileSaysSo) {
  GgufVocabulary vocabulary = smallByteLevel();
  vocabulary.addBos = true;
  vocabulary.addEos = true;
  Tokenizer tokenizer = make(vocabulary);
  EXPECT_TRUE(tokenizer.addsBos() && tokenizer.addsEos());
  EXPECT_THAT(encode(tokenizer, "a", {}), ElementsAre(kBegin, 'a', kEnd));
  EXPECT_THAT(encode(make(smallByteLevel()), "a", {}), ElementsAre('a'));
}

TEST(Tokenizer, ReplacesOrKeepsMalformedText) {
  Tokenizer tokenizer = make(smallByteLevel());
  std::string text = "a\xE2\x82z\xFF";
  EXPECT_EQ(tokenizer.decode(encode(tokenizer, text), false), "a\xEF\xBF\xBDz\xEF\xBF\xBD");
  Ids kept = encode(tokenizer, text, {.addSpecial = false, .malformed = MalformedText::Keep});
  EXPECT_THAT(kept, ElementsAre('a', 0xE2, 0x82, 'z', 0xFF));
  EXPECT_EQ(tokenizer.decodeBytes(kept, false), text);
}

TEST(Tokenizer, LooksTokensUp) {
  Tokenizer tokenizer = make(smallByteLevel());
  EXPECT_EQ(tokenizer.tokenToId("<|end|>"), kEnd);
  EXPECT_EQ(tokenizer.tokenToId(" hello"), kSpaceHello);
  EXPECT_EQ(tokenizer.tokenToId("absent"), -1);
  EXPECT_EQ(tokenizer.idToToken(kSpaceHello), " hello");
  EXPECT_EQ(tokenizer.idToToken(-1), "");
  EXPECT_EQ(tokenizer.idToToken(100000), "");
  EXPECT_TRUE(tokenizer.isSpecial(kEnd));
  EXPECT_FALSE(tokenizer.isSpecial(kTool));
  EXPECT_THAT(tokenizer.specialTexts(), ElementsAre("<|begin|>", "<|end|>"));
}

TEST(Tokenizer, SkipsSpecialAndForeignIdsWhenDecoding) {
  Tokenizer tokenizer = make(smallByteLevel());
  Ids ids = {kBegin, 'a', kTool, kEnd, -5, 99999};
  EXPECT_EQ(tokenizer.decode(ids, true), "a<tool>");
  EXPECT_EQ(tokenizer.decode(ids, false), "<|begin|>a<tool><|end|>");
}

TEST(StreamingDecoder, GivesWhatDecodeGivesAndNeverHalfACharacter) {
  Tokenizer tokenizer = make(smallByteLevel());
  for (std::string text : {"é hello 😀!", "\xF0\x9F\x98", "\xE2\x82z\x80\x80",
                           "a\xF0\x9F\x98\xF0\x9F\x98\x80", "\xED\xA0\x80"}) {
    Ids ids = encode(tokenizer, text, {.addSpecial = false, .malformed = MalformedText::Keep});
    StreamingDecoder decoder(tokenizer, true);
    std::string joined;
    for (int32_t id : ids) {
      std::string part = decoder.push(id);
      EXPECT_TRUE(unicode::isWellFormed(part));
      joined += part;
    }
    joined += decoder.finish();
    EXPECT_EQ(joined, tokenizer.decode(ids, true));
  }
}

TEST(StreamingDecoder, HoldsBackOnlyWhatCanStillBeCompleted) {
  StreamingDecoder decoder(make(smallByteLevel()), true);
  EXPECT_EQ(decoder.push('a'), "a");
  EXPECT_EQ(decoder.push(0xF0), "");
  EXPECT_EQ(decoder.push(0x9F), "");
  EXPECT_EQ(decoder.push('b'), "\xEF\xBF\xBD"
                               "b");
  EXPECT_EQ(decoder.finish(), "");
}

TEST(Tokenizer, SentencePieceMergesByScoreAndFallsBackToBytes) {
  Tokenizer tokenizer = make(smallSentencePiece());
  int32_t first = 259; // "▁a"
  EXPECT_EQ(tokenizer.kind(), "sentencepiece bpe");
  // "▁a" has a better score than "bc", and both than single letters.
  EXPECT_THAT(encode(tokenizer, "abc"), ElementsAre(first + 1, first + 6));
  EXPECT_THAT(encode(tokenizer, "abc", {}).front(), 1);
  EXPECT_THAT(encode(tokenizer, "é"), ElementsAre(first + 3, 3 + 0xC3, 3 + 0xA9));
  for (std::string text : {"abc", " a  b", "é😀"})
    EXPECT_EQ(tokenizer.decode(encode(tokenizer, text), true), text);
}

TEST(Tokenizer, WordPieceNormalisesAndMatchesLongestPieces) {
  Tokenizer tokenizer = make(smallWordPiece());
  EXPECT_THAT(encode(tokenizer, "UNaffable."), ElementsAre(4, 5, 6, 7));
  EXPECT_THAT(encode(tokenizer, "café"), ElementsAre(8, 9));
  EXPECT_THAT(encode(tokenizer, "un中un"), ElementsAre(4, 10, 4));
  EXPECT_THAT(encode(tokenizer, "unx", {}), ElementsAre(2, 1, 3));
  EXPECT_EQ(tokenizer.decode(Ids{4, 5, 6, 4, 7}, true), "unaffable un.");
}

TEST(Tokenizer, LoadsWhatItStored) {
  for (const GgufVocabulary &vocabulary : {smallByteLevel(), smallSentencePiece(), smallWordPiece()}) {
    Tokenizer built = make(vocabulary);
    auto loaded = Tokenizer::load(built.serialize());
    ASSERT_TRUE(loaded.isOk());
    EXPECT_EQ(loaded->kind(), built.kind());
    EXPECT_EQ(encode(*loaded, "hello abc un. é<|end|>", {}), encode(built, "hello abc un. é<|end|>", {}));
  }
}

TEST(Tokenizer, RefusesEveryCutOfItsForm) {
  Tokenizer tokenizer = make(smallByteLevel());
  std::vector<std::byte> bytes(tokenizer.serialize().begin(), tokenizer.serialize().end());
  for (size_t percent = 0; percent < 100; ++percent) {
    auto loaded = Tokenizer::load(std::span(bytes).first(bytes.size() * percent / 100));
    ASSERT_FALSE(loaded.isOk()) << percent;
    EXPECT_EQ(loaded.status().code(), StatusCode::DataLoss);
  }
}

TEST(Tokenizer, SurvivesAnyFlippedByte) {
  Tokenizer tokenizer = make(smallByteLevel());
  std::vector<std::byte> bytes(tokenizer.serialize().begin(), tokenizer.serialize().end());
  for (size_t i = 0; i < bytes.size(); ++i) {
    for (std::byte flip : {std::byte(0xFF), std::byte(1)}) {
      bytes[i] ^= flip;
      auto loaded = Tokenizer::load(bytes);
      if (loaded.isOk()) { // a changed letter is no damage that the form itself could show
        auto ids = loaded->encode("hello <|end|> lll é", {});
        if (ids.isOk())
          (void)loaded->decode(*ids, false);
      }
      bytes[i] ^= flip;
    }
  }
}

TEST(Tokenizer, SaysWhichFormItReads) {
  Tokenizer tokenizer = make(smallByteLevel());
  std::vector<std::byte> bytes(tokenizer.serialize().begin(), tokenizer.serialize().end());
  bytes[8] = std::byte(9);
  auto loaded = Tokenizer::load(bytes);
  ASSERT_FALSE(loaded.isOk());
  EXPECT_EQ(loaded.status().code(), StatusCode::FailedPrecondition);
  EXPECT_THAT(std::string(loaded.status().message()), HasSubstr("version 9"));
}

TEST(Tokenizer, NamesWhatItDoesNotKnow) {
  GgufVocabulary vocabulary = smallByteLevel();
  vocabulary.preTokenizer = "strange";
  auto refused = Tokenizer::fromGguf(vocabulary);
  ASSERT_FALSE(refused.isOk());
  EXPECT_EQ(refused.status().code(), StatusCode::Unimplemented);
  EXPECT_THAT(std::string(refused.status().message()),
              testing::AllOf(HasSubstr("\"strange\""), HasSubstr("smollm")));
  vocabulary.model = "plamo2";
  EXPECT_EQ(Tokenizer::fromGguf(vocabulary).status().code(), StatusCode::Unimplemented);
}

TEST(Tokenizer, RefusesVocabulariesThatContradictThemselves) {
  GgufVocabulary empty = smallByteLevel(), short_ = smallByteLevel(), outside = smallByteLevel(),
                 merge = smallByteLevel();
  empty.tokens.clear();
  short_.tokenTypes.pop_back();
  outside.bosToken = 100000;
  merge.merges.push_back("x yz");
  for (const GgufVocabulary &vocabulary : {empty, short_, outside, merge})
    EXPECT_EQ(Tokenizer::fromGguf(vocabulary).status().code(), StatusCode::InvalidArgument);
}

TEST(Tokenizer, LoadsTheDefaultModelAtOnce) {
  const char *path = std::getenv("GIRIH_SMOLLM2_GGUF");
  if (!path)
    GTEST_SKIP() << "GIRIH_SMOLLM2_GGUF does not name the default model's file";
  auto text = readGgufText(path);
  ASSERT_TRUE(text.isOk()) << text.status().message();
  Tokenizer built = make(text->vocabulary);
  auto start = std::chrono::steady_clock::now();
  auto tokenizer = Tokenizer::load(built.serialize());
  std::chrono::duration<double, std::milli> took = std::chrono::steady_clock::now() - start;
  ASSERT_TRUE(tokenizer.isOk());
  EXPECT_LT(took.count(), 23);
  EXPECT_EQ(tokenizer->vocabSize(), 49152);
  EXPECT_EQ(tokenizer->eosToken(), 2);
  EXPECT_LT(built.serialize().size(), 3u << 20);
  // Digits are single, and white space before one stays apart: so the model's own tokenizer.json has it.
  EXPECT_THAT(encode(*tokenizer, "<|im_start|>user\nHi 12<|im_end|>"),
              ElementsAre(1, 4093, 198, 26843, 216, 33, 34, 2));
}

} // namespace
} // namespace girih
