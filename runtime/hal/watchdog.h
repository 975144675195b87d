// SPDX-License-Identifier: Apache-2.0
// Watchdog: a thread that says which entry a device has been running for too long.
#pragma once

#include <atomic>
#include <condition_variable>
#include <cstdint>
#include <functional>
#include <mutex>
#include <string>
#include <thread>

namespace girih::hal {

// Watches one submission at a time. begin and end belong to the thread that submits and cost two stores each; `report`
// comes at most once a submission, on the watchdog's own thread.
class Watchdog {
public:
  using Report = std::function<void(const std::string &entry, double seconds)>;
  Watchdog(double limitSeconds, Report report);
  ~Watchdog();

  // Requires: `entry` lives until end.
  void begin(const char *entry);
  void end();

private:
  void watch();

  const double limitSeconds;
  const Report report;
  std::atomic<const char *> entry = nullptr; // null: nothing runs
  std::atomic<int64_t> began = 0;            // nanoseconds of the steady clock
  std::mutex mutex;
  std::condition_variable changed;
  bool isEnding = false;
  std::thread thread;
};

} // namespace girih::hal
