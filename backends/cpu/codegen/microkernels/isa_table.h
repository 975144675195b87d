// SPDX-License-Identifier: Apache-2.0
// What code generation needs to know of an ISA, a row each, and of the architectures that they belong to.
#pragma once

#include "llvm/ADT/StringRef.h"

#include <cstdint>
#include <string>
#include <vector>

namespace girih::cpu {

struct Architecture {
  llvm::StringLiteral name;         // "arm64": what `--target cpu:arm64` means all rows of
  llvm::StringLiteral triple;       // LLVM's
  llvm::StringLiteral machineName;  // of a machine's description
  llvm::StringLiteral baseCpu;      // what code may use beside a row's features; empty: what the row's `cpu` has
  llvm::StringLiteral emulation;    // ld.lld's -m
  llvm::StringLiteral imageFormat;  // what the runtime's loader calls it
  uint32_t relativeRelocation;      // the one kind that an image may have
  llvm::StringLiteral vectorConstraint;  // inline assembly's letter for a vector register
  llvm::StringLiteral byteLookup;        // LLVM's intrinsic that looks 16 bytes up in a table of 16
};

// How products of weight codes and 8-bit activations are summed; microkernels/byte_dot.h has the rules of signs.
enum class ByteDots {
  MultiplyAdd,  // vpmaddubsw, vpmaddwd ymm
  Unsigned4,    // vpdpbusd zmm: u8 by s8, 4 a lane
  Widening,     // smull, addp, sadalp
  Signed4,      // sdot: s8 by s8, 4 a lane
  Signed8,      // sdot; and smmla: 2 rows by 2 columns by 8
};

struct IsaTraits {
  const Architecture *architecture;
  llvm::StringLiteral name;
  llvm::StringLiteral cpu;       // LLVM's name of the CPU whose scheduling model is used
  llvm::StringLiteral features;  // LLVM feature string, beside those of the architecture's least
  int64_t registers;             // vector registers
  int64_t registerLanes;         // f32 lanes of one
  ByteDots dots;
  bool hasLaneTable;  // one instruction looks 16 lanes up in a 16-entry table (vpermps zmm)
  bool hasTiles;      // eight tiles of 16 rows x 64 bytes, and dot products of bf16 pairs on them

  // 16-lane f32 vectors that the registers hold: 32 zmm, 16 ymm in pairs, 32 NEON registers in fours.
  int64_t laneVectors() const { return registers * registerLanes / 16; }
};

// Null for an unknown name. Known: isaNames().
const IsaTraits *findIsa(llvm::StringRef name);

// "avx2, avx512, ... and i8mm": for messages.
std::string isaNames();

bool isHostArchitecture(const Architecture &architecture);

// Whether this machine runs its code.
bool isGrantedHere(const IsaTraits &isa);

// The best ISA of this machine, null when it has none of them.
const IsaTraits *hostIsa();

// What the part of a target after "cpu:" stands for, best last: an ISA, "native", an architecture ("x86", "arm64"), or
// nothing for this machine's architecture. A row with tiles is no variant of its own where tiles must not be used: only
// asked for by name does it come `withTiles` false. Empty for an unknown name.
std::vector<std::string> variantsOf(llvm::StringRef name, bool withTiles);

// "x86, arm64": for messages.
std::string architectureNames();

}  // namespace girih::cpu
