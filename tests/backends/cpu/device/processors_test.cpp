// SPDX-License-Identifier: Apache-2.0
// Quotas of both kinds of cgroup, from imitated files.
#include "backends/cpu/device/processors.h"

#include "backends/cpu/device/features.h"
#include "tests/runtime/program/toy_program.h"

#include <algorithm>
#include <cerrno>
#include <filesystem>
#include <fstream>
#include <gtest/gtest.h>

namespace girih::cpu {
namespace {

struct Root {
  girih::testing::TemporaryFolder folder;
  void put(const std::string &path, const std::string &text) {
    std::string whole = folder.path + path;
    std::filesystem::create_directories(std::filesystem::path(whole).parent_path());
    std::ofstream(whole) << text;
  }
};

TEST(ProcessorQuota, TakesTheLeastOfAGroupAndItsParents) {
  Root root;
  root.put("/proc/self/cgroup", "0::/pods/one\n");
  root.put("/sys/fs/cgroup/pods/cpu.max", "150000 100000\n");
  root.put("/sys/fs/cgroup/pods/one/cpu.max", "max 100000\n");
  EXPECT_DOUBLE_EQ(processorQuota(root.folder.path), 1.5);
  root.put("/sys/fs/cgroup/pods/one/cpu.max", "50000 100000\n");
  EXPECT_DOUBLE_EQ(processorQuota(root.folder.path), 0.5);
}

TEST(ProcessorQuota, FindsTheContainersOwnRoot) {
  Root root;
  root.put("/proc/self/cgroup", "0::/docker/only/the/host/sees/this\n");
  root.put("/sys/fs/cgroup/cpu.max", "400000 100000\n");
  EXPECT_DOUBLE_EQ(processorQuota(root.folder.path), 4.0);
}

TEST(ProcessorQuota, ReadsVersionOne) {
  Root root;
  root.put("/proc/self/cgroup", "12:memory:/a\n4:cpu,cpuacct:/a\n");
  root.put("/sys/fs/cgroup/cpu/a/cpu.cfs_quota_us", "300000\n");
  root.put("/sys/fs/cgroup/cpu/a/cpu.cfs_period_us", "100000\n");
  EXPECT_DOUBLE_EQ(processorQuota(root.folder.path), 3.0);
  root.put("/sys/fs/cgroup/cpu/a/cpu.cfs_quota_us", "-1\n");
  EXPECT_DOUBLE_EQ(processorQuota(root.folder.path), 0.0);
}

TEST(ProcessorQuota, NoFilesMeanNoLimit) {
  Root root;
  EXPECT_DOUBLE_EQ(processorQuota(root.folder.path), 0.0);
}

TEST(Processors, ThereIsAtLeastOne) {
  EXPECT_GE(allowedProcessors().size(), 1u);
  EXPECT_GE(defaultThreads(), 1);
  EXPECT_LE(defaultThreads(), static_cast<int64_t>(allowedProcessors().size()));
}

TEST(Features, AgreeWithTheCompilersOwnProbe) {
#if defined(__x86_64__)
  auto granted = grantedFeatures();
  auto has = [&](const char *name) {
    return std::find(granted.begin(), granted.end(), name) != granted.end();
  };
  EXPECT_EQ(has("avx2"), __builtin_cpu_supports("avx2") != 0);
  EXPECT_EQ(has("fma"), __builtin_cpu_supports("fma") != 0);
  EXPECT_EQ(has("avx512f"), __builtin_cpu_supports("avx512f") != 0);
  EXPECT_EQ(has("avx512vnni"), __builtin_cpu_supports("avx512vnni") != 0);
  EXPECT_EQ(has("lzcnt"), __builtin_cpu_supports("lzcnt") != 0);
  EXPECT_EQ(has("bmi2"), __builtin_cpu_supports("bmi2") != 0);
  EXPECT_FALSE(processorName().empty());
#endif
}

TEST(Features, TilesAreListedOnlyWhenTheKernelGrantsThem) {
  auto hasTiles = [](int (*ask)()) {
    auto granted = grantedFeatures(ask);
    return std::find(granted.begin(), granted.end(), "amx-tile") != granted.end();
  };
  EXPECT_FALSE(hasTiles([] { return ENOTSUP; }));
  // Where the processor has none, nobody asks.
  static int numQuestions = 0;
  bool isListed = hasTiles([] { return ++numQuestions, 0; });
  EXPECT_EQ(isListed, numQuestions == 1);
  EXPECT_EQ(tileRefusal([] { return 0; }), "");
  EXPECT_EQ(tileRefusal([] { return ENOSPC; }).find("refuses AMX tiles") != std::string::npos, numQuestions == 1);
  auto refused = grantedFeatures([] { return ENOSPC; }), known = knownFeatures();
  EXPECT_EQ(std::count(refused.begin(), refused.end(), "amx-bf16"), 0);
  EXPECT_EQ(std::count(known.begin(), known.end(), "amx-bf16"), 1);
  EXPECT_EQ(std::count(refused.begin(), refused.end(), "avx2"), __builtin_cpu_supports("avx2") ? 1 : 0);
}

} // namespace
} // namespace girih::cpu
