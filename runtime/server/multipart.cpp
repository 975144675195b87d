// SPDX-License-Identifier: Apache-2.0
// Multipart: boundaries first, then the few headers of each part; nothing is copied but names.
#include "runtime/server/multipart.h"

#include <algorithm>
#include <cctype>

namespace girih::server {
namespace {

constexpr std::string_view kType = "multipart/form-data";
constexpr size_t kMaxBoundaryBytes = 70; // RFC 2046
constexpr size_t kMaxHeaderBytes = 4096;

std::string lowered(std::string_view text) {
  std::string result(text);
  std::transform(result.begin(), result.end(), result.begin(),
                 [](unsigned char letter) { return std::tolower(letter); });
  return result;
}

// The value of `name=` among parameters behind semicolons, without its quotes; empty: there is none.
std::string parameterOf(std::string_view text, std::string_view name) {
  std::string wanted = std::string(name) + "=", lower = lowered(text);
  for (size_t at = lower.find(wanted); at != lower.npos; at = lower.find(wanted, at + 1)) {
    bool begins = at > 0 && (lower[at - 1] == ';' || lower[at - 1] == ' ' || lower[at - 1] == '\t');
    if (!begins)
      continue;
    std::string_view value = text.substr(at + wanted.size());
    if (!value.starts_with('"'))
      return std::string(value.substr(0, value.find_first_of("; \t\r\n")));
    std::string unquoted;
    for (size_t index = 1; index < value.size() && value[index] != '"'; ++index)
      unquoted += value[index] == '\\' && index + 1 < value.size() ? value[++index] : value[index];
    return unquoted;
  }
  return {};
}

Expected<FormPart> readPart(std::string_view text) {
  size_t end = text.find("\r\n\r\n");
  if (end == text.npos || end > kMaxHeaderBytes)
    return invalidArgument("a part of the form has no end of its headers within " +
                           std::to_string(kMaxHeaderBytes) + " bytes");
  FormPart part;
  part.content = text.substr(end + 4);
  for (std::string_view headers = text.substr(0, end + 2); !headers.empty();) {
    std::string_view line = headers.substr(0, headers.find("\r\n"));
    headers.remove_prefix(std::min(line.size() + 2, headers.size()));
    if (lowered(line.substr(0, line.find(':'))) != "content-disposition")
      continue;
    part.name = parameterOf(line, "name");
    part.fileName = parameterOf(line, "filename");
  }
  if (part.name.empty())
    return invalidArgument("a part of the form has no name");
  return part;
}

} // namespace

bool isMultipart(std::string_view contentType) { return lowered(contentType).starts_with(kType); }

Expected<std::vector<FormPart>> readMultipart(std::string_view contentType, std::string_view body) {
  std::string boundary = isMultipart(contentType) ? parameterOf(contentType, "boundary") : "";
  if (boundary.empty() || boundary.size() > kMaxBoundaryBytes)
    return invalidArgument("the body must be multipart/form-data with a boundary of 1 to " +
                           std::to_string(kMaxBoundaryBytes) + " bytes");
  std::string delimiter = "--" + boundary;
  std::vector<FormPart> parts;
  size_t at = body.starts_with(delimiter) ? 0 : body.find("\r\n" + delimiter);
  if (at == body.npos)
    return invalidArgument("the form's boundary is not in its body");
  at += at > 0 ? 2 : 0;
  for (;;) {
    at += delimiter.size();
    std::string_view rest = body.substr(at);
    if (rest.starts_with("--"))
      return parts;
    if (!rest.starts_with("\r\n"))
      return invalidArgument("a boundary of the form is followed by something else than a line's end");
    size_t end = body.find("\r\n" + delimiter, at);
    if (end == body.npos || parts.size() == kMaxFormParts)
      return invalidArgument("the form has no end, or more than " + std::to_string(kMaxFormParts) + " parts");
    // An empty part's headers may end right before the boundary.
    GIRIH_ASSIGN(FormPart part, readPart(body.substr(at + 2, end - std::min(end, at + 2))));
    parts.push_back(std::move(part));
    at = end + 2;
  }
}

} // namespace girih::server
