// SPDX-License-Identifier: Apache-2.0
// Opens libvulkan, makes an instance, and asks its devices what they have.
#include "backends/vulkan/device/driver.h"

#include "backends/vulkan/image.h"

#include <algorithm>
#include <dlfcn.h>

namespace girih::vulkan {
namespace {

constexpr uint32_t kLeastVersion = VK_API_VERSION_1_1;
constexpr uint32_t kLeastInvocations =
    128; // of a workgroup: what every device has, and what shaders are made for

// The loader stays open: drivers leave things behind that a dlclose would pull from under them.
PFN_vkGetInstanceProcAddr loadLibrary(std::string &error) {
  void *library = ::dlopen("libvulkan.so.1", RTLD_NOW | RTLD_LOCAL);
  if (!library) {
    const char *reason = ::dlerror();
    error = reason ? reason : "dlopen does not say why";
    return nullptr;
  }
  return reinterpret_cast<PFN_vkGetInstanceProcAddr>(::dlsym(library, "vkGetInstanceProcAddr"));
}

} // namespace

Status statusOf(VkResult result, const std::string &action) {
  switch (result) {
  case VK_SUCCESS:
    return {};
  case VK_ERROR_OUT_OF_HOST_MEMORY:
    return resourceExhausted(action + ": the driver has no host memory left");
  case VK_ERROR_OUT_OF_DEVICE_MEMORY:
    return resourceExhausted(action +
                             ": the device has no memory left; lower the opened or the KV pool's size");
  case VK_ERROR_DEVICE_LOST:
    return unavailable(action +
                       ": the device is lost (a reset, a removal or a hang of its driver); open it again, or "
                       "run on another");
  default:
    return internalError(action + " answered VkResult " + std::to_string(result) + "; please report this");
  }
}

Expected<std::unique_ptr<Driver>> Driver::open() {
  std::unique_ptr<Driver> driver(new Driver);
  std::string error;
  driver->GetInstanceProcAddr = loadLibrary(error);
  if (!driver->GetInstanceProcAddr)
    return unavailable("libvulkan.so.1 does not open (" + error +
                       "); the loader of Vulkan is needed: Debian has it in "
                       "libvulkan1, and devices' drivers in mesa-vulkan-drivers or the vendor's package");
  GIRIH_TRY(driver->createInstance());
  GIRIH_TRY(driver->listDevices());
  return driver;
}

Status Driver::createInstance() {
  auto enumerateVersion = reinterpret_cast<PFN_vkEnumerateInstanceVersion>(
      GetInstanceProcAddr(nullptr, "vkEnumerateInstanceVersion"));
  uint32_t version = VK_API_VERSION_1_0;
  if (enumerateVersion)
    enumerateVersion(&version);
  if (version < kLeastVersion)
    return unavailable("libvulkan.so.1 speaks Vulkan 1.0; 1.1 is the least: a newer libvulkan1 has it");
  auto create = reinterpret_cast<PFN_vkCreateInstance>(GetInstanceProcAddr(nullptr, "vkCreateInstance"));
  VkApplicationInfo application = {};
  application.sType = VK_STRUCTURE_TYPE_APPLICATION_INFO;
  application.pApplicationName = "girih";
  application.apiVersion = kLeastVersion;
  VkInstanceCreateInfo info = {};
  info.sType = VK_STRUCTURE_TYPE_INSTANCE_CREATE_INFO;
  info.pApplicationInfo = &application;
  if (VkResult result = create(&info, nullptr, &instance); result != VK_SUCCESS)
    return unavailable("Vulkan makes no instance here (VkResult " + std::to_string(result) +
                       "); `vulkaninfo --summary` says what is installed");
#define GIRIH_LOAD(name) name = reinterpret_cast<PFN_vk##name>(GetInstanceProcAddr(instance, "vk" #name));
  GIRIH_VULKAN_INSTANCE_FUNCTIONS(GIRIH_LOAD)
#undef GIRIH_LOAD
  return {};
}

Status Driver::listDevices() {
  uint32_t count = 0;
  GIRIH_TRY(statusOf(EnumeratePhysicalDevices(instance, &count, nullptr), "listing devices"));
  std::vector<VkPhysicalDevice> all(count);
  GIRIH_TRY(statusOf(EnumeratePhysicalDevices(instance, &count, all.data()), "listing devices"));
  for (VkPhysicalDevice device : all) {
    DeviceProperties properties = propertiesOf(device);
    if (!properties.shortcoming.empty()) {
      reasons += (reasons.empty() ? "" : "; ") + properties.name + " " + properties.shortcoming;
      continue;
    }
    found.push_back(std::move(properties));
    handles.push_back(device);
  }
  if (all.empty())
    reasons = "no driver lists a device";
  return {};
}

DeviceProperties Driver::propertiesOf(VkPhysicalDevice device) const {
  DeviceProperties properties;
  VkPhysicalDeviceMaintenance3Properties allocation = {};
  allocation.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_MAINTENANCE_3_PROPERTIES;
  VkPhysicalDeviceSubgroupProperties subgroups = {};
  subgroups.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_SUBGROUP_PROPERTIES;
  allocation.pNext = &subgroups;
  VkPhysicalDeviceProperties2 all = {};
  all.sType = VK_STRUCTURE_TYPE_PHYSICAL_DEVICE_PROPERTIES_2;
  all.pNext = &allocation;
  GetPhysicalDeviceProperties2(device, &all);
  const VkPhysicalDeviceLimits &limits = all.properties.limits;
  properties.name = all.properties.deviceName;
  properties.type = all.properties.deviceType;
  auto addFeature = [&](const std::string &name) { properties.features += (properties.features.empty() ? "" : ",") + name; };
  if (properties.type == VK_PHYSICAL_DEVICE_TYPE_CPU)
    addFeature("software");
  else
    addFeature(properties.type == VK_PHYSICAL_DEVICE_TYPE_DISCRETE_GPU ? "discrete" : "integrated");
  for (uint32_t kibibytes : {32u, 48u})
    if (limits.maxComputeSharedMemorySize >= kibibytes << 10)
      addFeature("shared_" + std::to_string(kibibytes) + "k");
  bool broadcasts = (subgroups.supportedStages & VK_SHADER_STAGE_COMPUTE_BIT) &&
                    (subgroups.supportedOperations & VK_SUBGROUP_FEATURE_BALLOT_BIT);
  if (broadcasts)
    addFeature("subgroup_" + std::to_string(subgroups.subgroupSize));
  properties.maxBufferBytes =
      std::min<uint64_t>(limits.maxStorageBufferRange, allocation.maxMemoryAllocationSize);
  properties.maxTexelBytes = std::min<uint64_t>(uint64_t{limits.maxTexelBufferElements} * kTexelBytes,
                                                allocation.maxMemoryAllocationSize);
  // Then every binding's texels reach as far as it does.
  if (properties.maxTexelBytes >= properties.maxBufferBytes)
    addFeature("texels");
  properties.offsetAlignment =
      std::max<uint64_t>({64, limits.minStorageBufferOffsetAlignment, limits.minTexelBufferOffsetAlignment});
  VkPhysicalDeviceMemoryProperties memory;
  GetPhysicalDeviceMemoryProperties(device, &memory);
  for (uint32_t heap = 0; heap < memory.memoryHeapCount; ++heap)
    if (memory.memoryHeaps[heap].flags & VK_MEMORY_HEAP_DEVICE_LOCAL_BIT)
      properties.memoryBytes = std::max<uint64_t>(properties.memoryBytes, memory.memoryHeaps[heap].size);
  uint32_t count = 0;
  GetPhysicalDeviceQueueFamilyProperties(device, &count, nullptr);
  std::vector<VkQueueFamilyProperties> families(count);
  GetPhysicalDeviceQueueFamilyProperties(device, &count, families.data());
  auto computes = [](const VkQueueFamilyProperties &family) {
    return (family.queueFlags & VK_QUEUE_COMPUTE_BIT) != 0;
  };
  auto family = std::find_if(families.begin(), families.end(), computes);
  if (family == families.end())
    properties.shortcoming = "has no compute queue";
  else if (all.properties.apiVersion < kLeastVersion)
    properties.shortcoming = "speaks Vulkan 1.0 only";
  else if (limits.maxPerStageDescriptorStorageBuffers < kNumBindings)
    properties.shortcoming = "binds " + std::to_string(limits.maxPerStageDescriptorStorageBuffers) +
                             " buffers to a shader; " + std::to_string(kNumBindings) + " are needed";
  else if (limits.maxComputeWorkGroupInvocations < kLeastInvocations)
    properties.shortcoming =
        "has workgroups of " + std::to_string(limits.maxComputeWorkGroupInvocations) + " at most";
  else {
    properties.queueFamily = static_cast<uint32_t>(family - families.begin());
    properties.nanosecondsPerTick = family->timestampValidBits > 0 ? double(limits.timestampPeriod) : 0;
  }
  return properties;
}

Driver::~Driver() {
  if (instance)
    DestroyInstance(instance, nullptr);
}

} // namespace girih::vulkan
