// SPDX-License-Identifier: Apache-2.0
// TokenStream: hands tokens from the engine's thread to the caller's.
#include "runtime/tools/token_stream.h"

#include <csignal>
#include <optional>

namespace girih::tools {
namespace {

volatile std::sig_atomic_t interrupted = 0;
struct sigaction formerAction;

void noteInterrupt(int) {
  // A second Ctrl-C, when the first had no effect, ends the process as usual.
  if (interrupted)
    std::raise(SIGTERM);
  interrupted = 1;
}

class QueueListener final : public engine::Listener {
public:
  explicit QueueListener(LogitSink logitSink) : logitSink(std::move(logitSink)) {}

  void onTokens(engine::RequestId, std::span<const engine::TokenResult> results) override {
    std::lock_guard lock(mutex);
    for (const engine::TokenResult &result : results)
      arrived.push_back(result.token);
    changed.notify_one();
  }
  void onLogits(engine::RequestId, uint32_t firstPosition, uint32_t numRows, std::span<const float> rows) override {
    if (logitSink)
      logitSink(firstPosition, numRows, rows);
  }
  void onFinish(engine::RequestId, engine::FinishReason endReason, const engine::Usage &endUsage,
                const Status &endStatus) override {
    std::lock_guard lock(mutex);
    reason = endReason;
    usage = endUsage;
    if (!endStatus.isOk())
      status = Status(endStatus.code(), std::string(endStatus.message()));
    changed.notify_one();
  }

  std::mutex mutex;
  std::condition_variable changed;
  std::vector<int32_t> arrived;
  std::optional<engine::FinishReason> reason;
  engine::Usage usage;
  Status status;

private:
  const LogitSink logitSink;
};

}  // namespace

InterruptScope::InterruptScope() {
  interrupted = 0;
  struct sigaction action {};
  action.sa_handler = noteInterrupt;
  action.sa_flags = SA_RESTART;
  sigaction(SIGINT, &action, &formerAction);
}

InterruptScope::~InterruptScope() { sigaction(SIGINT, &formerAction, nullptr); }

bool InterruptScope::wasInterrupted() { return interrupted != 0; }

Expected<GenerationOutcome> streamTokens(engine::Engine &engine, engine::Request request,
                                         const std::function<void(int32_t token)> &onToken, LogitSink logitSink) {
  auto listener = std::make_shared<QueueListener>(std::move(logitSink));
  GIRIH_ASSIGN(engine::RequestId id, engine.submit(std::move(request), listener));
  GenerationOutcome outcome;
  std::unique_lock lock(listener->mutex);
  while (!listener->reason || !listener->arrived.empty()) {
    std::vector<int32_t> tokens = std::exchange(listener->arrived, {});
    lock.unlock();
    for (int32_t token : tokens) {
      outcome.tokens.push_back(token);
      onToken(token);
    }
    if (!outcome.interrupted && InterruptScope::wasInterrupted()) {
      outcome.interrupted = true;
      engine.cancel(id);
    }
    lock.lock();
    // The time limit is for Ctrl-C alone: a signal handler cannot notify.
    if (listener->arrived.empty() && !listener->reason)
      listener->changed.wait_for(lock, std::chrono::milliseconds(50));
  }
  outcome.reason = *listener->reason;
  outcome.usage = listener->usage;
  if (outcome.reason == engine::FinishReason::Failed)
    return std::move(listener->status);
  return outcome;
}

}  // namespace girih::tools
