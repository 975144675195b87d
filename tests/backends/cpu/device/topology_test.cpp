// SPDX-License-Identifier: Apache-2.0
// Memory nodes from imitated system files, teams and weights spread over them, and the kernel's own answer to a policy.
#include "backends/cpu/device/topology.h"

#include "backends/cpu/device/processors.h"
#include "tests/runtime/program/toy_program.h"

#include <cstring>
#include <filesystem>
#include <fstream>
#include <gtest/gtest.h>
#include <numeric>
#include <random>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace girih::cpu {
namespace {

using Numbers = std::vector<int32_t>;

Numbers upTo(int32_t count) {
  Numbers numbers(static_cast<size_t>(count));
  std::iota(numbers.begin(), numbers.end(), 0);
  return numbers;
}

// A machine's files below a folder of its own.
struct Machine {
  girih::testing::TemporaryFolder folder;
  void put(const std::string &path, const std::string &text) {
    std::string whole = folder.path + path;
    std::filesystem::create_directories(std::filesystem::path(whole).parent_path());
    std::ofstream(whole) << text;
  }
  void putNode(int32_t id, const std::string &processors) {
    put("/sys/devices/system/node/node" + std::to_string(id) + "/cpulist", processors + "\n");
  }
  // Two sockets, hyperthreads numbered behind all cores.
  Machine() {
    put("/sys/devices/system/node/has_memory", "0-1\n");
    putNode(0, "0-3,8-11");
    putNode(1, "4-7,12-15");
  }
  std::vector<MemoryNode> nodes(const Numbers &allowed) const { return memoryNodes(allowed, folder.path); }
};

TEST(NumberList, ReadsRangesAndRefusesAllElse) {
  EXPECT_EQ(parseNumberList("0-3,8,10-11\n"), (Numbers{0, 1, 2, 3, 8, 10, 11}));
  EXPECT_EQ(parseNumberList("5,1-2,2"), (Numbers{1, 2, 5}));
  EXPECT_EQ(parseNumberList("8191").size(), 1u);
  for (const char *text : {"", "\n", "-1", "3-1", "0-", "1-2-3", "a", "1,b", ",", "1,,2", "8192", "0-8192", "0-4294967296",
                           "99999999999999999999", "1 2", "0x3", "1-2x"})
    EXPECT_TRUE(parseNumberList(text).empty()) << text;
}

TEST(NumberList, SurvivesAnyText) {
  std::mt19937 random(5);
  const std::string letters = "0123456789,-- \n\0x9";
  for (int round = 0; round < 100'000; ++round) {
    std::string text(random() % 24, 0);
    for (char &letter : text)
      letter = letters[random() % letters.size()];
    Numbers numbers = parseNumberList(text);
    ASSERT_TRUE(std::is_sorted(numbers.begin(), numbers.end()) && numbers.size() <= 8192) << text;
    ASSERT_TRUE(numbers.empty() || (numbers.front() >= 0 && numbers.back() < 8192)) << text;
  }
}

TEST(MemoryNodes, HoldTheProcessorsThatThisProcessMayUse) {
  Machine machine;
  auto nodes = machine.nodes(upTo(16));
  ASSERT_EQ(nodes.size(), 2u);
  EXPECT_EQ(nodes[0].processors, (Numbers{0, 1, 2, 3, 8, 9, 10, 11}));
  EXPECT_EQ(nodes[1].processors, (Numbers{4, 5, 6, 7, 12, 13, 14, 15}));
  nodes = machine.nodes({2, 3, 4});  // a mask that straddles both
  ASSERT_EQ(nodes.size(), 2u);
  EXPECT_EQ(nodes[0].processors, (Numbers{2, 3}));
  EXPECT_EQ(nodes[1].processors, (Numbers{4}));
  nodes = machine.nodes({5, 6});  // one within a node
  ASSERT_EQ(nodes.size(), 1u);
  EXPECT_EQ(nodes[0].id, 1);
}

void expectOnly(const std::vector<MemoryNode> &nodes, int32_t id, const Numbers &processors) {
  ASSERT_EQ(nodes.size(), 1u);
  EXPECT_EQ(nodes[0].id, id);
  EXPECT_EQ(nodes[0].processors, processors);
}

TEST(MemoryNodes, LeaveOutWhatTheCpusetWithholdsOrHasNoMemory) {
  Machine machine;
  machine.put("/proc/self/status", "Name:\tx\nMems_allowed_list:\t1\n");
  expectOnly(machine.nodes(upTo(16)), 1, upTo(16));  // node 0's have to go somewhere
  machine.put("/proc/self/status", "Mems_allowed_list:\t0-1\n");
  machine.put("/sys/devices/system/node/has_memory", "0\n");
  expectOnly(machine.nodes(upTo(16)), 0, upTo(16));
}

TEST(MemoryNodes, AreOneWhereTheSystemTellsOfNone) {
  Machine machine;
  machine.put("/sys/devices/system/node/has_memory", "what\n");
  expectOnly(machine.nodes(upTo(4)), 0, upTo(4));
  auto real = memoryNodes(allowedProcessors());
  size_t numProcessors = 0;
  for (const MemoryNode &node : real)
    numProcessors += node.processors.size();
  EXPECT_EQ(numProcessors, allowedProcessors().size());
}

TEST(PlanTeam, KeepsMembersOfANodeTogether) {
  Machine machine;
  auto nodes = machine.nodes(upTo(16));
  TeamPlan whole = planTeam(nodes, 16);
  ASSERT_EQ(whole.processors.size(), 16u);
  EXPECT_EQ(whole.processors[4], Numbers{8});
  EXPECT_EQ(whole.processors[8], Numbers{4});
  EXPECT_EQ(whole.nodes, (Numbers{0, 0, 0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 1, 1}));
  TeamPlan few = planTeam(nodes, 3);
  EXPECT_EQ(few.nodes, (Numbers{0, 0, 1}));
  EXPECT_EQ(few.processors[2], nodes[1].processors);
  EXPECT_EQ(planTeam(nodes, 40).nodes.size(), 40u);
  EXPECT_EQ(planTeam(nodes, 1).nodes, Numbers{0});
}

TEST(PlanTeam, LeavesASmallTeamOnOneNodeToTheKernel) {
  std::vector<MemoryNode> one = {{0, upTo(4)}};
  EXPECT_TRUE(planTeam(one, 2).processors.empty());
  EXPECT_EQ(planTeam(one, 4).processors.size(), 4u);
}

TEST(PagesOfShare, CoverAPartWithoutOverlap) {
  constexpr uint64_t kPage = 4096;
  for (uint64_t numBytes : {uint64_t{0}, uint64_t{1}, kPage, uint64_t{430'007'744}, uint64_t{1} << 62})
    for (uintptr_t address : {uintptr_t{0x10000}, uintptr_t{0x10040}, uintptr_t{0x10fc0}})
      for (int64_t numMembers : {1, 3, 16, 1000}) {
        auto before = pagesOfShare(address, numBytes, 0, numMembers, kPage).first;
        EXPECT_EQ(before, (address + kPage - 1) / kPage * kPage);
        for (int64_t index = 0; index < numMembers; ++index) {
          auto [first, end] = pagesOfShare(address, numBytes, index, numMembers, kPage);
          ASSERT_EQ(first, before);
          ASSERT_LE(first, end);
          ASSERT_EQ(end % kPage, 0u);
          before = end;
        }
        EXPECT_EQ(before, (address + numBytes + kPage - 1) / kPage * kPage);
      }
}

// The policy of the page at `address`, or -1 where the kernel knows no policies.
int policyAt(void *address) {
  int mode = -1;
  unsigned long mask[129] = {};
  constexpr int kOfAddress = 2;
  return ::syscall(SYS_get_mempolicy, &mode, mask, 8192, address, kOfAddress) == 0 ? mode : -1;
}

TEST(MoveToNode, SetsAPolicyAndKeepsTheBytes) {
  constexpr size_t kBytes = 1 << 20;
  void *bytes = ::mmap(nullptr, kBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  ASSERT_NE(bytes, MAP_FAILED);
  if (policyAt(bytes) < 0) {
    ::munmap(bytes, kBytes);
    GTEST_SKIP() << "the kernel has no memory policies, or a sandbox forbids them";
  }
  auto nodes = memoryNodes(allowedProcessors());
  auto first = reinterpret_cast<uintptr_t>(bytes), half = first + kBytes / 2;
  std::memset(bytes, 0x5a, kBytes / 2);
  moveToNode(first, half, nodes[0].id);
  spreadOverNodes(half, first + kBytes, nodes);
  moveToNode(half, half, nodes[0].id);
  moveToNode(first, half, 8000);  // no such node: refused, and nothing happens
  EXPECT_EQ(policyAt(bytes), 1);  // preferred
  EXPECT_EQ(policyAt(static_cast<char *>(bytes) + kBytes / 2), 3);  // interleaved
  for (size_t index = 0; index < kBytes; ++index)
    ASSERT_EQ(static_cast<char *>(bytes)[index], index < kBytes / 2 ? 0x5a : 0);
  ::munmap(bytes, kBytes);
}

} // namespace
} // namespace girih::cpu
