// SPDX-License-Identifier: Apache-2.0
// girih.h over program and engine: copies structs, turns Status into codes, and lets no exception out.
#include "runtime/abi/girih.h"

#include "runtime/engine/engine.h"
#include "runtime/program/program.h"

#include <algorithm>
#include <condition_variable>
#include <cstring>
#include <deque>
#include <mutex>
#include <new>

using girih::Expected;
using girih::Status;
using girih::StatusCode;
namespace engine = girih::engine;
namespace program = girih::program;

#define GIRIH_EXPORT extern "C" __attribute__((visibility("default")))

struct girih_program {
  std::shared_ptr<const program::Program> opened;
};
struct girih_engine {
  std::unique_ptr<engine::Engine> engine;
};

namespace {

girih_code report(const Status &status, girih_message *message) {
  if (!status.isOk() && message && message->text && message->capacity_bytes > 0) {
    size_t numBytes = std::min<size_t>(status.message().size(), message->capacity_bytes - 1);
    std::memcpy(message->text, status.message().data(), numBytes);
    message->text[numBytes] = 0;
  }
  return static_cast<girih_code>(status.code());
}

// Runs a function that returns a Status; an exception of the standard library becomes a code as well.
template <typename Function> girih_code guarded(girih_message *message, Function function) noexcept {
  try {
    return report(function(), message);
  } catch (const std::bad_alloc &) {
    // Without a Status, whose message would need memory.
    if (message && message->text && message->capacity_bytes > 0)
      std::strncpy(message->text, "out of memory", message->capacity_bytes - 1)[message->capacity_bytes - 1] =
          0;
    return GIRIH_RESOURCE_EXHAUSTED;
  } catch (...) {
    return GIRIH_INTERNAL;
  }
}

// A copy of a caller's struct at this library's size: what the caller's is too old to have is zero.
template <typename T> Expected<T> copyStruct(const T *from, const char *name) {
  if (!from || from->struct_size < sizeof(uint64_t))
    return girih::invalidArgument(std::string(name) +
                                  " is null or its struct_size is not set; set it to its sizeof");
  T copy = {};
  std::memcpy(&copy, from, std::min<uint64_t>(from->struct_size, sizeof copy));
  copy.struct_size = sizeof copy;
  return copy;
}

// Fills as much of a caller's struct as it has room for; keeps its struct_size.
template <typename T> Status fillStruct(T *to, T filled, const char *name) {
  if (!to || to->struct_size < sizeof(uint64_t))
    return girih::invalidArgument(std::string(name) +
                                  " is null or its struct_size is not set; set it to its sizeof");
  filled.struct_size = to->struct_size;
  std::memcpy(to, &filled, std::min<uint64_t>(to->struct_size, sizeof filled));
  return {};
}

Status requireHandle(const void *handle, const char *name) {
  return handle ? Status() : girih::invalidArgument(std::string(name) + " is null");
}

Expected<std::vector<int32_t>> copyTokens(const int32_t *tokens, uint64_t count, const char *name) {
  if (!tokens && count > 0)
    return girih::invalidArgument(std::string(name) + " is null, but " + std::to_string(count) +
                                  " are announced");
  return std::vector<int32_t>(tokens, tokens + count);
}

Expected<engine::SamplingOptions> copySampling(const girih_sampling *sampling) {
  engine::SamplingOptions to;
  if (!sampling)
    return to;
  GIRIH_ASSIGN(girih_sampling from, copyStruct(sampling, "girih_sampling"));
  to.temperature = from.temperature;
  to.topK = from.top_k;
  to.topP = from.top_p == 0.0f ? 1.0f : from.top_p;
  to.minP = from.min_p;
  to.repetitionPenalty = from.repetition_penalty == 0.0f ? 1.0f : from.repetition_penalty;
  to.seed = from.seed;
  return to;
}

// Hands the engine's calls to the caller's functions.
class Callbacks final : public engine::Listener {
public:
  explicit Callbacks(const girih_request &request)
      : onTokensFunction(request.on_tokens), onFinishFunction(request.on_finish), context(request.context) {}
  void onTokens(engine::RequestId id, std::span<const engine::TokenResult> results) override {
    for (const engine::TokenResult &result : results)
      if (onTokensFunction)
        onTokensFunction(context, id, &result.token, 1);
  }
  void onFinish(engine::RequestId id, engine::FinishReason reason, const engine::Usage &usage,
                const Status &status) override {
    if (!onFinishFunction)
      return;
    std::string text(status.message());
    girih_finish finish = {
        sizeof finish,      static_cast<int32_t>(reason), static_cast<girih_code>(status.code()),
        text.c_str(),       usage.numPromptTokens,        usage.numOutputTokens,
        usage.queueSeconds, usage.prefillSeconds,         usage.decodeSeconds};
    onFinishFunction(context, id, &finish);
  }

private:
  decltype(girih_request::on_tokens) onTokensFunction;
  decltype(girih_request::on_finish) onFinishFunction;
  void *context;
};

// Tokens on their way from the engine's thread to the one that calls girih_session_next.
class Mailbox final : public engine::Listener {
public:
  void onTokens(engine::RequestId, std::span<const engine::TokenResult> results) override {
    std::lock_guard lock(mutex);
    for (const engine::TokenResult &result : results)
      tokens.push_back(result.token);
    changed.notify_one();
  }
  void onFinish(engine::RequestId, engine::FinishReason, const engine::Usage &,
                const Status &status) override {
    std::lock_guard lock(mutex);
    isFinished = true;
    code = status.code();
    message = status.message();
    changed.notify_one();
  }
  // -1 at the end.
  Expected<int32_t> next() {
    std::unique_lock lock(mutex);
    changed.wait(lock, [&] { return isFinished || !tokens.empty(); });
    if (!tokens.empty()) {
      int32_t token = tokens.front();
      tokens.pop_front();
      return token;
    }
    if (code != StatusCode::Ok && code != StatusCode::Cancelled)
      return Status(code, message);
    return -1;
  }

private:
  std::mutex mutex;
  std::condition_variable changed;
  std::deque<int32_t> tokens;
  bool isFinished = false;
  StatusCode code = StatusCode::Ok;
  std::string message;
};

} // namespace

