// SPDX-License-Identifier: Apache-2.0
// Grammar: which tokens may follow, so that the text obeys a JSON schema, a Lark grammar or a regular
// expression.
#pragma once

#include "runtime/text/tokenizer.h"

#include <cstdint>
#include <memory>
#include <span>
#include <string_view>

namespace girih {

enum class GrammarKind : int32_t {
  JsonSchema = 0,
  Lark = 1,
  Regex = 2,
  ToolCalls = 3, // a description of tools in JSON: see tool_calls() of ffi/src/grammar.rs
};

inline constexpr size_t kMaxGrammarBytes = 256 * 1024;

// A vocabulary prepared for masks, once per model. Thread-safe; copies share it.
class GrammarVocabulary {
public:
  static Expected<GrammarVocabulary> create(const Tokenizer &tokenizer, int32_t eosToken);

private:
  friend class Grammar;
  struct Handle;
  explicit GrammarVocabulary(std::shared_ptr<const Handle> handle) : handle(std::move(handle)) {}
  std::shared_ptr<const Handle> handle;
};

// The state of one sequence. One thread at a time. C++ copies share the state; copy() does not.
class Grammar {
public:
  // Sources may come from strangers: compiling takes well below a second and tens of megabytes, or fails.
  // InvalidArgument: the source does not parse, asks for what is not supported, or for too much; the message
  // says which part.
  static Expected<Grammar> create(const GrammarVocabulary &vocabulary, GrammarKind kind,
                                  std::string_view source);
  // Another state, where this one is: for the next sequence of the same grammar.
  Expected<Grammar> copy() const;
  // Bit i of the words: token i may follow. Only the end-of-text token may, where the text is complete.
  Status fillMask(std::span<uint32_t> mask);
  // InvalidArgument: the token was not allowed.
  Status accept(int32_t token);
  bool mayEnd();

private:
  struct Handle;
  explicit Grammar(std::shared_ptr<Handle> handle) : handle(std::move(handle)) {}
  std::shared_ptr<Handle> handle;
};

} // namespace girih
