// SPDX-License-Identifier: Apache-2.0
// Which layers of a config.json see a sliding window only.
#include "models/sliding_layers.h"

namespace girih::models {

Expected<bool> readLayerTypes(const JsonFields &fields, int64_t window, ModelConfig &config) {
  GIRIH_ASSIGN(auto types, fields.strings("layer_types"));
  if (!types)
    return false;
  if (static_cast<int64_t>(types->size()) != config.numLayers)
    return invalidArgument("\"layer_types\" names " + std::to_string(types->size()) +
                           " layers; the model has " + std::to_string(config.numLayers));
  for (int64_t layer = 0; layer < config.numLayers; ++layer) {
    const std::string &type = (*types)[layer];
    if (type == "sliding_attention")
      config.slidingWindow[layer] = window;
    else if (type != "full_attention")
      return unimplemented("layer " + std::to_string(layer) + " has type \"" + type +
                           "\"; supported are full_attention, sliding_attention");
  }
  return true;
}

Status readQwenWindows(const JsonFields &fields, ModelConfig &config) {
  bool usesWindow = false;
  int64_t window = 4096;
  int64_t firstWindowLayer = 28;
  GIRIH_READ_OPTIONAL(usesWindow, fields.boolean("use_sliding_window"));
  GIRIH_READ_OPTIONAL(window, fields.integer("sliding_window"));
  GIRIH_READ_OPTIONAL(firstWindowLayer, fields.integer("max_window_layers"));
  if (!usesWindow)
    return {};
  GIRIH_ASSIGN(bool hasTypes, readLayerTypes(fields, window, config));
  for (int64_t layer = std::max<int64_t>(firstWindowLayer, 0); !hasTypes && layer < config.numLayers; ++layer)
    config.slidingWindow[layer] = window;
  return {};
}

} // namespace girih::models
