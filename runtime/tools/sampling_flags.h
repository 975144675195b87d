// SPDX-License-Identifier: Apache-2.0
// SamplingFlags: the sampling options that run and chat share.
#pragma once

#include "runtime/engine/sampler.h"
#include "runtime/tools/command_line.h"

#include <optional>
#include <random>

namespace girih::tools {

struct SamplingFlags {
  std::optional<double> temperature;
  std::optional<int64_t> topK;
  std::optional<double> topP;
  std::optional<double> minP;
  std::optional<int64_t> seed;

  void declare(CommandLine &line) {
    line.number("--temperature", temperature, 0, 100, "0: always the likeliest token; higher is more varied [the model's own, else 0]");
    line.integer("--top-k", topK, 0, 1 << 30, "Choose among the K likeliest tokens only; 0: all [the model's own]");
    line.number("--top-p", topP, 1e-6, 1, "Choose among the likeliest tokens that together have this probability [the model's own]");
    line.number("--min-p", minP, 0, 1, "Drop tokens less likely than this share of the likeliest one [the model's own]");
    line.integer("--seed", seed, 0, INT64_MAX, "The same seed gives the same tokens [random]");
  }

  // What was given, over the model's own.
  engine::SamplingOptions apply(engine::SamplingOptions sampling) const {
    sampling.temperature = static_cast<float>(temperature.value_or(sampling.temperature));
    sampling.topK = static_cast<int32_t>(topK.value_or(sampling.topK));
    sampling.topP = static_cast<float>(topP.value_or(sampling.topP));
    sampling.minP = static_cast<float>(minP.value_or(sampling.minP));
    sampling.seed = seed ? static_cast<uint64_t>(*seed) : std::random_device{}();
    return sampling;
  }
};

}  // namespace girih::tools
