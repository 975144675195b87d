// SPDX-License-Identifier: Apache-2.0
// ProgramWriter: sections first, as they come; then the tables; the header last, and then the name.
#include "compiler/emit/program_writer.h"

#include "runtime/abi/program.h"
#include "runtime/base/crc32c.h"
#include "runtime/program/program_generated.h"

#include <algorithm>
#include <array>
#include <atomic>
#include <cerrno>
#include <cstddef>
#include <cstring>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

namespace girih::compiler {

namespace fb = program::fb;
using program::kSectionAlignmentBytes;
using program::kTensorAlignmentBytes;

namespace {

// What is written at once, from multiples of it on: the page cache then keeps it as one page of that size, which a mapping of
// the file shows as one to processors too. With pages of 4 KiB, weights beyond what the caches hold stream a third slower.
constexpr uint64_t kWrittenTogether = uint64_t{2} << 20;

uint64_t alignUp(uint64_t value, uint64_t alignment) {
  return (value + alignment - 1) / alignment * alignment;
}

std::string folderOf(const std::string &path) {
  size_t slash = path.find_last_of('/');
  return slash == std::string::npos ? "." : slash == 0 ? "/" : path.substr(0, slash);
}

std::string descriptorPath(int fd) { return "/proc/self/fd/" + std::to_string(fd); }

} // namespace

// The temporary file. Preferably it has no name (O_TMPFILE), so that even a killed process leaves nothing
// behind.
struct ProgramWriter::Output {
  std::string path;
  std::string temporaryPath; // empty while the file has no name
  int fd = -1;
  uint64_t positionBytes = 0;
  std::vector<uint8_t> waiting; // the last of them, which are not in the file yet
  bool isFinished = false;

  // The section being written.
  uint64_t sectionStart = 0;
  uint32_t sectionCrc = 0;
  bool isTensorOpen = false;
  std::vector<program::Tensor> tensors;

