// SPDX-License-Identifier: Apache-2.0
// ToolCallReader: text, the head of a call up to its arguments, these, and what closes it.
#include "runtime/server/tool_call_reader.h"

#include "runtime/base/json.h"
#include "runtime/base/json_reader.h"

#include <algorithm>
#include <utility>

namespace girih::server {
namespace {

constexpr std::string_view kBlanks = " \n\t\r";
// A call that stands alone, without a text before it, begins like this.
constexpr std::string_view kBareCall = "{\"name\"";

size_t skipBlanks(std::string_view text, size_t place) {
  return std::min(text.find_first_not_of(kBlanks, place), text.size());
}

// Bytes at the end of `text` that `marker` begins with.
size_t partialMarker(std::string_view text, std::string_view marker) {
  size_t numBytes = std::min(marker.size() - 1, text.size());
  while (numBytes > 0 && !text.ends_with(marker.substr(0, numBytes)))
    --numBytes;
  return numBytes;
}

// What reading a piece of fixed syntax found.
enum class Found { Yes, No, NeedsMore };

Found expect(std::string_view text, size_t &place, std::string_view wanted) {
  place = skipBlanks(text, place);
  std::string_view rest = text.substr(place);
  if (rest.starts_with(wanted)) {
    place += wanted.size();
    return Found::Yes;
  }
  return wanted.starts_with(rest) ? Found::NeedsMore : Found::No;
}

// A name: a string without escapes.
Found expectName(std::string_view text, size_t &place, std::string &name) {
  Found quote = expect(text, place, "\"");
  if (quote != Found::Yes)
    return quote;
  size_t end = text.find_first_of("\"\\", place);
  if (end == text.npos)
    return Found::NeedsMore;
  if (text[end] == '\\' || end == place)
    return Found::No;
  name = text.substr(place, end - place);
  place = end + 1;
  return Found::Yes;
}

// {"name": "...", "<key>": up to the brace of the arguments.
Found expectHead(std::string_view text, const std::string &key, std::string &name, size_t &place) {
  place = 0;
  std::string quotedKey = "\"" + key + "\"";
  for (std::string_view part : {std::string_view("{"), std::string_view("\"name\""), std::string_view(":")})
    if (Found found = expect(text, place, part); found != Found::Yes)
      return found;
  if (Found found = expectName(text, place, name); found != Found::Yes)
    return found;
  for (std::string_view part :
       {std::string_view(","), std::string_view(quotedKey), std::string_view(":"), std::string_view("{")})
    if (Found found = expect(text, place, part); found != Found::Yes)
      return found;
  --place;
  return Found::Yes;
}

} // namespace

void ToolCallReader::say(AnswerPiece::Kind kind, std::string text) {
  if (kind == AnswerPiece::Kind::Text && text.empty())
    return;
  hasSpoken |= text.find_first_not_of(kBlanks) != text.npos;
  hasCalled |= kind == AnswerPiece::Kind::CallBegin;
  pieces.push_back({kind, std::move(text)});
}

void ToolCallReader::beginValue(size_t place) {
  scanned = place;
  depth = 0;
  inString = isEscaped = false;
}

bool ToolCallReader::scanValue() {
  while (scanned < held.size()) {
    char letter = held[scanned++];
    if (inString) {
      inString = isEscaped || letter != '"';
      isEscaped = !isEscaped && letter == '\\';
      continue;
    }
    inString = letter == '"';
    depth += (letter == '{' || letter == '[') - (letter == '}' || letter == ']');
    if (depth <= 0)
      return true;
  }
  return false;
}

std::vector<AnswerPiece> ToolCallReader::push(std::string_view text) {
  held += text;
  for (bool goesOn = true; goesOn;)
    switch (phase) {
    case Phase::Text:
      goesOn = readText();
      break;
    case Phase::Head:
      goesOn = readHead();
      break;
    case Phase::Arguments:
      goesOn = readArguments();
      break;
    case Phase::Tail:
      goesOn = readTail(/*isLast=*/false);
      break;
    }
  return std::exchange(pieces, {});
}

bool ToolCallReader::readText() {
  bool isBare = format.open.empty();
  std::string_view marker = isBare ? kBareCall : std::string_view(format.open);
  // White space between calls says nothing.
  if (hasCalled && !hasSpoken)
    held.erase(0, skipBlanks(held, 0));
  size_t place = held.find(marker);
  if (isBare && (hasSpoken || (place != held.npos && skipBlanks(held, 0) != place)))
    place = held.npos;
  if (place == held.npos) {
    size_t numHeld = isBare && hasSpoken ? 0 : partialMarker(held, marker);
    // A bare call may have white space before it, which is then no text either.
    if (isBare && !hasSpoken && skipBlanks(held, 0) == held.size() - numHeld)
      return false;
    say(AnswerPiece::Kind::Text, held.substr(0, held.size() - numHeld));
    held.erase(0, held.size() - numHeld);
    return false;
  }
  say(AnswerPiece::Kind::Text, isBare ? std::string() : held.substr(0, place));
  held.erase(0, isBare ? place : place + marker.size());
  beginValue(0);
  phase = Phase::Head;
  return true;
}

bool ToolCallReader::readHead() {
  std::string name;
  size_t place = 0;
  Found found = expectHead(held, format.argumentsKey, name, place);
  if (found == Found::NeedsMore)
    return false;
  if (found == Found::No)
    return readWholeCall();
  say(AnswerPiece::Kind::CallBegin, std::move(name));
  held.erase(0, place);
  beginValue(0);
  phase = Phase::Arguments;
  return true;
}

// A call whose members stand in another order, or that is none.
bool ToolCallReader::readWholeCall() {
  if (depth == 0 && !inString)
    beginValue(skipBlanks(held, 0));
  if (scanned < held.size() && (depth > 0 || inString || held[scanned] == '{') && !scanValue())
    return false;
  auto document = JsonDocument::parse(std::string_view(held).substr(0, scanned));
  std::optional<JsonValue> name, arguments;
  if (document.isOk()) {
    name = document->root().find("name");
    arguments = document->root().find(format.argumentsKey);
  }
  if (!name || !name->isString() || (arguments && !arguments->isObject())) {
    say(AnswerPiece::Kind::Text, format.open);
    hasSpoken = true;
    phase = Phase::Text;
    return true;
  }
  say(AnswerPiece::Kind::CallBegin, std::string(*name->asString()));
  say(AnswerPiece::Kind::Arguments, arguments ? arguments->print() : "{}");
  held.replace(0, scanned, "}");
  phase = Phase::Tail;
  return true;
}

bool ToolCallReader::readArguments() {
  bool isWhole = scanValue();
  if (scanned > 0)
    say(AnswerPiece::Kind::Arguments, held.substr(0, scanned));
  held.erase(0, scanned);
  scanned = 0;
  if (isWhole)
    phase = Phase::Tail;
  return isWhole;
}

bool ToolCallReader::readTail(bool isLast) {
  size_t place = 0;
  std::string_view close = format.close;
  close.remove_prefix(skipBlanks(close, 0));
  Found found = expect(held, place, "}");
  if (found == Found::Yes && !close.empty())
    found = expect(held, place, close);
  if (found == Found::NeedsMore && !isLast)
    return false;
  // Something else than the close is the text behind the call.
  held.erase(0, place);
  say(AnswerPiece::Kind::CallEnd, {});
  hasSpoken = false;
  phase = Phase::Text;
  return true;
}

std::vector<AnswerPiece> ToolCallReader::finish() {
  if (phase == Phase::Arguments)
    say(AnswerPiece::Kind::CallEnd, {});
  else if (phase == Phase::Tail)
    (void)readTail(/*isLast=*/true);
  else if (phase == Phase::Head)
    say(AnswerPiece::Kind::Text, format.open + held);
  if (phase == Phase::Text)
    say(AnswerPiece::Kind::Text, std::move(held));
  held.clear();
  return std::exchange(pieces, {});
}

ToolCallReader &ChoiceReaders::of(uint32_t choice) {
  while (readers.size() <= choice)
    readers.emplace_back(*format);
  return readers[choice];
}

std::vector<AnswerPiece> ChoiceReaders::push(uint32_t choice, std::string_view text) {
  if (format)
    return of(choice).push(text);
  return text.empty() ? std::vector<AnswerPiece>()
                      : std::vector{AnswerPiece{AnswerPiece::Kind::Text, std::string(text)}};
}

std::vector<AnswerPiece> ChoiceReaders::finish(uint32_t choice) {
  return format ? of(choice).finish() : std::vector<AnswerPiece>();
}

ReadAnswer readAnswer(const std::optional<ToolFormat> &format, std::string_view text) {
  ReadAnswer answer;
  ChoiceReaders readers(format);
  std::vector<AnswerPiece> pieces = readers.push(0, text);
  for (AnswerPiece &last : readers.finish(0))
    pieces.push_back(std::move(last));
  for (AnswerPiece &piece : pieces) {
    if (piece.kind == AnswerPiece::Kind::Text)
      answer.text += piece.text;
    else if (piece.kind == AnswerPiece::Kind::CallBegin)
      answer.calls.push_back({std::move(piece.text), {}});
    else if (piece.kind == AnswerPiece::Kind::Arguments)
      answer.calls.back().arguments += piece.text;
  }
  return answer;
}

} // namespace girih::server
