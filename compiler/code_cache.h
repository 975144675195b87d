// SPDX-License-Identifier: Apache-2.0
// CodeCache: what a backend made of a step, kept in a folder under the hash of all that it was made from.
#pragma once

#include "compiler/backend.h"

#include <optional>
#include <string>

namespace girih::compiler {

// Models of one architecture and size differ in weights alone, so their code is made once. Damaged or foreign files
// count as absent, and a folder that cannot be written keeps nothing: a cache never fails a compilation. Thread-safe,
// also among processes.
class CodeCache {
public:
  // An empty `folder` keeps nothing.
  explicit CodeCache(std::string folder);

  // Of the step, the target's name, this compiler itself, and the file that the backend's code is in: a vendor's library
  // is built anew beside the same compiler. What that calls in turn is not known. Empty when nothing is kept.
  std::string keyOf(mlir::ModuleOp step, const std::string &target, const std::string &backendFile) const;
  std::optional<CompiledStep> find(const std::string &key) const;
  void keep(const std::string &key, const CompiledStep &step) const;

private:
  void dropOldest() const;

  std::string folder;
  std::string compilerDigest;  // of the running binary: another build may make other code
};

}  // namespace girih::compiler
