// SPDX-License-Identifier: Apache-2.0
// One private function for each kind of kernel, with the step's own three arguments first.
#include "backends/cpu/codegen/microkernels/shared_kernels.h"

#include "mlir/Dialect/Utils/StaticValueUtils.h"
#include "mlir/IR/BuiltinOps.h"

using namespace mlir;

namespace girih::cpu {

LogicalResult SharedKernels::call(KernelBuilder &k, StringRef name, StringRef kind, ArrayRef<Value *> operands,
                                  Emit emit) {
  std::string key = kind.str();
  SmallVector<Value> arguments{k.stepArgs(), k.threadIndex(), k.numThreads()};
  for (Value *operand : operands) {
    std::optional<int64_t> constant = getConstantIntValue(*operand);
    key += constant ? "," + std::to_string(*constant) : std::string(",?");
    if (!constant)
      arguments.push_back(*operand);
  }
  func::FuncOp &kernel = kernels[key];
  if (!kernel) {
    auto module = arguments[0].getParentBlock()->getParentOp()->getParentOfType<ModuleOp>();
    OpBuilder::InsertionGuard guard(k.b);
    k.b.setInsertionPointToEnd(module.getBody());
    auto type = FunctionType::get(k.b.getContext(), ValueRange(arguments).getTypes(), {});
    kernel = func::FuncOp::create(k.b, k.loc, (name + "_" + Twine(kernels.size())).str(), type);
    kernel.setPrivate();
    Block *body = kernel.addEntryBlock();
    k.b.setInsertionPointToStart(body);
    unsigned next = 3;
    for (Value *operand : operands) {
      std::optional<int64_t> constant = getConstantIntValue(*operand);
      *operand = constant ? k.index(*constant) : Value(body->getArgument(next++));
    }
    if (failed(emit(k)))
      return failure();
    func::ReturnOp::create(k.b, k.loc);
  }
  func::CallOp::create(k.b, k.loc, kernel, arguments);
  return success();
}

}  // namespace girih::cpu
