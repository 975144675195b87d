// SPDX-License-Identifier: Apache-2.0
// What users give as token ids: separators, bounds and errors that name the place.
#include "runtime/tools/loaded_model.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace girih::tools {
namespace {

TEST(ParseTokenIds, TakesCommasAndWhiteSpace) {
  for (const char *text : {"1,2,3", " 1 2\n3\t", "1, 2,\n3,", "[1, 2, 3]"}) {
    auto tokens = parseTokenIds(text, 100);
    ASSERT_TRUE(tokens.isOk()) << text;
    EXPECT_THAT(*tokens, ::testing::ElementsAre(1, 2, 3));
  }
}

TEST(ParseTokenIds, NamesWhatIsNoId) {
  const std::pair<const char *, const char *> kMistakes[] = {{"", "no token ids"}, {"1,x", "token 2 is \"x\""}, {"5,100", "token 2 is 100; this model's ids are 0 to 99"},
                                                             {"-1", "token 1 is -1"}, {"99999999999", "token 1"}, {"1.5", "token 2"}};
  for (const auto &[text, message] : kMistakes) {
    auto tokens = parseTokenIds(text, 100);
    ASSERT_FALSE(tokens.isOk()) << text;
    EXPECT_THAT(std::string(tokens.status().message()), ::testing::HasSubstr(message));
  }
}

}  // namespace
}  // namespace girih::tools
