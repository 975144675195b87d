// SPDX-License-Identifier: Apache-2.0
// GET /v1/models and /v1/models/{model}: the one model that this server has, with its real context.
#include "runtime/base/json.h"
#include "runtime/server/endpoints.h"

#include <cctype>

namespace girih::server {
namespace {

void writeModel(JsonWriter &writer, Service &service, const std::string &name) {
  writer.beginObject().member("id", name).member("object", "model").member("created", service.model().createdSeconds);
  // Not OpenAI's, but what clients of local servers look for.
  writer.member("owned_by", "girih").member("max_model_len", service.engine().contextTokens()).endObject();
}

// Clients write the '/' of a name as %2F; names may also be sent as they are.
std::string withoutPercents(std::string_view text) {
  auto digit = [](char letter) { return letter >= 'a' ? letter - 'a' + 10 : letter >= 'A' ? letter - 'A' + 10 : letter - '0'; };
  std::string plain;
  for (size_t place = 0; place < text.size(); ++place) {
    bool isEscape = text[place] == '%' && place + 2 < text.size() && std::isxdigit(static_cast<unsigned char>(text[place + 1])) &&
                    std::isxdigit(static_cast<unsigned char>(text[place + 2]));
    plain += isEscape ? static_cast<char>(digit(text[place + 1]) * 16 + digit(text[place + 2])) : text[place];
    place += isEscape ? 2 : 0;
  }
  return plain;
}

}  // namespace

void answerModels(Service &service, std::shared_ptr<Exchange> exchange) {
  constexpr std::string_view kOneModel = "/v1/models/";
  const std::string &path = exchange->request().path;
  JsonWriter writer;
  if (path.starts_with(kOneModel)) {
    std::string name = withoutPercents(std::string_view(path).substr(kOneModel.size()));
    if (auto error = service.checkModelName(name))
      return service.answerError(*exchange, *error);
    writeModel(writer, service, name);
  } else {
    // Its other names too: clients look for the one that they were told.
    writer.beginObject().member("object", "list").key("data").beginArray();
    for (const std::string &name : service.model().names)
      writeModel(writer, service, name);
    writer.endArray().endObject();
  }
  HttpResponse response;
  response.body = writer.take();
  service.answer(*exchange, std::move(response));
}

}  // namespace girih::server
