// SPDX-License-Identifier: Apache-2.0
// Tells names from paths, and lets nothing into this process that another did not survive.
#include "runtime/tools/backend_choice.h"

#include "runtime/hal/backend_library.h"
#include "runtime/hal/probe_backend.h"
#include "runtime/hal/registry.h"

namespace girih::tools {

Expected<const girih_backend *> openBackend(const std::string &nameOrPath) {
  bool isPath = nameOrPath.find('/') != std::string::npos || nameOrPath.ends_with(".so");
  if (!isPath)
    return hal::findBackend(nameOrPath);
  // dlopen looks for a bare name where the system's libraries are.
  std::string path = nameOrPath.find('/') == std::string::npos ? "./" + nameOrPath : nameOrPath;
  GIRIH_TRY(hal::probeBackend(path));
  return hal::loadBackend(path);
}

}  // namespace girih::tools
