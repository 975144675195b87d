// SPDX-License-Identifier: Apache-2.0
// /v1/embeddings over a FakeEngine, whose hidden states say which token stood there.
#include "runtime/server/embedding.h"
#include "tests/runtime/server/endpoints_fixture.h"

#include <cmath>
#include <cstring>

namespace girih::server {
namespace {

using ::testing::ElementsAre;
using ::testing::FloatNear;
using ::testing::HasSubstr;

class EmbeddingsTest : public EndpointsTest {
protected:
  HttpResponse embed(const std::string &fields) {
    return answer("POST", "/v1/embeddings", "{" + fields + "}");
  }
  static std::vector<float> numbersAt(const std::string &json, const std::string &path) {
    std::vector<float> numbers;
    for (int index = 0; index < 3; ++index)
      numbers.push_back(std::stof(at(json, path + "." + std::to_string(index))));
    return numbers;
  }
  // More than an engine of one sequence and 20 ms a step is through with for eight seconds.
  std::shared_ptr<FakeExchange> sendMany() {
    FakeEngineOptions engine;
    engine.stepTime = std::chrono::milliseconds(20);
    engine.maxRunning = 1;
    start(engine, {});
    std::string inputs = "[1]";
    for (int number = 0; number < 400; ++number)
      inputs += ",[1]";
    return send("POST", "/v1/embeddings", R"({"input":[)" + inputs + "]}");
  }
  // The engine lets go of the last input a moment after it was answered.
  void expectNoneActive() {
    for (int count = 0; count < 1000 && service->numActive > 0; ++count)
      std::this_thread::sleep_for(std::chrono::milliseconds(1));
    EXPECT_EQ(service->numActive, 0u);
  }
  // The mean of (token, 1, 0) over the tokens, of length 1.
  static auto directionOf(std::vector<int> tokens) {
    float sum = 0, count = static_cast<float>(tokens.size());
    for (int token : tokens)
      sum += static_cast<float>(token);
    float length = std::sqrt(sum * sum + count * count);
    return ElementsAre(FloatNear(sum / length, 1e-6f), FloatNear(count / length, 1e-6f), 0.0f);
  }
};

TEST_F(EmbeddingsTest, AreTheMeanOfHiddenStates) {
  HttpResponse response = embed(R"("model":"fake","input":"AB!")");
  ASSERT_EQ(response.status, 200) << response.body;
  EXPECT_EQ(at(response.body, "object"), "\"list\"");
  EXPECT_EQ(at(response.body, "model"), "\"fake\"");
  EXPECT_EQ(at(response.body, "data.0.object"), "\"embedding\"");
  EXPECT_EQ(at(response.body, "usage"), R"({"prompt_tokens":3,"total_tokens":3})");
  EXPECT_THAT(numbersAt(response.body, "data.0.embedding"), directionOf({65, 66, 33}));
}

TEST_F(EmbeddingsTest, TakesTextsAndTokensOneOrMany) {
  EXPECT_THAT(numbersAt(embed(R"("input":[1,2])").body, "data.0.embedding"), directionOf({1, 2}));
  std::string body = embed(R"("input":["A","BC"])").body;
  EXPECT_THAT(numbersAt(body, "data.1.embedding"), directionOf({66, 67}));
  body = embed(R"("input":[[7],[1,2,3]])").body;
  EXPECT_THAT(numbersAt(body, "data.0.embedding"), directionOf({7}));
  EXPECT_THAT(numbersAt(body, "data.1.embedding"), directionOf({1, 2, 3}));
  EXPECT_EQ(at(body, "data.1.index"), "1");
  EXPECT_EQ(at(body, "usage.total_tokens"), "4");
}

// Far more than are in the engine at a time, each in its place.
TEST_F(EmbeddingsTest, KeepsManyInOrder) {
  std::string inputs;
  for (int number = 0; number < 500; ++number)
    inputs += (number ? ",[" : "[") + std::to_string(number % 200) + "]";
  std::string body = embed(R"("input":[)" + inputs + "]").body;
  for (int number : {0, 1, 31, 32, 33, 250, 499})
    EXPECT_THAT(numbersAt(body, "data." + std::to_string(number) + ".embedding"),
                directionOf({number % 200}));
  expectNoneActive();
}

// RFC 4648 of little-endian floats, which numpy.frombuffer reads.
TEST_F(EmbeddingsTest, AreBase64WhereAsked) {
  FakeEngineOptions engine;
  engine.hiddenSize = 2;
  start(engine, {});
  // Token 0: (0, 1): 00 00 00 00 00 00 80 3f.
  EXPECT_EQ(at(embed(R"("input":[0],"encoding_format":"base64")").body, "data.0.embedding"),
            "\"AAAAAAAAgD8=\"");
  EXPECT_EQ(at(embed(R"("input":[0],"encoding_format":"float")").body, "data.0.embedding"), "[0,1]");
}

TEST_F(EmbeddingsTest, RefusesByName) {
  struct Case {
    std::string fields, param, message;
  };
  std::string many = "[0";
  for (size_t count = 0; count < kMaxEmbeddingInputs; ++count)
    many += ",0";
  for (const Case &wrong :
       std::vector<Case>{{R"("model":"fake")", "input", "missing"},
                         {R"("input":3)", "input", "must be a string"},
                         {R"("input":"")", "input", "0 tokens (number 0)"},
                         {R"("input":[])", "input", ""},
                         {R"("input":["a",""])", "input", "0 tokens (number 1)"},
                         {R"("input":["a",3])", "input", "must be a string"},
                         {R"("input":[3,-1])", "input", ""},
                         {R"("input":[3,257])", "input", "257"},
                         {R"("input":")" + std::string(600, 'a') + "\"", "input", "600 tokens"},
                         {R"("input":"a","encoding_format":"int8")", "encoding_format", "base64"},
                         {R"("input":"a","dimensions":2)", "dimensions", "this model's vectors have 3"},
                         {R"("input":"a","dimensions":0)", "dimensions", ""}}) {
    HttpResponse response = embed(wrong.fields);
    EXPECT_EQ(response.status, 400) << wrong.fields << response.body;
    EXPECT_EQ(at(response.body, "error.param"), "\"" + wrong.param + "\"") << wrong.fields << response.body;
    EXPECT_THAT(at(response.body, "error.message"), HasSubstr(wrong.message)) << wrong.fields;
  }
  std::string entries;
  for (size_t count = 0; count <= kMaxEmbeddingInputs; ++count)
    entries += count ? ",\"a\"" : "\"a\"";
  EXPECT_THAT(at(embed(R"("input":[)" + entries + "]").body, "error.message"), HasSubstr("at most 2048"));
  EXPECT_EQ(embed(R"("input":"a","dimensions":3)").status, 200);
  EXPECT_EQ(embed(R"("input":"a","model":"other")").status, 404);
  expectNoneActive();
}

TEST_F(EmbeddingsTest, SaysThatAProgramGivesNone) {
  FakeEngineOptions engine;
  engine.hiddenSize = 0;
  start(engine, {});
  HttpResponse response = embed(R"("input":"x")");
  EXPECT_EQ(response.status, 501);
  EXPECT_THAT(at(response.body, "error.message"), HasSubstr("gives no hidden states"));
}

TEST_F(EmbeddingsTest, AreMeteredAsInput) {
  embed(R"("input":["AB","C"])");
  UsedInAll used = service->usedByClient().at(0).second;
  EXPECT_EQ(used[0].numRequests, 1u);
  EXPECT_EQ(used[0].numInputTokens, 3u);
  EXPECT_EQ(used[0].numOutputTokens, 0u);
}

// Who leaves frees what runs, and nothing more of it is submitted.
TEST_F(EmbeddingsTest, EndWithTheirClient) {
  auto exchange = sendMany();
  exchange->goneCallback();
  ASSERT_TRUE(exchange->waitForEnd()) << "far earlier than 400 steps of 20 ms";
  EXPECT_EQ(service->numClientsGone, 1u);
  auto &fake = static_cast<FakeEngine &>(service->engine());
  EXPECT_LT(fake.submitted.size(), 100u);
}

TEST_F(EmbeddingsTest, EndWithTheServer) {
  auto exchange = sendMany();
  service->shutDown();
  ASSERT_TRUE(exchange->waitForEnd());
  EXPECT_EQ(exchange->response.status, 503);
}

TEST(MeanPool, IsOfLengthOneHoweverTheRowsCome) {
  std::vector<float> rows;
  for (int index = 0; index < 700; ++index)
    rows.push_back(std::sin(static_cast<float>(index)));
  MeanPool whole(7), pieces(7);
  whole.add(rows);
  for (size_t begin = 0; begin < rows.size(); begin += 7 * 20)
    pieces.add(std::span(rows).subspan(begin, 7 * 20));
  EXPECT_EQ(whole.normalised(), pieces.normalised());
  double squares = 0;
  for (float element : whole.normalised())
    squares += static_cast<double>(element) * element;
  EXPECT_NEAR(squares, 1.0, 1e-6);
  EXPECT_THAT(MeanPool(2).normalised(), ElementsAre(0.0f, 0.0f));
}

} // namespace
} // namespace girih::server
