/* SPDX-License-Identifier: Apache-2.0 */
/* The least backend in C99: memory is the host's, and the one operation that it takes is `copy`.
 *
 * It shows every required function at its shortest. Its compile table takes graphs (girih/graph.h) as they are: the
 * artifact is the text, `load` checks it whole, `submit` walks it. Copy this folder to begin a backend of your own. */
#include <girih/backend.h>
#include <girih/graph.h>
#include <girih/step.h>

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define ALIGNMENT_BYTES 64
#define MAX_BUFFER_BYTES (UINT64_C(1) << 30)
#define MAX_VALUES 16
#define MAX_EXTENTS 4

struct girih_device {
  uint64_t num_submissions;
};
struct girih_buffer {
  void *allocation;
  uint8_t *bytes; /* in it, aligned */
  uint64_t size_bytes;
};
struct girih_executable {
  char *text;
  uint64_t num_entries;
  const char **entries; /* the line after each `entry` */
};
struct girih_artifact {
  char *text;
  const char *symbols[16];
  char names[16][64];
};

static girih_code fail(girih_message *message, girih_code code, const char *format, ...) {
  va_list arguments;
  if (!message || message->capacity_bytes == 0)
    return code;
  va_start(arguments, format);
  vsnprintf(message->text, message->capacity_bytes, format, arguments);
  va_end(arguments);
  return code;
}

/* ---- devices and memory ------------------------------------------------------------------------------------- */

static girih_code device_count(uint64_t *count, girih_message *message) {
  (void)message;
  *count = 1;
  return GIRIH_OK;
}

static girih_code device_info(uint64_t index, girih_device_info *info, girih_message *message) {
  girih_device_info filled = {0};
  if (index > 0)
    return fail(message, GIRIH_OUT_OF_RANGE, "there is one null device, number 0; %llu is asked for",
                (unsigned long long)index);
  filled.struct_size = info->struct_size < sizeof filled ? info->struct_size : sizeof filled;
  filled.name = "null";
  filled.features = "";
  filled.flags = GIRIH_DEVICE_DETERMINISTIC;
  filled.memory_bytes = MAX_BUFFER_BYTES;
  filled.alignment_bytes = ALIGNMENT_BYTES;
  filled.max_buffer_bytes = MAX_BUFFER_BYTES;
  filled.formats = GIRIH_GRAPH_FORMAT;
  memcpy(info, &filled, filled.struct_size); /* no more than the host has room for */
  return GIRIH_OK;
}

static girih_code open_device(uint64_t index, const girih_device_options *options, girih_device **device,
                              girih_message *message) {
  girih_device *made;
  (void)options; /* no threads to start */
  if (index > 0)
    return fail(message, GIRIH_OUT_OF_RANGE, "there is one null device, number 0");
  made = calloc(1, sizeof *made);
  if (!made)
    return fail(message, GIRIH_RESOURCE_EXHAUSTED, "no memory for a device");
  *device = made;
  return GIRIH_OK;
}

static void close_device(girih_device *device) { free(device); }

static girih_code alloc_buffer(girih_device *device, uint64_t size_bytes, girih_buffer **buffer,
                               girih_message *message) {
  girih_buffer *made = size_bytes <= MAX_BUFFER_BYTES ? calloc(1, sizeof *made) : 0;
  (void)device;
  if (made)
    made->allocation = calloc(1, size_bytes + ALIGNMENT_BYTES);
  if (!made || !made->allocation) {
    free(made);
    return fail(message, GIRIH_RESOURCE_EXHAUSTED, "no room for %llu bytes; a buffer has at most %llu",
                (unsigned long long)size_bytes, (unsigned long long)MAX_BUFFER_BYTES);
  }
  made->bytes = (uint8_t *)(((uintptr_t)made->allocation + ALIGNMENT_BYTES - 1) / ALIGNMENT_BYTES * ALIGNMENT_BYTES);
  made->size_bytes = size_bytes;
  *buffer = made;
  return GIRIH_OK;
}

static void free_buffer(girih_device *device, girih_buffer *buffer) {
  (void)device;
  free(buffer->allocation);
  free(buffer);
}

/* Where a view lies, or null with a message. */
static uint8_t *resolve(const girih_buffer_view *view, girih_message *message) {
  if (view->buffer && view->offset_bytes <= view->buffer->size_bytes &&
      view->size_bytes <= view->buffer->size_bytes - view->offset_bytes)
    return view->buffer->bytes + view->offset_bytes;
  fail(message, GIRIH_OUT_OF_RANGE, "a view lies outside of its buffer; check offset and size");
  return 0;
}

