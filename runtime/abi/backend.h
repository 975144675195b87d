/* SPDX-License-Identifier: Apache-2.0 */
/* The backend ABI: how a machine kind is given to Girih. C99; needs message.h beside it and nothing else.
 *
 * A backend is a library with one exported function, GIRIH_BACKEND_QUERY_SYMBOL. It answers with two tables, each
 * of which may be null: a cross compiler has no run table, prebuilt kernels need no compile table.
 *
 * SIZES AND VERSIONS. Every struct starts with struct_size = sizeof of the side that filled it, and only grows at its
 * end. A field beyond the other side's size counts as zero, a function beyond it as null: the host copies what it is
 * given into structs of its own size, a backend reads and writes no more than the struct_size it is handed. A size is
 * believed when it is no more than the host's for a backend of the same or an older minor version.
 *   - Another minor version never refuses to load, in either direction.
 *   - Another major version answers null. The first four fields of girih_host and girih_backend are the same in every
 *     major version, so that a host can ask for the version that a library does speak, and name both.
 *   - Null optional entries have a fallback in the host, stated beside each. Required entries are marked so.
 *
 * ERRORS. Functions return a girih_code; 0 is success, the others are those of message.h. When they fail and `message`
 * is not null, they write a zero-terminated text there, no longer than its capacity: observed; rule; hint. Out-
 * parameters stay untouched, and what was there before is still usable. GIRIH_UNIMPLEMENTED is for what the backend
 * declares as not supported; GIRIH_UNAVAILABLE for a device that is lost: then every call but `close`, `free` and
 * `unload` may answer it, for good. Arguments that break a rule below are answered with
 * GIRIH_INVALID_ARGUMENT or GIRIH_OUT_OF_RANGE where the rule can be checked; the host checks first.
 *
 * LIFETIMES. Handles are opaque. Who creates destroys: the host closes, frees, unloads and releases everything once.
 * A device is closed after everything made from it is gone and every submission was waited for. `close`, `free`,
 * `unload` and `release` take no null. Strings that a backend hands out live as long as it is loaded, except where
 * stated; strings and arrays that the host hands in live until the call returns, except where stated. The tables live as
 * long as the library, which the host never unloads.
 *
 * THREADS. A device, and all that was made from it, is used by one thread at a time, and not always the same one.
 * Distinct devices are independent. The query, device_count, device_info and the whole compile table may be called by
 * several threads at once. A backend calls the host back only through the functions it is handed, during the call.
 *
 * WHAT A BACKEND MUST NOT DO, beside what is declared here, because products are built around this library:
 *   - end or fork the process, install or mask signals, or throw or jump across this line;
 *   - read or write environment variables, standard streams or the current folder;
 *   - start threads before `open`, or more than girih_device_options states, or leave any after `close`;
 *     a driver's own threads count as the driver's;
 *   - change the floating point mode, locale or affinity of the thread that calls it, once it has returned;
 *   - touch the host's memory outside of what it is handed, or keep such a pointer longer than stated;
 *   - export other symbols than the query, or depend on those of the host: it is loaded with local visibility;
 *   - hang: every call but `submit` and `wait` returns within seconds, and those when the work is done. The host's
 *     watchdog names the entry of a submission that does not.
 * girih-conformance sees a process that ends, signal handlers, threads too many or left over, bytes written beside a
 * range, and hangs; the other rules have no case yet.
 *
 * Not frozen: major 0. Each minor version's header is kept, and backends built against it still run. */
#ifndef GIRIH_RUNTIME_ABI_BACKEND_H
#define GIRIH_RUNTIME_ABI_BACKEND_H

#include "message.h"

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define GIRIH_BACKEND_ABI_MAJOR 0
#define GIRIH_BACKEND_ABI_MINOR 6
#define GIRIH_BACKEND_QUERY_SYMBOL "girih_backend_query"

/* ---- the run table ---------------------------------------------------------------------------------------- */

typedef struct girih_device girih_device;
typedef struct girih_buffer girih_buffer;
typedef struct girih_executable girih_executable;

/* Buffers lie in the host's memory: `map` and `import_host` are there and cost nothing. */
#define GIRIH_DEVICE_HOST_MEMORY (UINT64_C(1) << 0)
/* The same submission over the same bytes gives the same bytes, whatever the number of threads. */
#define GIRIH_DEVICE_DETERMINISTIC (UINT64_C(1) << 1)
/* A driver outside of this library runs the device, and may have threads of its own while the device is open. */
#define GIRIH_DEVICE_DRIVER_THREADS (UINT64_C(1) << 2)
/* Since 0.5. The host's own processors compute, whatever is between: of several devices, one without this goes first. */
#define GIRIH_DEVICE_HOST_PROCESSORS (UINT64_C(1) << 3)

