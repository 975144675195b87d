// SPDX-License-Identifier: Apache-2.0
// Chooses a variant, and explains each that cannot be had.
#include "runtime/program/variant.h"

#include <algorithm>

namespace girih::program {
namespace {

// Separated by commas; empty when everything is granted.
std::string missingFeatures(const Executable &executable, std::span<const std::string> granted) {
  std::string missing;
  for (const std::string &feature : executable.requiredFeatures)
    if (std::find(granted.begin(), granted.end(), feature) == granted.end())
      missing += (missing.empty() ? "" : ", ") + feature;
  return missing;
}

// One clause a variant: `wide (missing wide_dot); narrow (granted)`.
std::string describeVariants(std::span<const Executable> executables, const std::string &backend,
                             std::span<const std::string> granted) {
  std::string text;
  for (const Executable &executable : executables) {
    std::string missing = missingFeatures(executable, granted);
    std::string reason = executable.backend != backend ? "for backend " + executable.backend
                         : missing.empty()             ? "granted"
                                                       : "missing " + missing;
    text += (text.empty() ? "" : "; ") + executable.isa + " (" + reason + ")";
  }
  return text;
}

} // namespace

Expected<const Executable *> selectVariant(std::span<const Executable> executables, const std::string &backend,
                                           std::span<const std::string> granted, const std::string &isa) {
  const Executable *best = nullptr;
  bool isNamed = false;
  for (const Executable &executable : executables) {
    if (executable.backend != backend || (!isa.empty() && executable.isa != isa))
      continue;
    isNamed = true;
    if (missingFeatures(executable, granted).empty() && (!best || executable.preference > best->preference))
      best = &executable;
  }
  if (best)
    return best;
  std::string variants = describeVariants(executables, backend, granted);
  if (!isa.empty() && !isNamed)
    return invalidArgument("the file has no variant \"" + isa + "\"; it has " + variants);
  if (isa.empty())
    return unavailable("processor and kernel grant no variant of the file: " + variants +
                       "; compile it again with --target " + backend + ":native");
  return unavailable("processor and kernel do not grant the variant \"" + isa + "\": the file has " +
                     variants);
}

} // namespace girih::program
