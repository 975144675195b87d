// SPDX-License-Identifier: Apache-2.0
// /v1/files: uploads, for batches, and what batches gave.
#include "runtime/server/batch_runner.h"
#include "runtime/server/endpoints.h"
#include "runtime/server/multipart.h"
#include "runtime/server/state_folder.h"

namespace girih::server {
namespace {

constexpr std::string_view kPath = "/v1/files/";

ApiError notOffered() {
  return {501,
          "invalid_request_error",
          "unsupported",
          "this server keeps no files: start it with a --state-dir",
          "",
          1};
}

std::string fileIdOf(const HttpRequest &request) {
  std::string id = request.path.substr(kPath.size());
  return id.substr(0, id.find('/'));
}

ApiError noSuchFile(const std::string &id) {
  return {404,         "invalid_request_error",
          "not_found", "there is no file with id '" + id.substr(0, 100) + "'",
          "id",        1};
}

void storeUpload(Service &service, const std::shared_ptr<Exchange> &exchange) {
  auto parts = readMultipart(exchange->request().contentType, exchange->request().body);
  if (!parts.isOk())
    return service.answerError(*exchange, invalidField("file", std::string(parts.status().message())));
  StoredFile file;
  file.owner = service.clientOf(exchange->request()).identity;
  std::optional<std::string_view> content;
  for (const FormPart &part : *parts) {
    if (part.name == "purpose")
      file.purpose = part.content;
    if (part.name == "file") {
      file.name = part.fileName.substr(0, 255);
      content = part.content;
    }
  }
  if (!content || content->empty() || content->size() > kMaxFileBytes)
    return service.answerError(*exchange, invalidField("file", "`file` must be a file of 1 to " +
                                                                   std::to_string(kMaxFileBytes) + " bytes"));
  if (file.purpose != "batch" && file.purpose != "user_data")
    return service.answerError(*exchange,
                               invalidField("purpose", "`purpose` must be \"batch\" or \"user_data\""));
  auto stored = service.files().put(std::move(file), *content);
  if (!stored.isOk())
    return service.answerError(*exchange, apiErrorOf(stored.status()));
  JsonWriter writer;
  stored->write(writer);
  HttpResponse response;
  response.body = writer.take();
  service.answer(*exchange, std::move(response));
}

} // namespace

void answerFiles(Service &service, std::shared_ptr<Exchange> exchange) {
  if (!service.files().isOffered())
    return service.answerError(*exchange, notOffered());
  // Written to the disk off the sockets' thread.
  if (exchange->request().method == "POST")
    return service.preparer().post([&service, exchange] { storeUpload(service, exchange); });
  JsonWriter writer;
  writer.beginObject().member("object", "list").key("data").beginArray();
  for (const StoredFile &file : service.files().list(service.clientOf(exchange->request()).identity))
    file.write(writer);
  HttpResponse response;
  response.body = writer.endArray().member("has_more", false).endObject().take();
  service.answer(*exchange, std::move(response));
}

void answerFile(Service &service, std::shared_ptr<Exchange> exchange) {
  std::string id = fileIdOf(exchange->request()), owner = service.clientOf(exchange->request()).identity;
  auto file = service.files().find(id, owner);
  if (!file)
    return service.answerError(*exchange, noSuchFile(id));
  JsonWriter writer;
  if (exchange->request().method == "DELETE") {
    service.files().remove(id, owner);
    writer.beginObject().member("id", id).member("object", "file").member("deleted", true).endObject();
  } else {
    file->write(writer);
  }
  HttpResponse response;
  response.body = writer.take();
  service.answer(*exchange, std::move(response));
}

void answerFileContent(Service &service, std::shared_ptr<Exchange> exchange) {
  std::string id = fileIdOf(exchange->request());
  if (!service.files().find(id, service.clientOf(exchange->request()).identity))
    return service.answerError(*exchange, noSuchFile(id));
  service.preparer().post([&service, exchange, id] {
    // The answers of a batch are longer than its questions.
    auto bytes = readFile(service.files().pathOf(id), 8 * kMaxFileBytes);
    if (!bytes.isOk())
      return service.answerError(*exchange, apiErrorOf(bytes.status()));
    HttpResponse response;
    response.contentType = "application/octet-stream";
    response.body = std::move(bytes).value();
    service.answer(*exchange, std::move(response));
  });
}

} // namespace girih::server
