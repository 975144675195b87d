// SPDX-License-Identifier: Apache-2.0
// Level "memory": zeroed, aligned, exact to the byte, and nothing written beside it.
#include "tests/backends/conformance/suite.h"

#include "runtime/hal/call.h"

#include <algorithm>
#include <fstream>
#include <numeric>

namespace girih::conformance {
namespace {

using hal::Buffer;
using hal::Call;
using hal::Device;

constexpr uint8_t kGuard = 0xa5;

std::vector<uint8_t> pattern(size_t numBytes, uint8_t first = 1) {
  std::vector<uint8_t> bytes(numBytes);
  std::iota(bytes.begin(), bytes.end(), first);
  return bytes;
}

#define OPEN(device)                                                                                         \
  auto opened = Device::open(*subject.backend, 0, {1});                                                      \
  if (!opened.isOk())                                                                                        \
    return findingOf(opened.status());                                                                       \
  std::shared_ptr<Device> device = std::move(opened).value()
#define ALLOCATE(buffer, numBytes)                                                                           \
  auto buffer##Made = Buffer::allocate(device, numBytes);                                                    \
  if (!buffer##Made.isOk())                                                                                  \
    return findingOf(buffer##Made.status());                                                                 \
  Buffer &buffer = *buffer##Made

Finding buffersAreZeroed(const Subject &subject) {
  OPEN(device);
  // Twice: what was freed comes back, and must not bring its bytes along.
  for (int round = 0; round < 2; ++round)
    for (size_t numBytes : {1, 63, 64, 4096, 100003}) {
      ALLOCATE(buffer, numBytes);
      std::vector<uint8_t> bytes(numBytes, kGuard);
      GIRIH_TRY_FINDING(buffer.read(0, bytes));
      if (auto at = std::find_if(bytes.begin(), bytes.end(), [](uint8_t byte) { return byte != 0; }); at != bytes.end())
        return fail("byte " + std::to_string(at - bytes.begin()) + " of a buffer of " + std::to_string(numBytes) +
                    " is " + std::to_string(*at) + "; new buffers are zeroed");
      GIRIH_TRY_FINDING(buffer.write(0, std::vector<uint8_t>(numBytes, 0xff)));
    }
  return pass();
}

Finding emptyBuffersAreBuffers(const Subject &subject) {
  OPEN(device);
  ALLOCATE(buffer, 0);
  GIRIH_TRY_FINDING(buffer.write(0, {}));
  GIRIH_TRY_FINDING(buffer.read(0, {}));
  return pass();
}

Finding mappedBuffersAreAligned(const Subject &subject) {
  OPEN(device);
  auto facts = hal::describeDevice(*subject.backend, 0);
  for (size_t numBytes : {1, 65, 5000}) {
    ALLOCATE(buffer, numBytes);
    if (!buffer.mapped())
      return unsupported("buffers are not mapped");
    if (reinterpret_cast<uintptr_t>(buffer.mapped()) % facts->alignmentBytes != 0)
      return fail("a buffer of " + std::to_string(numBytes) + " bytes lies at no multiple of the declared " +
                  std::to_string(facts->alignmentBytes));
  }
  return pass();
}

// Writes every range of a few sizes and offsets; what is beside it keeps its guard.
Finding writesStayInside(const Subject &subject) {
  OPEN(device);
  constexpr size_t kBytes = 300;
  ALLOCATE(buffer, kBytes);
  std::vector<uint8_t> seen(kBytes), sent = pattern(kBytes);
  for (size_t offset : {0, 1, 63, 64, 65, 128, 200, 299})
    for (size_t count : {0, 1, 7, 64, 65, 100}) {
      if (offset + count > kBytes)
        continue;
      GIRIH_TRY_FINDING(buffer.write(0, std::vector<uint8_t>(kBytes, kGuard)));
      GIRIH_TRY_FINDING(buffer.write(offset, {sent.data(), count}));
      GIRIH_TRY_FINDING(buffer.read(0, seen));
      for (size_t at = 0; at < kBytes; ++at) {
        uint8_t expected = at >= offset && at < offset + count ? sent[at - offset] : kGuard;
        if (seen[at] != expected)
          return fail("after " + std::to_string(count) + " bytes were written at " + std::to_string(offset) + ", byte " +
                      std::to_string(at) + " is " + std::to_string(seen[at]) + ", expected " + std::to_string(expected));
      }
    }
  return pass();
}

Finding readsStayInside(const Subject &subject) {
  OPEN(device);
  ALLOCATE(buffer, 200);
  std::vector<uint8_t> sent = pattern(200), room(100);
  GIRIH_TRY_FINDING(buffer.write(0, sent));
  for (size_t offset : {0, 1, 64, 150})
    for (size_t count : {0, 1, 33, 50}) {
      std::fill(room.begin(), room.end(), kGuard);
      GIRIH_TRY_FINDING(buffer.read(offset, {room.data() + 10, count}));
      for (size_t at = 0; at < room.size(); ++at) {
        uint8_t expected = at >= 10 && at < 10 + count ? sent[offset + at - 10] : kGuard;
        if (room[at] != expected)
          return fail(std::to_string(count) + " bytes read from " + std::to_string(offset) + ": byte " +
                      std::to_string(static_cast<long>(at) - 10) + " of the host is wrong");
      }
    }
  return pass();
}

Finding outsideIsAnError(const Subject &subject) {
  OPEN(device);
  ALLOCATE(buffer, 100);
  uint8_t bytes[8] = {};
  for (uint64_t offset : {uint64_t{93}, uint64_t{100}, uint64_t{101}, ~uint64_t{0}, ~uint64_t{0} - 4})
    if (buffer.write(offset, bytes).isOk() || buffer.read(offset, bytes).isOk())
      return fail("8 bytes at " + std::to_string(offset) + " of a buffer of 100 are no error");
  return pass();
}

Finding copiesMoveBytes(const Subject &subject) {
  OPEN(device);
  ALLOCATE(from, 300);
  ALLOCATE(to, 300);
  std::vector<uint8_t> sent = pattern(300), seen(300);
  GIRIH_TRY_FINDING(from.write(0, sent));
  GIRIH_TRY_FINDING(to.write(0, std::vector<uint8_t>(300, kGuard)));
  girih_buffer_view source = {from.view().buffer, 17, 101}, target = {to.view().buffer, 66, 101};
  Call call;
  GIRIH_TRY_FINDING(call.status(subject.run().copy(device->handle(), &target, &source, call.message())));
  GIRIH_TRY_FINDING(to.read(0, seen));
  for (size_t at = 0; at < 300; ++at)
    if (uint8_t expected = at >= 66 && at < 167 ? sent[at - 66 + 17] : kGuard; seen[at] != expected)
      return fail("byte " + std::to_string(at) + " is " + std::to_string(seen[at]) + " after a copy, expected " +
                  std::to_string(expected));
  target.size_bytes = 100;
  return subject.run().copy(device->handle(), &target, &source, call.message()) == GIRIH_OK
             ? fail("a copy of 101 bytes into a view of 100 is no error")
             : pass();
}

Finding tooMuchIsAStatus(const Subject &subject) {
  OPEN(device);
  Call call;
  auto *untouched = reinterpret_cast<girih_buffer *>(0x10);
  girih_buffer *buffer = untouched;
  for (uint64_t numBytes : {uint64_t{1} << 50, uint64_t{1} << 62, ~uint64_t{0}, ~uint64_t{0} - 4000}) {
    girih_code code = subject.run().alloc(device->handle(), numBytes, &buffer, call.message());
    if (code != GIRIH_RESOURCE_EXHAUSTED)
      return fail(std::to_string(numBytes) + " bytes are answered with code " + std::to_string(code) +
                  "; GIRIH_RESOURCE_EXHAUSTED is expected");
    if (buffer != untouched)
      return fail("a failing alloc wrote its out-parameter");
  }
  ALLOCATE(after, 64);
  return findingOf(after.write(0, pattern(64)));
}

long residentPages() {
  std::ifstream file("/proc/self/statm");
  long total = 0, resident = 0;
  file >> total >> resident;
  return resident;
}

Finding freedMemoryComesBack(const Subject &subject) {
  OPEN(device);
  constexpr size_t kBytes = 1 << 20;
  std::vector<uint8_t> ones(kBytes, 1);
  long before = 0;
  for (int round = 0; round < 80; ++round) {
    ALLOCATE(buffer, kBytes);
    GIRIH_TRY_FINDING(buffer.write(0, ones));
    if (round == 15)
      before = residentPages();
  }
  long grownBytes = (residentPages() - before) * 4096;
  return grownBytes < 16 * static_cast<long>(kBytes)
             ? pass()
             : fail("64 buffers of 1 MiB, each freed before the next, left " + std::to_string(grownBytes) + " bytes");
}

Finding buffersDoNotOverlap(const Subject &subject) {
  OPEN(device);
  std::vector<Buffer> buffers;
  for (uint8_t index = 0; index < 50; ++index) {
    ALLOCATE(buffer, 100u + index);
    GIRIH_TRY_FINDING(buffer.write(0, std::vector<uint8_t>(100u + index, index)));
    buffers.push_back(std::move(buffer));
  }
  for (uint8_t index = 0; index < 50; ++index) {
    std::vector<uint8_t> bytes(100u + index);
    GIRIH_TRY_FINDING(buffers[index].read(0, bytes));
    if (std::any_of(bytes.begin(), bytes.end(), [&](uint8_t byte) { return byte != index; }))
      return fail("buffer " + std::to_string(index) + " of 50 holds another's bytes");
  }
  return pass();
}

Finding importedBytesAreRead(const Subject &subject) {
  if (!subject.run().import_host)
    return unsupported("import_host is null; the host allocates and writes");
  OPEN(device);
  std::vector<uint8_t> bytes = pattern(5000), seen(5000);
  auto buffer = Buffer::import(device, bytes);
  if (!buffer.isOk())
    return findingOf(buffer.status());
  GIRIH_TRY_FINDING(buffer->read(0, seen));
  return seen == bytes ? pass() : fail("an imported buffer reads as other bytes");
}

} // namespace

const std::vector<Case> &memoryCases() {
  static const std::vector<Case> cases = {
      {"memory", "buffers_are_zeroed", buffersAreZeroed},
      {"memory", "empty_buffers_are_buffers", emptyBuffersAreBuffers},
      {"memory", "mapped_buffers_are_aligned", mappedBuffersAreAligned},
      {"memory", "writes_stay_inside", writesStayInside},
      {"memory", "reads_stay_inside", readsStayInside},
      {"memory", "outside_is_an_error", outsideIsAnError},
      {"memory", "copies_move_bytes", copiesMoveBytes},
      {"memory", "too_much_is_a_status", tooMuchIsAStatus},
      {"memory", "freed_memory_comes_back", freedMemoryComesBack},
      {"memory", "buffers_do_not_overlap", buffersDoNotOverlap},
      {"memory", "imported_bytes_are_read", importedBytesAreRead},
  };
  return cases;
}

} // namespace girih::conformance
