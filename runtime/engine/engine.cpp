// SPDX-License-Identifier: Apache-2.0
// The engine thread: takes commands, plans a step, runs it, samples, and tells the listeners.
#include "runtime/engine/engine.h"

#include "runtime/abi/step.h"
#include "runtime/engine/bounds.h"
#include "runtime/engine/disk_tier.h"
#include "runtime/engine/scheduler.h"
#include "runtime/engine/speculation.h"
#include "runtime/engine/step_pacer.h"

#include <algorithm>
#include <atomic>
#include <bit>
#include <condition_variable>
#include <limits>
#include <mutex>
#include <pthread.h>
#include <thread>

namespace girih::engine {
namespace {

// Blocks that wait to be written are held: so much of the pool at most.
constexpr uint32_t kPartOfPoolBeingStored = 8;
// How long the engine sleeps for the disk before it looks at deadlines again.
constexpr std::chrono::milliseconds kDiskPatience{20};
constexpr std::chrono::milliseconds kAccrualTime{100};
constexpr std::chrono::seconds kIdleTime{5};  // what lies in the pool is accounted for while nobody asks, too
constexpr uint32_t kLeastMeasuredTokens = 64; // of a step by which the speed of prompts is measured
constexpr double kWeightOfLastRate = 0.1;     // of the moving average of tokens a second

double secondsBetween(Clock::time_point from, Clock::time_point to) {
  return std::chrono::duration<double>(to - from).count();
}

kv::CacheTime cacheTimeOf(Clock::time_point time) {
  return static_cast<kv::CacheTime>(
      std::chrono::duration_cast<std::chrono::milliseconds>(time.time_since_epoch()).count());
}

// What a request adds to the queue's tokens while it waits.
uint64_t queuedTokensOf(const Sequence &sequence) {
  return sequence.request.isBackground ? 0 : sequence.numPrompt;
}

class StepEngine final : public Engine {
public:
  StepEngine(std::shared_ptr<const program::Program> program, std::unique_ptr<program::Executor> newExecutor,
             const program::ExecutorOptions &executorOptions, std::unique_ptr<DraftModel> draftModel,
             const EngineOptions &options, const Bounds &bounds)
      : source(std::move(program)), executorOptions(executorOptions), executor(std::move(newExecutor)),
        bounds(bounds), maxQueued(options.maxQueued), maxQueuedTokens(options.maxQueuedTokens),
        cacheRoot(kv::rootKey(cacheFacts())),
        scheduler({bounds.maxSequences, source->model().recompute}, bounds.numKvBlocks),
        batch(bounds.maxTokensPerStep, bounds.maxSequences, source->model().maxLogitRows,
              kv::numBlocksFor(bounds.contextTokens)),
        sampler(source->model().vocabSize), maskWords((source->model().vocabSize + 31) / 32),
        pacer(options.maxSlowdown, bounds.maxTokensPerStep),
        speculation({std::min(options.maxDraft, kMaxDraft), options.draftsEagerly}, std::move(draftModel)) {
    counters.numKvBlocks = bounds.numKvBlocks;
    showExecutor();
    openDisk(options);
    thread = std::thread([this] { loop(); });
  }
  ~StepEngine() override {
    {
      std::lock_guard lock(mutex);
      isStopping = true;
    }
    wake.notify_one();
    thread.join();
    scheduler.setLowerTier(nullptr);
    disk.reset(); // its thread still reads the pool
  }

