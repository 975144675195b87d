// SPDX-License-Identifier: Apache-2.0
// From a program's tables to what endpoints need of them.
#include "runtime/tools/served_model.h"

#include "runtime/base/sha256.h"

#include <ctime>
#include <iostream>

namespace girih::tools {

Expected<server::ServedModel> serveModel(const LoadedModel &model, std::vector<std::string> names,
                                         const engine::EngineOptions &options) {
  server::ServedModel served;
  served.names = std::move(names);
  served.createdSeconds = time(nullptr);
  if (model.hasChatTemplate()) {
    GIRIH_ASSIGN(served.chatTemplate, model.chatTemplate());
    served.templateText = model.tables().chatTemplate;
  }
  served.tokenizer = model.tokenizer;
  served.bosText = model.tables().bosText;
  served.eosText = model.tables().eosText;
  served.stopTokens = model.stopTokens();
  served.programId = hexDigits(model.tables().digest);
  served.generation = model.tables().generation;
  GIRIH_ASSIGN(served.engine, engine::Engine::create(model.program, options));
  if (Status status = served.engine->diskStatus(); !status.isOk())
    std::cerr << "warning: prompts are not kept on disk: " << status.message() << '\n';
  return served;
}

} // namespace girih::tools
