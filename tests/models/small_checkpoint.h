// SPDX-License-Identifier: Apache-2.0
// Checkpoints of a two-layer llama with zeros for weights, in either format, with any field made untrue.
#pragma once

#include "runtime/weights/weight_store.h"
#include "tests/runtime/weights/checkpoint_bytes.h"

#include <gtest/gtest.h>

#include <map>
#include <string>
#include <vector>

namespace girih::models {

struct SmallTensor {
  std::string name;
  std::vector<int64_t> shape;
};

// V = 12, E = 8, F = 16, H = 4, G = 2, D = 2, untied.
struct SmallLlama {
  // Hugging Face: JSON text a field. An empty text leaves the field out.
  std::map<std::string, std::string> fields = {
      {"model_type", "\"llama\""},  {"vocab_size", "12"},
      {"hidden_size", "8"},         {"intermediate_size", "16"},
      {"num_hidden_layers", "2"},   {"num_attention_heads", "4"},
      {"num_key_value_heads", "2"}, {"max_position_embeddings", "64"},
      {"rms_norm_eps", "1e-05"},    {"tie_word_embeddings", "false"},
      {"rope_theta", "10000.0"},
  };
  std::string generation; // text of generation_config.json
  std::vector<SmallTensor> tensors;

  SmallLlama() {
    tensors = {
        {"model.embed_tokens.weight", {12, 8}}, {"model.norm.weight", {8}}, {"lm_head.weight", {12, 8}}};
    for (std::string layer : {"model.layers.0.", "model.layers.1."})
      for (SmallTensor tensor : std::vector<SmallTensor>{{"input_layernorm.weight", {8}},
                                                         {"post_attention_layernorm.weight", {8}},
                                                         {"self_attn.q_proj.weight", {8, 8}},
                                                         {"self_attn.k_proj.weight", {4, 8}},
                                                         {"self_attn.v_proj.weight", {4, 8}},
                                                         {"self_attn.o_proj.weight", {8, 8}},
                                                         {"mlp.gate_proj.weight", {16, 8}},
                                                         {"mlp.up_proj.weight", {16, 8}},
                                                         {"mlp.down_proj.weight", {8, 16}}})
        tensors.push_back({layer + tensor.name, tensor.shape});
  }

  SmallTensor &tensor(const std::string &name) {
    for (SmallTensor &candidate : tensors)
      if (candidate.name == name)
        return candidate;
    return tensors.emplace_back(SmallTensor{name, {}});
  }

  std::string json() const {
    std::string text;
    for (const auto &[key, value] : fields)
      if (!value.empty())
        text += (text.empty() ? "{\"" : ",\"") + key + "\":" + value;
    return text + "}";
  }

  // Opens it as a folder written by Hugging Face.
  weights::WeightStore open(const weights::TemporaryFolder &folder) const {
    std::string header;
    size_t offset = 0;
    for (const SmallTensor &each : tensors) {
      size_t numElements = 1;
      std::string shape;
      for (int64_t extent : each.shape) {
        numElements *= static_cast<size_t>(extent);
        shape += (shape.empty() ? "" : ",") + std::to_string(extent);
      }
      header += (header.empty() ? "{\"" : ",\"") + each.name + "\":{\"dtype\":\"F32\",\"shape\":[" + shape +
                "],\"data_offsets\":[" + std::to_string(offset) + "," +
                std::to_string(offset + 4 * numElements) + "]}";
      offset += 4 * numElements;
    }
    folder.write("model.safetensors", weights::safetensorsBytes(header + "}", offset));
    folder.write("config.json", json());
    if (!generation.empty())
      folder.write("generation_config.json", generation);
    return opened(weights::WeightStore::open(folder.path()));
  }

  static weights::WeightStore opened(Expected<weights::WeightStore> store) {
    EXPECT_TRUE(store.isOk()) << (store.isOk() ? "" : std::string(store.status().message()));
    return std::move(store).value();
  }
};

// The same model as a GGUF file.
struct SmallGguf {
  std::string architecture = "llama";
  std::map<std::string, uint32_t> integers = {
      {"llama.block_count", 2},          {"llama.context_length", 64},
      {"llama.embedding_length", 8},     {"llama.feed_forward_length", 16},
      {"llama.attention.head_count", 4}, {"llama.attention.head_count_kv", 2},
  };
  std::map<std::string, float> numbers = {{"llama.attention.layer_norm_rms_epsilon", 1e-5f},
                                          {"llama.rope.freq_base", 1e4f}};
  std::map<std::string, std::string> strings;
  std::vector<SmallTensor> tensors;

  SmallGguf() {
    tensors = {{"token_embd.weight", {12, 8}}, {"output_norm.weight", {8}}, {"output.weight", {12, 8}}};
    for (std::string layer : {"blk.0.", "blk.1."})
      for (SmallTensor tensor : std::vector<SmallTensor>{{"attn_norm.weight", {8}},
                                                         {"ffn_norm.weight", {8}},
                                                         {"attn_q.weight", {8, 8}},
                                                         {"attn_k.weight", {4, 8}},
                                                         {"attn_v.weight", {4, 8}},
                                                         {"attn_output.weight", {8, 8}},
                                                         {"ffn_gate.weight", {16, 8}},
                                                         {"ffn_up.weight", {16, 8}},
                                                         {"ffn_down.weight", {8, 16}}})
        tensors.push_back({layer + tensor.name, tensor.shape});
  }

  weights::WeightStore open(const weights::TemporaryFolder &folder) const {
    constexpr uint32_t kU32 = 4, kF32 = 6, kString = 8, kTypeF32 = 0;
    weights::GgufBytes file;
    file.pair("general.architecture", kString).string(architecture);
    for (const auto &[key, value] : integers)
      file.pair(key, kU32).number<uint32_t>(value);
    for (const auto &[key, value] : numbers)
      file.pair(key, kF32).number<float>(value);
    for (const auto &[key, value] : strings)
      file.pair(key, kString).string(value);
    for (const SmallTensor &each : tensors) {
      std::vector<uint64_t> extents(each.shape.rbegin(), each.shape.rend());
      size_t sizeBytes = 4;
      for (uint64_t extent : extents)
        sizeBytes *= extent;
      file.tensor(each.name, extents, kTypeF32, sizeBytes);
    }
    return SmallLlama::opened(weights::WeightStore::open(folder.write("model.gguf", file.build())));
  }
};

} // namespace girih::models
