// SPDX-License-Identifier: Apache-2.0
// CommandLine: the options of one subcommand and a --help that teaches; thin over CLI11, which stays in one file.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace girih::tools {

inline constexpr int kExitFailure = 1;
inline constexpr int kExitUsage = 2;
inline constexpr int kExitInterrupted = 130;  // 128 + SIGINT, as shells report it

// Every function stores a reference: the values must outlive parse(). A spelling such as "--max-tokens" is followed in
// --help by `unit` ("N"). Values that are not given keep what they hold, which --help shows where it is a default.
class CommandLine {
public:
  CommandLine(std::string_view command, std::string_view description);
  ~CommandLine();

  void positional(const char *name, std::string &value, const char *help, bool isRequired = true);
  void text(const char *spelling, const char *unit, std::string &value, const char *help);
  void integer(const char *spelling, int64_t &value, int64_t lowest, int64_t highest, const char *help);
  void integer(const char *spelling, std::optional<int64_t> &value, int64_t lowest, int64_t highest, const char *help);
  void number(const char *spelling, std::optional<double> &value, double lowest, double highest, const char *help);
  void choice(const char *spelling, std::string &value, const std::vector<std::string> &choices, const char *help);
  void flag(const char *spelling, bool &value, const char *help);
  // Exactly one of these options must be given.
  void requireOneOf(const std::vector<std::string> &spellings);
  // What --help ends with: examples that can be pasted.
  void examples(const char *text);

  // Parses what follows the subcommand. Null when the command should run, else the exit status: --help (on stdout) gives
  // 0, a mistake (told on stderr) kExitUsage.
  std::optional<int> parse(const std::vector<std::string> &arguments);
  bool wasGiven(const char *spelling) const;

private:
  struct Parser;
  std::unique_ptr<Parser> parser;
};

}  // namespace girih::tools
