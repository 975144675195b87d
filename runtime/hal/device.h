// SPDX-License-Identifier: Apache-2.0
// Device, Buffer, Executable: owners over a backend's run table, with the host's fallbacks for what is
// optional.
#pragma once

#include "runtime/abi/backend.h"
#include "runtime/base/expected.h"
#include "runtime/hal/watchdog.h"

#include <cstdint>
#include <functional>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace girih::hal {

// What a backend says of one of its devices.
struct DeviceFacts {
  std::string name;
  std::vector<std::string> features;
  bool hasHostMemory = false;
  bool isDeterministic = false;
  bool hasDriverThreads = false; // that the backend does not start
  bool isOnHostProcessors = false; // nothing but the host computes
  uint64_t memoryBytes = 0;    // 0: unknown
  uint64_t maxBufferBytes = 0; // 0: memoryBytes
  uint64_t alignmentBytes = 64;
  int64_t defaultThreads = 0;
  std::vector<std::string> formats; // of images; empty: unstated
  std::string notes;                // a sentence for who uses it; may be empty
};
// Requires: `backend` was adopted. Fails: Unavailable when there is no such device, DataLoss (facts that cannot be).
Expected<DeviceFacts> describeDevice(const girih_backend &backend, uint64_t index);

class Buffer;
class Executable;

// What crossed between the host and a device's buffers by explicit copies, since it was opened. A device that maps its
// memory needs none.
struct Traffic {
  uint64_t bytesRead = 0;    // from the device
  uint64_t bytesWritten = 0; // to it
};

struct DeviceOptions {
  int64_t numThreads = 0;     // 0: what the device would use by itself
  double watchdogSeconds = 0; // a submission that takes longer is reported; 0: none is
  Watchdog::Report onHang = {}; // on a thread of the watchdog's
  std::function<void(const std::string &)> onNote = {}; // the device's notes, when it is opened; empty: they are dropped
};

// An open device. Thread-compatible: one thread at a time, as the ABI demands. Buffers and executables keep
// it open.
class Device {
public:
  static Expected<std::shared_ptr<Device>> open(const girih_backend &backend, uint64_t index,
                                                const DeviceOptions &options = {});
  ~Device();
  Device(const Device &) = delete;
  Device &operator=(const Device &) = delete;

  int64_t numThreads() const;
  const girih_run_table &table() const { return *run; }
  girih_device *handle() const { return device; }
  const Traffic &traffic() const { return moved; }
  const DeviceFacts &facts() const { return described; }

  // Runs one entry to its end; `entryName` is what a watchdog calls it.
  Status submitAndWait(const girih_submission &submission, const char *entryName);

private:
  friend class Buffer;
  Device() = default;
  const girih_run_table *run = nullptr;
  girih_device *device = nullptr;
  DeviceFacts described;
  uint64_t allocatedBytes = 0; // by buffers that live
  Traffic moved;
  std::unique_ptr<Watchdog> watchdog;
};

// Device memory. Movable; frees itself.
class Buffer {
public:
  Buffer() = default;
  // Zeroed. Fails: ResourceExhausted, with what is asked for, what there is and what is in use.
  static Expected<Buffer> allocate(std::shared_ptr<Device> device, uint64_t sizeBytes);
  // The bytes as a buffer: in place where the device can read the host's memory, else copied.
  // Requires: `bytes` outlive the buffer.
  static Expected<Buffer> import(std::shared_ptr<Device> device, std::span<const uint8_t> bytes);
  Buffer(Buffer &&other) noexcept;
  Buffer &operator=(Buffer &&other) noexcept;
  ~Buffer();

  uint64_t sizeBytes() const { return numBytes; }
  girih_buffer_view view() const { return {buffer, 0, numBytes}; }
  // Says which parts every step reads, each split evenly among the device's threads: bytes may move nearer to them.
  // Requires: the parts are views of buffers of this device.
  static Status place(const Device &device, std::span<const girih_buffer_view> parts);
  Status write(uint64_t offsetBytes, std::span<const uint8_t> from);
  Status read(uint64_t offsetBytes, std::span<uint8_t> to) const;
  // Within the buffer; the ranges do not overlap.
  Status copy(uint64_t toOffsetBytes, uint64_t fromOffsetBytes, uint64_t numBytes);
  // The buffer in the host's address space, or null when the device has no such thing (then read copies).
  void *mapped() const { return hostAddress; }

private:
  std::shared_ptr<Device> device;
  girih_buffer *buffer = nullptr;
  uint64_t numBytes = 0;
  uint64_t countedBytes = 0; // of the device's allocatedBytes
  void *hostAddress = nullptr;
};

// Code, checked and loaded. Movable; unloads itself.
class Executable {
public:
  Executable() = default;
  // Fails: DataLoss or Unimplemented, when the image is not what the device runs.
  static Expected<Executable> load(std::shared_ptr<Device> device, const std::string &format,
                                   std::span<const uint8_t> image,
                                   const std::vector<std::string> &entrySymbols);
  Executable(Executable &&other) noexcept;
  Executable &operator=(Executable &&other) noexcept;
  ~Executable();
  girih_executable *handle() const { return executable; }
  // Runs an entry to its end; fills the submission's executable.
  Status run(girih_submission &submission);

private:
  std::shared_ptr<Device> device;
  std::vector<std::string> entries;
  girih_executable *executable = nullptr;
};

} // namespace girih::hal
