// SPDX-License-Identifier: Apache-2.0
// How many processors this process may use, and which.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace girih::cpu {

// The processors of the affinity mask, ascending.
std::vector<int32_t> allowedProcessors();

// Processors' worth of time that the cgroup of this process may use (v2 `cpu.max`, v1 `cpu.cfs_quota_us`; the
// least of it and all that enclose it); 0: no limit. `root` stands before /proc and /sys, for tests.
double processorQuota(const std::string &root = "");

// min(allowed processors, quota rounded up), at least 1.
int64_t defaultThreads();

} // namespace girih::cpu
