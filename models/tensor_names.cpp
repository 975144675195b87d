// SPDX-License-Identifier: Apache-2.0
// How the two checkpoint formats name the same tensor.
#include "models/tensor_names.h"

#include <string_view>

namespace girih::models {
namespace {

struct NameRow {
  std::string_view huggingFace;
  std::string_view gguf;
};

constexpr NameRow kModelNames[] = {
    {"model.embed_tokens", "token_embd"},
    {"model.norm", "output_norm"},
    {"lm_head", "output"},
};

constexpr NameRow kLayerNames[] = {
    {"input_layernorm", "attn_norm"},    {"self_attn.q_proj", "attn_q"},
    {"self_attn.k_proj", "attn_k"},      {"self_attn.v_proj", "attn_v"},
    {"self_attn.o_proj", "attn_output"}, {"self_attn.q_norm", "attn_q_norm"},
    {"self_attn.k_norm", "attn_k_norm"}, {"mlp.gate_proj", "ffn_gate"},
    {"mlp.up_proj", "ffn_up"},           {"mlp.down_proj", "ffn_down"},
};

// The norm before the feed-forward block is `post_attention_layernorm` in most families; where there are
// norms after the blocks too, that name means the one after attention.
constexpr NameRow kPreNormNames[] = {{"post_attention_layernorm", "ffn_norm"}};
constexpr NameRow kPrePostNormNames[] = {
    {"post_attention_layernorm", "post_attention_norm"},
    {"pre_feedforward_layernorm", "ffn_norm"},
    {"post_feedforward_layernorm", "post_ffw_norm"},
};

template <size_t N> const NameRow *findRow(const NameRow (&rows)[N], std::string_view name) {
  for (const NameRow &row : rows)
    if (row.huggingFace == name)
      return &row;
  return nullptr;
}

} // namespace

std::string checkpointTensorName(const ModelConfig &config, const std::string &huggingFaceName) {
  if (config.source == weights::CheckpointKind::HuggingFace)
    return huggingFaceName;
  std::string_view name = huggingFaceName;
  size_t suffixStart = name.rfind('.');
  if (suffixStart == std::string_view::npos)
    return huggingFaceName;
  std::string_view suffix = name.substr(suffixStart); // ".weight"
  name = name.substr(0, suffixStart);
  if (const NameRow *row = findRow(kModelNames, name))
    return std::string(row->gguf) + std::string(suffix);

  constexpr std::string_view kLayers = "model.layers.";
  if (!name.starts_with(kLayers))
    return huggingFaceName;
  name.remove_prefix(kLayers.size());
  size_t dot = name.find('.');
  if (dot == std::string_view::npos)
    return huggingFaceName;
  std::string_view number = name.substr(0, dot);
  std::string_view part = name.substr(dot + 1);
  const NameRow *row = findRow(kLayerNames, part);
  if (!row)
    row = config.hasPostNorms ? findRow(kPrePostNormNames, part) : findRow(kPreNormNames, part);
  if (!row)
    return huggingFaceName;
  return "blk." + std::string(number) + "." + std::string(row->gguf) + std::string(suffix);
}

} // namespace girih::models
