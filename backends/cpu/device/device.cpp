// SPDX-License-Identifier: Apache-2.0
// The run table of the CPU: memory is the host's, a submission is one step run by the team to its end.
#include "backends/cpu/device/executable.h"
#include "backends/cpu/device/features.h"
#include "backends/cpu/device/processors.h"
#include "backends/cpu/device/team.h"
#include "backends/cpu/device/topology.h"
#include "runtime/abi/backend.h"

#include <chrono>
#include <cstddef>
#include <cstring>
#include <new>
#include <sys/mman.h>
#include <unistd.h>

struct girih_device {
  std::unique_ptr<girih::cpu::Team> team;
  std::vector<girih::cpu::MemoryNode> nodes;
  std::vector<int32_t> memberNodes; // the id of each member's node
  uint64_t numSubmissions = 0;
};

struct girih_buffer {
  uint8_t *bytes = nullptr;
  uint64_t sizeBytes = 0;
  bool isOwned = false; // false: imported, read only
};

struct girih_executable {
  girih::cpu::LoadedImage image;
  std::vector<girih_step_fn> entries;
};

namespace girih::cpu {
namespace {

constexpr uint64_t kAlignmentBytes = 4096; // what mmap gives
constexpr uint64_t kHugePageBytes = uint64_t{2} << 20;
constexpr uint64_t kSpreadBytes = uint64_t{64} << 20; // arenas are smaller: their threads touch what is theirs first
constexpr int64_t kMostThreads = 1024;

girih_code report(const Status &status, girih_message *message) {
  if (message && message->capacity_bytes > 0) {
    size_t numBytes = std::min<size_t>(status.message().size(), message->capacity_bytes - 1);
    std::memcpy(message->text, status.message().data(), numBytes);
    message->text[numBytes] = 0;
  }
  return static_cast<girih_code>(status.code());
}

// Where a view lies; null when it leaves its buffer.
uint8_t *resolve(const girih_buffer_view *view) {
  if (!view || !view->buffer || view->offset_bytes > view->buffer->sizeBytes ||
      view->size_bytes > view->buffer->sizeBytes - view->offset_bytes)
    return nullptr;
  return view->buffer->bytes + view->offset_bytes;
}

girih_code outsideOfBuffer(girih_message *message) {
  return report(outOfRange("a view lies outside of its buffer; check offset and size"), message);
}

girih_code deviceCount(uint64_t *count, girih_message *) {
  *count = 1;
  return 0;
}

girih_code deviceInfo(uint64_t index, girih_device_info *info, girih_message *message) {
  if (index != 0)
    return report(outOfRange("there is one CPU device, number 0; " + std::to_string(index) + " is asked for"),
                  message);
  // Made once: the strings must live as long as the backend.
  static const std::string name = processorName();
  static const std::string features = [] {
    std::string joined;
    for (const std::string &feature : grantedFeatures())
      joined += (joined.empty() ? "" : ",") + feature;
    return joined;
  }();
  static const std::string notes = tileRefusal();
  girih_device_info filled = {};
  filled.struct_size = std::min<uint64_t>(info->struct_size, sizeof filled);
  filled.name = name.c_str();
  filled.features = features.c_str();
  filled.flags = GIRIH_DEVICE_HOST_MEMORY | GIRIH_DEVICE_HOST_PROCESSORS;
  filled.memory_bytes =
      static_cast<uint64_t>(::sysconf(_SC_PHYS_PAGES)) * static_cast<uint64_t>(::sysconf(_SC_PAGESIZE));
  filled.alignment_bytes = kAlignmentBytes;
  filled.default_threads = defaultThreads();
  filled.formats = LoadedImage::format();
  filled.notes = notes.c_str();
  std::memcpy(info, &filled, filled.struct_size);
  return 0;
}

girih_code openDevice(uint64_t index, const girih_device_options *options, girih_device **device,
                      girih_message *message) {
  if (index != 0)
    return report(outOfRange("there is one CPU device, number 0; " + std::to_string(index) + " is asked for"),
                  message);
  int64_t numThreads = options && options->num_threads != 0 ? options->num_threads : defaultThreads();
  if (numThreads < 1 || numThreads > kMostThreads)
    return report(invalidArgument(std::to_string(numThreads) + " threads are asked for; from 1 to " +
                                  std::to_string(kMostThreads) +
                                  " are possible, 0 takes what the machine grants"),
                  message);
  std::vector<MemoryNode> nodes = memoryNodes(allowedProcessors());
  TeamPlan plan = planTeam(nodes, numThreads);
  auto team = Team::create(numThreads, plan.processors);
  if (!team)
    return report(resourceExhausted("the system starts no more threads (" + std::to_string(numThreads) +
                                    " are asked for); use fewer, or raise the limit of processes"),
                  message);
  *device = new girih_device{std::move(team), std::move(nodes), std::move(plan.nodes)};
  return 0;
}

void closeDevice(girih_device *device) { delete device; }

girih_code allocate(girih_device *device, uint64_t sizeBytes, girih_buffer **buffer, girih_message *message) {
  uint64_t mappedBytes = std::max<uint64_t>(sizeBytes, 1);
  void *bytes = ::mmap(nullptr, mappedBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (bytes == MAP_FAILED)
    return report(resourceExhausted("no memory for a buffer of " + std::to_string(sizeBytes) +
                                    " bytes; lower the context or the KV pool's size"),
                  message);
  // A KV pool is read in long strides: fewer, larger pages save misses of the translation cache.
  if (sizeBytes >= kHugePageBytes)
    ::madvise(bytes, mappedBytes, MADV_HUGEPAGE);
  // Any thread may read any block of a KV pool: all nodes' memory shall serve it.
  if (sizeBytes >= kSpreadBytes && device->nodes.size() > 1)
    spreadOverNodes(reinterpret_cast<uintptr_t>(bytes), reinterpret_cast<uintptr_t>(bytes) + mappedBytes, device->nodes);
  *buffer = new girih_buffer{static_cast<uint8_t *>(bytes), sizeBytes, true};
  return 0;
}

void freeBuffer(girih_device *, girih_buffer *buffer) {
  if (buffer->isOwned)
    ::munmap(buffer->bytes, std::max<uint64_t>(buffer->sizeBytes, 1));
  delete buffer;
}

girih_code writeBuffer(girih_device *, const girih_buffer_view *to, const void *from,
                       girih_message *message) {
  uint8_t *bytes = resolve(to);
  if (!bytes)
    return outsideOfBuffer(message);
  if (!to->buffer->isOwned)
    return report(failedPrecondition("an imported buffer is read only"), message);
  std::memcpy(bytes, from, to->size_bytes);
  return 0;
}

girih_code readBuffer(girih_device *, const girih_buffer_view *from, void *to, girih_message *message) {
  const uint8_t *bytes = resolve(from);
  if (!bytes)
    return outsideOfBuffer(message);
  std::memcpy(to, bytes, from->size_bytes);
  return 0;
}

girih_code copyBuffer(girih_device *device, const girih_buffer_view *to, const girih_buffer_view *from,
                      girih_message *message) {
  const uint8_t *bytes = resolve(from);
  if (!bytes || !to || to->size_bytes != from->size_bytes)
    return outsideOfBuffer(message);
  return writeBuffer(device, to, bytes, message);
}

girih_code loadExecutable(girih_device *, const girih_image *image, girih_executable **executable,
                          girih_message *message) {
  if (std::strcmp(image->format, LoadedImage::format()) != 0)
    return report(unimplemented("the executable has format \"" + std::string(image->format) +
                                "\"; this device runs \"" + LoadedImage::format() + "\""),
                  message);
  Expected<LoadedImage> loaded = LoadedImage::load({image->bytes, image->size_bytes});
  if (!loaded.isOk())
    return report(loaded.status(), message);
  auto result = std::make_unique<girih_executable>();
  for (uint64_t index = 0; index < image->num_entries; ++index) {
    Expected<girih_step_fn> entry = loaded->find(image->entry_symbols[index]);
    if (!entry.isOk())
      return report(entry.status(), message);
    result->entries.push_back(*entry);
  }
  result->image = std::move(*loaded);
  *executable = result.release();
  return 0;
}

void unloadExecutable(girih_device *, girih_executable *executable) { delete executable; }

struct StepCall {
  girih_step_fn entry;
  girih_step_args args;
};

// Stands in for the team in the arguments of a step that is timed, so that one that is not pays nothing.
struct TimedTeam {
  Team *team;
  girih_step_times *times;
  std::chrono::steady_clock::time_point begin;

  static void barrier(void *timed, int64_t memberIndex) {
    auto &self = *static_cast<TimedTeam *>(timed);
    Team::barrier(self.team, memberIndex);
    if (memberIndex != 0)
      return;
    if (self.times->num_meetings < self.times->capacity)
      self.times->nanoseconds[self.times->num_meetings] =
          std::chrono::duration_cast<std::chrono::nanoseconds>(std::chrono::steady_clock::now() - self.begin).count();
    ++self.times->num_meetings;
  }
};

// The caller's place for times, if it has one and knows of such places.
girih_step_times *timesOf(const girih_submission &submission) {
  constexpr uint64_t kEnd = offsetof(girih_submission, times) + sizeof submission.times;
  return submission.struct_size >= kEnd ? submission.times : nullptr;
}

girih_code submit(girih_device *device, const girih_submission *submission, uint64_t *ticket,
                  girih_message *message) {
  if (submission->entry_index >= submission->executable->entries.size() ||
      submission->arguments_bytes != sizeof(girih_step_args) ||
      submission->num_bindings != GIRIH_STEP_NUM_BINDINGS)
    return report(invalidArgument("a step takes one of " +
                                  std::to_string(submission->executable->entries.size()) + " entries, " +
                                  std::to_string(sizeof(girih_step_args)) + " bytes of arguments and " +
                                  std::to_string(GIRIH_STEP_NUM_BINDINGS) + " bindings"),
                  message);
  uint8_t *addresses[GIRIH_STEP_NUM_BINDINGS] = {};
  for (int index = 0; index < GIRIH_STEP_NUM_BINDINGS; ++index) {
    const girih_buffer_view &view = submission->bindings[index];
    addresses[index] = resolve(&view);
    if (view.buffer && !addresses[index])
      return outsideOfBuffer(message);
  }
  StepCall call;
  call.entry = submission->executable->entries[submission->entry_index];
  std::memcpy(&call.args, submission->arguments, sizeof call.args);
  call.args.weights = addresses[GIRIH_STEP_BINDING_WEIGHTS];
  call.args.kv_pool = addresses[GIRIH_STEP_BINDING_KV_POOL];
  call.args.arena = addresses[GIRIH_STEP_BINDING_ARENA];
  call.args.logits = reinterpret_cast<float *>(addresses[GIRIH_STEP_BINDING_LOGITS]);
  call.args.barrier = Team::barrier;
  call.args.team = device->team.get();
  TimedTeam timed = {device->team.get(), timesOf(*submission), std::chrono::steady_clock::now()};
  if (timed.times) {
    timed.times->num_meetings = 0;
    call.args.barrier = TimedTeam::barrier;
    call.args.team = &timed;
  }
  device->team->run(
      [](void *context, int64_t memberIndex, int64_t numMembers) {
        const StepCall &step = *static_cast<const StepCall *>(context);
        step.entry(&step.args, memberIndex, numMembers);
      },
      &call);
  *ticket = ++device->numSubmissions;
  return 0;
}

// Submissions run to the end before submit returns.
girih_code waitFor(girih_device *device, uint64_t ticket, girih_message *message) {
  if (ticket > device->numSubmissions)
    return report(invalidArgument("ticket " + std::to_string(ticket) +
                                  " was not handed out; the last one is " +
                                  std::to_string(device->numSubmissions)),
                  message);
  return 0;
}

girih_code importHost(girih_device *, const void *address, uint64_t sizeBytes, girih_buffer **buffer,
                      girih_message *) {
  *buffer = new girih_buffer{static_cast<uint8_t *>(const_cast<void *>(address)), sizeBytes, false};
  return 0;
}

girih_code mapBuffer(girih_device *, girih_buffer *buffer, void **address, girih_message *) {
  *address = buffer->bytes;
  return 0;
}

// Each member moves its own share to its own node, in place: pages of the file stay shared with other processes.
girih_code placeParts(girih_device *device, const girih_buffer_view *parts, uint64_t numParts, girih_message *message) {
  struct Placing {
    const girih_device *device;
    const girih_buffer_view *parts;
    uint64_t numParts;
  } placing = {device, parts, numParts};
  for (uint64_t index = 0; index < numParts; ++index)
    if (!resolve(&parts[index]))
      return outsideOfBuffer(message);
  if (device->nodes.size() < 2)
    return 0;
  device->team->run(
      [](void *context, int64_t memberIndex, int64_t numMembers) {
        const Placing &self = *static_cast<const Placing *>(context);
        for (uint64_t index = 0; index < self.numParts; ++index) {
          auto address = reinterpret_cast<uintptr_t>(resolve(&self.parts[index]));
          auto [first, end] =
              pagesOfShare(address, self.parts[index].size_bytes, memberIndex, numMembers, kAlignmentBytes);
          moveToNode(first, end, self.device->memberNodes[static_cast<size_t>(memberIndex)]);
        }
      },
      &placing);
  return 0;
}

int64_t numThreads(const girih_device *device) { return device->team->numMembers(); }

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
    importHost,
    mapBuffer,
    numThreads,
    placeParts,
};

constexpr girih_backend kBackend = {
    sizeof(girih_backend), GIRIH_BACKEND_ABI_MAJOR, GIRIH_BACKEND_ABI_MINOR, "cpu", "", &kRunTable, nullptr, 0,
};

} // namespace
} // namespace girih::cpu

extern "C" const girih_backend *girih_backend_query_cpu(const girih_host *host) {
  return host->abi_major == GIRIH_BACKEND_ABI_MAJOR ? &girih::cpu::kBackend : nullptr;
}
