// SPDX-License-Identifier: Apache-2.0
// One dispatch of a scheduled step as one compute shader: a workgroup for each unit of its parallel loop.
#pragma once

#include "backends/vulkan/codegen/kernel_values.h"

#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Dialect/SCF/IR/SCF.h"

namespace girih::vulkan {

struct Kernel {
  std::string name;
  int64_t invocations = 0, sharedBytes = 0;
  KernelInputs inputs;
  std::vector<uint32_t> spirv;
};

// Lowers a top-level scf.forall of a step function of at most `maxTokens` tokens. The operations of a unit follow one
// another, with a barrier where one needs what another wrote; each is shared out among the workgroup's invocations.
// Fails: Unimplemented, naming the operation.
Expected<Kernel> lowerDispatch(mlir::scf::ForallOp dispatch, const EntryFacts &entry);

// How many units a dispatch has, where they are known to be more than a grid may have workgroups: these then take units by
// turns. Null: no more than that, or not known.
std::optional<int64_t> unitsBeyondGroups(mlir::scf::ForallOp dispatch);

// ---- What a unit does, one operation each; operands are resolved before any loop is opened. ----
void lowerGeneric(ShaderBuilder &k, KernelValues &values, mlir::linalg::GenericOp op);
void lowerCopy(ShaderBuilder &k, KernelValues &values, mlir::Value from, mlir::Value to);
void lowerGatherRows(ShaderBuilder &k, KernelValues &values, dialect::GatherRowsOp op);
void lowerQMatmul(ShaderBuilder &k, KernelValues &values, dialect::QMatmulOp op);
void lowerKvAppend(ShaderBuilder &k, KernelValues &values, dialect::KvAppendOp op, const StepLayout &layout);
void lowerAttention(ShaderBuilder &k, KernelValues &values, dialect::AttentionOp op,
                    const StepLayout &layout);
void lowerAttentionParts(ShaderBuilder &k, KernelValues &values, dialect::AttentionPartsOp op,
                         const StepLayout &layout);
void lowerJoinParts(ShaderBuilder &k, KernelValues &values, dialect::JoinPartsOp op,
                    const StepLayout &layout);

// ---- Elements of views ----
// The number of an element in its memory: of words, of one word.
mlir::Value placeOf(ShaderBuilder &k, const View &view, mlir::ValueRange position);
// The element's bits, in the low bits of an i32; those above are stored nowhere.
mlir::Value loadBits(ShaderBuilder &k, const View &view, mlir::ValueRange position);
void storeBits(ShaderBuilder &k, const View &view, mlir::ValueRange position, mlir::Value bits);
// Floats as f32, integers as i32. A float that is stored must be one that its type has: see ShaderBuilder::rounded.
mlir::Value loadElement(ShaderBuilder &k, const View &view, mlir::ValueRange position);
void storeElement(ShaderBuilder &k, const View &view, mlir::ValueRange position, mlir::Value value);
// Number `index` of the positions within `extents`, the last running fastest.
llvm::SmallVector<mlir::Value> positionOf(ShaderBuilder &k, mlir::Value index, mlir::ValueRange extents);
mlir::Value product(ShaderBuilder &k, mlir::ValueRange extents);

// One weight of a row-major or packed source, as f32; `row` is the checkpoint's.
mlir::Value loadWeight(ShaderBuilder &k, const PackedWeight &weight, mlir::Value row, mlir::Value depth);

// What an invocation computes of a matmul: rows by columns, of which `side` are neighbours.
struct InvocationTile {
  int64_t rows = 1, columns = 1, side = 1;
};
InvocationTile invocationTile(dialect::QMatmulOp op, const EntryFacts &entry);

} // namespace girih::vulkan
