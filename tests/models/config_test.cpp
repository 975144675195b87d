// SPDX-License-Identifier: Apache-2.0
// What the config readers take from both kinds of checkpoint, and how they refuse what they cannot.
#include "models/config.h"

#include "tests/models/small_checkpoint.h"

#include <gmock/gmock.h>

#include <cmath>

namespace girih::models {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using weights::TemporaryFolder;

std::string messageOf(const weights::WeightStore &store) {
  auto config = readConfig(store);
  return config.isOk() ? "" : std::string(config.status().message());
}

std::string refusal(std::map<std::string, std::string> changes) {
  TemporaryFolder folder;
  SmallLlama llama;
  for (auto &[key, value] : changes)
    llama.fields[key] = value;
  return messageOf(llama.open(folder));
}

ModelConfig configOf(std::map<std::string, std::string> changes) {
  TemporaryFolder folder;
  SmallLlama llama;
  for (auto &[key, value] : changes)
    llama.fields[key] = value;
  auto config = readConfig(llama.open(folder));
  EXPECT_TRUE(config.isOk()) << config.status().message();
  return std::move(config).value();
}

TEST(HuggingFaceConfig, ReadsTheFieldsOfLlama) {
  ModelConfig config = configOf({});
  EXPECT_EQ(config.family, "llama");
  EXPECT_EQ(config.headDim, 2);
  EXPECT_EQ(config.numKvHeads, 2);
  EXPECT_EQ(config.normEpsilon, 1e-5);
  EXPECT_EQ(config.ropeConvention, RopeConvention::Half);
  EXPECT_FALSE(config.isTied);
  EXPECT_THAT(config.slidingWindow, ElementsAre(0, 0));
  EXPECT_DOUBLE_EQ(config.attentionScale, 1 / std::sqrt(2.0));
}

TEST(HuggingFaceConfig, ReadsRopeParametersInBothSpellings) {
  for (const char *key : {"rope_scaling", "rope_parameters"}) {
    ModelConfig config =
        configOf({{key, R"({"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 16})"}});
    EXPECT_EQ(config.ropeScaling.kind, RopeScaling::Kind::Yarn);
    EXPECT_EQ(config.ropeScaling.originalMaxPositions, 16);
    EXPECT_DOUBLE_EQ(config.ropeScaling.attentionFactor, 0.1 * std::log(4.0) + 1);
  }
  EXPECT_EQ(configOf({{"rope_scaling", R"({"type": "linear", "factor": 2})"}}).ropeScaling.kind,
            RopeScaling::Kind::Linear);
  EXPECT_EQ(configOf({{"rope_parameters", R"({"rope_theta": 5000.0, "rope_type": "default"})"}}).ropeTheta,
            5000);
}

TEST(HuggingFaceConfig, ReadsWindowsByFamily) {
  EXPECT_THAT(configOf({{"model_type", "\"mistral\""}, {"sliding_window", "7"}}).slidingWindow,
              ElementsAre(7, 7));
  EXPECT_THAT(configOf({{"model_type", "\"mistral\""}, {"sliding_window", "null"}}).slidingWindow,
              ElementsAre(0, 0));
  EXPECT_THAT(configOf({{"model_type", "\"qwen2\""},
                        {"use_sliding_window", "true"},
                        {"sliding_window", "7"},
                        {"max_window_layers", "1"}})
                  .slidingWindow,
              ElementsAre(0, 7));
  EXPECT_THAT(configOf({{"model_type", "\"qwen2\""}, {"sliding_window", "7"}, {"max_window_layers", "1"}})
                  .slidingWindow,
              ElementsAre(0, 0));
  EXPECT_THAT(configOf({{"model_type", "\"gemma2\""}, {"sliding_window", "7"}}).slidingWindow,
              ElementsAre(7, 0));
}

TEST(HuggingFaceConfig, NamesWhatIsSupported) {
  EXPECT_THAT(refusal({{"model_type", "\"mamba\""}}),
              HasSubstr("\"mamba\"; supported are llama, mistral, qwen2, qwen3, gemma2"));
  EXPECT_THAT(refusal({{"rope_scaling", R"({"rope_type": "longrope", "factor": 2})"}}),
              HasSubstr("\"longrope\"; supported are default, linear, llama3, yarn"));
  EXPECT_THAT(refusal({{"hidden_act", "\"relu\""}}),
              HasSubstr("\"relu\"; supported are silu, swish, gelu_pytorch_tanh, gelu_new"));
  EXPECT_THAT(refusal({{"partial_rotary_factor", "0.5"}}), HasSubstr("only 1 is supported"));
  EXPECT_THAT(refusal({{"model_type", "\"qwen3\""},
                       {"use_sliding_window", "true"},
                       {"layer_types", R"(["linear_attention", "full_attention"])"}}),
              HasSubstr("\"linear_attention\"; supported are full_attention, sliding_attention"));
}

TEST(HuggingFaceConfig, RefusesWhatIsOutOfBounds) {
  EXPECT_THAT(refusal({{"num_hidden_layers", "0"}}),
              HasSubstr("number of layers is 0; must lie between 1 and 4096"));
  EXPECT_THAT(refusal({{"num_hidden_layers", "9223372036854775807"}}),
              HasSubstr("must lie between 1 and 4096"));
  EXPECT_THAT(refusal({{"num_attention_heads", "0"}}), HasSubstr("number of heads is 0"));
  EXPECT_THAT(refusal({{"num_attention_heads", "-4"}}), HasSubstr("number of heads is -4"));
  EXPECT_THAT(refusal({{"num_key_value_heads", "0"}}), HasSubstr("number of kv heads is 0"));
  EXPECT_THAT(refusal({{"num_key_value_heads", "3"}}), HasSubstr("4 heads and 3 kv heads"));
  EXPECT_THAT(refusal({{"hidden_size", "-8"}}), HasSubstr("hidden size is -8"));
  EXPECT_THAT(refusal({{"vocab_size", "1e300"}}), HasSubstr("\"vocab_size\" is 1e+300; expected an integer"));
  EXPECT_THAT(refusal({{"head_dim", "3"}}), HasSubstr("head size is 3; rotary embedding needs an even one"));
  EXPECT_THAT(refusal({{"rms_norm_eps", "0"}}), HasSubstr("norm epsilon"));
  EXPECT_THAT(refusal({{"rope_theta", "-1"}}), HasSubstr("rope base"));
  EXPECT_THAT(refusal({{"rope_scaling", R"({"rope_type": "linear", "factor": 0})"}}),
              HasSubstr("rope scaling factor is 0"));
  EXPECT_THAT(refusal({{"model_type", "\"mistral\""}, {"sliding_window", "-5"}}),
              HasSubstr("sliding window is -5"));
}

TEST(HuggingFaceConfig, RefusesFieldsThatAreAbsentOrOfAnotherType) {
  EXPECT_THAT(refusal({{"hidden_size", ""}}), HasSubstr("config.json has no \"hidden_size\""));
  EXPECT_THAT(refusal({{"hidden_size", "\"big\""}}),
              HasSubstr("\"hidden_size\" is \"big\"; expected an integer"));
  EXPECT_THAT(refusal({{"tie_word_embeddings", "1"}}), HasSubstr("expected true or false"));
  EXPECT_THAT(refusal({{"rope_scaling", "3"}}), HasSubstr("expected an object"));
  EXPECT_THAT(refusal({{"rope_scaling", R"({"rope_type": "llama3"})"}}), HasSubstr("has no \"factor\""));
}

TEST(HuggingFaceConfig, ReadsGenerationDefaults) {
  TemporaryFolder folder;
  SmallLlama llama;
  llama.fields["eos_token_id"] = "2";
  llama.generation =
      R"({"eos_token_id": [7, 8], "temperature": 0.6, "top_k": 0, "top_p": 0.9, "do_sample": true})";
  auto defaults = readGenerationDefaults(llama.open(folder));
  ASSERT_TRUE(defaults.isOk());
  EXPECT_THAT(defaults->eosTokens, ElementsAre(7, 8));
  EXPECT_EQ(defaults->temperature, 0.6);
  EXPECT_EQ(defaults->topK, std::nullopt); // 0 means off
  EXPECT_EQ(defaults->doSample, true);
}

TEST(GgufConfig, ReadsTheFieldsOfLlama) {
  TemporaryFolder folder;
  auto config = readConfig(SmallGguf().open(folder));
  ASSERT_TRUE(config.isOk()) << config.status().message();
  EXPECT_EQ(config->vocabSize, 12);
  EXPECT_EQ(config->headDim, 2);
  EXPECT_EQ(config->ropeConvention, RopeConvention::Interleaved);
  EXPECT_FALSE(config->isTied);
  EXPECT_EQ(config->normEpsilon, 1e-5f);
}

TEST(GgufConfig, TakesTheHeadSizeFromTheQueryProjection) {
  TemporaryFolder folder;
  SmallGguf gguf;
  for (SmallTensor &tensor : gguf.tensors)
    if (tensor.name.ends_with("attn_q.weight"))
      tensor.shape = {24, 8};
  auto config = readConfig(gguf.open(folder));
  ASSERT_TRUE(config.isOk());
  EXPECT_EQ(config->headDim, 6);
}

TEST(GgufConfig, ReadsTheTableOfRopeFactors) {
  TemporaryFolder folder;
  SmallGguf gguf;
  gguf.tensors.push_back({"rope_freqs.weight", {1}});
  EXPECT_THAT(messageOf(gguf.open(folder)), HasSubstr("rope frequency factor is 0.0"));
  gguf.tensors.back().shape = {3};
  EXPECT_THAT(messageOf(gguf.open(folder)), HasSubstr("has 3 elements; half the head size is 1"));
}

TEST(GgufConfig, RefusesWhatItDoesNotKnow) {
  TemporaryFolder folder;
  SmallGguf other;
  other.architecture = "mamba";
  EXPECT_THAT(messageOf(other.open(folder)),
              HasSubstr("\"mamba\"; supported are gemma2, llama, qwen2, qwen3"));
  SmallGguf scaled;
  scaled.strings["llama.rope.scaling.type"] = "longrope";
  EXPECT_THAT(messageOf(scaled.open(folder)), HasSubstr("\"longrope\"; supported are none, linear, yarn"));
  SmallGguf partial;
  partial.integers["llama.rope.dimension_count"] = 1;
  EXPECT_THAT(messageOf(partial.open(folder)), HasSubstr("1 are rotated"));
  SmallGguf headless;
  headless.integers.erase("llama.attention.head_count");
  EXPECT_THAT(messageOf(headless.open(folder)), HasSubstr("llama.attention.head_count"));
  SmallGguf many;
  many.integers["llama.block_count"] = 0xFFFFFFFF;
  EXPECT_THAT(messageOf(many.open(folder)), HasSubstr("number of layers is 4294967295"));
}

TEST(RotaryFrequencies, ScaleAsEachKindSays) {
  ModelConfig config = configOf({{"head_dim", "64"}});
  std::vector<float> plain = rotaryFrequencies(config);
  ASSERT_EQ(plain.size(), 32u);
  EXPECT_EQ(plain[0], 1.0f);
  EXPECT_NEAR(plain[16], 0.01f, 1e-9);

  config.ropeScaling = {.kind = RopeScaling::Kind::Linear, .factor = 4};
  EXPECT_EQ(rotaryFrequencies(config)[16], plain[16] / 4);

  // High frequencies are kept, low ones divided, with a ramp between: at 8192 trained positions and factors 1
  // and 4 the ramp lies between wavelengths of 2048 and 8192.
  config.ropeScaling = {.kind = RopeScaling::Kind::Llama3, .factor = 8, .originalMaxPositions = 8192};
  std::vector<float> scaled = rotaryFrequencies(config);
  for (size_t channel = 0; channel < plain.size(); ++channel) {
    double wavelength = 2 * M_PI / plain[channel];
    double ratio = plain[channel] / scaled[channel];
    if (wavelength < 2047)
      EXPECT_EQ(ratio, 1) << channel;
    else if (wavelength > 8193)
      EXPECT_EQ(ratio, 8) << channel;
    else
      EXPECT_TRUE(ratio > 1 && ratio < 8) << channel;
  }

  config.ropeScaling = {.kind = RopeScaling::Kind::Yarn, .factor = 4, .originalMaxPositions = 64};
  scaled = rotaryFrequencies(config);
  EXPECT_EQ(scaled[0], plain[0]);
  EXPECT_FLOAT_EQ(scaled[31], plain[31] / 4);
}

} // namespace
} // namespace girih::models
