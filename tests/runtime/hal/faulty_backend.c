/* SPDX-License-Identifier: Apache-2.0 */
/* Deliberately bad libraries: the least backend with one fault each, named by FAULT_... */
#define girih_backend_query sound_query
#include "tests/runtime/abi/small_backend.c"
#undef girih_backend_query

#include <signal.h>
#include <unistd.h>

static girih_run_table run;
static girih_compile_table compile;
static girih_backend backend;

static girih_code refuse(girih_message *message) {
  return fail(message, GIRIH_UNAVAILABLE, "the moon is full; wait a night");
}

#if defined(FAULT_CRASH_INFO)
static girih_code bad_info(uint64_t index, girih_device_info *info, girih_message *message) {
  raise(SIGSEGV);
  return device_info(index, info, message);
}
#elif defined(FAULT_ODD_ALIGNMENT)
static girih_code bad_info(uint64_t index, girih_device_info *info, girih_message *message) {
  girih_code code = device_info(index, info, message);
  info->alignment_bytes = 48;
  return code;
}
#endif
static girih_code exit_in_count(uint64_t *count, girih_message *message) {
  (void)message;
  *count = 1;
  _exit(3);
}
static girih_code error_in_count(uint64_t *count, girih_message *message) {
  (void)count;
  return refuse(message);
}
static girih_code error_in_info(uint64_t index, girih_device_info *info, girih_message *message) {
  (void)index;
  (void)info;
  return refuse(message);
}
static girih_code hang_in_open(uint64_t index, const girih_device_options *options, girih_device **device,
                               girih_message *message) {
  for (;;)
    pause();
  return open_device(index, options, device, message);
}
static girih_code error_in_open(uint64_t index, const girih_device_options *options, girih_device **device,
                                girih_message *message) {
  (void)index;
  (void)options;
  (void)device;
  return refuse(message);
}
static girih_code error_in_alloc(girih_device *device, uint64_t size_bytes, girih_buffer **buffer,
                                 girih_message *message) {
  (void)device;
  (void)size_bytes;
  (void)buffer;
  return refuse(message);
}
static girih_code error_in_write(girih_device *device, const girih_buffer_view *to, const void *from,
                                 girih_message *message) {
  (void)device;
  (void)to;
  (void)from;
  return refuse(message);
}
static girih_code error_in_read(girih_device *device, const girih_buffer_view *from, void *to,
                                girih_message *message) {
  (void)device;
  (void)from;
  (void)to;
  return refuse(message);
}
static girih_code lose_in_write(girih_device *device, const girih_buffer_view *to, const void *from,
                                girih_message *message) {
  (void)device;
  (void)to;
  (void)from;
  (void)message;
  return GIRIH_OK;
}
static girih_code error_in_load(girih_device *device, const girih_image *image, girih_executable **executable,
                                girih_message *message) {
  (void)device;
  (void)image;
  (void)executable;
  return refuse(message);
}
static girih_code hang_in_submit(girih_device *device, const girih_submission *submission, uint64_t *ticket,
                                 girih_message *message) {
  for (;;)
    pause();
  return submit(device, submission, ticket, message);
}
static girih_code error_in_submit(girih_device *device, const girih_submission *submission, uint64_t *ticket,
                                  girih_message *message) {
  (void)device;
  (void)submission;
  (void)ticket;
  return refuse(message);
}
static girih_code error_in_wait(girih_device *device, uint64_t ticket, girih_message *message) {
  (void)device;
  (void)ticket;
  return refuse(message);
}
static girih_code error_without_words(uint64_t *count, girih_message *message) {
  (void)count;
  (void)message;
  return 77;
}

static girih_code describe(const char *target, const char **json, girih_message *message) {
  (void)target;
  *json = "{}";
#if defined(FAULT_CRASH_DESCRIBE)
  raise(SIGSEGV);
#elif defined(FAULT_ERROR_DESCRIBE)
  return refuse(message);
#elif defined(FAULT_NO_JSON)
  *json = "a fine machine";
#endif
  (void)message;
  return GIRIH_OK;
}
static girih_code supports(const char *target, const girih_op *ops, uint64_t num_ops, girih_verdict *verdicts,
                           girih_message *message) {
  (void)target;
  (void)ops;
  (void)num_ops;
  (void)verdicts;
  return fail(message, GIRIH_UNIMPLEMENTED, "nothing is supported");
}
static girih_code compile_nothing(const girih_compilation *compilation, girih_artifact **artifact,
                                  girih_artifact_info *info, girih_message *message) {
  (void)compilation;
  (void)artifact;
  (void)info;
  return fail(message, GIRIH_UNIMPLEMENTED, "nothing is compiled");
}
static void release(girih_artifact *artifact) { (void)artifact; }

