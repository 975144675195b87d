// SPDX-License-Identifier: Apache-2.0
// Attention over the paged cache: for each query row the workgroup walks its keys, one an invocation or a texel of
// neighbours, then the values' elements likewise; the softmax is online, in f32.
#include "backends/vulkan/codegen/lower_dispatch.h"

#include "mlir/Dialect/Math/IR/Math.h"

using namespace mlir;
using namespace girih::dialect;

namespace girih::vulkan {
namespace {

constexpr int64_t kBlockTokens = 16;
constexpr int64_t kDefaultChunk = 128; // of positions that are weighed against one maximum
constexpr double kNothing = -1e30; // below every score, and finite: the difference of two is a number
// A part of a chunk: its largest score, the sum of its weights, then the weighted values (girih.attention_parts).
constexpr int64_t kPartLargest = 0, kPartSum = 16, kPartValues = 32;

// What the keys and values of one layer's cache are.
class CacheReader {
public:
  CacheReader(ShaderBuilder &k, const Cache &cache)
      : k(k), cache(cache), perWord(32 / int64_t(cache.type.getElement().getIntOrFloatBitWidth())) {}

  static bool canRead(const Cache &cache) {
    Type element = cache.type.getElement();
    return element.isF16() || element.isF32() || element.isInteger(8);
  }

  // In words: where the layer lies in a block of 16 positions.
  Value block(Value number) { return k.add(k.mul(number, cache.blockWords), cache.offset); }
  // Elements from the layer's begin.
  Value key(Value head, Value element, Value position) {
    return k.add(k.mul(k.add(k.mul(head, cache.type.getKeyDim()), element), kBlockTokens), position);
  }
  Value value(Value head, Value position, Value element) {
    int64_t keys = cache.type.getHeads() * cache.type.getKeyDim() * kBlockTokens,
            width = cache.type.getValueDim();
    return k.add(k.add(k.mul(k.add(k.mul(head, kBlockTokens), position), width), element), keys);
  }
  // Words from the layer's begin: what the codes of a key or value are multiplied by. Only where hasScales().
  bool hasScales() const { return cache.type.hasScales(); }
  Value scale(bool ofKeys, Value head, Value position) {
    int64_t begin = cache.type.scalesOffset() / 4 + (ofKeys ? 0 : cache.type.getHeads() * kBlockTokens);
    return k.add(k.add(k.mul(head, kBlockTokens), position), begin);
  }
  Value load(Value block, Value element) {
    Value word = k.load(cache.source, k.add(block, k.div(element, perWord)));
    return perWord == 1 ? k.asFloat(word) : partOf(word, k.rem(element, perWord));
  }
  Value loadScale(Value block, bool ofKeys, Value head, Value position) {
    return k.asFloat(k.load(cache.source, k.add(block, scale(ofKeys, head, position))));
  }
  // Elements of a texel, which is loaded at once: keys of as many neighbouring positions, or a value's elements.
  int64_t texelElements() const { return perWord * kTexelWords; }
  // Whether texels are what this shader loads, and those of values lie whole within a position. (Blocks are a multiple of 64
  // bytes; keys, and with them layers, begin at a multiple of 16 elements.)
  bool readsTexels() const {
    return ShaderBuilder::areTexels(cache.source) && cache.type.getValueDim() % texelElements() == 0;
  }
  // The texel from `element` on, a multiple of texelElements().
  SmallVector<Value> loadTexel(Value block, Value element) {
    Value word = k.add(block, k.div(element, perWord));
    SmallVector<Value> elements;
    for (Value one : k.loadTexel(cache.source, k.div(word, kTexelWords)))
      for (int64_t part = 0; part < perWord; ++part)
        elements.push_back(perWord == 1 ? k.asFloat(one) : partOf(one, k.c(part)));
    return elements;
  }
  // The scales of as many positions from `position` on, likewise.
  SmallVector<Value> loadScales(Value block, bool ofKeys, Value head, Value position) {
    SmallVector<Value> scales;
    for (int64_t first = 0; first < texelElements(); first += kTexelWords) {
      Value word = k.add(block, scale(ofKeys, head, k.add(position, first)));
      for (Value one : k.loadTexel(cache.source, k.div(word, kTexelWords)))
        scales.push_back(k.asFloat(one));
    }
    return scales;
  }
  void store(Value block, Value element, Value value) {
    Value word = k.add(block, k.div(element, perWord));
    if (perWord == 1)
      return k.store(kKvBinding, word, k.asWord(value));
    k.storePart(kKvBinding, word, k.rem(element, perWord), perWord, hasScales() ? value : k.asHalves(value));
  }
  void storeScale(Value block, bool ofKeys, Value head, Value position, Value value) {
    k.store(kKvBinding, k.add(block, scale(ofKeys, head, position)), k.asWord(value));
  }

private:
  // A half or a code, as f32.
  Value partOf(Value word, Value part) {
    return perWord == 2 ? k.halfOf(word, part) : k.toFloat(k.ofByte(k.shiftRight(word, k.mul(part, 8))));
  }

