// SPDX-License-Identifier: Apache-2.0
// Loads ELF64 shared objects of this machine without the dynamic loader. Every number of the file is checked before
// use. The format: System V ABI, chapters 4 and 5; AMD64 supplement, section 4.4; ELF for the Arm 64-bit architecture.
#include "backends/cpu/device/executable.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <elf.h>
#include <sys/mman.h>
#include <unistd.h>
#include <utility>

namespace girih::cpu {
namespace {

#if defined(__aarch64__)
constexpr const char *kFormat = "elf-aarch64", *kMachineName = "64-bit Arm (183)";
constexpr uint16_t kMachine = EM_AARCH64;
constexpr uint32_t kNoRelocation = R_AARCH64_NONE, kRelativeRelocation = R_AARCH64_RELATIVE;
constexpr uint64_t kLargestPageBytes = 65536; // what segments are apart; kernels have pages of 4, 16 or 64 KiB
#else
constexpr const char *kFormat = "elf-x86-64", *kMachineName = "64-bit x86 (62)";
constexpr uint16_t kMachine = EM_X86_64;
constexpr uint32_t kNoRelocation = R_X86_64_NONE, kRelativeRelocation = R_X86_64_RELATIVE;
constexpr uint64_t kLargestPageBytes = 4096;
#endif
constexpr uint64_t kMostImageBytes = uint64_t{1} << 30;
constexpr uint64_t kMostSegments = 64;

uint64_t pageBytes() {
  static const auto bytes = static_cast<uint64_t>(::sysconf(_SC_PAGESIZE));
  return bytes;
}
uint64_t roundDown(uint64_t value) { return value & ~(pageBytes() - 1); }
uint64_t roundUp(uint64_t value) { return roundDown(value + pageBytes() - 1); }

Status damaged(const std::string &what) {
  return dataLoss("the executable image is damaged: " + what + "; copy or compile the file again");
}
Status unsupported(const std::string &what) {
  return unimplemented("the executable image " + what + ", but images are bare code; compile the file again");
}

// Tags that say where things are, or that change nothing for a loader of bare code.
bool isHarmless(int64_t tag) {
  switch (tag) {
  case DT_SYMTAB:
  case DT_STRTAB:
  case DT_STRSZ:
  case DT_SYMENT:
  case DT_HASH:
  case DT_GNU_HASH:
  case DT_SONAME:
  case DT_RELA:
  case DT_RELASZ:
  case DT_RELAENT:
  case DT_RELACOUNT:
  case DT_SYMBOLIC:
  case DT_BIND_NOW:
  case DT_DEBUG:
  case DT_FLAGS:
  case DT_FLAGS_1:
  case DT_PLTGOT:
    return true;
  default:
    return false;
  }
}

const char *forbiddenTag(int64_t tag) {
  switch (tag) {
  case DT_NEEDED:
    return "needs another library";
  case DT_INIT:
  case DT_INIT_ARRAY:
  case DT_PREINIT_ARRAY:
    return "has initialisers";
  case DT_FINI:
  case DT_FINI_ARRAY:
    return "has finalisers";
  case DT_TEXTREL:
    return "relocates its text";
  case DT_JMPREL:
  case DT_PLTREL:
  case DT_PLTRELSZ:
    return "calls through a procedure linkage table";
  default:
    return nullptr;
  }
}

} // namespace

class ImageLoader {
public:
  explicit ImageLoader(std::span<const uint8_t> bytes) : bytes(bytes) {}
  Expected<LoadedImage> load();

private:
  Status readSegments();
  Status checkSegments();
  Status place();
  Status readDynamic();
  Status relocate();
  Status readSymbols();
  Status protect();

