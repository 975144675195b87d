// SPDX-License-Identifier: Apache-2.0
// Dialect girih: stored weights, products with them, attention with given keys or with a cache of the whole
// prefix.
#include "backends/reference/frame.h"
#include "backends/reference/scalar_ops.h"

#include "dialects/girih/activation_block.h"
#include "dialects/girih/dialect.h"

#include <cmath>
#include <cstring>

using namespace mlir;
using namespace girih::dialect;

namespace girih::reference {

Expected<Tensor> stackRows(const std::vector<Tensor> &parts, int64_t interleave) {
  std::vector<int64_t> shape = parts[0].shape();
  int64_t rowElements = shape[0] == 0 ? 0 : parts[0].numElements() / shape[0];
  int64_t mostRows = 0, numRows = 0;
  for (const Tensor &part : parts) {
    if (part.rank() != parts[0].rank() || part.numElements() != part.shape()[0] * rowElements)
      return invalidArgument("weights with rows of different lengths are stacked");
    mostRows = std::max(mostRows, part.shape()[0]);
    numRows += part.shape()[0];
  }
  int64_t runRows = interleave > 0 ? interleave : mostRows;
  std::vector<double> rows;
  for (int64_t first = 0; first < mostRows; first += runRows)
    for (const Tensor &part : parts) {
      int64_t last = std::min(first + runRows, part.shape()[0]);
      if (first < last)
        rows.insert(rows.end(), part.elements() + first * rowElements, part.elements() + last * rowElements);
    }
  shape[0] = numRows;
  return Tensor(std::move(shape), std::move(rows));
}

namespace {

// ---- Weights ----

Status evaluateWeight(Frame &frame, Operation &operation) {
  auto op = cast<WeightOp>(operation);
  GIRIH_ASSIGN(Tensor values, frame.shared.stackedWeights({op.getName().str()}, 0));
  llvm::ArrayRef<int64_t> shape = cast<RankedTensorType>(op.getType()).getShape();
  if (llvm::ArrayRef<int64_t>(values.shape()) != shape)
    return invalidArgument("weight \"" + op.getName().str() + "\" has another shape than its op");
  frame.set(op.getResult(), std::move(values));
  return {};
}

Status evaluateConcatRows(Frame &frame, Operation &operation) {
  auto op = cast<ConcatRowsOp>(operation);
  std::vector<Tensor> parts;
  for (Value part : op.getParts())
    parts.push_back(frame.tensor(part));
  GIRIH_ASSIGN(Tensor stacked, stackRows(parts, static_cast<int64_t>(op.getInterleave())));
  frame.set(op.getResult(), std::move(stacked));
  return {};
}

Status evaluateLayerWeight(Frame &frame, Operation &operation) {
  auto op = cast<LayerWeightOp>(operation);
  int64_t layer = frame.index(op.getLayer());
  if (layer < 0 || layer >= static_cast<int64_t>(op.getNames().size()))
    return invalidArgument("layer " + std::to_string(layer) + "; there are names for " +
                           std::to_string(op.getNames().size()));
  std::vector<std::string> names;
  for (Attribute name : cast<ArrayAttr>(op.getNames()[layer]))
    names.push_back(cast<StringAttr>(name).str());
  GIRIH_ASSIGN(Tensor stacked, frame.shared.stackedWeights(names, static_cast<int64_t>(op.getInterleave())));
  frame.set(op.getResult(), std::move(stacked));
  return {};
}

// A layout changes where values lie, not which they are.
Status evaluatePack(Frame &frame, Operation &op) {
  frame.set(op.getResult(0), frame[op.getOperand(0)]);
  return {};
}

// ---- Quantised rows ----

// Lane l with l + 8, then l + 4, l + 2, l + 1.
float sumOfSizes(const float *values) {
  float lanes[kActivationHalf];
  for (int64_t lane = 0; lane < kActivationHalf; ++lane)
    lanes[lane] = std::fabs(values[lane]) + std::fabs(values[lane + kActivationHalf]);
  for (int64_t half = kActivationHalf / 2; half >= 1; half /= 2)
    for (int64_t lane = 0; lane < half; ++lane)
      lanes[lane] += lanes[lane + half];
  return lanes[0];
}

float limitOfOneDigit(const float *values, float largest) {
  float sizes = sumOfSizes(values);
  bool isWorth = sizes * (kActivationWorth / kActivationDepth) < largest;
  return isWorth ? sizes * (kActivationReach / kActivationDepth) : largest;
}

// One block of activation_block.h; elements of the tensor are its bytes, signed.
void quantizeBlock(const double *elements, int64_t count, bool bothDigits, double *block) {
  int8_t bytes[kActivationBytes] = {};
  auto put = [&](int64_t offset, auto value) { std::memcpy(bytes + offset, &value, sizeof(value)); };
  float values[kActivationDepth] = {};
  std::copy_n(elements, count, values);
  float largest = 0;
  for (float value : values)
    largest = std::max(largest, std::fabs(value));
  float limit = bothDigits ? largest / kActivationShare : limitOfOneDigit(values, largest);
  bool isZero = !(largest >= kActivationLeast);
  float inverse = isZero ? 0 : 127 / limit, scale = isZero ? 0 : limit / 127;
  int32_t sums[3] = {}, outlierSums[3] = {}, quads = 0;
  for (int64_t k = 0; k < kActivationDepth; ++k) {
    int32_t both = static_cast<int32_t>(std::nearbyint(values[k] * inverse));
    int32_t outlier = static_cast<int32_t>(std::nearbyint(double(both) / kActivationBase));
    int32_t code = both - outlier * int32_t(kActivationBase);
    bytes[kActivationCodes + k] = static_cast<int8_t>(code);
    bytes[kActivationOutlierCodes + k] = static_cast<int8_t>(outlier);
    quads |= outlier != 0 ? 1 << k / kActivationQuad : 0;
    for (int64_t number : {int64_t(0), 1 + k / kActivationHalf}) {
      sums[number] += code;
      outlierSums[number] += outlier;
    }
  }
  put(kActivationScale, scale);
  put(kActivationOutlierScale, scale * kActivationBase);
  put(kActivationOutliers, quads);
  for (int64_t number = 0; number < 3; ++number) {
    put(kActivationScaledSums + number * 4, scale * float(sums[number] + int32_t(kActivationBase) * outlierSums[number]));
    put(kActivationMinusSums + number * 4, -sums[number]);
    put(kActivationMinusOutliers + number * 4, -outlierSums[number]);
  }
  std::copy_n(bytes, kActivationBytes, block);
}

Status evaluateQuantizeRows(Frame &frame, Operation &operation) {
  auto op = cast<QuantizeRowsOp>(operation);
  const Tensor &x = frame.tensor(op.getX());
  int64_t numRows = x.shape()[0], depth = x.shape()[1], rowBytes = cast<ShapedType>(op.getInit().getType()).getDimSize(1);
  Tensor out({numRows, rowBytes});
  double *blocks = out.mutableElements();
  for (int64_t row = 0; row < numRows; ++row)
    for (int64_t k = 0; k < depth; k += kActivationDepth)
      quantizeBlock(x.elements() + row * depth + k, std::min(kActivationDepth, depth - k), op.getBothDigits(),
                    blocks + row * rowBytes + k / kActivationDepth * kActivationBytes);
  frame.set(op.getResult(), std::move(out));
  return {};
}

// The values that the blocks of `x` stand for, [T, K].
Tensor dequantizedRows(const Tensor &x, int64_t depth) {
  int64_t numRows = x.shape()[0], rowBytes = x.shape()[1];
  Tensor out({numRows, depth});
  double *values = out.mutableElements();
  for (int64_t row = 0; row < numRows; ++row)
    for (int64_t k = 0; k < depth; ++k) {
      const double *block = x.elements() + row * rowBytes + k / kActivationDepth * kActivationBytes;
      int8_t bytes[4];
      std::copy_n(block + kActivationScale, 4, bytes);
      float scale;
      std::memcpy(&scale, bytes, sizeof(scale));
      int64_t at = k % kActivationDepth;
      values[row * depth + k] = double(scale) * (block[kActivationCodes + at] + kActivationBase * block[kActivationOutlierCodes + at]);
    }
  return out;
}

Status evaluateQMatmul(Frame &frame, Operation &operation) {
  auto op = cast<QMatmulOp>(operation);
  const Tensor &w = frame.tensor(op.getW());
  bool isQuantized = getElementTypeOrSelf(op.getX().getType()).isInteger(8);
  Tensor x = isQuantized ? dequantizedRows(frame.tensor(op.getX()), w.shape()[1]) : frame.tensor(op.getX());
  Tensor out = frame.tensor(op.getInit());
  int64_t firstColumn = op.getColumnOffset() ? frame.index(op.getColumnOffset()) : 0;
  int64_t numRows = out.shape()[0], numColumns = out.shape()[1], depth = x.shape()[1];
  if (x.shape()[0] != numRows || w.shape()[1] != depth || firstColumn < 0 ||
      firstColumn + numColumns > w.shape()[0])
    return invalidArgument("x, w and out have extents that do not fit");
  double *result = out.mutableElements();
  for (int64_t column = 0; column < numColumns; ++column) {
    const double *weights = w.elements() + (firstColumn + column) * depth;
    for (int64_t row = 0; row < numRows; ++row) {
      const double *values = x.elements() + row * depth;
      double sum = 0;
      for (int64_t k = 0; k < depth; ++k)
        sum += values[k] * weights[k];
      result[row * numColumns + column] = sum;
    }
  }
  frame.set(op.getResult(), std::move(out));
  return {};
}

Status evaluateGatherRows(Frame &frame, Operation &operation) {
  auto op = cast<GatherRowsOp>(operation);
  const Tensor &indices = frame.tensor(op.getIndices()), &source = frame.tensor(op.getSource());
  int64_t depth = source.shape()[1];
  Tensor out({indices.numElements(), depth});
  double *result = out.mutableElements();
  for (int64_t i = 0; i < indices.numElements(); ++i) {
    auto row = static_cast<int64_t>(indices.elements()[i]);
    if (row < 0 || row >= source.shape()[0])
      return invalidArgument("row " + std::to_string(row) + "; the source has " +
                             std::to_string(source.shape()[0]));
    std::copy_n(source.elements() + row * depth, depth, result + i * depth);
  }
  frame.set(op.getResult(), std::move(out));
  return {};
}

// ---- Attention ----

struct Scoring {
  double scale;
  double softCap; // 0: none
  int64_t window; // 0: none
};

// The weights of the positions from `first` on that one query [D] at `position` gives them, relative to the largest
// score.
struct Weighted {
  int64_t first = 0;
  double highest = -INFINITY, sum = 0;
  std::vector<double> weights;
};

// Over keys [T, G, D] of kv head `group`, those of [begin, end) that the query sees.
Weighted weigh(const double *query, int64_t position, int64_t group, const Tensor &keys, const Scoring &scoring,
               int64_t begin, int64_t end) {
  int64_t numGroups = keys.shape()[1], depth = keys.shape()[2];
  Weighted result;
  result.first = std::max(begin, scoring.window > 0 ? position - scoring.window + 1 : 0);
  int64_t last = std::min({position, keys.shape()[0] - 1, end - 1});
  for (int64_t u = result.first; u <= last; ++u) {
    const double *key = keys.elements() + (u * numGroups + group) * depth;
    double score = 0;
    for (int64_t d = 0; d < depth; ++d)
      score += query[d] * key[d];
    score *= scoring.scale;
    if (scoring.softCap != 0)
      score = scoring.softCap * std::tanh(score / scoring.softCap);
    result.weights.push_back(score);
    result.highest = std::max(result.highest, score);
  }
  for (double &score : result.weights)
    result.sum += score = std::exp(score - result.highest);
  return result;
}

// out [Dv] = sum of weights / divisor * values [T, G, Dv]; divided first, as the textbook does.
void sumValues(const Weighted &weighted, double divisor, int64_t group, const Tensor &values, double *out) {
  int64_t numGroups = values.shape()[1], valueDepth = values.shape()[2];
  std::fill_n(out, valueDepth, 0.0);
  for (size_t i = 0; i < weighted.weights.size(); ++i) {
    const double *value = values.elements() + ((weighted.first + int64_t(i)) * numGroups + group) * valueDepth;
    for (int64_t d = 0; d < valueDepth; ++d)
      out[d] += weighted.weights[i] / divisor * value[d];
  }
}

// H / G. A tile holds the queries of some kv heads only; the tensor it was sliced from shows H.
Expected<int64_t> headsPerGroupOf(Value whole, bool isTile, int64_t numHeads, int64_t numGroups) {
  if (isTile)
    while (auto slice = whole.getDefiningOp<tensor::ExtractSliceOp>())
      whole = slice.getSource();
  int64_t allHeads = cast<ShapedType>(whole.getType()).getDimSize(1);
  if (ShapedType::isDynamic(allHeads))
    allHeads = numHeads;
  if (numGroups < 1 || allHeads % numGroups != 0)
    return invalidArgument(std::to_string(allHeads) + " heads share " + std::to_string(numGroups) +
                           " kv heads");
  return allHeads / numGroups;
}

Status evaluateAttention(Frame &frame, Operation &operation) {
  auto op = cast<AttentionOp>(operation);
  const Tensor &q = frame.tensor(op.getQ());
  Tensor keys, values;
  if (op.getKv()) {
    const auto &state = std::get<KvState>(frame[op.getKv()]);
    keys = state.rows->keys;
    values = state.rows->values;
    if (keys.rank() != 3)
      return invalidArgument("nothing was appended to the cache yet");
  } else {
    keys = frame.tensor(op.getKey());
    values = frame.tensor(op.getValue());
  }
  Scoring scoring{op.getScale().convertToDouble(), 0, 0};
  if (auto cap = op.getSoftCap())
    scoring.softCap = cap->convertToDouble();
  if (auto window = op.getWindow())
    scoring.window = static_cast<int64_t>(*window);

  // A tile starts at a token of the step and at a kv head; the heads per kv head are then the tile's, too.
  int64_t firstToken = op.getOffsets().empty() ? 0 : frame.index(op.getOffsets()[0]);
  int64_t firstGroup = op.getOffsets().size() < 2 ? 0 : frame.index(op.getOffsets()[1]);
  int64_t numTokens = q.shape()[0], numHeads = q.shape()[1], depth = q.shape()[2];
  Tensor out = frame.tensor(op.getInit());
  GIRIH_ASSIGN(int64_t headsPerGroup, headsPerGroupOf(op.getQ(), !op.getOffsets().empty(), numHeads, keys.shape()[1]));
  int64_t valueDepth = values.shape()[2];
  if (out.shape() != std::vector<int64_t>{numTokens, numHeads, valueDepth})
    return invalidArgument("the result's extents do not fit those of queries and values");
  double *result = out.mutableElements();
  for (int64_t token = 0; token < numTokens; ++token)
    for (int64_t head = 0; head < numHeads; ++head) {
      int64_t row = token * numHeads + head;
      int64_t position = firstToken + token, group = firstGroup + head / headsPerGroup;
      Weighted weighted = weigh(q.elements() + row * depth, position, group, keys, scoring, 0, position + 1);
      sumValues(weighted, weighted.sum, group, values, result + row * valueDepth);
    }
  frame.set(op.getResult(), std::move(out));
  return {};
}

// Element numbers of a part's maximum, first partial sum and first value.
constexpr int64_t kPartMaximum = 0, kPartSums = 16, kPartValues = 32;

Status evaluateAttentionParts(Frame &frame, Operation &operation) {
  auto op = cast<AttentionPartsOp>(operation);
  const Tensor &q = frame.tensor(op.getQ());
  const auto &state = std::get<KvState>(frame[op.getKv()]);
  const Tensor &keys = state.rows->keys, &values = state.rows->values;
  if (keys.rank() != 3)
    return invalidArgument("nothing was appended to the cache yet");
  Scoring scoring{op.getScale().convertToDouble(), 0, 0};
  if (auto cap = op.getSoftCap())
    scoring.softCap = cap->convertToDouble();
  if (auto window = op.getWindow())
    scoring.window = static_cast<int64_t>(*window);
  auto offset = [&](size_t index) { return op.getOffsets().empty() ? 0 : frame.index(op.getOffsets()[index]); };
  int64_t numTokens = q.shape()[0], numHeads = q.shape()[1], chunk = static_cast<int64_t>(op.getChunk());
  GIRIH_ASSIGN(int64_t headsPerGroup,
               headsPerGroupOf(op.getQ(), !op.getOffsets().empty(), numHeads, keys.shape()[1]));
  Tensor out = frame.tensor(op.getInit());
  int64_t numChunks = out.shape()[2], width = out.shape()[3];
  for (int64_t row = 0; row < numTokens * numHeads; ++row)
    for (int64_t number = 0; number < numChunks; ++number) {
      int64_t begin = (offset(2) + number) * chunk;
      int64_t group = offset(1) + row % numHeads / headsPerGroup;
      Weighted weighted = weigh(q.elements() + row * q.shape()[2], offset(0) + row / numHeads, group, keys, scoring,
                                begin, begin + chunk);
      if (weighted.weights.empty())
        continue;
      double *target = out.mutableElements() + (row * numChunks + number) * width;
      std::fill_n(target, width, 0.0);
      target[kPartMaximum] = weighted.highest;
      target[kPartSums] = weighted.sum;
      sumValues(weighted, 1, group, values, target + kPartValues);
    }
  frame.set(op.getResult(), std::move(out));
  return {};
}

Status evaluateJoinParts(Frame &frame, Operation &operation) {
  auto op = cast<JoinPartsOp>(operation);
  const Tensor &parts = frame.tensor(op.getParts());
  Tensor out = frame.tensor(op.getInit());
  int64_t firstToken = op.getTokenOffset() ? frame.index(op.getTokenOffset()) : 0;
  int64_t numHeads = out.shape()[1], valueDepth = out.shape()[2], numChunks = parts.shape()[2], width = parts.shape()[3];
  for (int64_t row = 0; row < out.shape()[0] * numHeads; ++row) {
    int64_t position = firstToken + row / numHeads, chunk = static_cast<int64_t>(op.getChunk());
    int64_t begin = op.getWindow() ? std::max<int64_t>(0, position - static_cast<int64_t>(*op.getWindow()) + 1) : 0;
    double highest = -INFINITY, sum = 0;
    std::vector<double> values(valueDepth);
    for (int64_t number = begin / chunk; number <= std::min(position / chunk, numChunks - 1); ++number) {
      const double *part = parts.elements() + (row * numChunks + number) * width;
      double both = std::max(highest, part[kPartMaximum]);
      double old = std::exp(highest - both), added = std::exp(part[kPartMaximum] - both);
      highest = both;
      sum *= old;
      for (int64_t lane = kPartSums; lane < kPartValues; ++lane)
        sum += added * part[lane];
      for (int64_t d = 0; d < valueDepth; ++d)
        values[d] = values[d] * old + added * part[kPartValues + d];
    }
    for (int64_t d = 0; d < valueDepth; ++d)
      out.mutableElements()[row * valueDepth + d] = values[d] / sum;
  }
  frame.set(op.getResult(), std::move(out));
  return {};
}

// The one sequence has as many positions as tokens, which no name tells here; chunks beyond it give nothing.
Status evaluateStepExtent(Frame &frame, Operation &operation) {
  auto op = cast<StepExtentOp>(operation);
  if (op.getName() != "longest_context")
    return invalidArgument("\"" + op.getName().str() + "\" is an extent that only a running step has");
  frame.set(op.getResult(), static_cast<double>(int64_t(1) << 31));
  return {};
}

// ---- The cache ----

Status evaluateKvLayer(Frame &frame, Operation &operation) {
  auto op = cast<KvLayerOp>(operation);
  int64_t step = op.getIndex() ? frame.index(op.getIndex()) * static_cast<int64_t>(op.getStride()) : 0;
  frame.set(op.getResult(), frame.shared.caches[static_cast<int64_t>(op.getLayer()) + step]);
  return {};
}

// One key or value [D]: to f16, or to codes of 8 bits times a scale of its own.
void roundToCache(Type element, double *values, int64_t count) {
  if (element.isF16())
    std::transform(values, values + count, values, roundToF16);
  if (!element.isInteger(8))
    return;
  double largest = 0;
  for (int64_t i = 0; i < count; ++i)
    largest = std::max(largest, std::abs(values[i]));
  auto scale = static_cast<float>(largest / 127);
  for (int64_t i = 0; i < count && scale > 0; ++i)
    values[i] = std::nearbyint(values[i] / scale) * scale;
}

// `part` [T', ...] is written to `whole` [T, ...] at `firstToken`; the cache grows as far as that.
Tensor appended(const Tensor &whole, const Tensor &part, int64_t firstToken, Type element) {
  int64_t row = part.shape()[1] * part.shape()[2];
  int64_t numTokens = std::max(firstToken + part.shape()[0], whole.rank() == 3 ? whole.shape()[0] : 0);
  Tensor result({numTokens, part.shape()[1], part.shape()[2]}, NAN);
  double *out = result.mutableElements();
  if (whole.rank() == 3)
    std::copy_n(whole.elements(), whole.numElements(), out);
  for (int64_t i = 0; i < part.numElements(); ++i)
    out[firstToken * row + i] = part.elements()[i];
  for (int64_t i = 0; i < part.numElements(); i += part.shape()[2])
    roundToCache(element, out + firstToken * row + i, part.shape()[2]);
  return result;
}

Status evaluateKvAppend(Frame &frame, Operation &operation) {
  auto op = cast<KvAppendOp>(operation);
  auto state = std::get<KvState>(frame[op.getKv()]);
  Type element = cast<KvType>(op.getKv().getType()).getElement();
  int64_t firstToken = op.getTokenOffset() ? frame.index(op.getTokenOffset()) : 0;
  KvState::Rows &rows = *state.rows;
  rows.keys = appended(rows.keys, frame.tensor(op.getKey()), firstToken, element);
  rows.values = appended(rows.values, frame.tensor(op.getValue()), firstToken, element);
  frame.set(op.getResult(), std::move(state));
  return {};
}

struct Row {
  const char *name;
  Handler handler;
};

constexpr Row kRows[] = {
    {"girih.attention", evaluateAttention},
    {"girih.attention_parts", evaluateAttentionParts},
    {"girih.concat_rows", evaluateConcatRows},
    {"girih.gather_rows", evaluateGatherRows},
    {"girih.join_parts", evaluateJoinParts},
    {"girih.kv_append", evaluateKvAppend},
    {"girih.kv_layer", evaluateKvLayer},
    {"girih.layer_weight", evaluateLayerWeight},
    {"girih.pack", evaluatePack},
    {"girih.qmatmul", evaluateQMatmul},
    {"girih.quantize_rows", evaluateQuantizeRows},
    {"girih.step_extent", evaluateStepExtent},
    {"girih.weight", evaluateWeight},
};

} // namespace

Handler findGirihHandler(llvm::StringRef opName) {
  for (const Row &row : kRows)
    if (opName == row.name)
      return row.handler;
  return nullptr;
}

} // namespace girih::reference