  ShaderBuilder &k;
  const Cache &cache;
  int64_t perWord; // elements
};

struct RowState {
  Value largest, sum;
  SmallVector<Value> values; // weighted, of the elements that this invocation has

  static RowState of(ValueRange all) { return {all[0], all[1], SmallVector<Value>(all.begin() + 2, all.end())}; }
  SmallVector<Value> all() const {
    SmallVector<Value> every{largest, sum};
    every.append(values);
    return every;
  }
};

// Of a row's keys so far and the chunk that follows them.
RowState joined(ShaderBuilder &k, const RowState &before, const RowState &next) {
  Value largest = k.maxf(before.largest, next.largest);
  Value old = k.exp(k.subf(before.largest, largest)), now = k.exp(k.subf(next.largest, largest));
  RowState both{largest, k.fma(before.sum, old, k.mulf(next.sum, now)), {}};
  for (auto [sum, added] : llvm::zip(before.values, next.values))
    both.values.push_back(k.fma(sum, old, k.mulf(added, now)));
  return both;
}

struct Scores {
  double scale;
  std::optional<double> cap;
};

// The softmax-weighted values of one row over positions [begin, end) of its sequence.
class RowWalk {
public:
  RowWalk(ShaderBuilder &k, const Cache &cache, const StepLayout &layout, Scores scores)
      : k(k), cache(cache), reader(k, cache), layout(layout), scores(scores),
        isWide(reader.readsTexels() && cache.type.getValueDim() % k.invocations == 0 &&
               reader.texelElements() % (cache.type.getValueDim() / k.invocations) == 0),
        weights(k.share(k.invocations * positionsEach())) {}

  // Neighbouring positions whose scores one invocation computes, and neighbouring elements (or, of single ones, those
  // apart by the number of invocations) whose sums it has.
  int64_t positionsEach() const { return isWide ? reader.texelElements() : 1; }

  RowState nothing() const {
    return {k.f(kNothing), k.f(0), SmallVector<Value>(size_t(elementsEach()), k.f(0))};
  }
  int64_t elementsEach() const { return int64_t(llvm::divideCeil(cache.type.getValueDim(), k.invocations)); }

  // `query` gives element d of the row.
  RowState run(const View &q, ValueRange row, Value sequence, Value head, Value begin, Value end) {
    Value table = k.add(k.mul(sequence, k.step(kTableStride)), layout.blockTables());
    int64_t positions = k.invocations * positionsEach();
    Value start = k.mul(k.div(begin, positions), positions);
    return RowState::of(k.loop(start, end, k.c(positions), nothing().all(), [&](Value first, ValueRange state) {
      return stretch(q, row, table, head, begin, end, first, state);
    }));
  }

