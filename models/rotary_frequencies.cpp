// SPDX-License-Identifier: Apache-2.0
// The rotary frequencies of a config, rounded to f32 where Hugging Face rounds, with each kind of scaling.
#include "models/config.h"

#include <algorithm>
#include <cmath>
#include <numbers>

namespace girih::models {
namespace {

// Low frequencies / factor, high ones kept, between the two a ramp over the wave's length ("Llama 3.1",
// 2024).
void scaleLlama3(const RopeScaling &s, std::vector<float> &frequencies) {
  float lowWavelength = static_cast<float>(s.originalMaxPositions / s.lowFrequencyFactor);
  float highWavelength = static_cast<float>(s.originalMaxPositions / s.highFrequencyFactor);
  float factor = static_cast<float>(s.factor);
  for (float &frequency : frequencies) {
    float wavelength = static_cast<float>(2 * std::numbers::pi) / frequency;
    if (wavelength > lowWavelength) {
      frequency /= factor;
    } else if (!(wavelength < highWavelength)) {
      float smooth = (static_cast<float>(s.originalMaxPositions) / wavelength -
                      static_cast<float>(s.lowFrequencyFactor)) /
                     static_cast<float>(s.highFrequencyFactor - s.lowFrequencyFactor);
      frequency = (1 - smooth) * frequency / factor + smooth * frequency;
    }
  }
}

// Peng et al., "YaRN: Efficient Context Window Extension of Large Language Models" (2023): a ramp over
// channels between those that turn betaFast and betaSlow times in the trained context.
void scaleYarn(const ModelConfig &c, std::vector<float> &frequencies) {
  const RopeScaling &s = c.ropeScaling;
  auto channelOf = [&](double numRotations) {
    return c.headDim * std::log(s.originalMaxPositions / (numRotations * 2 * std::numbers::pi)) /
           (2 * std::log(c.ropeTheta));
  };
  double low = channelOf(s.betaFast), high = channelOf(s.betaSlow);
  if (s.truncate) {
    low = std::floor(low);
    high = std::ceil(high);
  }
  low = std::max(low, 0.0);
  high = std::min(high, static_cast<double>(c.headDim - 1));
  if (low == high)
    high += 0.001;
  for (size_t channel = 0; channel < frequencies.size(); ++channel) {
    float ramp = (static_cast<float>(channel) - static_cast<float>(low)) / static_cast<float>(high - low);
    float kept = 1 - std::clamp(ramp, 0.0f, 1.0f);
    float interpolated = frequencies[channel] / static_cast<float>(s.factor);
    frequencies[channel] = interpolated * (1 - kept) + frequencies[channel] * kept;
  }
}

} // namespace

std::vector<float> rotaryFrequencies(const ModelConfig &c) {
  std::vector<float> frequencies(c.headDim / 2);
  for (size_t channel = 0; channel < frequencies.size(); ++channel) {
    float exponent = static_cast<float>(2 * channel) / static_cast<float>(c.headDim);
    float power = static_cast<float>(std::pow(c.ropeTheta, static_cast<double>(exponent)));
    frequencies[channel] = 1.0f / power;
  }
  const RopeScaling &s = c.ropeScaling;
  switch (s.kind) {
  case RopeScaling::Kind::None:
    break;
  case RopeScaling::Kind::Linear:
    for (float &frequency : frequencies)
      frequency /= static_cast<float>(s.factor);
    break;
  case RopeScaling::Kind::Llama3:
    scaleLlama3(s, frequencies);
    break;
  case RopeScaling::Kind::Yarn:
    scaleYarn(c, frequencies);
    break;
  case RopeScaling::Kind::PerChannel:
    for (size_t channel = 0; channel < frequencies.size(); ++channel)
      frequencies[channel] /= s.frequencyFactors[channel];
    break;
  }
  return frequencies;
}

} // namespace girih::models
