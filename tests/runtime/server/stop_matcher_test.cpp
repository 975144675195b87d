// SPDX-License-Identifier: Apache-2.0
// StopMatcher: nothing at or after a stop string is ever shown, however the text is cut into pieces.
#include "runtime/server/stop_matcher.h"

#include <gtest/gtest.h>

namespace girih::server {
namespace {

TEST(StopMatcher, ShowsEverythingWithoutStopStrings) {
  StopMatcher matcher({});
  EXPECT_EQ(matcher.push("abc"), "abc");
  EXPECT_EQ(matcher.finish(), "");
}

TEST(StopMatcher, HoldsBackWhatMayBeginAStop) {
  StopMatcher matcher({"END"});
  EXPECT_EQ(matcher.push("aE"), "a");
  EXPECT_EQ(matcher.push("N"), "");
  EXPECT_EQ(matcher.push("x"), "ENx");
  EXPECT_EQ(matcher.push("EN"), "");
  EXPECT_EQ(matcher.finish(), "EN");
  EXPECT_FALSE(matcher.hasMatched());
}

TEST(StopMatcher, CutsAtTheEarliestOfSeveral) {
  StopMatcher matcher({"world", "lo,"});
  EXPECT_EQ(matcher.push("Hello, world"), "Hel");
  EXPECT_TRUE(matcher.hasMatched());
  EXPECT_EQ(matcher.push("more"), "");
  EXPECT_EQ(matcher.finish(), "");
}

TEST(StopMatcher, FindsAStopThatOverlapsAFalseStart) {
  StopMatcher matcher({"aab"});
  EXPECT_EQ(matcher.push("aa"), "");
  EXPECT_EQ(matcher.push("a"), "a");
  EXPECT_EQ(matcher.push("b"), "");
  EXPECT_TRUE(matcher.hasMatched());
}

// Any way of cutting shows the same text.
TEST(StopMatcher, DoesNotDependOnHowTheTextIsCut) {
  const std::string text = "one\n\ntwo\n\nuser: three";
  for (size_t pieceBytes = 1; pieceBytes <= text.size(); ++pieceBytes) {
    StopMatcher matcher({"\n\nuser:", "###"});
    std::string shown;
    for (size_t at = 0; at < text.size(); at += pieceBytes)
      shown += matcher.push(std::string_view(text).substr(at, pieceBytes));
    shown += matcher.finish();
    EXPECT_EQ(shown, "one\n\ntwo") << pieceBytes;
  }
}

}  // namespace
}  // namespace girih::server
