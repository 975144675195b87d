// SPDX-License-Identifier: Apache-2.0
// Memory nodes (NUMA): which processors are near which memory, and whose share of a weight lies where.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace girih::cpu {

// Processors with memory that is nearer to them than to others.
struct MemoryNode {
  int32_t id = 0;                   // as the kernel numbers it
  std::vector<int32_t> processors;  // ascending
};

// "0-3,8,10-11" -> the numbers, ascending; empty when the text is no such list or names one beyond 8191.
std::vector<int32_t> parseNumberList(std::string_view text);

// The nodes whose memory this process may use and that have processors among `allowed`, by id; every one of `allowed` is
// in one of them. One node where the system tells of none. `root` stands before /sys and /proc, for tests.
std::vector<MemoryNode> memoryNodes(const std::vector<int32_t> &allowed, const std::string &root = "");

// Where the members of a team go. Members of one node follow each other, so that a weight that is split evenly among the
// members is split into one piece a node.
struct TeamPlan {
  std::vector<std::vector<int32_t>> processors;  // that each member may run on; empty: the kernel places them
  std::vector<int32_t> nodes;                    // the id of each member's node
};

// A team as large as the nodes together gets a processor each, a smaller one on several nodes is spread evenly over them;
// on one node it is left to the kernel: it must not fight for processor 0 with another process's.
TeamPlan planTeam(const std::vector<MemoryNode> &nodes, int64_t numMembers);

// [first, end) of the pages that hold member `index`'s share of `numBytes` at `address`: shares of all members cover every
// page that begins in the part, none twice. Requires: pageBytes is a power of two.
std::pair<uintptr_t, uintptr_t> pagesOfShare(uintptr_t address, uint64_t numBytes, int64_t index, int64_t numMembers,
                                             uint64_t pageBytes);

// Reads the pages in and moves them to the node's memory; those that the kernel does not move stay where they are.
void moveToNode(uintptr_t first, uintptr_t end, int32_t node);
// Spreads the pages, which nobody has touched yet, over the nodes.
void spreadOverNodes(uintptr_t first, uintptr_t end, const std::vector<MemoryNode> &nodes);

}  // namespace girih::cpu
