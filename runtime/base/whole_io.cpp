// SPDX-License-Identifier: Apache-2.0
// readWhole, writeWhole: all bytes through a descriptor, however few the system moves at once.
#include "runtime/base/whole_io.h"

#include <unistd.h>

#include <cerrno>

namespace girih {
namespace {

// `move` is read(2) or write(2), bound to its descriptor.
template <typename Byte, typename Move> bool moveWhole(std::span<Byte> bytes, Move move) {
  while (!bytes.empty()) {
    errno = 0;
    ssize_t count = move(bytes.data(), bytes.size());
    if (count < 0 && errno == EINTR)
      continue;
    if (count <= 0)
      return false;
    bytes = bytes.subspan(static_cast<size_t>(count));
  }
  return true;
}

} // namespace

bool readWhole(int descriptor, std::span<uint8_t> bytes) {
  return moveWhole(bytes, [=](uint8_t *to, size_t size) { return ::read(descriptor, to, size); });
}

bool writeWhole(int descriptor, std::span<const uint8_t> bytes) {
  return moveWhole(bytes, [=](const uint8_t *from, size_t size) { return ::write(descriptor, from, size); });
}

bool writeWhole(int descriptor, std::string_view text) {
  return writeWhole(descriptor, std::span(reinterpret_cast<const uint8_t *>(text.data()), text.size()));
}

} // namespace girih
