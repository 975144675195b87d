// SPDX-License-Identifier: Apache-2.0
// What kernel generation needs to know of an ISA: a row each.
#pragma once

#include "llvm/ADT/StringRef.h"

#include <cstdint>
#include <string>

namespace girih::cpu {

struct IsaTraits {
  llvm::StringLiteral name;
  llvm::StringLiteral cpu;       // LLVM's name of the CPU whose scheduling model is used
  llvm::StringLiteral features;  // LLVM feature string, beside those of x86-64
  int64_t laneVectors;           // 16-lane f32 vectors that the registers hold: 32 zmm, or 16 ymm in pairs
  bool hasByteDot;               // vpdpbusd zmm: products of 64 u8 and s8 added to 16 lanes, exactly
  bool hasLaneTable;             // one instruction looks 16 lanes up in a 16-entry table (vpermps zmm)
  bool hasWideVectors;           // 512-bit registers
  bool hasTiles;                 // eight tiles of 16 rows x 64 bytes, and dot products of bf16 pairs on them
};

// Null for an unknown name. Known: isaNames().
const IsaTraits *findIsa(llvm::StringRef name);

// "avx2, avx512 and amx": for messages.
std::string isaNames();

// The best ISA of this machine, null when it has none of them.
const IsaTraits *hostIsa();

}  // namespace girih::cpu
