// SPDX-License-Identifier: Apache-2.0
// Looks a few times in every limit; never touches what it watches, which may be stuck for ever.
#include "runtime/hal/watchdog.h"

#include <chrono>
#include <utility>

namespace girih::hal {
namespace {

constexpr int kLooksPerLimit = 4;

int64_t now() {
  return std::chrono::duration_cast<std::chrono::nanoseconds>(
             std::chrono::steady_clock::now().time_since_epoch())
      .count();
}

} // namespace

Watchdog::Watchdog(double limitSeconds, Report report)
    : limitSeconds(limitSeconds), report(std::move(report)), thread([this] { watch(); }) {}

Watchdog::~Watchdog() {
  {
    std::lock_guard lock(mutex);
    isEnding = true;
  }
  changed.notify_one();
  thread.join();
}

void Watchdog::begin(const char *name) {
  began.store(now(), std::memory_order_relaxed);
  entry.store(name, std::memory_order_release);
}

void Watchdog::end() { entry.store(nullptr, std::memory_order_release); }

void Watchdog::watch() {
  int64_t reported = 0; // the beginning of the submission that was reported last
  std::unique_lock lock(mutex);
  while (!changed.wait_for(lock, std::chrono::duration<double>(limitSeconds / kLooksPerLimit),
                           [this] { return isEnding; })) {
    const char *running = entry.load(std::memory_order_acquire);
    int64_t since = began.load(std::memory_order_relaxed);
    double seconds = static_cast<double>(now() - since) * 1e-9;
    if (!running || since == reported || seconds < limitSeconds)
      continue;
    reported = since;
    report(running, seconds);
  }
}

} // namespace girih::hal