struct girih_session {
  engine::Engine *engine;
  engine::SamplingOptions sampling;
  std::vector<int32_t> conversation;
  std::mutex mutex;                 // of the two below: cancel may come from another thread
  std::shared_ptr<Mailbox> mailbox; // null: not generating
  engine::RequestId requestId = 0;
};

GIRIH_EXPORT uint32_t girih_api_version(void) { return GIRIH_API_MAJOR << 16 | GIRIH_API_MINOR; }

GIRIH_EXPORT girih_code girih_program_open(const char *path, girih_program **result, girih_message *message) {
  return guarded(message, [&]() -> Status {
    GIRIH_TRY(requireHandle(path, "the path"));
    GIRIH_TRY(requireHandle(result, "the place for the program"));
    GIRIH_ASSIGN(auto opened, program::Program::open(path));
    *result = new girih_program{std::move(opened)};
    return {};
  });
}

GIRIH_EXPORT void girih_program_close(girih_program *opened) { delete opened; }

GIRIH_EXPORT girih_code girih_program_describe(const girih_program *opened, girih_program_facts *facts,
                                               girih_message *message) {
  return guarded(message, [&]() -> Status {
    GIRIH_TRY(requireHandle(opened, "the program"));
    const program::Tables &tables = opened->opened->tables();
    girih_program_facts filled = {};
    filled.name = tables.model.name.c_str();
    filled.architecture = tables.model.architecture.c_str();
    filled.numerics = tables.model.numerics.c_str();
    filled.chat_template = tables.chatTemplate.c_str();
    filled.vocab_size = tables.model.vocabSize;
    filled.max_positions = tables.model.maxPositions;
    filled.num_parameters = tables.model.numParameters;
    filled.file_bytes = opened->opened->fileBytes();
    filled.end_tokens = tables.tokenizer.eosTokens.data();
    filled.num_end_tokens = tables.tokenizer.eosTokens.size();
    filled.bos_token = tables.tokenizer.bosToken;
    return fillStruct(facts, filled, "girih_program_facts");
  });
}

GIRIH_EXPORT girih_code girih_program_verify(const girih_program *opened, girih_message *message) {
  return guarded(message, [&]() -> Status {
    GIRIH_TRY(requireHandle(opened, "the program"));
    return opened->opened->verifyChecksums();
  });
}

GIRIH_EXPORT girih_code girih_engine_create(const girih_program *opened, const girih_engine_options *options,
                                            girih_engine **result, girih_message *message) {
  return guarded(message, [&]() -> Status {
    GIRIH_TRY(requireHandle(opened, "the program"));
    GIRIH_TRY(requireHandle(result, "the place for the engine"));
    engine::EngineOptions to;
    if (options) {
      GIRIH_ASSIGN(girih_engine_options from, copyStruct(options, "girih_engine_options"));
      to.numThreads = from.num_threads;
      to.isa = from.isa ? from.isa : "";
      to.maxSequences = from.max_sequences ? from.max_sequences : to.maxSequences;
      to.maxContextTokens = from.max_context_tokens;
      to.maxQueued = from.max_queued ? from.max_queued : to.maxQueued;
      to.kvBytes = from.kv_bytes;
    }
    GIRIH_ASSIGN(auto created, engine::Engine::create(opened->opened, to));
    *result = new girih_engine{std::move(created)};
    return {};
  });
}

GIRIH_EXPORT void girih_engine_destroy(girih_engine *handle) { delete handle; }