  // What an invocation has of sums of values.
  Value elementOf(size_t part) {
    int64_t each = elementsEach();
    return isWide ? k.add(k.mul(k.invocation(), each), int64_t(part)) : k.add(k.invocation(), int64_t(part) * k.invocations);
  }

private:
  // The positions that all invocations take at a time, from `first` on.
  SmallVector<Value> stretch(const View &q, ValueRange row, Value table, Value head, Value begin, Value end,
                             Value first, ValueRange state) {
    auto addf = [&](Value x, Value y) { return k.addf(x, y); };
    auto maxf = [&](Value x, Value y) { return k.maxf(x, y); };
    Value mine = k.mul(k.invocation(), positionsEach());
    SmallVector<Value> isSeen, scored = scoresFrom(q, row, table, head, k.add(first, mine), end);
    SmallVector<Value> scales = scalesFrom(table, head, k.add(first, mine), end, /*ofKeys=*/false);
    Value largestOfMine, sumOfMine;
    for (auto [number, score] : llvm::enumerate(scored)) {
      Value position = k.add(k.add(first, mine), int64_t(number));
      isSeen.push_back(k.both(k.less(position, end), k.less(k.sub(begin, k.c(1)), position)));
      score = k.select(isSeen.back(), score, k.f(kNothing));
      largestOfMine = number == 0 ? score : k.maxf(largestOfMine, score);
    }
    Value largest = k.maxf(state[0], k.reduce(largestOfMine, maxf));
    for (auto [number, score] : llvm::enumerate(scored)) {
      Value weight = k.select(isSeen[number], k.exp(k.subf(score, largest)), k.f(0));
      // Values' scales are in the weights that multiply them, not in the sums. A slot that nobody wrote has none.
      Value stored = scales.empty() ? weight : k.select(isSeen[number], k.mulf(weight, scales[number]), k.f(0));
      k.store(kSharedMemory, k.add(k.add(mine, int64_t(number)), weights), k.asWord(stored));
      sumOfMine = number == 0 ? weight : k.addf(sumOfMine, weight);
    }
    Value sum = k.reduce(sumOfMine, addf);
    Value shrink = k.exp(k.subf(state[0], largest));
    SmallVector<Value> next{largest, k.fma(state[1], shrink, sum)};
    Value count = k.min(k.c(k.invocations * positionsEach()), k.sub(end, first));
    SmallVector<Value> shrunk;
    for (Value value : state.drop_front(2))
      shrunk.push_back(k.mulf(value, shrink));
    auto values = k.loop(k.c(0), count, k.c(1), shrunk, [&](Value number, ValueRange sums) {
      Value at = k.add(first, number);
      Value block = reader.block(k.step(k.add(table, k.div(at, kBlockTokens))));
      Value share = k.asFloat(k.load(kSharedMemory, k.add(number, weights)));
      SmallVector<Value> added, values = valuesOf(block, head, k.rem(at, kBlockTokens));
      for (auto [value, sum] : llvm::zip(values, sums))
        added.push_back(k.fma(share, value, sum));
      return added;
    });
    next.append(values.begin(), values.end());
    k.barrier(); // before the next stretch's weights
    return next;
  }

  // This invocation's elements of the value at a position. One that is not there reads the last one; it is never stored.
  SmallVector<Value> valuesOf(Value block, Value head, Value within) {
    int64_t each = elementsEach();
    SmallVector<Value> values;
    if (!isWide) {
      for (int64_t part = 0; part < each; ++part) {
        Value element = k.min(elementOf(size_t(part)), k.c(cache.type.getValueDim() - 1));
        values.push_back(reader.load(block, reader.value(head, within, element)));
      }
      return values;
    }
    // A texel has the elements of one invocation or of a few neighbours.
    int64_t sharers = reader.texelElements() / each;
    Value first = k.mul(k.div(k.invocation(), sharers), reader.texelElements());
    SmallVector<Value> texel = reader.loadTexel(block, reader.value(head, within, first));
    for (int64_t part = 0; part < each; ++part) {
      Value value = texel[size_t(part)];
      for (int64_t sharer = 1; sharer < sharers; ++sharer)
        value = k.select(k.isEqual(k.rem(k.invocation(), sharers), k.c(sharer)), texel[size_t(sharer * each + part)], value);
      values.push_back(value);
    }
    return values;
  }

  // Where the invocation's positions from `position` on lie; what lies beyond `end` is not asked for.
  struct Place {
    Value block, within;
  };
  Place placeFrom(Value table, Value position, Value end) {
    int64_t count = positionsEach();
    Value last = k.mul(k.div(k.sub(end, k.c(1)), count), count), clamped = k.min(position, last);
    return {reader.block(k.step(k.add(table, k.div(clamped, kBlockTokens)))), k.rem(clamped, kBlockTokens)};
  }

