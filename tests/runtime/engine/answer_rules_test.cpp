// SPDX-License-Identifier: Apache-2.0
// Each rule against its definition.
#include "runtime/engine/answer_rules.h"

#include <cmath>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace girih::engine {
namespace {

using ::testing::HasSubstr;

class AnswerRulesTest : public ::testing::Test {
protected:
  void apply(uint32_t numOutputTokens = 0, std::vector<int32_t> stopTokens = {}) {
    std::vector<uint32_t> words(2);
    Status status = applyRules(rules, counts, numOutputTokens, stopTokens, logits, words);
    ASSERT_TRUE(status.isOk()) << status.message();
  }
  AnswerRules rules;
  OutputCounts counts;
  std::vector<float> logits = std::vector<float>(40, 1.0f);
};

TEST_F(AnswerRulesTest, BiasesAreAdded) {
  rules.biases = {{3, 2.5f}, {39, -100.0f}};
  apply();
  EXPECT_EQ(logits[3], 3.5f);
  EXPECT_EQ(logits[39], -99.0f);
  EXPECT_EQ(logits[4], 1.0f);
}

TEST_F(AnswerRulesTest, PenaltiesCountTheAnswersTokens) {
  rules.presencePenalty = 0.5f;
  rules.frequencyPenalty = 0.25f;
  for (int32_t token : {7, 2, 7, 7})
    counts.add(token);
  apply();
  EXPECT_EQ(logits[7], 1.0f - 0.5f - 3 * 0.25f);
  EXPECT_EQ(logits[2], 1.0f - 0.5f - 0.25f);
  EXPECT_EQ(logits[3], 1.0f);
}

TEST_F(AnswerRulesTest, StopTokensWaitForTheirTime) {
  rules.minTokens = 2;
  apply(2, {5});
  EXPECT_EQ(logits[5], 1.0f);
  apply(1, {5});
  EXPECT_TRUE(std::isinf(logits[5]));
}

class EvenTokens final : public TokenMask {
public:
  Status fill(std::span<uint32_t> words) override {
    std::fill(words.begin(), words.end(), 0x55555555u);
    words[0] = fails ? 0 : ~uint32_t{0};
    return fails ? internalError("broken") : Status();
  }
  Status accept(int32_t) override { return {}; }
  bool fails = false;
};

TEST_F(AnswerRulesTest, TheMaskForbidsWhatItDoesNotName) {
  auto mask = std::make_shared<EvenTokens>();
  rules.mask = mask;
  apply();
  for (size_t token = 0; token < 40; ++token)
    EXPECT_EQ(std::isinf(logits[token]), token >= 32 && token % 2 == 1) << token;
  mask->fails = true;
  std::vector<uint32_t> words(2);
  EXPECT_EQ(applyRules(rules, counts, 0, {}, logits, words).code(), StatusCode::Internal);
}

TEST_F(AnswerRulesTest, RefusesWhatIsOutOfRange) {
  auto refusal = [&] {
    Status status = checkRules(rules, 40);
    EXPECT_EQ(status.code(), StatusCode::InvalidArgument);
    return std::string(status.message());
  };
  EXPECT_TRUE(checkRules(rules, 40).isOk());
  rules.biases = {{40, 1.0f}};
  EXPECT_THAT(refusal(), HasSubstr("token 40"));
  rules.biases = {{1, 101.0f}};
  EXPECT_THAT(refusal(), HasSubstr("logit_bias is 101"));
  rules.biases = {{1, std::nanf("")}};
  EXPECT_THAT(refusal(), HasSubstr("logit_bias"));
  rules.biases.assign(kMaxTokenBiases + 1, {1, 1.0f});
  EXPECT_THAT(refusal(), HasSubstr("1025 tokens"));
  rules.biases.clear();
  rules.frequencyPenalty = -2.5f;
  EXPECT_THAT(refusal(), HasSubstr("frequency_penalty is -2.5; it must be from -2 to 2"));
}

} // namespace
} // namespace girih::engine
