// SPDX-License-Identifier: Apache-2.0
// POST /v1/embeddings: refused, with what is missing; made-up vectors would be worse than none.
#include "runtime/server/endpoints.h"

namespace girih::server {

void answerEmbeddings(Service &service, std::shared_ptr<Exchange> exchange) {
  service.answerError(*exchange,
                      {501, "invalid_request_error", "unsupported",
                       "embeddings need pooled hidden states, but a compiled program gives logits only: "
                       "there is no such output yet; use a server of embedding models",
                       "model", 1});
}

} // namespace girih::server
