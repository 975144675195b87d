// SPDX-License-Identifier: Apache-2.0
// GrammarStore: a short list, the last used first; faults are kept too, so that asking again costs nothing.
#include "runtime/server/grammar_store.h"

#include <algorithm>
#include <ctime>

namespace girih::server {
namespace {

// A compiled grammar has up to a hundred times the bytes of its source.
constexpr size_t kMaxEntries = 32;
constexpr size_t kMaxSourceBytes = 512 * 1024;
// What a mask may take on average; the usual one takes a hundredth of it.
constexpr double kSecondsPerMask = 1e-3;

double threadSeconds() {
  timespec time{};
  clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

} // namespace

Expected<Grammar> GrammarStore::copyOf(const Entry &entry) const {
  if (!entry.grammar)
    return Status(entry.fault.code(), std::string(entry.fault.message()));
  return entry.grammar->copy();
}

std::optional<Expected<Grammar>> GrammarStore::find(const AnswerShape &shape) {
  std::lock_guard lock(mutex);
  auto found = std::find_if(entries.begin(), entries.end(), [&](const Entry &entry) {
    return entry.kind == shape.kind && entry.source == shape.source;
  });
  if (found == entries.end())
    return std::nullopt;
  entries.splice(entries.begin(), entries, found);
  return copyOf(entries.front());
}

Expected<Grammar> GrammarStore::compileNow(const AnswerShape &shape) {
  if (!tokenizer || stopTokens.empty())
    return unimplemented(
        "this model's file has no " + std::string(tokenizer ? "end-of-text token" : "tokenizer") +
        ", so that no answer can be held to a shape; compile from a checkpoint that has one");
  if (!vocabulary) {
    GIRIH_ASSIGN(vocabulary, GrammarVocabulary::create(*tokenizer, stopTokens.front()));
  }
  return Grammar::create(*vocabulary, shape.kind, shape.source);
}

Expected<Grammar> GrammarStore::compile(const AnswerShape &shape) {
  // Another request may have waited for the same.
  if (auto known = find(shape))
    return std::move(*known);
  Expected<Grammar> compiled = compileNow(shape);
  Entry entry{shape.kind, shape.source, std::nullopt, {}};
  if (compiled.isOk())
    entry.grammar = *compiled;
  else
    entry.fault = Status(compiled.status().code(), std::string(compiled.status().message()));
  std::lock_guard lock(mutex);
  numSourceBytes += shape.source.size();
  entries.push_front(std::move(entry));
  Expected<Grammar> copy = copyOf(entries.front());
  while (entries.size() > kMaxEntries || numSourceBytes > kMaxSourceBytes) {
    numSourceBytes -= entries.back().source.size();
    entries.pop_back();
  }
  return copy;
}

Status GrammarMask::spend(double seconds) {
  budgetSeconds -= seconds;
  if (budgetSeconds < 0)
    return failedPrecondition(
        "the shape that was asked for takes too long to keep to: its masks take more than "
        "a millisecond on average; use a simpler one");
  return {};
}

Status GrammarMask::fill(std::span<uint32_t> words) {
  double begun = threadSeconds();
  GIRIH_TRY(grammar.fillMask(words));
  return spend(threadSeconds() - begun - kSecondsPerMask);
}

Status GrammarMask::accept(int32_t token) {
  double begun = threadSeconds();
  GIRIH_TRY(grammar.accept(token));
  return spend(threadSeconds() - begun);
}

} // namespace girih::server
