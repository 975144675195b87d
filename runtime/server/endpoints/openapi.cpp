// SPDX-License-Identifier: Apache-2.0
// GET /openapi.json: the table of routes as OpenAPI 3.1 has it; fields by name, their bounds are in the errors.
#include "runtime/base/json.h"
#include "runtime/server/endpoints.h"

namespace girih::server {
namespace {

void writeParameters(JsonWriter &writer, std::string_view path) {
  size_t brace = path.find('{');
  if (brace == path.npos)
    return;
  writer.key("parameters").beginArray().beginObject();
  writer.member("name", path.substr(brace + 1, path.find('}') - brace - 1))
      .member("in", "path")
      .member("required", true);
  writer.key("schema").beginObject().member("type", "string").endObject().endObject().endArray();
}

void writeBody(JsonWriter &writer, const Route &route) {
  std::string_view fields = route.fields;
  writer.key("requestBody").beginObject().member("required", true).key("content").beginObject();
  writer.key(route.bodyType).beginObject().key("schema").beginObject().member("type", "object");
  writer.key("properties").beginObject();
  while (!fields.empty()) {
    std::string_view name = fields.substr(0, fields.find(' '));
    fields.remove_prefix(std::min(name.size() + 1, fields.size()));
    writer.key(name).beginObject().endObject();
  }
  writer.endObject().endObject();
  if (!route.example.empty())
    writer.key("example").raw(route.example);
  writer.endObject().endObject().endObject();
}

void writeOperation(JsonWriter &writer, const Route &route) {
  writer.key(route.method == "POST" ? "post" : route.method == "GET" ? "get" : "delete").beginObject();
  writer.member("summary", route.summary);
  if (!route.needsKey)
    writer.key("security").beginArray().endArray();
  writeParameters(writer, route.path);
  if (!route.fields.empty())
    writeBody(writer, route);
  writer.key("responses")
      .beginObject()
      .key("200")
      .beginObject()
      .member("description", "The answer")
      .endObject();
  writer.key("default")
      .beginObject()
      .member("description", "An error body that names the field and the rule")
      .endObject();
  writer.endObject().endObject();
}

} // namespace

void answerOpenApi(Service &service, std::shared_ptr<Exchange> exchange) {
  JsonWriter writer;
  writer.beginObject().member("openapi", "3.1.0").key("info").beginObject();
  writer.member("title", "girih serve").member("version", "1").endObject();
  writer.key("security").beginArray().beginObject().key("key").beginArray().endArray().endObject().endArray();
  writer.key("components").beginObject().key("securitySchemes").beginObject().key("key").beginObject();
  writer.member("type", "http").member("scheme", "bearer").endObject().endObject().endObject();
  writer.key("paths").beginObject();
  std::span<const Route> routes = allRoutes();
  // Routes of one path stand together in the table.
  for (size_t index = 0; index < routes.size();) {
    std::string_view path = routes[index].path;
    writer.key(path).beginObject();
    for (; index < routes.size() && routes[index].path == path; ++index)
      writeOperation(writer, routes[index]);
    writer.endObject();
  }
  HttpResponse response;
  response.body = writer.endObject().endObject().take();
  service.answer(*exchange, std::move(response));
}

} // namespace girih::server
