// SPDX-License-Identifier: Apache-2.0
// Driver: Vulkan's loader opened by dlopen, its functions, and what its devices say of themselves.
#pragma once

#include "runtime/base/expected.h"

#define VK_NO_PROTOTYPES
#include <vulkan/vulkan_core.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

namespace girih::vulkan {

#define GIRIH_VULKAN_INSTANCE_FUNCTIONS(F)                                                                   \
  F(DestroyInstance)                                                                                         \
  F(EnumeratePhysicalDevices)                                                                                \
  F(GetPhysicalDeviceProperties2) F(GetPhysicalDeviceMemoryProperties)                                       \
      F(GetPhysicalDeviceQueueFamilyProperties) F(CreateDevice) F(GetDeviceProcAddr)
#define GIRIH_VULKAN_DEVICE_FUNCTIONS(F)                                                                     \
  F(DestroyDevice)                                                                                           \
  F(GetDeviceQueue)                                                                                          \
  F(AllocateMemory) F(FreeMemory) F(MapMemory) F(CreateBuffer) F(CreateBufferView) F(DestroyBufferView)      \
      F(DestroyBuffer) F(GetBufferMemoryRequirements) F(BindBufferMemory) F(CreateShaderModule)              \
          F(DestroyShaderModule) F(CreateDescriptorSetLayout) F(DestroyDescriptorSetLayout)                  \
              F(CreatePipelineLayout) F(DestroyPipelineLayout) F(CreateComputePipelines) F(DestroyPipeline)  \
                  F(CreateDescriptorPool) F(DestroyDescriptorPool) F(ResetDescriptorPool)                    \
                      F(AllocateDescriptorSets) F(UpdateDescriptorSets) F(CreateCommandPool)                 \
                          F(DestroyCommandPool) F(AllocateCommandBuffers) F(FreeCommandBuffers)              \
                              F(BeginCommandBuffer) F(EndCommandBuffer) F(CmdBindPipeline)                   \
                                  F(CmdBindDescriptorSets) F(CmdPushConstants) F(CmdDispatchIndirect)        \
                                      F(CmdPipelineBarrier) F(CmdCopyBuffer) F(CmdFillBuffer)                \
                                          F(CmdResetQueryPool) F(CmdWriteTimestamp) F(CreateQueryPool)       \
                                              F(DestroyQueryPool) F(GetQueryPoolResults) F(CreateFence)      \
                                                  F(DestroyFence) F(ResetFences) F(WaitForFences)            \
                                                      F(QueueSubmit) F(DeviceWaitIdle)

// What a device must have, and what it has, by its own account.
struct DeviceProperties {
  std::string name, features; // features: what variants may require, "software,subgroup_8,texels"
  VkPhysicalDeviceType type = VK_PHYSICAL_DEVICE_TYPE_OTHER;
  uint64_t memoryBytes = 0;      // the largest heap of its own
  uint64_t maxBufferBytes = 0;   // what one shader binding can reach
  uint64_t maxTexelBytes = 0;    // and one of texels
  uint64_t offsetAlignment = 64; // of a binding in its buffer
  uint32_t queueFamily = 0;
  double nanosecondsPerTick = 0; // 0: no timestamps
  std::string shortcoming;       // why it cannot run programs; empty: it can
};

// A loaded Vulkan with an instance of its own. Thread-compatible.
class Driver {
public:
  // Fails: Unavailable (no libvulkan.so.1, or one without Vulkan 1.1).
  static Expected<std::unique_ptr<Driver>> open();
  ~Driver();
  Driver(const Driver &) = delete;
  Driver &operator=(const Driver &) = delete;

  // Devices that can run programs, as VK lists them.
  const std::vector<DeviceProperties> &devices() const { return found; }
  VkPhysicalDevice handle(uint64_t index) const { return handles[index]; }
  // Why there are none.
  const std::string &shortcomings() const { return reasons; }

#define GIRIH_DECLARE(name) PFN_vk##name name = nullptr;
  GIRIH_VULKAN_INSTANCE_FUNCTIONS(GIRIH_DECLARE)
#undef GIRIH_DECLARE

private:
  Driver() = default;
  Status createInstance();
  Status listDevices();
  DeviceProperties propertiesOf(VkPhysicalDevice device) const;

  PFN_vkGetInstanceProcAddr GetInstanceProcAddr = nullptr;
  VkInstance instance = VK_NULL_HANDLE;
  std::vector<DeviceProperties> found;
  std::vector<VkPhysicalDevice> handles;
  std::string reasons;
};

// The functions of one VkDevice.
struct DeviceFunctions {
#define GIRIH_DECLARE(name) PFN_vk##name name = nullptr;
  GIRIH_VULKAN_DEVICE_FUNCTIONS(GIRIH_DECLARE)
#undef GIRIH_DECLARE
};

// What a result that is no success means: ResourceExhausted, Unavailable (the device is lost), Internal; with what was tried.
Status statusOf(VkResult result, const std::string &action);

} // namespace girih::vulkan