typedef struct girih_device_info {
  uint64_t struct_size;      /* in: of the host; the backend fills no more than that */
  const char *name;          /* "Intel(R) Xeon(R)": lives as long as the backend */
  const char *features;      /* what executables may require, separated by commas: "avx2,fma,f16c" */
  uint64_t flags;            /* GIRIH_DEVICE_... */
  uint64_t memory_bytes;     /* 0: unknown */
  uint64_t alignment_bytes;  /* of buffers; at least 64 */
  int64_t default_threads;   /* host threads that the device would use by itself; 0: none */
  /* Since 0.3. */
  uint64_t max_buffer_bytes; /* of one `alloc`; 0: memory_bytes */
  const char *formats;       /* of images that `load` takes, separated by commas: "elf-x86-64"; null: unstated */
  /* Since 0.4. */
  const char *notes;         /* a sentence that a user of the device should read: what is missing; null or "": none */
} girih_device_info;

typedef struct girih_device_options {
  uint64_t struct_size;
  int64_t num_threads; /* 0: default_threads. A host-thread device counts the thread that calls submit as one. */
} girih_device_options;

typedef struct girih_buffer_view {
  girih_buffer *buffer; /* null: absent */
  uint64_t offset_bytes;
  uint64_t size_bytes;
} girih_buffer_view;

typedef struct girih_image {
  uint64_t struct_size;
  const char *format; /* "elf-x86-64" */
  const uint8_t *bytes; /* need not outlive the call */
  uint64_t size_bytes;
  const char *const *entry_symbols;
  uint64_t num_entries;
} girih_image;

/* The one kind of work that is submitted is a step (step.h): whole models, and in girih-conformance single operations.
 * The bindings of a step, in this order; its `arguments` are a girih_step_args (step.h) of which the device fills
 * the fields `weights`, `kv_pool`, `arena`, `logits`, `barrier` and `team` itself. The small arrays that it points
 * to lie in host memory until the wait for this submission returned. */
#define GIRIH_STEP_BINDING_WEIGHTS 0
#define GIRIH_STEP_BINDING_KV_POOL 1
#define GIRIH_STEP_BINDING_ARENA 2
#define GIRIH_STEP_BINDING_LOGITS 3
#define GIRIH_STEP_NUM_BINDINGS 4

/* When a step's threads met, for whoever measures its dispatches: each ends with one meeting. The device writes the
 * first `capacity` times and counts all meetings, so that `num_meetings` > `capacity` means that some are missing. */
typedef struct girih_step_times {
  uint64_t struct_size;
  int64_t *nanoseconds; /* out: since the step began, on the thread that submitted it */
  uint64_t capacity;
  uint64_t num_meetings; /* out */
} girih_step_times;

typedef struct girih_submission {
  uint64_t struct_size;
  girih_executable *executable;
  uint64_t entry_index; /* in girih_image.entry_symbols */
  const void *arguments;
  uint64_t arguments_bytes;
  const girih_buffer_view *bindings;
  uint64_t num_bindings;
  /* Optional; null: nothing is timed. A device that cannot tell leaves it untouched. */
  girih_step_times *times;
} girih_submission;

