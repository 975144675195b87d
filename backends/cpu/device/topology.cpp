// SPDX-License-Identifier: Apache-2.0
// Memory nodes from sysfs, and the kernel's policy calls, made directly: libnuma would be one more thing to install.
#include "backends/cpu/device/topology.h"

#include <algorithm>
#include <charconv>
#include <fstream>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

namespace girih::cpu {
namespace {

constexpr int32_t kMostNumbers = 8192;  // processors of the largest kernels; nodes are far fewer
// From linux/mempolicy.h, which older systems do not install.
constexpr int kPreferred = 1, kInterleave = 3;
constexpr unsigned kMove = 1 << 1;
constexpr int kPopulateRead = 22;  // MADV_POPULATE_READ, Linux 5.14

std::string firstLine(const std::string &path) {
  std::ifstream file(path);
  std::string line;
  std::getline(file, line);
  return line;
}

// The list after `key` in /proc/self/status: what the cpuset of this process grants.
std::vector<int32_t> statusList(const std::string &root, const std::string &key) {
  std::ifstream status(root + "/proc/self/status");
  for (std::string line; std::getline(status, line);)
    if (line.starts_with(key)) {
      size_t start = line.find_first_not_of(" \t", key.size());
      return parseNumberList(start == std::string::npos ? std::string_view() : std::string_view(line).substr(start));
    }
  return {};
}

bool contains(const std::vector<int32_t> &sorted, int32_t number) {
  return std::binary_search(sorted.begin(), sorted.end(), number);
}

// A set of nodes as the kernel takes it.
class NodeMask {
public:
  void add(int32_t node) { words[static_cast<size_t>(node) / kBits] |= 1ul << (static_cast<size_t>(node) % kBits); }
  long bind(uintptr_t first, uintptr_t end, int mode, unsigned flags) const {
    return ::syscall(SYS_mbind, first, end - first, mode, words, kMostNumbers, flags);
  }

private:
  static constexpr size_t kBits = 8 * sizeof(unsigned long);
  unsigned long words[kMostNumbers / kBits + 1] = {};
};

}  // namespace

std::vector<int32_t> parseNumberList(std::string_view text) {
  while (!text.empty() && (text.back() == '\n' || text.back() == ' '))
    text.remove_suffix(1);
  std::vector<bool> isNamed(kMostNumbers);
  while (!text.empty()) {
    std::string_view range = text.substr(0, text.find(','));
    text.remove_prefix(std::min(text.size(), range.size() + 1));
    uint32_t first = 0, last = 0;
    const char *end = range.data() + range.size();
    auto [afterFirst, error] = std::from_chars(range.data(), end, first);
    if (error != std::errc())
      return {};
    last = first;
    if (afterFirst != end) {
      auto [afterLast, lastError] = std::from_chars(afterFirst + 1, end, last);
      if (*afterFirst != '-' || lastError != std::errc() || afterLast != end)
        return {};
    }
    if (first > last || last >= static_cast<uint32_t>(kMostNumbers))
      return {};
    std::fill(isNamed.begin() + first, isNamed.begin() + last + 1, true);
  }
  std::vector<int32_t> numbers;
  for (int32_t number = 0; number < kMostNumbers; ++number)
    if (isNamed[static_cast<size_t>(number)])
      numbers.push_back(number);
  return numbers;
}

std::vector<MemoryNode> memoryNodes(const std::vector<int32_t> &allowed, const std::string &root) {
  const std::string folder = root + "/sys/devices/system/node/";
  std::vector<int32_t> granted = statusList(root, "Mems_allowed_list:"), homeless = allowed;
  std::vector<MemoryNode> nodes;
  for (int32_t id : parseNumberList(firstLine(folder + "has_memory"))) {
    if (!granted.empty() && !contains(granted, id))
      continue;
    MemoryNode node{id, {}};
    for (int32_t processor : parseNumberList(firstLine(folder + "node" + std::to_string(id) + "/cpulist")))
      if (auto found = std::find(homeless.begin(), homeless.end(), processor); found != homeless.end()) {
        node.processors.push_back(processor);
        homeless.erase(found);
      }
    if (!node.processors.empty())
      nodes.push_back(std::move(node));
  }
  if (nodes.empty())
    return {{0, allowed}};
  // Of nodes without memory, or without memory that this process may use: any other is as good.
  for (int32_t processor : homeless) {
    auto least = std::min_element(nodes.begin(), nodes.end(), [](const MemoryNode &left, const MemoryNode &right) {
      return left.processors.size() < right.processors.size();
    });
    least->processors.insert(std::lower_bound(least->processors.begin(), least->processors.end(), processor), processor);
  }
  return nodes;
}

TeamPlan planTeam(const std::vector<MemoryNode> &nodes, int64_t numMembers) {
  TeamPlan plan;
  size_t numProcessors = 0;
  for (const MemoryNode &node : nodes)
    numProcessors += node.processors.size();
  bool isWhole = static_cast<size_t>(numMembers) == numProcessors;
  for (const MemoryNode &node : nodes)
    for (size_t index = 0; isWhole && index < node.processors.size(); ++index) {
      plan.processors.push_back({node.processors[index]});
      plan.nodes.push_back(node.id);
    }
  for (int64_t member = 0; !isWhole && member < numMembers; ++member) {
    const MemoryNode &node = nodes[static_cast<size_t>(member) * nodes.size() / static_cast<size_t>(numMembers)];
    if (nodes.size() > 1)
      plan.processors.push_back(node.processors);
    plan.nodes.push_back(node.id);
  }
  return plan;
}

std::pair<uintptr_t, uintptr_t> pagesOfShare(uintptr_t address, uint64_t numBytes, int64_t index, int64_t numMembers,
                                             uint64_t pageBytes) {
  auto count = static_cast<uint64_t>(numMembers);
  auto boundary = [&](int64_t member) {
    auto number = static_cast<uint64_t>(member);
    uint64_t offset = numBytes / count * number + numBytes % count * number / count;  // numBytes * number may be too large
    return (address + offset + pageBytes - 1) & ~(pageBytes - 1);
  };
  return {boundary(index), boundary(index + 1)};
}

void moveToNode(uintptr_t first, uintptr_t end, int32_t node) {
  if (first >= end)
    return;
  // Only pages that this process has mapped are moved; those not yet read from disk come to the reader's node at once.
  (void)::madvise(reinterpret_cast<void *>(first), end - first, kPopulateRead);
  NodeMask mask;
  mask.add(node);
  (void)mask.bind(first, end, kPreferred, kMove);
}

void spreadOverNodes(uintptr_t first, uintptr_t end, const std::vector<MemoryNode> &nodes) {
  NodeMask mask;
  for (const MemoryNode &node : nodes)
    mask.add(node.id);
  (void)mask.bind(first, end, kInterleave, 0);
}

}  // namespace girih::cpu
