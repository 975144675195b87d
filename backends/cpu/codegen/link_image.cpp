// SPDX-License-Identifier: Apache-2.0
// Objects -> shared object by ld.lld, and the check that it needs nothing from outside.
#include "backends/cpu/codegen/emit_object.h"

#include "backends/cpu/codegen/backend.h"
#include "backends/cpu/codegen/microkernels/isa_table.h"

#include "llvm/Object/ELFObjectFile.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/FileUtilities.h"
#include "llvm/Support/MemoryBuffer.h"
#include "llvm/Support/Program.h"
#include "llvm/Support/raw_ostream.h"

namespace girih::cpu {

namespace {

std::string findLinker() {
  for (const char *name : {"ld.lld-22", "ld.lld"}) {
    if (llvm::ErrorOr<std::string> found = llvm::sys::findProgramByName(name, {GIRIH_LLVM_TOOLS_DIR}))
      return *found;
    if (llvm::ErrorOr<std::string> found = llvm::sys::findProgramByName(name))
      return *found;
  }
  return {};
}

std::string readText(llvm::StringRef path) {
  auto file = llvm::MemoryBuffer::getFile(path);
  return file ? (*file)->getBuffer().trim().str() : std::string();
}

std::vector<uint8_t> readBytes(llvm::StringRef path) {
  auto file = llvm::MemoryBuffer::getFile(path, /*IsText=*/false, /*RequiresNullTerminator=*/false);
  if (!file)
    return {};
  return std::vector<uint8_t>((*file)->getBuffer().bytes_begin(), (*file)->getBuffer().bytes_end());
}

Status writeBytes(llvm::StringRef path, const std::vector<uint8_t> &bytes) {
  std::error_code error;
  llvm::raw_fd_ostream stream(path, error);
  stream.write(reinterpret_cast<const char *>(bytes.data()), bytes.size());
  stream.close();
  if (!error && !stream.has_error())
    return {};
  stream.clear_error();
  return resourceExhausted("writing an object to " + path.str() + " failed; is the disk full?");
}

// A file that is removed when this goes out of scope.
struct TemporaryFile {
  llvm::SmallString<128> path;
  std::unique_ptr<llvm::FileRemover> remover;

  explicit TemporaryFile(llvm::StringRef suffix) {
    if (!llvm::sys::fs::createTemporaryFile("girih-step", suffix, path))
      remover = std::make_unique<llvm::FileRemover>(path);
  }
};

}  // namespace

Expected<std::vector<uint8_t>> linkImage(const std::vector<std::vector<uint8_t>> &objects, const CpuTarget &target) {
  std::string linker = findLinker();
  if (linker.empty())
    return notFound("no ld.lld-22 or ld.lld on PATH nor in " GIRIH_LLVM_TOOLS_DIR "; install Debian package lld-22");
  TemporaryFile output("so"), messages("txt");
  std::vector<TemporaryFile> inputs;
  for (const std::vector<uint8_t> &object : objects) {
    const TemporaryFile &input = inputs.emplace_back("o");
    if (input.remover)
      GIRIH_TRY(writeBytes(input.path, object));
  }
  if (!output.remover || !messages.remover || llvm::any_of(inputs, [](auto &input) { return !input.remover; }))
    return resourceExhausted("no temporary file can be made; is the disk full or TMPDIR missing?");
  std::vector<llvm::StringRef> arguments = {linker, "-m", findIsa(target.isa)->architecture->emulation, "-shared",
                                            "--no-undefined", "-z", "separate-code", "-z", "now", "-z", "text",
                                            "--hash-style=both", "--build-id=none", "-s", "-Bsymbolic", "-o", output.path};
  for (const TemporaryFile &input : inputs)
    arguments.push_back(input.path);
  std::optional<llvm::StringRef> redirects[] = {std::nullopt, llvm::StringRef(messages.path),
                                                llvm::StringRef(messages.path)};
  std::string error;
  int status = llvm::sys::ExecuteAndWait(linker, arguments, std::nullopt, redirects, 0, 0, &error);
  // On a full disk the linker may not even be able to say so.
  std::string said = error + readText(messages.path);
  if (status != 0 && (said.empty() || said.find("No space left") != std::string::npos))
    return resourceExhausted("linking the step into " + output.path.str().str() + " failed; is the disk full? " + said);
  if (status != 0)
    return internalError("linking the step failed (" + linker + ", status " + std::to_string(status) + "): " + said);
  std::vector<uint8_t> bytes = readBytes(output.path);
  if (bytes.empty())
    return resourceExhausted("the linker wrote nothing to " + output.path.str().str() + "; is the disk full?");
  return bytes;
}

Status checkImage(const std::vector<uint8_t> &image, const CpuTarget &target) {
  llvm::MemoryBufferRef buffer(llvm::StringRef(reinterpret_cast<const char *>(image.data()), image.size()), "step");
  auto file = llvm::object::ELFObjectFile<llvm::object::ELF64LE>::create(buffer);
  if (!file)
    return internalError("the linked step is no ELF file: " + llvm::toString(file.takeError()));
  for (llvm::object::ELFSymbolRef symbol : file->getDynamicSymbolIterators()) {
    llvm::Expected<uint32_t> flags = symbol.getFlags();
    llvm::Expected<llvm::StringRef> name = symbol.getName();
    bool isNamed = name && !name->empty();
    if (!flags || !name) {
      llvm::consumeError(flags.takeError());
      llvm::consumeError(name.takeError());
      return internalError("the linked step's symbols cannot be read");
    }
    if (isNamed && (*flags & llvm::object::SymbolRef::SF_Undefined))
      return internalError("the step calls \"" + name->str() + "\"; generated code may call nothing but the barrier");
  }
  for (const llvm::object::SectionRef &section : static_cast<const llvm::object::ObjectFile &>(*file).dynamic_relocation_sections())
    for (const llvm::object::RelocationRef &relocation : section.relocations())
      if (uint32_t allowed = findIsa(target.isa)->architecture->relativeRelocation; relocation.getType() != allowed)
        return internalError("the step has a relocation of type " + std::to_string(relocation.getType()) +
                             "; only relative ones (" + std::to_string(allowed) + ") are allowed");
  return Status();
}

}  // namespace girih::cpu
