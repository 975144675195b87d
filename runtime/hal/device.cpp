// SPDX-License-Identifier: Apache-2.0
// Thin calls through the run table; a code and a message become a Status.
#include "runtime/hal/device.h"

#include <cstddef>
#include <utility>

namespace girih::hal {
namespace {

// Room for a backend's message, and the Status made of it.
class Call {
public:
  girih_message *message() { return &buffer; }
  Status status(girih_code code) const {
    if (code == 0)
      return {};
    bool isKnown = code > 0 && code <= static_cast<int>(StatusCode::Internal);
    return {isKnown ? static_cast<StatusCode>(code) : StatusCode::Internal,
            text[0] ? std::string(text)
                    : "the backend failed with code " + std::to_string(code) + " and no message"};
  }

private:
  char text[1024] = {};
  girih_message buffer = {text, sizeof text};
};

// Whether a table that was filled by an older side reaches so far.
#define GIRIH_HAS(table, member)                                                                             \
  ((table).struct_size >= offsetof(girih_run_table, member) + sizeof((table).member) && (table).member)

std::vector<std::string> splitAtCommas(const char *text) {
  std::vector<std::string> parts;
  std::string part;
  for (; text && *text; ++text) {
    if (*text != ',') {
      part += *text;
      continue;
    }
    parts.push_back(std::exchange(part, {}));
  }
  if (!part.empty())
    parts.push_back(part);
  return parts;
}

} // namespace

Expected<DeviceFacts> describeDevice(const girih_backend &backend, uint64_t index) {
  if (!backend.run)
    return unimplemented("backend \"" + std::string(backend.name) + "\" only compiles; it has no run table");
  Call call;
  uint64_t count = 0;
  GIRIH_TRY(call.status(backend.run->device_count(&count, call.message())));
  if (index >= count)
    return unavailable("backend \"" + std::string(backend.name) + "\" has " + std::to_string(count) +
                       " devices here, number " + std::to_string(index) + " is asked for");
  girih_device_info info = {};
  info.struct_size = sizeof info;
  GIRIH_TRY(call.status(backend.run->device_info(index, &info, call.message())));
  return DeviceFacts{info.name ? info.name : "", splitAtCommas(info.features),
                     (info.flags & GIRIH_DEVICE_HOST_MEMORY) != 0, info.memory_bytes, info.default_threads};
}

Expected<std::shared_ptr<Device>> Device::open(const girih_backend &backend, uint64_t index,
                                               int64_t numThreads) {
  GIRIH_ASSIGN(DeviceFacts facts, describeDevice(backend, index));
  std::shared_ptr<Device> result(new Device);
  result->run = backend.run;
  result->defaultThreads = facts.defaultThreads;
  girih_device_options options = {sizeof options, numThreads};
  Call call;
  GIRIH_TRY(call.status(backend.run->open(index, &options, &result->device, call.message())));
  return result;
}

Device::~Device() {
  if (device)
    run->close(device);
}

int64_t Device::numThreads() const {
  return GIRIH_HAS(*run, num_threads) ? run->num_threads(device) : defaultThreads;
}

Status Device::submitAndWait(const girih_submission &submission) {
  Call call;
  uint64_t ticket = 0;
  GIRIH_TRY(call.status(run->submit(device, &submission, &ticket, call.message())));
  return call.status(run->wait(device, ticket, call.message()));
}

Expected<Buffer> Buffer::allocate(std::shared_ptr<Device> device, uint64_t sizeBytes) {
  const girih_run_table &run = device->table();
  Buffer result;
  Call call;
  GIRIH_TRY(call.status(run.alloc(device->handle(), sizeBytes, &result.buffer, call.message())));
  result.numBytes = sizeBytes;
  result.device = std::move(device);
  if (GIRIH_HAS(run, map))
    GIRIH_TRY(
        call.status(run.map(result.device->handle(), result.buffer, &result.hostAddress, call.message())));
  return result;
}

Expected<Buffer> Buffer::import(std::shared_ptr<Device> device, std::span<const uint8_t> bytes) {
  const girih_run_table &run = device->table();
  if (!GIRIH_HAS(run, import_host)) {
    GIRIH_ASSIGN(Buffer copied, allocate(std::move(device), bytes.size()));
    GIRIH_TRY(copied.write(0, bytes));
    return copied;
  }
  Buffer result;
  Call call;
  GIRIH_TRY(call.status(
      run.import_host(device->handle(), bytes.data(), bytes.size(), &result.buffer, call.message())));
  result.numBytes = bytes.size();
  result.device = std::move(device);
  return result;
}

Buffer::Buffer(Buffer &&other) noexcept { *this = std::move(other); }
Buffer &Buffer::operator=(Buffer &&other) noexcept {
  std::swap(device, other.device);
  std::swap(buffer, other.buffer);
  std::swap(numBytes, other.numBytes);
  std::swap(hostAddress, other.hostAddress);
  return *this;
}
Buffer::~Buffer() {
  if (buffer)
    device->table().free(device->handle(), buffer);
}

Status Buffer::place(const Device &device, std::span<const girih_buffer_view> parts) {
  const girih_run_table &run = device.table();
  Call call;
  return GIRIH_HAS(run, place) ? call.status(run.place(device.handle(), parts.data(), parts.size(), call.message()))
                               : Status();
}

Status Buffer::write(uint64_t offsetBytes, std::span<const uint8_t> from) {
  girih_buffer_view to = {buffer, offsetBytes, from.size()};
  Call call;
  return call.status(device->table().write(device->handle(), &to, from.data(), call.message()));
}

Status Buffer::read(uint64_t offsetBytes, std::span<uint8_t> to) const {
  girih_buffer_view from = {buffer, offsetBytes, to.size()};
  Call call;
  return call.status(device->table().read(device->handle(), &from, to.data(), call.message()));
}

Expected<Executable> Executable::load(std::shared_ptr<Device> device, const std::string &format,
                                      std::span<const uint8_t> image,
                                      const std::vector<std::string> &entrySymbols) {
  std::vector<const char *> symbols;
  for (const std::string &symbol : entrySymbols)
    symbols.push_back(symbol.c_str());
  girih_image described = {sizeof described, format.c_str(), image.data(),
                           image.size(),     symbols.data(), symbols.size()};
  Executable result;
  Call call;
  GIRIH_TRY(
      call.status(device->table().load(device->handle(), &described, &result.executable, call.message())));
  result.device = std::move(device);
  return result;
}

Executable::Executable(Executable &&other) noexcept { *this = std::move(other); }
Executable &Executable::operator=(Executable &&other) noexcept {
  std::swap(device, other.device);
  std::swap(executable, other.executable);
  return *this;
}
Executable::~Executable() {
  if (executable)
    device->table().unload(device->handle(), executable);
}

} // namespace girih::hal