  ~Output();
  Status open();
  Status fail(const std::string &action);
  Status writeBytes(std::span<const uint8_t> bytes);
  Status writeWaiting();
  Status append(std::span<const uint8_t> bytes); // writes and adds to the section's checksum
  Status padTo(uint64_t position);
  void beginSection() {
    sectionStart = positionBytes;
    sectionCrc = 0;
  }
  fb::Section endSection() const { return {sectionStart, positionBytes - sectionStart, sectionCrc, 0}; }
  Expected<fb::Section> writeSection(std::span<const uint8_t> bytes);
  Status publish();
  std::string nextTemporaryPath() const;
};

ProgramWriter::Output::~Output() {
  if (!isFinished && !temporaryPath.empty())
    ::unlink(temporaryPath.c_str());
  if (fd >= 0)
    ::close(fd);
}

std::string ProgramWriter::Output::nextTemporaryPath() const {
  static std::atomic<uint32_t> counter{0};
  return path + ".tmp-" + std::to_string(::getpid()) + "-" + std::to_string(counter++);
}

Status ProgramWriter::Output::open() {
  struct stat facts;
  if (::stat(path.c_str(), &facts) == 0 && !S_ISREG(facts.st_mode))
    return invalidArgument("writing \"" + path + "\": it exists and is no regular file; name a file with -o");
#ifdef O_TMPFILE
  fd = ::open(folderOf(path).c_str(), O_TMPFILE | O_RDWR | O_CLOEXEC, 0666);
  if (fd >= 0 && ::access(descriptorPath(fd).c_str(), F_OK) == 0)
    return {};
  // Some file systems cannot, and without /proc it could not be given a name: then it gets one now.
  if (fd >= 0)
    ::close(fd);
#endif
  std::string named = nextTemporaryPath();
  fd = ::open(named.c_str(), O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0666);
  if (fd < 0)
    return fail("cannot create a file there");
  temporaryPath = named;
  return {};
}

Status ProgramWriter::Output::fail(const std::string &action) {
  int error = errno;
  std::string message = "writing \"" + path + "\": " + action + ": " + std::strerror(error);
  if (error == ENOSPC || error == EDQUOT || error == EFBIG)
    return resourceExhausted(message + " after " + std::to_string(positionBytes) +
                             " bytes; free some space or name another folder with -o");
  if (error == ENOENT || error == ENOTDIR)
    return notFound(message + "; create the folder first");
  return failedPrecondition(std::move(message));
}

Status ProgramWriter::Output::writeBytes(std::span<const uint8_t> bytes) {
  while (!bytes.empty()) {
    size_t numBytes = std::min<size_t>(bytes.size(), kWrittenTogether - positionBytes % kWrittenTogether);
    waiting.insert(waiting.end(), bytes.begin(), bytes.begin() + static_cast<std::ptrdiff_t>(numBytes));
    positionBytes += numBytes;
    bytes = bytes.subspan(numBytes);
    if (positionBytes % kWrittenTogether == 0)
      GIRIH_TRY(writeWaiting());
  }
  return {};
}

Status ProgramWriter::Output::writeWaiting() {
  for (std::span<const uint8_t> bytes = waiting; !bytes.empty();) {
    ssize_t written = ::write(fd, bytes.data(), bytes.size());
    if (written < 0 && errno == EINTR)
      continue;
    if (written < 0)
      return fail("cannot write");
    bytes = bytes.subspan(static_cast<size_t>(written));
  }
  waiting.clear();
  return {};
}

Status ProgramWriter::Output::append(std::span<const uint8_t> bytes) {
  sectionCrc = crc32c(bytes, sectionCrc);
  return writeBytes(bytes);
}

Status ProgramWriter::Output::padTo(uint64_t position) {
  static constexpr std::array<uint8_t, kSectionAlignmentBytes> kZeros{};
  while (positionBytes < position) {
    uint64_t numBytes = std::min<uint64_t>(position - positionBytes, kZeros.size());
    GIRIH_TRY(append(std::span<const uint8_t>(kZeros).first(numBytes)));
  }
  return {};
}

Expected<fb::Section> ProgramWriter::Output::writeSection(std::span<const uint8_t> bytes) {
  GIRIH_TRY(padTo(alignUp(positionBytes, kSectionAlignmentBytes)));
  beginSection();
  GIRIH_TRY(append(bytes));
  return endSection();
}

// From here on the content is complete: makes it durable, then visible under its name, at once.
Status ProgramWriter::Output::publish() {
  if (::fsync(fd) != 0)
    return fail("cannot make the bytes durable");
  if (temporaryPath.empty()) {
    std::string named = nextTemporaryPath();
    if (::linkat(AT_FDCWD, descriptorPath(fd).c_str(), AT_FDCWD, named.c_str(), AT_SYMLINK_FOLLOW) != 0)
      return fail("cannot name the file");
    temporaryPath = named;
  }
  if (::rename(temporaryPath.c_str(), path.c_str()) != 0)
    return fail("cannot rename the finished file");
  isFinished = true;
  // The new name is durable once the folder is; a folder that cannot be synced is no reason to fail.
  if (int folder = ::open(folderOf(path).c_str(), O_RDONLY | O_DIRECTORY | O_CLOEXEC); folder >= 0) {
    (void)::fsync(folder);
    ::close(folder);
  }
  return {};
}

ProgramWriter::ProgramWriter() : output(std::make_unique<Output>()) {}
ProgramWriter::~ProgramWriter() = default;

Expected<std::unique_ptr<ProgramWriter>> ProgramWriter::create(const std::string &path) {
  std::unique_ptr<ProgramWriter> writer(new ProgramWriter);
  Output &output = *writer->output;
  output.path = path;
  GIRIH_TRY(output.open());
  // Room for the header, which is known last. Weights follow at the first section boundary.
  GIRIH_TRY(output.padTo(kSectionAlignmentBytes));
  output.beginSection();
  return writer;
}

Expected<uint64_t> ProgramWriter::beginTensor(program::Tensor tensor) {
  GIRIH_CHECK(!output->isTensorOpen);
  uint64_t endBytes = output->positionBytes - output->sectionStart;
  if (tensor.offsetBytes == kNextOffset)
    tensor.offsetBytes = alignUp(endBytes, kTensorAlignmentBytes);
  if (tensor.offsetBytes < endBytes || tensor.offsetBytes % kTensorAlignmentBytes != 0)
    return internalError(
        "tensor \"" + tensor.name + "\" is planned at " + std::to_string(tensor.offsetBytes) +
        ", which is no multiple of 64 after the end of the tensor before (" + std::to_string(endBytes) + ")");
  GIRIH_TRY(output->padTo(output->sectionStart + tensor.offsetBytes));
  tensor.sizeBytes = 0;
  tensor.crc32c = 0;
  tensor.layoutId = program::layoutIdOf(tensor.layout);
  output->tensors.push_back(std::move(tensor));
  output->isTensorOpen = true;
  return output->tensors.back().offsetBytes;
}

Status ProgramWriter::append(std::span<const uint8_t> bytes) {
  GIRIH_CHECK(output->isTensorOpen);
  program::Tensor &tensor = output->tensors.back();
  GIRIH_TRY(output->append(bytes));
  tensor.sizeBytes += bytes.size();
  tensor.crc32c = crc32c(bytes, tensor.crc32c);
  return {};
}

Status ProgramWriter::endTensor() {
  GIRIH_CHECK(output->isTensorOpen);
  output->isTensorOpen = false;
  return {};
}

Expected<uint64_t> ProgramWriter::addTensor(program::Tensor tensor, std::span<const uint8_t> bytes) {
  GIRIH_ASSIGN(uint64_t offsetBytes, beginTensor(std::move(tensor)));
  GIRIH_TRY(append(bytes));
  GIRIH_TRY(endTensor());
  return offsetBytes;
}

const std::vector<program::Tensor> &ProgramWriter::tensors() const { return output->tensors; }

namespace {

// Builds the FlatBuffer; the sections are in the file already.
class TableBuilder {
public:
  flatbuffers::FlatBufferBuilder builder{1 << 16};

