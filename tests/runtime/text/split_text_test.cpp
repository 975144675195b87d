// SPDX-License-Identifier: Apache-2.0
// The pre-tokenizers' patterns: what each cuts, on the cases where they differ or step back.
#include "runtime/text/split_text.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace girih {
namespace {

using testing::ElementsAre;

std::vector<std::string_view> split(SplitStep step, std::string_view text) {
  SplitStep steps[] = {step};
  return splitText(text, steps);
}

TEST(SplitText, Gpt2KeepsOneSpaceWithTheWord) {
  EXPECT_THAT(split(SplitStep::Gpt2, "ab  cd 12!?"), ElementsAre("ab", " ", " cd", " 12", "!?"));
  EXPECT_THAT(split(SplitStep::Gpt2, "a \n\n b\t"), ElementsAre("a", " \n\n", " b", "\t"));
  EXPECT_THAT(split(SplitStep::Gpt2, "\n\na"), ElementsAre("\n", "\n", "a"));
}

TEST(SplitText, Gpt2ContractionsAreLowerCase) {
  EXPECT_THAT(split(SplitStep::Gpt2, "it's IT'S we're 'x"),
              ElementsAre("it", "'s", " IT", "'", "S", " we", "'re", " '", "x"));
  // A space that is not U+0020 does not join, and the contraction behind it still counts.
  EXPECT_THAT(split(SplitStep::Gpt2, "\xC2\xA0's"), ElementsAre("\xC2\xA0", "'s"));
}

TEST(SplitText, Llama3CutsDigitsByThree) {
  EXPECT_THAT(split(SplitStep::Llama3, "12345 x"), ElementsAre("123", "45", " x"));
  EXPECT_THAT(split(SplitStep::Qwen2, "123"), ElementsAre("1", "2", "3"));
}

TEST(SplitText, Llama3TakesOneForeignCharacterBeforeAWord) {
  EXPECT_THAT(split(SplitStep::Llama3, "(ab.cd\tef"), ElementsAre("(ab", ".cd", "\tef"));
  EXPECT_THAT(split(SplitStep::Llama3, "\nab"), ElementsAre("\n", "ab"));
}

TEST(SplitText, Llama3ContractionsIgnoreCaseAsUnicodeFolds) {
  EXPECT_THAT(split(SplitStep::Llama3, "IT'S it'\xC5\xBF a'LLb"),
              ElementsAre("IT", "'S", " it", "'\xC5\xBF", " a", "'LL", "b"));
}

TEST(SplitText, Llama3EndsWhiteSpaceAtTheLastNewline) {
  EXPECT_THAT(split(SplitStep::Llama3, "a \n \n  b"), ElementsAre("a", " \n \n", " ", " b"));
  EXPECT_THAT(split(SplitStep::Llama3, "!!\r\n\n x"), ElementsAre("!!\r\n\n", " x"));
}

TEST(SplitText, CasedWordsStepBackToACaselessLetter) {
  EXPECT_THAT(split(SplitStep::Gpt4o, "HTTPServer camelCase's"),
              ElementsAre("HTTPServer", " camel", "Case's"));
  // U* takes both letters; W+ then needs the caseless one back.
  EXPECT_THAT(split(SplitStep::Gpt4o, "A\xE4\xB8\xAD"), ElementsAre("A\xE4\xB8\xAD"));
  EXPECT_THAT(split(SplitStep::Tekken, "it's 12"), ElementsAre("it", "'s", " ", "1", "2"));
}

TEST(SplitText, Qwen35TakesMarksAsLetters) {
  EXPECT_THAT(split(SplitStep::Qwen35, "e\xCC\x81x"), ElementsAre("e\xCC\x81x"));
  EXPECT_THAT(split(SplitStep::Qwen2, "e\xCC\x81x"), ElementsAre("e", "\xCC\x81x"));
}

TEST(SplitText, StepsApplyToThePiecesOfTheOnesBefore) {
  SplitStep smollm[] = {SplitStep::SingleDigits, SplitStep::Gpt2};
  EXPECT_THAT(splitText("a  12", smollm), ElementsAre("a", "  ", "1", "2"));
  SplitStep deepseek[] = {SplitStep::SingleNewlines, SplitStep::SpaceLetters, SplitStep::SpacePunctuation};
  EXPECT_THAT(splitText("a b\n\n!", deepseek), ElementsAre("a", " b", "\n", "\n", "!"));
}

TEST(SplitText, FalconDigitsSeeTheByteAlphabet) {
  SplitStep falcon[] = {SplitStep::Gpt2, SplitStep::ByteDigitRuns, SplitStep::DigitTriples};
  EXPECT_THAT(splitText(" \xC2\xBD 1234", falcon), ElementsAre(" \xC2", "\xBD", " ", "123", "4"));
}

TEST(SplitText, TrailingSpaceIsTheRunAtTheEnd) {
  EXPECT_THAT(split(SplitStep::TrailingSpace, "a  b \xE3\x80\x80"), ElementsAre("a  b", " \xE3\x80\x80"));
}

TEST(SplitText, LosesNothingOfMalformedText) {
  std::string text = "a\xFF\xE2\x82 \xF0\x9F\x98z12";
  for (int step = 1; step <= 19; ++step) {
    std::string joined;
    for (std::string_view piece : split(static_cast<SplitStep>(step), text))
      joined += piece;
    EXPECT_EQ(joined, text) << step;
  }
}

} // namespace
} // namespace girih
