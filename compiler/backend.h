// SPDX-License-Identifier: Apache-2.0
// CompilingBackend: a backend's compile table (runtime/abi/backend.h) as the compiler uses it, wherever it comes from.
#pragma once

#include "compiler/analysis/cost_model.h"
#include "dialects/machine/dialect.h"
#include "runtime/abi/backend.h"
#include "runtime/base/expected.h"

#include "mlir/IR/BuiltinOps.h"

#include <cstdint>
#include <string>
#include <vector>

namespace girih::compiler {

// What a backend counted of one dispatch's code; see girih_dispatch_work.
struct CountedDispatch {
  std::string entry, dispatch;
  int64_t contextTokens = 0;
  CountedWork work;
};

// What a backend made of a scheduled step.
struct CompiledStep {
  std::vector<uint8_t> image;
  std::string format;                         // "elf-x86-64"
  std::vector<std::string> entries;           // symbols, in the module's order
  std::vector<std::string> requiredFeatures;  // all must be granted where it runs
  uint64_t arenaBytes = 0, scratchBytesPerThread = 0;
  std::string accumulateType = "f32", activationType = "f32";  // what results are held to; see girih_artifact_info
  std::vector<CountedDispatch> work;          // two rows a dispatch, in running order; empty: nothing was counted
};

// An operation as `supports` is asked about it.
struct AskedOperation {
  std::string name, signature;  // "matmul", "f32[T,64] f32[32,64] f32[T,32]"; see girih_op
};

// Wraps a table that outlives it. Thread-safe as the table is.
class CompilingBackend {
public:
  // Requires: `backend` was adopted (runtime/hal/backend_library.h). Fails: FailedPrecondition (no compile table),
  // Unimplemented (it takes none of the levels that this compiler hands over).
  static Expected<CompilingBackend> create(const girih_backend &backend);

  std::string name() const { return backend->name; }
  // The file that its compile function was loaded from; empty where that cannot be told.
  std::string file() const;
  std::string targetOf(const std::string &variant) const { return variant.empty() ? name() : name() + ":" + variant; }
  // The machine that `target` means, as an attribute. Fails as the backend does, DataLoss (its JSON).
  Expected<machine::DescriptionAttr> describe(mlir::MLIRContext *context, const std::string &target) const;
  // The variants that `target` stands for, best last; without a name where the backend has none. Fails: InvalidArgument.
  Expected<std::vector<std::string>> variants(const std::string &target, const std::string &numerics) const;
  // Whether it is asked about models: before 0.6 `supports` answered for the suite's single operations alone.
  bool isAskedOfModels() const { return backend->abi_major > 0 || backend->abi_minor >= 6; }
  // Why each operation is declined, "" for those that it takes. Fails: as the backend does.
  Expected<std::vector<std::string>> declines(const std::string &target, const std::vector<AskedOperation> &operations) const;
  // Hands over the module at the level that the backend takes: MLIR bytecode, else C99. Fails as writing that does, and as
  // the backend does; the message holds its diagnostics.
  Expected<CompiledStep> compile(mlir::ModuleOp module, const std::string &target) const;

private:
  explicit CompilingBackend(const girih_backend *backend) : backend(backend) {}
  Expected<std::string> write(mlir::ModuleOp module, uint64_t level) const;

  const girih_backend *backend;
};

}  // namespace girih::compiler
