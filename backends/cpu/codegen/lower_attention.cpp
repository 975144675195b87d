// SPDX-License-Identifier: Apache-2.0
// girih-cpu-lower-attention: attention over the paged cache, and storing into it.
#include "backends/cpu/codegen/passes.h"

#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"
#include "mlir/Dialect/LLVMIR/LLVMDialect.h"
#include "mlir/IR/BuiltinOps.h"

namespace girih::cpu {
#define GEN_PASS_DEF_LOWERATTENTION
#include "backends/cpu/codegen/passes.h.inc"
namespace {
struct LowerAttention : impl::LowerAttentionBase<LowerAttention> {
  using LowerAttentionBase::LowerAttentionBase;
  void runOnOperation() override {}
};
}  // namespace
}  // namespace girih::cpu
