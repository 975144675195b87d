// SPDX-License-Identifier: Apache-2.0
// Level "abi": versions, sizes, messages, out-parameters, and what a backend must not do to the process.
#include "tests/backends/conformance/machine_facts.h"

#include "runtime/hal/call.h"

#include <csignal>
#include <cstring>
#include <dirent.h>
#include <thread>
#include <unistd.h>

namespace girih::conformance {
namespace {

using hal::Call;
using hal::Device;

Finding otherMajorIsNull(const Subject &subject) {
  if (!subject.query)
    return unsupported("built in: the query is not exported");
  girih_host host = {sizeof host, GIRIH_BACKEND_ABI_MAJOR + 1000, 0};
  return subject.query(&host) ? fail("a host of another major version got tables; the answer is null") : pass();
}

Finding otherMinorIsServed(const Subject &subject) {
  if (!subject.query)
    return unsupported("built in: the query is not exported");
  for (uint32_t minor : {0u, 1u, 1000u}) {
    girih_host host = {sizeof host, GIRIH_BACKEND_ABI_MAJOR, minor};
    if (!subject.query(&host))
      return fail("a host of minor version " + std::to_string(minor) + " got null; a minor never refuses");
  }
  return pass();
}

// A host that was built against a shorter struct: what lies behind it is not touched.
Finding shortInfoIsRespected(const Subject &subject) {
  girih_device_info info;
  std::memset(&info, 0x5a, sizeof info);
  info.struct_size = offsetof(girih_device_info, memory_bytes);
  Call call;
  GIRIH_TRY_FINDING(call.status(subject.run().device_info(0, &info, call.message())));
  const auto *bytes = reinterpret_cast<const uint8_t *>(&info);
  for (size_t at = offsetof(girih_device_info, memory_bytes); at < sizeof info; ++at)
    if (bytes[at] != 0x5a)
      return fail("device_info wrote byte " + std::to_string(at) + " of a struct of " +
                  std::to_string(offsetof(girih_device_info, memory_bytes)) + "; struct_size is the host's room");
  return pass();
}

Finding longInfoIsRespected(const Subject &subject) {
  struct {
    girih_device_info known;
    uint64_t later[4];
  } info;
  std::memset(&info, 0x5a, sizeof info);
  info.known.struct_size = sizeof info;
  Call call;
  GIRIH_TRY_FINDING(call.status(subject.run().device_info(0, &info.known, call.message())));
  for (uint64_t word : info.later)
    if (word != 0x5a5a5a5a5a5a5a5a)
      return fail("device_info wrote beyond the fields of its own version");
  return pass();
}

Finding absentDeviceIsAnError(const Subject &subject) {
  uint64_t count = 0;
  Call call;
  GIRIH_TRY_FINDING(call.status(subject.run().device_count(&count, call.message())));
  auto *untouched = reinterpret_cast<girih_device *>(0x10);
  girih_device *device = untouched;
  girih_device_options options = {sizeof options, 0};
  if (subject.run().open(count, &options, &device, call.message()) == GIRIH_OK)
    return fail("device " + std::to_string(count) + " of " + std::to_string(count) + " opens");
  return device == untouched ? pass() : fail("a failing open wrote its out-parameter; it stays untouched");
}

// A message has to fit into any room, and its absence is no reason to fail in another way.
Finding messagesFit(const Subject &subject) {
  uint64_t count = 0;
  girih_device_info info = {};
  info.struct_size = sizeof info;
  Call call;
  GIRIH_TRY_FINDING(call.status(subject.run().device_count(&count, call.message())));
  char room[16];
  std::memset(room, 'x', sizeof room);
  girih_message small = {room, 8}, none = {room, 0};
  girih_code code = subject.run().device_info(count, &info, &small);
  if (code == GIRIH_OK || code > GIRIH_INTERNAL)
    return fail("device_info of an absent device answers " + std::to_string(code) + "; codes are those of message.h");
  if (!std::memchr(room, 0, 8) || room[8] != 'x')
    return fail("a message for 8 bytes is not terminated within them");
  if (room[0] == 0)
    return fail("an error without a text; say what was seen, the rule, and what to do");
  std::memset(room, 'x', sizeof room);
  if (subject.run().device_info(count, &info, &none) != code || subject.run().device_info(count, &info, nullptr) != code)
    return fail("the code of an error depends on the room for its text");
  return room[0] == 'x' ? pass() : fail("a message for 0 bytes was written");
}

size_t countThreads() {
  DIR *folder = ::opendir("/proc/self/task");
  size_t count = 0;
  while (folder && ::readdir(folder))
    ++count;
  if (folder)
    ::closedir(folder);
  return count;
}

Finding threadsAreAsDeclared(const Subject &subject) {
  size_t before = countThreads();
  {
    auto device = Device::open(*subject.backend, 0, {2});
    if (!device.isOk())
      return findingOf(device.status());
    auto facts = hal::describeDevice(*subject.backend, 0);
    if (countThreads() > before + 1 && !facts->hasDriverThreads)  // a driver's threads count as the driver's
      return fail("opened with 2 threads, of which one is the caller's, it started " +
                  std::to_string(countThreads() - before));
  }
  for (int wait = 0; wait < 100 && countThreads() > before; ++wait)
    std::this_thread::sleep_for(std::chrono::milliseconds(10));
  return countThreads() == before ? pass() : fail("threads are left after close");
}

Finding signalsAreLeftAlone(const Subject &subject) {
  auto device = Device::open(*subject.backend, 0);
  if (!device.isOk())
    return findingOf(device.status());
  for (int number : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGINT, SIGTERM, SIGPIPE, SIGALRM, SIGCHLD, SIGUSR1}) {
    struct sigaction action = {};
    ::sigaction(number, nullptr, &action);
    if (action.sa_handler != SIG_DFL)
      return fail("signal " + std::to_string(number) + " has another handler after open; a backend installs none");
  }
  return pass();
}

Finding opensManyTimes(const Subject &subject) {
  for (int time = 0; time < 20; ++time) {
    auto first = Device::open(*subject.backend, 0, {1}), second = Device::open(*subject.backend, 0, {1});
    if (!first.isOk() || !second.isOk())
      return fail("open number " + std::to_string(time) + ": " +
                  std::string((first.isOk() ? second : first).status().message()));
  }
  return pass();
}

Finding foreignImagesAreRefused(const Subject &subject) {
  auto device = Device::open(*subject.backend, 0, {1});
  if (!device.isOk())
    return findingOf(device.status());
  std::vector<uint8_t> junk(1000, 0xab);
  if (hal::Executable::load(*device, "no such format", junk, {"f"}).isOk())
    return fail("an image of format \"no such format\" loads");
  auto facts = hal::describeDevice(*subject.backend, 0);
  for (const std::string &format : facts->formats)
    for (size_t numBytes : {size_t{0}, size_t{1}, size_t{64}, junk.size()})
      if (hal::Executable::load(*device, format, {junk.data(), numBytes}, {"f"}).isOk())
        return fail(std::to_string(numBytes) + " bytes of junk load as \"" + format + "\"");
  return pass();
}

Finding describesItsMachine(const Subject &subject) {
  auto facts = readMachine(subject);
  return facts.isOk() ? pass() : findingOf(facts.status());
}

Finding declinesWhatItDoesNotKnow(const Subject &subject) {
  if (!subject.backend->compile)
    return unsupported("no compile table");
  const girih_op op = {sizeof op, "frobnicate", "f32[1,8] f32[1,8]"};
  girih_verdict verdict = {sizeof verdict, GIRIH_OK, 0, nullptr};
  Call call;
  GIRIH_TRY_FINDING(
      call.status(subject.backend->compile->supports(subject.backend->name, &op, 1, &verdict, call.message())));
  if (verdict.code != GIRIH_UNIMPLEMENTED)
    return fail("`frobnicate` gets verdict " + std::to_string(verdict.code) + "; what a backend does not know it declines");
  return verdict.reason && *verdict.reason ? pass() : fail("a verdict without a reason");
}

} // namespace

const std::vector<Case> &abiCases() {
  static const std::vector<Case> cases = {
      {"abi", "other_major_is_null", otherMajorIsNull},
      {"abi", "other_minor_is_served", otherMinorIsServed},
      {"abi", "short_info_is_respected", shortInfoIsRespected},
      {"abi", "long_info_is_respected", longInfoIsRespected},
      {"abi", "absent_device_is_an_error", absentDeviceIsAnError},
      {"abi", "messages_fit", messagesFit},
      {"abi", "threads_are_as_declared", threadsAreAsDeclared},
      {"abi", "signals_are_left_alone", signalsAreLeftAlone},
      {"abi", "opens_many_times", opensManyTimes},
      {"abi", "foreign_images_are_refused", foreignImagesAreRefused},
      {"abi", "describes_its_machine", describesItsMachine},
      {"abi", "declines_what_it_does_not_know", declinesWhatItDoesNotKnow},
  };
  return cases;
}

} // namespace girih::conformance
