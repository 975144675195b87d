// SPDX-License-Identifier: Apache-2.0
// Grammar over the Rust library.
#include "runtime/text/grammar.h"

#include "runtime/text/ffi_call.h"

namespace girih {

struct GrammarVocabulary::Handle {
  explicit Handle(GirihGrammarVocabulary *raw) : raw(raw) {}
  Handle(const Handle &) = delete;
  ~Handle() { girih_grammar_vocabulary_destroy(raw); }
  GirihGrammarVocabulary *raw;
};

// Keeps the vocabulary: the grammar walks its tokens.
struct Grammar::Handle {
  Handle(GirihGrammar *raw, GrammarVocabulary vocabulary) : raw(raw), vocabulary(std::move(vocabulary)) {}
  Handle(const Handle &) = delete;
  ~Handle() { girih_grammar_destroy(raw); }
  GirihGrammar *raw;
  GrammarVocabulary vocabulary;
};

Expected<GrammarVocabulary> GrammarVocabulary::create(const Tokenizer &tokenizer, int32_t eosToken) {
  std::vector<std::string> tokens;
  std::vector<GirihTextSlice> slices;
  tokens.reserve(static_cast<size_t>(tokenizer.vocabSize()));
  for (int32_t id = 0; id < tokenizer.vocabSize(); ++id) {
    // A control token is no text: the library marks such by a leading byte that UTF-8 never has.
    tokens.push_back((tokenizer.isSpecial(id) ? "\xFF" : "") + tokenizer.idToToken(id));
    slices.push_back(ffiSlice(tokens.back()));
  }
  GirihGrammarVocabulary *raw = nullptr;
  FfiBuffer error;
  if (girih_grammar_vocabulary_create(slices.data(), slices.size(), eosToken, &raw, error.out()))
    return invalidArgument("preparing the vocabulary for grammars: " + error.text());
  return GrammarVocabulary(std::make_shared<const Handle>(raw));
}

Expected<Grammar> Grammar::create(const GrammarVocabulary &vocabulary, GrammarKind kind,
                                  std::string_view source) {
  if (source.size() > kMaxGrammarBytes)
    return invalidArgument("the grammar has " + std::to_string(source.size()) + " bytes; at most " +
                           std::to_string(kMaxGrammarBytes) + " are read");
  GirihGrammar *raw = nullptr;
  FfiBuffer error;
  if (girih_grammar_create(vocabulary.handle->raw, static_cast<int32_t>(kind), ffiSlice(source), &raw,
                           error.out()))
    return invalidArgument("compiling the grammar: " + error.text());
  return Grammar(std::make_shared<Handle>(raw, vocabulary));
}

Expected<Grammar> Grammar::copy() const {
  GirihGrammar *raw = nullptr;
  FfiBuffer error;
  if (girih_grammar_copy(handle->raw, &raw, error.out()))
    return invalidArgument("copying the grammar: " + error.text());
  return Grammar(std::make_shared<Handle>(raw, handle->vocabulary));
}

Status Grammar::fillMask(std::span<uint32_t> mask) {
  FfiBuffer error;
  if (girih_grammar_mask(handle->raw, mask.data(), mask.size(), error.out()))
    return failedPrecondition("the grammar gives no mask: " + error.text());
  return {};
}

Status Grammar::accept(int32_t token) {
  FfiBuffer error;
  if (girih_grammar_accept(handle->raw, token, error.out()))
    return invalidArgument("the grammar does not allow token " + std::to_string(token) + ": " + error.text());
  return {};
}

bool Grammar::mayEnd() { return girih_grammar_may_end(handle->raw) != 0; }

} // namespace girih
