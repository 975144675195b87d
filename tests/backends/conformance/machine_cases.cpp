// SPDX-License-Identifier: Apache-2.0
// Level "machine": whether what is described is there. Kernels as C99 (runtime/abi/kernel.h), which a compiler would write by
// that description, take all of the nearest memory, every core, the barrier, the unit that moves rows and the one that multiplies.
#include "tests/backends/conformance/machine_facts.h"
#include "tests/backends/conformance/matrices.h"

#include "runtime/base/element_type.h"

#include <algorithm>

namespace girih::conformance {
namespace {

constexpr uint64_t kPlace = 64; // of operands and results in their bindings

std::string number(uint64_t value) { return std::to_string(value); }

// Statements of kernels, spelled as the machine wants them.
class Kernel {
public:
  explicit Kernel(const MachineFacts &facts) : facts(facts) {}

  // `count` elements from or to an address: by the unit that moves rows, or by loads and stores.
  std::string in(const std::string &array, const std::string &element, const std::string &address, uint64_t count) const {
    std::string bytes = number(count * bytesOf(element));
    if (!facts.dmaIn.empty())
      return facts.dmaIn + "(" + array + ", " + address + ", 1, " + bytes + ", 0);\n";
    return "{ " + element + " *p = (" + element + " *)(" + address + ");\nfor (int64_t i = 0; i < " + number(count) +
           "; i += 1) { " + array + "[i] = p[i]; } }\n";
  }
  std::string out(const std::string &address, const std::string &array, const std::string &element, uint64_t count) const {
    std::string bytes = number(count * bytesOf(element));
    if (!facts.dmaOut.empty())
      return facts.dmaOut + "(" + address + ", " + array + ", 1, " + bytes + ", 0);\n";
    return "{ " + element + " *p = (" + element + " *)(" + address + ");\nfor (int64_t i = 0; i < " + number(count) +
           "; i += 1) { p[i] = " + array + "[i]; } }\n";
  }
  std::string meet() const {
    return facts.barrier.empty() ? "args->barrier(args->team, thread);\n" : facts.barrier + "(args, thread);\n";
  }
  static std::string entry(const std::string &body) {
    return "#include <girih/kernel.h>\n\nvoid e(const girih_step_args *args, int64_t thread, int64_t threads)\n{\n" + body + "}\n";
  }

private:
  static uint64_t bytesOf(const std::string &element) {
    return element == "uint8_t" ? 1 : element == "uint16_t" ? 2 : element == "int64_t" ? 8 : 4;
  }
  const MachineFacts &facts;
};

#define MACHINE(facts)                                                                                       \
  auto facts##Read = readMachine(subject);                                                                   \
  if (!facts##Read.isOk())                                                                                   \
    return findingOf(facts##Read.status());                                                                  \
  const MachineFacts &facts = *facts##Read
#define KERNEL_BENCH(bench, ...)                                                                             \
  auto bench##Made = GraphBench::createOfKernels(subject, __VA_ARGS__);                                      \
  if (!bench##Made.isOk())                                                                                   \
    return findingOf(bench##Made.status());                                                                  \
  GraphBench &bench = *bench##Made

// The description promises no more memory than the device has.
Finding memoryIsAsDescribed(const Subject &subject) {
  MACHINE(machine);
  auto device = hal::describeDevice(*subject.backend, 0);
  if (!device.isOk())
    return findingOf(device.status());
  if (device->memoryBytes == 0)
    return unsupported("the device does not say how much memory it has");
  return machine.farthestBytes <= device->memoryBytes
             ? pass()
             : fail("the machine's farthest memory is described as " + number(machine.farthestBytes) + " bytes, the device has " +
                    number(device->memoryBytes));
}

// An array of all of it, written and read backwards.
Finding nearestMemoryIsThere(const Subject &subject) {
  MACHINE(machine);
  auto count = static_cast<uint64_t>(machine.nearestBytes);
  Kernel kernel(machine);
  std::string last = number(count - 1);
  std::string body = "uint8_t a[" + number(count) + "];\nif (thread == 0) {\n" +
                     kernel.in("a", "uint8_t", "args->weights + " + number(kPlace), count) + "for (int64_t i = 0; i < " +
                     number(count / 2) + "; i += 1) {\nint64_t low = a[i];\na[i] = a[" + last + " - i];\na[" + last +
                     " - i] = low;\n}\n" + kernel.out("args->arena + " + number(kPlace), "a", "uint8_t", count) + "}\n";
  KERNEL_BENCH(bench, Kernel::entry(body), {"e"}, 0, (count + 4096) / 64 * 64);
  std::vector<uint8_t> sent(count);
  for (size_t at = 0; at < sent.size(); ++at)
    sent[at] = static_cast<uint8_t>(at * 31 + at / 251);
  GIRIH_TRY_FINDING(bench.bindings[GIRIH_STEP_BINDING_WEIGHTS].write(kPlace, sent));
  GIRIH_TRY_FINDING(bench.run(0));
  std::reverse(sent.begin(), sent.end());
  EXPECT_BYTES(bench, GIRIH_STEP_BINDING_ARENA, kPlace, sent);
  return pass();
}

// A device that is opened as it would by itself calls the entry on each core that is described, and on no other.
Finding coresAreThere(const Subject &subject) {
  MACHINE(machine);
  Kernel kernel(machine);
  KERNEL_BENCH(bench, Kernel::entry("int64_t a[2];\na[0] = thread;\na[1] = threads;\n" +
                                    kernel.out("args->arena + " + number(kPlace) + " + thread * 16", "a", "int64_t", 2) + kernel.meet()),
               {"e"}, 0, 1 << 16);
  GIRIH_TRY_FINDING(bench.run(0));
  std::vector<int64_t> expected;
  for (int64_t core = 0; core < machine.cores; ++core)
    expected.insert(expected.end(), {core, machine.cores});
  EXPECT_BYTES(bench, GIRIH_STEP_BINDING_ARENA, kPlace, bytesOf(expected));
  return pass();
}

// Each core reads what the next one wrote before they met, time after time.
Finding barrierIsMet(const Subject &subject) {
  MACHINE(machine);
  if (machine.cores == 1)
    return unsupported("one core meets nobody");
  Kernel kernel(machine);
  constexpr int kRounds = 12;
  std::string mine = "args->arena + " + number(kPlace) + " + thread * 64";
  std::string next = "args->arena + " + number(kPlace) + " + (thread + 1) % threads * 64";
  std::string body = "int64_t a[1];\na[0] = thread + 1;\n";
  for (int round = 0; round < kRounds; ++round)
    body += kernel.out(mine, "a", "int64_t", 1) + kernel.meet() + kernel.in("a", "int64_t", next, 1) + "a[0] = a[0] * 3 + thread;\n" + kernel.meet();
  KERNEL_BENCH(bench, Kernel::entry(body + kernel.out(mine, "a", "int64_t", 1)), {"e"}, 0, 1 << 16);
  GIRIH_TRY_FINDING(bench.run(0));
  auto cores = static_cast<size_t>(machine.cores);
  std::vector<int64_t> values(cores), before(cores);
  for (size_t core = 0; core < cores; ++core)
    values[core] = static_cast<int64_t>(core) + 1;
  for (int round = 0; round < kRounds; ++round) {
    before = values;
    for (size_t core = 0; core < cores; ++core)
      values[core] = before[(core + 1) % cores] * 3 + static_cast<int64_t>(core);
  }
  auto arena = bench.bytesOf(GIRIH_STEP_BINDING_ARENA);
  if (!arena.isOk())
    return findingOf(arena.status());
  for (size_t core = 0; core < cores; ++core) {
    int64_t got = 0;
    std::memcpy(&got, arena->data() + kPlace + core * 64, sizeof got);
    if (got != values[core])
      return fail("core " + number(core) + " ends with " + std::to_string(got) + " after " + std::to_string(kRounds) +
                  " meetings, expected " + std::to_string(values[core]));
  }
  return pass();
}

// Rows that are apart in memory and dense nearby, at odd places; what lies between them is not touched.
Finding rowsAreMoved(const Subject &subject) {
  MACHINE(machine);
  if (machine.dmaIn.empty())
    return unsupported("loads reach all of its memory");
  constexpr uint64_t kRows = 5, kRowBytes = 7, kApartIn = 13, kApartOut = 11;
  std::string body = "uint8_t a[64];\nif (thread == 0) {\n" + machine.dmaIn + "(a, args->weights + 67, " + number(kRows) + ", " +
                     number(kRowBytes) + ", " + number(kApartIn) + ");\n" + machine.dmaOut + "(args->arena + 65, a, " + number(kRows) +
                     ", " + number(kRowBytes) + ", " + number(kApartOut) + ");\n}\n";
  KERNEL_BENCH(bench, Kernel::entry(body), {"e"});
  std::vector<uint8_t> sent(kRows * kApartIn), expected((kRows - 1) * kApartOut + kRowBytes, kGuard + GIRIH_STEP_BINDING_ARENA);
  for (size_t at = 0; at < sent.size(); ++at)
    sent[at] = static_cast<uint8_t>(at + 1);
  for (uint64_t row = 0; row < kRows; ++row)
    std::copy_n(&sent[row * kApartIn], kRowBytes, &expected[row * kApartOut]);
  GIRIH_TRY_FINDING(bench.bindings[GIRIH_STEP_BINDING_WEIGHTS].write(67, sent));
  GIRIH_TRY_FINDING(bench.run(0));
  EXPECT_BYTES(bench, GIRIH_STEP_BINDING_ARENA, 65, expected);
  return pass();
}

// sums += a b, twice. Whole numbers that f16 holds, with sums that need all 24 bits of f32.
Finding tilesAreMultiplied(const Subject &subject) {
  MACHINE(machine);
  const MatrixFacts &unit = machine.matrix;
  if (unit.builtin.empty())
    return unsupported("it has no unit that multiplies tiles");
  Kernel kernel(machine);
  auto sizeA = static_cast<size_t>(unit.rows * unit.depth), sizeB = static_cast<size_t>(unit.depth * unit.columns),
       sizeC = static_cast<size_t>(unit.rows * unit.columns);
  std::string weights = "args->weights + ", multiply = unit.builtin + "(c, a, b);\n";
  std::string body = "float c[" + number(sizeC) + "];\nuint16_t a[" + number(sizeA) + "];\nuint16_t b[" + number(sizeB) +
                     "];\nif (thread == 0) {\n" + kernel.in("c", "float", weights + number(kPlace), sizeC) +
                     kernel.in("a", "uint16_t", weights + number(kPlace + 4 * sizeC), sizeA) +
                     kernel.in("b", "uint16_t", weights + number(kPlace + 4 * sizeC + 2 * sizeA), sizeB) + multiply + multiply +
                     kernel.out("args->arena + " + number(kPlace), "c", "float", sizeC) + "}\n";
  KERNEL_BENCH(bench, Kernel::entry(body), {"e"}, 0, (4 * sizeC + 2 * sizeA + 2 * sizeB + 4096) / 64 * 64);
  std::mt19937 random(61);
  auto wholes = [&](size_t count, uint32_t most) {
    std::vector<float> values(count);
    for (float &value : values)
      value = static_cast<float>(random() % (2 * most + 1)) - static_cast<float>(most);
    return values;
  };
  std::vector<float> a = wholes(sizeA, 500), b = wholes(sizeB, 500), c = wholes(sizeC, 100000);
  std::vector<uint8_t> sent = bytesOf(c);
  for (const std::vector<float> *values : {&a, &b})
    for (float value : *values) {
      uint16_t half = floatToHalf(value);
      sent.insert(sent.end(), {static_cast<uint8_t>(half & 255), static_cast<uint8_t>(half >> 8)});
    }
  GIRIH_TRY_FINDING(bench.bindings[GIRIH_STEP_BINDING_WEIGHTS].write(kPlace, sent));
  GIRIH_TRY_FINDING(bench.run(0));
  auto arena = bench.bytesOf(GIRIH_STEP_BINDING_ARENA);
  if (!arena.isOk())
    return findingOf(arena.status());
  std::vector<float> got(sizeC);
  std::memcpy(got.data(), arena->data() + kPlace, 4 * sizeC);
  std::vector<Judged> wanted;
  for (int64_t m = 0; m < unit.rows; ++m)
    for (int64_t n = 0; n < unit.columns; ++n) {
      double sum = static_cast<double>(c[static_cast<size_t>(m * unit.columns + n)]);
      for (int64_t k = 0; k < unit.depth; ++k)
        sum += 2 * static_cast<double>(a[static_cast<size_t>(m * unit.depth + k)]) * static_cast<double>(b[static_cast<size_t>(k * unit.columns + n)]);
      wanted.push_back({sum, 0});
    }
  std::string difference = judge(got, wanted);
  return difference.empty() ? pass() : fail("`" + unit.builtin + "`: " + difference);
}

} // namespace

const std::vector<Case> &machineCases() {
  static const std::vector<Case> cases = {
      {"machine", "memory_is_as_described", memoryIsAsDescribed},
      {"machine", "nearest_memory_is_there", nearestMemoryIsThere},
      {"machine", "cores_are_there", coresAreThere},
      {"machine", "barrier_is_met", barrierIsMet},
      {"machine", "rows_are_moved", rowsAreMoved},
      {"machine", "tiles_are_multiplied", tilesAreMultiplied},
  };
  return cases;
}

} // namespace girih::conformance
