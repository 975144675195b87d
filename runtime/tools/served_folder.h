// SPDX-License-Identifier: Apache-2.0
// The programs of a folder, as `girih serve --models` offers them.
#pragma once

#include "runtime/engine/engine.h"
#include "runtime/server/model_fleet.h"

#include <string>
#include <vector>

namespace girih::tools {

struct FolderProgram {
  server::FleetModel model;  // named like its file, without .girih
  std::string path;
};

// Each .girih file, by name; one that cannot be opened is told on stderr and left out. `options`: that they will be run
// with, for what they take. Fails: NotFound (no such folder, or no program in it).
Expected<std::vector<FolderProgram>> programsOf(const std::string &folder, const engine::EngineOptions &options);

// So much of this machine's memory as models may take where nobody says.
uint64_t usualModelBytes();

}  // namespace girih::tools