typedef struct girih_run_table {
  uint64_t struct_size;
  /* 13 required functions. */
  girih_code (*device_count)(uint64_t *count, girih_message *message);
  /* Where device_count is 0 the host asks for number 0 to learn from the message why. */
  girih_code (*device_info)(uint64_t index, girih_device_info *info, girih_message *message);
  girih_code (*open)(uint64_t index, const girih_device_options *options, girih_device **device,
                     girih_message *message);
  void (*close)(girih_device *device);
  /* Memory, zeroed, aligned to the device's alignment_bytes. 0 bytes are a buffer too. Fails with
   * GIRIH_RESOURCE_EXHAUSTED when there is no room; the host adds what was asked for and what is in use. */
  girih_code (*alloc)(girih_device *device, uint64_t size_bytes, girih_buffer **buffer, girih_message *message);
  void (*free)(girih_device *device, girih_buffer *buffer);
  /* `write` and `read` are done when they return, after all that was submitted before. 0 bytes are nothing to do. */
  girih_code (*write)(girih_device *device, const girih_buffer_view *to, const void *from, girih_message *message);
  girih_code (*read)(girih_device *device, const girih_buffer_view *from, void *to, girih_message *message);
  /* Of equal size; may overlap only when they are the same. */
  girih_code (*copy)(girih_device *device, const girih_buffer_view *to, const girih_buffer_view *from,
                     girih_message *message);
  /* Checks the whole image before any of it could run. entry_index counts in the order of image->entry_symbols. */
  girih_code (*load)(girih_device *device, const girih_image *image, girih_executable **executable,
                     girih_message *message);
  void (*unload)(girih_device *device, girih_executable *executable);
  /* In order of submission. May run to the end before it returns. *ticket is what `wait` takes: greater than every
   * ticket before. What the submission points to may be reused when submit returns, but for `arguments` (above). */
  girih_code (*submit)(girih_device *device, const girih_submission *submission, uint64_t *ticket,
                       girih_message *message);
  /* Returns when that submission and all before it are done; fails as they failed. Any earlier ticket may be waited for
   * again. */
  girih_code (*wait)(girih_device *device, uint64_t ticket, girih_message *message);

  /* Optional. */
  /* A buffer over memory of the host, read only for the device, that outlives it; fallback: alloc and write. */
  girih_code (*import_host)(girih_device *device, const void *address, uint64_t size_bytes, girih_buffer **buffer,
                            girih_message *message);
  /* The buffer's bytes in the host's address space, until it is freed; fallback: read. */
  girih_code (*map)(girih_device *device, girih_buffer *buffer, void **address, girih_message *message);
  /* Host threads that a device was opened with; fallback: device_info's default_threads. */
  int64_t (*num_threads)(const girih_device *device);
  /* The host will read these parts of buffers in every step, each split evenly among the device's threads in their order:
   * a device whose threads are nearer to some memory than to other may move the bytes. Fallback: nothing. */
  girih_code (*place)(girih_device *device, const girih_buffer_view *parts, uint64_t num_parts, girih_message *message);
} girih_run_table;

/* ---- the compile table ------------------------------------------------------------------------------------ */

typedef struct girih_artifact girih_artifact;

/* The levels at which a backend may take kernels; compile says which it was given. */
#define GIRIH_LEVEL_GRAPH 1   /* whole ops over the step's buffers, as text: graph.h */
#define GIRIH_LEVEL_C99 2     /* source of tiled kernels that calls the machine's declared units as builtins: kernel.h */
#define GIRIH_LEVEL_BITCODE 3 /* LLVM bitcode of tiled kernels */
#define GIRIH_LEVEL_MLIR 4    /* upstream dialects as bytecode; unstable, bound to one LLVM version */
#define GIRIH_LEVEL_BIT(level) (UINT64_C(1) << (level))

typedef struct girih_op {
  uint64_t struct_size;
  const char *name;      /* "matmul": of graph.h */
  const char *signature; /* its statement in graph.h's text, values replaced by their types: "f32[T,64] q8_0[32,64]" */
} girih_op;

typedef struct girih_verdict {
  uint64_t struct_size;
  girih_code code;     /* 0: supported; Unimplemented: not, because of `reason` */
  int32_t reserved;
  const char *reason;  /* lives until the next call on this thread */
} girih_verdict;

typedef struct girih_compilation {
  uint64_t struct_size;
  const char *target; /* "cpu:avx2" */
  uint64_t level;     /* GIRIH_LEVEL_... */
  const uint8_t *bytes;
  uint64_t size_bytes;
  const char *options_json; /* null: none */
  /* Called for every diagnostic during the call; null: dropped. severity: 0 note, 1 warning, 2 error. */
  void (*diagnose)(void *context, int32_t severity, const char *text);
  void *diagnose_context;
} girih_compilation;

/* What the code made for one dispatch runs in a step of the entry's most tokens, over all of its units: for predictions. */
typedef struct girih_dispatch_work {
  const char *entry;
  const char *dispatch;
  uint64_t context_tokens; /* positions that each sequence has in the cache */
  double units;            /* that threads share */
  double vector_bytes;     /* the width of each vector instruction's registers; more for one that takes longer */
  double tile_products;    /* instructions of a matrix unit */
  double load_bytes;
  double store_bytes;
} girih_dispatch_work;

