// SPDX-License-Identifier: Apache-2.0
// Fuzz target: any bytes as a batch's input, its progress of before (behind a first zero byte), and an uploaded form. What is
// accepted has each line answered once, however often it is begun anew.
#include "runtime/base/json_reader.h"
#include "runtime/server/batch_run.h"
#include "runtime/server/multipart.h"
#include "tests/runtime/server/fake_engine.h"

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <sstream>

namespace {

namespace fs = std::filesystem;
using namespace girih::server;

void require(bool condition) {
  if (!condition)
    __builtin_trap();
}

struct Folder {
  std::string path = (fs::temp_directory_path() / "girih_fuzz_batch_XXXXXX").string();
  Folder() { require(::mkdtemp(path.data())); }
  ~Folder() { fs::remove_all(path); }
};

void writeFile(const std::string &path, std::string_view content) {
  std::ofstream(path, std::ios::binary) << content;
}

std::string contentOf(const std::string &path) {
  std::ostringstream content;
  content << std::ifstream(path, std::ios::binary).rdbuf();
  return content.str();
}

void checkForm(std::string_view bytes) {
  std::string_view contentType = bytes.substr(0, bytes.find('\n'));
  auto parts = readMultipart(contentType, bytes.substr(contentType.size()));
  if (!parts.isOk())
    return;
  require(parts->size() <= kMaxFormParts);
  for (const FormPart &part : *parts)
    require(part.content.empty() ||
            (part.content.data() >= bytes.data() &&
             part.content.data() + part.content.size() <= bytes.data() + bytes.size()));
}

} // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t numBytes) {
  // Only lines and their records are looked at: nothing is asked of it.
  static Service &service = *new Service(fakeModel({}), {});
  static const Folder folder;
  std::string_view all(reinterpret_cast<const char *>(bytes), numBytes);
  checkForm(all);
  std::string_view input = all.substr(0, all.find('\0'));
  BatchRun::Options options;
  options.inputPath = folder.path + "/in";
  options.outputPath = folder.path + "/out";
  options.errorPath = folder.path + "/errors";
  writeFile(options.inputPath, input);
  writeFile(options.outputPath, all.substr(std::min(input.size() + 1, all.size())));
  fs::remove(options.errorPath);
  std::vector<BatchFault> faults;
  BatchRun first(service, options);
  if (!first.open(faults).isOk() || !faults.empty()) {
    require(faults.size() <= BatchRun::kMaxFaults + 1);
    return 0;
  }
  uint64_t numAnswered = first.counts().completed;
  require(first.failRest("batch_expired", "it took too long").isOk());
  // As after the end of the process: everything has its answer, and each record is JSON.
  BatchRun second(service, options);
  require(second.open(faults).isOk() && faults.empty());
  require(second.counts().completed == numAnswered && second.counts().failed == first.counts().failed);
  auto isDone = second.run([](const BatchCounts &) { return true; });
  require(isDone.isOk() && *isDone && second.counts().failed == first.counts().failed);
  std::istringstream errors(contentOf(options.errorPath));
  uint64_t numErrors = 0;
  for (std::string line; std::getline(errors, line); ++numErrors)
    require(girih::JsonDocument::parse(line).isOk());
  require(numErrors == first.counts().failed);
  return 0;
}
