// SPDX-License-Identifier: Apache-2.0
// StateFolder: a lock, a secret, and files that are replaced whole.
#include "runtime/server/state_folder.h"

#include "runtime/base/whole_io.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <filesystem>

namespace girih::server {
namespace {

Status fault(std::string_view verb, const std::string &path, int error) {
  return unavailable("cannot " + std::string(verb) + " " + path + ": " + std::strerror(error));
}

Status makeFolder(const std::string &path) {
  std::error_code error;
  std::filesystem::create_directories(path, error);
  if (error)
    return unavailable("cannot make the folder " + path + ": " + error.message());
  return ::chmod(path.c_str(), 0700) == 0 ? Status() : fault("protect", path, errno);
}

} // namespace

Expected<std::shared_ptr<StateFolder>> StateFolder::open(const std::string &path) {
  GIRIH_TRY(makeFolder(path));
  std::string lockPath = path + "/lock";
  int lockFile = ::open(lockPath.c_str(), O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
  if (lockFile < 0)
    return fault("open", lockPath, errno);
  // The kernel lets go of it whatever ends this process.
  if (::flock(lockFile, LOCK_EX | LOCK_NB) != 0) {
    ::close(lockFile);
    return unavailable("another server has the folder " + path + "; give each one its own with --state-dir");
  }
  auto secret = Sealer::ofFolder(path);
  if (!secret.isOk()) {
    ::close(lockFile);
    return std::move(secret).status();
  }
  return std::shared_ptr<StateFolder>(new StateFolder(path, lockFile, std::move(secret).value()));
}

StateFolder::~StateFolder() { ::close(lockFile); }

std::string StateFolder::part(std::string_view name) const {
  std::string folder = path + "/" + std::string(name);
  ::mkdir(folder.c_str(), 0700); // what fails here fails again, with a message, where a file is written
  return folder;
}

Status replaceFile(const std::string &path, std::string_view bytes, bool isSynced) {
  static std::atomic<uint64_t> numWritten = 0;
  std::string temporary = path + ".part-" + std::to_string(::getpid()) + "-" + std::to_string(++numWritten);
  int file = ::open(temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
  if (file < 0)
    return fault("write", temporary, errno);
  bool isWritten = writeWhole(file, bytes) && (!isSynced || ::fsync(file) == 0);
  int error = errno;
  ::close(file);
  if (isWritten && ::rename(temporary.c_str(), path.c_str()) == 0)
    return {};
  error = isWritten ? errno : error;
  ::unlink(temporary.c_str());
  return fault("write", path, error);
}

Expected<std::string> readFile(const std::string &path, size_t maxBytes) {
  int file = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
  if (file < 0)
    return errno == ENOENT ? notFound("there is no file " + path) : fault("read", path, errno);
  struct stat facts = {};
  Status status =
      ::fstat(file, &facts) == 0 && S_ISREG(facts.st_mode) ? Status() : unavailable(path + " is no file");
  auto numBytes = static_cast<size_t>(facts.st_size);
  if (status.isOk() && numBytes > maxBytes)
    status = resourceExhausted(path + " has " + std::to_string(numBytes) + " bytes; at most " +
                               std::to_string(maxBytes) + " are read");
  std::string bytes(status.isOk() ? numBytes : 0, '\0');
  if (status.isOk() && !readWhole(file, {reinterpret_cast<uint8_t *>(bytes.data()), bytes.size()}))
    status = errno == 0 ? unavailable(path + " became shorter while it was read") : fault("read", path, errno);
  ::close(file);
  if (!status.isOk())
    return status;
  return bytes;
}

std::vector<std::string> filesIn(const std::string &folder, std::string_view suffix) {
  std::vector<std::string> names;
  DIR *directory = ::opendir(folder.c_str());
  while (dirent *entry = directory ? ::readdir(directory) : nullptr)
    if (std::string_view name = entry->d_name; name.size() > suffix.size() && name.ends_with(suffix))
      names.emplace_back(name);
  if (directory)
    ::closedir(directory);
  std::sort(names.begin(), names.end());
  return names;
}

} // namespace girih::server
