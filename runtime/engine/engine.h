// SPDX-License-Identifier: Apache-2.0
// Engine: generates tokens for many sequences at once; they share steps and what the cache has of their prompts.
#pragma once

#include "runtime/base/expected.h"
#include "runtime/engine/answer_rules.h"
#include "runtime/engine/latency_histogram.h"
#include "runtime/engine/sampler.h"
#include "runtime/hal/device.h"
#include "runtime/program/device_choice.h"
#include "runtime/program/program.h"

#include <array>
#include <chrono>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

namespace girih::kv {
class BlockCipher;
}

namespace girih::engine {

struct EngineOptions {
  int32_t numThreads = 0;     // 0: as many as the affinity mask and the cgroup quota grant
  std::vector<program::DeviceName> devices; // tried in this order; empty: the built-in ones that the file has code for
  std::string isa;            // "": the best variant of the file that this machine grants; else only this one
  double watchdogSeconds = 0; // a step that takes longer is reported to onHang, on a thread of its own; 0: none is
  std::function<void(const std::string &entry, double seconds)> onHang;
  std::function<void(const std::string &)> onNote; // what the device tells its user when it is opened
  uint32_t maxSequences = 64;                      // sequences that may share a step
  uint32_t maxTokensPerStep = 0; // 0: the program's own bound; a smaller one gives shorter steps
  uint32_t maxContextTokens = 0; // 0: the program's own bound (most positions of one sequence)
  uint64_t kvBytes = 0;          // size of the KV pool; 0: 4 sequences of full context, at most 1 GiB
  uint32_t maxQueued = 1024;     // requests that may wait; more are refused
  uint64_t maxQueuedTokens = 0;  // prompt tokens of those that wait; more are refused; 0: no bound
  // A step with a part of a long prompt in it may take so many times what its generating sequences take alone:
  // the prompt is cut so that streams do not pause. Prompts that fit one step are not. 0: no bound.
  double maxSlowdown = 2.5;
  // Tokens of one sequence that may be guessed from its own text and checked in one step, wherever that is measured to pay;
  // 0: none are. Where a program's rows depend on their company ("fast" numerics) so may the answer's tokens.
  uint32_t maxDraft = 0;
  bool draftsEagerly = false; // also where it does not pay (tests)
  // A smaller program over the same vocabulary that guesses, too, wherever that pays; null: none does. Its KV pool has room
  // for as many positions as the model's.
  std::shared_ptr<const program::Program> draft;
  // Where KV blocks of long prompts are kept between runs; empty: nowhere. A folder that cannot be used is told by
  // Engine::diskStatus and fails nothing.
  std::string cacheFolder;
  uint64_t cacheFolderBytes = uint64_t{4} << 30;
  uint32_t cacheFolderSeconds =
      30 * 24 * 3600; // how long what is not used again stays, where no request says
  std::shared_ptr<const kv::BlockCipher> cacheCipher; // null: the files lie open

  hal::DeviceOptions deviceOptions() const { return {numThreads, watchdogSeconds, onHang, onNote}; }
};

// What the tier below the pool did.
struct DiskStats {
  uint64_t numFiles = 0, numBytes = 0;
  uint64_t numBytesRead = 0, numBytesWritten = 0;
  uint64_t numTokensLoaded = 0;
  uint64_t numDamaged = 0;       // files that were refused and removed
  uint64_t numWriteFailures = 0; // a full or read-only disk
  uint64_t numEvicted = 0;
  uint64_t numExpired = 0; // their time was over
  uint64_t numErased = 0;  // somebody asked for it
};

inline constexpr uint32_t kMaxDraft = 15;

using RequestId = uint64_t;
using Clock = std::chrono::steady_clock;
// Requests name their client by a number below this one.
inline constexpr uint32_t kMaxClients = 4096;
inline constexpr uint32_t kUntilContextEnds = ~uint32_t{0};

struct Request {
  std::vector<int32_t> promptTokens;      // at least one; each in [0, vocabSize)
  uint32_t maxTokens = kUntilContextEnds; // 0: only evaluates the prompt
  SamplingOptions sampling;
  AnswerRules rules;
  std::vector<int32_t> stopTokens; // generation ends with one of these, which is not handed out
  bool ignoreStop = false;         // generates maxTokens whatever comes (benchmarks)
  bool wantLogits = false;         // onLogits for every evaluated position of prompt and output
  // onHidden for every position of the prompt, and nothing else: maxTokens is 0. What is computed for it stays in no cache.
  bool wantHidden = false;
  bool wantPromptLogprobs = false; // onPromptLogprobs for every prompt token but the first
  bool wantLogprobs = false;       // fills TokenResult::logprob
  uint32_t numTopLogprobs =
      0; // fills TokenResult::top, of prompt tokens too; implies wantLogprobs; at most kMaxTopLogprobs

