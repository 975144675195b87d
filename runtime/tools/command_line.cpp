// SPDX-License-Identifier: Apache-2.0
// CommandLine over CLI11: the one file that sees it, since its header takes seconds to compile.
#include "runtime/tools/command_line.h"

#include <CLI/CLI.hpp>

#include <cstdlib>
#include <iostream>
#include <sstream>

namespace girih::tools {
namespace {

// CLI::Range without its words in --help, which the option's own line says better.
CLI::Validator wholeNumberIn(int64_t lowest, int64_t highest) { return CLI::Range(lowest, highest).description(""); }

}  // namespace

struct CommandLine::Parser {
  std::string command;
  CLI::App app;
};

CommandLine::CommandLine(std::string_view command, std::string_view description) : parser(std::make_unique<Parser>()) {
  parser->command = command;
  parser->app.name("girih " + parser->command);
  parser->app.description(std::string(description));
  parser->app.get_formatter()->column_width(34);
  parser->app.get_formatter()->label("Positionals", "What it works on");
  parser->app.get_formatter()->label("REQUIRED", "");
  parser->app.set_help_flag("-h,--help", "Show this text");
}

CommandLine::~CommandLine() = default;

void CommandLine::positional(const char *name, std::string &value, const char *help, bool isRequired) {
  parser->app.add_option(name, value, help)->required(isRequired)->type_name("");
}

void CommandLine::text(const char *spelling, const char *unit, std::string &value, const char *help) {
  parser->app.add_option(spelling, value, help)->type_name(unit)->capture_default_str();
}

void CommandLine::integer(const char *spelling, int64_t &value, int64_t lowest, int64_t highest, const char *help) {
  parser->app.add_option(spelling, value, help)->type_name("N")->capture_default_str()->check(wholeNumberIn(lowest, highest));
}

void CommandLine::integer(const char *spelling, std::optional<int64_t> &value, int64_t lowest, int64_t highest,
                          const char *help) {
  parser->app.add_option(spelling, value, help)->type_name("N")->check(wholeNumberIn(lowest, highest));
}

void CommandLine::number(const char *spelling, std::optional<double> &value, double lowest, double highest,
                         const char *help) {
  // Not CLI::Range, which lets NaN pass.
  auto isInRange = [lowest, highest](const std::string &text) {
    char *end = nullptr;
    double number = std::strtod(text.c_str(), &end);
    if (end != text.c_str() && *end == '\0' && number >= lowest && number <= highest)
      return std::string();
    std::ostringstream fault;
    fault << "\"" << text << "\" is no number from " << lowest << " to " << highest;
    return fault.str();
  };
  parser->app.add_option(spelling, value, help)->type_name("X")->check(isInRange);
}

void CommandLine::choice(const char *spelling, std::string &value, const std::vector<std::string> &choices,
                         const char *help) {
  std::string unit;
  for (const std::string &name : choices)
    unit += (unit.empty() ? "" : "|") + name;
  parser->app.add_option(spelling, value, help)->type_name(unit)->capture_default_str()->check(CLI::IsMember(choices).description(""));
}

void CommandLine::flag(const char *spelling, bool &value, const char *help) { parser->app.add_flag(spelling, value, help); }

void CommandLine::requireOneOf(const std::vector<std::string> &spellings) {
  // The same text that the mistake is reported with, so no group is made of CLI11's, which names it in its own words.
  parser->app.callback([this, spellings] {
    std::string given, known;
    size_t numGiven = 0;
    for (const std::string &spelling : spellings) {
      known += (known.empty() ? "" : ", ") + spelling;
      if (parser->app.count(spelling) == 0)
        continue;
      given += (numGiven++ == 0 ? "" : " and ") + spelling;
    }
    if (numGiven != 1)
      throw CLI::ValidationError(numGiven == 0 ? "one of " + known + " is needed" : given + " were given; only one of " + known + " can be");
  });
}

void CommandLine::examples(const char *text) { parser->app.footer(text); }

std::optional<int> CommandLine::parse(const std::vector<std::string> &arguments) {
  try {
    // CLI11 takes the arguments from the back.
    parser->app.parse(std::vector<std::string>(arguments.rbegin(), arguments.rend()));
    return std::nullopt;
  } catch (const CLI::CallForHelp &) {
    std::cout << parser->app.help();
    return 0;
  } catch (const CLI::ParseError &error) {
    std::cerr << "girih " << parser->command << ": " << error.what() << "; `girih " << parser->command << " --help` shows what it takes\n";
    return kExitUsage;
  }
}

bool CommandLine::wasGiven(const char *spelling) const { return parser->app.count(spelling) > 0; }

}  // namespace girih::tools
