// SPDX-License-Identifier: Apache-2.0
// MachineDescription: sizes from sysfs, features from CPUID, what neither says measured or from the vendors' manuals.
#include "runtime/tools/machine_description.h"

#include "backends/cpu/device/core_figures.h"
#include "backends/cpu/device/features.h"
#include "backends/cpu/device/processors.h"
#include "runtime/base/json.h"

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <cstring>
#include <fstream>
#include <iterator>
#include <thread>

namespace girih::tools {
namespace {

using Clock = std::chrono::steady_clock;

std::string readLine(const std::string &path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

// "48K", "2048K", "32M" as sysfs writes sizes; 0 when it is none.
int64_t parseSize(const std::string &text) {
  size_t digits = text.find_first_not_of("0123456789");
  if (digits == 0 || text.empty())
    return 0;
  int64_t number = std::stoll(text.substr(0, digits));
  char unit = digits == std::string::npos ? ' ' : text[digits];
  return number * (unit == 'K' ? 1024 : unit == 'M' ? 1024 * 1024 : 1);
}

// Processors in a list such as "0-3,8".
int64_t countListed(const std::string &list) {
  int64_t count = 0;
  for (size_t at = 0; at < list.size();) {
    size_t end = std::min(list.find(',', at), list.size());
    std::string range = list.substr(at, end - at);
    size_t dash = range.find('-');
    if (!range.empty() && std::isdigit(static_cast<unsigned char>(range[0])))
      count += dash == std::string::npos ? 1 : std::stoll(range.substr(dash + 1)) - std::stoll(range) + 1;
    at = end + 1;
  }
  return std::max<int64_t>(count, 1);
}

bool has(const std::vector<std::string> &features, std::string_view name) {
  return std::find(features.begin(), features.end(), name) != features.end();
}

std::vector<MemoryLevel> readCaches(const std::string &root, int64_t registerBits) {
  cpu::CoreFigures core = cpu::coreFigures();
  // Two loads a cycle, of one pass each.
  cpu::CoreFigures::Level near{2 * registerBits / 8 / core.passesOf(registerBits), core.nearLatency, core.datapathSource};
  std::vector<MemoryLevel> levels;
  for (int cacheIndex = 0; cacheIndex < 8; ++cacheIndex) {
    std::string folder = root + "/sys/devices/system/cpu/cpu0/cache/index" + std::to_string(cacheIndex) + "/";
    std::string kind = readLine(folder + "type"), number = readLine(folder + "level");
    int64_t sizeBytes = parseSize(readLine(folder + "size"));
    if (kind == "Instruction" || number.empty() || sizeBytes == 0)
      continue;
    MemoryLevel level;
    level.name = "L" + number;
    level.sizeBytes = sizeBytes;
    level.sharedBy = countListed(readLine(folder + "shared_cpu_list"));
    const cpu::CoreFigures::Level &figures = number == "1" ? near : number == "2" ? core.second : core.third;
    level.bytesPerCycle = figures.bytesPerCycle;
    level.latencyCycles = figures.latencyCycles;
    level.source = "size and sharing: sysfs cache/index" + std::to_string(cacheIndex) + "; rate and latency: " + figures.source;
    levels.push_back(level);
  }
  return levels;
}

int64_t memoryBytes(const std::string &root) {
  std::ifstream file(root + "/proc/meminfo");
  std::string word;
  int64_t kilobytes = 0;
  while (file >> word)
    if (word == "MemTotal:" && file >> kilobytes)
      break;
  int64_t sizeBytes = kilobytes * 1024;
  std::string limit = readLine(root + "/sys/fs/cgroup/memory.max");
  if (!limit.empty() && std::isdigit(static_cast<unsigned char>(limit[0])) && limit.size() < 18)
    sizeBytes = std::min<int64_t>(sizeBytes, std::stoll(limit));
  return std::max<int64_t>(sizeBytes, 1);
}

// Bytes a second that one thread reads from memory that no cache holds; the best of a few passes.
double measureReadBandwidth(int64_t largestCacheBytes) {
  // Beyond every cache as one core sees it, but bounded: a server's shared L3 may be larger than what is worth touching.
  auto numWords = static_cast<size_t>(std::clamp<int64_t>(largestCacheBytes * 2, 64 << 20, 256 << 20) / 8);
  std::vector<uint64_t> words(numWords, 1);
  double best = 0;
  uint64_t keep = 0;
  for (int pass = 0; pass < 3; ++pass) {
    auto start = Clock::now();
    uint64_t sums[8] = {};
    for (size_t at = 0; at + 8 <= numWords; at += 8)
      for (size_t lane = 0; lane < 8; ++lane)
        sums[lane] += words[at + lane];
    for (uint64_t sum : sums)
      keep += sum;
    std::chrono::duration<double> elapsed = Clock::now() - start;
    best = std::max(best, static_cast<double>(numWords) * 8 / elapsed.count());
  }
  return keep == 0 ? 1 : best;
}

// Nanoseconds for two threads to meet once.
int64_t measureBarrier(int64_t cores) {
  if (cores < 2)
    return 1000;
  constexpr int kMeetings = 2000;
  std::atomic<int> turn = 0;
  std::thread partner([&turn] {
    for (int meeting = 0; meeting < kMeetings; ++meeting) {
      while (turn.load(std::memory_order_acquire) != 2 * meeting + 1)
        std::this_thread::yield();
      turn.store(2 * meeting + 2, std::memory_order_release);
    }
  });
  auto start = Clock::now();
  for (int meeting = 0; meeting < kMeetings; ++meeting) {
    turn.store(2 * meeting + 1, std::memory_order_release);
    while (turn.load(std::memory_order_acquire) != 2 * meeting + 2)
      std::this_thread::yield();
  }
  std::chrono::duration<double, std::nano> elapsed = Clock::now() - start;
  partner.join();
  return std::max<int64_t>(1, std::llround(elapsed.count() / kMeetings));
}

// /proc/cpuinfo has the rate of the time stamp counter in many virtual machines.
int64_t clockMhz(const std::string &root) {
  std::string kilohertz = readLine(root + "/sys/devices/system/cpu/cpu0/cpufreq/base_frequency");
  return kilohertz.empty() ? cpu::coreFigures().clockMhz : std::max<int64_t>(1, std::atoll(kilohertz.c_str()) / 1000);
}

int64_t registerBitsOf(const std::vector<std::string> &features) {
  return has(features, "avx512f") ? 512 : has(features, "avx2") ? 256 : 128;
}

// Lanes by the widest registers that the kernel saves, instructions a cycle by the passes that those take.
std::vector<ComputeUnit> readUnits(const std::vector<std::string> &features) {
  cpu::CoreFigures core = cpu::coreFigures();
  int64_t bits = registerBitsOf(features), lanes = bits / 32, multiplies = core.multipliesOf(bits);
  bool isWide = bits == 512, isArm = has(features, "neon");
  int64_t registers = isWide || isArm ? 32 : 16;
  std::string source = isWide ? "CPUID avx512f" : has(features, "avx2") ? "CPUID avx2" : isArm ? "HWCAP asimd" : "CPUID sse2";
  std::vector<ComputeUnit> units;
  auto add = [&](const char *name, const char *element, int64_t elements, int64_t perCycle, int64_t latency, const std::string &from) {
    units.push_back({name, element, elements, perCycle, latency, registers, from + "; a cycle: " + core.datapathSource});
  };
  add("fma", "f32", lanes, multiplies, core.multiplyLatency, source);
  add("vector", "i32", lanes, core.vectorsPerCycle(bits), 1, source);
  std::string dots = has(features, "avx512vnni") ? "CPUID avx512vnni" : "CPUID avxvnni";
  if (has(features, "dotprod"))
    add("dot_i8", "i8", 4 * lanes, multiplies, 5, "HWCAP asimddp");
  else if (has(features, "avx512vnni") || has(features, "avxvnni"))
    add("dot_i8", "i8", 4 * lanes, multiplies, 5, dots);
  else if (has(features, "avx2"))  // made of two that multiply
    add("dot_i8", "i8", 4 * lanes, std::max<int64_t>(1, multiplies / 2), 5, source);
  if (has(features, "avx512vnni"))
    add("dot_i16", "i16", 2 * lanes, multiplies, 5, dots);
  if (has(features, "avx512bf16"))
    add("dot_bf16", "bf16", 2 * lanes, 1, 6, "CPUID avx512bf16");
  if (has(features, "amx-bf16"))
    units.push_back({"matrix", "bf16", 512, 1, 52, 8, "CPUID amx-bf16", true});
  return units;
}

}  // namespace

MachineDescription describeMachine(const std::string &root) {
  MachineDescription machine;
  machine.features = cpu::grantedFeatures();
  machine.name = cpu::processorName();
  machine.cores = cpu::defaultThreads();
  machine.allowedProcessors = cpu::allowedProcessors();
  machine.processorQuota = cpu::processorQuota(root);
  machine.clockMhz = clockMhz(root);
  machine.barrierNs = measureBarrier(machine.cores);
  machine.levels = readCaches(root, registerBitsOf(machine.features));
  MemoryLevel memory{"memory", memoryBytes(root), 0, 300, machine.cores, "size: /proc/meminfo and cgroup memory.max; rate: measured, one thread; latency: typical"};
  double bytesPerSecond = measureReadBandwidth(machine.levels.empty() ? 0 : machine.levels.back().sizeBytes);
  memory.bytesPerCycle = std::max<int64_t>(1, std::llround(bytesPerSecond / (static_cast<double>(machine.clockMhz) * 1e6)));
  machine.levels.push_back(memory);
  machine.units = readUnits(machine.features);
  return machine;
}

std::string machineJson(const MachineDescription &machine) {
  JsonWriter writer;
  writer.beginObject().member("name", machine.name).member("kind", "cpu").member("cores", machine.cores);
  writer.member("clock_mhz", machine.clockMhz).member("barrier_ns", machine.barrierNs).key("levels").beginArray();
  for (const MemoryLevel &level : machine.levels)
    writer.beginObject().member("name", level.name).member("size_bytes", level.sizeBytes).member("bytes_per_cycle", level.bytesPerCycle)
        .member("latency_cycles", level.latencyCycles).member("shared_by", level.sharedBy).member("source", level.source).endObject();
  writer.endArray().key("units").beginArray();
  for (const ComputeUnit &unit : machine.units) {
    writer.beginObject().member("name", unit.name).member("element", unit.element).member("lanes", unit.lanes)
        .member("per_cycle", unit.perCycle).member("latency_cycles", unit.latencyCycles).member("registers", unit.registers)
        .member("source", unit.source);
    if (unit.multipliesTiles)
      writer.key("tile").beginObject().member("rows", 16).member("columns", 16).member("depth", 32).endObject();
    writer.endObject();
  }
  writer.endArray().arrayMember("features", machine.features).arrayMember("allowed_processors", machine.allowedProcessors);
  writer.key("processor_quota");
  if (machine.processorQuota > 0)
    writer.value(machine.processorQuota);
  else
    writer.null();
  return writer.endObject().take();
}

}  // namespace girih::tools
