/* SPDX-License-Identifier: Apache-2.0 */
/* The backend ABI: how a machine kind is given to Girih. C99; needs message.h beside it and nothing else.
 *
 * A backend is a library with one exported function, GIRIH_BACKEND_QUERY_SYMBOL. It answers with two tables, each
 * of which may be null: a cross compiler has no run table, prebuilt kernels need no compile table.
 *
 * Conventions:
 * - Every struct starts with struct_size = sizeof of the side that filled it, and only grows at its end. A field
 *   beyond the other side's size is treated as zero, a function beyond it as null.
 * - A query for another major version answers null. A minor version never refuses to load.
 * - Null optional entries have a fallback in the host. Required entries are marked so.
 * - Functions return a girih_code; 0 is success, the others are StatusCode's numbers. When they fail and `message`
 *   is not null, they write a zero-terminated text there: observed; rule; hint. Out-parameters stay untouched.
 * - Handles are opaque. Who creates destroys; a device is closed after everything made from it is gone.
 * - A device is used by one thread at a time, except where a function says otherwise. Distinct devices are
 *   independent. A backend starts threads only as girih_device_options declare, installs no signal handlers,
 *   throws nothing across this line, never ends the process, and reads no environment variables.
 * - Not frozen: major 0. */
#ifndef GIRIH_RUNTIME_ABI_BACKEND_H
#define GIRIH_RUNTIME_ABI_BACKEND_H

#include "runtime/abi/message.h"

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define GIRIH_BACKEND_ABI_MAJOR 0
#define GIRIH_BACKEND_ABI_MINOR 2
#define GIRIH_BACKEND_QUERY_SYMBOL "girih_backend_query"

/* ---- the run table ---------------------------------------------------------------------------------------- */

typedef struct girih_device girih_device;
typedef struct girih_buffer girih_buffer;
typedef struct girih_executable girih_executable;

/* Buffers lie in the host's memory: `map` and `import_host` are there and cost nothing. */
#define GIRIH_DEVICE_HOST_MEMORY (UINT64_C(1) << 0)

typedef struct girih_device_info {
  uint64_t struct_size;      /* in: of the host; the backend fills no more than that */
  const char *name;          /* "Intel(R) Xeon(R)": lives as long as the backend */
  const char *features;      /* what executables may require, separated by commas: "avx2,fma,f16c" */
  uint64_t flags;            /* GIRIH_DEVICE_... */
  uint64_t memory_bytes;     /* 0: unknown */
  uint64_t alignment_bytes;  /* of buffers; at least 64 */
  int64_t default_threads;   /* host threads that the device would use by itself; 0: none */
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

/* The bindings of a step, in this order; its `arguments` are a girih_step_args (step.h) of which the device fills
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
  girih_code (*device_info)(uint64_t index, girih_device_info *info, girih_message *message);
  girih_code (*open)(uint64_t index, const girih_device_options *options, girih_device **device,
                     girih_message *message);
  void (*close)(girih_device *device);
  /* Memory, zeroed, aligned to the device's alignment_bytes. */
  girih_code (*alloc)(girih_device *device, uint64_t size_bytes, girih_buffer **buffer, girih_message *message);
  void (*free)(girih_device *device, girih_buffer *buffer);
  girih_code (*write)(girih_device *device, const girih_buffer_view *to, const void *from, girih_message *message);
  girih_code (*read)(girih_device *device, const girih_buffer_view *from, void *to, girih_message *message);
  /* Of equal size; may overlap only when they are the same. */
  girih_code (*copy)(girih_device *device, const girih_buffer_view *to, const girih_buffer_view *from,
                     girih_message *message);
  /* Checks the whole image before any of it could run. */
  girih_code (*load)(girih_device *device, const girih_image *image, girih_executable **executable,
                     girih_message *message);
  void (*unload)(girih_device *device, girih_executable *executable);
  /* In order of submission. May run to the end before it returns. *ticket is what `wait` takes. */
  girih_code (*submit)(girih_device *device, const girih_submission *submission, uint64_t *ticket,
                       girih_message *message);
  /* Returns when that submission and all before it are done; fails as they failed. */
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
#define GIRIH_LEVEL_GRAPH 1   /* whole ops, as listed in girih_op */
#define GIRIH_LEVEL_C99 2     /* source of tiled kernels that calls the machine's declared units as builtins */
#define GIRIH_LEVEL_BITCODE 3 /* LLVM bitcode of tiled kernels */
#define GIRIH_LEVEL_MLIR 4    /* upstream dialects as bytecode; unstable, bound to one LLVM version */

typedef struct girih_op {
  uint64_t struct_size;
  const char *name;      /* "girih.qmatmul" */
  const char *signature; /* types and attributes as MLIR prints them */
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
} girih_artifact_info;

typedef struct girih_compile_table {
  uint64_t struct_size;
  /* 4 required functions. All may be called from any thread. */
  /* The machine's facts as JSON (dialects/machine), living until the next call on this thread. */
  girih_code (*describe)(const char *target, const char **machine_json, girih_message *message);
  girih_code (*supports)(const char *target, const girih_op *ops, uint64_t num_ops, girih_verdict *verdicts,
                         girih_message *message);
  girih_code (*compile)(const girih_compilation *compilation, girih_artifact **artifact, girih_artifact_info *info,
                        girih_message *message);
  void (*release)(girih_artifact *artifact);

  /* Optional. */
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
} girih_backend;

/* Answers null when the host's major version is another. The tables live as long as the library. */
typedef const girih_backend *(*girih_backend_query_fn)(const girih_host *host);

#ifdef __cplusplus
}
#endif

#endif /* GIRIH_RUNTIME_ABI_BACKEND_H */