static girih_code write_buffer(girih_device *device, const girih_buffer_view *to, const void *from,
                               girih_message *message) {
  uint8_t *bytes = resolve(to, message);
  (void)device;
  if (!bytes)
    return GIRIH_OUT_OF_RANGE;
  memcpy(bytes, from, to->size_bytes);
  return GIRIH_OK;
}

static girih_code read_buffer(girih_device *device, const girih_buffer_view *from, void *to, girih_message *message) {
  const uint8_t *bytes = resolve(from, message);
  (void)device;
  if (!bytes)
    return GIRIH_OUT_OF_RANGE;
  memcpy(to, bytes, from->size_bytes);
  return GIRIH_OK;
}

static girih_code copy_buffer(girih_device *device, const girih_buffer_view *to, const girih_buffer_view *from,
                              girih_message *message) {
  const uint8_t *bytes = resolve(from, message);
  if (!bytes || to->size_bytes != from->size_bytes)
    return fail(message, GIRIH_OUT_OF_RANGE, "views of %llu and %llu bytes are no copy",
                (unsigned long long)from->size_bytes, (unsigned long long)to->size_bytes);
  return write_buffer(device, to, bytes, message);
}

/* ---- graphs ------------------------------------------------------------------------------------------------- */

typedef struct value {
  char id[16], type[32], extents[64];
  int binding;
  uint64_t offset_bytes, element_bytes; /* 0: a packed weight, a cache */
  int is_integer;
} value;

static int parse_value(const char *line, value *parsed) {
  static const char *const bindings[] = {"weights", "kv_pool", "arena", "logits"};
  char binding[16], *type = parsed->type;
  unsigned long long offset;
  if (sscanf(line, "value %15s %15s %llu %31s %63s", parsed->id, binding, &offset, type, parsed->extents) != 5)
    return 0;
  parsed->offset_bytes = offset;
  parsed->element_bytes = !strcmp(type, "i8")                             ? 1
                          : !strcmp(type, "f16") || !strcmp(type, "bf16") ? 2
                          : !strcmp(type, "f32") || !strcmp(type, "i32")  ? 4
                                                                          : 0;
  parsed->is_integer = type[0] == 'i';
  for (parsed->binding = 0; parsed->binding < GIRIH_STEP_NUM_BINDINGS; ++parsed->binding)
    if (!strcmp(binding, bindings[parsed->binding]))
      return 1;
  return 0;
}

/* "TxQx64" in bytes; a step without arguments has no T and no Q. */
static uint64_t size_of(const value *v, const girih_step_args *args) {
  uint64_t size_bytes = v->element_bytes;
  const char *at = v->extents;
  while (*at) {
    char *end = (char *)at + 1;
    if (*at == 'T')
      size_bytes *= args ? (uint64_t)args->num_tokens : 0;
    else if (*at == 'Q')
      size_bytes *= args ? (uint64_t)args->num_logit_rows : 0;
    else
      size_bytes *= strtoull(at, &end, 10);
    at = *end == 'x' ? end + 1 : end;
    if (end == at && *at && *at != 'T' && *at != 'Q')
      break;
  }
  return size_bytes;
}

static const value *find(const value *values, int count, const char *id) {
  for (; count > 0; --count)
    if (!strcmp(values[count - 1].id, id))
      return &values[count - 1];
  return 0;
}

/* A backend of yours does its operations here: checks them always, and runs them when there is a submission. */
#ifndef OTHER_OPERATION
#define OTHER_OPERATION(line, values, count, submission, message)                                                      \
  fail(message, GIRIH_UNIMPLEMENTED, "null copies and does nothing else; seen `%.40s`", line)
#endif

