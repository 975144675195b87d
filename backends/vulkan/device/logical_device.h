// SPDX-License-Identifier: Apache-2.0
// LogicalDevice: one open VkDevice, its memory in large pieces, and its queue.
#pragma once

#include "backends/vulkan/device/driver.h"

#include <memory>

namespace girih::vulkan {

// A range of device memory with a VkBuffer over it.
struct DeviceBuffer {
  VkBuffer buffer = VK_NULL_HANDLE;
  uint64_t sizeBytes = 0;       // as asked for
  uint64_t boundBytes = 0;      // of the VkBuffer: never 0, a multiple of kTexelBytes
  uint8_t *mapped = nullptr;    // null: the host cannot see it
  struct MemoryPiece *piece = nullptr;
  uint64_t offsetBytes = 0, reservedBytes = 0;  // in the piece
};

// One VkDeviceMemory, from which buffers are cut. Drivers allow few of them (4096 at least), and each is slow to get.
struct MemoryPiece {
  VkDeviceMemory memory = VK_NULL_HANDLE;
  uint64_t sizeBytes = 0;
  uint32_t type = 0;
  uint8_t *mapped = nullptr;
  struct Range {
    uint64_t offset, size;
  };
  std::vector<Range> free;  // ascending, never touching
};

// Thread-compatible. Everything submitted is waited for before memory is touched from the host.
class LogicalDevice {
public:
  // `index` counts driver.devices(). Fails: OutOfRange, ResourceExhausted, Unavailable.
  static Expected<std::unique_ptr<LogicalDevice>> open(uint64_t index);
  ~LogicalDevice();
  LogicalDevice(const LogicalDevice &) = delete;
  LogicalDevice &operator=(const LogicalDevice &) = delete;

  const DeviceProperties &properties() const { return driver->devices()[index]; }
  VkDevice device() const { return logical; }
  const DeviceFunctions &vk() const { return functions; }
  VkCommandPool commandPool() const { return commands; }

  // Zeroed. Fails: ResourceExhausted.
  Expected<DeviceBuffer> allocate(uint64_t sizeBytes);
  void free(const DeviceBuffer &buffer);
  Status write(const DeviceBuffer &to, uint64_t offsetBytes, const void *from, uint64_t numBytes);
  Status read(const DeviceBuffer &from, uint64_t offsetBytes, void *to, uint64_t numBytes);
  Status copy(const DeviceBuffer &to, uint64_t toOffset, const DeviceBuffer &from, uint64_t fromOffset, uint64_t numBytes);

  // Starts the commands; waitForAll is when they are done.
  Status submit(VkCommandBuffer list);
  Status waitForAll();
  Expected<VkCommandBuffer> begin();
  // What the list wrote is then there for the host.
  Status end(VkCommandBuffer list);
  // Ends a list, runs it to its end and drops it.
  Status runOnce(VkCommandBuffer list);

private:
  LogicalDevice() = default;
  Status create();
  // The memory type for buffers: the device's own, seen by the host where that is possible.
  uint32_t memoryTypeOf(uint32_t allowed, VkMemoryPropertyFlags wanted) const;
  Status place(DeviceBuffer &buffer, const VkMemoryRequirements &needs, VkMemoryPropertyFlags wanted);
  Expected<DeviceBuffer> create(uint64_t sizeBytes, VkMemoryPropertyFlags wanted);
  Expected<DeviceBuffer *> staging();
  Status runCopy(const DeviceBuffer &to, const DeviceBuffer &from, const VkBufferCopy &region);

  std::unique_ptr<Driver> driver;
  uint64_t index = 0;
  VkDevice logical = VK_NULL_HANDLE;
  DeviceFunctions functions;
  VkQueue queue = VK_NULL_HANDLE;
  VkCommandPool commands = VK_NULL_HANDLE;
  VkFence fence = VK_NULL_HANDLE;
  bool isRunning = false;
  VkPhysicalDeviceMemoryProperties memory = {};
  std::vector<std::unique_ptr<MemoryPiece>> pieces;
  DeviceBuffer transfer;  // for memory that the host cannot see
};

}  // namespace girih::vulkan
