// SPDX-License-Identifier: Apache-2.0
// Calls in an answer's text, whatever parts it comes in.
#include "runtime/server/tool_call_reader.h"

#include <gtest/gtest.h>

#include <random>

namespace girih::server {
namespace {

const ToolFormat kTagged;
const ToolFormat kBare{true, "", "", "parameters"};

// "text", then "name(arguments)" for each call, as the reader gives them.
std::string print(const std::vector<AnswerPiece> &pieces) {
  std::string all;
  for (const AnswerPiece &piece : pieces)
    all += piece.kind == AnswerPiece::Kind::CallBegin ? "[" + piece.text + "("
           : piece.kind == AnswerPiece::Kind::CallEnd ? ")]"
                                                      : piece.text;
  return all;
}

std::string read(const ToolFormat &format, const std::string &text, size_t partBytes) {
  ToolCallReader reader(format);
  std::vector<AnswerPiece> all;
  for (size_t place = 0; place < text.size(); place += partBytes)
    for (AnswerPiece &piece : reader.push(text.substr(place, partBytes)))
      all.push_back(std::move(piece));
  for (AnswerPiece &piece : reader.finish())
    all.push_back(std::move(piece));
  return print(all);
}

struct Case {
  ToolFormat format;
  std::string text, expected;
};

TEST(ToolCallReader, FindsCallsHoweverTheTextIsCut) {
  const Case kCases[] = {
      {kTagged, "plain < text", "plain < text"},
      {kTagged, "<tool_call>\n{\"name\": \"f\", \"arguments\": {\"x\": \"}\\\"{\"}}\n</tool_call>",
       "[f({\"x\": \"}\\\"{\"})]"},
      {kTagged,
       "Yes.\n<tool_call>\n{\"name\":\"f\",\"arguments\":{}}\n</"
       "tool_call>\n<tool_call>\n{\"name\":\"g\",\"arguments\":{\"a\":[{}]}}\n</tool_call>\n",
       "Yes.\n[f({})][g({\"a\":[{}]})]"},
      {kTagged, "<tool_call>\n{\"arguments\": {\"x\": 1}, \"name\": \"f\"}\n</tool_call>", "[f({\"x\":1})]"},
      {kTagged, "<tool_call>\n{\"name\": \"f\"}\n</tool_call> then", "[f({})]then"},
      {kTagged, "<tool_call>\nno call", "<tool_call>\nno call"},
      {kTagged, "<tool_call>\n{\"name\": 7}\n</tool_call>", "<tool_call>\n{\"name\": 7}\n</tool_call>"},
      {kTagged, "<tool_call>\n{\"name\": \"f\", \"arguments\": {\"x\": 1", "[f({\"x\": 1)]"},
      {kTagged, "<tool_call>\n{\"name\": \"f", "<tool_call>\n{\"name\": \"f"},
      {kTagged, "<tool_call>\n{\"name\": \"f\", \"arguments\": {}} and more", "[f({})]and more"},
      {kTagged, "<tool_cal", "<tool_cal"},
      {kBare, "{\"name\": \"f\", \"parameters\": {\"x\": 1}}", "[f({\"x\": 1})]"},
      {kBare, "\n {\"name\": \"f\", \"parameters\": {}}\n", "[f({})]"},
      {kBare, "{\"named\": 1}", "{\"named\": 1}"},
      {kBare, "See {\"name\": \"f\", \"parameters\": {}}", "See {\"name\": \"f\", \"parameters\": {}}"},
      {kBare, "", ""},
  };
  for (const Case &one : kCases)
    for (size_t partBytes : {1, 2, 3, 7, 1000})
      EXPECT_EQ(read(one.format, one.text, partBytes), one.expected) << one.text << " by " << partBytes;
}

TEST(ToolCallReader, StreamsArgumentsBeforeTheyEnd) {
  ToolCallReader reader(kTagged);
  EXPECT_EQ(print(reader.push("<tool_call>\n{\"name\": \"f\", \"argu")), "");
  EXPECT_EQ(print(reader.push("ments\": {\"x")), "[f({\"x");
  EXPECT_EQ(print(reader.push("\": 12")), "\": 12");
  EXPECT_EQ(print(reader.push("}}")), "}");
  EXPECT_EQ(print(reader.push("\n</tool_call>")), ")]");
}

// Nothing is lost and nothing hangs, whatever comes.
TEST(ToolCallReader, SurvivesAnything) {
  std::mt19937 random(1);
  const std::string kParts[] = {"<tool_call>\n",
                                "\n</tool_call>",
                                "{\"name\": \"f\", \"arguments\": ",
                                "{",
                                "}",
                                "\"",
                                "\\",
                                "[",
                                "]",
                                ",",
                                " ",
                                "x",
                                "{\"name\"",
                                "<",
                                "\xFF"};
  for (int round = 0; round < 20000; ++round) {
    std::string text;
    for (size_t part = random() % 12; part > 0; --part)
      text += kParts[random() % std::size(kParts)];
    const ToolFormat &format = round % 2 ? kTagged : kBare;
    std::string whole = read(format, text, 1000);
    EXPECT_EQ(read(format, text, 1 + random() % 5), whole) << text;
    if (whole.find("[f(") == whole.npos && round % 2)
      EXPECT_EQ(whole, text);
  }
}

} // namespace
} // namespace girih::server
