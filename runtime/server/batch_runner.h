// SPDX-License-Identifier: Apache-2.0
// BatchRunner: the batches of all clients, run one after another by a thread, below everything that somebody waits for.
#pragma once

#include "runtime/server/batch_run.h"
#include "runtime/server/file_store.h"

#include <thread>

namespace girih::server {

enum class BatchState {
  Validating,
  Failed,
  InProgress,
  Finalizing,
  Completed,
  Expired,
  Cancelling,
  Cancelled
};
std::string_view nameOf(BatchState state); // as the API has it

struct Batch {
  std::string id, owner; // owner: Client::identity
  std::string endpoint, inputFileId, outputFileId, errorFileId;
  std::string metadataJson = "{}";
  BatchState state = BatchState::Validating;
  std::map<BatchState, int64_t> since; // Unix seconds; Validating: created
  int64_t createdMicroseconds = 0; // no two of one server share it: the order in which they were taken
  int64_t expiresAt = 0;
  BatchCounts counts;
  std::vector<BatchFault> faults;

  bool hasEnded() const;
  void write(JsonWriter &writer) const; // as the API has it
};

// Each batch is a small file that is replaced when its state changes; how far it is, its output says (BatchRun). What a
// process left unfinished is gone on with by the next. Thread-safe.
class BatchRunner {
public:
  static constexpr int64_t kWindowSeconds = 24 * 3600;
  static constexpr size_t kMaxUnfinished = 1000; // of one client

  // `folder` empty: none is offered. Starts the thread. Requires: service and files outlive it.
  BatchRunner(Service &service, FileStore &files, std::string folder);
  ~BatchRunner() { stop(); }
  // Cancels what runs; the next process goes on with it.
  void stop();

  // Fails: ResourceExhausted (too many), Unavailable (the disk). Synced: it is kept when it is answered.
  Expected<Batch> create(Batch batch);
  std::optional<Batch> find(std::string_view id, std::string_view owner) const;
  std::vector<Batch> list(std::string_view owner) const; // the newest first
  // What it is then; nothing: as find(). One that has ended stays as it is.
  std::optional<Batch> cancel(std::string_view id, std::string_view owner);

private:
  void load();
  void work();
  void runOne(const std::string &id);
  Status runLines(const std::string &id, BatchRun &run);
  Status finish(const std::string &id, BatchState end);
  std::string pathOf(const std::string &id, std::string_view suffix) const {
    return folder + "/" + id + std::string(suffix);
  }
  // Changes a batch and, where `isSaved`, its file.
  template <typename Change> Status change(const std::string &id, bool isSaved, Change change);
  Batch copyOf(const std::string &id) const;

  Service &service;
  FileStore &files;
  const std::string folder;
  mutable std::mutex mutex; // guards all below
  std::condition_variable changed;
  std::map<std::string, Batch, std::less<>> batches;
  int64_t lastCreated = 0; // microseconds
  bool isStopping = false;
  std::thread thread;
};

} // namespace girih::server
