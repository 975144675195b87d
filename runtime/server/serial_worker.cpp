// SPDX-License-Identifier: Apache-2.0
// SerialWorker: a queue, a lock and a thread.
#include "runtime/server/serial_worker.h"

#include <utility>

namespace girih::server {

SerialWorker::SerialWorker() : thread([this] { work(); }) {}

SerialWorker::~SerialWorker() { stop(); }

void SerialWorker::post(std::function<void()> task) {
  {
    std::lock_guard lock(mutex);
    if (isStopping)
      return;
    tasks.push_back(std::move(task));
  }
  hasWork.notify_one();
}

void SerialWorker::stop() {
  {
    std::lock_guard lock(mutex);
    isStopping = true;
  }
  hasWork.notify_one();
  if (thread.joinable())
    thread.join();
}

void SerialWorker::work() {
  std::unique_lock lock(mutex);
  for (;;) {
    hasWork.wait(lock, [this] { return isStopping || !tasks.empty(); });
    if (tasks.empty())
      return;
    auto task = std::move(tasks.front());
    tasks.pop_front();
    lock.unlock();
    task();
    task = nullptr;  // frees what it holds outside the lock
    lock.lock();
  }
}

}  // namespace girih::server
