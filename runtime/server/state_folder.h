// SPDX-License-Identifier: Apache-2.0
// StateFolder: what a server keeps of its own between runs: one folder, one server at a time, one secret.
#pragma once

#include "runtime/base/expected.h"
#include "runtime/server/sealer.h"

#include <memory>
#include <string>
#include <string_view>
#include <vector>

namespace girih::server {

// Holds the folder's lock as long as it lives. All of it is readable by its owner only. Thread-safe.
class StateFolder {
public:
  // Makes the folder and its secret where there is none. Fails: Unavailable (it cannot be made, or another server has
  // it), and as Sealer::ofFolder does.
  static Expected<std::shared_ptr<StateFolder>> open(const std::string &path);
  ~StateFolder();
  StateFolder(const StateFolder &) = delete;
  StateFolder &operator=(const StateFolder &) = delete;

  const Sealer &sealer() const { return *secret; }
  // The path of a folder in it, which is made.
  std::string part(std::string_view name) const;

private:
  StateFolder(std::string path, int lockFile, std::shared_ptr<const Sealer> secret)
      : path(std::move(path)), lockFile(lockFile), secret(std::move(secret)) {}
  const std::string path;
  const int lockFile;
  const std::shared_ptr<const Sealer> secret;
};

// Beside its name and renamed: whoever reads it sees the old file or the new one, whatever ends this process. Synced to
// the disk first where `isSynced`.
Status replaceFile(const std::string &path, std::string_view bytes, bool isSynced);
// The whole of a file of at most so many bytes. Fails: NotFound, ResourceExhausted (larger), Unavailable.
Expected<std::string> readFile(const std::string &path, size_t maxBytes);
// The names of a folder's files that end so.
std::vector<std::string> filesIn(const std::string &folder, std::string_view suffix);

} // namespace girih::server
