// SPDX-License-Identifier: Apache-2.0
// FileStore over a folder.
#include "runtime/server/file_store.h"

#include "runtime/server/state_folder.h"
#include "runtime/server/stored_fields.h"
#include "runtime/server/tool_use.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstring>

namespace girih::server {
namespace {

constexpr std::string_view kSuffix = ".json";
constexpr size_t kMaxFactsBytes = 64 * 1024;

} // namespace

void StoredFile::write(JsonWriter &writer) const {
  writer.beginObject().member("id", id).member("object", "file").member("bytes", numBytes);
  writer.member("created_at", createdMicroseconds / 1'000'000).member("filename", name).member("purpose", purpose);
  writer.member("status", "processed").endObject();
}

FileStore::FileStore(std::string newFolder) : folder(std::move(newFolder)) {
  for (const std::string &entry : folder.empty() ? std::vector<std::string>() : filesIn(folder, kSuffix)) {
    auto json = readFile(folder + "/" + entry, kMaxFactsBytes);
    auto document =
        json.isOk() ? JsonDocument::parse(*json) : Expected<JsonDocument>(std::move(json).status());
    if (!document.isOk())
      continue;
    StoredFields fields(document->root());
    StoredFile file;
    file.id = entry.substr(0, entry.size() - kSuffix.size());
    file.owner = fields.text("owner");
    file.name = fields.text("name");
    file.purpose = fields.text("purpose");
    file.createdMicroseconds = fields.number("created_us");
    struct stat facts;
    if (!fields.isWhole || ::stat(pathOf(file.id).c_str(), &facts) != 0)
      continue;
    file.numBytes = static_cast<uint64_t>(facts.st_size);
    files[file.id] = file;
  }
}

Expected<StoredFile> FileStore::put(StoredFile file, std::string_view bytes) {
  if (file.id.empty())
    file.id = makeId("file-");
  uint64_t numOwned = bytes.size();
  for (const StoredFile &other : list(file.owner))
    numOwned += other.numBytes;
  if (numOwned > kMaxOwnerBytes)
    return resourceExhausted("this key's files would have " + std::to_string(numOwned) + " bytes; at most " +
                             std::to_string(kMaxOwnerBytes) + " are kept: delete some");
  GIRIH_TRY(replaceFile(pathOf(file.id), bytes, /*isSynced=*/true));
  file.numBytes = bytes.size();
  return keep(std::move(file));
}

Expected<StoredFile> FileStore::adopt(StoredFile file, const std::string &path) {
  // Already there when an earlier run was ended between the two steps.
  if (::rename(path.c_str(), pathOf(file.id).c_str()) != 0 && ::access(pathOf(file.id).c_str(), F_OK) != 0)
    return unavailable("cannot move " + path + ": " + std::strerror(errno));
  struct stat facts = {};
  ::stat(pathOf(file.id).c_str(), &facts);
  file.numBytes = static_cast<uint64_t>(facts.st_size);
  return keep(std::move(file));
}

Expected<StoredFile> FileStore::keep(StoredFile file) {
  if (file.createdMicroseconds == 0)
    file.createdMicroseconds = std::chrono::duration_cast<std::chrono::microseconds>(
                                   std::chrono::system_clock::now().time_since_epoch())
                                   .count();
  JsonWriter writer;
  writer.beginObject().member("owner", file.owner).member("name", file.name).member("purpose", file.purpose);
  writer.member("created_us", file.createdMicroseconds).endObject();
  GIRIH_TRY(replaceFile(folder + "/" + file.id + std::string(kSuffix), writer.text(), /*isSynced=*/true));
  std::lock_guard lock(mutex);
  return files[file.id] = file;
}

std::optional<StoredFile> FileStore::find(std::string_view id, std::string_view owner) const {
  std::lock_guard lock(mutex);
  auto found = files.find(id);
  return found != files.end() && found->second.owner == owner ? std::optional(found->second) : std::nullopt;
}

std::vector<StoredFile> FileStore::list(std::string_view owner) const {
  std::vector<StoredFile> owned;
  std::lock_guard lock(mutex);
  for (const auto &[id, file] : files)
    if (file.owner == owner)
      owned.push_back(file);
  std::stable_sort(owned.begin(), owned.end(), [](const StoredFile &a, const StoredFile &b) {
    return a.createdMicroseconds > b.createdMicroseconds;
  });
  return owned;
}

bool FileStore::remove(std::string_view id, std::string_view owner) {
  std::lock_guard lock(mutex);
  auto found = files.find(id);
  if (found == files.end() || found->second.owner != owner)
    return false;
  // What says that there is a file goes first.
  ::unlink((folder + "/" + found->first + std::string(kSuffix)).c_str());
  ::unlink(pathOf(id).c_str());
  files.erase(found);
  return true;
}

} // namespace girih::server