GIRIH_EXPORT girih_code girih_engine_submit(girih_engine *handle, const girih_request *request,
                                            uint64_t *requestId, girih_message *message) {
  return guarded(message, [&]() -> Status {
    GIRIH_TRY(requireHandle(handle, "the engine"));
    GIRIH_ASSIGN(girih_request from, copyStruct(request, "girih_request"));
    engine::Request to;
    GIRIH_ASSIGN(to.promptTokens, copyTokens(from.prompt_tokens, from.num_prompt_tokens, "prompt_tokens"));
    GIRIH_ASSIGN(to.stopTokens, copyTokens(from.stop_tokens, from.num_stop_tokens, "stop_tokens"));
    to.maxTokens = from.max_tokens;
    GIRIH_ASSIGN(to.sampling, copySampling(from.sampling));
    GIRIH_ASSIGN(engine::RequestId id,
                 handle->engine->submit(std::move(to), std::make_shared<Callbacks>(from)));
    if (requestId)
      *requestId = id;
    return {};
  });
}

GIRIH_EXPORT void girih_engine_cancel(girih_engine *handle, uint64_t requestId) {
  guarded(nullptr, [&]() -> Status {
    handle->engine->cancel(requestId);
    return {};
  });
}

GIRIH_EXPORT girih_code girih_engine_query(const girih_engine *handle, girih_engine_stats *stats,
                                           girih_message *message) {
  return guarded(message, [&]() -> Status {
    GIRIH_TRY(requireHandle(handle, "the engine"));
    engine::EngineStats from = handle->engine->stats();
    girih_engine_stats filled = {0,
                                 from.numSteps,
                                 from.numSharedSteps,
                                 from.numTokensEvaluated,
                                 from.numOutputTokens,
                                 from.numPreemptions,
                                 from.numRunning,
                                 from.numWaiting,
                                 from.numKvBlocks,
                                 from.numKvBlocksUsed};
    return fillStruct(stats, filled, "girih_engine_stats");
  });
}

GIRIH_EXPORT girih_code girih_session_create(girih_engine *handle, const girih_sampling *sampling,
                                             girih_session **result, girih_message *message) {
  return guarded(message, [&]() -> Status {
    GIRIH_TRY(requireHandle(handle, "the engine"));
    GIRIH_TRY(requireHandle(result, "the place for the session"));
    auto session = std::make_unique<girih_session>();
    session->engine = handle->engine.get();
    GIRIH_ASSIGN(session->sampling, copySampling(sampling));
    GIRIH_TRY(engine::checkSampling(session->sampling));
    *result = session.release();
    return {};
  });
}

GIRIH_EXPORT void girih_session_destroy(girih_session *session) {
  if (session)
    girih_session_cancel(session);
  delete session;
}

GIRIH_EXPORT girih_code girih_session_feed(girih_session *session, const int32_t *tokens, uint64_t count,
                                           girih_message *message) {
  return guarded(message, [&]() -> Status {
    GIRIH_TRY(requireHandle(session, "the session"));
    std::lock_guard lock(session->mutex);
    if (session->mailbox)
      return girih::failedPrecondition(
          "the session is generating; take its tokens to the end or cancel it first");
    GIRIH_ASSIGN(std::vector<int32_t> fed, copyTokens(tokens, count, "tokens"));
    session->conversation.insert(session->conversation.end(), fed.begin(), fed.end());
    return {};
  });
}

GIRIH_EXPORT girih_code girih_session_generate(girih_session *session, uint32_t maxTokens,
                                               const int32_t *stopTokens, uint64_t numStopTokens,
                                               girih_message *message) {
  return guarded(message, [&]() -> Status {
    GIRIH_TRY(requireHandle(session, "the session"));
    std::lock_guard lock(session->mutex);
    if (session->mailbox)
      return girih::failedPrecondition(
          "the session is generating; take its tokens to the end or cancel it first");
    engine::Request request;
    request.promptTokens = session->conversation;
    request.maxTokens = maxTokens;
    request.sampling = session->sampling;
    GIRIH_ASSIGN(request.stopTokens, copyTokens(stopTokens, numStopTokens, "stop_tokens"));
    auto mailbox = std::make_shared<Mailbox>();
    GIRIH_ASSIGN(session->requestId, session->engine->submit(std::move(request), mailbox));
    session->mailbox = std::move(mailbox);
    return {};
  });
}

GIRIH_EXPORT girih_code girih_session_next(girih_session *session, int32_t *token, girih_message *message) {
  return guarded(message, [&]() -> Status {
    GIRIH_TRY(requireHandle(session, "the session"));
    GIRIH_TRY(requireHandle(token, "the place for the token"));
    std::shared_ptr<Mailbox> mailbox;
    {
      std::lock_guard lock(session->mutex);
      mailbox = session->mailbox;
    }
    if (!mailbox) {
      *token = -1;
      return {};
    }
    Expected<int32_t> next = mailbox->next();
    if (next.isOk() && *next >= 0) {
      session->conversation.push_back(*next);
    } else {
      std::lock_guard lock(session->mutex);
      session->mailbox = nullptr;
    }
    if (!next.isOk())
      return std::move(next).status();
    *token = *next;
    return {};
  });
}

GIRIH_EXPORT void girih_session_cancel(girih_session *session) {
  guarded(nullptr, [&]() -> Status {
    std::lock_guard lock(session->mutex);
    if (session->mailbox)
      session->engine->cancel(session->requestId);
    session->mailbox = nullptr;
    return {};
  });
}
