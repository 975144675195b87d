/* SPDX-License-Identifier: Apache-2.0 */
/* The C API of the runtime: load a program, run an engine of many sequences, or hold one conversation.
 *
 * Conventions:
 * - Fallible functions return a girih_code (message.h), 0 for success. The last parameter, which may be null, takes
 *   the explanation. Out-parameters stay untouched on failure.
 * - Handles are opaque; what `create` or `open` gave, the matching `destroy` or `close` takes, null included.
 *   There are no reference counts: an engine keeps what it needs of its program by itself, but a session must be
 *   destroyed before its engine.
 * - Structs start with struct_size = sizeof of the caller's, and only grow at their end. Zeroed fields mean the
 *   default that is stated beside them.
 * - Strings are UTF-8, zero-terminated. Nothing that is returned has to be freed by the caller.
 * - An engine starts one thread of its own and a team of num_threads - 1 besides; no other threads, no signal
 *   handlers, no environment variables, no output.
 * - A program's file holds native code: an engine runs it. Run only files that you trust. */
#ifndef GIRIH_RUNTIME_ABI_GIRIH_H
#define GIRIH_RUNTIME_ABI_GIRIH_H

#include "message.h"

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define GIRIH_API_MAJOR 0
#define GIRIH_API_MINOR 1

/* The version of the library that is linked: major << 16 | minor. */
uint32_t girih_api_version(void);

/* ---- programs --------------------------------------------------------------------------------------------- */

/* An open .girih file. Immutable: any thread may use it. Executes nothing. */
typedef struct girih_program girih_program;

typedef struct girih_program_facts {
  uint64_t struct_size;
  const char *name;         /* all strings live as long as the program */
  const char *architecture;
  const char *numerics;     /* "exact", "invariant", "fast" */
  const char *chat_template; /* Jinja; "": none */
  uint32_t vocab_size;
  uint32_t max_positions;
  uint64_t num_parameters;
  uint64_t file_bytes;
  const int32_t *end_tokens; /* ids that end an answer */
  uint64_t num_end_tokens;
  int32_t bos_token; /* -1: none */
  int32_t reserved;
} girih_program_facts;

girih_code girih_program_open(const char *path, girih_program **program, girih_message *message);
void girih_program_close(girih_program *program);
girih_code girih_program_describe(const girih_program *program, girih_program_facts *facts, girih_message *message);
/* Reads the whole file and compares its checksums. */
girih_code girih_program_verify(const girih_program *program, girih_message *message);

/* ---- the engine ------------------------------------------------------------------------------------------- */

/* Runs many requests at once; they share steps, first come first served. Any thread may use it. */
typedef struct girih_engine girih_engine;

typedef struct girih_engine_options {
  uint64_t struct_size;
  int32_t num_threads;         /* 0: what affinity mask and cgroup quota grant */
  uint32_t max_sequences;      /* that share a step; 0: 64 */
  uint32_t max_context_tokens; /* 0: the program's */
  uint32_t max_queued;         /* requests that may wait; 0: 1024 */
  uint64_t kv_bytes;           /* 0: four full contexts, at most 1 GiB */
  const char *isa;             /* null: the best variant of the file that this machine grants */
} girih_engine_options;

typedef struct girih_sampling {
  uint64_t struct_size;
  float temperature;        /* 0: greedy */
  int32_t top_k;            /* 0: off */
  float top_p;              /* 0 or 1: off */
  float min_p;              /* 0: off */
  float repetition_penalty; /* 0 or 1: off */
  int32_t reserved;
  uint64_t seed;
} girih_sampling;

#define GIRIH_FINISH_STOP 0   /* a stop token, which is not handed out */
#define GIRIH_FINISH_LENGTH 1 /* max_tokens, or the context is full */
#define GIRIH_FINISH_CANCELLED 2
#define GIRIH_FINISH_FAILED 3

typedef struct girih_finish {
  uint64_t struct_size;
  int32_t reason; /* GIRIH_FINISH_... */
  girih_code code;
  const char *text; /* why it failed, "" when it did not; valid during the call */
  uint32_t num_prompt_tokens;
  uint32_t num_output_tokens;
  double queue_seconds, prefill_seconds, decode_seconds;
} girih_finish;

typedef struct girih_request {
  uint64_t struct_size;
  const int32_t *prompt_tokens; /* copied, as all that follows */
  uint64_t num_prompt_tokens;
  uint32_t max_tokens; /* 0xffffffff: until the context is full; 0: only evaluates the prompt */
  uint32_t reserved;
  const girih_sampling *sampling; /* null: greedy */
  const int32_t *stop_tokens;
  uint64_t num_stop_tokens;
  /* Called on the engine's thread: must return soon; may submit and cancel, must not destroy the engine.
   * on_finish comes exactly once, last. Either may be null. */
  void (*on_tokens)(void *context, uint64_t request_id, const int32_t *tokens, uint64_t num_tokens);
  void (*on_finish)(void *context, uint64_t request_id, const girih_finish *finish);
  void *context;
} girih_request;

typedef struct girih_engine_stats {
  uint64_t struct_size;
  uint64_t num_steps;
  uint64_t num_shared_steps; /* with more than one sequence in them */
  uint64_t num_tokens_evaluated;
  uint64_t num_output_tokens;
  uint64_t num_preemptions;
  uint64_t num_running;
  uint64_t num_waiting;
  uint64_t num_kv_blocks;
  uint64_t num_kv_blocks_used;
} girih_engine_stats;

/* Loads the program's code. `options` may be null. The program may be closed while the engine lives. */
girih_code girih_engine_create(const girih_program *program, const girih_engine_options *options,
                               girih_engine **engine, girih_message *message);
/* Cancels what runs and waits for the step in flight. Not from a callback. */
void girih_engine_destroy(girih_engine *engine);
/* Fails at once, without a callback, when the request cannot be taken. */
girih_code girih_engine_submit(girih_engine *engine, const girih_request *request, uint64_t *request_id,
                               girih_message *message);
/* on_finish follows within a step; nothing happens when the request has ended. */
void girih_engine_cancel(girih_engine *engine, uint64_t request_id);
girih_code girih_engine_query(const girih_engine *engine, girih_engine_stats *stats, girih_message *message);

/* ---- a session -------------------------------------------------------------------------------------------- */

/* One conversation: feed tokens, take tokens, feed again. One thread at a time; cancel is for any thread. */
typedef struct girih_session girih_session;

/* `sampling` may be null: greedy. */
girih_code girih_session_create(girih_engine *engine, const girih_sampling *sampling, girih_session **session,
                                girih_message *message);
void girih_session_destroy(girih_session *session);
/* Appends to the conversation. Not while it generates. */
girih_code girih_session_feed(girih_session *session, const int32_t *tokens, uint64_t num_tokens,
                              girih_message *message);
/* Begins to generate, up to max_tokens (0xffffffff: until the context is full) or a stop token. */
girih_code girih_session_generate(girih_session *session, uint32_t max_tokens, const int32_t *stop_tokens,
                                  uint64_t num_stop_tokens, girih_message *message);
/* Waits for the next token and appends it to the conversation. *token is -1 at the end of the answer; a failure of
 * the generation is returned instead. */
girih_code girih_session_next(girih_session *session, int32_t *token, girih_message *message);
/* Ends the generation; tokens that were not taken are no part of the conversation. */
void girih_session_cancel(girih_session *session);

#ifdef __cplusplus
}
#endif

#endif /* GIRIH_RUNTIME_ABI_GIRIH_H */
