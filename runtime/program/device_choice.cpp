// SPDX-License-Identifier: Apache-2.0
// Asks each backend that the file has code for, and explains each that cannot be had.
#include "runtime/program/device_choice.h"

#include "runtime/hal/device.h"
#include "runtime/program/variant.h"

#include <algorithm>

namespace girih::program {
namespace {

constexpr uint64_t kMostDevices = 64; // of one backend: a count from outside

bool hasCodeFor(const Tables &tables, const girih_backend &backend, const std::string &isa) {
  return std::any_of(tables.executables.begin(), tables.executables.end(), [&](const Executable &executable) {
    return executable.backend == backend.name && (isa.empty() || executable.isa == isa);
  });
}

struct Found {
  DeviceName device;
  bool isOnHost;
};

// Appends the devices of `backend`; returns why the first that is none of them is not.
std::string collect(const Tables &tables, const girih_backend &backend, const std::string &isa, std::vector<Found> &found) {
  std::string reason;
  for (uint64_t index = 0; index < kMostDevices; ++index) {
    auto facts = hal::describeDevice(backend, index);
    if (!facts.isOk())
      return index == 0 ? std::string(facts.status().message()) : reason;
    auto variant = selectVariant(tables, backend.name, facts->features, isa);
    if (variant.isOk())
      found.push_back({{&backend, index}, facts->isOnHostProcessors});
    else if (reason.empty())
      reason = variant.status().message();
  }
  return reason;
}

std::string namesOfTargets(const Tables &tables) {
  std::string names;
  for (const Executable &executable : tables.executables)
    names += (names.empty() ? "" : ", ") + executable.backend + ":" + executable.isa;
  return names.empty() ? "no backend" : names;
}

} // namespace

std::string describe(const DeviceName &device) {
  return std::string(device.backend->name) + ":" + std::to_string(device.index);
}

Expected<DeviceChoice> chooseDevices(const Tables &tables, const std::vector<const girih_backend *> &backends,
                                     const std::string &isa) {
  std::vector<Found> found;
  DeviceChoice choice;
  std::string others;
  for (const girih_backend *backend : backends) {
    if (!hasCodeFor(tables, *backend, isa)) {
      others += std::string("; ") + backend->name + ": the file has no code for it";
      continue;
    }
    size_t numBefore = found.size();
    std::string reason = collect(tables, *backend, isa, found);
    if (found.size() == numBefore)
      choice.absent.push_back(std::move(reason));
  }
  std::stable_partition(found.begin(), found.end(), [](const Found &one) { return !one.isOnHost; });
  for (const Found &one : found)
    choice.devices.push_back(one.device);
  if (!choice.devices.empty())
    return choice;
  bool isNamed = isa.empty() || std::any_of(tables.executables.begin(), tables.executables.end(),
                                            [&](const Executable &one) { return one.isa == isa; });
  if (!isNamed)
    return invalidArgument("the file has no variant \"" + isa + "\"; it has " + namesOfTargets(tables));
  std::string reasons;
  for (const std::string &reason : choice.absent)
    reasons += "; " + reason;
  return unavailable("the file has code for " + namesOfTargets(tables) + ", of which none is built in and has a device here" +
                     reasons + others + "; name another with --backend, or compile it again");
}

Expected<std::pair<DeviceName, const Executable *>> chooseRest(std::span<const Executable> executables,
                                                               const std::vector<const girih_backend *> &backends) {
  for (const girih_backend *backend : backends) {
    if (executables.empty() || executables.front().backend != backend->name)
      continue;
    auto facts = hal::describeDevice(*backend, 0);
    if (!facts.isOk())
      return std::move(facts).status();
    GIRIH_ASSIGN(const Executable *executable, selectVariant(executables, backend->name, facts->features, ""));
    return std::pair(DeviceName{backend, 0}, executable);
  }
  std::string wanted = executables.empty() ? "no backend" : executables.front().backend;
  return unavailable("the rest is code for " + wanted + ", which is not built in; compile the file again for what is");
}

} // namespace girih::program
