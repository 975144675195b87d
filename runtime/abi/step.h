/* SPDX-License-Identifier: Apache-2.0 */
/* The step: the one call between the executor and generated code. Standalone C11; every field is 8 bytes wide.
 *
 * A step feeds T new tokens of R sequences (prefill chunks and single decode tokens in any mix) and returns the
 * logits of Q of them. Each thread of the team calls the entry point once with its own index; generated code
 * splits the work by index and meets at `barrier` between dispatches. It allocates nothing, calls nothing but
 * `barrier`, and never fails: the executor checks every bound beforehand. */
#ifndef GIRIH_RUNTIME_ABI_STEP_H
#define GIRIH_RUNTIME_ABI_STEP_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define GIRIH_STEP_ABI_VERSION 1
/* Tokens in one KV block. A program's KV blocks hold all layers of 16 consecutive positions of one sequence. */
#define GIRIH_KV_BLOCK_TOKENS 16
/* `logits` must have room for Q rounded up to this many rows; generated code may write the padding rows. */
#define GIRIH_ROW_PADDING 16

typedef struct girih_step_args {
  uint64_t struct_size;           /* sizeof(girih_step_args) of the caller */
  int64_t num_tokens;             /* T: 1 .. the entry's max_tokens */
  int64_t num_sequences;          /* R: 1 .. T */
  int64_t num_logit_rows;         /* Q: 0 .. the program's max_logit_rows */
  const int32_t *tokens;          /* [T] ids, each in [0, V) */
  const int32_t *positions;       /* [T] position of each token in its sequence, from 0 */
  const int32_t *token_sequences; /* [T] index in [0, R) of the sequence of each token */
  const int32_t *kv_slots;        /* [T] block id * 16 + offset: where the token's K and V are stored */
  const int32_t *sequence_starts; /* [R+1] first token of each sequence; sequence_starts[R] == T */
  const int32_t *context_lengths; /* [R] positions in the cache once this step's tokens are in it */
  const int32_t *block_tables;    /* [R, block_table_stride] block ids, in order of position */
  int64_t block_table_stride;
  const int32_t *logit_rows;      /* [Q] indices in [0, T), ascending */
  float *logits;                  /* [Q rounded up, V] f32, row-major; of an entry for hidden states [Q rounded up, E] */
  const uint8_t *weights;         /* the program's weight section, 64-byte aligned */
  uint8_t *kv_pool;               /* num_blocks * kv_block_bytes, 64-byte aligned, zeroed when created */
  uint8_t *arena;                 /* arena_bytes + num_threads * scratch_bytes_per_thread, 64-byte aligned */
  void (*barrier)(void *team, int64_t thread_index); /* returns when all num_threads threads arrived */
  void *team;
  int64_t iteration; /* of the loop that this part of a step is in, where two devices run its parts by turns; else 0 */
} girih_step_args;

typedef void (*girih_step_fn)(const girih_step_args *args, int64_t thread_index, int64_t num_threads);

#ifdef __cplusplus
}
static_assert(sizeof(girih_step_args) == 20 * 8, "generated code indexes the fields as 8-byte words");
#endif

#endif /* GIRIH_RUNTIME_ABI_STEP_H */