  // None where the cache has none.
  SmallVector<Value> scalesFrom(Value table, Value head, Value position, Value end, bool ofKeys) {
    if (!reader.hasScales())
      return {};
    Place place = placeFrom(table, position, end);
    if (isWide)
      return reader.loadScales(place.block, ofKeys, head, place.within);
    return {reader.loadScale(place.block, ofKeys, head, place.within)};
  }

  // Of the positions from `position` on that are this invocation's.
  SmallVector<Value> scoresFrom(const View &q, ValueRange row, Value table, Value head, Value position, Value end) {
    int64_t count = positionsEach(), step = isWide && readsQueryTexels(q) ? kTexelWords : 1;
    auto [block, within] = placeFrom(table, position, end);
    Value start = placeOf(k, q, SmallVector<Value>{row[0], row[1], k.c(0)});
    auto dots = k.loop(k.c(0), k.c(cache.type.getKeyDim()), k.c(step), SmallVector<Value>(size_t(count), k.f(0)),
                       [&, block = block, within = within](Value element, ValueRange carried) {
                         SmallVector<Value> sums(carried), queries = queriesFrom(q, k.add(start, element), step);
                         for (auto [number, query] : llvm::enumerate(queries)) {
                           Value key = reader.key(head, k.add(element, int64_t(number)), within);
                           SmallVector<Value> keys = isWide ? reader.loadTexel(block, key) : SmallVector<Value>{reader.load(block, key)};
                           for (auto [key, sum] : llvm::zip(keys, sums))
                             sum = k.fma(query, key, sum);
                         }
                         return sums;
                       });
    SmallVector<Value> scales = scalesFrom(table, head, position, end, /*ofKeys=*/true);
    for (auto [dot, scale] : llvm::zip(dots, scales))
      dot = k.mulf(dot, scale);
    return llvm::map_to_vector(dots, [&](Value dot) { return scoreOf(dot); });
  }

  bool readsQueryTexels(const View &q) const {
    return ShaderBuilder::areTexels(q.source) && q.divisor % kTexelWords == 0 && q.strides[0] % kTexelWords == 0 &&
           q.strides[1] % kTexelWords == 0 && q.strides[2] == 1 && cache.type.getKeyDim() % kTexelWords == 0;
  }

  SmallVector<Value> queriesFrom(const View &q, Value word, int64_t count) {
    if (count == 1)
      return {k.asFloat(k.load(q.source, word))};
    return llvm::map_to_vector(k.loadTexel(q.source, k.div(word, kTexelWords)), [&](Value one) { return k.asFloat(one); });
  }

  Value scoreOf(Value dot) {
    Value score = k.mulf(dot, k.f(scores.scale));
    if (!scores.cap)
      return score;
    return k.mulf(math::TanhOp::create(k.b, k.loc, k.mulf(score, k.f(1 / *scores.cap))), k.f(*scores.cap));
  }

