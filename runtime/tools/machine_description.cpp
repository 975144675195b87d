// SPDX-License-Identifier: Apache-2.0
// MachineDescription: sizes from sysfs, features from CPUID, what neither says measured or from the vendors' manuals.
#include "runtime/tools/machine_description.h"

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

// Bytes a cycle and cycles of latency that one core gets; Intel and AMD optimization manuals, ordinary server cores.
struct TypicalLevel {
  int64_t level;
  int64_t bytesPerCycle;
  int64_t latencyCycles;
};
constexpr TypicalLevel kTypicalLevels[] = {{1, 64, 5}, {2, 48, 14}, {3, 16, 60}};

std::vector<MemoryLevel> readCaches(const std::string &root, const std::vector<std::string> &features) {
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
    for (const TypicalLevel &typical : kTypicalLevels)
      if (std::to_string(typical.level) == number) {
        // Two loads a cycle of the widest register.
        bool isWideL1 = typical.level == 1 && has(features, "avx512f");
        level.bytesPerCycle = isWideL1 ? 2 * typical.bytesPerCycle : typical.bytesPerCycle;
        level.latencyCycles = typical.latencyCycles;
      }
    level.source = "size and sharing: sysfs cache/index" + std::to_string(cacheIndex) + "; rate and latency: vendors' optimization manuals";
    if (level.bytesPerCycle > 0)
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

int64_t clockMhz(const std::string &root) {
  std::string kilohertz = readLine(root + "/sys/devices/system/cpu/cpu0/cpufreq/base_frequency");
  if (!kilohertz.empty())
    return std::max<int64_t>(1, std::atoll(kilohertz.c_str()) / 1000);
  std::ifstream file(root + "/proc/cpuinfo");
  for (std::string line; std::getline(file, line);)
    if (line.starts_with("cpu MHz"))
      return std::max<int64_t>(1, std::llround(std::atof(line.c_str() + line.find(':') + 1)));
  return 2000;
}

// Lanes by the widest registers that the kernel saves; two such units a core on every server since 2017.
std::vector<ComputeUnit> readUnits(const std::vector<std::string> &features) {
  bool isWide = has(features, "avx512f"), isArm = has(features, "neon");
  int64_t registerBytes = isWide ? 64 : has(features, "avx2") ? 32 : 16, registers = isWide || isArm ? 32 : 16;
  std::string source = isWide ? "CPUID avx512f" : has(features, "avx2") ? "CPUID avx2" : isArm ? "HWCAP asimd" : "CPUID sse2";
  std::vector<ComputeUnit> units = {{"fma", "f32", registerBytes / 4, 2, 4, registers, source}};
  if (has(features, "dotprod"))
    units.push_back({"dot_i8", "i8", registerBytes, 2, 5, registers, "HWCAP asimddp"});
  if (has(features, "avx512bf16"))
    units.push_back({"dot_bf16", "bf16", registerBytes / 2, 1, 6, registers, "CPUID avx512bf16"});
  if (has(features, "avx512vnni") || has(features, "avxvnni"))
    units.push_back({"dot_i8", "i8", registerBytes, 2, 5, registers, has(features, "avx512vnni") ? "CPUID avx512vnni" : "CPUID avxvnni"});
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
  machine.levels = readCaches(root, machine.features);
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
