// SPDX-License-Identifier: Apache-2.0
// UTF-8, classes and normalisation.
#include "runtime/text/unicode/unicode.h"

#include <gtest/gtest.h>

namespace girih::unicode {
namespace {

TEST(Unicode, ReplacesEachMaximalIllFormedPart) {
  const std::string r = "\xEF\xBF\xBD";
  EXPECT_EQ(replaceMalformed("a\xE2\x82z"), "a" + r + "z");       // cut short: one
  EXPECT_EQ(replaceMalformed("\xF0\x80\x80\x80"), r + r + r + r); // overlong: one a byte
  EXPECT_EQ(replaceMalformed("\xED\xA0\x80"), r + r + r);         // surrogate
  EXPECT_EQ(replaceMalformed("\xF4\x90\x80\x80"), r + r + r + r); // past U+10FFFF
  EXPECT_EQ(replaceMalformed("\xC3"), r);
  EXPECT_EQ(replaceMalformed("é😀"), "é😀");
}

TEST(Unicode, FindsTailsThatCanBeCompleted) {
  EXPECT_EQ(incompleteTail("a\xF0\x9F\x98"), 3u);
  EXPECT_EQ(incompleteTail("a\xE2"), 1u);
  EXPECT_EQ(incompleteTail("a\xF0\x80"), 0u); // never a character
  EXPECT_EQ(incompleteTail("é"), 0u);
  EXPECT_EQ(incompleteTail("\x80\x80"), 0u);
  EXPECT_EQ(incompleteTail(""), 0u);
}

TEST(Unicode, KnowsClasses) {
  EXPECT_TRUE(classOf('a') & kLetter);
  EXPECT_TRUE(classOf(0x4E2D) & kLetter);
  EXPECT_TRUE(classOf(0xBD) & kNumber);
  EXPECT_TRUE(classOf(0xA0) & kSpace);
  EXPECT_FALSE(classOf(0x200B) & kSpace);
  EXPECT_TRUE(classOf(0x301) & kMark);
  EXPECT_EQ(classOf(0x10FFFF) & kLetter, 0);
  EXPECT_FALSE(classOf(0x110000) & kLetter);
}

TEST(Unicode, Normalises) {
  EXPECT_EQ(toNfc("e\xCC\x81"), "é");
  EXPECT_EQ(toNfd("é"), "e\xCC\x81");
  EXPECT_EQ(toNfc("\xE1\x84\x92\xE1\x85\xA1\xE1\x86\xAB"), "한");
  EXPECT_EQ(toNfd("한"), "\xE1\x84\x92\xE1\x85\xA1\xE1\x86\xAB");
  EXPECT_EQ(toNfc("q\xCC\x87\xCC\xA3"), "q\xCC\xA3\xCC\x87"); // marks in order of their classes
  EXPECT_EQ(toNfc("a\xFF\xCC\x81"), "a\xFF\xCC\x81");         // bytes that are none stay
}

TEST(Unicode, LowersCase) {
  std::string out;
  for (char32_t c : {U'A', U'É', U'İ', U'ß'})
    appendLowerCase(out, c);
  EXPECT_EQ(out, "aéi\xCC\x87ß");
}

} // namespace
} // namespace girih::unicode
