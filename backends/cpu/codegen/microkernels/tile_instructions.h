// SPDX-License-Identifier: Apache-2.0
// The instructions of a matrix unit with eight tile registers, by the numbers of the registers.
#pragma once

#include "backends/cpu/codegen/kernel_builder.h"

#include <array>

namespace girih::cpu {

inline constexpr int64_t kTileRegisters = 8;
inline constexpr int64_t kTileRowBytes = 64; // at most

// What a register holds. An unused one has a row too: none would be no valid configuration.
struct TileExtent {
  int64_t rows = 1, rowBytes = kTileRowBytes;
};

// `intrinsic` without "llvm.x86.". LLVM chooses no register: a tile is never spilled.
void callTile(KernelBuilder &k, llvm::StringRef intrinsic, llvm::ArrayRef<int64_t> registers,
              mlir::ValueRange memory = {});
// Loads a configuration, which clears all tiles. `memory`: 64 bytes for it.
// Extents as `ldtilecfg` reads them, 64 aligned bytes; then one register's rows anew, an index of at most 16.
void storeTiles(KernelBuilder &k, mlir::Value memory, const std::array<TileExtent, kTileRegisters> &extents);
void storeTileRows(KernelBuilder &k, mlir::Value memory, int64_t number, mlir::Value rows);
void configureTiles(KernelBuilder &k, mlir::Value memory,
                    const std::array<TileExtent, kTileRegisters> &extents);

} // namespace girih::cpu
