// SPDX-License-Identifier: Apache-2.0
// MappedFile over mmap.
#include "runtime/base/mapped_file.h"

#include <cerrno>
#include <cstring>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>
#include <utility>

namespace girih {
namespace {

Status systemError(const std::string &path, const char *action) {
  std::string message = "\"" + path + "\": " + action + ": " + std::strerror(errno);
  return errno == ENOENT || errno == ENOTDIR ? notFound(std::move(message))
                                             : failedPrecondition(std::move(message));
}

// For the pages that hold some of `part`, or only those that hold nothing else. Advice: a refusal changes nothing.
void advise(std::span<const uint8_t> part, bool isWholePagesOnly, int advice) {
  auto pageBytes = static_cast<uintptr_t>(::sysconf(_SC_PAGESIZE));
  auto first = reinterpret_cast<uintptr_t>(part.data()), end = first + part.size();
  (isWholePagesOnly ? first : end) += pageBytes - 1;
  first -= first % pageBytes;
  end -= end % pageBytes;
  if (first < end)
    (void)::madvise(reinterpret_cast<void *>(first), end - first, advice);
}

// Closes the descriptor on every way out; a mapping outlives it.
struct Descriptor {
  int fd;
  ~Descriptor() {
    if (fd >= 0)
      ::close(fd);
  }
};

} // namespace

Expected<MappedFile> MappedFile::open(const std::string &path) {
  // O_NONBLOCK: opening a FIFO must not wait for a writer.
  Descriptor file{::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK)};
  if (file.fd < 0)
    return systemError(path, "cannot open");
  struct stat facts;
  if (::fstat(file.fd, &facts) != 0)
    return systemError(path, "cannot examine");
  if (!S_ISREG(facts.st_mode))
    return invalidArgument("\"" + path + "\" is " +
                           (S_ISDIR(facts.st_mode) ? "a folder" : "not a regular file"));
  MappedFile result;
  if (facts.st_size == 0)
    return result; // mmap refuses a length of 0
  size_t sizeBytes = static_cast<size_t>(facts.st_size);
  void *address = ::mmap(nullptr, sizeBytes, PROT_READ, MAP_SHARED, file.fd, 0);
  if (address == MAP_FAILED)
    return systemError(path, "cannot map");
  result.mapped = {static_cast<const uint8_t *>(address), sizeBytes};
  return result;
}

void MappedFile::willRead(std::span<const uint8_t> part) { advise(part, false, MADV_WILLNEED); }

// Pages on the edges may be read again by who reads the neighbouring bytes.
void MappedFile::hasRead(std::span<const uint8_t> part) { advise(part, true, MADV_DONTNEED); }

void MappedFile::willStream(std::span<const uint8_t> part) {
#if defined(MADV_HUGEPAGE)
  advise(part, false, MADV_HUGEPAGE);
#endif
}

MappedFile::MappedFile(MappedFile &&other) noexcept : mapped(std::exchange(other.mapped, {})) {}

MappedFile &MappedFile::operator=(MappedFile &&other) noexcept {
  std::swap(mapped, other.mapped);
  return *this;
}

MappedFile::~MappedFile() {
  if (!mapped.empty())
    ::munmap(const_cast<uint8_t *>(mapped.data()), mapped.size());
}

} // namespace girih
