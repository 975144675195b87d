// SPDX-License-Identifier: Apache-2.0
// CommandLine: what parses, what is refused with status 2, and that --help teaches.
#include "runtime/tools/command_line.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace girih::tools {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

struct Flags {
  std::string file, prompt, tokens, format = "text";
  int64_t maxTokens = 512;
  std::optional<double> temperature;
  std::optional<int64_t> seed;
  bool noTemplate = false;
};

class CommandLineTest : public ::testing::Test {
protected:
  std::optional<int> parse(std::vector<std::string> arguments) {
    flags = {};
    CommandLine line("run", "Answers one prompt.");
    line.positional("FILE", flags.file, "The model");
    line.text("--prompt", "TEXT", flags.prompt, "What to answer");
    line.text("--tokens", "1,2,3", flags.tokens, "Token ids");
    line.requireOneOf({"--prompt", "--tokens"});
    line.integer("--max-tokens", flags.maxTokens, 0, 1000, "Most tokens");
    line.integer("--seed", flags.seed, 0, INT64_MAX, "Seed");
    line.number("--temperature", flags.temperature, 0, 100, "Heat");
    line.choice("--format", flags.format, {"text", "json"}, "Format");
    line.flag("--no-template", flags.noTemplate, "Raw");
    line.examples("Examples:\n  girih run m --prompt x");
    ::testing::internal::CaptureStderr();
    ::testing::internal::CaptureStdout();
    auto exitStatus = line.parse(arguments);
    out = ::testing::internal::GetCapturedStdout();
    error = ::testing::internal::GetCapturedStderr();
    return exitStatus;
  }
  Flags flags;
  std::string out, error;
};

TEST_F(CommandLineTest, TakesOptionsInAnyOrderAndSpelling) {
  EXPECT_EQ(parse({"--tokens", "1,2,3", "model.girih", "--max-tokens=7", "--temperature", "0.5", "--no-template", "--format", "json", "--seed", "9"}), std::nullopt) << error;
  EXPECT_EQ(flags.file, "model.girih");
  EXPECT_EQ(flags.tokens, "1,2,3");
  EXPECT_EQ(flags.maxTokens, 7);
  EXPECT_EQ(flags.temperature, 0.5);
  EXPECT_EQ(flags.seed, 9);
  EXPECT_EQ(flags.format, "json");
  EXPECT_TRUE(flags.noTemplate);
}

TEST_F(CommandLineTest, KeepsDefaultsAndTakesOddPrompts) {
  for (std::string prompt : {"two words", "-starts with a dash", "--looks like an option", "", "a,b", "[x]", "\"quoted\"", "line\nbreak"}) {
    EXPECT_EQ(parse({"m", "--prompt", prompt}), std::nullopt) << prompt << ": " << error;
    EXPECT_EQ(flags.prompt, prompt);
    if (prompt.empty())
      continue;  // `--prompt=` alone says nothing
    EXPECT_EQ(parse({"m", "--prompt=" + prompt}), std::nullopt) << prompt << ": " << error;
    EXPECT_EQ(flags.prompt, prompt);
  }
  EXPECT_EQ(flags.maxTokens, 512);
  EXPECT_EQ(flags.temperature, std::nullopt);
}

TEST_F(CommandLineTest, RefusesMistakesWithStatusTwo) {
  const std::pair<std::vector<std::string>, std::string> kMistakes[] = {
      {{}, "FILE"},
      {{"m"}, "one of --prompt, --tokens is needed"},
      {{"m", "--prompt", "x", "--tokens", "1"}, "--prompt and --tokens were given; only one"},
      {{"m", "--prompt"}, "--prompt"},
      {{"m", "--prompt", "x", "--max-tokens", "-1"}, "--max-tokens"},
      {{"m", "--prompt", "x", "--max-tokens", "many"}, "--max-tokens"},
      {{"m", "--prompt", "x", "--max-tokens", "99999999999999999999"}, "--max-tokens"},
      {{"m", "--prompt", "x", "--temperature", "nan"}, "--temperature"},
      {{"m", "--prompt", "x", "--temperature", "hot"}, "--temperature"},
      {{"m", "--prompt", "x", "--format", "xml"}, "--format"},
      {{"m", "--prompt", "x", "--no-such-option"}, "--no-such-option"},
      {{"m", "extra", "--prompt", "x"}, "extra"},
  };
  for (const auto &[arguments, what] : kMistakes) {
    EXPECT_EQ(parse(arguments), kExitUsage) << what;
    EXPECT_THAT(error, AllOf(HasSubstr("girih run: "), HasSubstr(what), HasSubstr("`girih run --help`")));
    EXPECT_EQ(out, "");
  }
}

TEST_F(CommandLineTest, HelpTeaches) {
  EXPECT_EQ(parse({"--help"}), 0);
  EXPECT_THAT(out, AllOf(HasSubstr("girih run"), HasSubstr("Answers one prompt."), HasSubstr("--max-tokens N"), HasSubstr("512"), HasSubstr("text|json"), HasSubstr("girih run m --prompt x")));
}

}  // namespace
}  // namespace girih::tools
