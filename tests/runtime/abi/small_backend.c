/* SPDX-License-Identifier: Apache-2.0 */
/* The least backend, in C99: host memory, one image format in which an entry is the byte that it fills the logits with.
 * Compiled against today's header and against every frozen one; nothing of it may need a newer field. */
#define _POSIX_C_SOURCE 200112L /* posix_memalign */
#ifdef GIRIH_FROZEN_HEADER
#include GIRIH_FROZEN_HEADER
#else
#include "runtime/abi/backend.h"
#endif

#include <stdlib.h>
#include <string.h>

struct girih_device {
  uint64_t num_submissions;
};
struct girih_buffer {
  uint8_t *bytes;
  uint64_t size_bytes;
};
struct girih_executable {
  uint8_t fills[16];
  uint64_t num_entries;
};

static girih_code fail(girih_message *message, girih_code code, const char *text) {
  if (message && message->capacity_bytes > 0) {
    strncpy(message->text, text, message->capacity_bytes - 1);
    message->text[message->capacity_bytes - 1] = 0;
  }
  return code;
}

static girih_code device_count(uint64_t *count, girih_message *message) {
  (void)message;
  *count = 1;
  return GIRIH_OK;
}

static girih_code device_info(uint64_t index, girih_device_info *info, girih_message *message) {
  girih_device_info filled;
  if (index > 0)
    return fail(message, GIRIH_OUT_OF_RANGE, "there is one device; its number is 0");
  memset(&filled, 0, sizeof filled);
  filled.struct_size = info->struct_size < sizeof filled ? info->struct_size : sizeof filled;
  filled.name = "small";
  filled.features = "";
  filled.memory_bytes = 1 << 20;
  filled.alignment_bytes = 64;
  filled.default_threads = 3;
#ifndef GIRIH_FROZEN_HEADER
  filled.notes = "small has no units";
#endif
  memcpy(info, &filled, filled.struct_size);
  return GIRIH_OK;
}

static girih_code open_device(uint64_t index, const girih_device_options *options, girih_device **device,
                              girih_message *message) {
  (void)options;
  if (index > 0)
    return fail(message, GIRIH_OUT_OF_RANGE, "there is one device; its number is 0");
  *device = calloc(1, sizeof **device);
  return GIRIH_OK;
}

static void close_device(girih_device *device) { free(device); }

static girih_code alloc_buffer(girih_device *device, uint64_t size_bytes, girih_buffer **buffer,
                               girih_message *message) {
  girih_buffer *made = calloc(1, sizeof *made);
  (void)device;
  made->size_bytes = size_bytes;
  if (size_bytes > (1 << 20) || posix_memalign((void **)&made->bytes, 64, size_bytes + 64) != 0) {
    free(made);
    return fail(message, GIRIH_RESOURCE_EXHAUSTED, "no room");
  }
  memset(made->bytes, 0, size_bytes);
  *buffer = made;
  return GIRIH_OK;
}

static void free_buffer(girih_device *device, girih_buffer *buffer) {
  (void)device;
  free(buffer->bytes);
  free(buffer);
}

static int is_inside(const girih_buffer_view *view) {
  return view->offset_bytes <= view->buffer->size_bytes &&
         view->size_bytes <= view->buffer->size_bytes - view->offset_bytes;
}

static girih_code write_buffer(girih_device *device, const girih_buffer_view *to, const void *from,
                               girih_message *message) {
  (void)device;
  if (!is_inside(to))
    return fail(message, GIRIH_OUT_OF_RANGE, "a view lies outside of its buffer");
  memcpy(to->buffer->bytes + to->offset_bytes, from, to->size_bytes);
  return GIRIH_OK;
}

static girih_code read_buffer(girih_device *device, const girih_buffer_view *from, void *to,
                              girih_message *message) {
  (void)device;
  if (!is_inside(from))
    return fail(message, GIRIH_OUT_OF_RANGE, "a view lies outside of its buffer");
  memcpy(to, from->buffer->bytes + from->offset_bytes, from->size_bytes);
  return GIRIH_OK;
}

static girih_code copy_buffer(girih_device *device, const girih_buffer_view *to, const girih_buffer_view *from,
                              girih_message *message) {
  if (!is_inside(from))
    return fail(message, GIRIH_OUT_OF_RANGE, "a view lies outside of its buffer");
  return write_buffer(device, to, from->buffer->bytes + from->offset_bytes, message);
}

static girih_code load(girih_device *device, const girih_image *image, girih_executable **executable,
                       girih_message *message) {
  girih_executable *made;
  (void)device;
  if (strcmp(image->format, "fills") != 0)
    return fail(message, GIRIH_UNIMPLEMENTED, "this device takes images of format \"fills\"");
  if (image->num_entries > 16 || image->size_bytes != image->num_entries)
    return fail(message, GIRIH_DATA_LOSS, "the image has a byte an entry");
  made = calloc(1, sizeof *made);
  memcpy(made->fills, image->bytes, image->size_bytes);
  made->num_entries = image->num_entries;
  *executable = made;
  return GIRIH_OK;
}

static void unload(girih_device *device, girih_executable *executable) {
  (void)device;
  free(executable);
}

static girih_code submit(girih_device *device, const girih_submission *submission, uint64_t *ticket,
                         girih_message *message) {
  const girih_buffer_view *logits = &submission->bindings[GIRIH_STEP_BINDING_LOGITS];
  if (submission->entry_index >= submission->executable->num_entries || !is_inside(logits))
    return fail(message, GIRIH_INVALID_ARGUMENT, "no such entry");
  memset(logits->buffer->bytes + logits->offset_bytes, submission->executable->fills[submission->entry_index],
         logits->size_bytes);
  *ticket = ++device->num_submissions;
  return GIRIH_OK;
}

static girih_code wait_for(girih_device *device, uint64_t ticket, girih_message *message) {
  return ticket <= device->num_submissions ? GIRIH_OK
                                           : fail(message, GIRIH_INVALID_ARGUMENT, "that ticket was not handed out");
}

static const girih_backend *answer(void) {
  static girih_run_table table;
  static girih_backend backend;
  table.struct_size = sizeof table;
  table.device_count = device_count;
  table.device_info = device_info;
  table.open = open_device;
  table.close = close_device;
  table.alloc = alloc_buffer;
  table.free = free_buffer;
  table.write = write_buffer;
  table.read = read_buffer;
  table.copy = copy_buffer;
  table.load = load;
  table.unload = unload;
  table.submit = submit;
  table.wait = wait_for;
  backend.struct_size = sizeof backend;
  backend.abi_major = GIRIH_BACKEND_ABI_MAJOR;
  backend.abi_minor = GIRIH_BACKEND_ABI_MINOR;
  backend.name = "small";
  backend.sanitizer = "";
  backend.run = &table;
  return &backend;
}

const girih_backend *girih_backend_query(const girih_host *host);
const girih_backend *girih_backend_query(const girih_host *host) {
  return host->abi_major == GIRIH_BACKEND_ABI_MAJOR ? answer() : 0;
}
