// SPDX-License-Identifier: Apache-2.0
// CWriter: indentation, names that are used once, arithmetic on numbers that are known.
#include "compiler/emit/c99_writer.h"

#include "llvm/ADT/APFloat.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/Support/Format.h"
#include "llvm/Support/raw_ostream.h"

#include <cmath>

using llvm::StringRef;
using llvm::Twine;

namespace girih::compiler::c99 {

Expr number(int64_t value) { return value < 0 ? "(" + std::to_string(value) + ")" : std::to_string(value); }

// Nine digits name every f32.
Expr floating(double value) {
  if (std::isnan(value))
    return "(INFINITY - INFINITY)";
  if (std::isinf(value))
    return value < 0 ? "(-INFINITY)" : "INFINITY";
  std::string text;
  llvm::raw_string_ostream(text) << llvm::format("%.9g", value);
  if (text.find_first_of(".e") == std::string::npos)
    text += ".0";
  return std::signbit(value) ? "(" + text + "f)" : text + "f";
}

std::optional<int64_t> knownNumber(const Expr &expr) {
  StringRef text = expr;
  if (text.consume_front("("))
    text.consume_back(")");
  int64_t value = 0;
  return text.getAsInteger(10, value) ? std::nullopt : std::optional(value);
}

Expr binary(const Expr &x, StringRef op, const Expr &y) { return ("(" + Twine(x) + " " + op + " " + y + ")").str(); }
Expr choose(const Expr &condition, const Expr &x, const Expr &y) { return "(" + condition + " ? " + x + " : " + y + ")"; }
Expr call(StringRef function, const Expr &x) { return (function + "(" + x + ")").str(); }
Expr element(const Expr &array, const Expr &index) { return array + "[" + index + "]"; }

namespace {
template <typename Fold> Expr folded(const Expr &x, StringRef op, const Expr &y, Fold fold) {
  auto left = knownNumber(x), right = knownNumber(y);
  return left && right ? number(fold(*left, *right)) : binary(x, op, y);
}
bool is(const Expr &x, int64_t value) { return knownNumber(x) == value; }
}  // namespace

Expr add(const Expr &x, const Expr &y) {
  if (is(x, 0) || is(y, 0))
    return is(x, 0) ? y : x;
  return folded(x, "+", y, std::plus<int64_t>());
}
Expr sub(const Expr &x, const Expr &y) { return is(y, 0) ? x : folded(x, "-", y, std::minus<int64_t>()); }
Expr mul(const Expr &x, const Expr &y) {
  if (is(x, 0) || is(y, 0))
    return "0";
  if (is(x, 1) || is(y, 1))
    return is(x, 1) ? y : x;
  return folded(x, "*", y, std::multiplies<int64_t>());
}
Expr div(const Expr &x, const Expr &y) { return is(y, 1) ? x : folded(x, "/", y, std::divides<int64_t>()); }
Expr rem(const Expr &x, const Expr &y) { return is(y, 1) ? "0" : folded(x, "%", y, std::modulus<int64_t>()); }
Expr ceilDiv(const Expr &x, const Expr &y) { return div(add(x, sub(y, "1")), y); }
Expr least(const Expr &x, const Expr &y) {
  auto left = knownNumber(x), right = knownNumber(y);
  return x == y ? x : left && right ? number(std::min(*left, *right)) : choose(x + " < " + y, x, y);
}
Expr most(const Expr &x, const Expr &y) {
  auto left = knownNumber(x), right = knownNumber(y);
  return x == y ? x : left && right ? number(std::max(*left, *right)) : choose(x + " > " + y, x, y);
}

void CWriter::line(const Twine &statement) {
  text.append(size_t(2 * depth), ' ');
  text += statement.str();
  text += '\n';
}

Expr CWriter::variable(StringRef type, StringRef prefix, const Expr &value) {
  std::string name = fresh(prefix);
  line(type + " " + name + " = " + value + ";");
  return name;
}

namespace {
bool isName(StringRef expr) {
  return !expr.empty() && llvm::all_of(expr, [](char c) { return llvm::isAlnum(c) || c == '_'; });
}
}  // namespace

Expr CWriter::integer(const Expr &value) {
  return isName(value) || knownNumber(value) ? value : variable("int64_t", "v", value);
}
Expr CWriter::real(const Expr &value) { return isName(value) ? value : variable("float", "f", value); }

Expr CWriter::array(StringRef element, int64_t count) {
  std::string name = fresh("w");
  line(element + " " + name + "[" + Twine(count) + "];");
  return name;
}

void CWriter::nested(const Twine &head, llvm::function_ref<void()> body) {
  line(head + "{");
  ++depth;
  body();
  --depth;
  line("}");
}

void CWriter::block(llvm::function_ref<void()> body) { nested("", body); }

void CWriter::loop(const Expr &begin, const Expr &end, const Expr &step, llvm::function_ref<void(const Expr &)> body) {
  std::string name = fresh("i");
  nested("for (int64_t " + name + " = " + begin + "; " + name + " < " + end + "; " + name + " += " + step + ") ",
         [&] { body(name); });
}

void CWriter::when(const Expr &condition, llvm::function_ref<void()> body) { nested("if (" + condition + ") ", body); }

}  // namespace girih::compiler::c99
