// SPDX-License-Identifier: Apache-2.0
// Affinity mask and cgroup quota. A team larger than the quota would be stopped for the rest of every period.
#include "backends/cpu/device/processors.h"

#include <algorithm>
#include <cmath>
#include <fstream>
#include <sched.h>
#include <sstream>

namespace girih::cpu {
namespace {

constexpr int kMostProcessors = 8192; // CONFIG_NR_CPUS of the largest kernels

// "max 100000" or "150000 100000" -> processors; 0 when unlimited or absent.
double quotaOf(const std::string &quotaText, const std::string &periodText) {
  double quota = std::strtod(quotaText.c_str(), nullptr), period = std::strtod(periodText.c_str(), nullptr);
  return quota > 0 && period > 0 ? quota / period : 0.0;
}

std::string firstLine(const std::string &path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

double quotaV2(const std::string &folder) {
  std::istringstream line(firstLine(folder + "/cpu.max"));
  std::string quota, period;
  line >> quota >> period;
  return quotaOf(quota, period);
}

double quotaV1(const std::string &folder) {
  return quotaOf(firstLine(folder + "/cpu.cfs_quota_us"), firstLine(folder + "/cpu.cfs_period_us"));
}

// The least quota from `group` up to the root of the hierarchy. In a container the path may name a folder
// that only the host sees; the mount's own root then holds the container's limit, and it is visited too.
double leastQuota(const std::string &mount, std::string group, double (*quota)(const std::string &)) {
  double least = 0.0;
  while (true) {
    if (double here = quota(mount + group); here > 0 && (least == 0 || here < least))
      least = here;
    if (group.empty())
      return least;
    group.erase(group.find_last_of('/') == std::string::npos ? 0 : group.find_last_of('/'));
  }
}

bool hasController(const std::string &controllers, const std::string &name) {
  std::istringstream list(controllers);
  for (std::string one; std::getline(list, one, ',');)
    if (one == name)
      return true;
  return false;
}

} // namespace

std::vector<int32_t> allowedProcessors() {
  cpu_set_t *set = CPU_ALLOC(kMostProcessors);
  size_t setBytes = CPU_ALLOC_SIZE(kMostProcessors);
  CPU_ZERO_S(setBytes, set);
  std::vector<int32_t> allowed;
  if (::sched_getaffinity(0, setBytes, set) == 0)
    for (int32_t processor = 0; processor < kMostProcessors; ++processor)
      if (CPU_ISSET_S(static_cast<size_t>(processor), setBytes, set))
        allowed.push_back(processor);
  CPU_FREE(set);
  return allowed;
}

double processorQuota(const std::string &root) {
  std::ifstream groups(root + "/proc/self/cgroup");
  double least = 0.0;
  // Lines are "0::/path" (v2) or "4:cpu,cpuacct:/path" (v1).
  for (std::string line; std::getline(groups, line);) {
    size_t first = line.find(':'), second = first == std::string::npos ? first : line.find(':', first + 1);
    if (second == std::string::npos)
      continue;
    std::string controllers = line.substr(first + 1, second - first - 1), group = line.substr(second + 1);
    if (group == "/")
      group.clear();
    double quota = 0.0;
    if (controllers.empty())
      quota = leastQuota(root + "/sys/fs/cgroup", group, quotaV2);
    else if (hasController(controllers, "cpu"))
      quota = leastQuota(root + "/sys/fs/cgroup/cpu", group, quotaV1);
    if (quota > 0 && (least == 0 || quota < least))
      least = quota;
  }
  return least;
}

int64_t defaultThreads() {
  int64_t numThreads = std::max<int64_t>(1, static_cast<int64_t>(allowedProcessors().size()));
  if (double quota = processorQuota(); quota > 0)
    numThreads = std::min(numThreads, std::max<int64_t>(1, static_cast<int64_t>(std::ceil(quota))));
  return numThreads;
}

} // namespace girih::cpu
