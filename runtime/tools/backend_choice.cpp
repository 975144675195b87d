// SPDX-License-Identifier: Apache-2.0
// Tells names from paths, and lets nothing into this process that another did not survive.
#include "runtime/tools/backend_choice.h"

#include "runtime/hal/backend_library.h"
#include "runtime/hal/probe_backend.h"
#include "runtime/hal/registry.h"

#include <charconv>

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

Expected<std::vector<program::DeviceName>> openDevices(const std::string &device, const std::string &backend) {
  if (device.empty() && backend.empty())
    return std::vector<program::DeviceName>();
  size_t colon = device.rfind(':');
  bool isNumber = !device.empty() && device.find_first_not_of("0123456789") == std::string::npos;
  std::string name = isNumber ? "" : device.substr(0, colon);
  std::string number = isNumber ? device : colon == std::string::npos ? "0" : device.substr(colon + 1);
  uint64_t index = 0;
  auto [end, error] = std::from_chars(number.data(), number.data() + number.size(), index);
  if (error != std::errc() || end != number.data() + number.size() || (name.empty() && backend.empty()))
    return invalidArgument("--device is \"" + device + "\"; it is a backend's name and a number, as in cpu or vulkan:1; "
                           "`girih machine --list` shows them");
  GIRIH_ASSIGN(const girih_backend *opened, openBackend(backend.empty() ? name : backend));
  if (!name.empty() && name != opened->name)
    return invalidArgument("--device is of \"" + name + "\", --backend opened \"" + opened->name + "\"; give one of them");
  return std::vector<program::DeviceName>{{opened, index}};
}

}  // namespace girih::tools
