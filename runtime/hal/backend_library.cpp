// SPDX-License-Identifier: Apache-2.0
// Versions and sizes are checked once, here, so that nobody else has to know of them.
#include "runtime/hal/backend_library.h"

#include <algorithm>
#include <cstddef>
#include <cstring>
#include <deque>
#include <dlfcn.h>
#include <mutex>

namespace girih::hal {
namespace {

constexpr uint64_t kLargestStruct = 1 << 16; // no table of a later minor version comes near it
constexpr uint32_t kMajorsAsked = 64;        // of a library that does not speak ours

struct Adopted {
  girih_backend_query_fn query = nullptr;
  girih_backend backend = {};
  girih_run_table run = {};
  girih_compile_table compile = {};
  std::string name;
};

std::string version(uint32_t major, uint32_t minor) {
  return std::to_string(major) + "." + std::to_string(minor);
}

// The first fields are the same in every major version, so a library can be asked which it speaks.
Status otherMajor(girih_backend_query_fn query, const std::string &name) {
  std::string theirs = "none of 0 to " + std::to_string(kMajorsAsked - 1);
  for (uint32_t major = 0; major < kMajorsAsked; ++major) {
    girih_host host = {sizeof host, major, 0};
    const girih_backend *backend = query(&host);
    if (!backend || backend->abi_major == GIRIH_BACKEND_ABI_MAJOR)
      continue;
    theirs = version(backend->abi_major, backend->abi_minor);
    break;
  }
  return unimplemented("backend \"" + name + "\" speaks version " + theirs + " of the backend ABI, this is " +
                       version(GIRIH_BACKEND_ABI_MAJOR, GIRIH_BACKEND_ABI_MINOR) +
                       "; the majors must be equal; build it against this version's backend.h");
}

// Copies one struct of the other side's into the host's, which is zeroed. `least` is up to the last required field.
template <typename Struct>
Status adopt(const Struct &theirs, uint64_t least, uint32_t theirMinor, const char *what, Struct &ours) {
  bool isNewer = theirMinor > GIRIH_BACKEND_ABI_MINOR;
  uint64_t most = isNewer ? kLargestStruct : sizeof(Struct);
  if (theirs.struct_size < least || theirs.struct_size > most)
    return dataLoss(std::string(what) + " says that it has " + std::to_string(theirs.struct_size) +
                    " bytes; from " + std::to_string(least) + " to " + std::to_string(most) +
                    " are possible in version " + version(GIRIH_BACKEND_ABI_MAJOR, theirMinor) +
                    "; set struct_size to sizeof the struct");
  std::memcpy(&ours, &theirs, std::min<uint64_t>(theirs.struct_size, sizeof(Struct)));
  ours.struct_size = sizeof(Struct);
  return {};
}

// `numFunctions` lie in a row after struct_size.
Status requireFunctions(const void *table, const char *const *names, size_t numFunctions, const char *what) {
  for (size_t index = 0; index < numFunctions; ++index) {
    void *function = nullptr;
    std::memcpy(&function, static_cast<const char *>(table) + sizeof(uint64_t) + index * sizeof function,
                sizeof function);
    if (!function)
      return unimplemented(std::string(what) + " leaves `" + names[index] +
                           "` null; it is required, backend.h says what it does");
  }
  return {};
}

constexpr const char *kRunNames[] = {"device_count", "device_info", "open",   "close",  "alloc",  "free", "write",
                                     "read",         "copy",        "load",   "unload", "submit", "wait"};
constexpr const char *kCompileNames[] = {"describe", "supports", "compile", "release"};

constexpr uint64_t kLeastRun = offsetof(girih_run_table, import_host);
constexpr uint64_t kLeastCompile = offsetof(girih_compile_table, estimate);
constexpr uint64_t kLeastBackend = offsetof(girih_backend, levels);
static_assert(kLeastRun == sizeof(uint64_t) + std::size(kRunNames) * sizeof(void *));
static_assert(kLeastCompile == sizeof(uint64_t) + std::size(kCompileNames) * sizeof(void *));

Status fill(Adopted &adopted, const girih_backend &theirs) {
  GIRIH_TRY(adopt(theirs, kLeastBackend, theirs.abi_minor, "its girih_backend", adopted.backend));
  if (!theirs.name || !*theirs.name)
    return dataLoss("it has no name; --target and program files record one");
  if (!theirs.run && !theirs.compile)
    return unimplemented("it has neither a run table nor a compile table; a backend has one of them at least");
  adopted.name = theirs.name;
  adopted.backend.name = adopted.name.c_str();
  if (theirs.run) {
    GIRIH_TRY(adopt(*theirs.run, kLeastRun, theirs.abi_minor, "its run table", adopted.run));
    GIRIH_TRY(requireFunctions(&adopted.run, kRunNames, std::size(kRunNames), "its run table"));
    adopted.backend.run = &adopted.run;
  }
  if (theirs.compile) {
    GIRIH_TRY(adopt(*theirs.compile, kLeastCompile, theirs.abi_minor, "its compile table", adopted.compile));
    GIRIH_TRY(
        requireFunctions(&adopted.compile, kCompileNames, std::size(kCompileNames), "its compile table"));
    adopted.backend.compile = &adopted.compile;
  }
  return {};
}

} // namespace

Expected<const girih_backend *> adoptBackend(girih_backend_query_fn query, const std::string &name) {
  girih_host host = {sizeof host, GIRIH_BACKEND_ABI_MAJOR, GIRIH_BACKEND_ABI_MINOR};
  const girih_backend *theirs = query(&host); // foreign code: not under the lock
  if (!theirs || theirs->abi_major != GIRIH_BACKEND_ABI_MAJOR)
    return otherMajor(query, name);
  // Leaked on purpose: handles made from a table may outlive static destructors. A deque never moves its elements.
  static auto &all = *new std::deque<Adopted>;
  static std::mutex mutex;
  std::lock_guard lock(mutex);
  for (const Adopted &known : all)
    if (known.query == query)
      return &known.backend;
  Adopted &adopted = all.emplace_back();
  if (Status status = fill(adopted, *theirs); !status.isOk()) {
    all.pop_back();
    return std::move(status).withContext("backend \"" + name + "\"");
  }
  adopted.query = query;
  return &adopted.backend;
}

Expected<const girih_backend *> loadBackend(const std::string &libraryPath) {
  void *library = ::dlopen(libraryPath.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (!library)
    return notFound("cannot load the backend \"" + libraryPath + "\": " + ::dlerror());
  auto query = reinterpret_cast<girih_backend_query_fn>(::dlsym(library, GIRIH_BACKEND_QUERY_SYMBOL));
  if (!query) {
    ::dlclose(library);
    return failedPrecondition("\"" + libraryPath +
                              "\" exports no " GIRIH_BACKEND_QUERY_SYMBOL
                              "; a backend exports that one function");
  }
  return adoptBackend(query, libraryPath);
}

} // namespace girih::hal
