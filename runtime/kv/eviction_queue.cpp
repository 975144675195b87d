// SPDX-License-Identifier: Apache-2.0
// EvictionQueue as a binary heap with back references.
#include "runtime/kv/eviction_queue.h"

#include "runtime/base/status.h"

namespace girih::kv {
namespace {

bool goesBefore(const EvictionQueue::Entry &a, const EvictionQueue::Entry &b) {
  return a.keepUntil != b.keepUntil ? a.keepUntil < b.keepUntil : a.order < b.order;
}

} // namespace

void EvictionQueue::place(size_t index, const Entry &entry, std::vector<int32_t> &positions) {
  heap[index] = entry;
  positions[static_cast<size_t>(entry.block)] = static_cast<int32_t>(index);
}

void EvictionQueue::add(const Entry &entry, std::vector<int32_t> &positions) {
  GIRIH_CHECK(positions[static_cast<size_t>(entry.block)] == kAbsent);
  heap.push_back(entry);
  place(heap.size() - 1, entry, positions);
  moveUp(heap.size() - 1, positions);
}

void EvictionQueue::remove(int32_t block, std::vector<int32_t> &positions) {
  int32_t position = positions[static_cast<size_t>(block)];
  GIRIH_CHECK(position != kAbsent && heap[static_cast<size_t>(position)].block == block);
  auto index = static_cast<size_t>(position);
  Entry last = heap.back();
  heap.pop_back();
  positions[static_cast<size_t>(block)] = kAbsent;
  if (index == heap.size())
    return;
  place(index, last, positions);
  moveUp(index, positions);
  moveDown(static_cast<size_t>(positions[static_cast<size_t>(last.block)]), positions);
}

void EvictionQueue::moveUp(size_t index, std::vector<int32_t> &positions) {
  Entry entry = heap[index];
  for (; index > 0 && goesBefore(entry, heap[(index - 1) / 2]); index = (index - 1) / 2)
    place(index, heap[(index - 1) / 2], positions);
  place(index, entry, positions);
}

void EvictionQueue::moveDown(size_t index, std::vector<int32_t> &positions) {
  Entry entry = heap[index];
  for (size_t child = 2 * index + 1; child < heap.size(); child = 2 * index + 1) {
    if (child + 1 < heap.size() && goesBefore(heap[child + 1], heap[child]))
      ++child;
    if (!goesBefore(heap[child], entry))
      break;
    place(index, heap[child], positions);
    index = child;
  }
  place(index, entry, positions);
}

} // namespace girih::kv
