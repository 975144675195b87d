// SPDX-License-Identifier: Apache-2.0
// ToolCallReader: takes the calls of tools out of an answer's text while it comes.
#pragma once

#include "runtime/text/tool_format.h"

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace girih::server {

struct AnswerPiece {
  enum class Kind {
    Text,
    CallBegin, // `text` is the tool's name
    Arguments, // a part of their JSON
    CallEnd,
  };
  Kind kind;
  std::string text;
};

// Text that may begin a call is held back; what turns out to be none comes out as text. The arguments of a call are
// given as they come, their JSON otherwise untouched. Thread-compatible.
class ToolCallReader {
public:
  explicit ToolCallReader(ToolFormat format) : format(std::move(format)) {}
  std::vector<AnswerPiece> push(std::string_view text);
  // What was held back. A call that is not finished ends.
  std::vector<AnswerPiece> finish();

private:
  enum class Phase { Text, Head, Arguments, Tail };
  // Each takes what it can from `held`; false: it needs more.
  bool readText();
  bool readHead();
  bool readArguments();
  bool readTail(bool isLast);
  bool readWholeCall();
  void say(AnswerPiece::Kind kind, std::string text);

  ToolFormat format;
  Phase phase = Phase::Text;
  std::string held;
  std::vector<AnswerPiece> pieces;
  bool hasSpoken = false; // something but white space came before
  bool hasCalled = false;
  // Of the JSON value that is being passed over.
  size_t scanned = 0;
  int depth = 0;
  bool inString = false, isEscaped = false;
  // Passes over `held` to the end of the value that began; false: it goes on.
  bool scanValue();
  void beginValue(size_t place);
};

struct ToolCall {
  std::string name, arguments;
};
// Readers of an answer's choices; without a format, everything is text.
class ChoiceReaders {
public:
  explicit ChoiceReaders(std::optional<ToolFormat> format) : format(std::move(format)) {}
  std::vector<AnswerPiece> push(uint32_t choice, std::string_view text);
  std::vector<AnswerPiece> finish(uint32_t choice);
  bool mayCall() const { return format.has_value(); }

private:
  ToolCallReader &of(uint32_t choice);
  const std::optional<ToolFormat> format;
  std::vector<ToolCallReader> readers;
};

// An answer that is complete: its text without the calls, and these.
struct ReadAnswer {
  std::string text;
  std::vector<ToolCall> calls;
};
ReadAnswer readAnswer(const std::optional<ToolFormat> &format, std::string_view text);

} // namespace girih::server
