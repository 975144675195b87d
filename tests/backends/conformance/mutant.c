/* SPDX-License-Identifier: Apache-2.0 */
/* Deliberately wrong backends: the null backend behind wrappers with one fault each, named by MUTANT_... */
#define _POSIX_C_SOURCE 200809L
#define girih_backend_query right_query
#if defined(MUTANT_SKIPPED_BARRIER) || defined(MUTANT_IGNORED_STRIDE)
/* Every copy of a submission goes through here. */
#include <string.h>
static void *wrong_memcpy(void *to, const void *from, size_t size_bytes);
#define memcpy wrong_memcpy
#endif
#include "backends/null/backend.c"
#undef girih_backend_query
#undef memcpy

#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#if defined(MUTANT_SKIPPED_BARRIER)
/* Two members share each statement, and take turns with its halves. One is through the entry before the other begins. */
static int member = -1, statement;
static void *wrong_memcpy(void *to, const void *from, size_t size_bytes) {
  size_t half = size_bytes / 2, begin = 0, end = size_bytes;
  if (member >= 0) {
    int is_first = (member + statement++) % 2 == 0;
    begin = is_first ? 0 : half;
    end = is_first ? half : size_bytes;
  }
  return memcpy((uint8_t *)to + begin, (const uint8_t *)from + begin, end - begin);
}
#elif defined(MUTANT_IGNORED_STRIDE)
/* Rows of 16 bytes are looked for as far apart as a vector of 32 is long. */
static int is_submitted;
static void *wrong_memcpy(void *to, const void *from, size_t size_bytes) {
  size_t row;
  if (!is_submitted || size_bytes % 16 != 0 || size_bytes > 1024)
    return memcpy(to, from, size_bytes);
  for (row = 0; row < size_bytes / 16; ++row)
    memcpy((uint8_t *)to + 16 * row, (const uint8_t *)from + 32 * row, 16);
  return to;
}
#endif

static girih_run_table wrong;
static girih_compile_table wrong_compiling;
static girih_backend wrong_backend;

/* The bindings of a submission, changed for the length of one call. */
static girih_code submit_other(girih_device *device, const girih_submission *submission, uint64_t *ticket,
                               girih_message *message, int first, int second, uint64_t entry) {
  girih_submission other = *submission;
  girih_buffer_view views[GIRIH_STEP_NUM_BINDINGS];
  memcpy(views, submission->bindings, sizeof views);
  views[first] = submission->bindings[second];
  views[second] = submission->bindings[first];
  other.bindings = views;
  other.entry_index = entry;
  return submit(device, &other, ticket, message);
}

static girih_code wrong_submit(girih_device *device, const girih_submission *submission, uint64_t *ticket,
                               girih_message *message) {
#if defined(MUTANT_SWAPPED_BINDINGS)
  return submit_other(device, submission, ticket, message, 1, 2, submission->entry_index);
#elif defined(MUTANT_WRONG_ENTRY)
  return submit_other(device, submission, ticket, message, 0, 0,
                      submission->executable->num_entries - 1 - submission->entry_index);
#elif defined(MUTANT_DROPPED_TAIL_ROW)
  girih_step_args fewer = *(const girih_step_args *)submission->arguments;
  girih_submission other = *submission;
  if (fewer.num_tokens > 1)
    --fewer.num_tokens;
  other.arguments = &fewer;
  return submit(device, &other, ticket, message);
#elif defined(MUTANT_IGNORED_STRIDE)
  girih_code code;
  is_submitted = 1;
  code = submit(device, submission, ticket, message);
  is_submitted = 0;
  return code;
#elif defined(MUTANT_OUT_OF_BOUNDS)
  girih_code code = submit(device, submission, ticket, message);
  girih_buffer *arena = submission->bindings[GIRIH_STEP_BINDING_ARENA].buffer;
  uint64_t last; /* the vector behind the last byte that is no guard */
  for (last = arena->size_bytes; last > 0 && arena->bytes[last - 1] == 0xa7; --last) {
  }
  if (last + 16 <= arena->size_bytes)
    memset(arena->bytes + last, 0, 16);
  return code;
#elif defined(MUTANT_SKIPPED_BARRIER)
  girih_code code = GIRIH_OK;
  for (member = 0; member < 2 && code == GIRIH_OK; ++member) {
    statement = 0;
    code = submit(device, submission, ticket, message);
  }
  member = -1;
  return code;
#elif defined(MUTANT_STALE_BUFFER)
  static girih_buffer kept;
  static uint8_t bytes[65536];
  const girih_buffer *weights = submission->bindings[GIRIH_STEP_BINDING_WEIGHTS].buffer;
  girih_submission other = *submission;
  girih_buffer_view views[GIRIH_STEP_NUM_BINDINGS];
  if (weights->size_bytes > sizeof bytes)
    return submit(device, submission, ticket, message);
  if (!kept.bytes) {
    kept.bytes = bytes;
    kept.size_bytes = weights->size_bytes;
    memcpy(bytes, weights->bytes, weights->size_bytes);
  }
  memcpy(views, submission->bindings, sizeof views);
  views[GIRIH_STEP_BINDING_WEIGHTS].buffer = &kept;
  other.bindings = views;
  return submit(device, &other, ticket, message);
#elif defined(MUTANT_REPEATED_TICKET)
  girih_code code = submit(device, submission, ticket, message);
  if (code == GIRIH_OK)
    *ticket = 1;
  return code;
#else
  return submit(device, submission, ticket, message);
#endif
}

