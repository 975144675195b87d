// SPDX-License-Identifier: Apache-2.0
// The ISA rows and the host's best one.
#include "backends/cpu/codegen/microkernels/isa_table.h"

#include "llvm/ADT/STLExtras.h"
#include "llvm/ADT/SmallVector.h"
#include "llvm/ADT/StringMap.h"
#include "llvm/TargetParser/Host.h"

namespace girih::cpu {

// Best last. What a loader must find is listed with "+"; the CPU names stand for scheduling models, and what else they
// would bring into generated code is taken out. `prefer-256-bit` is turned off by the functions' prefer-vector-width attribute (emit_object.cpp).
static constexpr IsaTraits kIsas[] = {
    {"avx2", "x86-64-v3", "+avx2,+fma,+f16c,+bmi,+bmi2,+popcnt,-lzcnt,-movbe", 8, false, false, false, false},
    {"avx512", "skylake-avx512",
     "+avx2,+fma,+f16c,+bmi,+bmi2,+popcnt,+avx512f,+avx512bw,+avx512vl,+avx512dq,+avx512cd,+avx512vnni,-lzcnt,"
     "-movbe,-prefer-256-bit",
     32, true, true, true, false},
    {"amx", "skylake-avx512",
     "+avx2,+fma,+f16c,+bmi,+bmi2,+popcnt,+avx512f,+avx512bw,+avx512vl,+avx512dq,+avx512cd,+avx512vnni,+avx512bf16,"
     "+amx-tile,+amx-bf16,+amx-int8,-lzcnt,-movbe,-prefer-256-bit",
     32, true, true, true, true},
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

const IsaTraits *hostIsa() {
  llvm::StringMap<bool> host = llvm::sys::getHostCPUFeatures();
  const IsaTraits *best = nullptr;
  for (const IsaTraits &isa : kIsas) {
    llvm::SmallVector<llvm::StringRef> wanted;
    isa.features.split(wanted, ',');
    bool hasAll = llvm::all_of(wanted, [&](llvm::StringRef feature) {
      return feature.starts_with("-") || host.lookup(feature.drop_front());
    });
    if (hasAll)
      best = &isa;
  }
  return best;
}

}  // namespace girih::cpu
