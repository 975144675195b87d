// SPDX-License-Identifier: Apache-2.0
// A loaded model as the server's service takes it, for the commands that have one.
#pragma once

#include "runtime/server/service.h"
#include "runtime/tools/loaded_model.h"

namespace girih::tools {

// Starts the engine. A folder that it cannot keep KV in is told on stderr and fails nothing.
Expected<server::ServedModel> serveModel(const LoadedModel &model, std::vector<std::string> names,
                                         const engine::EngineOptions &options);

} // namespace girih::tools