  uint32_t client = 0;       // on whose behalf: steps and the cache are shared fairly between clients
  uint32_t clientWeight = 1; // how many times its part of the steps; 1 to 1000
  int32_t priority = 0;      // higher goes first and may take a lower one's place; granted, not claimed
  std::string cacheSalt;     // only requests with the same salt find each other's KV
  uint32_t keepSeconds = 0;  // its KV counts as used until so long after its end; at most kMaxKeepSeconds
  bool keepOnDisk = true;    // false: nothing of it is written there
  // So many tokens at its beginning are nobody's own: requests with the same `sharedSalt` find the KV of their full
  // blocks whatever their `cacheSalt` is. What follows is found by `cacheSalt` again.
  uint32_t numSharedTokens = 0;
  std::string sharedSalt;
  bool isBackground =
      false; // waits outside the bounds of the queue; whoever submits many of them bounds them
  std::optional<Clock::time_point> deadline; // ends with Expired where it has not ended by then
};
inline constexpr uint32_t kMaxKeepSeconds = 30 * 24 * 3600;
inline constexpr uint32_t kMaxTopLogprobs = 20;

struct TokenResult {
  int32_t token = -1;
  float logprob = 0.0f;          // of the model's own distribution, before penalty, temperature and filters
  std::span<const TopToken> top; // valid during the callback
};

enum class FinishReason {
  Stop,      // a stop token
  Length,    // maxTokens, or the context is full
  Cancelled, // cancel(), or the engine is shutting down
  Failed,    // see the status
  Expired,   // the deadline passed
};
inline constexpr size_t kNumFinishReasons = 5;

struct Usage {
  uint32_t numPromptTokens = 0;
  uint32_t numCachedTokens = 0; // of the prompt's: their K and V came from the cache
  uint32_t numOutputTokens = 0;
  uint32_t numPreemptions = 0; // times the sequence gave its blocks away and was recomputed
  double queueSeconds = 0.0;   // from submit to its first step
  double prefillSeconds = 0.0; // from its first step to its first token
  double decodeSeconds = 0.0;  // from its first token to the end
};

// Receives what becomes of one request. Called on the engine thread: must return soon, must not block, may
// call submit and cancel. Spans are valid during the call only. onFinish is the last call and comes exactly
// once.
class Listener {
public:
  virtual ~Listener() = default;
  virtual void onTokens(RequestId id, std::span<const TokenResult> tokens) = 0;
  // The stop token that was sampled, which is not part of the answer; onFinish follows.
  virtual void onStop(RequestId id, const TokenResult &token) {}
  // `rows` [numRows, vocabSize] f32: the logits at positions firstPosition, firstPosition + 1, ...
  virtual void onLogits(RequestId id, uint32_t firstPosition, uint32_t numRows, std::span<const float> rows) {
  }
  // `rows` [numRows, hiddenSize] f32: the activations behind the model's last norm, each position once, in order.
  virtual void onHidden(RequestId id, uint32_t firstPosition, uint32_t numRows, std::span<const float> rows) {
  }
  // Prompt tokens firstPosition, firstPosition + 1, ... with their log-probabilities given all before.
  virtual void onPromptLogprobs(RequestId id, uint32_t firstPosition, std::span<const TokenResult> tokens) {}
  virtual void onFinish(RequestId id, FinishReason reason, const Usage &usage, const Status &status) = 0;
};

struct EngineStats {
  uint64_t numSteps = 0;
  uint64_t numSharedSteps = 0;     // steps with more than one sequence in them
  // Between two devices of which one computes what the other declines.
  program::Crossings crossings;
  uint64_t numTokensEvaluated = 0; // fed to the program, prompts and outputs
  uint64_t numPromptTokens = 0;    // of accepted requests
  uint64_t numCachedTokens = 0;    // of prompts, that came from the cache
  uint64_t numOutputTokens = 0;
  uint64_t numDrafts = 0;         // steps of a sequence in which guesses were checked
  uint64_t numDraftedTokens = 0;  // these guesses
  uint64_t numAcceptedTokens = 0; // those that came true
  uint64_t numModelDrafts = 0, numModelDraftedTokens = 0,
           numModelAcceptedTokens = 0; // of these, the draft model's
  double draftSeconds = 0.0;           // in the draft model
  uint64_t numPreemptions = 0;
  uint64_t numEvictions = 0;                                     // of cached blocks
  uint64_t numRefused = 0;                                       // requests that the full queue turned away
  std::array<uint64_t, kNumFinishReasons> numRequestsFinished{}; // by FinishReason
  std::array<uint64_t, 16> stepTokenBuckets{};                   // [i]: steps with 2^i .. 2^(i+1)-1 tokens
  uint32_t maxSequencesInStep = 0;
  uint32_t numRunning = 0;
  uint32_t numWaiting = 0;
  uint64_t numQueuedTokens = 0; // prompt tokens of requests that have not started
  uint64_t numKvBlocks = 0;
  uint64_t numKvBlocksUsed = 0;   // held by sequences
  uint64_t numKvBlocksCached = 0; // held by none, found again by content
  double stepSeconds = 0.0;       // total time in the program
  double busySeconds = 0.0;       // total time in which there was something to do
  DiskStats disk;
  // By client, as far as one was seen: bytes of KV that no sequence held, times the seconds that they were kept.
  std::vector<double> retainedByteSeconds;
  double stillSeconds = 0.0;   // since something moved, while there is something to do: a watchdog's
  LatencyHistogram queueTime;  // from submit to the first step
  LatencyHistogram firstToken; // from submit to the first token
  LatencyHistogram interToken; // between two tokens of one request
  LatencyHistogram wholeTime;  // from submit to the end
};

// What admission in front of the engine needs to know, cheap enough to ask for every request.
struct EngineLoad {
  uint32_t numUnfinished = 0;
  uint64_t numQueuedTokens = 0;
  double tokensPerSecond = 0.0; // evaluated in steps, of late; 0: nothing ran yet
};

// Owns one thread, the scheduler, the KV pool and the device. Thread-safe. Never touches text.
// Every step mixes decode rows and prefill chunks up to the program's bounds; see Scheduler for who goes first.
// When the pool runs dry the youngest sequence gives its blocks back and is recomputed later: no token is lost
// and none changes.
class Engine {
public:
  // Loads the code: from here on the file's executable runs. Fails: Unavailable (no variant of the file is
  // granted by this machine; says why for each), InvalidArgument (an option), ResourceExhausted (memory).
  static Expected<std::unique_ptr<Engine>> create(std::shared_ptr<const program::Program> program,
                                                  const EngineOptions &options = {});
  // Cancels what is running, waits for the step in flight.
  virtual ~Engine() = default;

