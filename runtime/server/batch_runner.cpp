// SPDX-License-Identifier: Apache-2.0
// BatchRunner: states on disk, a thread that moves batches through them.
#include "runtime/server/batch_runner.h"

#include "runtime/server/state_folder.h"
#include "runtime/server/stored_fields.h"
#include "runtime/server/tool_use.h"

#include <pthread.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <chrono>

namespace girih::server {
namespace {

constexpr std::string_view kSuffix = ".batch";
constexpr size_t kMaxFactsBytes = size_t{1} << 20;
constexpr std::chrono::seconds kRetryTime{5}; // a full disk is asked again after it

struct StateName {
  BatchState state;
  std::string_view name;
  std::string_view timeName;
};
constexpr std::array<StateName, 8> kStates = {{{BatchState::Validating, "validating", "created_at"},
                                               {BatchState::Failed, "failed", "failed_at"},
                                               {BatchState::InProgress, "in_progress", "in_progress_at"},
                                               {BatchState::Finalizing, "finalizing", "finalizing_at"},
                                               {BatchState::Completed, "completed", "completed_at"},
                                               {BatchState::Expired, "expired", "expired_at"},
                                               {BatchState::Cancelling, "cancelling", "cancelling_at"},
                                               {BatchState::Cancelled, "cancelled", "cancelled_at"}}};

int64_t microsecondsNow() {
  auto now = std::chrono::system_clock::now().time_since_epoch();
  return std::chrono::duration_cast<std::chrono::microseconds>(now).count();
}
int64_t secondsNow() { return microsecondsNow() / 1'000'000; }

void enter(Batch &batch, BatchState state) {
  batch.state = state;
  batch.since[state] = secondsNow();
}

void writeFaults(JsonWriter &writer, const std::vector<BatchFault> &faults) {
  writer.beginObject().member("object", "list").key("data").beginArray();
  for (const BatchFault &fault : faults) {
    writer.beginObject().member("code", fault.code).member("message", fault.message).key("line");
    if (fault.line > 0)
      writer.value(fault.line);
    else
      writer.null();
    writer.key("param").null().endObject();
  }
  writer.endArray().endObject();
}

void textOrNull(JsonWriter &writer, std::string_view name, const std::string &text) {
  writer.key(name);
  if (text.empty())
    writer.null();
  else
    writer.value(text);
}

} // namespace

std::string_view nameOf(BatchState state) {
  return std::find_if(kStates.begin(), kStates.end(),
                      [&](const StateName &row) { return row.state == state; })
      ->name;
}

bool Batch::hasEnded() const {
  return state == BatchState::Failed || state == BatchState::Completed || state == BatchState::Expired ||
         state == BatchState::Cancelled;
}

void Batch::write(JsonWriter &writer) const {
  writer.beginObject().member("id", id).member("object", "batch").member("endpoint", endpoint).key("errors");
  if (faults.empty())
    writer.null();
  else
    writeFaults(writer, faults);
  writer.member("input_file_id", inputFileId)
      .member("completion_window", "24h")
      .member("status", nameOf(state));
  textOrNull(writer, "output_file_id", hasEnded() ? outputFileId : "");
  textOrNull(writer, "error_file_id", hasEnded() ? errorFileId : "");
  writer.member("expires_at", expiresAt);
  for (const StateName &row : kStates) {
    writer.key(row.timeName);
    if (auto found = since.find(row.state); found != since.end())
      writer.value(found->second);
    else
      writer.null();
  }
  writer.key("request_counts").beginObject().member("total", counts.total);
  writer.member("completed", counts.completed).member("failed", counts.failed).endObject();
  writer.key("metadata").raw(metadataJson).endObject();
}

BatchRunner::BatchRunner(Service &service, FileStore &files, std::string newFolder)
    : service(service), files(files), folder(std::move(newFolder)) {
  if (folder.empty())
    return;
  load();
  thread = std::thread([this] { work(); });
}

void BatchRunner::stop() {
  {
    std::lock_guard lock(mutex);
    isStopping = true;
  }
  changed.notify_all();
  if (thread.joinable())
    thread.join();
}

void BatchRunner::load() {
  for (const std::string &name : filesIn(folder, kSuffix)) {
    auto json = readFile(folder + "/" + name, kMaxFactsBytes);
    auto document =
        json.isOk() ? JsonDocument::parse(*json) : Expected<JsonDocument>(std::move(json).status());
    if (!document.isOk())
      continue;
    StoredFields fields(document->root());
    Batch batch;
    batch.id = name.substr(0, name.size() - kSuffix.size());
    batch.owner = fields.text("owner");
    batch.endpoint = fields.text("endpoint");
    batch.inputFileId = fields.text("input_file_id");
    batch.outputFileId = fields.text("output_file");
    batch.errorFileId = fields.text("error_file");
    batch.metadataJson = fields.text("metadata_json");
    batch.expiresAt = fields.number("expires_at");
    batch.createdMicroseconds = fields.number("created_us");
    lastCreated = std::max(lastCreated, batch.createdMicroseconds);
    batch.counts = {static_cast<uint64_t>(fields.number("total")),
                    static_cast<uint64_t>(fields.number("completed")),
                    static_cast<uint64_t>(fields.number("failed"))};
    for (JsonValue fault : fields.elements("faults")) {
      StoredFields parts(fault);
      batch.faults.push_back(
          {static_cast<uint64_t>(parts.number("line")), parts.text("code"), parts.text("message")});
    }
    std::string state = fields.text("state");
    bool isKnown = false;
    for (const StateName &row : kStates) {
      if (auto time = document->root().find(row.timeName); time && time->asInteger().isOk())
        batch.since[row.state] = *time->asInteger();
      if (row.name == state) {
        batch.state = row.state;
        isKnown = true;
      }
    }
    if (fields.isWhole && isKnown)
      batches[batch.id] = std::move(batch);
  }
}

template <typename Change> Status BatchRunner::change(const std::string &id, bool isSaved, Change change) {
  std::lock_guard lock(mutex);
  Batch &batch = batches[id];
  change(batch);
  changed.notify_all();
  if (!isSaved)
    return {};
  JsonWriter writer;
  writer.beginObject().member("owner", batch.owner).member("endpoint", batch.endpoint);
  writer.member("input_file_id", batch.inputFileId).member("output_file", batch.outputFileId);
  writer.member("error_file", batch.errorFileId).member("metadata_json", batch.metadataJson);
  writer.member("expires_at", batch.expiresAt).member("created_us", batch.createdMicroseconds);
  writer.member("state", nameOf(batch.state));
  writer.member("total", batch.counts.total).member("completed", batch.counts.completed);
  writer.member("failed", batch.counts.failed).key("faults").beginArray();
  for (const BatchFault &fault : batch.faults) {
    writer.beginObject().member("line", fault.line).member("code", fault.code);
    writer.member("message", fault.message).endObject();
  }
  writer.endArray();
  for (const StateName &row : kStates)
    if (auto found = batch.since.find(row.state); found != batch.since.end())
      writer.member(row.timeName, found->second);
  writer.endObject();
  return replaceFile(pathOf(id, kSuffix), writer.text(), /*isSynced=*/true);
}

Batch BatchRunner::copyOf(const std::string &id) const {
  std::lock_guard lock(mutex);
  return batches.find(id)->second;
}

Expected<Batch> BatchRunner::create(Batch batch) {
  uint64_t numUnfinished = 0;
  for (const Batch &other : list(batch.owner))
    numUnfinished += !other.hasEnded();
  if (numUnfinished >= kMaxUnfinished)
    return resourceExhausted("this key has " + std::to_string(numUnfinished) +
                             " batches that have not ended; at most " + std::to_string(kMaxUnfinished) +
                             " are taken");
  batch.id = makeId("batch_");
  enter(batch, BatchState::Validating);
  batch.expiresAt = batch.since[BatchState::Validating] + kWindowSeconds;
  {
    std::lock_guard lock(mutex);
    batch.createdMicroseconds = lastCreated = std::max(microsecondsNow(), lastCreated + 1);
  }
  std::string id = batch.id;
  Status status = change(id, /*isSaved=*/true, [&](Batch &place) { place = batch; });
  if (!status.isOk()) {
    std::lock_guard lock(mutex);
    batches.erase(id);
    return status;
  }
  return batch;
}

std::optional<Batch> BatchRunner::find(std::string_view id, std::string_view owner) const {
  std::lock_guard lock(mutex);
  auto found = batches.find(id);
  return found != batches.end() && found->second.owner == owner ? std::optional(found->second) : std::nullopt;
}

std::vector<Batch> BatchRunner::list(std::string_view owner) const {
  std::vector<Batch> owned;
  std::lock_guard lock(mutex);
  for (const auto &[id, batch] : batches)
    if (batch.owner == owner)
      owned.push_back(batch);
  std::sort(owned.begin(), owned.end(), [](const Batch &a, const Batch &b) {
    return a.createdMicroseconds > b.createdMicroseconds;
  });
  return owned;
}

std::optional<Batch> BatchRunner::cancel(std::string_view id, std::string_view owner) {
  auto batch = find(id, owner);
  if (!batch || batch->hasEnded() || batch->state == BatchState::Finalizing)
    return batch;
  // Where the disk does not take it, it is cancelled for this process at least.
  (void)change(batch->id, /*isSaved=*/true, [&](Batch &place) {
    if (!place.hasEnded() && place.state != BatchState::Finalizing)
      enter(place, BatchState::Cancelling);
  });
  return find(id, owner);
}

void BatchRunner::work() {
  ::pthread_setname_np(::pthread_self(), "girih-batches");
  std::unique_lock lock(mutex);
  while (!isStopping) {
    // The oldest first: who waits for a day is served in order.
    const Batch *next = nullptr;
    for (const auto &[id, batch] : batches)
      if (!batch.hasEnded() && (!next || batch.createdMicroseconds < next->createdMicroseconds))
        next = &batch;
    if (!next) {
      changed.wait(lock);
      continue;
    }
    std::string id = next->id;
    lock.unlock();
    runOne(id);
    lock.lock();
    // What could not be ended (a full disk) is tried again, but not at once.
    if (!batches[id].hasEnded())
      changed.wait_for(lock, kRetryTime, [this] { return isStopping; });
  }
}

void BatchRunner::runOne(const std::string &id) {
  Batch batch = copyOf(id);
  const Client *client = nullptr;
  for (const Client &known : service.options().keys.all())
    if (known.identity == batch.owner)
      client = &known;
  auto fail = [&](std::vector<BatchFault> faults) {
    (void)change(id, /*isSaved=*/true, [&](Batch &place) {
      place.faults = std::move(faults);
      enter(place, BatchState::Failed);
    });
  };
  if (!client)
    return fail({{0, "unknown_key", "the key that asked for this batch is no longer served"}});
  auto file = files.find(batch.inputFileId, batch.owner);
  // Its files had their names when the process ended: nothing is left to be asked.
  bool isRun =
      batch.state == BatchState::Finalizing || !batch.outputFileId.empty() || !batch.errorFileId.empty();
  if (isRun) {
    (void)finish(id, batch.state == BatchState::Finalizing   ? BatchState::Completed
                     : batch.state == BatchState::Cancelling ? BatchState::Cancelled
                                                             : BatchState::Expired);
    return;
  }
  if (!file)
    return fail({{0, "file_not_found", "the input file is gone"}});
  BatchRun run(service, {files.pathOf(batch.inputFileId), pathOf(id, ".output"), pathOf(id, ".errors"),
                         batch.endpoint, client->number, service.options().maxBatchRequests});
  std::vector<BatchFault> faults;
  if (!run.open(faults).isOk())
    return; // asked again later
  if (!faults.empty())
    return fail(std::move(faults));
  (void)runLines(id, run);
}

// From validated to its end, or to where this process ends.
Status BatchRunner::runLines(const std::string &id, BatchRun &run) {
  GIRIH_TRY(change(id, true, [&](Batch &place) {
    place.counts = run.counts();
    if (place.state == BatchState::Validating)
      enter(place, BatchState::InProgress);
  }));
  bool isStopped = false, isCancelled = false, isExpired = false;
  auto mayGoOn = [&](const BatchCounts &counts) {
    (void)change(id, false, [&](Batch &place) { place.counts = counts; });
    std::lock_guard lock(mutex);
    isStopped = isStopping || service.isDraining;
    isCancelled = batches[id].state == BatchState::Cancelling;
    isExpired = secondsNow() >= batches[id].expiresAt;
    return !isStopped && !isCancelled && !isExpired;
  };
  Expected<bool> isDone = run.run(mayGoOn);
  (void)change(id, false, [&](Batch &place) { place.counts = run.counts(); });
  if (!isDone.isOk())
    return std::move(isDone).status();
  if (!*isDone && isStopped)
    return {};
  if (!*isDone && isExpired && !isCancelled)
    GIRIH_TRY(run.failRest("batch_expired", "the batch's time was over before this request was answered"));
  GIRIH_TRY(change(id, true, [&](Batch &place) {
    place.counts = run.counts();
    // Chosen before the files move: the next process finds them under these names.
    place.outputFileId = place.counts.completed > 0 ? makeId("file-") : "";
    place.errorFileId = place.counts.failed > 0 ? makeId("file-") : "";
    if (*isDone)
      enter(place, BatchState::Finalizing);
  }));
  return finish(id, *isDone       ? BatchState::Completed
                    : isCancelled ? BatchState::Cancelled
                                  : BatchState::Expired);
}

Status BatchRunner::finish(const std::string &id, BatchState end) {
  Batch batch = copyOf(id);
  for (const auto &[fileId, suffix] :
       {std::pair(batch.outputFileId, ".output"), std::pair(batch.errorFileId, ".errors")}) {
    if (fileId.empty())
      continue;
    StoredFile file;
    file.id = fileId;
    file.owner = batch.owner;
    file.name = id + (suffix == std::string_view(".output") ? "_output.jsonl" : "_error.jsonl");
    file.purpose = "batch_output";
    GIRIH_ASSIGN(file, files.adopt(std::move(file), pathOf(id, suffix)));
  }
  return change(id, true, [&](Batch &place) { enter(place, end); });
}

} // namespace girih::server