  Expected<RequestId> submit(Request request, std::shared_ptr<Listener> listener) override;
  void cancel(RequestId id) override;
  EngineStats stats() const override;
  EngineLoad load() const override;
  Status diskStatus() const override { return Status(diskCode, diskMessage); }
  void clearCache() override;
  void forget(const Request &request, uint32_t numKept, std::function<void()> done) override;
  const program::Program &program() const override { return *source; }
  const program::Executable &executable() const override { return *variant; }
  int32_t numThreads() const override { return teamSize; }
  uint32_t contextTokens() const override { return bounds.contextTokens; }
  uint32_t hiddenSize() const override { return source->model().hiddenSize; }

private:
  kv::CacheFacts cacheFacts() const {
    const program::Tables &tables = source->tables();
    return {tables.digest, tables.model.numerics, executor->executable().isa, tables.model.kvType};
  }
  void openDisk(const EngineOptions &options);
  void takeFromDisk();
  void forgetTaken();
  void endForget(const ForgetOrder &order);
  void accrueRetained(Clock::time_point now);
  Status checkRequest(const Request &request) const;
  Status checkRoom(const Request &request) const;
  void loop();
  void endOverdue();
  void start(Sequence &sequence, Clock::time_point now);
  void showCounts();
  void observePrompt(uint32_t numPromptTokens, double seconds);
  bool takeCommands();
  void step();
  void guess();
  bool replaceDevice(const Status &reason);
  // The executor belongs to the engine's thread, what others may ask of it does not.
  void showExecutor() {
    variant = &executor->executable();
    teamSize = static_cast<int32_t>(executor->numThreads());
  }
  void finishRow(Sequence &sequence, uint32_t firstRow, Clock::time_point now);
  void sampleRows(Sequence &sequence, uint32_t firstRow, Clock::time_point now);
  void countDraft(Sequence &sequence, uint32_t numAccepted);
  void reportRows(Sequence &sequence, uint32_t firstRow);
  void reportPrompt(Sequence &sequence, uint32_t first, uint32_t firstRow, uint32_t numRows);
  Expected<bool> sampleToken(Sequence &sequence, std::span<float> logits, Clock::time_point now);
  void finish(RequestId id, FinishReason reason, Status status);
  void countStep(size_t numSequences, double seconds);

  const std::shared_ptr<const program::Program> source;
  program::ExecutorOptions executorOptions;
  std::unique_ptr<program::Executor> executor;
  std::atomic<const program::Executable *> variant = nullptr;
  std::atomic<int32_t> teamSize = 0;
  const Bounds bounds;
  const uint32_t maxQueued;
  const uint64_t maxQueuedTokens;
  const kv::ContentKey cacheRoot;

  // The engine thread's own.
  Scheduler scheduler;
  program::StepBatch batch;
  Sampler sampler;
  std::vector<uint32_t> maskWords; // a bit a token
  StepPacer pacer;
  Speculation speculation;
  std::unique_ptr<DiskTier> disk; // null: none
  StatusCode diskCode = StatusCode::Ok;
  std::string diskMessage;
  uint64_t numTokensLoaded = 0;
  double promptSecondsPerToken = 0.0; // in steps that are mostly prompt; 0: none was yet
  bool planWasEmpty = false;
  uint32_t numWithDeadline = 0;
  std::vector<RequestId> overdue;
  std::vector<TokenResult> promptResults; // of one chunk
  std::vector<TopToken> promptTops;       // of all of them
  std::vector<float> ownLogits;           // a row before rules and penalty
  std::vector<std::unique_ptr<Sequence>> takenSequences;
  std::vector<RequestId> takenCancels;
  std::vector<ForgetOrder> takenForgets;
  Clock::time_point accruedAt;
  bool isLeaving = false;
  Clock::time_point busySince;

  std::atomic<RequestId> lastId = 0;

  // Shared, under the mutex.
  mutable std::mutex mutex;
  std::condition_variable wake;
  std::vector<std::unique_ptr<Sequence>> newSequences;
  std::vector<RequestId> newCancels;
  std::vector<ForgetOrder> newForgets;
  bool isStopping = false;
  bool wantsClearCache = false;
  double tokensPerSecond = 0.0;
  Clock::time_point lastMoved;
  uint64_t numUnfinished = 0;
  uint64_t numInQueue = 0; // of these, those that the queue's bounds count
  EngineStats counters;

