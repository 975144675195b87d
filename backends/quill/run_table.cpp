// SPDX-License-Identifier: Apache-2.0
// The run table: one simulated device, its memory, programs and steps.
#include "simulator.h"
#include "tables.h"

#include <girih/step.h>

#include <algorithm>
#include <cstring>
#include <memory>

struct girih_device {
  uint64_t numSubmissions = 0, usedBytes = 0;
};

struct girih_buffer {
  std::vector<uint8_t> bytes;
};

struct girih_executable {
  quill::Program program;
  std::vector<uint32_t> begins;  // of entries, in the host's order
};

namespace quill {
namespace {

constexpr uint64_t kMemoryBytes = uint64_t(1) << 32;
constexpr uint64_t kAlignment = 64;

girih_code deviceCount(uint64_t *count, girih_message *) {
  *count = 1;
  return GIRIH_OK;
}

girih_code checkIndex(uint64_t index, girih_message *message) {
  return index == 0 ? GIRIH_OK
                    : answer(message, GIRIH_OUT_OF_RANGE, "there is one quill, number 0; " + std::to_string(index) + " is asked for");
}

girih_code deviceInfo(uint64_t index, girih_device_info *info, girih_message *message) {
  if (girih_code code = checkIndex(index, message))
    return code;
  girih_device_info filled = {};
  filled.struct_size = std::min<uint64_t>(info->struct_size, sizeof filled);
  filled.name = "quill, simulated";
  filled.features = "";
  filled.flags = GIRIH_DEVICE_DETERMINISTIC;
  filled.memory_bytes = kMemoryBytes;
  filled.alignment_bytes = kAlignment;
  filled.max_buffer_bytes = kMemoryBytes;
  filled.formats = kFormat;
  filled.notes = "a functional simulator of a machine that does not exist: right, not fast";
  std::memcpy(info, &filled, filled.struct_size);
  return GIRIH_OK;
}

girih_code open(uint64_t index, const girih_device_options *, girih_device **device, girih_message *message) {
  if (girih_code code = checkIndex(index, message))
    return code;
  return guarded(message, [&] { *device = new girih_device; });
}

void close(girih_device *device) { delete device; }

girih_code alloc(girih_device *device, uint64_t sizeBytes, girih_buffer **buffer, girih_message *message) {
  if (sizeBytes > kMemoryBytes - device->usedBytes)
    return answer(message, GIRIH_RESOURCE_EXHAUSTED, "no room for " + std::to_string(sizeBytes) + " bytes; quill has " +
                                                         std::to_string(kMemoryBytes) + ", of which " +
                                                         std::to_string(device->usedBytes) + " are in use");
  return guarded(message, [&] {
    auto made = std::make_unique<girih_buffer>();
    made->bytes.resize(sizeBytes);
    device->usedBytes += sizeBytes;
    *buffer = made.release();
  });
}

void free(girih_device *device, girih_buffer *buffer) {
  device->usedBytes -= buffer->bytes.size();
  delete buffer;
}

// Where a view lies; null for one that leaves its buffer.
uint8_t *resolve(const girih_buffer_view &view, girih_message *message) {
  uint64_t size = view.buffer ? view.buffer->bytes.size() : 0;
  if (view.buffer && view.offset_bytes <= size && view.size_bytes <= size - view.offset_bytes)
    return view.buffer->bytes.data() + view.offset_bytes;
  answer(message, GIRIH_OUT_OF_RANGE, std::to_string(view.size_bytes) + " bytes at " + std::to_string(view.offset_bytes) +
                                          " of a buffer of " + std::to_string(size) + "; a view lies inside");
  return nullptr;
}

girih_code moveBytes(void *to, const void *from, uint64_t sizeBytes) {
  if (sizeBytes > 0)
    std::memmove(to, from, sizeBytes);
  return GIRIH_OK;
}

girih_code write(girih_device *, const girih_buffer_view *to, const void *from, girih_message *message) {
  uint8_t *bytes = resolve(*to, message);
  return bytes || to->size_bytes == 0 ? moveBytes(bytes, from, to->size_bytes) : GIRIH_OUT_OF_RANGE;
}

girih_code read(girih_device *, const girih_buffer_view *from, void *to, girih_message *message) {
  const uint8_t *bytes = resolve(*from, message);
  return bytes || from->size_bytes == 0 ? moveBytes(to, bytes, from->size_bytes) : GIRIH_OUT_OF_RANGE;
}

girih_code copy(girih_device *device, const girih_buffer_view *to, const girih_buffer_view *from, girih_message *message) {
  if (to->size_bytes != from->size_bytes)
    return answer(message, GIRIH_INVALID_ARGUMENT, "views of " + std::to_string(from->size_bytes) + " and " +
                                                       std::to_string(to->size_bytes) + " bytes; both sides of a copy are equal");
  const uint8_t *bytes = resolve(*from, message);
  return bytes ? write(device, to, bytes, message) : GIRIH_OUT_OF_RANGE;
}

girih_code load(girih_device *, const girih_image *image, girih_executable **executable, girih_message *message) {
  return guarded(message, [&] {
    if (std::strcmp(image->format, kFormat) != 0)
      throw Refusal(GIRIH_UNIMPLEMENTED, std::string("the image has format \"") + image->format + "\"; quill runs \"" + kFormat + "\"");
    auto made = std::make_unique<girih_executable>();
    made->program = quill::read(image->bytes, image->size_bytes);
    for (uint64_t index = 0; index < image->num_entries; ++index) {
      const auto &entries = made->program.entries;
      auto found = std::find_if(entries.begin(), entries.end(),
                                [&](const Entry &entry) { return entry.name == image->entry_symbols[index]; });
      if (found == entries.end())
        throw Refusal(GIRIH_NOT_FOUND, std::string("the program has no entry \"") + image->entry_symbols[index] + "\"");
      made->begins.push_back(found->begin);
    }
    *executable = made.release();
  });
}

void unload(girih_device *, girih_executable *executable) { delete executable; }

// The step's arguments as words, in which pointers are addresses of segments.
class StepMemory {
public:
  explicit StepMemory(const girih_submission &submission) {
    girih_step_args args = {};
    if (submission.arguments)
      std::memcpy(&args, submission.arguments, std::min<uint64_t>(submission.arguments_bytes, sizeof args));
    words.resize(sizeof args / 8);
    std::memcpy(words.data(), &args, sizeof args);
    bind(submission, GIRIH_STEP_BINDING_WEIGHTS, "the weights", &girih_step_args::weights);
    bind(submission, GIRIH_STEP_BINDING_KV_POOL, "the KV pool", &girih_step_args::kv_pool);
    bind(submission, GIRIH_STEP_BINDING_ARENA, "the arena", &girih_step_args::arena);
    bind(submission, GIRIH_STEP_BINDING_LOGITS, "the logits", &girih_step_args::logits);
    auto tokens = uint64_t(args.num_tokens), sequences = uint64_t(args.num_sequences);
    share("the tokens", args.tokens, tokens, &girih_step_args::tokens);
    share("the positions", args.positions, tokens, &girih_step_args::positions);
    share("the tokens' sequences", args.token_sequences, tokens, &girih_step_args::token_sequences);
    share("the slots", args.kv_slots, tokens, &girih_step_args::kv_slots);
    share("the sequences' starts", args.sequence_starts, sequences + 1, &girih_step_args::sequence_starts);
    share("the context lengths", args.context_lengths, sequences, &girih_step_args::context_lengths);
    share("the block tables", args.block_tables, sequences * uint64_t(args.block_table_stride), &girih_step_args::block_tables);
    share("the logit rows", args.logit_rows, uint64_t(args.num_logit_rows), &girih_step_args::logit_rows);
  }
  std::vector<uint64_t> words;
  std::vector<Segment> segments;

private:
  template <typename Field> void add(const Segment &segment, Field girih_step_args::*field) {
    static const girih_step_args none = {};
    auto offset = reinterpret_cast<const char *>(&(none.*field)) - reinterpret_cast<const char *>(&none);
    segments.push_back(segment);
    words[size_t(offset) / 8] = segment.bytes ? uint64_t(segments.size()) << kSegmentShift : 0;
  }

