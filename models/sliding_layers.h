// SPDX-License-Identifier: Apache-2.0
// Which layers of a config.json see a sliding window only.
#pragma once

#include "models/config.h"
#include "models/config_fields.h"

namespace girih::models {

// Gives `window` to the layers that `layer_types` calls "sliding_attention"; false when there is no such
// field. Fails: InvalidArgument (wrong number of layers), Unimplemented (another type of layer).
Expected<bool> readLayerTypes(const JsonFields &fields, int64_t window, ModelConfig &config);

// Qwen's older spelling besides: `use_sliding_window`, and `max_window_layers` first layers without one.
Status readQwenWindows(const JsonFields &fields, ModelConfig &config);

} // namespace girih::models