  std::thread thread; // last: it uses all of the above
};

Status StepEngine::checkRequest(const Request &request) const {
  const program::Model &model = source->model();
  if (request.promptTokens.empty())
    return invalidArgument("the prompt has no token; it must have at least one");
  if (request.promptTokens.size() > bounds.contextTokens)
    return outOfRange(
        "the prompt has " + std::to_string(request.promptTokens.size()) + " tokens, the context holds " +
        std::to_string(bounds.contextTokens) + "; shorten the prompt" +
        (bounds.contextTokens < model.maxPositions && !model.recompute
             ? " or enlarge the context (the model allows " + std::to_string(model.maxPositions) + ")"
             : ""));
  for (const std::vector<int32_t> *tokens : {&request.promptTokens, &request.stopTokens})
    for (int32_t token : *tokens)
      if (token < 0 || static_cast<uint32_t>(token) >= model.vocabSize)
        return invalidArgument("token " + std::to_string(token) + " is no id of this vocabulary of " +
                               std::to_string(model.vocabSize));
  if (request.numTopLogprobs > kMaxTopLogprobs || request.numTopLogprobs > model.vocabSize)
    return invalidArgument(std::to_string(request.numTopLogprobs) +
                           " top log-probabilities are asked for; at most " +
                           std::to_string(std::min(kMaxTopLogprobs, model.vocabSize)) + " are given");
  if (request.client >= kMaxClients || request.clientWeight < 1 || request.clientWeight > 1000)
    return invalidArgument("client " + std::to_string(request.client) + " of weight " +
                           std::to_string(request.clientWeight) + "; clients are numbered below " +
                           std::to_string(kMaxClients) + " and weigh 1 to 1000");
  if (request.numSharedTokens > request.promptTokens.size())
    return invalidArgument(std::to_string(request.numSharedTokens) +
                           " tokens are to be shared of a prompt of " +
                           std::to_string(request.promptTokens.size()));
  if (request.wantHidden && model.hiddenSize == 0)
    return unimplemented("this program gives no hidden states; compile it again, with --embeddings");
  if (request.wantHidden && (request.maxTokens > 0 || request.wantLogits || request.wantPromptLogprobs))
    return invalidArgument("hidden states are asked for together with tokens or logits; ask for each by a request of its own");
  if (request.keepSeconds > kMaxKeepSeconds)
    return invalidArgument("its KV is to be kept for " + std::to_string(request.keepSeconds) +
                           " seconds; at most " + std::to_string(kMaxKeepSeconds) + " are granted");
  GIRIH_TRY(checkRules(request.rules, model.vocabSize));
  return checkSampling(request.sampling);
}

// Requires: `mutex` is held.
Status StepEngine::checkRoom(const Request &request) const {
  if (request.isBackground)
    return {};
  uint64_t numPromptTokens = request.promptTokens.size();
  if (numInQueue >= uint64_t{bounds.maxSequences} + maxQueued)
    return resourceExhausted(std::to_string(numInQueue) + " requests run or wait, the queue holds " +
                             std::to_string(maxQueued) + " beside " + std::to_string(bounds.maxSequences) +
                             " running; try again later");
  // An empty queue takes any prompt, or a long one could never be answered.
  uint64_t numQueued = counters.numQueuedTokens;
  if (maxQueuedTokens > 0 && numQueued > 0 && numQueued + numPromptTokens > maxQueuedTokens)
    return resourceExhausted("prompts of " + std::to_string(numQueued) + " tokens wait, this one has " +
                             std::to_string(numPromptTokens) + ", the queue holds " +
                             std::to_string(maxQueuedTokens) + "; try again later");
  return {};
}

Expected<RequestId> StepEngine::submit(Request request, std::shared_ptr<Listener> listener) {
  GIRIH_TRY(checkRequest(request));
  {
    std::lock_guard lock(mutex);
    if (Status status = checkRoom(request); !status.isOk()) {
      ++counters.numRefused;
      return status;
    }
  }
  // Outside the lock: this reads the whole prompt.
  RequestId id = ++lastId;
  auto sequence =
      std::make_unique<Sequence>(id, std::move(request), std::move(listener),
                                 source->model().vocabSize, bounds.contextTokens, cacheRoot);
  sequence->submitted = Clock::now();
  {
    std::lock_guard lock(mutex);
    if (isStopping)
      return unavailable("the engine is shutting down");
    if (Status status = checkRoom(sequence->request); !status.isOk()) {
      ++counters.numRefused;
      return status;
    }
    if (numUnfinished++ == 0)
      lastMoved = Clock::now();
    numInQueue += !sequence->request.isBackground;
    if (sequence->request.client >= counters.retainedByteSeconds.size())
      counters.retainedByteSeconds.resize(sequence->request.client + 1);
    counters.numPromptTokens += sequence->numPrompt;
    counters.numQueuedTokens += queuedTokensOf(*sequence);
    newSequences.push_back(std::move(sequence));
  }
  wake.notify_one();
  return id;
}

void StepEngine::cancel(RequestId id) {
  {
    std::lock_guard lock(mutex);
    newCancels.push_back(id);
  }
  wake.notify_one();
}

EngineStats StepEngine::stats() const {
  std::lock_guard lock(mutex);
  EngineStats result = counters;
  result.numWaiting += static_cast<uint32_t>(newSequences.size());
  result.stillSeconds = numUnfinished > 0 ? secondsBetween(lastMoved, Clock::now()) : 0.0;
  return result;
}

EngineLoad StepEngine::load() const {
  std::lock_guard lock(mutex);
  return {static_cast<uint32_t>(numInQueue), counters.numQueuedTokens, tokensPerSecond};
}

void StepEngine::clearCache() {
  {
    std::lock_guard lock(mutex);
    wantsClearCache = true;
  }
  wake.notify_one();
}

void StepEngine::forget(const Request &request, uint32_t numKept, std::function<void()> done) {
  ForgetOrder order{{}, std::move(done)};
  KeyChain chain(cacheRoot, request);
  uint32_t numFull = static_cast<uint32_t>(request.promptTokens.size()) / GIRIH_KV_BLOCK_TOKENS;
  // A block that is kept in part is this text's alone: others go on differently within it.
  uint32_t numKeptBlocks = std::max(numKept, request.numSharedTokens) / GIRIH_KV_BLOCK_TOKENS;
  for (uint32_t index = numKeptBlocks; index < numFull; ++index)
    order.keys.push_back(chain.at(index, request.promptTokens));
  {
    std::lock_guard lock(mutex);
    newForgets.push_back(std::move(order));
  }
  wake.notify_one();
}

// The disk first, if there is one: it may still be reading what the pool would lose.
void StepEngine::forgetTaken() {
  for (ForgetOrder &order : takenForgets) {
    if (disk) {
      disk->forget(std::move(order));
      continue;
    }
    endForget(order);
  }
  takenForgets.clear();
}

// Whoever is told may ask at once what is left.
void StepEngine::endForget(const ForgetOrder &order) {
  scheduler.forget(order.keys);
  {
    std::lock_guard lock(mutex);
    showCounts();
  }
  order.done();
}

// What lay in the pool for each client; often enough for a meter, seldom enough to cost nothing.
void StepEngine::accrueRetained(Clock::time_point now) {
  if (now - accruedAt < kAccrualTime)
    return;
  accruedAt = now;
  scheduler.accrue(cacheTimeOf(now));
  double byteSeconds = static_cast<double>(source->model().kvBlockBytes) / 1e3;
  std::lock_guard lock(mutex);
  for (uint32_t client = 0; client < counters.retainedByteSeconds.size(); ++client)
    counters.retainedByteSeconds[client] =
        byteSeconds * static_cast<double>(scheduler.cache().idleBlockMilliseconds(client));
}

void StepEngine::loop() {
  ::pthread_setname_np(::pthread_self(), "girih-engine");
  while (takeCommands())
    step();
  // What is left learns that it ends here.
  while (Sequence *sequence = scheduler.any())
    finish(sequence->id, FinishReason::Cancelled, cancelled("the engine is shutting down"));
}

// Waits for something to do. False: the engine ends.
bool StepEngine::takeCommands() {
  bool clears = false;
  {
    std::unique_lock lock(mutex);
    showCounts();
    auto hasCommand = [&] {
      return isStopping || wantsClearCache || !newSequences.empty() || !newCancels.empty() ||
             !newForgets.empty() || (disk && disk->hasResults());
    };
    if (scheduler.isIdle()) {
      wake.wait_for(lock, kIdleTime, hasCommand);
      busySince = Clock::now();
    } else if (planWasEmpty && scheduler.isMoving()) {
      wake.wait_for(lock, kDiskPatience, hasCommand);
    }
    takenSequences.swap(newSequences);
    takenCancels.swap(newCancels);
    takenForgets.swap(newForgets);
    clears = std::exchange(wantsClearCache, false);
    isLeaving = isStopping;
  }
  accrueRetained(Clock::now());
  takeFromDisk();
  for (std::unique_ptr<Sequence> &sequence : takenSequences) {
    numWithDeadline += sequence->request.deadline.has_value();
    scheduler.add(std::move(sequence));
  }
  for (RequestId id : takenCancels)
    finish(id, FinishReason::Cancelled, cancelled("the request was cancelled"));
  takenSequences.clear();
  takenCancels.clear();
  if (clears)
    scheduler.clearCache();
  forgetTaken();
  endOverdue();
  return !isLeaving;
}

void StepEngine::openDisk(const EngineOptions &options) {
  if (options.cacheFolder.empty() || bounds.numKvBlocks == 0)
    return;
  Status status;
  if (executor->kvBlock(0).empty()) {
    status = unimplemented("this device keeps KV where the host cannot read it");
  } else {
    auto store = kv::DiskStore::open(
        {options.cacheFolder, options.cacheFolderBytes, options.cacheFolderSeconds, options.cacheCipher, {}},
        cacheRoot, source->model().kvBlockBytes);
    if (store.isOk())
      disk = std::make_unique<DiskTier>(
          std::move(store).value(), [this](int32_t block) { return executor->kvBlock(block); },
          std::max(bounds.numKvBlocks / kPartOfPoolBeingStored, 1u),
          [this] {
            // Under the lock, or the engine's thread could miss it between looking and waiting.
            std::lock_guard lock(mutex);
            wake.notify_one();
          });
    else
      status = std::move(store).status();
  }
  diskCode = status.code();
  diskMessage = status.message();
  scheduler.setLowerTier(disk.get());
  showCounts();
}

void StepEngine::takeFromDisk() {
  if (!disk)
    return;
  LowerTierResults results = disk->takeResults();
  for (const LowerTierResults::Loaded &loaded : results.loaded)
    numTokensLoaded += loaded.numGood * GIRIH_KV_BLOCK_TOKENS;
  scheduler.finish(results);
  for (const ForgetOrder &order : results.forgotten)
    endForget(order);
}

void StepEngine::endOverdue() {
  if (numWithDeadline == 0)
    return;
  overdue.clear();
  scheduler.collectOverdue(Clock::now(), overdue);
  for (RequestId id : overdue)
    finish(id, FinishReason::Expired, unavailable("the request's deadline passed before it was answered"));
}

void StepEngine::start(Sequence &sequence, Clock::time_point now) {
  sequence.hasStarted = true;
  sequence.started = now;
  sequence.usage.queueSeconds = secondsBetween(sequence.submitted, now);
  std::lock_guard lock(mutex);
  counters.numQueuedTokens -= queuedTokensOf(sequence);
  counters.queueTime.observe(sequence.usage.queueSeconds);
}

void StepEngine::step() {
  StepTerms terms;
  terms.now = cacheTimeOf(Clock::now());
  terms.maxPromptTokens = pacer.promptTokensBeside(scheduler.numGenerating());
  terms.shortPromptTokens = bounds.maxTokensPerStep;
  guess();
  std::span<Sequence *const> planned = scheduler.plan(batch, terms);
  planWasEmpty = planned.empty();
  if (planWasEmpty)
    return;
  Clock::time_point begin = Clock::now();
  uint32_t numGenerating = 0; // their guesses, too
  for (Sequence *sequence : planned) {
    numGenerating += sequence->numPlanned == 1 && !sequence->request.wantHidden ? 1 + sequence->numDrafted : 0;
    if (!sequence->hasStarted)
      start(*sequence, begin);
  }
  Status status = executor->run(batch);
  if (status.code() == StatusCode::Unavailable && replaceDevice(status))
    return;
  Clock::time_point end = Clock::now();
  observePrompt(batch.numTokens() - numGenerating, secondsBetween(begin, end));
  pacer.observe(numGenerating, batch.numTokens() - numGenerating, secondsBetween(begin, end));
  if (numGenerating == batch.numTokens())
    speculation.observeStep(numGenerating, secondsBetween(begin, end));
  countStep(planned.size(), secondsBetween(begin, end));
  uint32_t firstRow = 0;
  for (Sequence *sequence : planned) {
    uint32_t numRows = sequence->numRows;
    if (!status.isOk())
      finish(sequence->id, FinishReason::Failed, Status(status.code(), std::string(status.message())));
    else
      finishRow(*sequence, firstRow, end);
    firstRow += numRows;
  }
}

void StepEngine::guess() {
  if (!speculation.isOn())
    return;
  Status status = speculation.guess(scheduler.onlyGenerating(),
                                    std::min(bounds.maxTokensPerStep, source->model().maxLogitRows));
  if (!status.isOk() && executorOptions.device.onNote)
    executorOptions.device.onNote("the draft model guesses no more: " + std::string(status.message()));
}

// The device is lost, and the KV pool with it: goes on with the next that the file has code for, from the tokens. False
// where there is none, or where a tier on disk still reads the pool.
bool StepEngine::replaceDevice(const Status &reason) {
  const program::DeviceName lost = executor->deviceName();
  executorOptions.devices = executor->devicesLeft();
  if (executorOptions.devices.empty() || disk)
    return false;
  executorOptions.numKvBlocks = bounds.numKvBlocks;
  executorOptions.leastKvBlocks = 0;
  speculation.dropModel();
  auto next = program::Executor::create(source, executorOptions);
  if (!next.isOk())
    return false;
  executor = std::move(next).value();
  showExecutor();
  if (executorOptions.device.onNote)
    executorOptions.device.onNote(program::describe(lost) + ": " + std::string(reason.message()) + "; going on with " +
                                  program::describe(executor->deviceName()) + ", where " +
                                  std::to_string(scheduler.numRunning()) + " sequences are computed again");
  scheduler.forgetPool();
  return true;
}

// How fast prompts are computed, against which the disk is measured.
void StepEngine::observePrompt(uint32_t numPromptTokens, double seconds) {
  if (!disk || 2 * numPromptTokens < batch.numTokens() || numPromptTokens < kLeastMeasuredTokens)
    return;
  double perToken = seconds / batch.numTokens();
  promptSecondsPerToken +=
      (promptSecondsPerToken == 0.0 ? 1.0 : kWeightOfLastRate) * (perToken - promptSecondsPerToken);
  disk->setComputeSeconds(promptSecondsPerToken * GIRIH_KV_BLOCK_TOKENS);
}

// What one sequence got from the step; the sequence may be gone afterwards.
void StepEngine::finishRow(Sequence &sequence, uint32_t firstRow, Clock::time_point now) {
  reportRows(sequence, firstRow);
  scheduler.advance(sequence);
  if (sequence.numPending() > 0)
    return;
  if (!sequence.wantsToken())
    return finish(sequence.id, FinishReason::Length, {});
  sampleRows(sequence, firstRow + sequence.numRows - 1 - sequence.numDrafted, now);
}

// Samples from the row of its last token, and from those of its guesses as long as they say what was sampled. The sequence
// may be gone afterwards.
void StepEngine::sampleRows(Sequence &sequence, uint32_t firstRow, Clock::time_point now) {
  uint32_t numDrafted = sequence.numDrafted, numAccepted = 0;
  std::optional<FinishReason> ended;
  Status status;
  while (!ended) {
    Expected<bool> isLast = sampleToken(sequence, executor->logits(firstRow + numAccepted), now);
    if (!isLast.isOk()) {
      ended = FinishReason::Failed;
      status = std::move(isLast).status();
    } else if (*isLast) {
      ended = FinishReason::Stop;
    } else if (!sequence.wantsToken()) {
      // The last token of all is handed out but never fed: nothing depends on it.
      ended = FinishReason::Length;
    } else {
      if (numAccepted == numDrafted || sequence.tokens.back() != sequence.draft[numAccepted])
        break;
      scheduler.acceptDraft(sequence);
      ++numAccepted;
    }
  }
  if (numDrafted > 0)
    countDraft(sequence, numAccepted);
  sequence.draft.clear();
  if (ended)
    finish(sequence.id, *ended, std::move(status));
}

void StepEngine::countDraft(Sequence &sequence, uint32_t numAccepted) {
  speculation.observeDraft(sequence, numAccepted);
  std::lock_guard lock(mutex);
  ++counters.numDrafts;
  counters.numDraftedTokens += sequence.numDrafted;
  counters.numAcceptedTokens += numAccepted;
  if (sequence.draftSource != DraftSource::Model)
    return;
  ++counters.numModelDrafts;
  counters.numModelDraftedTokens += sequence.numDrafted;
  counters.numModelAcceptedTokens += numAccepted;
}

void StepEngine::reportRows(Sequence &sequence, uint32_t firstRow) {
  uint32_t first = sequence.firstRowPosition, numRows = sequence.numRows;
  // After a preemption rows come again that were delivered before.
  if (numRows > 0 && first < sequence.numRowsDelivered) {
    uint32_t numKnown = std::min(numRows, sequence.numRowsDelivered - first);
    first += numKnown;
    firstRow += numKnown;
    numRows -= numKnown;
  }
  if (numRows == 0)
    return;
  if (sequence.request.wantHidden)
    sequence.listener->onHidden(sequence.id, first, numRows, executor->hidden(firstRow, numRows));
  if (sequence.request.wantLogits)
    sequence.listener->onLogits(sequence.id, first, numRows, executor->logits(firstRow, numRows));
  if (sequence.request.wantPromptLogprobs && first + 1 < sequence.numPrompt)
    reportPrompt(sequence, first, firstRow, std::min(numRows, sequence.numPrompt - 1 - first));
  sequence.numRowsDelivered = first + numRows;
}

// Rows at positions first, first + 1, ... say how likely the prompt tokens after them were.
void StepEngine::reportPrompt(Sequence &sequence, uint32_t first, uint32_t firstRow, uint32_t numRows) {
  uint32_t numTops = sequence.request.numTopLogprobs;
  promptResults.clear();
  promptTops.resize(uint64_t{numRows} * numTops);
  for (uint32_t row = 0; row < numRows; ++row) {
    std::span<const float> logits = executor->logits(firstRow + row);
    std::span<TopToken> top = std::span(promptTops).subspan(uint64_t{row} * numTops, numTops);
    int32_t token = sequence.tokens[first + row + 1];
    if (numTops > 0)
      topTokens(logits, top);
    promptResults.push_back(
        {token, static_cast<float>(logits[static_cast<size_t>(token)] - logSumExp(logits)), top});
  }
  sequence.listener->onPromptLogprobs(sequence.id, first + 1, promptResults);
}

// True when the sequence ends with this token, which then is not handed out.
Expected<bool> StepEngine::sampleToken(Sequence &sequence, std::span<float> logits, Clock::time_point now) {
  const Request &request = sequence.request;
  TopToken top[kMaxTopLogprobs];
  TokenResult result;
  double normaliser = 0.0;
  bool wantsLogprob = request.wantLogprobs || request.numTopLogprobs > 0;
  // Before the sampler changes the row: log-probabilities are the model's own.
  if (wantsLogprob) {
    normaliser = logSumExp(logits);
    result.top = {top, request.numTopLogprobs};
    topTokens(logits, {top, request.numTopLogprobs});
    ownLogits.assign(logits.begin(), logits.end());
  }
  GIRIH_TRY(applyRules(request.rules, sequence.outputCounts, sequence.usage.numOutputTokens,
                       request.ignoreStop ? std::span<const int32_t>() : request.stopTokens, logits,
                       maskWords));
  GIRIH_ASSIGN(result.token, sampler.sample(logits, request.sampling, sequence.seen, sequence.tokens.size()));
  if (wantsLogprob)
    result.logprob = static_cast<float>(ownLogits[static_cast<size_t>(result.token)] - normaliser);
  if (sequence.usage.numOutputTokens == 0) {
    sequence.firstToken = now;
    sequence.usage.prefillSeconds = secondsBetween(sequence.started, now);
  }
  {
    std::lock_guard lock(mutex);
    if (sequence.usage.numOutputTokens == 0)
      counters.firstToken.observe(secondsBetween(sequence.submitted, now));
    else
      counters.interToken.observe(secondsBetween(sequence.lastToken, now));
  }
  sequence.lastToken = now;
  const std::vector<int32_t> &stops = request.stopTokens;
  if (!request.ignoreStop && std::find(stops.begin(), stops.end(), result.token) != stops.end()) {
    sequence.listener->onStop(sequence.id, result);
    return true;
  }
  ++sequence.usage.numOutputTokens;
  sequence.tokens.push_back(result.token);
  sequence.seen.add(result.token);
  if (request.rules.countsOutput())
    sequence.outputCounts.add(result.token);
  if (request.rules.mask)
    GIRIH_TRY(request.rules.mask->accept(result.token));
  sequence.listener->onTokens(sequence.id, {&result, 1});
  return false;
}

void StepEngine::finish(RequestId id, FinishReason reason, Status status) {
  std::unique_ptr<Sequence> sequence = scheduler.remove(id);
  if (!sequence)
    return; // cancelled after its end
  speculation.release(*sequence);
  Usage &usage = sequence->usage;
  usage.numPromptTokens = sequence->numPrompt;
  numWithDeadline -= sequence->request.deadline.has_value();
  if (usage.numOutputTokens > 0)
    usage.decodeSeconds = secondsBetween(sequence->firstToken, Clock::now());
  else if (sequence->hasStarted)
    usage.prefillSeconds = secondsBetween(sequence->started, Clock::now());
  {
    std::lock_guard lock(mutex);
    --numUnfinished;
    numInQueue -= !sequence->request.isBackground;
    ++counters.numRequestsFinished[static_cast<size_t>(reason)];
    counters.numOutputTokens += usage.numOutputTokens;
    counters.numCachedTokens += usage.numCachedTokens;
    counters.wholeTime.observe(secondsBetween(sequence->submitted, Clock::now()));
    if (!sequence->hasStarted)
      counters.numQueuedTokens -= queuedTokensOf(*sequence);
    // So that whoever hears of the end finds the blocks free.
    showCounts();
  }
  sequence->listener->onFinish(id, reason, usage, status);
}

// Requires: `mutex` is held.
void StepEngine::showCounts() {
  counters.numRunning = scheduler.numRunning();
  counters.numWaiting = scheduler.numWaiting();
  counters.numPreemptions = scheduler.numPreemptions();
  counters.numKvBlocksUsed = scheduler.cache().numHeld();
  counters.numKvBlocksCached = scheduler.cache().numIdle();
  counters.numEvictions = scheduler.cache().numEvictions();
  if (!disk)
    return;
  kv::DiskStore::Counts counts = disk->counts();
  counters.disk = {counts.numFiles,   counts.numBytes,   counts.numBytesRead,     counts.numBytesWritten,
                   numTokensLoaded,   counts.numDamaged, counts.numWriteFailures, counts.numEvicted,
                   counts.numExpired, counts.numErased};
}

void StepEngine::countStep(size_t numSequences, double seconds) {
  uint32_t numTokens = batch.numTokens();
  Clock::time_point now = Clock::now();
  std::lock_guard lock(mutex);
  ++counters.numSteps;
  counters.numSharedSteps += numSequences > 1;
  counters.numTokensEvaluated += numTokens;
  counters.crossings = executor->crossings();
  size_t bucket = static_cast<size_t>(std::bit_width(numTokens)) - 1;
  ++counters.stepTokenBuckets[std::min(bucket, counters.stepTokenBuckets.size() - 1)];
  counters.maxSequencesInStep = std::max(counters.maxSequencesInStep, static_cast<uint32_t>(numSequences));
  counters.stepSeconds += seconds;
  counters.draftSeconds = speculation.modelSeconds();
  counters.busySeconds += secondsBetween(busySince, now);
  double rate = numTokens / secondsBetween(busySince, now);
  tokensPerSecond += (tokensPerSecond == 0.0 ? 1.0 : kWeightOfLastRate) * (rate - tokensPerSecond);
  busySince = lastMoved = now;
  showCounts();
}

} // namespace

Expected<std::unique_ptr<Engine>> Engine::create(std::shared_ptr<const program::Program> program,
                                                 const EngineOptions &options) {
  GIRIH_ASSIGN(Bounds bounds, resolveOptions(program->model(), options));
  if (options.draft)
    GIRIH_TRY(checkDraft(*program, *options.draft));
  program::ExecutorOptions executorOptions;
  executorOptions.devices = options.devices;
  executorOptions.device = options.deviceOptions();
  executorOptions.isa = options.isa;
  executorOptions.numKvBlocks = bounds.numKvBlocks;
  // A pool that nobody asked for by size may be as small as the device's buffers are.
  executorOptions.leastKvBlocks = options.kvBytes == 0 ? 1 : 0;
  GIRIH_ASSIGN(auto executor, program::Executor::create(program, executorOptions));
  if (bounds.numKvBlocks > 0) {
    bounds.numKvBlocks = executor->numKvBlocks();
    bounds.contextTokens = std::min(bounds.contextTokens, bounds.numKvBlocks * GIRIH_KV_BLOCK_TOKENS);
  }
  std::unique_ptr<DraftModel> draftModel;
  if (options.draft && options.maxDraft > 0) {
    program::ExecutorOptions ofDraft = executorOptions;
    ofDraft.devices = {executor->deviceName()};
    ofDraft.openDevice = executor->openDevice();
    GIRIH_ASSIGN(draftModel,
                 DraftModel::create(options.draft, ofDraft, {bounds.numKvBlocks, bounds.maxSequences}));
  }
  return std::unique_ptr<Engine>(std::make_unique<StepEngine>(
      std::move(program), std::move(executor), executorOptions, std::move(draftModel), options, bounds));
}

} // namespace girih::engine
