// SPDX-License-Identifier: Apache-2.0
// The C API from C: right answers, explained failures, structs of other sizes.
#include "runtime/abi/girih.h"

#include "tests/runtime/abi/c_client.h"
#include "tests/runtime/program/toy_program.h"

#include <cstddef>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace girih {
namespace {

using girih::testing::TemporaryFolder;
using girih::testing::toyGreedy;
using ::testing::HasSubstr;

class CApi : public ::testing::Test {
protected:
  void SetUp() override { girih::testing::writeToyProgram(path); }
  void TearDown() override {
    girih_engine_destroy(engine);
    girih_program_close(program);
  }
  void open() {
    ASSERT_EQ(girih_program_open(path.c_str(), &program, &message), GIRIH_OK) << text;
    ASSERT_EQ(girih_engine_create(program, nullptr, &engine, &message), GIRIH_OK) << text;
  }
  TemporaryFolder folder;
  std::string path = folder.file("toy.girih");
  char text[512] = {};
  girih_message message = {text, sizeof text};
  girih_program *program = nullptr;
  girih_engine *engine = nullptr;
};

TEST_F(CApi, ConversesInC) {
  std::vector<int32_t> prompt = {1, 2, 3}, expected = toyGreedy(prompt, 10), answer(10);
  int32_t count = c_client_converse(path.c_str(), prompt.data(), prompt.size(), answer.data(), 10, &message);
  EXPECT_EQ(count, 10) << text;
  EXPECT_EQ(answer, expected);
  EXPECT_EQ(c_client_converse("/no/such.girih", prompt.data(), 3, answer.data(), 10, &message),
            -GIRIH_NOT_FOUND);
  EXPECT_THAT(text, HasSubstr("/no/such.girih"));
}

TEST_F(CApi, ServesManyInC) {
  std::vector<int32_t> prompt = {5, 6}, expected = toyGreedy(prompt, 30);
  girih_engine_stats stats = {};
  stats.struct_size = sizeof stats;
  EXPECT_EQ(c_client_serve(path.c_str(), prompt.data(), 2, expected.data(), 30, 16, &stats), 16);
  EXPECT_GT(stats.num_shared_steps, 0u);
  EXPECT_EQ(stats.num_kv_blocks_used, 0u);
}

TEST_F(CApi, DescribesAndVerifies) {
  open();
  girih_program_facts facts = {};
  facts.struct_size = sizeof facts;
  ASSERT_EQ(girih_program_describe(program, &facts, nullptr), GIRIH_OK);
  EXPECT_STREQ(facts.name, "toy");
  EXPECT_EQ(facts.vocab_size, 97u);
  EXPECT_EQ(facts.bos_token, -1);
  EXPECT_EQ(girih_program_verify(program, nullptr), GIRIH_OK);
  EXPECT_EQ(girih_api_version() >> 16, static_cast<uint32_t>(GIRIH_API_MAJOR));
}

TEST_F(CApi, FillsNoMoreThanTheCallersStruct) {
  open();
  girih_program_facts facts = {};
  facts.struct_size = offsetof(girih_program_facts, max_positions);
  facts.max_positions = 77;
  ASSERT_EQ(girih_program_describe(program, &facts, nullptr), GIRIH_OK);
  EXPECT_EQ(facts.vocab_size, 97u);
  EXPECT_EQ(facts.max_positions, 77u);
  facts.struct_size = 0;
  EXPECT_EQ(girih_program_describe(program, &facts, &message), GIRIH_INVALID_ARGUMENT);
  EXPECT_THAT(text, HasSubstr("struct_size"));
}

TEST_F(CApi, CutsLongMessagesAndLeavesOutParameters) {
  char tiny[8];
  girih_message small = {tiny, sizeof tiny};
  girih_program *untouched = reinterpret_cast<girih_program *>(0x10);
  EXPECT_EQ(girih_program_open("/no/such.girih", &untouched, &small), GIRIH_NOT_FOUND);
  EXPECT_EQ(std::string(tiny).size(), 7u);
  EXPECT_EQ(untouched, reinterpret_cast<girih_program *>(0x10));
  EXPECT_EQ(girih_program_open(nullptr, &untouched, nullptr), GIRIH_INVALID_ARGUMENT);
}

TEST_F(CApi, RefusesNulls) {
  open();
  girih_request request = {};
  request.struct_size = sizeof request;
  request.num_prompt_tokens = 4;
  EXPECT_EQ(girih_engine_submit(engine, &request, nullptr, &message), GIRIH_INVALID_ARGUMENT);
  EXPECT_THAT(text, HasSubstr("prompt_tokens is null, but 4"));
  EXPECT_EQ(girih_engine_submit(nullptr, &request, nullptr, nullptr), GIRIH_INVALID_ARGUMENT);
  EXPECT_EQ(girih_engine_submit(engine, nullptr, nullptr, nullptr), GIRIH_INVALID_ARGUMENT);
  EXPECT_EQ(girih_session_create(engine, nullptr, nullptr, nullptr), GIRIH_INVALID_ARGUMENT);
  girih_session_destroy(nullptr);
  girih_engine_destroy(nullptr);
  girih_program_close(nullptr);
}

TEST_F(CApi, ASessionGoesOnAfterItsAnswer) {
  open();
  girih_session *session = nullptr;
  ASSERT_EQ(girih_session_create(engine, nullptr, &session, &message), GIRIH_OK) << text;
  std::vector<int32_t> history = {1, 2, 3};
  ASSERT_EQ(girih_session_feed(session, history.data(), 3, nullptr), GIRIH_OK);
  for (int turn = 0; turn < 3; ++turn) {
    std::vector<int32_t> expected = toyGreedy(history, 5);
    ASSERT_EQ(girih_session_generate(session, 5, nullptr, 0, &message), GIRIH_OK) << text;
    if (turn == 0) {
      EXPECT_EQ(girih_session_feed(session, history.data(), 1, nullptr), GIRIH_FAILED_PRECONDITION);
    }
    for (int32_t token = 0; girih_session_next(session, &token, &message) == GIRIH_OK && token >= 0;)
      history.push_back(token);
    EXPECT_TRUE(std::equal(expected.begin(), expected.end(), history.end() - 5));
    int32_t more = 50 + turn;
    ASSERT_EQ(girih_session_feed(session, &more, 1, nullptr), GIRIH_OK);
    history.push_back(more);
  }
  // Cancelled: what was not taken is forgotten.
  ASSERT_EQ(girih_session_generate(session, 0xffffffff, nullptr, 0, nullptr), GIRIH_OK);
  int32_t token = -1;
  ASSERT_EQ(girih_session_next(session, &token, nullptr), GIRIH_OK);
  history.push_back(token);
  girih_session_cancel(session);
  ASSERT_EQ(girih_session_next(session, &token, nullptr), GIRIH_OK);
  EXPECT_EQ(token, -1);
  ASSERT_EQ(girih_session_generate(session, 1, nullptr, 0, nullptr), GIRIH_OK);
  ASSERT_EQ(girih_session_next(session, &token, nullptr), GIRIH_OK);
  EXPECT_EQ(token, toyGreedy(history, 1)[0]);
  girih_session_destroy(session);
}

TEST_F(CApi, SessionsFailAsRequestsDo) {
  open();
  girih_session *session = nullptr;
  girih_sampling sampling = {};
  sampling.struct_size = sizeof sampling;
  sampling.temperature = -1;
  EXPECT_EQ(girih_session_create(engine, &sampling, &session, &message), GIRIH_INVALID_ARGUMENT);
  EXPECT_THAT(text, HasSubstr("temperature is -1"));
  ASSERT_EQ(girih_session_create(engine, nullptr, &session, nullptr), GIRIH_OK);
  EXPECT_EQ(girih_session_generate(session, 5, nullptr, 0, &message),
            GIRIH_INVALID_ARGUMENT); // nothing was fed
  std::vector<int32_t> long_(300, 1);
  girih_session_feed(session, long_.data(), long_.size(), nullptr);
  EXPECT_EQ(girih_session_generate(session, 5, nullptr, 0, &message), GIRIH_OUT_OF_RANGE);
  girih_session_destroy(session);
}

} // namespace
} // namespace girih