  ShaderBuilder &k;
  const Cache &cache;
  CacheReader reader;
  const StepLayout &layout;
  Scores scores;
  bool isWide;     // keys and values come by texels
  int64_t weights; // words of shared memory
};

Scores scoresOf(FloatAttr scale, FloatAttr cap) {
  return {scale.getValueAsDouble(), cap ? std::optional(cap.getValueAsDouble()) : std::nullopt};
}

struct Seen {
  Value sequence, begin, end;
};

// Which positions of its sequence a token sees.
Seen seenBy(ShaderBuilder &k, const StepLayout &layout, Value token, std::optional<uint64_t> window) {
  Value position = k.step(k.add(token, layout.positions()));
  Value begin = window ? k.max(k.c(0), k.sub(position, k.c(int64_t(*window) - 1))) : k.c(0);
  return {k.step(k.add(token, layout.tokenSequences())), begin, k.add(position, 1)};
}

Value chunksEnd(ShaderBuilder &k, const Seen &seen, int64_t chunk) { return k.add(k.div(k.sub(seen.end, k.c(1)), chunk), 1); }

bool checkCache(KernelValues &values, const Cache &cache) {
  if (!CacheReader::canRead(cache))
    values.fail("a cache of " + Twine(cache.type.getElement().getIntOrFloatBitWidth()) + "-bit elements has no shader yet");
  return values.error.empty();
}

// Rows of keys or values as codes, each row by one invocation: its scale brings the largest to 127, and codes are the nearest
// integers, of two equally near ones the even: the low bits of a sum with 1.5 * 2^23 are that integer.
void appendCodes(ShaderBuilder &k, CacheReader &reader, const StepLayout &layout, Value firstToken, const View &from, bool isKey) {
  SmallVector<Value> rows{from.extents[0], from.extents[1]};
  k.forEach(product(k, rows), [&](Value number) {
    SmallVector<Value> at = positionOf(k, number, rows);
    auto element = [&](Value index) { return loadElement(k, from, SmallVector<Value>{at[0], at[1], index}); };
    auto largest = k.loop(k.c(0), from.extents[2], k.c(1), ValueRange(k.f(0)), [&](Value index, ValueRange most) {
      Value size = k.asFloat(k.bitAnd(k.asWord(element(index)), 0x7fffffff));
      return SmallVector<Value>{k.maxf(size, most[0])};
    });
    Value scale = k.mulf(largest[0], k.f(1.0 / 127));
    Value isZero = arith::CmpFOp::create(k.b, k.loc, arith::CmpFPredicate::OEQ, scale, k.f(0));
    Value inverse = k.select(isZero, k.f(0), k.divf(k.f(1), scale));
    Value slot = k.step(k.add(k.add(firstToken, at[0]), layout.kvSlots())), within = k.rem(slot, kBlockTokens);
    Value block = reader.block(k.div(slot, kBlockTokens));
    reader.storeScale(block, isKey, at[1], within, scale);
    k.loop(k.c(0), from.extents[2], k.c(1), [&](Value index) {
      Value code = k.asWord(k.fma(element(index), inverse, k.f(12582912)));
      reader.store(block, isKey ? reader.key(at[1], index, within) : reader.value(at[1], within, index), code);
    });
  });
}

} // namespace

void lowerKvAppend(ShaderBuilder &k, KernelValues &values, KvAppendOp op, const StepLayout &layout) {
  View key = values.view(op.getKey()), value = values.view(op.getValue());
  Cache cache = values.cache(op.getKv());
  Value first = op.getTokenOffset() ? values.scalar(op.getTokenOffset()) : k.c(0);
  if (!checkCache(values, cache))
    return;
  CacheReader reader(k, cache);
  if (reader.hasScales()) {
    appendCodes(k, reader, layout, first, key, /*isKey=*/true);
    return appendCodes(k, reader, layout, first, value, /*isKey=*/false);
  }
  auto append = [&](const View &from, bool isKey) {
    k.forEach(product(k, from.extents), [&](Value number) {
      SmallVector<Value> at = positionOf(k, number, from.extents);
      Value slot = k.step(k.add(k.add(first, at[0]), layout.kvSlots())), within = k.rem(slot, kBlockTokens);
      Value element = isKey ? reader.key(at[1], at[2], within) : reader.value(at[1], within, at[2]);
      reader.store(reader.block(k.div(slot, kBlockTokens)), element, loadElement(k, from, at));
    });
  };
  append(key, true);
  append(value, false);
}

void lowerAttention(ShaderBuilder &k, KernelValues &values, AttentionOp op, const StepLayout &layout) {
  if (!op.getKv())
    return values.fail("attention without a cache has no shader yet");
  View q = values.view(op.getQ()), out = values.view(op.getInit());
  Cache cache = values.cache(op.getKv());
  auto offsets = op.getOffsets();
  Value firstToken = offsets.empty() ? k.c(0) : values.scalar(offsets[0]);
  Value firstGroup = offsets.empty() ? k.c(0) : values.scalar(offsets[1]);
  if (!checkCache(values, cache))
    return;
  // The tile's heads are those of one kv head, or all of the model's.
  int64_t heads = cast<ShapedType>(op.getQ().getType()).getDimSize(1);
  int64_t headsPerGroup = offsets.empty() ? heads / cache.type.getHeads() : heads;
  RowWalk walk(k, cache, layout, scoresOf(op.getScaleAttr(), op.getSoftCapAttr()));
  int64_t chunk = int64_t(op.getChunk().value_or(kDefaultChunk));
  k.loop(k.c(0), k.mul(q.extents[0], heads), k.c(1), [&](Value number) {
    SmallVector<Value> row{k.div(number, heads), k.rem(number, heads)};
    Seen seen = seenBy(k, layout, k.add(firstToken, row[0]), op.getWindow());
    Value group = k.add(firstGroup, k.div(row[1], headsPerGroup));
    // Chunk by chunk, joined as parts are: so a token has the same bits in steps that are cut into parts.
    auto states = k.loop(k.div(seen.begin, chunk), chunksEnd(k, seen, chunk), k.c(1), walk.nothing().all(), [&](Value of, ValueRange carried) {
      RowState part = walk.run(q, row, seen.sequence, group, k.max(seen.begin, k.mul(of, chunk)),
                               k.min(seen.end, k.mul(k.add(of, 1), chunk)));
      return joined(k, RowState::of(carried), part).all();
    });
    RowState state = RowState::of(states);
    for (auto [part, sum] : llvm::enumerate(state.values)) {
      Value element = walk.elementOf(part);
      k.when(k.less(element, k.c(cache.type.getValueDim())), [&, sum = sum] {
        storeElement(k, out, SmallVector<Value>{row[0], row[1], element}, k.divf(sum, state.sum));
      });
    }
  });
}

void lowerAttentionParts(ShaderBuilder &k, KernelValues &values, AttentionPartsOp op,
                         const StepLayout &layout) {
  View q = values.view(op.getQ()), out = values.view(op.getInit());
  Cache cache = values.cache(op.getKv());
  auto offsets = op.getOffsets();
  if (offsets.size() != 3)
    return values.fail("parts of attention that are not cut into units have no shader yet");
  Value token = values.scalar(offsets[0]), group = values.scalar(offsets[1]),
        number = values.scalar(offsets[2]);
  if (!checkCache(values, cache))
    return;
  Seen seen = seenBy(k, layout, token, op.getWindow());
  int64_t chunk = int64_t(op.getChunk());
  Value begin = k.max(seen.begin, k.mul(number, chunk)),
        end = k.min(seen.end, k.mul(k.add(number, 1), chunk));
  RowWalk walk(k, cache, layout, scoresOf(op.getScaleAttr(), op.getSoftCapAttr()));
  k.loop(k.c(0), q.extents[1], k.c(1), [&](Value head) {
    SmallVector<Value> row{k.c(0), head};
    RowState state = walk.run(q, row, seen.sequence, group, begin, end);
    auto store = [&](Value element, Value value) {
      storeElement(k, out, SmallVector<Value>{row[0], row[1], k.c(0), element}, value);
    };
    Value isSeen = k.less(begin, end);
    k.when(k.both(isSeen, k.isEqual(k.invocation(), k.c(0))), [&] {
      store(k.c(kPartLargest), state.largest);
      store(k.c(kPartSum), state.sum);
    });
    for (auto [part, sum] : llvm::enumerate(state.values)) {
      Value element = walk.elementOf(part);
      k.when(k.both(isSeen, k.less(element, k.c(cache.type.getValueDim()))),
             [&, sum = sum] { store(k.add(element, kPartValues), sum); });
    }
  });
}

void lowerJoinParts(ShaderBuilder &k, KernelValues &values, JoinPartsOp op, const StepLayout &layout) {
  View parts = values.view(op.getParts()), out = values.view(op.getInit());
  Value first = op.getTokenOffset() ? values.scalar(op.getTokenOffset()) : k.c(0);
  int64_t chunk = int64_t(op.getChunk());
  k.forEach(product(k, out.extents), [&](Value number) {
    SmallVector<Value> at = positionOf(k, number, out.extents);
    Seen seen = seenBy(k, layout, k.add(first, at[0]), op.getWindow());
    auto part = [&](Value of, Value element) {
      return loadElement(k, parts, SmallVector<Value>{at[0], at[1], of, element});
    };
    SmallVector<Value> nothing{k.f(kNothing), k.f(0), k.f(0)};
    auto state = k.loop(k.div(seen.begin, chunk), chunksEnd(k, seen, chunk), k.c(1), nothing, [&](Value of, ValueRange state) {
      RowState next{part(of, k.c(kPartLargest)), part(of, k.c(kPartSum)), {part(of, k.add(at[2], kPartValues))}};
      return joined(k, RowState::of(state), next).all();
    });
    storeElement(k, out, at, k.divf(state[2], state[1]));
  });
}

} // namespace girih::vulkan
