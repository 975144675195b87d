// SPDX-License-Identifier: Apache-2.0
// assembleQuantized: the layouts of compressed-tensors, GPTQ and AWQ, whose codes go into blocks of q4_0, q5_0 and q8_0.
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

using Zeros = std::function<int(int64_t row, int64_t group)>;

// A layer as every method has it, whatever its order of bytes.
struct Layer {
  int64_t numRows = 0, depth = 0, numGroups = 0;
  int bits = 4;
  std::function<int(int64_t row, int64_t k)> code; // signed
  std::function<float(int64_t row, int64_t group)> scale;
  Zeros zero; // of a code; none: 0

  int64_t groupDepth() const { return depth / numGroups; }
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

// Codes less their zeros: of 4 bits within -15 .. 15, which q5_0 holds; of 8 bits too wide for any format at worst.
StorageFormat formatOf(const Layer &layer) {
  if (layer.bits == 8)
    return StorageFormat::Q8_0;
  return layer.zero ? StorageFormat::Q5_0 : StorageFormat::Q4_0;
}

// Behind the scale. Of q5_0 the fifth bits come first, a word of them.
void writeCode(StorageFormat format, uint8_t *block, int64_t k, int code) {
  if (format == StorageFormat::Q8_0) {
    block[k] = static_cast<uint8_t>(code);
    return;
  }
  unsigned bits = static_cast<unsigned>(code + (format == StorageFormat::Q5_0 ? 16 : 8));
  if (format == StorageFormat::Q5_0) {
    block[k / 8] = static_cast<uint8_t>(block[k / 8] | (bits >> 4) << (k % 8));
    block += 4;
  }
  block[k % 16] = static_cast<uint8_t>(block[k % 16] | (bits & 15) << (k < 16 ? 0 : 4));
}

Expected<AssembledTensor> blocksOf(const Layer &layer, const std::string &name) {
  GIRIH_TRY(checkExtents(layer));
  AssembledTensor assembled;
  StoredTensor &tensor = assembled.tensor;
  tensor.name = name;
  tensor.shape = {layer.numRows, layer.depth};
  tensor.numElements = layer.numRows * layer.depth;
  tensor.format = formatOf(layer);
  GIRIH_ASSIGN(int64_t sizeBytes, storageBytes(tensor.format, tensor.numElements));
  assembled.bytes.resize(static_cast<size_t>(sizeBytes));
  uint8_t *out = assembled.bytes.data();
  for (int64_t row = 0; row < layer.numRows; ++row)
    for (int64_t first = 0; first < layer.depth;
         first += kBlock, out += formatRow(tensor.format).blockBytes) {
      float scale = layer.scale(row, first / layer.groupDepth());
      int zero = layer.zero ? layer.zero(row, first / layer.groupDepth()) : 0;
      uint16_t half = floatToHalf(scale);
      if (halfToFloat(half) != scale)
        return unimplemented(
            "has the scale " + std::to_string(scale) + " in row " + std::to_string(row) +
            ", which is no f16; such weights are not read, since rounding it would change them");
      std::memcpy(out, &half, sizeof(half));
      for (int64_t k = 0; k < kBlock; ++k) {
        int code = layer.code(row, first + k) - zero;
        if (code < -128 || code > 127)
          return unimplemented("has the code " + std::to_string(code) + " in row " + std::to_string(row) +
                               " when its zero point is taken off; 8 bits, -128 to 127, are read");
        writeCode(tensor.format, out + sizeof(half), k, code);
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

// Zeros of a layer in words of 32 / bits neighbouring rows, the lowest bits first, less the middle code: [rows, groups]
// of words, or [groups, rows]. `order`: where in its word the n-th row lies; `bias` is added to each.
Expected<Zeros> packedZeros(Parts &parts, const std::string &name, const Layer &layer, bool isRowMajor,
                            int bias = 0, const int *order = nullptr) {
  GIRIH_ASSIGN(const UnreadableTensor *words, parts.integers(name, "I32", 4));
  int64_t inWord = 32 / layer.bits, numWords = (layer.numRows + inWord - 1) / inWord,
          numGroups = layer.numGroups;
  if (words->shape.size() != 2 || words->shape[isRowMajor ? 0 : 1] != numWords ||
      words->shape[isRowMajor ? 1 : 0] != numGroups)
    return dataLoss("has zeros of " + shapeText(words->shape) + " for " + std::to_string(layer.numRows) +
                    " rows in " + std::to_string(numGroups) + " groups");
  return Zeros([=, bytes = words->bytes, bits = layer.bits](int64_t row, int64_t group) {
    int64_t word = row / inWord, place = order ? order[row % inWord] : row % inWord;
    uint32_t codes = wordAt(bytes, isRowMajor ? word * numGroups + group : group * numWords + word);
    return static_cast<int>(codes >> (place * bits) & ((1u << bits) - 1)) + bias - (1 << (bits - 1));
  });
}

// ---- compressed-tensors ----
// Words of 32 / bits codes of consecutive k, the lowest bits first; codes are unsigned, their zero in the middle.
Expected<Layer> packedLayer(Parts &parts, const std::string &module) {
  if (parts.has(module + ".weight_g_idx"))
    return unimplemented("has \".weight_g_idx\"; groups of consecutive k are read");
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
  if (!parts.has(module + ".weight_zero_point"))
    return layer;
  GIRIH_TRY(checkExtents(layer));
  GIRIH_ASSIGN(layer.zero, packedZeros(parts, module + ".weight_zero_point", layer, /*isRowMajor=*/true));
  return layer;
}

Expected<Layer> bytesLayer(Parts &parts, const std::string &module) {
  if (parts.has(module + ".weight_zero_point"))
    return unimplemented("has \".weight_zero_point\" beside codes of bytes; symmetric ones are read");
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

bool isSymmetric(const Layer &layer) {
  for (int64_t row = 0; row < layer.numRows; ++row)
    for (int64_t group = 0; group < layer.numGroups; ++group)
      if (layer.zero(row, group) != 0)
        return false;
  return true;
}

// ---- GPTQ ----
// Words of 32 / bits codes of consecutive k, a word of each column side by side; zeros likewise over columns, and in
// version 1 stored less one.
Expected<Layer> gptqLayer(Parts &parts, const std::string &module, int bits, int zeroBias) {
  GIRIH_ASSIGN(const UnreadableTensor *words, parts.integers(module + ".qweight", "I32", 4));
  int64_t inWord = 32 / bits;
  if (words->shape.size() != 2 || words->shape[0] > kMostExtent)
    return dataLoss("has codes of " + shapeText(words->shape) + "; a matrix is needed here");
  Layer layer;
  layer.bits = bits, layer.numRows = words->shape[1], layer.depth = words->shape[0] * inWord;
  GIRIH_ASSIGN(auto scales, parts.floats(module + ".scales"));
  GIRIH_TRY(scalesOf(std::move(scales), /*isGroupMajor=*/true, layer));
  GIRIH_TRY(checkExtents(layer));
  GIRIH_ASSIGN(layer.zero, packedZeros(parts, module + ".qzeros", layer, /*isRowMajor=*/false, zeroBias));
  if (isSymmetric(layer))
    layer.zero = nullptr;
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

// ---- AWQ ----
// Words of 8 codes of consecutive rows for each k, in an order of their own; zeros likewise for each group.
Expected<Layer> awqLayer(Parts &parts, const std::string &module) {
  static constexpr int kOrder[] = {0, 4, 1, 5, 2, 6, 3, 7}; // of row n: words hold rows 0 2 4 6 1 3 5 7
  GIRIH_ASSIGN(const UnreadableTensor *words, parts.integers(module + ".qweight", "I32", 4));
  if (words->shape.size() != 2 || words->shape[1] > kMostExtent)
    return dataLoss("has codes of " + shapeText(words->shape) + "; a matrix is needed here");
  Layer layer;
  layer.numRows = words->shape[1] * 8, layer.depth = words->shape[0];
  GIRIH_ASSIGN(auto scales, parts.floats(module + ".scales"));
  GIRIH_TRY(scalesOf(std::move(scales), /*isGroupMajor=*/true, layer));
  GIRIH_TRY(checkExtents(layer));
  GIRIH_ASSIGN(layer.zero, packedZeros(parts, module + ".qzeros", layer, /*isRowMajor=*/false, 0, kOrder));
  if (isSymmetric(layer))
    layer.zero = nullptr;
  layer.code = [bytes = words->bytes, wordsOfK = words->shape[1]](int64_t row, int64_t k) {
    uint32_t word = wordAt(bytes, k * wordsOfK + row / 8) >> (kOrder[row % 8] * 4);
    return static_cast<int>(word & 15) - 8;
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
  } else if (method == "awq") {
    auto bits = config->find("bits") ? config->find("bits")->asInteger() : Expected<int64_t>(notFound(""));
    std::string version = textOf(*config, "version");
    if (!bits.isOk() || *bits != 4 || (version != "gemm" && !version.empty()))
      return unimplemented("quantization_config: awq other than of 4 bits in version \"gemm\"; that is read");
    for (const std::string &module : parts.modulesWith(".qweight"))
      GIRIH_TRY(add(module, [&] { return awqLayer(parts, module); }));
  } else {
    return unimplemented("quantization_config has the method " + quoteName(method) +
                         "; compressed-tensors, gptq and awq are read");
  }
  parts.take();
  return weights;
}

} // namespace girih::weights
