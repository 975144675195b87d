// SPDX-License-Identifier: Apache-2.0
// CWriter: C99 statements of the narrow kind that runtime/abi/kernel.h describes, and expressions as text.
#pragma once

#include "llvm/ADT/STLFunctionalExtras.h"
#include "llvm/ADT/Twine.h"

#include <cstdint>
#include <optional>
#include <string>

namespace girih::compiler::c99 {

// An expression that is safe as an operand of any operator: a name, a number, an element, or something in parentheses.
using Expr = std::string;

Expr number(int64_t value);
Expr floating(double value);
std::optional<int64_t> knownNumber(const Expr &expr);

// Of integers; numbers are folded.
Expr add(const Expr &x, const Expr &y);
Expr sub(const Expr &x, const Expr &y);
Expr mul(const Expr &x, const Expr &y);
Expr div(const Expr &x, const Expr &y);
Expr rem(const Expr &x, const Expr &y);
Expr ceilDiv(const Expr &x, const Expr &y);
Expr least(const Expr &x, const Expr &y);
Expr most(const Expr &x, const Expr &y);
Expr binary(const Expr &x, llvm::StringRef op, const Expr &y);
Expr choose(const Expr &condition, const Expr &x, const Expr &y);
Expr call(llvm::StringRef function, const Expr &x);
Expr element(const Expr &array, const Expr &index);

class CWriter {
public:
  std::string text;

  std::string fresh(llvm::StringRef prefix) { return (prefix + llvm::Twine(numNames++)).str(); }
  void line(const llvm::Twine &statement);
  // `TYPE NAME = value;`, where the value is not a name or a number already.
  Expr integer(const Expr &value);
  Expr real(const Expr &value);
  Expr variable(llvm::StringRef type, llvm::StringRef prefix, const Expr &value);
  Expr array(llvm::StringRef element, int64_t count);
  // What `body` writes stands in a block of its own, where arrays live no longer than they have to.
  void block(llvm::function_ref<void()> body);
  void loop(const Expr &begin, const Expr &end, const Expr &step, llvm::function_ref<void(const Expr &)> body);
  void when(const Expr &condition, llvm::function_ref<void()> body);

private:
  void nested(const llvm::Twine &head, llvm::function_ref<void()> body);
  int64_t numNames = 0;
  int depth = 0;
};

}  // namespace girih::compiler::c99
