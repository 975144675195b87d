// SPDX-License-Identifier: Apache-2.0
// The run table over Vulkan: memory and steps of the devices that the installed drivers list.
#include "backends/vulkan/device/logical_device.h"
#include "backends/vulkan/device/executable.h"
#include "runtime/abi/backend.h"

#include <algorithm>
#include <cstddef>
#include <cstring>

struct girih_device {
  std::unique_ptr<girih::vulkan::LogicalDevice> opened;
  uint64_t numSubmissions = 0;
};

struct girih_buffer {
  girih::vulkan::DeviceBuffer buffer;
};

struct girih_executable {
  std::unique_ptr<girih::vulkan::LoadedImage> image;
  std::vector<uint64_t> entries;  // the image's number of each of the host's
};

namespace girih::vulkan {
namespace {

girih_code report(const Status &status, girih_message *message) {
  if (message && message->capacity_bytes > 0) {
    size_t numBytes = std::min<size_t>(status.message().size(), message->capacity_bytes - 1);
    std::memcpy(message->text, status.message().data(), numBytes);
    message->text[numBytes] = 0;
  }
  return static_cast<girih_code>(status.code());
}

// What there is, asked once: drivers do not come and go, and names must live as long as the backend.
struct Inventory {
  std::vector<DeviceProperties> devices;
  std::string reason;  // why there are none
};

const Inventory &inventory() {
  static const Inventory found = [] {
    Inventory made;
    auto driver = Driver::open();
    if (!driver.isOk()) {
      made.reason = driver.status().message();
      return made;
    }
    made.devices = (*driver)->devices();
    made.reason = (*driver)->shortcomings();
    return made;
  }();
  return found;
}

Status checkIndex(uint64_t index) {
  const Inventory &found = inventory();
  if (index < found.devices.size())
    return {};
  if (found.devices.empty())
    return unavailable("no device runs Vulkan programs here: " + found.reason);
  return outOfRange("there are " + std::to_string(found.devices.size()) + " Vulkan devices, from number 0; " +
                    std::to_string(index) + " is asked for");
}

bool isInside(const girih_buffer_view *view) {
  return view && view->buffer && view->offset_bytes <= view->buffer->buffer.sizeBytes &&
         view->size_bytes <= view->buffer->buffer.sizeBytes - view->offset_bytes;
}

girih_code outsideOfBuffer(girih_message *message) {
  return report(outOfRange("a view lies outside of its buffer; check offset and size"), message);
}

girih_code deviceCount(uint64_t *count, girih_message *) {
  *count = inventory().devices.size();
  return 0;
}

girih_code deviceInfo(uint64_t index, girih_device_info *info, girih_message *message) {
  if (Status status = checkIndex(index); !status.isOk())
    return report(status, message);
  const DeviceProperties &properties = inventory().devices[index];
  girih_device_info filled = {};
  filled.struct_size = std::min<uint64_t>(info->struct_size, sizeof filled);
  filled.name = properties.name.c_str();
  filled.features = properties.features.c_str();
  filled.flags = GIRIH_DEVICE_DETERMINISTIC | GIRIH_DEVICE_DRIVER_THREADS;
  if (properties.type == VK_PHYSICAL_DEVICE_TYPE_CPU)
    filled.flags |= GIRIH_DEVICE_HOST_PROCESSORS;
  filled.memory_bytes = properties.memoryBytes;
  filled.alignment_bytes = properties.offsetAlignment;
  filled.max_buffer_bytes = properties.maxBufferBytes;
  filled.formats = kImageFormat;
  std::memcpy(info, &filled, filled.struct_size);
  return 0;
}

girih_code openDevice(uint64_t index, const girih_device_options *, girih_device **device, girih_message *message) {
  if (Status status = checkIndex(index); !status.isOk())
    return report(status, message);
  auto opened = LogicalDevice::open(index);
  if (!opened.isOk())
    return report(opened.status(), message);
  *device = new girih_device{std::move(*opened)};
  return 0;
}

void closeDevice(girih_device *device) { delete device; }

girih_code allocate(girih_device *device, uint64_t sizeBytes, girih_buffer **buffer, girih_message *message) {
  uint64_t most = device->opened->properties().memoryBytes;
  if (sizeBytes > most)
    return report(resourceExhausted(std::to_string(sizeBytes) + " bytes are asked for; the device has " +
                                    std::to_string(most)),
                  message);
  auto made = device->opened->allocate(sizeBytes);
  if (!made.isOk())
    return report(made.status(), message);
  *buffer = new girih_buffer{*made};
  return 0;
}

void freeBuffer(girih_device *device, girih_buffer *buffer) {
  (void)device->opened->waitForAll().isOk();
  device->opened->free(buffer->buffer);
  delete buffer;
}

girih_code writeBuffer(girih_device *device, const girih_buffer_view *to, const void *from, girih_message *message) {
  if (!isInside(to))
    return outsideOfBuffer(message);
  return report(device->opened->write(to->buffer->buffer, to->offset_bytes, from, to->size_bytes), message);
}

girih_code readBuffer(girih_device *device, const girih_buffer_view *from, void *to, girih_message *message) {
  if (!isInside(from))
    return outsideOfBuffer(message);
  return report(device->opened->read(from->buffer->buffer, from->offset_bytes, to, from->size_bytes), message);
}

girih_code copyBuffer(girih_device *device, const girih_buffer_view *to, const girih_buffer_view *from,
                      girih_message *message) {
  if (!isInside(from) || !isInside(to) || to->size_bytes != from->size_bytes)
    return outsideOfBuffer(message);
  return report(device->opened->copy(to->buffer->buffer, to->offset_bytes, from->buffer->buffer, from->offset_bytes,
                                      to->size_bytes),
                message);
}

girih_code loadExecutable(girih_device *device, const girih_image *image, girih_executable **executable,
                          girih_message *message) {
  if (std::strcmp(image->format, kImageFormat) != 0)
    return report(unimplemented("the executable has format \"" + std::string(image->format) +
                                "\"; this device runs \"" + kImageFormat + "\""),
                  message);
  auto parsed = Image::parse({image->bytes, image->size_bytes});
  if (!parsed.isOk())
    return report(parsed.status(), message);
  auto loaded = LoadedImage::load(*device->opened, std::move(*parsed));
  if (!loaded.isOk())
    return report(loaded.status(), message);
  auto result = std::make_unique<girih_executable>();
  for (uint64_t index = 0; index < image->num_entries; ++index) {
    int64_t number = (*loaded)->find(image->entry_symbols[index]);
    if (number < 0)
      return report(notFound("the image has no entry \"" + std::string(image->entry_symbols[index]) + "\""), message);
    result->entries.push_back(static_cast<uint64_t>(number));
  }
  result->image = std::move(*loaded);
  *executable = result.release();
  return 0;
}

void unloadExecutable(girih_device *, girih_executable *executable) { delete executable; }

// The caller's place for times, if it has one and knows of such places.
girih_step_times *timesOf(const girih_submission &submission) {
  constexpr uint64_t kEnd = offsetof(girih_submission, times) + sizeof submission.times;
  return submission.struct_size >= kEnd ? submission.times : nullptr;
}

girih_code submit(girih_device *device, const girih_submission *submission, uint64_t *ticket, girih_message *message) {
  const auto &entries = submission->executable->entries;
  if (submission->entry_index >= entries.size() || submission->arguments_bytes != sizeof(girih_step_args) ||
      submission->num_bindings != GIRIH_STEP_NUM_BINDINGS)
    return report(invalidArgument("a step takes one of " + std::to_string(entries.size()) + " entries, " +
                                  std::to_string(sizeof(girih_step_args)) + " bytes of arguments and " +
                                  std::to_string(GIRIH_STEP_NUM_BINDINGS) + " bindings"),
                  message);
  StepBuffers::Part parts[GIRIH_STEP_NUM_BINDINGS] = {};
  for (int index = 0; index < GIRIH_STEP_NUM_BINDINGS; ++index) {
    const girih_buffer_view &view = submission->bindings[index];
    if (!view.buffer)
      continue;
    if (!isInside(&view))
      return outsideOfBuffer(message);
    if (view.offset_bytes % device->opened->properties().offsetAlignment != 0)
      return report(invalidArgument("binding " + std::to_string(index) + " begins at byte " +
                                    std::to_string(view.offset_bytes) + "; the device binds at multiples of " +
                                    std::to_string(device->opened->properties().offsetAlignment)),
                    message);
    parts[index] = {&view.buffer->buffer, view.offset_bytes, view.size_bytes};
  }
  StepBuffers buffers = {parts[GIRIH_STEP_BINDING_WEIGHTS], parts[GIRIH_STEP_BINDING_KV_POOL],
                         parts[GIRIH_STEP_BINDING_ARENA], parts[GIRIH_STEP_BINDING_LOGITS]};
  girih_step_args args;
  std::memcpy(&args, submission->arguments, sizeof args);
  girih_step_times *wanted = timesOf(*submission);
  DispatchTimes times = {};
  if (wanted)
    times = {wanted->nanoseconds, wanted->capacity, 0};
  Status status =
      submission->executable->image->start(entries[submission->entry_index], args, buffers, wanted ? &times : nullptr);
  if (!status.isOk())
    return report(status, message);
  if (wanted && times.numDispatches > 0)
    wanted->num_meetings = times.numDispatches;
  *ticket = ++device->numSubmissions;
  return 0;
}

girih_code waitFor(girih_device *device, uint64_t ticket, girih_message *message) {
  if (ticket > device->numSubmissions)
    return report(invalidArgument("ticket " + std::to_string(ticket) + " was not handed out; the last one is " +
                                  std::to_string(device->numSubmissions)),
                  message);
  return report(device->opened->waitForAll(), message);
}

// Null where the host cannot see the memory: then the host reads.
girih_code mapBuffer(girih_device *, girih_buffer *buffer, void **address, girih_message *) {
  *address = buffer->buffer.mapped;
  return 0;
}

constexpr girih_run_table kRunTable = {
    sizeof(girih_run_table),
    deviceCount,
    deviceInfo,
    openDevice,
    closeDevice,
    allocate,
    freeBuffer,
    writeBuffer,
    readBuffer,
    copyBuffer,
    loadExecutable,
    unloadExecutable,
    submit,
    waitFor,
    nullptr,  // import_host
    mapBuffer,
    nullptr,  // num_threads
    nullptr,  // place
};

constexpr girih_backend kBackend = {
    sizeof(girih_backend), GIRIH_BACKEND_ABI_MAJOR, GIRIH_BACKEND_ABI_MINOR, "vulkan", "", &kRunTable, nullptr, 0,
};

}  // namespace
}  // namespace girih::vulkan

extern "C" const girih_backend *girih_backend_query_vulkan(const girih_host *host) {
  return host->abi_major == GIRIH_BACKEND_ABI_MAJOR ? &girih::vulkan::kBackend : nullptr;
}
