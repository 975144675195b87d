// SPDX-License-Identifier: Apache-2.0
// LoadedImage: an image's pipelines, and its entries as recorded command lists.
#pragma once

#include "backends/vulkan/device/image_reader.h"
#include "backends/vulkan/device/logical_device.h"
#include "runtime/abi/step.h"

#include <array>
#include <map>

namespace girih::vulkan {

// The four buffers of a step; a null one is absent.
struct StepBuffers {
  struct Part {
    const DeviceBuffer *buffer;
    uint64_t offsetBytes, sizeBytes;
    bool operator==(const Part &) const = default;
  };
  Part weights, kvPool, arena, logits;
  bool operator==(const StepBuffers &) const = default;
};

// When each dispatch of a step ended, in nanoseconds since it began.
struct DispatchTimes {
  int64_t *nanoseconds;
  uint64_t capacity, numDispatches;
};

// Thread-compatible, as its opened, which outlives it. A step's commands are recorded when it first runs with its
// buffers; from then on a step costs a copy of its arguments and a submission.
class LoadedImage {
public:
  static Expected<std::unique_ptr<LoadedImage>> load(LogicalDevice &opened, Image image);
  ~LoadedImage();
  LoadedImage(const LoadedImage &) = delete;
  LoadedImage &operator=(const LoadedImage &) = delete;

  // The number of the entry with this name, or -1.
  int64_t find(const std::string &name) const;
  // Starts a step; with `times`, runs it to its end. Fails: InvalidArgument, OutOfRange, or as the device does.
  Status start(uint64_t entry, const girih_step_args &args, const StepBuffers &buffers, DispatchTimes *times);

private:
  LoadedImage(LogicalDevice &opened, Image image) : opened(opened), image(std::move(image)) {}
  Status createLayouts();
  Status createPipelines();
  Status fillStep(const ImageEntry &entry, const girih_step_args &args);
  Status growStep(uint64_t numWords);
  // Forgets descriptors and recordings of other buffers than these.
  Status describe(const StepBuffers &buffers);
  // Where the windows of a dispatch's weights begin; unused ones are 0.
  using Windows = std::array<uint64_t, kMaxWeights>;
  Expected<VkDescriptorSet> setFor(const StepBuffers &buffers, const Windows &windows);
  Expected<VkBufferView> viewOf(const StepBuffers::Part &part);
  void dropViews();
  Expected<VkCommandBuffer> record(const ImageEntry &entry, const StepBuffers &buffers, VkQueryPool queries);
  Status recordDispatch(VkCommandBuffer list, const ImageEntry &entry, const ImageDispatch &dispatch,
                        const StepBuffers &buffers);
  Status runTimed(const ImageEntry &entry, const StepBuffers &buffers, DispatchTimes &times);
  uint64_t weightWindow(const StepBuffers &buffers) const;
  // Where the window that the weight is read through begins. Fails: OutOfRange, Unimplemented (it is too large).
  Expected<uint64_t> windowOf(const WeightRange &weight, const StepBuffers &buffers) const;

  LogicalDevice &opened;
  const Image image;
  VkDescriptorSetLayout setLayout = VK_NULL_HANDLE;
  VkPipelineLayout pipelineLayout = VK_NULL_HANDLE;
  VkDescriptorPool descriptors = VK_NULL_HANDLE;
  // By windows of texels; without texels there is one set, whose windows are dynamic offsets.
  std::map<Windows, VkDescriptorSet> sets;
  std::vector<VkBufferView> views;
  std::vector<VkPipeline> pipelines;
  DeviceBuffer step, absent;
  std::vector<uint32_t> words; // of a step buffer that the host cannot see
  StepBuffers described = {};
  VkBuffer describedStep = VK_NULL_HANDLE;
  std::map<uint64_t, VkCommandBuffer> recordings; // by entry, with the described buffers
};

} // namespace girih::vulkan
