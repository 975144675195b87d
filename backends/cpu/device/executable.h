// SPDX-License-Identifier: Apache-2.0
// LoadedImage: a position-independent ELF image from memory, checked to be bare code, placed and made
// executable.
#pragma once

#include "runtime/abi/step.h"
#include "runtime/base/expected.h"

#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace girih::cpu {

// Takes what `ld -shared` makes of code that calls nothing: no dynamic loader, no file and no /tmp are
// involved, so a noexec mount does not matter. The image cannot run anything by being loaded: no
// initialisers, no dependencies. Immutable; owns its pages.
class LoadedImage {
public:
  // What this machine's images are called: "elf-x86-64", "elf-aarch64".
  static const char *format();

  // Fails: DataLoss (no ELF, a number out of bounds), Unimplemented (for another machine, or it needs what
  // bare code does not: symbols of others, thread-local storage, initialisers, relocations of the text),
  // ResourceExhausted, FailedPrecondition (the kernel forbids executable pages).
  static Expected<LoadedImage> load(std::span<const uint8_t> bytes);

  LoadedImage() = default;
  LoadedImage(LoadedImage &&other) noexcept;
  LoadedImage &operator=(LoadedImage &&other) noexcept;
  ~LoadedImage();

  // The address of an exported function within an executable segment. Fails: NotFound.
  Expected<girih_step_fn> find(const std::string &symbol) const;

private:
  struct Function {
    std::string name;
    uint64_t offsetBytes;
  };
  friend class ImageLoader;

  uint8_t *pages = nullptr;
  uint64_t numBytes = 0;
  std::vector<Function> functions;
};

} // namespace girih::cpu