static girih_code deadlock(girih_device *device, uint64_t ticket, girih_message *message) {
  for (;;)
    pause();
  return wait_for(device, ticket, message);
}

static void leak(girih_device *device, girih_buffer *buffer) {
  (void)device;
  (void)buffer;
}

static girih_code wrong_alloc(girih_device *device, uint64_t size_bytes, girih_buffer **buffer,
                              girih_message *message) {
#ifdef MUTANT_OVERLAPPING_BUFFERS
  static uint8_t shared[1 << 20];
  girih_code code = alloc_buffer(device, size_bytes, buffer, message);
  if (code == GIRIH_OK && size_bytes < 200)
    (*buffer)->bytes = shared;
  return code;
#elif defined(MUTANT_MORE_MEMORY_THAN_CLAIMED)
  girih_code code = alloc_buffer(device, size_bytes > MAX_BUFFER_BYTES ? 64 : size_bytes, buffer, message);
  if (code == GIRIH_OK)
    (*buffer)->size_bytes = size_bytes;
  return code;
#else
  girih_code code = alloc_buffer(device, size_bytes, buffer, message);
  if (code == GIRIH_OK && size_bytes > 0)
#ifdef MUTANT_MISALIGNED
    (*buffer)->bytes += 8;
#else
    memset((*buffer)->bytes, 0xcd, size_bytes);
#endif
  return code;
#endif
}

static girih_code map_buffer(girih_device *device, girih_buffer *buffer, void **address, girih_message *message) {
  (void)device;
  (void)message;
  *address = buffer->bytes;
  return GIRIH_OK;
}

static girih_code wrong_info(uint64_t index, girih_device_info *info, girih_message *message) {
#ifdef MUTANT_MESSAGE_OVERRUN
  if (index > 0 && message) {
    strcpy(message->text, "there is no such device, and room enough");
    return GIRIH_OUT_OF_RANGE;
  }
#endif
#ifdef MUTANT_INFO_OVERRUN
  info->struct_size = sizeof *info;
#endif
  return device_info(index, info, message);
}

static girih_code truncated_copy(girih_device *device, const girih_buffer_view *to, const girih_buffer_view *from,
                                 girih_message *message) {
  girih_buffer_view shorter_to = *to, shorter_from = *from;
  if (to->size_bytes == from->size_bytes) {
    shorter_to.size_bytes = shorter_from.size_bytes = to->size_bytes / 4 * 4;
  }
  return copy_buffer(device, &shorter_to, &shorter_from, message);
}

static girih_code promise(const char *target, const girih_op *ops, uint64_t num_ops, girih_verdict *verdicts,
                          girih_message *message) {
  uint64_t index;
  girih_code code = supports(target, ops, num_ops, verdicts, message);
  for (index = 0; index < num_ops; ++index)
    verdicts[index].code = GIRIH_OK;
  return code;
}

static void on_signal(int number) { (void)number; }
static void *sleep_for_ever(void *unused) {
  for (;;)
    pause();
  return unused;
}

static girih_code wrong_open(uint64_t index, const girih_device_options *options, girih_device **device,
                             girih_message *message) {
#ifdef MUTANT_SIGNAL_HANDLER
  signal(SIGFPE, on_signal);
#else
  pthread_t thread;
  pthread_create(&thread, 0, sleep_for_ever, 0);
  pthread_detach(thread);
#endif
  return open_device(index, options, device, message);
}

GIRIH_BACKEND_EXPORT const girih_backend *girih_backend_query(const girih_host *host) {
#ifdef MUTANT_REFUSES_MINOR
  if (host->abi_minor > GIRIH_BACKEND_ABI_MINOR)
    return 0;
#endif
  if (!right_query(host))
    return 0;
  wrong = run;
  wrong_backend = backend;
  wrong_backend.run = &wrong;
  wrong.submit = wrong_submit;
  wrong_compiling = compiling;
  wrong_backend.compile = &wrong_compiling;
#if defined(MUTANT_PROMISES_ALL)
  wrong_compiling.supports = promise;
#elif defined(MUTANT_DEADLOCK)
  wrong.wait = deadlock;
#elif defined(MUTANT_LEAK)
  wrong.free = leak;
#elif defined(MUTANT_MORE_MEMORY_THAN_CLAIMED) || defined(MUTANT_DIRTY_MEMORY) || defined(MUTANT_OVERLAPPING_BUFFERS)
  wrong.alloc = wrong_alloc;
#elif defined(MUTANT_MISALIGNED)
  wrong.alloc = wrong_alloc;
  wrong.map = map_buffer;
#elif defined(MUTANT_MESSAGE_OVERRUN) || defined(MUTANT_INFO_OVERRUN)
  wrong.device_info = wrong_info;
#elif defined(MUTANT_TRUNCATED_COPY)
  wrong.copy = truncated_copy;
#elif defined(MUTANT_SIGNAL_HANDLER) || defined(MUTANT_EXTRA_THREAD)
  wrong.open = wrong_open;
#endif
  return &wrong_backend;
}
