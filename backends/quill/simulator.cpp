// SPDX-License-Identifier: Apache-2.0
// Functional: what each instruction does, not how long it takes.
#include "simulator.h"

#include <girih/kernel.h>
#include <girih/message.h>

#include <cmath>
#include <cstring>
#include <memory>

namespace quill {
namespace {

enum class Stop { Barrier, Halt };

class Core {
public:
  Core(const Program &program, uint32_t begin, int64_t number, const std::vector<uint64_t> &arguments,
       const std::vector<Segment> &memory)
      : program(program), arguments(arguments), memory(memory), number(number), at(begin) {
    registers[0] = uint64_t(number);
    registers[1] = uint64_t(kCores);
  }

  // To the next barrier, or to the end.
  Stop run() {
    while (true) {
      const Instruction &instruction = program.code[at++];
      if (instruction.op == Op::Halt)
        return Stop::Halt;
      if (instruction.op == Op::Barrier)
        return Stop::Barrier;
      if (instruction.op >= Op::Load8 && instruction.op <= Op::StoreF)
        access(instruction);
      else if (instruction.op >= Op::AddF && instruction.op <= Op::FloatToBits)
        calculateFloat(instruction);
      else if (instruction.op >= Op::DmaIn)
        drive(instruction);
      else
        calculate(instruction);
    }
  }

private:
  [[noreturn]] void fault(const std::string &what) const {
    throw Refusal(GIRIH_OUT_OF_RANGE,
                  "core " + std::to_string(number) + " at instruction " + std::to_string(at - 1) + ": " + what);
  }

  int64_t integer(uint16_t reg) const { return int64_t(registers[reg]); }
  float floating(uint16_t reg) const { return girih_f32_of_bits(integer(reg)); }
  void set(uint16_t reg, float value) { registers[reg] = uint64_t(girih_bits_of_f32(value)); }

  void calculate(const Instruction &i) {
    uint64_t &d = registers[i.d];
    auto a = [&] { return registers[i.a]; };
    auto b = [&] { return registers[i.b]; };
    switch (i.op) {
    case Op::Const: d = program.data[i.a]; break;
    case Op::Argument: d = arguments[i.a]; break;
    case Op::Table: d = entry(i); break;
    case Op::Move: d = a(); break;
    case Op::Add: d = a() + b(); break;
    case Op::Sub: d = a() - b(); break;
    case Op::Mul: d = a() * b(); break;
    case Op::Div: d = uint64_t(integer(i.a) / divisor(i)); break;
    case Op::Rem: d = uint64_t(integer(i.a) % divisor(i)); break;
    case Op::And: d = a() & b(); break;
    case Op::Or: d = a() | b(); break;
    case Op::Shl: d = a() << (b() & 63); break;
    case Op::Shr: d = uint64_t(integer(i.a) >> (b() & 63)); break;
    case Op::Less: d = integer(i.a) < integer(i.b); break;
    case Op::LessEqual: d = integer(i.a) <= integer(i.b); break;
    case Op::Equal: d = a() == b(); break;
    case Op::NotEqual: d = a() != b(); break;
    case Op::Cut32: d = uint64_t(int64_t(int32_t(uint32_t(a())))); break;
    case Op::Jump: at = i.a + 65536u * i.b; break;
    case Op::JumpIfZero: at = d == 0 ? i.a + 65536u * i.b : at; break;
    default: fault("instruction " + std::to_string(int(i.op)) + " is not one of integers");
    }
  }

  int64_t divisor(const Instruction &i) const {
    if (registers[i.b] + 1 <= 1)  // 0, and -1 for the one number that has no negative
      fault("a division by " + std::to_string(integer(i.b)));
    return integer(i.b);
  }

  uint64_t entry(const Instruction &i) const {
    uint64_t place = i.b + registers[i.a];
    if (place >= program.data.size())
      fault("number " + std::to_string(integer(i.a)) + " of a table");
    return program.data[place];
  }

  void calculateFloat(const Instruction &i) {
    float a = floating(i.a), b = floating(i.b);
    switch (i.op) {
    case Op::AddF: return set(i.d, a + b);
    case Op::SubF: return set(i.d, a - b);
    case Op::MulF: return set(i.d, a * b);
    case Op::DivF: return set(i.d, a / b);
    case Op::LessF: registers[i.d] = a < b; return;
    case Op::LessEqualF: registers[i.d] = a <= b; return;
    case Op::EqualF: registers[i.d] = a == b; return;
    case Op::NotEqualF: registers[i.d] = a != b; return;
    case Op::Fma: return set(i.d, fmaf(a, b, floating(i.d)));
    case Op::ToFloat: return set(i.d, float(integer(i.a)));
    case Op::ToInteger: registers[i.d] = uint64_t(std::fabs(a) < 9.0e18f ? int64_t(a) : 0); return;
    case Op::NegF: return set(i.d, -a);
    case Op::AbsF: return set(i.d, fabsf(a));
    case Op::Exp: return set(i.d, expf(a));
    case Op::Sin: return set(i.d, sinf(a));
    case Op::Cos: return set(i.d, cosf(a));
    case Op::Tanh: return set(i.d, tanhf(a));
    case Op::Sqrt: return set(i.d, sqrtf(a));
    case Op::Log: return set(i.d, logf(a));
    case Op::Pow: return set(i.d, powf(a, b));
    case Op::HalfToFloat: return set(i.d, girih_f32_of_f16(integer(i.a)));
    case Op::FloatToHalf: registers[i.d] = uint64_t(girih_f16_of_f32(a)); return;
    case Op::BitsToFloat: return set(i.d, a);
    case Op::FloatToBits: registers[i.d] = registers[i.a] & 0xffffffff; return;
    default: fault("instruction " + std::to_string(int(i.op)) + " is not one of floats");
    }
  }

