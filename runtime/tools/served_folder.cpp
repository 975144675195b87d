// SPDX-License-Identifier: Apache-2.0
// Opens each program for what it says of itself; its weights are not read.
#include "runtime/tools/served_folder.h"

#include "runtime/base/sha256.h"
#include "runtime/program/program.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <iostream>

namespace girih::tools {
namespace {

constexpr std::string_view kSuffix = ".girih";

Expected<FolderProgram> openProgram(const std::filesystem::path &path, const engine::EngineOptions &options) {
  auto opened = program::Program::open(path);
  if (!opened.isOk())
    return std::move(opened).status();
  FolderProgram found;
  found.path = path;
  found.model.name = path.stem();
  found.model.programId = hexDigits((*opened)->tables().digest);
  GIRIH_ASSIGN(engine::EngineNeeds needs, engine::needsOf(**opened, options));
  found.model.contextTokens = needs.contextTokens;
  found.model.numBytes = needs.numBytes;
  struct stat facts = {};
  ::stat(path.c_str(), &facts);
  found.model.createdSeconds = facts.st_mtime;
  return found;
}

}  // namespace

Expected<std::vector<FolderProgram>> programsOf(const std::string &folder, const engine::EngineOptions &options) {
  std::error_code error;
  std::filesystem::directory_iterator entries(folder, error);
  if (error)
    return notFound("cannot read the folder " + folder + ": " + error.message());
  std::vector<FolderProgram> programs;
  for (const auto &entry : entries) {
    if (entry.path().extension() != kSuffix || !entry.is_regular_file(error))
      continue;
    auto found = openProgram(entry.path(), options);
    if (found.isOk())
      programs.push_back(std::move(found).value());
    else
      std::cerr << "warning: " << entry.path().string() << " is left out: " << found.status().message() << '\n';
  }
  std::sort(programs.begin(), programs.end(), [](const auto &a, const auto &b) { return a.model.name < b.model.name; });
  if (programs.empty())
    return notFound("there is no program in " + folder + "; make one with `girih compile model.gguf -o " + folder + "/model.girih`");
  return programs;
}

uint64_t usualModelBytes() {
  uint64_t numBytes = static_cast<uint64_t>(::sysconf(_SC_PHYS_PAGES)) * static_cast<uint64_t>(::sysconf(_SC_PAGE_SIZE));
  return numBytes / 5 * 4;  // the rest is everybody else's
}

}  // namespace girih::tools