/* A table of a later minor version: longer than the host knows. */
static struct {
  girih_run_table known;
  void (*later)(void);
} longer;

static void break_it(void) {
#if defined(FAULT_CRASH_INFO) || defined(FAULT_ODD_ALIGNMENT)
  run.device_info = bad_info;
#elif defined(FAULT_EXIT_IN_COUNT)
  run.device_count = exit_in_count;
#elif defined(FAULT_ERROR_COUNT)
  run.device_count = error_in_count;
#elif defined(FAULT_ERROR_WITHOUT_WORDS)
  run.device_count = error_without_words;
#elif defined(FAULT_ERROR_INFO)
  run.device_info = error_in_info;
#elif defined(FAULT_HANG_OPEN)
  run.open = hang_in_open;
#elif defined(FAULT_ERROR_OPEN)
  run.open = error_in_open;
#elif defined(FAULT_ERROR_ALLOC)
  run.alloc = error_in_alloc;
#elif defined(FAULT_ERROR_WRITE)
  run.write = error_in_write;
#elif defined(FAULT_ERROR_READ)
  run.read = error_in_read;
#elif defined(FAULT_LOSES_BYTES)
  run.write = lose_in_write;
#elif defined(FAULT_ERROR_LOAD)
  run.load = error_in_load;
#elif defined(FAULT_HANG_SUBMIT)
  run.submit = hang_in_submit;
#elif defined(FAULT_ERROR_SUBMIT)
  run.submit = error_in_submit;
#elif defined(FAULT_ERROR_WAIT)
  run.wait = error_in_wait;
#elif defined(FAULT_SHORT_SIZE)
  run.struct_size = 16;
#elif defined(FAULT_LONG_SIZE)
  run.struct_size = sizeof run + 8;
#elif defined(FAULT_HUGE_SIZE)
  backend.abi_minor += 1;
  run.struct_size = UINT64_C(1) << 40;
#elif defined(FAULT_SHORT_BACKEND)
  backend.struct_size = 24;
#elif defined(FAULT_NULL_FUNCTION)
  run.copy = 0;
#elif defined(FAULT_NULL_COMPILE)
  compile.supports = 0;
#elif defined(FAULT_NO_NAME)
  backend.name = 0;
#elif defined(FAULT_NO_TABLES)
  backend.run = 0;
  backend.compile = 0;
#elif defined(LATER_MINOR)
  backend.abi_minor += 5;
  longer.known = run;
  longer.known.struct_size = sizeof longer;
  backend.run = &longer.known;
#elif defined(WITHOUT_COMPILE)
  backend.compile = 0;
#endif
  (void)run, (void)compile, (void)backend, (void)longer;
  (void)exit_in_count, (void)error_in_count, (void)error_in_info, (void)hang_in_open, (void)error_in_open;
  (void)error_in_alloc, (void)error_in_write, (void)error_in_read, (void)lose_in_write, (void)error_in_load;
  (void)hang_in_submit, (void)error_in_submit, (void)error_in_wait, (void)error_without_words;
}

#ifndef FAULT_NO_EXPORT
const girih_backend *girih_backend_query(const girih_host *host);
const girih_backend *girih_backend_query(const girih_host *host) {
#ifdef FAULT_OTHER_MAJOR
  static girih_backend other;
  other = *sound_query(&(girih_host){sizeof(girih_host), GIRIH_BACKEND_ABI_MAJOR, 0});
  other.abi_major = 7;
  other.abi_minor = 3;
  return host->abi_major == 7 ? &other : 0;
#else
  const girih_backend *sound = sound_query(host);
  if (!sound)
    return 0;
#ifdef FAULT_CRASH_QUERY
  raise(SIGSEGV);
#endif
  run = *sound->run;
  backend = *sound;
  compile.struct_size = sizeof compile;
  compile.describe = describe;
  compile.supports = supports;
  compile.compile = compile_nothing;
  compile.release = release;
  backend.run = &run;
  backend.compile = &compile;
  break_it();
  return &backend;
#endif
}
#endif
