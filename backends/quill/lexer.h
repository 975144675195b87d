// SPDX-License-Identifier: Apache-2.0
// Words of C, with the line that each stands on.
#pragma once

#include "isa.h"

#include <girih/message.h>

#include <cctype>
#include <cstring>
#include <string>
#include <string_view>

namespace quill {

class Lexer {
public:
  explicit Lexer(std::string_view text) : text(text) { advance(); }

  const std::string &word() const { return current; }
  bool isNumber() const { return !current.empty() && (std::isdigit(current[0]) || current[0] == '.'); }
  bool isName() const { return !current.empty() && (std::isalpha(current[0]) || current[0] == '_'); }
  bool isAtEnd() const { return current.empty(); }

  bool take(std::string_view wanted) {
    bool isThere = current == wanted;
    if (isThere)
      advance();
    return isThere;
  }
  void expect(std::string_view wanted) {
    if (!take(wanted))
      fail("`" + std::string(wanted) + "` is expected");
  }
  std::string takeName() {
    if (!isName())
      fail("a name is expected");
    return takeWord();
  }
  std::string takeWord() {
    std::string taken = current;
    advance();
    return taken;
  }

  [[noreturn]] void fail(const std::string &rule) const {
    throw Refusal(GIRIH_INVALID_ARGUMENT,
                  "line " + std::to_string(line) + ", at `" + current + "`: " + rule + "; <girih/kernel.h> says what a text is");
  }

private:
  bool skip(std::string_view from, std::string_view to) {
    if (text.substr(at, from.size()) != from)
      return false;
    size_t end = text.find(to, at + from.size());
    end = end == std::string_view::npos ? text.size() : end + (to == "\n" ? 0 : to.size());
    for (; at < end; ++at)
      line += text[at] == '\n';
    return true;
  }

  void advance() {
    while (at < text.size()) {
      if (std::isspace(static_cast<unsigned char>(text[at])))
        line += text[at++] == '\n';
      else if (!skip("/*", "*/") && !skip("//", "\n") && !skip("#", "\n"))
        break;
    }
    size_t begin = at;
    auto isWordPart = [&](char c) { return std::isalnum(static_cast<unsigned char>(c)) || c == '_' || c == '.'; };
    if (at < text.size() && isWordPart(text[at])) {
      bool isFloating = std::isdigit(static_cast<unsigned char>(text[at])) && text.substr(at, 2) != "0x";
      while (at < text.size() && (isWordPart(text[at]) || (isFloating && std::strchr("+-", text[at]) && text[at - 1] == 'e')))
        ++at;
    } else if (at < text.size()) {
      static constexpr const char *kPairs[] = {"->", "<<", ">>", "<=", ">=", "==", "!=", "&&", "||", "+="};
      bool isPair = false;
      for (const char *pair : kPairs)
        isPair |= text.substr(at, 2) == pair;
      at += isPair ? 2 : 1;
    }
    current = text.substr(begin, at - begin);
  }

  std::string_view text;
  size_t at = 0, line = 1;
  std::string current;
};

}  // namespace quill
