// SPDX-License-Identifier: Apache-2.0
// Thin calls through the run table; a code and a message become a Status.
#include "runtime/hal/device.h"

#include "runtime/hal/call.h"

#include <bit>
#include <utility>

namespace girih::hal {
namespace {

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

// Facts that the host would rely on. The backend is told, not corrected.
Status checkFacts(const girih_device_info &info) {
  if (info.alignment_bytes < 64 || !std::has_single_bit(info.alignment_bytes))
    return dataLoss("device_info states buffers aligned to " + std::to_string(info.alignment_bytes) +
                    " bytes; a power of two from 64 on is required");
  if (info.default_threads < 0)
    return dataLoss("device_info states " + std::to_string(info.default_threads) + " threads; 0 means none");
  return {};
}

// The backend's own words, with the numbers that it may lack.
Status outOfMemory(Status status, const DeviceFacts &facts, uint64_t askedBytes, uint64_t allocatedBytes) {
  std::string size = facts.memoryBytes ? " of its " + std::to_string(facts.memoryBytes) : "";
  return std::move(status).withContext("device \"" + facts.name + "\" has no room for " + std::to_string(askedBytes) +
                                       " bytes: " + std::to_string(allocatedBytes) + size +
                                       " bytes are in use by this program");
}

} // namespace

Expected<DeviceFacts> describeDevice(const girih_backend &backend, uint64_t index) {
  if (!backend.run)
    return unimplemented("backend \"" + std::string(backend.name) + "\" only compiles; it has no run table");
  Call call;
  uint64_t count = 0;
  GIRIH_TRY(call.status(backend.run->device_count(&count, call.message())));
  if (count == 0) {
    // Only the backend knows why: a loader, a driver or a permission that is missing.
    girih_device_info none = {};
    none.struct_size = sizeof none;
    Status reason = call.status(backend.run->device_info(0, &none, call.message()));
    return unavailable("backend \"" + std::string(backend.name) + "\" has no device here" +
                       (reason.isOk() ? "" : ": " + std::string(reason.message())));
  }
  if (index >= count)
    return unavailable("backend \"" + std::string(backend.name) + "\" has " + std::to_string(count) +
                       " devices here, number " + std::to_string(index) + " is asked for");
  girih_device_info info = {};
  info.struct_size = sizeof info;
  GIRIH_TRY(call.status(backend.run->device_info(index, &info, call.message())));
  GIRIH_TRY(checkFacts(info));
  DeviceFacts facts;
  facts.name = info.name ? info.name : "";
  facts.features = splitAtCommas(info.features);
  facts.hasHostMemory = (info.flags & GIRIH_DEVICE_HOST_MEMORY) != 0;
  facts.isDeterministic = (info.flags & GIRIH_DEVICE_DETERMINISTIC) != 0;
  facts.hasDriverThreads = (info.flags & GIRIH_DEVICE_DRIVER_THREADS) != 0;
  facts.isOnHostProcessors = (info.flags & GIRIH_DEVICE_HOST_PROCESSORS) != 0;
  facts.memoryBytes = info.memory_bytes;
  facts.maxBufferBytes = info.max_buffer_bytes ? info.max_buffer_bytes : info.memory_bytes;
  facts.alignmentBytes = info.alignment_bytes;
  facts.defaultThreads = info.default_threads;
  facts.formats = splitAtCommas(info.formats);
  facts.notes = info.notes ? info.notes : "";
  return facts;
}

Expected<std::shared_ptr<Device>> Device::open(const girih_backend &backend, uint64_t index,
                                               const DeviceOptions &options) {
  std::shared_ptr<Device> result(new Device);
  GIRIH_ASSIGN(result->described, describeDevice(backend, index));
  result->run = backend.run;
  girih_device_options abiOptions = {sizeof abiOptions, options.numThreads};
  Call call;
  GIRIH_TRY(call.status(backend.run->open(index, &abiOptions, &result->device, call.message())));
  if (options.onNote && !result->described.notes.empty())
    options.onNote(result->described.notes);
  if (options.watchdogSeconds > 0)
    result->watchdog = std::make_unique<Watchdog>(options.watchdogSeconds, options.onHang);
  return result;
}

Device::~Device() {
  watchdog.reset();
  if (device)
    run->close(device);
}

int64_t Device::numThreads() const {
  return run->num_threads ? run->num_threads(device) : described.defaultThreads;
}

Status Device::submitAndWait(const girih_submission &submission, const char *entryName) {
  Call call;
  uint64_t ticket = 0;
  if (watchdog)
    watchdog->begin(entryName);
  girih_code code = run->submit(device, &submission, &ticket, call.message());
  if (code == GIRIH_OK)
    code = run->wait(device, ticket, call.message());
  if (watchdog)
    watchdog->end();
  return call.status(code);
}

Expected<Buffer> Buffer::allocate(std::shared_ptr<Device> device, uint64_t sizeBytes) {
  const girih_run_table &run = device->table();
  const DeviceFacts &facts = device->described;
  if (facts.maxBufferBytes && sizeBytes > facts.maxBufferBytes)
    return outOfMemory(resourceExhausted("a buffer has at most " + std::to_string(facts.maxBufferBytes) + " bytes"),
                       facts, sizeBytes, device->allocatedBytes);
  Buffer result;
  Call call;
  Status status = call.status(run.alloc(device->handle(), sizeBytes, &result.buffer, call.message()));
  if (status.code() == StatusCode::ResourceExhausted)
    return outOfMemory(std::move(status), facts, sizeBytes, device->allocatedBytes);
  GIRIH_TRY(std::move(status));
  result.numBytes = result.countedBytes = sizeBytes;
  device->allocatedBytes += sizeBytes;
  result.device = std::move(device);
  if (run.map)
    GIRIH_TRY(
        call.status(run.map(result.device->handle(), result.buffer, &result.hostAddress, call.message())));
  return result;
}

Expected<Buffer> Buffer::import(std::shared_ptr<Device> device, std::span<const uint8_t> bytes) {
  const girih_run_table &run = device->table();
  if (!run.import_host) {
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
  std::swap(countedBytes, other.countedBytes);
  std::swap(hostAddress, other.hostAddress);
  return *this;
}
Buffer::~Buffer() {
  if (!buffer)
    return;
  device->table().free(device->handle(), buffer);
  device->allocatedBytes -= countedBytes;
}

Status Buffer::place(const Device &device, std::span<const girih_buffer_view> parts) {
  const girih_run_table &run = device.table();
  Call call;
  return run.place ? call.status(run.place(device.handle(), parts.data(), parts.size(), call.message())) : Status();
}

Status Buffer::write(uint64_t offsetBytes, std::span<const uint8_t> from) {
  device->moved.bytesWritten += from.size();
  girih_buffer_view to = {buffer, offsetBytes, from.size()};
  Call call;
  return call.status(device->table().write(device->handle(), &to, from.data(), call.message()));
}

Status Buffer::read(uint64_t offsetBytes, std::span<uint8_t> to) const {
  device->moved.bytesRead += to.size();
  girih_buffer_view from = {buffer, offsetBytes, to.size()};
  Call call;
  return call.status(device->table().read(device->handle(), &from, to.data(), call.message()));
}

Status Buffer::copy(uint64_t toOffsetBytes, uint64_t fromOffsetBytes, uint64_t numBytes) {
  girih_buffer_view to = {buffer, toOffsetBytes, numBytes}, from = {buffer, fromOffsetBytes, numBytes};
  Call call;
  return call.status(device->table().copy(device->handle(), &to, &from, call.message()));
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
  result.entries = entrySymbols;
  return result;
}

Status Executable::run(girih_submission &submission) {
  GIRIH_CHECK(submission.entry_index < entries.size());
  submission.executable = executable;
  return device->submitAndWait(submission, entries[submission.entry_index].c_str());
}

Executable::Executable(Executable &&other) noexcept { *this = std::move(other); }
Executable &Executable::operator=(Executable &&other) noexcept {
  std::swap(device, other.device);
  std::swap(executable, other.executable);
  std::swap(entries, other.entries);
  return *this;
}
Executable::~Executable() {
  if (executable)
    device->table().unload(device->handle(), executable);
}

} // namespace girih::hal
