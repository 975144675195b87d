/* SPDX-License-Identifier: Apache-2.0 */
/* The C interface of the static library over the Rust crates `tokenizers`, `minijinja` and `llguidance`.
 * 1. Functions that can fail return 0 for success; else 1 and a UTF-8 message in *error, to be freed like any result.
 * 2. A GirihTextBuffer filled by a call is freed with girih_text_free; out-parameters are untouched on failure.
 * 3. Texts are pointer and length, UTF-8, not ended by zero. A panic inside becomes failure: nothing unwinds out.
 * 4. Handles may be used by several threads at once, except a grammar's, which belongs to one thread at a time.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

typedef struct GirihTextBuffer {
  void *data;
  size_t size; /* in bytes */
  size_t capacity;
} GirihTextBuffer;
typedef struct GirihTextSlice {
  const char *data;
  size_t size;
} GirihTextSlice;
typedef struct GirihCrateTokenizer GirihCrateTokenizer;
typedef struct GirihTemplate GirihTemplate;
typedef struct GirihGrammarVocabulary GirihGrammarVocabulary;
typedef struct GirihGrammar GirihGrammar;

void girih_text_free(GirihTextBuffer buffer);

/* tokenizer.json through the `tokenizers` crate. */
int32_t girih_crate_tokenizer_create(GirihTextSlice json, GirihCrateTokenizer **out, GirihTextBuffer *error);
void girih_crate_tokenizer_destroy(GirihCrateTokenizer *tokenizer);
/* ids: int32_t. */
int32_t girih_crate_tokenizer_encode(const GirihCrateTokenizer *tokenizer, GirihTextSlice text, int32_t add_special,
                                     int32_t parse_special, GirihTextBuffer *ids, GirihTextBuffer *error);
int32_t girih_crate_tokenizer_decode(const GirihCrateTokenizer *tokenizer, const int32_t *ids, size_t count,
                                     int32_t skip_special, GirihTextBuffer *text, GirihTextBuffer *error);
/* One more than the largest id. */
int32_t girih_crate_tokenizer_size(const GirihCrateTokenizer *tokenizer);
/* -1: none. */
int32_t girih_crate_tokenizer_find(const GirihCrateTokenizer *tokenizer, GirihTextSlice token);
/* int32_t ids of the special tokens. */
int32_t girih_crate_tokenizer_specials(const GirihCrateTokenizer *tokenizer, GirihTextBuffer *ids,
                                       GirihTextBuffer *error);
/* As the vocabulary writes it; empty for an id that does not exist. */
int32_t girih_crate_tokenizer_token(const GirihCrateTokenizer *tokenizer, int32_t id, GirihTextBuffer *text,
                                    GirihTextBuffer *error);

/* A chat template, rendered with Hugging Face's functions and filters. `specials`: texts messages may not turn into
 * tokens. */
int32_t girih_template_create(GirihTextSlice source, GirihTextSlice bos, GirihTextSlice eos,
                              const GirihTextSlice *specials, size_t special_count, GirihTemplate **out,
                              GirihTextBuffer *error);
void girih_template_destroy(GirihTemplate *chat_template);
/* `tools` and `extra` may be empty. barriers: uint64_t byte positions in the text, ascending. */
int32_t girih_template_render(const GirihTemplate *chat_template, GirihTextSlice messages, GirihTextSlice tools,
                              GirihTextSlice extra, int32_t add_generation_prompt, GirihTextBuffer *text,
                              GirihTextBuffer *barriers, GirihTextBuffer *error);

/* The vocabulary that grammars mask: the bytes of each token, empty ones being never allowed. */
int32_t girih_grammar_vocabulary_create(const GirihTextSlice *tokens, size_t count, int32_t eos,
                                        GirihGrammarVocabulary **out, GirihTextBuffer *error);
void girih_grammar_vocabulary_destroy(GirihGrammarVocabulary *vocabulary);
/* kind: 0 JSON schema, 1 Lark, 2 regular expression, 3 tool calls. Bounded in time and memory, whatever the source. */
int32_t girih_grammar_create(const GirihGrammarVocabulary *vocabulary, int32_t kind, GirihTextSlice source,
                             GirihGrammar **out, GirihTextBuffer *error);
void girih_grammar_destroy(GirihGrammar *grammar);
/* Another state of the same grammar, where this one is. */
int32_t girih_grammar_copy(const GirihGrammar *grammar, GirihGrammar **out, GirihTextBuffer *error);
/* Sets bit i of `mask` (uint32_t words, `words` of them) where token i may follow. */
int32_t girih_grammar_mask(GirihGrammar *grammar, uint32_t *mask, size_t words, GirihTextBuffer *error);
int32_t girih_grammar_accept(GirihGrammar *grammar, int32_t token, GirihTextBuffer *error);
/* 1 where the text so far may end. */
int32_t girih_grammar_may_end(GirihGrammar *grammar);

#ifdef __cplusplus
}
#endif