  // `count` bytes of the scratchpad.
  uint8_t *near(uint64_t place, uint64_t count) {
    if (place > kScratchpadBytes || count > kScratchpadBytes - place)
      fault(std::to_string(count) + " bytes at " + std::to_string(int64_t(place)) + " of a scratchpad of " +
            std::to_string(kScratchpadBytes));
    return &scratchpad[place];
  }

  template <typename T> void load(const Instruction &i) {
    T value;
    std::memcpy(&value, near(i.b + registers[i.a] * sizeof value, sizeof value), sizeof value);
    registers[i.d] = uint64_t(int64_t(value));
  }
  void store(const Instruction &i, size_t size) {
    std::memcpy(near(i.b + registers[i.a] * size, size), &registers[i.d], size);
  }

  void access(const Instruction &i) {
    switch (i.op) {
    case Op::Load8: return load<uint8_t>(i);
    case Op::Load8S: return load<int8_t>(i);
    case Op::Load16: return load<uint16_t>(i);
    case Op::Load32: return load<int32_t>(i);
    case Op::LoadF: return load<uint32_t>(i);
    case Op::Load64: return load<int64_t>(i);
    case Op::Store8: return store(i, 1);
    case Op::Store16: return store(i, 2);
    case Op::Store64: return store(i, 8);
    default: return store(i, 4);
    }
  }

  void drive(const Instruction &i) {
    const uint64_t *r = &registers[i.d];
    if (i.op == Op::Multiply)
      return multiply(r[0], r[1], r[2]);
    bool isIn = i.op == Op::DmaIn;
    uint64_t memoryAt = isIn ? r[1] : r[0], nearAt = isIn ? r[0] : r[1];
    int64_t rows = int64_t(r[2]), rowBytes = int64_t(r[3]), stride = int64_t(r[4]);
    if (rows < 0 || rowBytes < 0 || rows > kScratchpadBytes || rowBytes > kScratchpadBytes)
      fault("a transfer of " + std::to_string(rows) + " rows of " + std::to_string(rowBytes) + " bytes");
    for (int64_t row = 0; row < rows && rowBytes > 0; ++row) {
      uint8_t *far = reach(memoryAt + uint64_t(row * stride), uint64_t(rowBytes), !isIn);
      uint8_t *place = near(nearAt + uint64_t(row * rowBytes), uint64_t(rowBytes));
      std::memcpy(isIn ? place : far, isIn ? far : place, size_t(rowBytes));
    }
  }

  uint8_t *reach(uint64_t address, uint64_t count, bool writes) const {
    uint64_t index = (address >> kSegmentShift) - 1, offset = address & ((uint64_t(1) << kSegmentShift) - 1);
    if (index >= memory.size())
      fault("address " + std::to_string(address) + " is in no memory");
    const Segment &segment = memory[index];
    if (offset > segment.sizeBytes || count > segment.sizeBytes - offset || (writes && !segment.isWritable))
      fault(std::to_string(count) + " bytes " + (writes ? "to " : "from ") + std::to_string(offset) + " of " + segment.name +
            ", which has " + std::to_string(segment.sizeBytes) + (segment.isWritable ? "" : " that are not written"));
    return segment.bytes + offset;
  }

  // Products of f16 are exact in f32; sums are kept in it, over ascending k.
  void multiply(uint64_t sumsAt, uint64_t aAt, uint64_t bAt) {
    constexpr uint64_t kElements = kTile * kTile;
    uint16_t a[kElements], b[kElements];
    float sums[kElements];
    std::memcpy(a, near(aAt, sizeof a), sizeof a);
    std::memcpy(b, near(bAt, sizeof b), sizeof b);
    std::memcpy(sums, near(sumsAt, sizeof sums), sizeof sums);
    for (int64_t m = 0; m < kTile; ++m)
      for (int64_t k = 0; k < kTile; ++k) {
        float left = girih_f32_of_f16(a[m * kTile + k]);
        for (int64_t n = 0; n < kTile; ++n)
          sums[m * kTile + n] += left * girih_f32_of_f16(b[k * kTile + n]);
      }
    std::memcpy(near(sumsAt, sizeof sums), sums, sizeof sums);
  }

  const Program &program;
  const std::vector<uint64_t> &arguments;
  const std::vector<Segment> &memory;
  int64_t number;
  uint64_t at;
  std::array<uint64_t, kRegisters> registers = {};
  std::vector<uint8_t> scratchpad = std::vector<uint8_t>(kScratchpadBytes);
};

}  // namespace

void run(const Program &program, uint32_t begin, const std::vector<uint64_t> &arguments, const std::vector<Segment> &memory) {
  std::vector<std::unique_ptr<Core>> cores;
  for (int64_t number = 0; number < kCores; ++number)
    cores.push_back(std::make_unique<Core>(program, begin, number, arguments, memory));
  for (int64_t first = 0;; first = (first + 1) % kCores) {
    int64_t numEnded = 0;
    for (int64_t turn = 0; turn < kCores; ++turn)
      numEnded += cores[size_t((first + turn) % kCores)]->run() == Stop::Halt;
    if (numEnded == kCores)
      return;
    if (numEnded > 0)
      throw Refusal(GIRIH_OUT_OF_RANGE, "a core waits at a barrier for one that has ended");
  }
}

}  // namespace quill
