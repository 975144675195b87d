// SPDX-License-Identifier: Apache-2.0
// GET /v1/models and /v1/models/{model}: what this server has, with its real context.
#include "runtime/base/json.h"
#include "runtime/server/endpoints.h"

#include <cctype>

namespace girih::server {
namespace {

void writeModel(JsonWriter &writer, const ModelFacts &model) {
  writer.beginObject().member("id", model.name).member("object", "model").member("created", model.createdSeconds);
  // Not OpenAI's, but what clients of local servers look for.
  writer.member("owned_by", "girih").member("max_model_len", model.contextTokens).endObject();
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

std::variant<std::string, UnknownName> describeModels(std::span<const ModelFacts> models, std::string_view path) {
  constexpr std::string_view kOneModel = "/v1/models/";
  JsonWriter writer;
  if (path.starts_with(kOneModel)) {
    std::string name = withoutPercents(path.substr(kOneModel.size()));
    for (const ModelFacts &model : models)
      if (model.name == name) {
        writeModel(writer, model);
        return writer.take();
      }
    return UnknownName{std::move(name)};
  }
  writer.beginObject().member("object", "list").key("data").beginArray();
  for (const ModelFacts &model : models)
    writeModel(writer, model);
  writer.endArray().endObject();
  return writer.take();
}

void answerModels(Service &service, std::shared_ptr<Exchange> exchange) {
  // Its other names too: clients look for the one that they were told.
  std::vector<ModelFacts> names;
  for (const std::string &name : service.model().names)
    names.push_back({name, service.model().createdSeconds, service.engine().contextTokens()});
  auto described = describeModels(names, exchange->request().path);
  if (auto *unknown = std::get_if<UnknownName>(&described))
    return service.answerError(*exchange, *service.checkModelName(unknown->name));
  HttpResponse response;
  response.body = std::get<std::string>(std::move(described));
  service.answer(*exchange, std::move(response));
}

}  // namespace girih::server
