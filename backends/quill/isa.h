// SPDX-License-Identifier: Apache-2.0
// quill's instruction set and its program file.
#pragma once

#include <cstdint>
#include <stdexcept>
#include <string>
#include <vector>

namespace quill {

constexpr int64_t kCores = 2;
constexpr uint32_t kScratchpadBytes = 64 << 10;  // of each core; all that its loads and stores reach
constexpr size_t kDataWords = 65536;             // of 64 bits: a program's constants and tables
constexpr uint32_t kRegisters = 1024;            // of 64 bits; floats are in the low 32
constexpr int64_t kTile = 16;                    // of the matrix unit, in each of its three directions

// `d` is written, `a` and `b` are read, unless it says otherwise. Loads and stores reach scratchpad[b + size * a].
enum class Op : uint8_t {
  Halt, Barrier,
  Const,     // d = data[a]
  Table,     // d = data[b + register a]
  Argument,  // d = word number a of the step's arguments
  Move,
  Add, Sub, Mul, Div, Rem, And, Or, Shl, Shr, Less, LessEqual, Equal, NotEqual,
  Cut32,     // the low 32 bits, with their sign
  AddF, SubF, MulF, DivF, LessF, LessEqualF, EqualF, NotEqualF,
  Fma,       // d = a * b + d
  ToFloat, ToInteger, NegF, AbsF, Exp, Sin, Cos, Tanh, Sqrt, Log, Pow,
  HalfToFloat, FloatToHalf, BitsToFloat, FloatToBits,
  Load8, Load8S, Load16, Load32, Load64, LoadF,
  Store8, Store16, Store32, Store64, StoreF,  // of register d
  Jump,      // to instruction a + 65536 * b
  JumpIfZero,  // of register d
  DmaIn,     // registers d ...: scratchpad, memory, rows, bytes of a row, bytes between rows in memory
  DmaOut,    // registers d ...: memory, scratchpad, and the same
  Multiply,  // registers d ...: where sums, a and b are in the scratchpad
  Last = Multiply,
};

struct Instruction {
  Op op;
  uint8_t unused;
  uint16_t d, a, b;
};
static_assert(sizeof(Instruction) == 8);

struct Entry {
  std::string name;
  uint32_t begin = 0;  // instruction
};

struct Program {
  std::vector<Entry> entries;
  std::vector<Instruction> code;
  std::vector<uint64_t> data;  // constants and tables
  bool usesMatrixUnit() const;
};

// What quill refuses, as the ABI's code and text; never leaves the library.
struct Refusal : std::runtime_error {
  Refusal(int32_t code, const std::string &text) : std::runtime_error(text), code(code) {}
  int32_t code;
};

inline constexpr const char *kFormat = "quill-1";
std::vector<uint8_t> write(const Program &program);
// Every index of every instruction is checked, so that the simulator need not. Throws Refusal.
Program read(const uint8_t *bytes, uint64_t size);

}  // namespace quill
