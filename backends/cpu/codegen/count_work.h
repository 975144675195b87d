// SPDX-License-Identifier: Apache-2.0
// What girih-cpu-count-work leaves on a module: the instructions of each dispatch, for the cost model.
#pragma once

#include "mlir/IR/BuiltinOps.h"

#include <string>
#include <vector>

namespace girih::cpu {

// What all units of a dispatch together run; see girih_dispatch_work (runtime/abi/backend.h).
struct Work {
  double units = 0, vectorBytes = 0, tileProducts = 0, loadBytes = 0, storeBytes = 0;
  double multiplyBytes = 0;  // of vectorBytes, of instructions that multiply; counted, not told

  Work &operator+=(const Work &other);
  Work times(double count) const;
};

struct DispatchWork {
  std::string entry, dispatch;
  Work first;   // at the start of a sequence
  Work later;   // with kCountedContext positions in its cache
};
inline constexpr int64_t kCountedContext = 1024;

// In running order, those after which threads meet. Empty where the pass did not run.
std::vector<DispatchWork> countedWork(mlir::ModuleOp module);

}  // namespace girih::cpu
