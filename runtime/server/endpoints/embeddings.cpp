// SPDX-License-Identifier: Apache-2.0
// POST /v1/embeddings: texts or token ids as vectors: the model's hidden states, averaged, of length 1.
#include "runtime/base/json.h"
#include "runtime/server/chat_prompt.h"
#include "runtime/server/embedding.h"
#include "runtime/server/endpoints.h"

#include <openssl/evp.h>

#include <bit>
#include <cstring>

namespace girih::server {
namespace {

static_assert(std::endian::native == std::endian::little, "clients read little-endian floats");

std::string base64(std::span<const float> vector) {
  std::string text((vector.size_bytes() + 2) / 3 * 4 + 1, '\0'); // and the zero that EVP_EncodeBlock adds
  int length = EVP_EncodeBlock(reinterpret_cast<unsigned char *>(text.data()),
                               reinterpret_cast<const unsigned char *>(vector.data()),
                               static_cast<int>(vector.size_bytes()));
  text.resize(static_cast<size_t>(length));
  return text;
}

class VectorFormat final : public EmbeddingFormat {
public:
  VectorFormat(std::string model, bool wantsBase64) : model(std::move(model)), wantsBase64(wantsBase64) {}

  std::string text(std::span<const float> vector) const override {
    JsonWriter writer;
    if (wantsBase64)
      return writer.value(base64(vector)).take();
    writer.beginArray();
    for (float element : vector)
      writer.value(element);
    return writer.endArray().take();
  }
  std::string wholeAnswer(std::span<const std::string> texts, uint64_t numTokens) const override {
    JsonWriter writer;
    writer.beginObject().member("object", "list").key("data").beginArray();
    for (size_t index = 0; index < texts.size(); ++index)
      writer.beginObject()
          .member("object", "embedding")
          .member("index", index)
          .key("embedding")
          .raw(texts[index])
          .endObject();
    writer.endArray().member("model", model).key("usage").beginObject();
    writer.member("prompt_tokens", numTokens).member("total_tokens", numTokens).endObject();
    return writer.endObject().take();
  }

private:
  const std::string model;
  const bool wantsBase64;
};

std::optional<ApiError> findFault(Service &service, const EmbeddingRequest &request) {
  if (auto error = service.checkModelName(request.model))
    return error;
  uint32_t hiddenSize = service.engine().hiddenSize();
  if (hiddenSize == 0)
    return ApiError{501,
                    "invalid_request_error",
                    "unsupported",
                    "this program gives no hidden states to make embeddings of; compile it again, with "
                    "--embeddings",
                    "model",
                    1};
  if (request.dimensions && *request.dimensions != hiddenSize)
    return invalidField("dimensions",
                        "`dimensions` is " + std::to_string(*request.dimensions) +
                            "; this model's vectors have " + std::to_string(hiddenSize) +
                            ", and a part of one says nothing: leave it out",
                        "unsupported_parameter");
  return std::nullopt;
}

void startEmbedding(Service &service, const std::shared_ptr<Exchange> &exchange) {
  auto parsed = parseEmbedding(exchange->request().body);
  if (auto *error = std::get_if<ApiError>(&parsed))
    return service.answerError(*exchange, *error);
  auto &request = std::get<EmbeddingRequest>(parsed);
  if (auto error = findFault(service, request))
    return service.answerError(*exchange, *error);
  auto encoded = encodePrompts(service, std::move(request.inputs), "input");
  if (auto *error = std::get_if<ApiError>(&encoded))
    return service.answerError(*exchange, *error);
  EmbeddingWork work;
  work.inputs = std::get<std::vector<std::vector<int32_t>>>(std::move(encoded));
  uint32_t most = service.engine().contextTokens();
  for (size_t index = 0; index < work.inputs.size(); ++index)
    if (size_t length = work.inputs[index].size(); length == 0 || length > most)
      return service.answerError(*exchange,
                                 invalidField("input",
                                              "`input` has a text of " + std::to_string(length) +
                                                  " tokens (number " + std::to_string(index) +
                                                  "); this model reads 1 to " + std::to_string(most),
                                              length == 0 ? "invalid_value" : "context_length_exceeded"));
  work.format = std::make_unique<VectorFormat>(service.model().names.front(), request.wantsBase64);
  work.ignoredNames = std::move(request.ignoredNames);
  Embedding::start(service, exchange, std::move(work));
}

} // namespace

void answerEmbeddings(Service &service, std::shared_ptr<Exchange> exchange) {
  prepare(service, exchange, [&service, exchange] { startEmbedding(service, exchange); });
}

} // namespace girih::server
