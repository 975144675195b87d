// SPDX-License-Identifier: Apache-2.0
// Makes pipelines of shaders, records an entry's dispatches once, and hands a step its arguments in one buffer.
#include "backends/vulkan/device/executable.h"

#include "runtime/abi/step.h"

#include <algorithm>
#include <cstring>

namespace girih::vulkan {
namespace {

constexpr uint32_t kMaxSets =
    64; // windows of weights beyond what one texel buffer reaches, and what goes with them

VkDescriptorType typeOf(uint32_t binding, bool readsTexels) {
  if (binding >= kTexelBinding)
    return VK_DESCRIPTOR_TYPE_UNIFORM_TEXEL_BUFFER;
  return binding < kWeightBinding || readsTexels ? VK_DESCRIPTOR_TYPE_STORAGE_BUFFER
                                                 : VK_DESCRIPTOR_TYPE_STORAGE_BUFFER_DYNAMIC;
}

// One barrier for everything: dispatches read what any earlier one wrote.
void orderDispatches(const DeviceFunctions &vk, VkCommandBuffer list) {
  VkMemoryBarrier barrier = {VK_STRUCTURE_TYPE_MEMORY_BARRIER, nullptr, VK_ACCESS_SHADER_WRITE_BIT,
                             VK_ACCESS_SHADER_READ_BIT | VK_ACCESS_SHADER_WRITE_BIT};
  vk.CmdPipelineBarrier(list, VK_PIPELINE_STAGE_COMPUTE_SHADER_BIT, VK_PIPELINE_STAGE_COMPUTE_SHADER_BIT, 0,
                        1, &barrier, 0, nullptr, 0, nullptr);
}

} // namespace

Expected<std::unique_ptr<LoadedImage>> LoadedImage::load(LogicalDevice &opened, Image image) {
  std::unique_ptr<LoadedImage> loaded(new LoadedImage(opened, std::move(image)));
  GIRIH_TRY(loaded->createLayouts());
  GIRIH_TRY(loaded->createPipelines());
  GIRIH_ASSIGN(loaded->absent, opened.allocate(64));
  return loaded;
}

LoadedImage::~LoadedImage() {
  const DeviceFunctions &vk = opened.vk();
  (void)opened.waitForAll().isOk();
  for (auto &[number, recording] : recordings)
    vk.FreeCommandBuffers(opened.device(), opened.commandPool(), 1, &recording);
  for (VkPipeline pipeline : pipelines)
    vk.DestroyPipeline(opened.device(), pipeline, nullptr);
  dropViews();
  vk.DestroyDescriptorPool(opened.device(), descriptors, nullptr);
  vk.DestroyPipelineLayout(opened.device(), pipelineLayout, nullptr);
  vk.DestroyDescriptorSetLayout(opened.device(), setLayout, nullptr);
  opened.free(step);
  opened.free(absent);
}

int64_t LoadedImage::find(const std::string &name) const {
  for (size_t index = 0; index < image.entries.size(); ++index)
    if (image.entries[index].name == name)
      return static_cast<int64_t>(index);
  return -1;
}

// ---- Once ----
Status LoadedImage::createLayouts() {
  const DeviceFunctions &vk = opened.vk();
  const uint32_t numBindings = image.readsTexels ? 2 * kNumBindings : kNumBindings;
  VkDescriptorSetLayoutBinding bindings[2 * kNumBindings] = {};
  for (uint32_t binding = 0; binding < numBindings; ++binding)
    bindings[binding] = {binding, typeOf(binding, image.readsTexels), 1, VK_SHADER_STAGE_COMPUTE_BIT,
                         nullptr};
  VkDescriptorSetLayoutCreateInfo setInfo = {};
  setInfo.sType = VK_STRUCTURE_TYPE_DESCRIPTOR_SET_LAYOUT_CREATE_INFO;
  setInfo.bindingCount = numBindings;
  setInfo.pBindings = bindings;
  GIRIH_TRY(
      statusOf(vk.CreateDescriptorSetLayout(opened.device(), &setInfo, nullptr, &setLayout), "a set layout"));
  VkPushConstantRange range = {VK_SHADER_STAGE_COMPUTE_BIT, 0, kMaxPushWords * 4};
  VkPipelineLayoutCreateInfo layoutInfo = {};
  layoutInfo.sType = VK_STRUCTURE_TYPE_PIPELINE_LAYOUT_CREATE_INFO;
  layoutInfo.setLayoutCount = 1;
  layoutInfo.pSetLayouts = &setLayout;
  layoutInfo.pushConstantRangeCount = 1;
  layoutInfo.pPushConstantRanges = &range;
  GIRIH_TRY(
      statusOf(vk.CreatePipelineLayout(opened.device(), &layoutInfo, nullptr, &pipelineLayout), "a layout"));
  const uint32_t numSets = image.readsTexels ? kMaxSets : 1;
  VkDescriptorPoolSize sizes[] = {{VK_DESCRIPTOR_TYPE_STORAGE_BUFFER, numSets * kNumBindings},
                                  {image.readsTexels ? VK_DESCRIPTOR_TYPE_UNIFORM_TEXEL_BUFFER
                                                     : VK_DESCRIPTOR_TYPE_STORAGE_BUFFER_DYNAMIC,
                                   numSets * kNumBindings}};
  VkDescriptorPoolCreateInfo poolInfo = {};
  poolInfo.sType = VK_STRUCTURE_TYPE_DESCRIPTOR_POOL_CREATE_INFO;
  poolInfo.maxSets = numSets;
  poolInfo.poolSizeCount = 2;
  poolInfo.pPoolSizes = sizes;
  return statusOf(vk.CreateDescriptorPool(opened.device(), &poolInfo, nullptr, &descriptors),
                  "a descriptor pool");
}

Status LoadedImage::createPipelines() {
  const DeviceFunctions &vk = opened.vk();
  for (const ImageKernel &kernel : image.kernels) {
    VkShaderModuleCreateInfo moduleInfo = {};
    moduleInfo.sType = VK_STRUCTURE_TYPE_SHADER_MODULE_CREATE_INFO;
    moduleInfo.codeSize = kernel.spirv.size() * 4;
    moduleInfo.pCode = kernel.spirv.data();
    VkShaderModule module = VK_NULL_HANDLE;
    GIRIH_TRY(statusOf(vk.CreateShaderModule(opened.device(), &moduleInfo, nullptr, &module),
                       "shader " + kernel.name));
    VkComputePipelineCreateInfo info = {};
    info.sType = VK_STRUCTURE_TYPE_COMPUTE_PIPELINE_CREATE_INFO;
    info.stage.sType = VK_STRUCTURE_TYPE_PIPELINE_SHADER_STAGE_CREATE_INFO;
    info.stage.stage = VK_SHADER_STAGE_COMPUTE_BIT;
    info.stage.module = module;
    info.stage.pName = "main";
    info.layout = pipelineLayout;
    info.basePipelineIndex = -1;
    VkPipeline pipeline = VK_NULL_HANDLE;
    VkResult result =
        vk.CreateComputePipelines(opened.device(), VK_NULL_HANDLE, 1, &info, nullptr, &pipeline);
    vk.DestroyShaderModule(opened.device(), module, nullptr);
    GIRIH_TRY(statusOf(result, "compiling shader " + kernel.name));
    pipelines.push_back(pipeline);
  }
  return {};
}

// ---- A step's arguments ----
Status LoadedImage::growStep(uint64_t numWords) {
  if (step.buffer && step.sizeBytes >= numWords * 4)
    return {};
  GIRIH_TRY(opened.waitForAll());
  opened.free(step);
  step = {};
  describedStep = VK_NULL_HANDLE; // the next one may have the same handle
  GIRIH_ASSIGN(step, opened.allocate(std::max<uint64_t>(numWords * 4 * 2, 1 << 16)));
  words.resize(step.mapped ? 0 : step.sizeBytes / 4);
  return {};
}

Status LoadedImage::fillStep(const ImageEntry &entry, const girih_step_args &args) {
  const StepLayout layout = entry.layout();
  int64_t most = entry.maxTokens;
  if (args.num_tokens < 1 || args.num_tokens > most || args.num_sequences < 0 ||
      args.num_sequences > args.num_tokens || args.num_logit_rows < 0 || args.num_logit_rows > most ||
      args.block_table_stride < 0)
    return invalidArgument("a step of " + std::to_string(args.num_tokens) + " tokens, " +
                           std::to_string(args.num_sequences) + " sequences and " +
                           std::to_string(args.num_logit_rows) + " rows of logits is beyond entry \"" +
                           entry.name + "\", which takes " + std::to_string(most));
  uint64_t tableWords =
      static_cast<uint64_t>(args.num_sequences) * static_cast<uint64_t>(args.block_table_stride);
  uint64_t numWords = layout.blockTables() + tableWords;
  GIRIH_TRY(growStep(numWords));
  GIRIH_TRY(opened.waitForAll()); // the step before still reads its arguments
  uint32_t *to = step.mapped ? reinterpret_cast<uint32_t *>(step.mapped) : words.data();
  int64_t extents[kNumExtents] = {args.num_tokens, args.num_logit_rows, 0, args.block_table_stride};
  for (int64_t sequence = 0; sequence < args.num_sequences && args.context_lengths; ++sequence)
    extents[kLongestContext] = std::max<int64_t>(extents[kLongestContext], args.context_lengths[sequence]);
  for (uint32_t extent = 0; extent < kNumExtents; ++extent)
    to[extent] = static_cast<uint32_t>(extents[extent]);
  uint32_t *groups = to + layout.grids();
  for (const auto &grid : entry.grids)
    for (const GridExpression &expression : grid) {
      int64_t number = evaluate(expression, extents);
      if (number < 0 || number > static_cast<int64_t>(kMaxGroups))
        return outOfRange("a dispatch of \"" + entry.name + "\" would have " + std::to_string(number) +
                          " workgroups; " + std::to_string(kMaxGroups) +
                          " is the most: compile for fewer tokens a step");
      *groups++ = static_cast<uint32_t>(number);
    }
  auto put = [&](uint32_t at, const int32_t *from, int64_t count) {
    if (from && count > 0)
      std::memcpy(to + at, from, static_cast<size_t>(count) * 4);
  };
  put(layout.tokens(), args.tokens, args.num_tokens);
  put(layout.positions(), args.positions, args.num_tokens);
  put(layout.tokenSequences(), args.token_sequences, args.num_tokens);
  put(layout.kvSlots(), args.kv_slots, args.num_tokens);
  put(layout.sequenceStarts(), args.sequence_starts, args.num_sequences + 1);
  put(layout.contextLengths(), args.context_lengths, args.num_sequences);
  put(layout.logitRows(), args.logit_rows, args.num_logit_rows);
  put(layout.blockTables(), args.block_tables, static_cast<int64_t>(tableWords));
  return step.mapped ? Status() : opened.write(step, 0, words.data(), numWords * 4);
}

// ---- Commands ----
uint64_t LoadedImage::weightWindow(const StepBuffers &buffers) const {
  const DeviceProperties &has = opened.properties();
  return std::min(buffers.weights.sizeBytes, image.readsTexels ? has.maxTexelBytes : has.maxBufferBytes);
}

Expected<uint64_t> LoadedImage::windowOf(const WeightRange &weight, const StepBuffers &buffers) const {
  uint64_t window = weightWindow(buffers), all = buffers.weights.sizeBytes,
           alignment = opened.properties().offsetAlignment;
  if (weight.numBytes > all || weight.offsetBytes > all - weight.numBytes)
    return outOfRange("a dispatch reads weights at byte " + std::to_string(weight.offsetBytes) +
                      "; there are " + std::to_string(all));
  if (window == all)
    return uint64_t{0}; // everything at once
  // From the weight on, but never beyond the end; or, since each window of texels takes a set of its own, one of few.
  uint64_t grain = image.readsTexels ? window / 2 : 1;
  uint64_t base = std::min(weight.offsetBytes / grain * grain, all - window) / alignment * alignment;
  if (weight.offsetBytes + weight.numBytes > base + window)
    return unimplemented("a weight of " + std::to_string(weight.numBytes) + " bytes is larger than the " +
                         std::to_string(image.readsTexels ? grain : window) + " that " +
                         opened.properties().name + " binds at once");
  return base;
}

void LoadedImage::dropViews() {
  for (VkBufferView view : views)
    opened.vk().DestroyBufferView(opened.device(), view, nullptr);
  views.clear();
}

Expected<VkBufferView> LoadedImage::viewOf(const StepBuffers::Part &part) {
  VkBufferViewCreateInfo info = {};
  info.sType = VK_STRUCTURE_TYPE_BUFFER_VIEW_CREATE_INFO;
  info.buffer = part.buffer->buffer;
  info.format = VK_FORMAT_R32G32B32A32_UINT;
  info.offset = part.offsetBytes;
  // Whole texels: the buffer goes on to the next of them (LogicalDevice::allocate).
  info.range = std::min((part.sizeBytes + kTexelBytes - 1) / kTexelBytes * kTexelBytes,
                        opened.properties().maxTexelBytes / kTexelBytes * kTexelBytes);
  VkBufferView view = VK_NULL_HANDLE;
  GIRIH_TRY(
      statusOf(opened.vk().CreateBufferView(opened.device(), &info, nullptr, &view), "a view of a buffer"));
  views.push_back(view);
  return view;
}

Status LoadedImage::describe(const StepBuffers &buffers) {
  if (described == buffers && describedStep == step.buffer)
    return {};
  // Lists that were recorded with other contents of the sets may not run again.
  for (auto &[number, recording] : recordings)
    opened.vk().FreeCommandBuffers(opened.device(), opened.commandPool(), 1, &recording);
  recordings.clear();
  sets.clear();
  dropViews();
  GIRIH_TRY(statusOf(opened.vk().ResetDescriptorPool(opened.device(), descriptors, 0),
                     "emptying a descriptor pool"));
  described = buffers;
  describedStep = step.buffer;
  return {};
}

Expected<VkDescriptorSet> LoadedImage::setFor(const StepBuffers &buffers, const Windows &windows) {
  if (auto known = sets.find(windows); known != sets.end())
    return known->second;
  if (sets.size() >= (image.readsTexels ? kMaxSets : 1))
    return unimplemented("the weights take more than " + std::to_string(kMaxSets) + " descriptor sets: " +
                         opened.properties().name + " reaches too little of them at once");
  VkDescriptorSetAllocateInfo allocateInfo = {};
  allocateInfo.sType = VK_STRUCTURE_TYPE_DESCRIPTOR_SET_ALLOCATE_INFO;
  allocateInfo.descriptorPool = descriptors;
  allocateInfo.descriptorSetCount = 1;
  allocateInfo.pSetLayouts = &setLayout;
  VkDescriptorSet set = VK_NULL_HANDLE;
  GIRIH_TRY(
      statusOf(opened.vk().AllocateDescriptorSets(opened.device(), &allocateInfo, &set), "a descriptor set"));
  const StepBuffers::Part whole = {&step, 0, step.sizeBytes}, nothing = {&absent, 0, absent.sizeBytes};
  const uint32_t numBindings = image.readsTexels ? 2 * kNumBindings : kNumBindings;
  VkDescriptorBufferInfo infos[2 * kNumBindings];
  VkBufferView texels[2 * kNumBindings];
  VkWriteDescriptorSet writes[2 * kNumBindings] = {};
  for (uint32_t binding = 0; binding < numBindings; ++binding) {
    uint32_t buffer = binding % kTexelBinding;
    const StepBuffers::Part fixed[kWeightBinding] = {buffers.kvPool, buffers.arena, buffers.logits, whole};
    StepBuffers::Part part = buffer < kWeightBinding ? fixed[buffer] : buffers.weights;
    if (buffer >= kWeightBinding) {
      part.offsetBytes += windows[buffer - kWeightBinding];
      part.sizeBytes = weightWindow(buffers);
      // Where weights are texels no shader has them as a storage buffer, which might reach less far.
      if (image.readsTexels && binding < kTexelBinding)
        part = nothing;
    }
    if (!part.buffer || part.sizeBytes == 0)
      part = nothing;
    writes[binding].sType = VK_STRUCTURE_TYPE_WRITE_DESCRIPTOR_SET;
    writes[binding].dstSet = set;
    writes[binding].dstBinding = binding;
    writes[binding].descriptorCount = 1;
    writes[binding].descriptorType = typeOf(binding, image.readsTexels);
    infos[binding] = {part.buffer->buffer, part.offsetBytes, part.sizeBytes};
    writes[binding].pBufferInfo = &infos[binding];
    if (binding >= kTexelBinding) {
      GIRIH_ASSIGN(texels[binding], viewOf(part));
      writes[binding].pTexelBufferView = &texels[binding];
    }
  }
  opened.vk().UpdateDescriptorSets(opened.device(), numBindings, writes, 0, nullptr);
  return sets[windows] = set;
}

Status LoadedImage::recordDispatch(VkCommandBuffer list, const ImageEntry &entry,
                                   const ImageDispatch &dispatch, const StepBuffers &buffers) {
  const DeviceFunctions &vk = opened.vk();
  uint32_t offsets[kMaxWeights] = {}, constants[kMaxPushWords] = {};
  uint32_t numWeights = 0, numConstants = kMaxWeights;
  Windows windows = {};
  for (const WeightRange &weight : dispatch.weights) {
    GIRIH_ASSIGN(uint64_t base, windowOf(weight, buffers));
    if (image.readsTexels)
      windows[numWeights] = base;
    else
      offsets[numWeights] = static_cast<uint32_t>(base);
    constants[numWeights++] = static_cast<uint32_t>((weight.offsetBytes - base) / 4);
  }
  GIRIH_ASSIGN(VkDescriptorSet set, setFor(buffers, windows));
  for (uint32_t word : dispatch.pushWords)
    constants[numConstants++] = word;
  vk.CmdBindPipeline(list, VK_PIPELINE_BIND_POINT_COMPUTE, pipelines[dispatch.kernel]);
  vk.CmdBindDescriptorSets(list, VK_PIPELINE_BIND_POINT_COMPUTE, pipelineLayout, 0, 1, &set,
                           image.readsTexels ? 0 : kMaxWeights, offsets);
  vk.CmdPushConstants(list, pipelineLayout, VK_SHADER_STAGE_COMPUTE_BIT, 0, numConstants * 4, constants);
  vk.CmdDispatchIndirect(list, step.buffer, (entry.layout().grids() + 3 * uint64_t{dispatch.grid}) * 4);
  return {};
}

Expected<VkCommandBuffer> LoadedImage::record(const ImageEntry &entry, const StepBuffers &buffers,
                                              VkQueryPool queries) {
  const DeviceFunctions &vk = opened.vk();
  GIRIH_ASSIGN(VkCommandBuffer list, opened.begin());
  uint32_t number = 0;
  Status status;
  if (queries) {
    vk.CmdResetQueryPool(list, queries, 0, static_cast<uint32_t>(entry.dispatches.size()) + 1);
    vk.CmdWriteTimestamp(list, VK_PIPELINE_STAGE_TOP_OF_PIPE_BIT, queries, number++);
  }
  for (const ImageDispatch &dispatch : entry.dispatches) {
    if (status.isOk())
      status = recordDispatch(list, entry, dispatch, buffers);
    orderDispatches(vk, list);
    if (queries)
      vk.CmdWriteTimestamp(list, VK_PIPELINE_STAGE_BOTTOM_OF_PIPE_BIT, queries, number++);
  }
  Status ended = opened.end(list);
  if (status.isOk())
    status = std::move(ended);
  if (!status.isOk()) {
    vk.FreeCommandBuffers(opened.device(), opened.commandPool(), 1, &list);
    return status;
  }
  return list;
}

Status LoadedImage::runTimed(const ImageEntry &entry, const StepBuffers &buffers, DispatchTimes &times) {
  const DeviceFunctions &vk = opened.vk();
  uint32_t count = static_cast<uint32_t>(entry.dispatches.size()) + 1;
  VkQueryPoolCreateInfo info = {};
  info.sType = VK_STRUCTURE_TYPE_QUERY_POOL_CREATE_INFO;
  info.queryType = VK_QUERY_TYPE_TIMESTAMP;
  info.queryCount = count;
  VkQueryPool queries = VK_NULL_HANDLE;
  GIRIH_TRY(statusOf(vk.CreateQueryPool(opened.device(), &info, nullptr, &queries), "a query pool"));
  auto list = record(entry, buffers, queries);
  Status status =
      list.isOk() ? opened.submit(*list) : Status(list.status().code(), std::string(list.status().message()));
  if (status.isOk())
    status = opened.waitForAll();
  std::vector<uint64_t> ticks(count);
  if (status.isOk())
    status = statusOf(vk.GetQueryPoolResults(opened.device(), queries, 0, count, count * 8, ticks.data(), 8,
                                             VK_QUERY_RESULT_64_BIT | VK_QUERY_RESULT_WAIT_BIT),
                      "reading times");
  if (list.isOk())
    vk.FreeCommandBuffers(opened.device(), opened.commandPool(), 1, &*list);
  vk.DestroyQueryPool(opened.device(), queries, nullptr);
  GIRIH_TRY(std::move(status));
  times.numDispatches = count - 1;
  for (uint64_t index = 0; index + 1 < count && index < times.capacity; ++index)
    times.nanoseconds[index] =
        static_cast<int64_t>(double(ticks[index + 1] - ticks[0]) * opened.properties().nanosecondsPerTick);
  return {};
}

Status LoadedImage::start(uint64_t number, const girih_step_args &args, const StepBuffers &buffers,
                          DispatchTimes *times) {
  const ImageEntry &entry = image.entries[number];
  if (image.arenaBytes > buffers.arena.sizeBytes)
    return invalidArgument("the arena has " + std::to_string(buffers.arena.sizeBytes) +
                           " bytes; the image needs " + std::to_string(image.arenaBytes));
  GIRIH_TRY(fillStep(entry, args));
  GIRIH_TRY(describe(buffers));
  if (times && opened.properties().nanosecondsPerTick > 0)
    return runTimed(entry, buffers, *times);
  VkCommandBuffer &recording = recordings[number];
  if (!recording) {
    auto list = record(entry, buffers, VK_NULL_HANDLE);
    if (!list.isOk()) {
      recordings.erase(number);
      return std::move(list).status();
    }
    recording = *list;
  }
  return opened.submit(recording);
}

} // namespace girih::vulkan
