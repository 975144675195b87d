// SPDX-License-Identifier: Apache-2.0
// What the processor can do and the kernel lets it do.
#pragma once

#include <string>
#include <vector>

namespace girih::cpu {

// Asks the kernel for the right to use AMX tiles, for the whole process, threads that run already included. 0, or the
// errno of its refusal: ENOTSUP (sandboxes, old kernels), ENOSPC (some thread's signal stack is too small for tiles).
// A refusal is no error: another variant of the program runs; tileRefusal says so.
int requestTiles();

// Instruction-set extensions by LLVM's names ("avx2", "fma", "avx512vnni", "amx-int8"; "neon", "dotprod", "i8mm"), in
// a fixed order. A vector extension is listed only when the kernel saves its registers (XGETBV, HWCAP), so what is
// listed can be executed. Linux grants the tiles of AMX only to processes that ask: asks `askForTiles` where the
// processor has them, and lists them when it does not refuse.
std::vector<std::string> grantedFeatures(int (*askForTiles)() = requestTiles);

// One sentence where the processor has tiles and `askForTiles` does not get them; else "". Worth telling a user, since the
// difference in speed is large.
std::string tileRefusal(int (*askForTiles)() = requestTiles);

// All names that grantedFeatures could list: an executable that requires another runs nowhere.
std::vector<std::string> knownFeatures();

// "Intel(R) Xeon(R) Processor"
std::string processorName();

} // namespace girih::cpu
