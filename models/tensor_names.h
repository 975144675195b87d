// SPDX-License-Identifier: Apache-2.0
// How the two checkpoint formats name the same tensor.
#pragma once

#include "models/config.h"

#include <string>

namespace girih::models {

// Families ask for tensors in Hugging Face's words ("model.layers.3.self_attn.q_proj.weight"); the answer is
// the name in the config's checkpoint ("blk.3.attn_q.weight" for GGUF). A name without an entry is returned
// unchanged.
std::string checkpointTensorName(const ModelConfig &config, const std::string &huggingFaceName);

} // namespace girih::models
