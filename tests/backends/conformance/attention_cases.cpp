// SPDX-License-Identifier: Apache-2.0
// Level "fused", the operations whose tokens have a place: rope, appending to the paged cache, attention over it. Several
// sequences share a step, each in blocks that lie apart and out of order; what no token may see is large.
#include "tests/backends/conformance/matrices.h"

#include "runtime/base/element_type.h"

#include <algorithm>
#include <cmath>

namespace girih::conformance {
namespace {

constexpr int64_t kBlockTokens = GIRIH_KV_BLOCK_TOKENS;
constexpr float kUnseen = 1000.0f; // in every slot that no token sees: it would outweigh all others

// `past` positions are in the cache, `now` tokens are new.
struct Sequence {
  int64_t past, now;
};

// The step's arrays. Blocks are handed out from the last to the first.
struct Step {
  std::vector<int32_t> positions, tokenSequences, kvSlots, starts = {0}, lengths, blockTables;
  int64_t stride = 0, numBlocks = 0;

  explicit Step(const std::vector<Sequence> &sequences) {
    for (const Sequence &one : sequences) {
      int64_t blocks = (one.past + one.now + kBlockTokens - 1) / kBlockTokens;
      stride = std::max(stride, blocks);
      numBlocks += blocks;
    }
    auto next = static_cast<int32_t>(numBlocks);
    for (const Sequence &one : sequences) {
      auto number = static_cast<int32_t>(lengths.size());
      blockTables.resize(blockTables.size() + static_cast<size_t>(stride));
      lengths.push_back(static_cast<int32_t>(one.past + one.now));
      for (int64_t at = 0; at < one.past + one.now; at += kBlockTokens)
        blockTables[static_cast<size_t>(number * stride + at / kBlockTokens)] = --next;
      for (int64_t at = one.past; at < one.past + one.now; ++at) {
        positions.push_back(static_cast<int32_t>(at));
        tokenSequences.push_back(number);
        kvSlots.push_back(static_cast<int32_t>(slotOf(number, at)));
      }
      starts.push_back(static_cast<int32_t>(positions.size()));
    }
  }
  int64_t numTokens() const { return static_cast<int64_t>(positions.size()); }
  int64_t slotOf(int64_t sequence, int64_t position) const {
    return blockTables[static_cast<size_t>(sequence * stride + position / kBlockTokens)] * kBlockTokens + position % kBlockTokens;
  }
  // The bench points into this step, which outlives its runs.
  void feed(GraphBench &bench) const {
    bench.tokens.num_sequences = static_cast<int64_t>(lengths.size());
    bench.tokens.tokens = bench.tokens.logit_rows = positions.data(); // any numbers: no operation reads them
    bench.tokens.positions = positions.data();
    bench.tokens.token_sequences = tokenSequences.data();
    bench.tokens.kv_slots = kvSlots.data();
    bench.tokens.sequence_starts = starts.data();
    bench.tokens.context_lengths = lengths.data();
    bench.tokens.block_tables = blockTables.data();
    bench.tokens.block_table_stride = stride;
  }
};

// Blocks of 16 positions: K [G, D, 16], then V [G, 16, E].
struct Cache {
  int64_t groups, keyDim, valueDim;
  bool isHalf = false;

  int64_t elementBytes() const { return isHalf ? 2 : 4; }
  int64_t blockBytes() const {
    return (kBlockTokens * groups * (keyDim + valueDim) * elementBytes() + 63) / 64 * 64;
  }
  uint64_t bytesOf(int64_t numBlocks) const { return static_cast<uint64_t>(numBlocks * blockBytes()); }
  std::string type() const { return isHalf ? "kv:f16" : "kv:f32"; }
  std::string extents() const {
    return std::to_string(groups) + "x" + std::to_string(keyDim) + "x" + std::to_string(valueDim);
  }
  // What it keeps of a value.
  float kept(float value) const { return isHalf ? halfToFloat(floatToHalf(value)) : value; }
  void put(std::vector<uint8_t> &bytes, int64_t slot, bool isKey, int64_t group, int64_t at, float value) const {
    int64_t within = slot % kBlockTokens;
    int64_t element = isKey ? (group * keyDim + at) * kBlockTokens + within
                            : (groups * keyDim + group * valueDim) * kBlockTokens + within * valueDim + at;
    uint8_t *to = &bytes[static_cast<size_t>(slot / kBlockTokens * blockBytes() + element * elementBytes())];
    uint16_t half = floatToHalf(value);
    std::memcpy(to, isHalf ? static_cast<const void *>(&half) : &value, static_cast<size_t>(elementBytes()));
  }
};

std::string headsOf(int64_t heads, int64_t width) { return "Tx" + std::to_string(heads) + "x" + std::to_string(width); }

struct Attention {
  int64_t heads;
  Cache cache;
  int64_t window = 0; // 0: none
  double cap = 0;     // 0: none
  float largeness = 1;

