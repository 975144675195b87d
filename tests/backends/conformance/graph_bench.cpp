// SPDX-License-Identifier: Apache-2.0
// GraphBench: compiles by the backend itself or by a program beside the suite, and keeps guards around everything.
#include "tests/backends/conformance/graph_bench.h"

#include "runtime/hal/call.h"

#include <cstdio>
#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <sstream>
#include <sys/wait.h>
#include <unistd.h>

namespace girih::conformance {

using hal::Buffer;
using hal::Call;
using hal::Device;

bool takesGraphs(const Subject &subject) {
  uint64_t levels = subject.backend->levels;
  return subject.backend->compile && (!levels || (levels & GIRIH_LEVEL_BIT(GIRIH_LEVEL_GRAPH)));
}

namespace {

Expected<CompiledGraph> compileByTable(const Subject &subject, std::shared_ptr<Device> device, uint64_t level,
                                       const std::string &text, const std::vector<std::string> &entries) {
  const girih_compile_table *table = subject.backend->compile;
  girih_compilation compilation = {};
  compilation.struct_size = sizeof compilation;
  compilation.target = subject.backend->name;
  compilation.level = level;
  compilation.bytes = reinterpret_cast<const uint8_t *>(text.data());
  compilation.size_bytes = text.size();
  girih_artifact *artifact = nullptr;
  girih_artifact_info info = {};
  info.struct_size = sizeof info;
  Call call;
  GIRIH_TRY(call.status(table->compile(&compilation, &artifact, &info, call.message())));
  CompiledGraph graph;
  graph.scratchBytesPerThread = info.scratch_bytes_per_thread;
  graph.accumulateType = info.accumulate_type ? info.accumulate_type : "f32";
  graph.activationType = info.activation_type ? info.activation_type : "f32";
  auto executable = hal::Executable::load(device, info.format, {info.bytes, info.size_bytes}, entries);
  table->release(artifact);
  if (!executable.isOk())
    return std::move(executable).status();
  graph.executable = std::move(*executable);
  return graph;
}

// A folder of two files, gone at the end.
struct Exchange {
  std::string folder = (std::filesystem::temp_directory_path() / "girih_conformance_XXXXXX").string(), text, image;
  Exchange() {
    if (!::mkdtemp(folder.data()))
      folder.clear();
    text = folder + "/graph";
    image = folder + "/image";
  }
  ~Exchange() {
    ::unlink(text.c_str());
    ::unlink(image.c_str());
    ::rmdir(folder.c_str());
  }
};

// The program's exit status tells what the suite must know of a failure: Unimplemented counts as unsupported.
Status runCompiler(const Subject &subject, const Exchange &files, uint64_t arenaBytes) {
  std::string command = "'" + subject.compiler + "' '" + subject.path + "' " + subject.backend->name + " " +
                        std::to_string(arenaBytes) + " '" + files.text + "' '" + files.image + "' 2>&1";
  FILE *pipe = ::popen(command.c_str(), "r");
  if (!pipe)
    return unavailable("no process for " + subject.compiler);
  std::string said;
  char chunk[512];
  while (size_t count = std::fread(chunk, 1, sizeof chunk, pipe))
    said.append(chunk, count);
  int how = ::pclose(pipe);
  if (how == 0)
    return {};
  bool isUnimplemented = WIFEXITED(how) && WEXITSTATUS(how) == static_cast<int>(StatusCode::Unimplemented);
  return Status(isUnimplemented ? StatusCode::Unimplemented : StatusCode::Internal, said);
}

// Lines of a word and its value up to an empty one, then the image's bytes.
Expected<CompiledGraph> compileByProgram(const Subject &subject, std::shared_ptr<Device> device, const std::string &text,
                                         const std::vector<std::string> &entries, uint64_t arenaBytes) {
  Exchange files;
  std::ofstream(files.text) << text;
  GIRIH_TRY(runCompiler(subject, files, arenaBytes));
  CompiledGraph graph;
  std::string format;
  std::ifstream file(files.image, std::ios::binary);
  for (std::string line; std::getline(file, line) && !line.empty();) {
    std::istringstream words(line);
    std::string key, value;
    words >> key >> value;
    if (key == "scratch_bytes_per_thread")
      graph.scratchBytesPerThread = std::strtoull(value.c_str(), nullptr, 10);
    else if (key == "format")
      format = value;
    else if (key == "accumulate")
      graph.accumulateType = value;
    else if (key == "activation")
      graph.activationType = value;
  }
  std::vector<uint8_t> image{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
  GIRIH_ASSIGN(graph.executable, hal::Executable::load(device, format, image, entries));
  return graph;
}

} // namespace

Expected<CompiledGraph> compileGraph(const Subject &subject, std::shared_ptr<Device> device, const std::string &text,
                                     const std::vector<std::string> &entries, uint64_t arenaBytes) {
  if (takesGraphs(subject) && subject.compiler.empty())
    return compileByTable(subject, std::move(device), GIRIH_LEVEL_GRAPH, text, entries);
  if (subject.compiler.empty())
    return unimplemented("it takes no graphs, and no --compiler is named that makes images of them");
  return compileByProgram(subject, std::move(device), text, entries, arenaBytes);
}

Expected<GraphBench> GraphBench::create(const Subject &subject, const std::string &body,
                                        const std::vector<std::string> &entries, int64_t numThreads, uint64_t bindingBytes) {
  GraphBench bench;
  bench.bindingBytes = bindingBytes;
  GIRIH_ASSIGN(bench.device, Device::open(*subject.backend, 0, {numThreads}));
  bench.text = GIRIH_GRAPH_FIRST_LINE + body;
  bench.entries = entries;
  bench.record = subject.record;
  GIRIH_ASSIGN(bench.graph, compileGraph(subject, bench.device, bench.text, entries, bindingBytes));
  GIRIH_TRY(bench.allocate());
  return bench;
}

Expected<GraphBench> GraphBench::createOfKernels(const Subject &subject, const std::string &text,
                                                 const std::vector<std::string> &entries, int64_t numThreads,
                                                 uint64_t bindingBytes) {
  if (!subject.backend->compile || !(subject.backend->levels & GIRIH_LEVEL_BIT(GIRIH_LEVEL_C99)))
    return unimplemented("it takes no kernels as C99");
  GraphBench bench;
  bench.bindingBytes = bindingBytes;
  GIRIH_ASSIGN(bench.device, Device::open(*subject.backend, 0, {numThreads}));
  bench.text = text;
  bench.entries = entries;
  bench.record = subject.record;
  GIRIH_ASSIGN(bench.graph, compileByTable(subject, bench.device, GIRIH_LEVEL_C99, text, entries));
  GIRIH_TRY(bench.allocate());
  return bench;
}

Status GraphBench::allocate() {
  uint64_t threads = static_cast<uint64_t>(std::max<int64_t>(1, device->numThreads()));
  for (int index = 0; index < GIRIH_STEP_NUM_BINDINGS; ++index) {
    uint64_t scratch = index == GIRIH_STEP_BINDING_ARENA ? threads * graph.scratchBytesPerThread : 0;
    GIRIH_ASSIGN(Buffer buffer, Buffer::allocate(device, bindingBytes + scratch));
    bindings.push_back(std::move(buffer));
  }
  return resetGuards();
}

Status GraphBench::resetGuards() {
  for (size_t index = 0; index < bindings.size(); ++index)
    GIRIH_TRY(bindings[index].write(0, std::vector<uint8_t>(bindingBytes, static_cast<uint8_t>(kGuard + index))));
  return {};
}

girih_submission GraphBench::submission(uint64_t entry, int64_t numTokens) {
  args = tokens;
  args.struct_size = sizeof args;
  args.num_tokens = std::max<int64_t>(numTokens, 1);  // every step has one
  args.num_logit_rows = numTokens;
  for (size_t index = 0; index < bindings.size(); ++index)
    views[index] = bindings[index].view();
  return {sizeof(girih_submission), graph.executable.handle(), entry, &args, sizeof args, views, GIRIH_STEP_NUM_BINDINGS,
          nullptr};
}

Status GraphBench::recordStep(uint64_t entry, int64_t numTokens) {
  constexpr const char *kBindings[] = {"weights", "kv_pool", "arena", "logits"};
  const std::string &name = entries[entry];
  size_t begin = text.find("entry " + name + "\n"), end = text.find("\nend\n", begin);
  bool isGraph = begin != std::string::npos && end != std::string::npos;
  std::ofstream(record + "/step") << (isGraph ? GIRIH_GRAPH_FIRST_LINE + text.substr(begin, end + 5 - begin) : text);
  std::ofstream(record + "/entry") << name << "\n" << numTokens << " tokens\n";
  for (int binding = 0; binding < GIRIH_STEP_NUM_BINDINGS; ++binding) {
    GIRIH_ASSIGN(auto bytes, bytesOf(binding));
    std::ofstream file(record + "/" + kBindings[binding], std::ios::binary);
    file.write(reinterpret_cast<const char *>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
  }
  return {};
}

Status GraphBench::run(uint64_t entry, int64_t numTokens) {
  if (!record.empty())
    GIRIH_TRY(recordStep(entry, numTokens));
  girih_submission step = submission(entry, numTokens);
  return graph.executable.run(step);
}

Expected<std::vector<uint8_t>> GraphBench::bytesOf(int binding) {
  std::vector<uint8_t> bytes(bindingBytes);
  GIRIH_TRY(bindings[static_cast<size_t>(binding)].read(0, bytes));
  return bytes;
}

Expected<std::string> GraphBench::differenceAt(int binding, uint64_t offset, std::span<const uint8_t> expected) {
  GIRIH_ASSIGN(auto bytes, bytesOf(binding));
  for (uint64_t at = 0; at < bytes.size(); ++at) {
    bool isInside = at >= offset && at < offset + expected.size();
    uint8_t wanted = isInside ? expected[at - offset] : static_cast<uint8_t>(kGuard + binding);
    if (bytes[at] != wanted)
      return std::string(isInside ? "result" : "guard") + " byte " +
             std::to_string(static_cast<int64_t>(at) - static_cast<int64_t>(offset)) + " of binding " +
             std::to_string(binding) + " is " + std::to_string(bytes[at]) + ", expected " + std::to_string(wanted);
  }
  return std::string();
}

} // namespace girih::conformance
