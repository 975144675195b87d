// SPDX-License-Identifier: Apache-2.0
// Opens a device, cuts buffers from its memory, moves bytes, and runs command lists one after the other.
#include "backends/vulkan/device/logical_device.h"

#include <algorithm>
#include <cstring>

namespace girih::vulkan {
namespace {

constexpr uint64_t kPieceBytes = uint64_t{16} << 20; // smaller buffers share one of this size
constexpr uint64_t kStagingBytes = uint64_t{4} << 20;
constexpr VkMemoryPropertyFlags kSeen =
    VK_MEMORY_PROPERTY_HOST_VISIBLE_BIT | VK_MEMORY_PROPERTY_HOST_COHERENT_BIT;
constexpr uint64_t kForever = ~uint64_t{0};

uint64_t roundUp(uint64_t value, uint64_t multiple) { return (value + multiple - 1) / multiple * multiple; }

// Cuts `size` bytes at a multiple of `alignment` from the first range that holds them.
bool takeRange(MemoryPiece &piece, uint64_t size, uint64_t alignment, uint64_t &offset) {
  for (auto range = piece.free.begin(); range != piece.free.end(); ++range) {
    uint64_t start = roundUp(range->offset, alignment), end = range->offset + range->size;
    if (start > end || end - start < size)
      continue;
    MemoryPiece::Range before = {range->offset, start - range->offset},
                       after = {start + size, end - start - size};
    range = piece.free.erase(range);
    if (after.size > 0)
      range = piece.free.insert(range, after);
    if (before.size > 0)
      piece.free.insert(range, before);
    offset = start;
    return true;
  }
  return false;
}

void giveBack(MemoryPiece &piece, uint64_t offset, uint64_t size) {
  auto next = std::find_if(piece.free.begin(), piece.free.end(),
                           [&](const MemoryPiece::Range &range) { return range.offset > offset; });
  next = piece.free.insert(next, {offset, size});
  if (auto after = next + 1; after != piece.free.end() && next->offset + next->size == after->offset) {
    next->size += after->size;
    piece.free.erase(after);
  }
  if (next != piece.free.begin() && (next - 1)->offset + (next - 1)->size == next->offset) {
    (next - 1)->size += next->size;
    piece.free.erase(next);
  }
}

} // namespace

Expected<std::unique_ptr<LogicalDevice>> LogicalDevice::open(uint64_t index) {
  std::unique_ptr<LogicalDevice> opened(new LogicalDevice);
  GIRIH_ASSIGN(opened->driver, Driver::open());
  if (index >= opened->driver->devices().size())
    return outOfRange("device " + std::to_string(index) + " is asked for; there are " +
                      std::to_string(opened->driver->devices().size()) + " here" +
                      (opened->driver->devices().empty() ? ": " + opened->driver->shortcomings() : ""));
  opened->index = index;
  GIRIH_TRY(opened->create());
  return opened;
}

Status LogicalDevice::create() {
  float priority = 1;
  VkDeviceQueueCreateInfo queueInfo = {};
  queueInfo.sType = VK_STRUCTURE_TYPE_DEVICE_QUEUE_CREATE_INFO;
  queueInfo.queueFamilyIndex = properties().queueFamily;
  queueInfo.queueCount = 1;
  queueInfo.pQueuePriorities = &priority;
  VkDeviceCreateInfo info = {};
  info.sType = VK_STRUCTURE_TYPE_DEVICE_CREATE_INFO;
  info.queueCreateInfoCount = 1;
  info.pQueueCreateInfos = &queueInfo;
  GIRIH_TRY(statusOf(driver->CreateDevice(driver->handle(index), &info, nullptr, &logical),
                     "opening " + properties().name));
#define GIRIH_LOAD(name)                                                                                     \
  functions.name = reinterpret_cast<PFN_vk##name>(driver->GetDeviceProcAddr(logical, "vk" #name));
  GIRIH_VULKAN_DEVICE_FUNCTIONS(GIRIH_LOAD)
#undef GIRIH_LOAD
  functions.GetDeviceQueue(logical, properties().queueFamily, 0, &queue);
  driver->GetPhysicalDeviceMemoryProperties(driver->handle(index), &memory);
  VkCommandPoolCreateInfo poolInfo = {};
  poolInfo.sType = VK_STRUCTURE_TYPE_COMMAND_POOL_CREATE_INFO;
  poolInfo.queueFamilyIndex = properties().queueFamily;
  GIRIH_TRY(
      statusOf(functions.CreateCommandPool(logical, &poolInfo, nullptr, &commands), "making a command pool"));
  VkFenceCreateInfo fenceInfo = {};
  fenceInfo.sType = VK_STRUCTURE_TYPE_FENCE_CREATE_INFO;
  return statusOf(functions.CreateFence(logical, &fenceInfo, nullptr, &fence), "making a fence");
}

LogicalDevice::~LogicalDevice() {
  if (!logical)
    return;
  if (functions.DeviceWaitIdle)
    functions.DeviceWaitIdle(logical);
  free(transfer);
  for (auto &piece : pieces)
    functions.FreeMemory(logical, piece->memory, nullptr);
  functions.DestroyFence(logical, fence, nullptr);
  functions.DestroyCommandPool(logical, commands, nullptr);
  functions.DestroyDevice(logical, nullptr);
}

// ---- Memory ----
uint32_t LogicalDevice::memoryTypeOf(uint32_t allowed, VkMemoryPropertyFlags wanted) const {
  // Also seen by the host, best; then what is wanted; then anything that the buffer may lie in.
  for (VkMemoryPropertyFlags flags : {wanted | kSeen, wanted, VkMemoryPropertyFlags{0}})
    for (uint32_t type = 0; type < memory.memoryTypeCount; ++type)
      if ((allowed >> type & 1) && (memory.memoryTypes[type].propertyFlags & flags) == flags)
        return type;
  return 0;
}

Status LogicalDevice::place(DeviceBuffer &buffer, const VkMemoryRequirements &needs,
                            VkMemoryPropertyFlags wanted) {
  uint64_t alignment = std::max(needs.alignment, properties().offsetAlignment);
  uint64_t size = roundUp(needs.size, alignment);
  uint32_t type = memoryTypeOf(needs.memoryTypeBits, wanted);
  bool isShared = size < kPieceBytes / 2;
  if (isShared)
    for (auto &piece : pieces)
      if (piece->sizeBytes == kPieceBytes && piece->type == type &&
          takeRange(*piece, size, alignment, buffer.offsetBytes)) {
        buffer.piece = piece.get();
        buffer.reservedBytes = size;
        return {};
      }
  auto piece = std::make_unique<MemoryPiece>();
  piece->sizeBytes = isShared ? kPieceBytes : size;
  piece->type = type;
  VkMemoryAllocateInfo info = {};
  info.sType = VK_STRUCTURE_TYPE_MEMORY_ALLOCATE_INFO;
  info.allocationSize = piece->sizeBytes;
  info.memoryTypeIndex = type;
  GIRIH_TRY(statusOf(functions.AllocateMemory(logical, &info, nullptr, &piece->memory),
                     "allocating " + std::to_string(piece->sizeBytes) + " bytes of the device's " +
                         std::to_string(properties().memoryBytes)));
  if ((memory.memoryTypes[type].propertyFlags & kSeen) == kSeen) {
    void *address = nullptr;
    if (VkResult result = functions.MapMemory(logical, piece->memory, 0, VK_WHOLE_SIZE, 0, &address);
        result != VK_SUCCESS) {
      functions.FreeMemory(logical, piece->memory, nullptr);
      return statusOf(result, "mapping " + std::to_string(piece->sizeBytes) + " bytes");
    }
    piece->mapped = static_cast<uint8_t *>(address);
  }
  piece->free = {{0, piece->sizeBytes}};
  takeRange(*piece, size, alignment, buffer.offsetBytes);
  buffer.piece = piece.get();
  buffer.reservedBytes = size;
  pieces.push_back(std::move(piece));
  return {};
}

Expected<DeviceBuffer> LogicalDevice::create(uint64_t sizeBytes, VkMemoryPropertyFlags wanted) {
  DeviceBuffer result;
  result.sizeBytes = sizeBytes;
  result.boundBytes = roundUp(std::max<uint64_t>(sizeBytes, 1), 16);
  VkBufferCreateInfo info = {};
  info.sType = VK_STRUCTURE_TYPE_BUFFER_CREATE_INFO;
  info.size = result.boundBytes;
  info.usage = VK_BUFFER_USAGE_STORAGE_BUFFER_BIT | VK_BUFFER_USAGE_UNIFORM_TEXEL_BUFFER_BIT |
               VK_BUFFER_USAGE_INDIRECT_BUFFER_BIT | VK_BUFFER_USAGE_TRANSFER_SRC_BIT |
               VK_BUFFER_USAGE_TRANSFER_DST_BIT;
  GIRIH_TRY(statusOf(functions.CreateBuffer(logical, &info, nullptr, &result.buffer),
                     "a buffer of " + std::to_string(sizeBytes) + " bytes"));
  VkMemoryRequirements needs;
  functions.GetBufferMemoryRequirements(logical, result.buffer, &needs);
  Status status = place(result, needs, wanted);
  if (status.isOk())
    status =
        statusOf(functions.BindBufferMemory(logical, result.buffer, result.piece->memory, result.offsetBytes),
                 "binding memory");
  if (!status.isOk()) {
    free(result);
    return status;
  }
  if (result.piece->mapped)
    result.mapped = result.piece->mapped + result.offsetBytes;
  return result;
}

Expected<DeviceBuffer> LogicalDevice::allocate(uint64_t sizeBytes) {
  GIRIH_ASSIGN(DeviceBuffer buffer, create(sizeBytes, VK_MEMORY_PROPERTY_DEVICE_LOCAL_BIT));
  if (buffer.mapped) {
    std::memset(buffer.mapped, 0, buffer.boundBytes);
    return buffer;
  }
  GIRIH_ASSIGN(VkCommandBuffer list, begin());
  functions.CmdFillBuffer(list, buffer.buffer, 0, VK_WHOLE_SIZE, 0);
  GIRIH_TRY(runOnce(list));
  return buffer;
}

void LogicalDevice::free(const DeviceBuffer &buffer) {
  if (buffer.buffer)
    functions.DestroyBuffer(logical, buffer.buffer, nullptr);
  if (!buffer.piece)
    return;
  giveBack(*buffer.piece, buffer.offsetBytes, buffer.reservedBytes);
  // Whole again: the device gets it back, so that what is freed can be had in another shape.
  if (buffer.piece->free.size() != 1 || buffer.piece->free.front().size != buffer.piece->sizeBytes)
    return;
  functions.FreeMemory(logical, buffer.piece->memory, nullptr);
  std::erase_if(pieces, [&](const auto &piece) { return piece.get() == buffer.piece; });
}

// ---- Bytes ----
Expected<DeviceBuffer *> LogicalDevice::staging() {
  if (!transfer.buffer) {
    GIRIH_ASSIGN(transfer, create(kStagingBytes, kSeen));
  }
  if (!transfer.mapped)
    return unavailable(properties().name + " has no memory that the host sees");
  return &transfer;
}

Status LogicalDevice::runCopy(const DeviceBuffer &to, const DeviceBuffer &from, const VkBufferCopy &region) {
  GIRIH_ASSIGN(VkCommandBuffer list, begin());
  functions.CmdCopyBuffer(list, from.buffer, to.buffer, 1, &region);
  return runOnce(list);
}

Status LogicalDevice::write(const DeviceBuffer &to, uint64_t offsetBytes, const void *from,
                            uint64_t numBytes) {
  GIRIH_TRY(waitForAll());
  if (to.mapped) {
    if (numBytes > 0)
      std::memcpy(to.mapped + offsetBytes, from, numBytes);
    return {};
  }
  const auto *bytes = static_cast<const uint8_t *>(from);
  for (uint64_t done = 0; done < numBytes; done += kStagingBytes) {
    uint64_t part = std::min(numBytes - done, kStagingBytes);
    GIRIH_ASSIGN(DeviceBuffer * room, staging());
    std::memcpy(room->mapped, bytes + done, part);
    GIRIH_TRY(runCopy(to, *room, {0, offsetBytes + done, part}));
  }
  return {};
}

Status LogicalDevice::read(const DeviceBuffer &from, uint64_t offsetBytes, void *to, uint64_t numBytes) {
  GIRIH_TRY(waitForAll());
  if (from.mapped) {
    if (numBytes > 0)
      std::memcpy(to, from.mapped + offsetBytes, numBytes);
    return {};
  }
  auto *bytes = static_cast<uint8_t *>(to);
  for (uint64_t done = 0; done < numBytes; done += kStagingBytes) {
    uint64_t part = std::min(numBytes - done, kStagingBytes);
    GIRIH_ASSIGN(DeviceBuffer * room, staging());
    GIRIH_TRY(runCopy(*room, from, {offsetBytes + done, 0, part}));
    std::memcpy(bytes + done, room->mapped, part);
  }
  return {};
}

Status LogicalDevice::copy(const DeviceBuffer &to, uint64_t toOffset, const DeviceBuffer &from,
                           uint64_t fromOffset, uint64_t numBytes) {
  GIRIH_TRY(waitForAll());
  if (numBytes == 0 || (to.buffer == from.buffer && toOffset == fromOffset))
    return {};
  return runCopy(to, from, {fromOffset, toOffset, numBytes});
}

// ---- The queue ----
Expected<VkCommandBuffer> LogicalDevice::begin() {
  VkCommandBufferAllocateInfo info = {};
  info.sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_ALLOCATE_INFO;
  info.commandPool = commands;
  info.level = VK_COMMAND_BUFFER_LEVEL_PRIMARY;
  info.commandBufferCount = 1;
  VkCommandBuffer list = VK_NULL_HANDLE;
  GIRIH_TRY(statusOf(functions.AllocateCommandBuffers(logical, &info, &list), "a command list"));
  VkCommandBufferBeginInfo beginInfo = {};
  beginInfo.sType = VK_STRUCTURE_TYPE_COMMAND_BUFFER_BEGIN_INFO;
  GIRIH_TRY(statusOf(functions.BeginCommandBuffer(list, &beginInfo), "beginning a command list"));
  return list;
}

Status LogicalDevice::end(VkCommandBuffer list) {
  VkMemoryBarrier barrier = {VK_STRUCTURE_TYPE_MEMORY_BARRIER, nullptr,
                             VK_ACCESS_SHADER_WRITE_BIT | VK_ACCESS_TRANSFER_WRITE_BIT,
                             VK_ACCESS_HOST_READ_BIT};
  functions.CmdPipelineBarrier(list, VK_PIPELINE_STAGE_COMPUTE_SHADER_BIT | VK_PIPELINE_STAGE_TRANSFER_BIT,
                               VK_PIPELINE_STAGE_HOST_BIT, 0, 1, &barrier, 0, nullptr, 0, nullptr);
  return statusOf(functions.EndCommandBuffer(list), "ending a command list");
}

Status LogicalDevice::runOnce(VkCommandBuffer list) {
  Status status = end(list);
  if (status.isOk())
    status = submit(list);
  if (status.isOk())
    status = waitForAll();
  functions.FreeCommandBuffers(logical, commands, 1, &list);
  return status;
}

Status LogicalDevice::submit(VkCommandBuffer list) {
  GIRIH_TRY(waitForAll());
  GIRIH_TRY(statusOf(functions.ResetFences(logical, 1, &fence), "resetting a fence"));
  VkSubmitInfo info = {};
  info.sType = VK_STRUCTURE_TYPE_SUBMIT_INFO;
  info.commandBufferCount = 1;
  info.pCommandBuffers = &list;
  GIRIH_TRY(statusOf(functions.QueueSubmit(queue, 1, &info, fence), "submitting to " + properties().name));
  isRunning = true;
  return {};
}

Status LogicalDevice::waitForAll() {
  if (!isRunning)
    return {};
  isRunning = false;
  return statusOf(functions.WaitForFences(logical, 1, &fence, VK_TRUE, kForever),
                  "waiting for " + properties().name);
}

} // namespace girih::vulkan
