// SPDX-License-Identifier: Apache-2.0
// The ISA rows and the host's best one.
#include "backends/cpu/codegen/microkernels/isa_table.h"

#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/SmallVector.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/ADT/StringMap.h"
#include "llvm/BinaryFormat/ELF.h"
#include "llvm/TargetParser/Host.h"
#include "llvm/TargetParser/Triple.h"

namespace girih::cpu {

static constexpr Architecture kX86 = {
    "x86", "x86_64-unknown-linux-gnu", "x86-64", "", "elf_x86_64", "elf-x86-64", llvm::ELF::R_X86_64_RELATIVE, "v",
    "llvm.x86.ssse3.pshuf.b.128"};
// Code is for any ARMv8.0 (`generic`) and what a row adds; a core's name would bring its atomics and more.
static constexpr Architecture kArm64 = {
    "arm64", "aarch64-unknown-linux-gnu", "arm64",       "generic", "aarch64linux",
    "elf-aarch64", llvm::ELF::R_AARCH64_RELATIVE, "w", "llvm.aarch64.neon.tbl1.v16i8"};
static constexpr const Architecture *kArchitectures[] = {&kX86, &kArm64};

// Best last within an architecture. What a loader must find is listed with "+"; the CPU names stand for scheduling models,
// and what else they would bring into generated code is taken out. `prefer-256-bit` is turned off by the functions'
// prefer-vector-width attribute (emit_object.cpp).
static constexpr IsaTraits kIsas[] = {
    {&kX86, "avx2", "x86-64-v3", "+avx2,+fma,+f16c,+bmi,+bmi2,+popcnt,-lzcnt,-movbe", 16, 8, ByteDots::MultiplyAdd, false,
     false},
    {&kX86, "avx512", "skylake-avx512",
     "+avx2,+fma,+f16c,+bmi,+bmi2,+popcnt,+avx512f,+avx512bw,+avx512vl,+avx512dq,+avx512cd,+avx512vnni,-lzcnt,"
     "-movbe,-prefer-256-bit",
     32, 16, ByteDots::Unsigned4, true, false},
    {&kX86, "amx", "skylake-avx512",
     "+avx2,+fma,+f16c,+bmi,+bmi2,+popcnt,+avx512f,+avx512bw,+avx512vl,+avx512dq,+avx512cd,+avx512vnni,+avx512vbmi,"
     "+avx512bf16,+amx-tile,+amx-bf16,+amx-int8,-lzcnt,-movbe,-prefer-256-bit",
     32, 16, ByteDots::Unsigned4, true, true},
    {&kArm64, "neon", "neoverse-v1", "+neon", 32, 4, ByteDots::Widening, false, false},
    {&kArm64, "dotprod", "neoverse-v1", "+neon,+dotprod", 32, 4, ByteDots::Signed4, false, false},
    {&kArm64, "i8mm", "neoverse-v1", "+neon,+dotprod,+i8mm", 32, 4, ByteDots::Signed8, false, false},
};

const IsaTraits *findIsa(llvm::StringRef name) {
  const auto *row = llvm::find_if(kIsas, [&](const IsaTraits &isa) { return isa.name == name; });
  return row == std::end(kIsas) ? nullptr : row;
}

std::string isaNames() {
  std::string names;
  for (const IsaTraits &isa : kIsas)
    names += (names.empty() ? "" : &isa == std::end(kIsas) - 1 ? " and " : ", ") + isa.name.str();
  return names;
}

bool isHostArchitecture(const Architecture &architecture) {
  return llvm::Triple(architecture.triple).getArch() == llvm::Triple(llvm::sys::getProcessTriple()).getArch();
}

bool isGrantedHere(const IsaTraits &isa) {
  llvm::StringMap<bool> host = llvm::sys::getHostCPUFeatures();
  llvm::SmallVector<llvm::StringRef> wanted;
  isa.features.split(wanted, ',');
  return isHostArchitecture(*isa.architecture) && llvm::all_of(wanted, [&](llvm::StringRef feature) {
           return feature.starts_with("-") || host.lookup(feature.drop_front());
         });
}

const IsaTraits *hostIsa() {
  const IsaTraits *best = nullptr;
  for (const IsaTraits &isa : kIsas)
    if (isGrantedHere(isa))
      best = &isa;
  return best;
}

std::vector<std::string> variantsOf(llvm::StringRef name, bool withTiles) {
  if (findIsa(name) || name == "native")
    return {name.str()};
  std::vector<std::string> variants;
  for (const IsaTraits &isa : kIsas) {
    bool isOfIt = name.empty() ? isHostArchitecture(*isa.architecture) : isa.architecture->name == name;
    if (isOfIt && (withTiles || !isa.hasTiles))
      variants.push_back(isa.name.str());
  }
  return variants;
}

std::string architectureNames() {
  return llvm::join(llvm::map_range(kArchitectures, [](const Architecture *row) { return row->name.str(); }), ", ");
}

}  // namespace girih::cpu