typedef struct girih_artifact_info {
  uint64_t struct_size;
  const uint8_t *bytes; /* lives until release, as all that follows */
  uint64_t size_bytes;
  const char *format;
  const char *const *entry_symbols;
  uint64_t num_entries;
  uint64_t arena_bytes;
  uint64_t scratch_bytes_per_thread;
  const char *required_features; /* separated by commas */
  /* Optional; fallback: the shared cost model. Two rows a dispatch, in the module's order: without context and with some. */
  const girih_dispatch_work *work;
  uint64_t num_work;
  /* Since 0.3: what the sums of products are kept in ("f32", "f16", "bf16", "i32") and what activations are rounded to
   * before they are multiplied ("f32", "f16", "bf16", "i8"). girih-conformance holds results to the error bound of these
   * types. Null: f32. */
  const char *accumulate_type;
  const char *activation_type;
} girih_artifact_info;

typedef struct girih_compile_table {
  uint64_t struct_size;
  /* 4 required functions. All may be called from any thread. */
  /* The machine's facts as JSON (dialects/machine), living until the next call on this thread. */
  girih_code (*describe)(const char *target, const char **machine_json, girih_message *message);
  /* One verdict an operation. Since 0.6 a model is asked about too (graph.h says of what): its operations that are declined are
   * compiled for another backend, and both run a step's parts by turns. A backend of an older minor is given all. */
  girih_code (*supports)(const char *target, const girih_op *ops, uint64_t num_ops, girih_verdict *verdicts,
                         girih_message *message);
  girih_code (*compile)(const girih_compilation *compilation, girih_artifact **artifact, girih_artifact_info *info,
                        girih_message *message);
  void (*release)(girih_artifact *artifact);

  /* Optional. The hosts up to 0.4 call `variants` alone: in place of the four before it they take the fallback, always. */
  /* Predicted seconds and bytes moved of an op; fallback: the shared cost model over describe's facts. */
  girih_code (*estimate)(const char *target, const girih_op *op, double *seconds, double *bytes,
                         girih_message *message);
  /* The layout descriptor that the op wants its weight in; fallback: the shared planner's choice. */
  girih_code (*preferred_layout)(const char *target, const girih_op *op, const char **layout,
                                 girih_message *message);
  /* Packs a row-major tensor into a layout of the backend's own; fallback: the shared packer. */
  girih_code (*pack_constant)(const char *target, const char *layout, const char *storage, const int64_t *shape,
                              uint64_t rank, const uint8_t *bytes, uint64_t size_bytes, uint8_t *packed,
                              uint64_t packed_bytes, girih_message *message);
  /* Whether an older artifact still fits; fallback: it does when its required features are granted. */
  girih_code (*validate)(const char *target, const uint8_t *bytes, uint64_t size_bytes, girih_message *message);
  /* Since 0.3. The variants that a target stands for, best last, separated by commas, living until the next call on this
   * thread: "cpu" under numerics "fast" may be "avx2,avx512,amx". Fallback: what follows the target's colon. */
  girih_code (*variants)(const char *target, const char *numerics, const char **names, girih_message *message);
} girih_compile_table;

/* ---- the query -------------------------------------------------------------------------------------------- */

typedef struct girih_host {
  uint64_t struct_size;
  uint32_t abi_major;
  uint32_t abi_minor;
} girih_host;

typedef struct girih_backend {
  uint64_t struct_size;
  uint32_t abi_major;
  uint32_t abi_minor;
  const char *name;      /* "cpu": what --target names and program files record */
  const char *sanitizer; /* the sanitizers it was built with, "" for none: mixing kinds crashes in odd ways */
  const girih_run_table *run;
  const girih_compile_table *compile;
  /* Since 0.3: GIRIH_LEVEL_BIT of each level that `compile` takes; 0: unstated, compile refuses what it does not take. */
  uint64_t levels;
} girih_backend;

/* In front of a backend's definition of the query; everything else of it is best built with hidden visibility. */
#ifdef __cplusplus
#define GIRIH_BACKEND_EXPORT extern "C" __attribute__((visibility("default")))
#else
#define GIRIH_BACKEND_EXPORT __attribute__((visibility("default")))
#endif

/* Answers null when the host's major version is another. Any number of calls give the same answer. */
typedef const girih_backend *(*girih_backend_query_fn)(const girih_host *host);

#ifdef __cplusplus
}
#endif

#endif /* GIRIH_RUNTIME_ABI_BACKEND_H */
