/* SPDX-License-Identifier: Apache-2.0 */
/* The C client: plain C11, no header of the runtime but girih.h. */
#include "tests/runtime/abi/c_client.h"

#include <pthread.h>
#include <string.h>

int32_t c_client_converse(const char *path, const int32_t *prompt, uint64_t num_prompt, int32_t *answer,
                          uint32_t capacity, girih_message *message) {
  girih_program *program = 0;
  girih_engine *engine = 0;
  girih_session *session = 0;
  uint32_t count = 0;
  int32_t token = -1;
  girih_code code = girih_program_open(path, &program, message);
  if (!code)
    code = girih_engine_create(program, 0, &engine, message);
  girih_program_close(program); /* the engine keeps what it needs */
  if (!code)
    code = girih_session_create(engine, 0, &session, message);
  if (!code)
    code = girih_session_feed(session, prompt, num_prompt, message);
  if (!code)
    code = girih_session_generate(session, capacity, 0, 0, message);
  while (!code && !(code = girih_session_next(session, &token, message)) && token >= 0)
    answer[count++] = token;
  girih_session_destroy(session);
  girih_engine_destroy(engine);
  return code ? -code : (int32_t)count;
}

typedef struct tally {
  pthread_mutex_t mutex;
  pthread_cond_t changed;
  const int32_t *expected;
  uint32_t num_expected;
  uint32_t num_received[64]; /* by request */
  int32_t num_wrong;
  int32_t num_finished;
} tally;

static void on_tokens(void *context, uint64_t request_id, const int32_t *tokens, uint64_t num_tokens) {
  tally *counts = context;
  for (uint64_t i = 0; i < num_tokens; ++i) {
    uint32_t place = counts->num_received[request_id % 64]++;
    if (place >= counts->num_expected || counts->expected[place] != tokens[i])
      ++counts->num_wrong;
  }
}

static void on_finish(void *context, uint64_t request_id, const girih_finish *finish) {
  tally *counts = context;
  pthread_mutex_lock(&counts->mutex);
  if (finish->reason != GIRIH_FINISH_LENGTH || counts->num_received[request_id % 64] != counts->num_expected)
    ++counts->num_wrong;
  ++counts->num_finished;
  pthread_cond_signal(&counts->changed);
  pthread_mutex_unlock(&counts->mutex);
}

int32_t c_client_serve(const char *path, const int32_t *prompt, uint64_t num_prompt, const int32_t *expected,
                       uint32_t num_expected, int32_t num_requests, girih_engine_stats *stats) {
  girih_program *program = 0;
  girih_engine *engine = 0;
  tally counts;
  memset(&counts, 0, sizeof counts);
  pthread_mutex_init(&counts.mutex, 0);
  pthread_cond_init(&counts.changed, 0);
  counts.expected = expected;
  counts.num_expected = num_expected;
  girih_engine_options options;
  memset(&options, 0, sizeof options);
  options.struct_size = sizeof options;
  options.num_threads = 2;
  if (girih_program_open(path, &program, 0) || girih_engine_create(program, &options, &engine, 0))
    return -1;
  for (int32_t i = 0; i < num_requests; ++i) {
    girih_request request;
    memset(&request, 0, sizeof request);
    request.struct_size = sizeof request;
    request.prompt_tokens = prompt;
    request.num_prompt_tokens = num_prompt;
    request.max_tokens = num_expected;
    request.on_tokens = on_tokens;
    request.on_finish = on_finish;
    request.context = &counts;
    if (girih_engine_submit(engine, &request, 0, 0))
      return -1;
  }
  pthread_mutex_lock(&counts.mutex);
  while (counts.num_finished < num_requests)
    pthread_cond_wait(&counts.changed, &counts.mutex);
  pthread_mutex_unlock(&counts.mutex);
  girih_engine_query(engine, stats, 0);
  girih_engine_destroy(engine);
  girih_program_close(program);
  return counts.num_wrong ? -counts.num_wrong : counts.num_finished;
}