  // Queues the request. Fails at once, without a call to the listener: InvalidArgument (an option, a token
  // out of range, an empty prompt), OutOfRange (the prompt exceeds the context), ResourceExhausted (the queue
  // is full).
  virtual Expected<RequestId> submit(Request request, std::shared_ptr<Listener> listener) = 0;
  // The sequence leaves within a step and its blocks are free again; onFinish(Cancelled) follows. Does
  // nothing when the request has finished.
  virtual void cancel(RequestId id) = 0;

  virtual EngineStats stats() const = 0;
  virtual EngineLoad load() const = 0;
  // Why there is no tier on disk though one was asked for.
  virtual Status diskStatus() const = 0;
  // Forgets all KV that no sequence holds, within a step.
  virtual void clearCache() = 0;
  // Forgets, in memory and on disk, the KV of a prompt and its answer behind the first `numKept` tokens; what a running
  // sequence uses, or another text goes on from, stays. `done` is called once, on a thread of the engine.
  virtual void forget(const Request &request, uint32_t numKept, std::function<void()> done) = 0;
  virtual const program::Program &program() const = 0;
  virtual const program::Executable &executable() const = 0; // the variant in use
  virtual int32_t numThreads() const = 0;
  // Most tokens of one sequence, prompt and output together.
  virtual uint32_t contextTokens() const = 0;
  // Numbers in a row of hidden states; 0: the program gives none.
  virtual uint32_t hiddenSize() const = 0;
};

// What an engine over this program would take, asked of nothing but its tables.
struct EngineNeeds {
  uint32_t contextTokens = 0;
  uint64_t numBytes = 0; // weights and KV pool, a draft's too
};
// Fails: as Engine::create does for the options.
Expected<EngineNeeds> needsOf(const program::Program &program, const EngineOptions &options);

// Blocking use, for the command line and tests.

struct Completion {
  std::vector<int32_t> tokens;
  std::vector<float> logprobs; // when asked for, one a token
  std::vector<float> logits;   // when asked for, [numLogitRows, vocabSize] from position 0
  uint32_t numLogitRows = 0;
  std::vector<float> promptLogprobs; // when asked for, [numPromptTokens - 1]
  FinishReason reason = FinishReason::Failed;
  Usage usage;
};
// Submits and waits for the end. Fails as submit does, or with the status of onFinish.
Expected<Completion> generate(Engine &engine, Request request);

// The log-probability of every token given those before it, teacher-forced: [0] is 0 (nothing predicts it).
// Longer texts than the context are scored in windows: each starts half a context before its first scored
// token.
Expected<std::vector<float>> score(Engine &engine, std::span<const int32_t> tokens);

struct BenchOptions {
  uint32_t promptTokens = 512;   // evaluated at depth `context`, in each sequence
  uint32_t generateTokens = 128; // decoded greedily at depth `context`, all sequences in every step
  uint32_t numSequences = 1;
  uint32_t contextTokens = 0;
  uint32_t repetitions = 5;
};
struct BenchRate {
  double median = 0.0, min = 0.0, max = 0.0; // tokens a second, all sequences together
};
struct BenchResult {
  BenchRate prefill;
  BenchRate decode;
  std::string isa;
  int32_t numThreads = 0;
  uint64_t numSteps = 0;
  uint64_t numSharedSteps = 0;
  hal::Traffic traffic; // of all steps together
};
// Times bare steps with made-up tokens, after one untimed repetition. Creates its own device; no Engine is
// needed.
Expected<BenchResult> bench(std::shared_ptr<const program::Program> program, const EngineOptions &options,
                            const BenchOptions &bench);

} // namespace girih::engine
