// SPDX-License-Identifier: Apache-2.0
// GET /ledger and POST /cache/clear: of the operator's own port.
#include "runtime/base/json.h"
#include "runtime/server/endpoints.h"

namespace girih::server {
namespace {

void writeUsed(JsonWriter &writer, std::string_view name, const Used &used) {
  writer.key(name)
      .beginObject()
      .member("requests", used.numRequests)
      .member("input_tokens", used.numInputTokens);
  writer.member("cached_tokens", used.numCachedTokens)
      .member("output_tokens", used.numOutputTokens)
      .endObject();
}

} // namespace

void answerLedger(Service &service, std::shared_ptr<Exchange> exchange) {
  service.meterRetained();
  JsonWriter writer;
  writer.beginObject().key("clients").beginArray();
  for (const auto &[name, used] : service.usedByClient()) {
    const Used &live = used[static_cast<size_t>(UsedBy::Live)];
    writer.beginObject().member("client", name);
    writeUsed(writer, "live", live);
    writeUsed(writer, "batch", used[static_cast<size_t>(UsedBy::Batch)]);
    writer.member("retained_byte_seconds", live.retainedByteSeconds).endObject();
  }
  writer.endArray().member("damaged_records", service.ledger().numDamaged());
  writer.member("unwritten_records", service.ledger().numUnwritten()).endObject();
  HttpResponse response;
  response.body = writer.take();
  service.answer(*exchange, std::move(response));
}

void answerClearCache(Service &service, std::shared_ptr<Exchange> exchange) {
  service.engine().clearCache();
  HttpResponse response;
  response.body = R"({"cleared":true})";
  service.answer(*exchange, std::move(response));
}

} // namespace girih::server
