// SPDX-License-Identifier: Apache-2.0
// Embedding: a window of inputs in the engine, their sums, and one answer.
#include "runtime/server/embedding.h"

#include <cmath>

namespace girih::server {
namespace {

// So many inputs of one request are in the engine at a time: enough to fill its steps.
constexpr size_t kMaxRunning = 32;

} // namespace

void MeanPool::add(std::span<const float> rows) {
  for (size_t begin = 0; begin < rows.size(); begin += sums.size())
    for (size_t index = 0; index < sums.size(); ++index)
      sums[index] += static_cast<double>(rows[begin + index]);
}

// The number of rows scales the mean and not its direction.
std::vector<float> MeanPool::normalised() const {
  double squares = 0;
  for (double sum : sums)
    squares += sum * sum;
  double scale = squares > 0 ? 1 / std::sqrt(squares) : 0;
  std::vector<float> vector;
  for (double sum : sums)
    vector.push_back(static_cast<float>(sum * scale));
  return vector;
}

class Embedding::InputListener final : public engine::Listener {
public:
  InputListener(std::shared_ptr<Embedding> embedding, size_t index)
      : embedding(std::move(embedding)), index(index), pool(this->embedding->engine.hiddenSize()) {}

  void onTokens(engine::RequestId, std::span<const engine::TokenResult>) override {}
  void onHidden(engine::RequestId, uint32_t, uint32_t, std::span<const float> rows) override {
    pool.add(rows);
  }
  void onFinish(engine::RequestId, engine::FinishReason reason, const engine::Usage &usage,
                const Status &status) override {
    embedding->onInputEnd(index, pool, usage, errorOf(reason, status));
  }

private:
  const std::shared_ptr<Embedding> embedding;
  const size_t index;
  MeanPool pool;
};

Embedding::Embedding(Service &service, std::shared_ptr<Exchange> newExchange, EmbeddingWork newWork)
    : service(service), engine(service.engine()), exchange(std::move(newExchange)),
      client(service.clientOf(exchange->request())), work(std::move(newWork)), texts(work.inputs.size()) {
  service.numActive += !exchange->request().batchClient.has_value();
}

Embedding::~Embedding() { service.numActive -= !exchange->request().batchClient.has_value(); }

void Embedding::start(Service &service, std::shared_ptr<Exchange> exchange, EmbeddingWork work) {
  std::shared_ptr<Embedding> embedding(new Embedding(service, exchange, std::move(work)));
  // Weak: the exchange keeps the callback, the embedding keeps the exchange.
  exchange->onClientGone([weak = embedding->weak_from_this()] {
    if (auto gone = weak.lock()) {
      ++gone->service.numClientsGone;
      gone->cancelAll();
    }
  });
  for (size_t count = 0; count < kMaxRunning && embedding->submitNext(); ++count) {
  }
}

// False: there is no other, or it was refused, which is answered.
bool Embedding::submitNext() {
  size_t index;
  {
    std::lock_guard lock(mutex);
    if (isOver || numSubmitted == work.inputs.size())
      return false;
    index = numSubmitted++;
  }
  engine::Request request = service.requestOf(exchange->request(), received);
  request.promptTokens = work.inputs[index];
  request.maxTokens = 0;
  request.wantHidden = true;
  request.keepOnDisk = false;
  // One stands for all in the bounds of the queue: the window bounds the others.
  request.isBackground |= index > 0;
  auto submitted =
      engine.submit(std::move(request), std::make_shared<InputListener>(shared_from_this(), index));
  if (!submitted.isOk()) {
    ApiError error = apiErrorOf(submitted.status());
    if (error.status == 400)
      error.param = "input";
    if (error.status == 429)
      error = service.overloaded(error.message);
    cancelAll();
    service.speaker().post([self = shared_from_this(), error] { self->endWithError(error); });
    return false;
  }
  bool isTooLate;
  {
    std::lock_guard lock(mutex);
    isTooLate = isOver;
    running[index] = *submitted;
  }
  if (isTooLate)
    service.cancel(*submitted);
  return true;
}

void Embedding::onInputEnd(size_t index, const MeanPool &pool, const engine::Usage &usage,
                           std::optional<ApiError> error) {
  {
    std::lock_guard lock(mutex);
    running.erase(index);
    if (!error || usage.prefillSeconds > 0)
      numTokensRead += work.inputs[index].size();
    if (index == 0)
      firstUsage = usage;
  }
  if (error) {
    cancelAll();
    service.speaker().post([self = shared_from_this(), error = *error] { self->endWithError(error); });
    return;
  }
  service.speaker().post(
      [self = shared_from_this(), index, vector = pool.normalised()] { self->keep(index, vector); });
  submitNext();
}

void Embedding::keep(size_t index, const std::vector<float> &vector) {
  texts[index] = work.format->text(vector);
  if (++numKept == texts.size() && !hasAnswered)
    finish();
}

void Embedding::cancelAll() {
  std::map<size_t, engine::RequestId> left;
  {
    std::lock_guard lock(mutex);
    isOver = true;
    left = running;
  }
  for (const auto &[index, id] : left)
    service.cancel(id);
}

void Embedding::endWithError(const ApiError &error) {
  if (std::exchange(hasAnswered, true))
    return;
  meterAndLog(error.status, error.code);
  service.answerError(*exchange, error);
}

void Embedding::finish() {
  hasAnswered = true;
  meterAndLog(200, "stop");
  uint64_t numTokens = 0;
  for (const std::vector<int32_t> &input : work.inputs)
    numTokens += input.size();
  HttpResponse response;
  response.body = work.format->wholeAnswer(texts, numTokens);
  response.headers = ignoredHeaders(work.ignoredNames);
  service.answer(*exchange, std::move(response));
}

// Also of who left: what was computed was used.
void Embedding::meterAndLog(int status, std::string_view finishReason) {
  std::lock_guard lock(mutex);
  bool isBatch = exchange->request().batchClient.has_value();
  if (numTokensRead > 0)
    service.meter(client, isBatch ? UsedBy::Batch : UsedBy::Live, {1, numTokensRead, 0, 0, 0});
  GenerationRecord record;
  record.client = client.name;
  record.status = status;
  record.finishReason = finishReason;
  record.numChoices = static_cast<uint32_t>(work.inputs.size());
  record.numPromptTokens = static_cast<uint32_t>(numTokensRead);
  record.queueSeconds = firstUsage.queueSeconds;
  record.prefillSeconds = firstUsage.prefillSeconds;
  record.totalSeconds = std::chrono::duration<double>(engine::Clock::now() - received).count();
  service.log(exchange->request(), record);
}

} // namespace girih::server
