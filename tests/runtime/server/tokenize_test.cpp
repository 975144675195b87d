// SPDX-License-Identifier: Apache-2.0
// /tokenize, /detokenize, /apply-template and /tokenizer_info over a tokenizer of bytes.
#include "tests/runtime/server/endpoints_fixture.h"

namespace girih::server {
namespace {

using ::testing::HasSubstr;

class TokenizeTest : public EndpointsTest {};

TEST_F(TokenizeTest, GivesTokensOfTextsAndOfMessages) {
  HttpResponse text = answer("POST", "/tokenize", R"({"prompt":"Hi<|end|>","return_token_strs":true})");
  EXPECT_EQ(at(text.body, "tokens"), "[72,105,256]") << text.body;
  EXPECT_EQ(at(text.body, "count"), "3");
  EXPECT_EQ(at(text.body, "max_model_len"), "512");
  EXPECT_EQ(at(text.body, "token_strs"), R"(["H","i","<|end|>"])");
  HttpResponse chat = answer("POST", "/tokenize", R"({"messages":[{"role":"user","content":"<|end|>"}]})");
  EXPECT_EQ(at(chat.body, "count"), "14") << "a token typed in a message stays text";
  EXPECT_EQ(at(chat.body, "token_strs"), "null");
  EXPECT_EQ(at(answer("POST", "/tokenize", R"({"prompt":""})").body, "tokens"), "[]");
}

TEST_F(TokenizeTest, GivesTheTextBack) {
  EXPECT_EQ(at(answer("POST", "/detokenize", R"({"tokens":[72,105,256]})").body, "prompt"), "\"Hi<|end|>\"");
  EXPECT_EQ(at(answer("POST", "/detokenize", R"({"tokens":[]})").body, "prompt"), "\"\"");
}

TEST_F(TokenizeTest, AppliesTheTemplate) {
  HttpResponse response =
      answer("POST", "/apply-template", R"({"messages":[{"role":"user","content":"hi"}]})");
  EXPECT_EQ(at(response.body, "prompt"), "\"user: hi\\n\"");
}

TEST_F(TokenizeTest, DescribesTheTokenizerAsRemoteOnesAsk) {
  HttpResponse response = answer("GET", "/tokenizer_info");
  EXPECT_EQ(at(response.body, "eos_token"), "\"<|end|>\"");
  EXPECT_EQ(at(response.body, "bos_token"), "null");
  EXPECT_THAT(at(response.body, "chat_template"), HasSubstr("for m in messages"));
}

TEST_F(TokenizeTest, NamesTheFieldOfEveryRefusal) {
  const std::vector<std::string> kRefusals[] = {
      {"/tokenize", R"({"prompt":7})", "prompt"},
      {"/tokenize", R"({})", "messages"},
      {"/tokenize", R"({"prompt":"x","add_special_tokens":1})", "add_special_tokens"},
      {"/tokenize", R"({"prompt":"x","model":"gpt-9"})", "gpt-9"},
      {"/detokenize", R"({"tokens":[257]})", "0 to 256"},
      {"/detokenize", R"({"tokens":[-1]})", "tokens"},
      {"/detokenize", R"({"tokens":"x"})", "tokens"},
      {"/detokenize", R"({})", "tokens"},
      {"/apply-template", R"({"prompt":"x"})", "messages"},
      {"/apply-template", R"({"messages":[{"role":"user","content":[{"type":"image_url"}]}]})", "text"},
  };
  for (const auto &refusal : kRefusals) {
    HttpResponse response = answer("POST", refusal[0], refusal[1]);
    EXPECT_TRUE(response.status == 400 || response.status == 404) << refusal[1];
    EXPECT_THAT(at(response.body, "error.message"), HasSubstr(refusal[2])) << refusal[1];
  }
}

TEST_F(TokenizeTest, AsksForTheKey) {
  ServiceOptions options;
  options.keys = ApiKeys::ofOne("sesame");
  start({}, options);
  for (std::string path : {"/tokenize", "/detokenize", "/apply-template"})
    EXPECT_EQ(answer("POST", path, "{}").status, 401);
  EXPECT_EQ(answer("GET", "/tokenizer_info").status, 401);
}

} // namespace
} // namespace girih::server