  template <typename Field>
  void bind(const girih_submission &submission, int binding, const char *name, Field girih_step_args::*field) {
    const girih_buffer_view &view = submission.bindings[binding];
    char text[200];
    girih_message message = {text, sizeof text};
    uint8_t *bytes = view.buffer ? resolve(view, &message) : nullptr;
    if (view.buffer && !bytes && view.size_bytes > 0)
      throw Refusal(GIRIH_OUT_OF_RANGE, std::string(name) + ": " + text);
    add({name, bytes, bytes ? view.size_bytes : 0, binding != GIRIH_STEP_BINDING_WEIGHTS}, field);
  }

  // The host's arrays, which a device of silicon would copy first.
  template <typename Field> void share(const char *name, const int32_t *from, uint64_t count, Field girih_step_args::*field) {
    auto *bytes = const_cast<uint8_t *>(reinterpret_cast<const uint8_t *>(from));
    add({name, bytes, from ? 4 * count : 0, false}, field);
  }
};

girih_code submit(girih_device *device, const girih_submission *submission, uint64_t *ticket, girih_message *message) {
  return guarded(message, [&] {
    const girih_executable &executable = *submission->executable;
    if (submission->entry_index >= executable.begins.size() || submission->num_bindings != GIRIH_STEP_NUM_BINDINGS)
      throw Refusal(GIRIH_INVALID_ARGUMENT, "a step takes one of " + std::to_string(executable.begins.size()) +
                                                " entries and 4 bindings; it has entry " +
                                                std::to_string(submission->entry_index) + " and " +
                                                std::to_string(submission->num_bindings));
    StepMemory memory(*submission);
    run(executable.program, executable.begins[submission->entry_index], memory.words, memory.segments);
    *ticket = ++device->numSubmissions;
  });
}

girih_code wait(girih_device *device, uint64_t ticket, girih_message *message) {
  if (ticket > device->numSubmissions)  // the others had ended when submit returned
    return answer(message, GIRIH_INVALID_ARGUMENT, "ticket " + std::to_string(ticket) + " was not handed out");
  return GIRIH_OK;
}

}  // namespace

const girih_run_table kRunTable = {
    sizeof(girih_run_table), deviceCount, deviceInfo, open, close, alloc, free, write, read, copy, load, unload, submit, wait,
    nullptr, nullptr, nullptr, nullptr,
};

}  // namespace quill
