// SPDX-License-Identifier: Apache-2.0
// What the processor can do and the kernel lets it do.
#pragma once

#include <string>
#include <vector>

namespace girih::cpu {

// Instruction-set extensions by LLVM's names ("avx2", "fma", "f16c", "avx512f", "avx512vnni", "amx-int8"), in
// a fixed order. A vector extension is listed only when the kernel saves its registers (XGETBV), so what is
// listed can be executed. AMX is not listed: Linux grants its tiles only to processes that ask.
std::vector<std::string> grantedFeatures();

// All names that grantedFeatures could list: an executable that requires another runs nowhere.
std::vector<std::string> knownFeatures();

// "Intel(R) Xeon(R) Processor"
std::string processorName();

} // namespace girih::cpu