  static constexpr double kScale = 0.125;
  std::string statement() const {
    std::string text = "attention q c y scale=" + std::to_string(kScale);
    text += window > 0 ? " window=" + std::to_string(window) : "";
    return text + (cap > 0 ? " cap=" + std::to_string(cap) : "");
  }
  std::string text() const {
    return "`" + statement() + "` of " + std::to_string(heads) + " heads over a " + cache.type() + " of " + cache.extents();
  }
};

// Keys and values of every position of every sequence: [G, D] and [G, E] each.
struct Contents {
  std::vector<std::vector<float>> keys, values;
};

Contents fill(const Attention &of, const Step &step, std::vector<uint8_t> &bytes) {
  const Cache &cache = of.cache;
  Contents made;
  bytes.assign(cache.bytesOf(step.numBlocks), 0);
  for (int64_t slot = 0; slot < step.numBlocks * kBlockTokens; ++slot)
    for (int64_t group = 0; group < cache.groups; ++group)
      for (bool isKey : {true, false})
        for (int64_t at = 0; at < (isKey ? cache.keyDim : cache.valueDim); ++at)
          cache.put(bytes, slot, isKey, group, at, kUnseen);
  for (size_t sequence = 0; sequence < step.lengths.size(); ++sequence)
    for (bool isKey : {true, false}) {
      int64_t width = isKey ? cache.keyDim : cache.valueDim, each = cache.groups * width;
      auto all = normals(static_cast<size_t>(step.lengths[sequence] * each), static_cast<uint32_t>(20 + 2 * sequence + isKey));
      for (size_t at = 0; at < all.size(); ++at) {
        auto position = static_cast<int64_t>(at) / each, within = static_cast<int64_t>(at) % each;
        all[at] = cache.kept(all[at]);
        cache.put(bytes, step.slotOf(static_cast<int64_t>(sequence), position), isKey, within / width, within % width, all[at]);
      }
      (isKey ? made.keys : made.values).push_back(std::move(all));
    }
  return made;
}

// One row of one head in f64, and how far the declared types may be from it. Scores are off by their sum's error, which the
// weights' exponents take as it is; the sum over positions and the joining of chunks, of at least 64 positions, round too.
std::vector<Judged> rowOf(const Attention &of, const CompiledGraph &graph, const float *q, const std::vector<float> &keys,
                          const std::vector<float> &values, int64_t group, int64_t begin, int64_t end) {
  const Cache &cache = of.cache;
  std::vector<double> scores;
  double scoreError = 0, most = -HUGE_VAL, sum = 0, spread = 0;
  for (int64_t u = begin; u < end; ++u) {
    double score = 0, magnitude = 0;
    for (int64_t d = 0; d < cache.keyDim; ++d) {
      double term = static_cast<double>(q[d]) * static_cast<double>(keys[static_cast<size_t>((u * cache.groups + group) * cache.keyDim + d)]);
      score += term * Attention::kScale;
      magnitude += std::fabs(term) * Attention::kScale;
    }
    scoreError = std::max(scoreError, (sumError(graph, cache.keyDim) + 2 * kUnit) * magnitude);
    if (of.cap > 0) {
      score = of.cap * std::tanh(score / of.cap);
      scoreError = std::max(scoreError, scoreError + (kFunctionError + 2 * kUnit) * of.cap);
    }
    scores.push_back(score);
    most = std::max(most, score);
  }
  for (double &score : scores) {
    double distance = most - score;
    score = std::exp(-distance);
    sum += score;
    spread += score * distance;
  }
  int64_t count = end - begin, numChunks = count / 64 + 2;
  double common = std::expm1(2 * scoreError) + 2 * sumError(graph, count + 4 * numChunks) + 2 * kFunctionError * (1.0 + numChunks) +
                  2 * kUnit * spread / sum;
  std::vector<Judged> row(static_cast<size_t>(cache.valueDim), {0, 1e-30});
  for (int64_t u = begin; u < end; ++u) {
    double weight = scores[static_cast<size_t>(u - begin)] / sum, distance = -std::log(std::max(weight * sum, 1e-300));
    for (int64_t e = 0; e < cache.valueDim; ++e) {
      double term = weight * static_cast<double>(values[static_cast<size_t>((u * cache.groups + group) * cache.valueDim + e)]);
      Judged &judged = row[static_cast<size_t>(e)];
      judged.expected += term;
      judged.bound += std::fabs(term) * (common + 2 * kUnit * distance);
    }
  }
  return row;
}

const std::vector<Sequence> kSequences = {{0, 5}, {37, 2}, {100, 20}, {140, 1}};

Finding judgeAttention(const Subject &subject, const Attention &of) {
  const Step step(kSequences);
  std::vector<uint8_t> cacheBytes;
  Contents contents = fill(of, step, cacheBytes);
  const Cache &cache = of.cache;
  std::string body = entryOf("e", {{"q", "weights", "f32", headsOf(of.heads, cache.keyDim)},
                                   {"c", "kv_pool", cache.type(), cache.extents()},
                                   {"y", "arena", "f32", headsOf(of.heads, cache.valueDim)}}, of.statement());
  BENCH(bench, body, {"e"}, 2, (std::max<uint64_t>(cacheBytes.size(), 1 << 16) + 4096) / 64 * 64);
  step.feed(bench);
  std::vector<float> q = normals(static_cast<size_t>(step.numTokens() * of.heads * cache.keyDim), 19);
  for (float &value : q)
    value *= of.largeness;
  RESULTS(got, float, bench, 0, bytesOf(q), cacheBytes, static_cast<size_t>(step.numTokens() * of.heads * cache.valueDim), step.numTokens());
  std::vector<Judged> wanted;
  for (int64_t token = 0; token < step.numTokens(); ++token)
    for (int64_t head = 0; head < of.heads; ++head) {
      auto sequence = static_cast<size_t>(step.tokenSequences[static_cast<size_t>(token)]);
      int64_t end = step.positions[static_cast<size_t>(token)] + 1, begin = of.window > 0 ? std::max<int64_t>(0, end - of.window) : 0;
      auto row = rowOf(of, bench.graph, &q[static_cast<size_t>((token * of.heads + head) * cache.keyDim)], contents.keys[sequence],
                       contents.values[sequence], head / (of.heads / cache.groups), begin, end);
      wanted.insert(wanted.end(), row.begin(), row.end());
    }
  std::string difference = judge(got, wanted);
  return difference.empty() ? pass() : fail(of.text() + ": " + difference);
}

Finding judgeEach(const Subject &subject, const std::vector<Attention> &all) {
  for (const Attention &one : all)
    if (Finding finding = judgeAttention(subject, one); finding.outcome != Outcome::Pass)
      return finding;
  return pass();
}

Finding attendsGroupedHeads(const Subject &subject) {
  return judgeEach(subject, {{4, {4, 16, 16}}, {9, {3, 64, 64}}, {5, {1, 16, 32}}});
}
Finding attendsHalfPrecisionCaches(const Subject &subject) { return judgeAttention(subject, {6, {2, 32, 32, true}}); }
// One that hides all but the token itself, some that hide whole blocks, and one that no sequence fills.
Finding attendsWindows(const Subject &subject) {
  std::vector<Attention> all;
  for (int64_t window : {1, 7, 64, 1000})
    all.push_back({6, {2, 16, 16}, window});
  return judgeEach(subject, all);
}
Finding attendsCappedScores(const Subject &subject) {
  return judgeEach(subject, {{6, {2, 16, 16}, 0, 5.0, 8.0f}, {6, {2, 16, 16}, 9, 50.0, 8.0f}});
}
Finding attendsLargeScores(const Subject &subject) { return judgeAttention(subject, {6, {2, 16, 16}, 0, 0, 300.0f}); }

Finding judgeAppend(const Subject &subject, const Cache &cache) {
  const Step step(kSequences);
  auto count = [&](int64_t width) { return static_cast<size_t>(step.numTokens() * cache.groups * width); };
  std::vector<float> keys = normals(count(cache.keyDim), 31), values = normals(count(cache.valueDim), 32);
  std::vector<uint8_t> operands = bytesOf(keys), rest = bytesOf(values);
  std::string body = entryOf("e", {{"k", "weights", "f32", headsOf(cache.groups, cache.keyDim)},
                                   {"v", "weights", "f32", headsOf(cache.groups, cache.valueDim), 64 + operands.size()},
                                   {"c", "kv_pool", cache.type(), cache.extents()}}, "kv_append k v c");
  operands.insert(operands.end(), rest.begin(), rest.end());
  BENCH(bench, body, {"e"}, 2, (std::max<uint64_t>(cache.bytesOf(step.numBlocks), operands.size()) + 4096) / 64 * 64);
  step.feed(bench);
  GIRIH_TRY_FINDING(bench.resetGuards());
  GIRIH_TRY_FINDING(bench.bindings[GIRIH_STEP_BINDING_WEIGHTS].write(64, operands));
  GIRIH_TRY_FINDING(bench.run(0, step.numTokens()));
  std::vector<uint8_t> expected(cache.bytesOf(step.numBlocks), kGuard + GIRIH_STEP_BINDING_KV_POOL);
  for (int64_t token = 0; token < step.numTokens(); ++token)
    for (int64_t group = 0; group < cache.groups; ++group) {
      int64_t slot = step.kvSlots[static_cast<size_t>(token)], row = token * cache.groups + group;
      for (int64_t d = 0; d < cache.keyDim; ++d)
        cache.put(expected, slot, true, group, d, keys[static_cast<size_t>(row * cache.keyDim + d)]);
      for (int64_t e = 0; e < cache.valueDim; ++e)
        cache.put(expected, slot, false, group, e, values[static_cast<size_t>(row * cache.valueDim + e)]);
    }
  EXPECT_BYTES(bench, GIRIH_STEP_BINDING_KV_POOL, 64, expected);
  EXPECT_BYTES(bench, GIRIH_STEP_BINDING_WEIGHTS, 64, operands);
  return pass();
}

Finding appendsToSlots(const Subject &subject) { return judgeAppend(subject, {3, 16, 32}); }
Finding appendsRoundedOnce(const Subject &subject) { return judgeAppend(subject, {2, 32, 16, true}); }

// The angle is rounded as a frequency, as a product and where it is brought near zero.
Finding turnsPairs(const Subject &subject) {
  constexpr int64_t kHeads = 3, kWidth = 16, kHalf = kWidth / 2;
  constexpr double kBase = 10000;
  const Step step({{0, 3}, {500, 2}, {4000, 1}});
  std::string extents = headsOf(kHeads, kWidth);
  BENCH(bench, entryOf("e", {{"x", "weights", "f32", extents}, {"y", "arena", "f32", extents}}, "rope x y base=10000"), {"e"}, 2);
  step.feed(bench);
  std::vector<float> x = normals(static_cast<size_t>(step.numTokens() * kHeads * kWidth), 41);
  RESULTS(got, float, bench, 0, bytesOf(x), {}, x.size(), step.numTokens());
  std::vector<Judged> wanted;
  for (size_t at = 0; at < x.size(); ++at) {
    auto element = static_cast<int64_t>(at) % kWidth, pair = element % kHalf;
    double angle = step.positions[at / (kHeads * kWidth)] * std::pow(kBase, -static_cast<double>(pair) / kHalf);
    size_t low = at - static_cast<size_t>(element) + static_cast<size_t>(pair);
    double first = static_cast<double>(x[low]), second = static_cast<double>(x[low + kHalf]);
    double y = element < kHalf ? first * std::cos(angle) - second * std::sin(angle)
                               : second * std::cos(angle) + first * std::sin(angle);
    wanted.push_back({y, (std::fabs(first) + std::fabs(second)) * (4 * kUnit * angle + kFunctionError + 3 * kUnit)});
  }
  std::string difference = judge(got, wanted);
  return difference.empty() ? pass() : fail("rope: " + difference);
}

} // namespace

const std::vector<Case> &attentionCases() {
  static const std::vector<Case> cases = {
      {"fused", "attends_grouped_heads", attendsGroupedHeads},
      {"fused", "attends_half_precision_caches", attendsHalfPrecisionCaches},
      {"fused", "attends_windows", attendsWindows},
      {"fused", "attends_capped_scores", attendsCappedScores},
      {"fused", "attends_large_scores", attendsLargeScores},
      {"fused", "appends_to_slots", appendsToSlots},
      {"fused", "appends_rounded_once", appendsRoundedOnce},
      {"fused", "turns_pairs", turnsPairs},
  };
  return cases;
}

} // namespace girih::conformance
