// SPDX-License-Identifier: Apache-2.0
// Tile instructions: implementation.
#include "backends/cpu/codegen/microkernels/tile_instructions.h"

using namespace mlir;

namespace girih::cpu {

void callTile(KernelBuilder &k, StringRef intrinsic, ArrayRef<int64_t> registers, ValueRange memory) {
  SmallVector<Value> operands;
  for (int64_t number : registers)
    operands.push_back(LLVM::ConstantOp::create(k.b, k.loc, k.b.getI8Type(), k.b.getI8IntegerAttr(number)));
  llvm::append_range(operands, memory);
  LLVM::CallIntrinsicOp::create(k.b, k.loc, k.b.getStringAttr(("llvm.x86." + intrinsic).str()), operands);
}

static constexpr int64_t kRowsOfTiles = 48;

void storeTiles(KernelBuilder &k, Value memory, const std::array<TileExtent, kTileRegisters> &extents) {
  // Byte 0: the palette; words from byte 16 on: bytes of a row; bytes from byte 48 on: rows.
  std::array<uint64_t, 8> words = {1};
  for (int64_t number = 0; number < kTileRegisters; ++number) {
    words[size_t(2 + number / 4)] |= uint64_t(extents[size_t(number)].rowBytes) << number % 4 * 16;
    words[6] |= uint64_t(extents[size_t(number)].rows) << number * 8;
  }
  for (auto [number, word] : llvm::enumerate(words))
    k.store(k.integer(k.b.getI64Type(), int64_t(word)), k.at(memory, int64_t(number) * 8), 8);
}

void storeTileRows(KernelBuilder &k, Value memory, int64_t number, Value rows) {
  k.store(k.toInteger(rows, k.b.getI8Type()), k.at(memory, kRowsOfTiles + number));
}

void configureTiles(KernelBuilder &k, Value memory, const std::array<TileExtent, kTileRegisters> &extents) {
  storeTiles(k, memory, extents);
  callTile(k, "ldtilecfg", {}, memory);
}

} // namespace girih::cpu