  // A copy of a record of the file or of the placed image; the bytes need not be aligned.
  template <typename T> static bool readAt(std::span<const uint8_t> from, uint64_t offset, T &to) {
    if (offset > from.size() || sizeof(T) > from.size() - offset)
      return false;
    std::memcpy(&to, from.data() + offset, sizeof(T));
    return true;
  }
  std::span<const uint8_t> placed() const { return {image.pages, image.numBytes}; }
  bool isWithin(uint64_t address, uint64_t size, uint32_t flags) const {
    for (const Elf64_Phdr &segment : loads)
      if ((segment.p_flags & flags) == flags && address >= segment.p_vaddr && size <= segment.p_memsz &&
          address - segment.p_vaddr <= segment.p_memsz - size)
        return true;
    return false;
  }

  std::span<const uint8_t> bytes;
  Elf64_Ehdr header;
  std::vector<Elf64_Phdr> loads; // ascending, on distinct pages
  Elf64_Phdr dynamic = {};       // p_memsz 0: none
  Elf64_Phdr relro = {};
  uint64_t symbolTable = 0, stringTable = 0, stringBytes = 0, relocations = 0, relocationBytes = 0;
  LoadedImage image;
};

Status ImageLoader::readSegments() {
  if (!readAt(bytes, 0, header) || std::memcmp(header.e_ident, ELFMAG, SELFMAG) != 0)
    return damaged("it does not begin as an ELF file");
  if (header.e_ident[EI_CLASS] != ELFCLASS64 || header.e_ident[EI_DATA] != ELFDATA2LSB ||
      header.e_machine != kMachine || header.e_type != ET_DYN)
    return unimplemented("the executable image is for ELF machine " + std::to_string(header.e_machine) +
                         ", type " + std::to_string(header.e_type) +
                         "; this device runs " + kMachineName + " shared objects (3)");
  if (header.e_phentsize != sizeof(Elf64_Phdr) || header.e_phnum > kMostSegments)
    return damaged("it has " + std::to_string(header.e_phnum) + " program headers of " +
                   std::to_string(header.e_phentsize) + " bytes");
  for (uint64_t index = 0; index < header.e_phnum; ++index) {
    Elf64_Phdr segment;
    // Cannot wrap: readAt compares with the size first, and index * 56 is small.
    if (header.e_phoff > bytes.size() || !readAt(bytes, header.e_phoff + index * sizeof segment, segment))
      return damaged("program header " + std::to_string(index) + " lies beyond its end");
    switch (segment.p_type) {
    case PT_LOAD:
      loads.push_back(segment);
      break;
    case PT_DYNAMIC:
      dynamic = segment;
      break;
    case PT_GNU_RELRO:
      relro = segment;
      break;
    case PT_TLS:
      return unsupported("has thread-local storage");
    case PT_INTERP:
      return unsupported("asks for a dynamic loader");
    case PT_GNU_STACK:
      if (segment.p_flags & PF_X)
        return unsupported("asks for an executable stack");
      break;
    default:
      break;
    }
  }
  return checkSegments();
}

Status ImageLoader::checkSegments() {
  uint64_t end = 0;
  for (const Elf64_Phdr &segment : loads) {
    if (segment.p_offset > bytes.size() || segment.p_filesz > bytes.size() - segment.p_offset)
      return damaged("a segment of " + std::to_string(segment.p_filesz) + " bytes at " +
                     std::to_string(segment.p_offset) + " lies beyond its " + std::to_string(bytes.size()));
    if (segment.p_vaddr > kMostImageBytes || segment.p_memsz > kMostImageBytes ||
        segment.p_filesz > segment.p_memsz)
      return damaged("a segment takes " + std::to_string(segment.p_memsz) + " bytes of memory at " +
                     std::to_string(segment.p_vaddr));
    if ((segment.p_flags & (PF_W | PF_X)) == (PF_W | PF_X))
      return unsupported("has a segment that is writable and executable");
    // Rights are given by page, so two segments must not share one.
    if (roundDown(segment.p_vaddr) < end)
      return damaged("its segments overlap or are out of order");
    end = roundUp(segment.p_vaddr + segment.p_memsz);
  }
  if (loads.empty() || end > kMostImageBytes)
    return damaged("it takes " + std::to_string(end) + " bytes of memory in " + std::to_string(loads.size()) +
                   " segments");
  image.numBytes = end;
  return {};
}

Status ImageLoader::place() {
  void *pages = ::mmap(nullptr, image.numBytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (pages == MAP_FAILED)
    return resourceExhausted("no memory for an executable image of " + std::to_string(image.numBytes) +
                             " bytes");
  image.pages = static_cast<uint8_t *>(pages);
  for (const Elf64_Phdr &segment : loads)
    std::memcpy(image.pages + segment.p_vaddr, bytes.data() + segment.p_offset, segment.p_filesz);
  return {};
}

Status ImageLoader::readDynamic() {
  if (!isWithin(dynamic.p_vaddr, dynamic.p_memsz, PF_R) || dynamic.p_memsz == 0)
    return damaged("its dynamic section lies outside its segments");
  for (uint64_t offset = 0; offset + sizeof(Elf64_Dyn) <= dynamic.p_memsz; offset += sizeof(Elf64_Dyn)) {
    Elf64_Dyn entry;
    if (!readAt(placed(), dynamic.p_vaddr + offset, entry) || entry.d_tag == DT_NULL)
      break;
    if (const char *reason = forbiddenTag(entry.d_tag))
      return unsupported(reason);
    if (!isHarmless(entry.d_tag))
      return unsupported("has a dynamic entry of kind " + std::to_string(entry.d_tag));
    uint64_t value = entry.d_un.d_val;
    switch (entry.d_tag) {
    case DT_SYMTAB:
      symbolTable = value;
      break;
    case DT_STRTAB:
      stringTable = value;
      break;
    case DT_STRSZ:
      stringBytes = value;
      break;
    case DT_RELA:
      relocations = value;
      break;
    case DT_RELASZ:
      relocationBytes = value;
      break;
    case DT_FLAGS:
      if (value & (DF_TEXTREL | DF_STATIC_TLS))
        return unsupported("relocates its text or has thread-local storage");
      break;
    default:
      break;
    }
  }
  return {};
}

Status ImageLoader::relocate() {
  if (relocationBytes == 0)
    return {};
  if (!isWithin(relocations, relocationBytes, PF_R))
    return damaged("its relocations lie outside its segments");
  for (uint64_t offset = 0; offset + sizeof(Elf64_Rela) <= relocationBytes; offset += sizeof(Elf64_Rela)) {
    Elf64_Rela entry;
    if (!readAt(placed(), relocations + offset, entry))
      return damaged("a relocation lies beyond its end");
    if (ELF64_R_TYPE(entry.r_info) == kNoRelocation)
      continue;
    if (ELF64_R_TYPE(entry.r_info) != kRelativeRelocation)
      return unsupported("has a relocation of kind " + std::to_string(ELF64_R_TYPE(entry.r_info)));
    uint64_t target = static_cast<uint64_t>(entry.r_addend);
    if (!isWithin(entry.r_offset, sizeof(uint64_t), PF_W) || target > image.numBytes)
      return damaged("a relocation at " + std::to_string(entry.r_offset) + " to " + std::to_string(target) +
                     " leaves its segments");
    uint64_t address = reinterpret_cast<uint64_t>(image.pages) + target;
    std::memcpy(image.pages + entry.r_offset, &address, sizeof address);
  }
  return {};
}

Status ImageLoader::readSymbols() {
  // The number of symbols stands only in the section header.
  Elf64_Shdr section = {};
  uint64_t symbolBytes = 0;
  for (uint64_t index = 0; index < header.e_shnum && header.e_shentsize == sizeof section; ++index) {
    if (header.e_shoff > bytes.size() || !readAt(bytes, header.e_shoff + index * sizeof section, section))
      return damaged("section header " + std::to_string(index) + " lies beyond its end");
    if (section.sh_type == SHT_DYNSYM && section.sh_addr == symbolTable)
      symbolBytes = section.sh_size;
  }
  if (symbolBytes == 0 || !isWithin(symbolTable, symbolBytes, PF_R) ||
      !isWithin(stringTable, stringBytes, PF_R))
    return damaged("its table of dynamic symbols is missing or lies outside its segments");
  const char *strings = reinterpret_cast<const char *>(image.pages + stringTable);
  for (uint64_t offset = sizeof(Elf64_Sym); offset + sizeof(Elf64_Sym) <= symbolBytes;
       offset += sizeof(Elf64_Sym)) {
    Elf64_Sym symbol;
    if (!readAt(placed(), symbolTable + offset, symbol) || symbol.st_name >= stringBytes)
      return damaged("a symbol's name lies beyond its strings");
    std::string name(strings + symbol.st_name,
                     ::strnlen(strings + symbol.st_name, stringBytes - symbol.st_name));
    if (symbol.st_shndx == SHN_UNDEF)
      return unsupported("needs the symbol \"" + name + "\" of another library");
    if (isWithin(symbol.st_value, 1, PF_X))
      image.functions.push_back({std::move(name), symbol.st_value});
  }
  return {};
}

Status ImageLoader::protect() {
  // Instructions were written as data: where caches of the two are not coherent (Arm), they must be brought together.
  __builtin___clear_cache(reinterpret_cast<char *>(image.pages), reinterpret_cast<char *>(image.pages + image.numBytes));
  // Gaps between segments get no rights at all.
  if (::mprotect(image.pages, image.numBytes, PROT_NONE) != 0)
    return internalError("cannot take rights from an image's pages");
  for (const Elf64_Phdr &segment : loads) {
    int rights = (segment.p_flags & PF_R ? PROT_READ : 0) | (segment.p_flags & PF_W ? PROT_WRITE : 0) |
                 (segment.p_flags & PF_X ? PROT_EXEC | PROT_READ : 0);
    uint64_t first = roundDown(segment.p_vaddr), end = roundUp(segment.p_vaddr + segment.p_memsz);
    if (::mprotect(image.pages + first, end - first, rights) != 0)
      return failedPrecondition(
          std::string("the kernel refuses executable memory: ") + std::strerror(errno) +
          "; compiled models need it, so allow this process anonymous executable pages");
  }
  // What was written once by relocation is read only from here on.
  if (relro.p_memsz > 0 && isWithin(relro.p_vaddr, relro.p_memsz, PF_R)) {
    uint64_t first = roundDown(relro.p_vaddr), end = roundDown(relro.p_vaddr + relro.p_memsz);
    if (end > first && ::mprotect(image.pages + first, end - first, PROT_READ) != 0)
      return internalError("cannot make relocated pages read only");
  }
  return {};
}

Expected<LoadedImage> ImageLoader::load() {
  if (pageBytes() > kLargestPageBytes)
    return unimplemented("pages have " + std::to_string(pageBytes()) + " bytes here; images expect at most " +
                         std::to_string(kLargestPageBytes));
  GIRIH_TRY(readSegments());
  GIRIH_TRY(place());
  GIRIH_TRY(readDynamic());
  GIRIH_TRY(relocate());
  GIRIH_TRY(readSymbols());
  GIRIH_TRY(protect());
  return std::move(image);
}

const char *LoadedImage::format() { return kFormat; }

Expected<LoadedImage> LoadedImage::load(std::span<const uint8_t> bytes) { return ImageLoader(bytes).load(); }

LoadedImage::LoadedImage(LoadedImage &&other) noexcept { *this = std::move(other); }
LoadedImage &LoadedImage::operator=(LoadedImage &&other) noexcept {
  std::swap(pages, other.pages);
  std::swap(numBytes, other.numBytes);
  std::swap(functions, other.functions);
  return *this;
}
LoadedImage::~LoadedImage() {
  if (pages)
    ::munmap(pages, numBytes);
}

Expected<girih_step_fn> LoadedImage::find(const std::string &symbol) const {
  for (const Function &function : functions)
    if (function.name == symbol)
      return reinterpret_cast<girih_step_fn>(pages + function.offsetBytes);
  return notFound("the executable image exports no function \"" + symbol + "\"; compile the file again");
}

} // namespace girih::cpu
