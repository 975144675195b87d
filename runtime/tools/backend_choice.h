// SPDX-License-Identifier: Apache-2.0
// --backend and --device: a built-in backend by name, or a vendor's library by path; and which of its devices.
#pragma once

#include "runtime/abi/backend.h"
#include "runtime/base/expected.h"

#include "runtime/program/device_choice.h"

#include <string>
#include <vector>

namespace girih::tools {

// What --backend names: a path has a slash or ends in .so. A library is probed in a process of its own before this one
// opens it. Fails as hal::probeBackend, hal::loadBackend and hal::findBackend do.
Expected<const girih_backend *> openBackend(const std::string &nameOrPath);

// What --device ("vulkan", "vulkan:1"; of a backend that --backend opened also "1") and --backend name together: one device,
// or none where both are empty. Fails: InvalidArgument (a device that is none, or of another backend), else as openBackend.
Expected<std::vector<program::DeviceName>> openDevices(const std::string &device, const std::string &backend);

}  // namespace girih::tools
