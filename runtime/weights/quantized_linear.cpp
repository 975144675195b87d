// SPDX-License-Identifier: Apache-2.0
// assembleQuantized: the layouts of compressed-tensors and GPTQ, whose codes go into blocks of q4_0 and q8_0.
#include "runtime/weights/quantized_linear.h"

#include "runtime/base/element_type.h"
#include "runtime/base/json_reader.h"
#include "runtime/weights/checkpoint_file.h"

#include <algorithm>
#include <cstring>
#include <functional>
#include <set>

namespace girih::weights {
namespace {

constexpr int64_t kBlock = 32;           // k that q4_0 and q8_0 give a scale
constexpr int64_t kMostExtent = 1 << 30; // far above any layer; products of two fit

// A layer as every method has it, whatever its order of bytes.
struct Layer {
  int64_t numRows = 0, depth = 0, numGroups = 0;
  int bits = 4;
  std::function<int(int64_t row, int64_t k)> code; // signed
  std::function<float(int64_t row, int64_t group)> scale;
};

uint32_t wordAt(std::span<const uint8_t> bytes, int64_t index) {
  uint32_t word;
  std::memcpy(&word, bytes.data() + index * 4, sizeof(word));
  return word;
}

// The tensors of both lists by name, and which of them have become part of a weight.
class Parts {
public:
  Parts(std::vector<StoredTensor> &tensors, std::vector<UnreadableTensor> &unreadable)
      : tensors(tensors), unreadable(unreadable) {
    for (size_t index = 0; index < tensors.size(); ++index)
      readableAt.emplace(tensors[index].name, index);
    for (size_t index = 0; index < unreadable.size(); ++index)
      unreadableAt.emplace(unreadable[index].name, index);
  }

  // "a.b" for each "a.b.<suffix>" of the unreadable tensors, in their order.
  std::vector<std::string> modulesWith(std::string_view suffix) const {
    std::vector<std::string> modules;
    for (const UnreadableTensor &tensor : unreadable)
      if (tensor.name.size() > suffix.size() && tensor.name.ends_with(suffix))
        modules.push_back(tensor.name.substr(0, tensor.name.size() - suffix.size()));
    return modules;
  }
  bool has(const std::string &name) const { return readableAt.count(name) || unreadableAt.count(name); }

