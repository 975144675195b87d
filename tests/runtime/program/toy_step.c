/* SPDX-License-Identifier: Apache-2.0 */
/* A model in miniature, compiled like a program's executable: no undefined symbol, no library.
 *
 * A token's "K and V" is a hash of its id and position, stored where kv_slots says. A row of logits is a function
 * of the hashes of all positions so far, read through the block table in order: a wrong slot, a stale block, a
 * missed barrier or a lost token changes every logit. Inconsistent arguments give NaN. */
#include "runtime/abi/step.h"

#define BLOCK GIRIH_KV_BLOCK_TOKENS
#define BLOCK_WORDS 16 /* kv_block_bytes / 4 of the toy program */

#define TOY_HIDDEN_SIZE 24 /* hidden_size of the toy program, where it has one */

#ifndef TOY_BIAS
#define TOY_BIAS 0 /* another "instruction set" answers differently, so that a test sees which one ran */
#endif

typedef struct toy_weights {
  uint32_t vocab_size;
  uint32_t salt;
} toy_weights;

static uint32_t mix(uint32_t value) {
  value ^= value >> 16;
  value *= 0x7feb352du;
  value ^= value >> 15;
  value *= 0x846ca68bu;
  return value ^ (value >> 16);
}

static uint32_t token_hash(const girih_step_args *args, int64_t token) {
  return mix((uint32_t)args->tokens[token] * 2654435761u + (uint32_t)args->positions[token] + 1u);
}

static void store_tokens(const girih_step_args *args, int64_t thread, int64_t num_threads) {
#ifndef TOY_RECOMPUTE /* a program without a cache gets no pool */
  uint32_t *pool = (uint32_t *)args->kv_pool;
  for (int64_t token = thread; token < args->num_tokens; token += num_threads) {
    int32_t slot = args->kv_slots[token];
    pool[(int64_t)(slot / BLOCK) * BLOCK_WORDS + slot % BLOCK] = token_hash(args, token);
  }
#endif
}

/* 0 when the arguments contradict each other. */
static int is_consistent(const girih_step_args *args, int64_t token) {
  int32_t sequence = args->token_sequences[token];
  if (sequence < 0 || sequence >= args->num_sequences)
    return 0;
  int32_t first = args->sequence_starts[sequence], end = args->sequence_starts[sequence + 1];
  int32_t context = args->context_lengths[sequence];
  return token >= first && token < end && args->positions[token] == context - (end - (int32_t)token);
}

/* The answer of the row is written to the arena first, so that one that is too small or shared shows. */
static uint32_t fold_context(const girih_step_args *args, int64_t token, uint32_t salt) {
  uint32_t hash = salt + TOY_BIAS;
#ifdef TOY_RECOMPUTE
  for (int64_t position = 0; position <= args->positions[token]; ++position)
    hash = mix(hash * 31u + token_hash(args, position));
#else
  const uint32_t *pool = (const uint32_t *)args->kv_pool;
  const int32_t *table = args->block_tables + args->token_sequences[token] * args->block_table_stride;
  for (int32_t position = 0; position <= args->positions[token]; ++position)
    hash = mix(hash * 31u + pool[(int64_t)table[position / BLOCK] * BLOCK_WORDS + position % BLOCK]);
#endif
  return hash;
}

__attribute__((visibility("default"))) void girih_step_toy(const girih_step_args *args, int64_t thread,
                                                           int64_t num_threads) {
  const toy_weights *weights = (const toy_weights *)args->weights;
  uint32_t *row_hashes = (uint32_t *)args->arena;
  store_tokens(args, thread, num_threads);
  args->barrier(args->team, thread);
  for (int64_t row = thread; row < args->num_logit_rows; row += num_threads)
    row_hashes[row] = fold_context(args, args->logit_rows[row], weights->salt);
  args->barrier(args->team, thread);
  /* Every thread writes a part of every row: each depends on what others put into the arena. */
  for (int64_t row = 0; row < args->num_logit_rows; ++row) {
    float *logits = args->logits + row * weights->vocab_size;
    int consistent = is_consistent(args, args->logit_rows[row]);
    for (uint32_t id = (uint32_t)thread; id < weights->vocab_size; id += (uint32_t)num_threads)
      logits[id] = consistent ? (float)(mix(row_hashes[row] + id) >> 8) * (16.0f / 16777216.0f) - 8.0f
                              : __builtin_nanf("");
  }
}

/* Hidden states: as many numbers a row as the program says of itself, by another function of the same past. */
__attribute__((visibility("default"))) void girih_step_toy_hidden(const girih_step_args *args, int64_t thread,
                                                                  int64_t num_threads) {
  const toy_weights *weights = (const toy_weights *)args->weights;
  store_tokens(args, thread, num_threads);
  args->barrier(args->team, thread);
  for (int64_t row = thread; row < args->num_logit_rows; row += num_threads) {
    uint32_t hash = mix(fold_context(args, args->logit_rows[row], weights->salt));
    for (int64_t index = 0; index < TOY_HIDDEN_SIZE; ++index)
      args->logits[row * TOY_HIDDEN_SIZE + index] =
          is_consistent(args, args->logit_rows[row])
              ? (float)(mix(hash + (uint32_t)index) >> 8) * (2.0f / 16777216.0f) - 1.0f
              : __builtin_nanf("");
  }
}

/* The same for few tokens: executors pick the smallest entry that holds a step. */
__attribute__((visibility("default"))) void girih_step_toy_small(const girih_step_args *args, int64_t thread,
                                                                 int64_t num_threads) {
  girih_step_toy(args, thread, num_threads);
}
