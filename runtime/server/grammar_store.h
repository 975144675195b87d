// SPDX-License-Identifier: Apache-2.0
// GrammarStore: compiled grammars of answers' shapes, kept for the next request that asks for the same.
#pragma once

#include "runtime/engine/answer_rules.h"
#include "runtime/server/api_types.h"

#include <list>
#include <mutex>

namespace girih::server {

// Thread-safe; compile() may take half a second and is for one thread of its own.
class GrammarStore {
public:
  // `stopTokens`: the first one ends an answer. Both must outlive the store.
  GrammarStore(const std::optional<Tokenizer> &tokenizer, const std::vector<int32_t> &stopTokens)
      : tokenizer(tokenizer), stopTokens(stopTokens) {}

  // At its beginning, or why it is none; nullopt: not compiled yet.
  std::optional<Expected<Grammar>> find(const AnswerShape &shape);
  Expected<Grammar> compile(const AnswerShape &shape);

private:
  struct Entry {
    GrammarKind kind;
    std::string source;
    std::optional<Grammar> grammar; // never used itself, only copied
    Status fault;
  };
  Expected<Grammar> copyOf(const Entry &entry) const;
  Expected<Grammar> compileNow(const AnswerShape &shape);

  const std::optional<Tokenizer> &tokenizer;
  const std::vector<int32_t> &stopTokens;
  std::optional<GrammarVocabulary> vocabulary; // made for the first grammar; compile()'s own
  std::mutex mutex;                            // guards the rest
  std::list<Entry> entries;                    // the last used first
  size_t numSourceBytes = 0;
};

// A grammar as the engine asks for one. Gives up where masks take long on end: other streams wait for each.
class GrammarMask final : public engine::TokenMask {
public:
  explicit GrammarMask(Grammar grammar) : grammar(std::move(grammar)) {}
  Status fill(std::span<uint32_t> words) override;
  Status accept(int32_t token) override;

private:
  Status spend(double seconds);

  Grammar grammar;
  double budgetSeconds = 0.2;
};

} // namespace girih::server
