// SPDX-License-Identifier: Apache-2.0
// GET /v1/models and /v1/models/{model}: the one model that this server has, with its real context.
#include "runtime/base/json.h"
#include "runtime/server/endpoints.h"

namespace girih::server {
namespace {

void writeModel(JsonWriter &writer, Service &service, const std::string &name) {
  writer.beginObject().member("id", name).member("object", "model").member("created", service.model().createdSeconds);
  // Not OpenAI's, but what clients of local servers look for.
  writer.member("owned_by", "girih").member("max_model_len", service.engine().contextTokens()).endObject();
}

}  // namespace

void answerModels(Service &service, std::shared_ptr<Exchange> exchange) {
  constexpr std::string_view kOneModel = "/v1/models/";
  const std::string &path = exchange->request().path;
  JsonWriter writer;
  if (path.starts_with(kOneModel)) {
    std::string name = path.substr(kOneModel.size());
    if (auto error = service.checkModelName(name))
      return service.answerError(*exchange, *error);
    writeModel(writer, service, name);
  } else {
    writer.beginObject().member("object", "list").key("data").beginArray();
    writeModel(writer, service, service.model().names.front());
    writer.endArray().endObject();
  }
  HttpResponse response;
  response.body = writer.take();
  service.answer(*exchange, std::move(response));
}

}  // namespace girih::server