  // Integers of `storage` in two axes (fewer are filled up with ones at the end). Marks the tensor as used.
  Expected<const UnreadableTensor *> integers(const std::string &name, std::string_view storage,
                                              int64_t elementBytes) {
    auto found = unreadableAt.find(name);
    if (found == unreadableAt.end() || unreadable[found->second].storage != storage)
      return dataLoss("has no " + std::string(storage) + " tensor " + quoteName(name));
    UnreadableTensor &tensor = unreadable[found->second];
    GIRIH_ASSIGN(int64_t count, countElements(tensor.shape));
    if (count > kMostExtent * 4 || tensor.bytes.size() != static_cast<size_t>(count * elementBytes))
      return dataLoss("tensor " + quoteName(name) + " of shape " + shapeText(tensor.shape) + " has " +
                      std::to_string(tensor.bytes.size()) + " bytes");
    used.insert(name);
    return &tensor;
  }
  Expected<std::vector<float>> floats(const std::string &name) {
    auto found = readableAt.find(name);
    if (found == readableAt.end())
      return dataLoss("has no tensor " + quoteName(name) + " of f16, bf16 or f32");
    const StoredTensor &tensor = tensors[found->second];
    std::vector<float> values(static_cast<size_t>(tensor.numElements));
    dequantize(tensor, values.data());
    used.insert(name);
    return values;
  }
  void take() {
    std::erase_if(tensors, [&](const StoredTensor &tensor) { return used.count(tensor.name) > 0; });
    std::erase_if(unreadable, [&](const UnreadableTensor &tensor) { return used.count(tensor.name) > 0; });
  }

private:
  std::vector<StoredTensor> &tensors;
  std::vector<UnreadableTensor> &unreadable;
  std::unordered_map<std::string, size_t> readableAt, unreadableAt;
  std::set<std::string> used;
};

Status checkExtents(const Layer &layer) {
  if (layer.numRows < 1 || layer.depth < 1 || layer.numRows > kMostExtent || layer.depth > kMostExtent ||
      layer.depth % kBlock != 0 || layer.numGroups < 1 || layer.depth % layer.numGroups != 0 ||
      layer.depth / layer.numGroups % kBlock != 0)
    return unimplemented("is " + std::to_string(layer.numRows) + " x " + std::to_string(layer.depth) +
                         " with " + std::to_string(layer.numGroups) +
                         " scales a row; rows and groups of whole blocks of 32 are read");
  return {};
}

Expected<AssembledTensor> blocksOf(const Layer &layer, const std::string &name) {
  GIRIH_TRY(checkExtents(layer));
  AssembledTensor assembled;
  StoredTensor &tensor = assembled.tensor;
  tensor.name = name;
  tensor.shape = {layer.numRows, layer.depth};
  tensor.numElements = layer.numRows * layer.depth;
  tensor.format = layer.bits == 4 ? StorageFormat::Q4_0 : StorageFormat::Q8_0;
  GIRIH_ASSIGN(int64_t sizeBytes, storageBytes(tensor.format, tensor.numElements));
  assembled.bytes.resize(static_cast<size_t>(sizeBytes));
  uint8_t *out = assembled.bytes.data();
  int64_t groupDepth = layer.depth / layer.numGroups;
  for (int64_t row = 0; row < layer.numRows; ++row)
    for (int64_t first = 0; first < layer.depth;
         first += kBlock, out += formatRow(tensor.format).blockBytes) {
      float scale = layer.scale(row, first / groupDepth);
      uint16_t half = floatToHalf(scale);
      if (halfToFloat(half) != scale)
        return unimplemented(
            "has the scale " + std::to_string(scale) + " in row " + std::to_string(row) +
            ", which is no f16; such weights are not read, since rounding it would change them");
      std::memcpy(out, &half, sizeof(half));
      for (int64_t k = 0; k < kBlock; ++k) {
        int code = layer.code(row, first + k);
        if (layer.bits == 8)
          out[2 + k] = static_cast<uint8_t>(code);
        else
          out[2 + k % 16] = static_cast<uint8_t>(k < 16 ? code + 8 : out[2 + k % 16] | (code + 8) << 4);
      }
    }
  tensor.bytes = assembled.bytes;
  return assembled;
}

Status scalesOf(std::vector<float> values, bool isGroupMajor, Layer &layer) {
  layer.numGroups = static_cast<int64_t>(values.size()) / std::max<int64_t>(layer.numRows, 1);
  bool isOne = values.size() == 1; // for the whole layer
  if (isOne)
    layer.numGroups = 1;
  else if (layer.numGroups < 1 || static_cast<int64_t>(values.size()) != layer.numGroups * layer.numRows)
    return dataLoss("has " + std::to_string(values.size()) + " scales for " + std::to_string(layer.numRows) +
                    " rows");
  int64_t rowStep = isOne          ? 0
                    : isGroupMajor ? 1
                                   : layer.numGroups,
          groupStep = isGroupMajor ? layer.numRows : 1;
  layer.scale = [values = std::move(values), rowStep, groupStep](int64_t row, int64_t group) {
    return values[static_cast<size_t>(row * rowStep + group * groupStep)];
  };
  return {};
}

// ---- compressed-tensors ----
// Words of 32 / bits codes of consecutive k, the lowest bits first; codes are unsigned, their zero in the middle.
Expected<Layer> packedLayer(Parts &parts, const std::string &module) {
  for (const char *suffix : {".weight_zero_point", ".weight_g_idx"})
    if (parts.has(module + suffix))
      return unimplemented(std::string("has \"") + suffix + "\"; symmetric codes in order are read");
  GIRIH_ASSIGN(const UnreadableTensor *shape, parts.integers(module + ".weight_shape", "I64", 8));
  GIRIH_ASSIGN(const UnreadableTensor *words, parts.integers(module + ".weight_packed", "I32", 4));
  Layer layer;
  int64_t extents[2] = {};
  if (shape->bytes.size() != sizeof(extents) || words->shape.size() != 2)
    return dataLoss("has a shape of " + std::to_string(shape->bytes.size() / 8) + " extents, codes of " +
                    shapeText(words->shape) + "; both are matrices");
  std::memcpy(extents, shape->bytes.data(), sizeof(extents));
  layer.numRows = extents[0], layer.depth = extents[1];
  int64_t wordsOfRow = words->shape[1];
  if (layer.numRows != words->shape[0] || layer.depth < 1 || layer.depth > kMostExtent ||
      (wordsOfRow * 8 != layer.depth && wordsOfRow * 4 != layer.depth))
    return unimplemented("has codes of " + shapeText(words->shape) + " for a weight of " +
                         std::to_string(extents[0]) + " x " + std::to_string(extents[1]) +
                         "; 8 codes of 4 bits or 4 of 8 bits a word are read");
  layer.bits = wordsOfRow * 8 == layer.depth ? 4 : 8;
  layer.code = [bytes = words->bytes, wordsOfRow, bits = layer.bits](int64_t row, int64_t k) {
    int64_t inWord = 32 / bits;
    uint32_t word = wordAt(bytes, row * wordsOfRow + k / inWord) >> (k % inWord * bits);
    return static_cast<int>(word & ((1u << bits) - 1)) - (1 << (bits - 1));
  };
  GIRIH_ASSIGN(auto scales, parts.floats(module + ".weight_scale"));
  GIRIH_TRY(scalesOf(std::move(scales), /*isGroupMajor=*/false, layer));
  return layer;
}

Expected<Layer> bytesLayer(Parts &parts, const std::string &module) {
  if (parts.has(module + ".weight_zero_point"))
    return unimplemented("has \".weight_zero_point\"; symmetric codes are read");
  GIRIH_ASSIGN(const UnreadableTensor *codes, parts.integers(module + ".weight", "I8", 1));
  if (codes->shape.size() != 2)
    return dataLoss("has codes of " + shapeText(codes->shape) + "; a matrix is needed here");
  Layer layer;
  layer.bits = 8, layer.numRows = codes->shape[0], layer.depth = codes->shape[1];
  layer.code = [bytes = codes->bytes, depth = layer.depth](int64_t row, int64_t k) {
    return static_cast<int>(static_cast<int8_t>(bytes[static_cast<size_t>(row * depth + k)]));
  };
  GIRIH_ASSIGN(auto scales, parts.floats(module + ".weight_scale"));
  GIRIH_TRY(scalesOf(std::move(scales), /*isGroupMajor=*/false, layer));
  return layer;
}

// ---- GPTQ ----
// Words of 32 / bits codes of consecutive k, a word of each column side by side; zeros likewise over columns, and in
// version 1 stored less one.
Expected<Layer> gptqLayer(Parts &parts, const std::string &module, int bits, int zeroBias) {
  GIRIH_ASSIGN(const UnreadableTensor *words, parts.integers(module + ".qweight", "I32", 4));
  GIRIH_ASSIGN(const UnreadableTensor *zeros, parts.integers(module + ".qzeros", "I32", 4));
  int64_t inWord = 32 / bits;
  if (words->shape.size() != 2 || words->shape[0] > kMostExtent)
    return dataLoss("has codes of " + shapeText(words->shape) + "; a matrix is needed here");
  Layer layer;
  layer.bits = bits, layer.numRows = words->shape[1], layer.depth = words->shape[0] * inWord;
  GIRIH_ASSIGN(auto scales, parts.floats(module + ".scales"));
  GIRIH_TRY(scalesOf(std::move(scales), /*isGroupMajor=*/true, layer));
  GIRIH_TRY(checkExtents(layer));
  uint32_t symmetric = 0;
  for (int64_t code = 0; code < inWord; ++code)
    symmetric |= static_cast<uint32_t>((1 << (bits - 1)) - zeroBias) << (code * bits);
  for (size_t index = 0; index < zeros->bytes.size() / 4; ++index)
    if (wordAt(zeros->bytes, static_cast<int64_t>(index)) != symmetric)
      return unimplemented("has zero points; symmetric codes are read");
  if (parts.has(module + ".g_idx")) {
    GIRIH_ASSIGN(const UnreadableTensor *groups, parts.integers(module + ".g_idx", "I32", 4));
    for (int64_t k = 0; k < static_cast<int64_t>(groups->bytes.size() / 4); ++k)
      if (wordAt(groups->bytes, k) != k * layer.numGroups / layer.depth)
        return unimplemented("has groups out of order (act-order); groups of consecutive k are read");
  }
  layer.code = [bytes = words->bytes, columns = layer.numRows, bits, inWord](int64_t row, int64_t k) {
    uint32_t word = wordAt(bytes, k / inWord * columns + row) >> (k % inWord * bits);
    return static_cast<int>(word & ((1u << bits) - 1)) - (1 << (bits - 1));
  };
  return layer;
}

std::string textOf(const JsonValue &object, std::string_view key) {
  auto member = object.find(key);
  auto text = member ? member->asString() : Expected<std::string_view>(notFound(""));
  return text.isOk() ? std::string(*text) : std::string();
}

} // namespace

Expected<std::vector<AssembledTensor>> assembleQuantized(std::string_view configText,
                                                         std::vector<StoredTensor> &tensors,
                                                         std::vector<UnreadableTensor> &unreadable) {
  std::vector<AssembledTensor> weights;
  auto json = JsonDocument::parse(configText);
  auto config = json.isOk() ? json->root().find("quantization_config") : std::nullopt;
  if (!config || !config->isObject())
    return weights; // the config's own reader says what is wrong with it
  Parts parts(tensors, unreadable);
  auto add = [&](const std::string &module, auto read) -> Status {
    auto assemble = [&]() -> Status {
      GIRIH_ASSIGN(Layer layer, read());
      GIRIH_ASSIGN(AssembledTensor weight, blocksOf(layer, module + ".weight"));
      weights.push_back(std::move(weight));
      return {};
    };
    return assemble().withContext("quantised layer " + quoteName(module));
  };
  std::string method = textOf(*config, "quant_method");
  if (method == "compressed-tensors") {
    for (const std::string &module : parts.modulesWith(".weight_packed"))
      GIRIH_TRY(add(module, [&] { return packedLayer(parts, module); }));
    for (const std::string &module : parts.modulesWith(".weight"))
      GIRIH_TRY(add(module, [&] { return bytesLayer(parts, module); }));
  } else if (method == "gptq") {
    auto bits = config->find("bits") ? config->find("bits")->asInteger() : Expected<int64_t>(notFound(""));
    if (!bits.isOk() || (*bits != 4 && *bits != 8))
      return unimplemented("quantization_config: gptq without `bits` of 4 or 8; those are read");
    int zeroBias = textOf(*config, "checkpoint_format") == "gptq_v2" ? 0 : 1;
    for (const std::string &module : parts.modulesWith(".qweight"))
      GIRIH_TRY(add(module, [&] { return gptqLayer(parts, module, static_cast<int>(*bits), zeroBias); }));
  } else {
    return unimplemented("quantization_config has the method " + quoteName(method) +
                         "; compressed-tensors and gptq are read");
  }
  parts.take();
  return weights;
}

} // namespace girih::weights
