// SPDX-License-Identifier: Apache-2.0
// /v1/batches: a file of requests, answered within a day below everything else.
#include "runtime/server/batch_runner.h"
#include "runtime/server/endpoints.h"
#include "runtime/server/generation_fields.h"
#include "runtime/server/request_fields.h"

namespace girih::server {
namespace {

constexpr std::string_view kPath = "/v1/batches/";

std::string batchIdOf(const HttpRequest &request) {
  std::string id = request.path.substr(kPath.size());
  return id.substr(0, id.find('/'));
}

void say(Service &service, Exchange &exchange, const Batch &batch) {
  JsonWriter writer;
  batch.write(writer);
  HttpResponse response;
  response.body = writer.take();
  service.answer(exchange, std::move(response));
}

ApiError noSuchBatch(const std::string &id) {
  return {404,         "invalid_request_error",
          "not_found", "there is no batch with id '" + id.substr(0, 100) + "'",
          "id",        1};
}

ApiResult<Batch> parseBatch(std::string_view body) {
  auto document = parseObject(body);
  if (auto *error = std::get_if<ApiError>(&document))
    return *error;
  RequestFields fields(std::get<JsonDocument>(document).root());
  Batch batch;
  std::string window;
  fields.takeText("input_file_id", batch.inputFileId);
  fields.takeText("endpoint", batch.endpoint);
  fields.takeText("completion_window", window);
  if (auto metadata = fields.take("metadata")) {
    fields.refuseUnless(metadata->isObject(), "metadata", "must be an object");
    batch.metadataJson = metadata->print();
  }
  if (batch.inputFileId.empty())
    fields.fail("input_file_id", "is missing; upload a file to /v1/files first",
                "missing_required_parameter");
  else if (!isBatchEndpoint(batch.endpoint))
    fields.fail("endpoint", "must be one that generates, such as \"/v1/chat/completions\"");
  else if (window != "24h")
    fields.fail("completion_window", "must be \"24h\"");
  else if (batch.metadataJson.size() > 16 * 1024)
    fields.fail("metadata", "has more than 16 KiB");
  if (fields.hasFailed())
    return fields.error();
  return batch;
}

void createBatch(Service &service, Exchange &exchange) {
  auto parsed = parseBatch(exchange.request().body);
  if (auto *error = std::get_if<ApiError>(&parsed))
    return service.answerError(exchange, *error);
  Batch &batch = std::get<Batch>(parsed);
  batch.owner = service.clientOf(exchange.request()).identity;
  auto file = service.files().find(batch.inputFileId, batch.owner);
  if (!file || file->purpose != "batch")
    return service.answerError(exchange, invalidField("input_file_id", "there is no file with id '" +
                                                                           batch.inputFileId.substr(0, 100) +
                                                                           "' and purpose \"batch\""));
  auto created = service.batches().create(std::move(batch));
  if (!created.isOk())
    return service.answerError(exchange, apiErrorOf(created.status()));
  say(service, exchange, *created);
}

} // namespace

void answerBatches(Service &service, std::shared_ptr<Exchange> exchange) {
  if (!service.files().isOffered())
    return service.answerError(*exchange,
                               {501, "invalid_request_error", "unsupported",
                                "this server runs no batches: start it with a --state-dir", "", 1});
  if (exchange->request().method == "POST")
    return createBatch(service, *exchange);
  JsonWriter writer;
  writer.beginObject().member("object", "list").key("data").beginArray();
  for (const Batch &batch : service.batches().list(service.clientOf(exchange->request()).identity))
    batch.write(writer);
  HttpResponse response;
  response.body = writer.endArray().member("has_more", false).endObject().take();
  service.answer(*exchange, std::move(response));
}

void answerBatch(Service &service, std::shared_ptr<Exchange> exchange) {
  std::string id = batchIdOf(exchange->request()), owner = service.clientOf(exchange->request()).identity;
  bool cancels = exchange->request().method == "POST";
  auto batch = cancels ? service.batches().cancel(id, owner) : service.batches().find(id, owner);
  if (!batch)
    return service.answerError(*exchange, noSuchBatch(id));
  say(service, *exchange, *batch);
}

} // namespace girih::server
