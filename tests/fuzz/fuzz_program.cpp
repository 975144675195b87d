// SPDX-License-Identifier: Apache-2.0
// Fuzz target: any bytes as a .girih; whatever opens must be readable to the last byte of every table and
// section.
#include "runtime/program/program.h"
#include "runtime/program/variant.h"

#include <cstdlib>
#include <cstring>
#include <memory>

namespace {

using namespace girih::program;

uint64_t readBytes(std::span<const uint8_t> bytes) {
  uint64_t sum = 0;
  for (uint8_t byte : bytes)
    sum += byte;
  return sum;
}

uint64_t readEverything(const Program &program) {
  const Tables &tables = program.tables();
  uint64_t sum =
      readBytes(program.weights()) + readBytes(tables.tokenizer.payload) + tables.chatTemplate.size();
  for (const Tensor &tensor : tables.tensors)
    sum += readBytes(program.tensorBytes(tensor)) + tensor.shape.size();
  for (const Executable &executable : tables.executables)
    sum += readBytes(executable.image) + executable.entries.at(0).maxTokens;
  return sum;
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t numBytes) {
  // Programs are mapped, hence aligned. The copy ends where the allocation ends, as far as alignment lets it.
  std::unique_ptr<uint8_t, decltype(&std::free)> copy(
      static_cast<uint8_t *>(std::aligned_alloc(64, (numBytes + 63) / 64 * 64 + 64)), &std::free);
  if (numBytes > 0)
    std::memcpy(copy.get(), bytes, numBytes);
  auto program = Program::fromBytes({copy.get(), numBytes}, "fuzz");
  if (!program.isOk())
    return 0;
  volatile uint64_t sum = readEverything(**program);
  (void)sum;
  (void)(*program)->verifyChecksums();
  (void)selectVariant((*program)->tables(), "cpu", {}, "");
  return 0;
}