/* Walks one entry from the line after `entry`. With a submission it copies, without it only checks. */
static girih_code walk(const char *line, const girih_submission *submission, girih_message *message) {
  value values[MAX_VALUES];
  int count = 0;
  for (; line && *line; line = strchr(line, '\n') ? strchr(line, '\n') + 1 : 0) {
    char from_id[16], to_id[16];
    const value *from, *to;
    if (!strncmp(line, "end\n", 4))
      return GIRIH_OK;
    if (!strncmp(line, "value ", 6)) {
      if (count == MAX_VALUES || !parse_value(line, &values[count++]))
        return fail(message, GIRIH_DATA_LOSS, "`%.40s` is no value of graph.h, or the entry has over %d", line, MAX_VALUES);
      continue;
    }
    if (sscanf(line, "copy %15s %15s", from_id, to_id) != 2) {
      girih_code code = OTHER_OPERATION(line, values, count, submission, message);
      if (code != GIRIH_OK)
        return code;
      continue;
    }
    from = find(values, count, from_id);
    to = find(values, count, to_id);
    if (!from || !to || !from->element_bytes || strcmp(from->type, to->type) || strcmp(from->extents, to->extents))
      return fail(message, GIRIH_DATA_LOSS, "`%.40s` does not copy between values of equal type and extents", line);
    if (submission) {
      const girih_step_args *args =
          submission->arguments_bytes >= sizeof *args ? (const girih_step_args *)submission->arguments : 0;
      uint64_t size_bytes = size_of(from, args);
      girih_buffer_view read = submission->bindings[from->binding], written = submission->bindings[to->binding];
      const uint8_t *source;
      uint8_t *target;
      read.offset_bytes += from->offset_bytes;
      written.offset_bytes += to->offset_bytes;
      read.size_bytes = written.size_bytes = size_bytes;
      source = resolve(&read, message);
      target = resolve(&written, message);
      if (!source || !target)
        return GIRIH_OUT_OF_RANGE;
      memcpy(target, source, size_bytes);
    }
  }
  return fail(message, GIRIH_DATA_LOSS, "an entry has no `end`");
}

/* The line after `entry NAME`, or null. */
static const char *find_entry(const char *text, const char *name) {
  char wanted[80];
  const char *at;
  snprintf(wanted, sizeof wanted, "\nentry %.63s\n", name);
  at = strstr(text, wanted);
  return at ? at + strlen(wanted) : 0;
}

static void unload(girih_device *device, girih_executable *executable) {
  (void)device;
  free(executable->text);
  free(executable->entries);
  free(executable);
}

static girih_code load(girih_device *device, const girih_image *image, girih_executable **executable,
                       girih_message *message) {
  girih_executable *made;
  uint64_t index;
  girih_code code = GIRIH_OK;
  if (strcmp(image->format, GIRIH_GRAPH_FORMAT) != 0)
    return fail(message, GIRIH_UNIMPLEMENTED, "the image has format \"%s\"; null runs \"" GIRIH_GRAPH_FORMAT "\"",
                image->format);
  if (image->size_bytes < strlen(GIRIH_GRAPH_FIRST_LINE) ||
      memcmp(image->bytes, GIRIH_GRAPH_FIRST_LINE, strlen(GIRIH_GRAPH_FIRST_LINE)) != 0)
    return fail(message, GIRIH_DATA_LOSS, "the image does not begin with `girih.graph 1`");
  made = calloc(1, sizeof *made);
  made->text = calloc(1, image->size_bytes + 1);
  made->entries = calloc(image->num_entries + 1, sizeof *made->entries);
  memcpy(made->text, image->bytes, image->size_bytes); /* it need not outlive this call */
  made->num_entries = image->num_entries;
  for (index = 0; index < image->num_entries && code == GIRIH_OK; ++index) {
    made->entries[index] = find_entry(made->text, image->entry_symbols[index]);
    code = made->entries[index] ? walk(made->entries[index], 0, message)
                                : fail(message, GIRIH_DATA_LOSS, "the graph has no entry `%s`", image->entry_symbols[index]);
  }
  if (code != GIRIH_OK)
    unload(device, made);
  else
    *executable = made;
  return code;
}

/* ---- work --------------------------------------------------------------------------------------------------- */

static girih_code submit(girih_device *device, const girih_submission *submission, uint64_t *ticket,
                         girih_message *message) {
  girih_code code;
  if (submission->entry_index >= submission->executable->num_entries ||
      submission->num_bindings != GIRIH_STEP_NUM_BINDINGS)
    return fail(message, GIRIH_INVALID_ARGUMENT, "a step takes one of %llu entries and %d bindings",
                (unsigned long long)submission->executable->num_entries, GIRIH_STEP_NUM_BINDINGS);
  code = walk(submission->executable->entries[submission->entry_index], submission, message);
  if (code == GIRIH_OK)
    *ticket = ++device->num_submissions;
  return code;
}