  template <typename T> using Offset = flatbuffers::Offset<T>;
  using Text = flatbuffers::String;

  void finish(const program::Tables &tables, const std::vector<program::Tensor> &tensors,
              const fb::Section &weights, const std::vector<fb::Section> &images,
              const fb::Section &tokenizer);

private:
  Offset<flatbuffers::String> text(const std::string &string) { return builder.CreateString(string); }
  // Absent rather than empty, so that a reader can tell.
  Offset<flatbuffers::String> optionalText(const std::string &string) {
    return string.empty() ? Offset<flatbuffers::String>() : builder.CreateString(string);
  }
  // Takes its image and those of its rests, which stand behind it.
  Offset<fb::Executable> executable(const program::Executable &from, const fb::Section *&image);
  Offset<fb::Schedule> schedule(const program::Schedule &from);
  Offset<fb::Tensor> tensor(const program::Tensor &from);
  Offset<fb::Model> model(const program::Model &from);
  Offset<fb::Golden> golden(const program::Golden &from);
  Offset<fb::DispatchReport> dispatch(const program::DispatchReport &from);

  // One vector of tables from one vector of structs.
  template <typename To, typename From, typename Make>
  Offset<flatbuffers::Vector<Offset<To>>> vectorOf(const std::vector<From> &from, Make make) {
    std::vector<Offset<To>> made;
    for (const From &element : from)
      made.push_back(make(element));
    return builder.CreateVector(made);
  }
};

flatbuffers::Offset<fb::Schedule> TableBuilder::schedule(const program::Schedule &from) {
  auto parts = vectorOf<fb::Part>(from, [&](const program::Part &part) {
    std::vector<fb::Copy> copies;
    for (const program::Copy &copy : part.copies)
      copies.emplace_back(copy.fromOffset, copy.toOffset, copy.rowBytes, static_cast<uint8_t>(copy.rows), copy.isFromRest,
                          copy.isToRest);
    auto copyVector = builder.CreateVectorOfStructs(copies);
    return fb::CreatePart(builder, copyVector, part.isOnRest, part.symbol, part.loop, part.repetitions);
  });
  return fb::CreateSchedule(builder, parts);
}

flatbuffers::Offset<fb::Executable> TableBuilder::executable(const program::Executable &from, const fb::Section *&image) {
  const fb::Section &own = *image++;
  auto backend = text(from.backend), isa = text(from.isa), format = text(from.format);
  auto features = builder.CreateVectorOfStrings(from.requiredFeatures);
  auto entryOf = [&](const program::Entry &entry) {
    return fb::CreateEntry(builder, text(entry.symbol), entry.maxTokens, entry.isInvariant);
  };
  auto entries = vectorOf<fb::Entry>(from.entries, entryOf);
  auto hiddenEntries = vectorOf<fb::Entry>(from.hiddenEntries, entryOf);
  auto layouts = builder.CreateVector(from.layoutIds);
  Offset<flatbuffers::Vector<Offset<fb::Schedule>>> schedules;
  Offset<flatbuffers::Vector<Offset<Text>>> symbols;
  Offset<flatbuffers::Vector<Offset<fb::Executable>>> rests;
  if (!from.symbols.empty())
    symbols = builder.CreateVectorOfStrings(from.symbols);
  if (!from.schedules.empty()) {
    schedules = vectorOf<fb::Schedule>(from.schedules, [&](const program::Schedule &each) { return schedule(each); });
    rests = vectorOf<fb::Executable>(from.rests, [&](const program::Executable &rest) { return executable(rest, image); });
  }
  return fb::CreateExecutable(builder, backend, isa, features, format, &own, entries, from.arenaBytes,
                              from.scratchBytesPerThread, layouts, from.preference, hiddenEntries, schedules, symbols,
                              from.slotBytes, rests, from.restHasCache, from.restHasLogits);
}

flatbuffers::Offset<fb::Tensor> TableBuilder::tensor(const program::Tensor &from) {
  auto name = text(from.name), storage = text(from.storage), layout = text(from.layout);
  auto treatment = optionalText(from.treatment);
  auto shape = builder.CreateVector(from.shape);
  return fb::CreateTensor(builder, name, shape, storage, layout, from.layoutId, from.offsetBytes,
                          from.sizeBytes, from.crc32c, treatment);
}

flatbuffers::Offset<fb::Model> TableBuilder::model(const program::Model &from) {
  auto name = text(from.name), architecture = text(from.architecture);
  auto numerics = text(from.numerics), kvType = text(from.kvType);
  return fb::CreateModel(builder, name, architecture, numerics, kvType, from.vocabSize, from.numLayers,
                         from.maxPositions, from.maxTokensPerStep, from.maxLogitRows, from.kvBlockBytes,
                         from.recompute, from.numParameters, from.hiddenSize);
}

flatbuffers::Offset<fb::Golden> TableBuilder::golden(const program::Golden &from) {
  auto prompt = builder.CreateVector(from.promptTokens), output = builder.CreateVector(from.outputTokens);
  auto index = builder.CreateVector(from.logitsIndex);
  auto logits = builder.CreateVector(from.logits);
  return fb::CreateGolden(builder, prompt, output, index, logits, from.tolerance, text(from.source));
}

flatbuffers::Offset<fb::DispatchReport> TableBuilder::dispatch(const program::DispatchReport &from) {
  auto name = text(from.name), isa = optionalText(from.isa), entry = optionalText(from.entry);
  auto tiles = optionalText(from.tiles), strategy = optionalText(from.strategy);
  auto bound = optionalText(from.bound), level = optionalText(from.level), matmuls = optionalText(from.matmuls);
  return fb::CreateDispatchReport(builder, name, isa, entry, tiles, strategy, from.predictedSeconds,
                                  from.numBytes, from.numOperations, bound, from.footprintBytes, level,
                                  from.repetitions, from.loop, from.secondsPerPosition, matmuls);
}

void TableBuilder::finish(const program::Tables &tables, const std::vector<program::Tensor> &tensors,
                          const fb::Section &weights, const std::vector<fb::Section> &images,
                          const fb::Section &tokenizerSection) {
  auto compiler = text(tables.compiler), chatTemplate = optionalText(tables.chatTemplate);
  auto bosText = optionalText(tables.bosText), eosText = optionalText(tables.eosText);
  auto machineJson = optionalText(tables.machineJson);
  auto digest = builder.CreateVector(tables.digest);
  auto modelTable = model(tables.model);
  const fb::Section *image = images.data();
  auto executables = vectorOf<fb::Executable>(
      tables.executables, [&](const program::Executable &from) { return executable(from, image); });
  auto tensorTables =
      vectorOf<fb::Tensor>(tensors, [&](const program::Tensor &from) { return tensor(from); });
  flatbuffers::Offset<fb::Tokenizer> tokenizer;
  if (const program::Tokenizer &from = tables.tokenizer; !from.kind.empty()) {
    auto kind = text(from.kind);
    auto eosTokens = builder.CreateVector(from.eosTokens);
    tokenizer = fb::CreateTokenizer(builder, kind, &tokenizerSection, from.bosToken, eosTokens, from.addBos,
                                    from.addEos);
  }
  const program::GenerationDefaults &defaults = tables.generation;
  auto generation =
      fb::CreateGenerationDefaults(builder, defaults.hasSampling, defaults.temperature, defaults.topK,
                                   defaults.topP, defaults.minP, defaults.repetitionPenalty);
  auto goldens =
      vectorOf<fb::Golden>(tables.goldens, [&](const program::Golden &from) { return golden(from); });
  auto dispatches = vectorOf<fb::DispatchReport>(
      tables.dispatches, [&](const program::DispatchReport &from) { return dispatch(from); });
  auto notes = vectorOf<fb::Note>(tables.notes, [&](const program::Note &from) {
    auto topic = optionalText(from.topic);
    return fb::CreateNote(builder, topic, optionalText(from.text));
  });
  fb::FinishProgramBuffer(builder, fb::CreateProgram(builder, tables.stepAbiVersion, compiler, digest,
                                                     modelTable, executables, &weights, tensorTables,
                                                     tokenizer, chatTemplate, bosText, eosText, generation,
                                                     goldens, dispatches, notes, machineJson));
}

} // namespace

Status ProgramWriter::finish(const program::Tables &tables) {
  GIRIH_CHECK(!output->isTensorOpen);
  fb::Section weights = output->endSection();
  std::vector<fb::Section> images;
  for (const program::Executable &executable : tables.executables) {
    GIRIH_ASSIGN(fb::Section section, output->writeSection(executable.image));
    images.push_back(section);
    for (const program::Executable &rest : executable.rests) {
      GIRIH_ASSIGN(fb::Section restSection, output->writeSection(rest.image));
      images.push_back(restSection);
    }
  }
  fb::Section tokenizer;
  if (!tables.tokenizer.kind.empty()) {
    GIRIH_ASSIGN(tokenizer, output->writeSection(tables.tokenizer.payload));
  }
  TableBuilder builder;
  builder.finish(tables, output->tensors, weights, images, tokenizer);
  std::span<const uint8_t> bytes(builder.builder.GetBufferPointer(), builder.builder.GetSize());
  GIRIH_ASSIGN(fb::Section tableSection, output->writeSection(bytes));

  girih_program_header header = {};
  std::memcpy(header.magic, GIRIH_PROGRAM_MAGIC, GIRIH_PROGRAM_MAGIC_BYTES);
  header.format_version = GIRIH_PROGRAM_FORMAT_VERSION;
  header.tables_offset = tableSection.offset_bytes();
  header.tables_size = tableSection.size_bytes();
  header.file_size = output->positionBytes;
  header.tables_crc32c = tableSection.crc32c();
  auto *headerBytes = reinterpret_cast<const uint8_t *>(&header);
  header.header_crc32c = crc32c({headerBytes, offsetof(girih_program_header, header_crc32c)});
  GIRIH_TRY(output->writeWaiting());
  ssize_t written = ::pwrite(output->fd, &header, sizeof header, 0);
  if (written != static_cast<ssize_t>(sizeof header))
    return output->fail("cannot write the header");
  return output->publish();
}

} // namespace girih::compiler
