// SPDX-License-Identifier: Apache-2.0
// SerialWorker: one thread that runs tasks in the order in which they were posted.
#pragma once

#include <condition_variable>
#include <deque>
#include <functional>
#include <mutex>
#include <thread>

namespace girih::server {

// Keeps text work off the engine's and the sockets' threads. Thread-safe. The destructor runs what is queued.
class SerialWorker {
public:
  SerialWorker();
  ~SerialWorker();
  void post(std::function<void()> task);
  // Runs what is queued and ends the thread; later posts are dropped.
  void stop();

private:
  void work();

  std::mutex mutex;
  std::condition_variable hasWork;
  std::deque<std::function<void()>> tasks;
  bool isStopping = false;
  std::thread thread;
};

}  // namespace girih::server