static girih_code wait_for(girih_device *device, uint64_t ticket, girih_message *message) {
  if (ticket > device->num_submissions) /* the others ended before submit returned */
    return fail(message, GIRIH_INVALID_ARGUMENT, "ticket %llu was not handed out", (unsigned long long)ticket);
  return GIRIH_OK;
}

/* ---- compiling ---------------------------------------------------------------------------------------------- */

static girih_code describe(const char *target, const char **machine_json, girih_message *message) {
  (void)target;
  (void)message;
  *machine_json = "{\"name\": \"null\", \"kind\": \"null\", \"cores\": 1, \"clock_mhz\": 1, \"barrier_ns\": 1,"
                  " \"levels\": [{\"name\": \"memory\", \"size_bytes\": 1073741824, \"bytes_per_cycle\": 1,"
                  " \"latency_cycles\": 1, \"shared_by\": 1, \"source\": \"made up\"}],"
                  " \"units\": [{\"name\": \"fma\", \"element\": \"f32\", \"lanes\": 1, \"per_cycle\": 1,"
                  " \"latency_cycles\": 1, \"registers\": 1, \"source\": \"made up\"}]}";
  return GIRIH_OK;
}

static girih_code supports(const char *target, const girih_op *ops, uint64_t num_ops, girih_verdict *verdicts,
                           girih_message *message) {
  uint64_t index;
  (void)target;
  (void)message;
  for (index = 0; index < num_ops; ++index) {
    int is_copy = !strcmp(ops[index].name, "copy");
    verdicts[index].code = is_copy ? GIRIH_OK : GIRIH_UNIMPLEMENTED;
    verdicts[index].reason = is_copy ? "" : "null copies and does nothing else";
  }
  return GIRIH_OK;
}

static void release(girih_artifact *artifact) {
  free(artifact->text);
  free(artifact);
}

static girih_code compile(const girih_compilation *compilation, girih_artifact **artifact, girih_artifact_info *info,
                          girih_message *message) {
  girih_artifact_info filled = {0};
  girih_artifact *made;
  const char *at;
  uint64_t room = info->struct_size;
  if (compilation->level != GIRIH_LEVEL_GRAPH)
    return fail(message, GIRIH_UNIMPLEMENTED, "null takes level 1, whole graphs; offered is %llu",
                (unsigned long long)compilation->level);
  made = calloc(1, sizeof *made);
  made->text = calloc(1, compilation->size_bytes + 1);
  memcpy(made->text, compilation->bytes, compilation->size_bytes);
  for (at = strstr(made->text, "\nentry "); at && filled.num_entries < 16; at = strstr(at + 1, "\nentry ")) {
    girih_code code;
    if (sscanf(at, "\nentry %63s", made->names[filled.num_entries]) != 1)
      break;
    made->symbols[filled.num_entries] = made->names[filled.num_entries];
    code = walk(find_entry(made->text, made->names[filled.num_entries++]), 0, message);
    if (code != GIRIH_OK) {
      release(made);
      return code;
    }
  }
  filled.struct_size = room < sizeof filled ? room : sizeof filled;
  filled.bytes = (const uint8_t *)made->text;
  filled.size_bytes = compilation->size_bytes;
  filled.format = GIRIH_GRAPH_FORMAT;
  filled.entry_symbols = made->symbols;
  filled.required_features = "";
  memcpy(info, &filled, filled.struct_size);
  *artifact = made;
  return GIRIH_OK;
}

/* ---- the query ---------------------------------------------------------------------------------------------- */

static const girih_run_table run = {
    sizeof(girih_run_table), device_count, device_info, open_device, close_device, alloc_buffer, free_buffer,
    write_buffer, read_buffer, copy_buffer, load, unload, submit, wait_for, 0, 0, 0, 0,
};
static const girih_compile_table compiling = {
    sizeof(girih_compile_table), describe, supports, compile, release, 0, 0, 0, 0, 0,
};
static const girih_backend backend = {
    sizeof(girih_backend), GIRIH_BACKEND_ABI_MAJOR, GIRIH_BACKEND_ABI_MINOR, "null", "", &run, &compiling,
    GIRIH_LEVEL_BIT(GIRIH_LEVEL_GRAPH),
};

GIRIH_BACKEND_EXPORT const girih_backend *girih_backend_query(const girih_host *host) {
  return host->abi_major == GIRIH_BACKEND_ABI_MAJOR ? &backend : 0;
}
