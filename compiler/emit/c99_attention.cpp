// SPDX-License-Identifier: Apache-2.0
// The paged cache in C: appending, chunks of attention, joining them. Chunks have one maximum each and are joined in order,
// so that a token's bits do not depend on which of the operations its step takes.
#include "compiler/emit/c99_values.h"

#include "runtime/abi/step.h"

using namespace mlir;
using namespace girih::dialect;

namespace girih::compiler::c99 {
namespace {

constexpr int64_t kBlockTokens = GIRIH_KV_BLOCK_TOKENS;
constexpr int64_t kPartLargest = 0, kPartSum = 16, kPartValues = 32;  // elements of a part; docs of attention_parts
constexpr int64_t kDefaultChunk = 128;

struct Cache {
  Expr offset;  // of the layer in a block, in bytes
  int64_t blockBytes;
  KvType type;
};

Cache cacheOf(StepValues &values, Value kv) {
  while (auto append = kv.getDefiningOp<KvAppendOp>())
    kv = append.getKv();
  auto type = cast<KvType>(kv.getType());
  auto at = kv.getDefiningOp<KvAtOp>();
  if (!at || type.hasScales())
    values.fail(at ? "a cache of 8-bit codes has no form in C yet" : "a cache has no address");
  return at ? Cache{values.scalar(at.getOffsetBytes()), int64_t(at.getBlockBytes()), type} : Cache{"0", 0, type};
}

// Element (head, 0, 0) of the keys or values of a block.
Expr tileAddress(const Cache &cache, const Expr &block, const Expr &head, bool isKey) {
  int64_t bytes = bytesOf(cache.type.getElement()), keyDim = cache.type.getKeyDim();
  int64_t width = isKey ? keyDim : cache.type.getValueDim();
  Expr begin = isKey ? "0" : number(cache.type.getHeads() * keyDim * kBlockTokens * bytes);
  Expr layer = add(add(stepAddress("kv_pool"), mul(block, number(cache.blockBytes))), cache.offset);
  return add(add(layer, begin), mul(head, number(width * kBlockTokens * bytes)));
}

// Which positions of its sequence a token sees.
struct Seen {
  Expr sequence, begin, end;
};
Seen seenBy(StepValues &values, const Expr &token, std::optional<uint64_t> window) {
  Expr position = values.stepNumber("positions", token), begin = "0";
  if (window)
    begin = values.out.integer(most(values.out.integer(sub(position, number(int64_t(*window) - 1))), "0"));
  return {values.stepNumber("token_sequences", token), begin, values.out.integer(add(position, "1"))};
}

// The largest score, the sum of weights relative to it, and the weighted sum of values.
struct State {
  Expr largest, sum, values;
};

class ChunkWalk {
public:
  ChunkWalk(StepValues &values, const Cache &cache, FloatAttr scale, FloatAttr cap, int64_t chunk)
      : values(values), out(values.out), cache(cache), scale(scale.getValueAsDouble()),
        cap(cap ? std::optional(cap.getValueAsDouble()) : std::nullopt), chunk(chunk) {}

  // Of positions [begin, end) of one chunk, which are not none. `query` holds the row.
  State run(const Window &query, const Seen &seen, const Expr &head, const Expr &begin, const Expr &end) {
    State state{out.variable("float", "f", "(-INFINITY)"), out.variable("float", "f", "0.0f"),
                out.array("float", cache.type.getValueDim())};
    Expr scores = out.array("float", chunk);
    out.loop(begin, end, "1", [&](const Expr &position) { score(query, seen, head, begin, position, scores, state); });
    out.loop("0", number(cache.type.getValueDim()), "1", [&](const Expr &d) { out.line(element(state.values, d) + " = 0.0f;"); });
    out.loop(begin, end, "1", [&](const Expr &position) { weigh(seen, head, begin, position, scores, state); });
    return state;
  }

private:
  // A key's elements lie 16 apart.
  void score(const Window &query, const Seen &seen, const Expr &head, const Expr &begin, const Expr &position,
             const Expr &scores, const State &state) {
    Expr address = add(tileAddress(cache, blockOf(seen, position), head, true),
                       mul(rem(position, number(kBlockTokens)), number(bytesOf(cache.type.getElement()))));
    int64_t keyDim = cache.type.getKeyDim();
    Window key = values.fetch(address, cache.type.getElement(), number(keyDim), keyDim, kBlockTokens);
    Expr dot = out.variable("float", "f", "0.0f");
    out.loop("0", number(keyDim), "1", [&](const Expr &d) {
      out.line(dot + " = fmaf(" + values.load(query, d) + ", " + values.load(key, d) + ", " + dot + ");");
    });
    Expr scaled = binary(dot, "*", floating(scale));
    if (cap)
      scaled = binary(call("tanhf", binary(scaled, "/", floating(*cap))), "*", floating(*cap));
    out.line(dot + " = " + scaled + ";");
    out.line(element(scores, sub(position, begin)) + " = " + dot + ";");
    out.line(state.largest + " = " + choose(dot + " > " + state.largest, dot, state.largest) + ";");
  }

  void weigh(const Seen &seen, const Expr &head, const Expr &begin, const Expr &position, const Expr &scores, const State &state) {
    Expr weight = out.variable("float", "f", call("expf", element(scores, sub(position, begin)) + " - " + state.largest));
    out.line(state.sum + " = " + binary(state.sum, "+", weight) + ";");
    int64_t width = cache.type.getValueDim();
    Expr address = add(tileAddress(cache, blockOf(seen, position), head, false),
                       mul(rem(position, number(kBlockTokens)), number(width * bytesOf(cache.type.getElement()))));
    Window value = values.fetch(address, cache.type.getElement(), number(width), width);
    out.loop("0", number(width), "1", [&](const Expr &d) {
      out.line(element(state.values, d) + " = fmaf(" + weight + ", " + values.load(value, d) + ", " + element(state.values, d) + ");");
    });
  }

  Expr blockOf(const Seen &seen, const Expr &position) {
    Expr place = add(mul(seen.sequence, "args->block_table_stride"), div(position, number(kBlockTokens)));
    return values.stepNumber("block_tables", place);
  }

  StepValues &values;
  CWriter &out;
  const Cache &cache;
  double scale;
  std::optional<double> cap;
  int64_t chunk;
};

State startJoin(StepValues &values, int64_t width) {
  CWriter &out = values.out;
  State state{out.variable("float", "f", "(-INFINITY)"), out.variable("float", "f", "0.0f"), out.array("float", width)};
  out.loop("0", number(width), "1", [&](const Expr &d) { out.line(element(state.values, d) + " = 0.0f;"); });
  return state;
}

void join(StepValues &values, const State &state, const Expr &largest, const Expr &sum,
          llvm::function_ref<Expr(const Expr &)> valueAt, int64_t width) {
  CWriter &out = values.out;
  Expr both = out.variable("float", "f", choose(largest + " > " + state.largest, largest, state.largest));
  Expr before = out.variable("float", "f", call("expf", state.largest + " - " + both));
  Expr here = out.variable("float", "f", call("expf", largest + " - " + both));
  out.line(state.sum + " = fmaf(" + state.sum + ", " + before + ", " + binary(sum, "*", here) + ");");
  out.loop("0", number(width), "1", [&](const Expr &d) {
    out.line(element(state.values, d) + " = fmaf(" + element(state.values, d) + ", " + before + ", " +
             binary(valueAt(d), "*", here) + ");");
  });
  out.line(state.largest + " = " + both + ";");
}

// One row of the result: values over the sum of weights.
void finish(StepValues &values, const State &state, const View &to, ArrayRef<Expr> row, int64_t width) {
  CWriter &out = values.out;
  Expr address = out.variable("girih_address", "m", values.addressOf(to, values.offsetOf(to, row)));
  Window window = values.room(address, to.element, width);
  out.loop("0", number(width), "1", [&](const Expr &d) {
    values.store(window, d, binary(element(state.values, d), "/", state.sum));
  });
  values.flush(window, address, number(width));
}

Window rowOf(StepValues &values, const View &from, ArrayRef<Expr> row, int64_t width) {
  return values.fetch(values.addressOf(from, values.offsetOf(from, row)), from.element, number(width), width);
}

void append(StepValues &values, const Cache &cache, const View &from, const Expr &token, const Expr &slot, bool isKey) {
  CWriter &out = values.out;
  int64_t width = isKey ? cache.type.getKeyDim() : cache.type.getValueDim(), bytes = bytesOf(cache.type.getElement());
  out.loop("0", from.extents[1], "1", [&](const Expr &head) {
    Window row = rowOf(values, from, {token, head, "0"}, width);
    Expr tile = tileAddress(cache, out.integer(div(slot, number(kBlockTokens))), head, isKey);
    Expr within = mul(rem(slot, number(kBlockTokens)), number(isKey ? bytes : width * bytes));
    Expr address = out.variable("girih_address", "m", add(tile, within));
    int64_t apart = isKey ? kBlockTokens : 1;
    Window written = values.room(address, cache.type.getElement(), width, apart);
    out.loop("0", number(width), "1", [&](const Expr &d) { values.store(written, d, values.load(row, d)); });
    values.flush(written, address, number(width), apart);
  });
}

}  // namespace

void lowerKvAppend(StepValues &values, KvAppendOp op) {
  View key = values.view(op.getKey()), value = values.view(op.getValue());
  Cache cache = cacheOf(values, op.getKv());
  Expr first = op.getTokenOffset() ? values.scalar(op.getTokenOffset()) : "0";
  values.out.loop("0", key.extents[0], "1", [&](const Expr &token) {
    Expr slot = values.stepNumber("kv_slots", add(first, token));
    append(values, cache, key, token, slot, true);
    append(values, cache, value, token, slot, false);
  });
}

void lowerAttention(StepValues &values, AttentionOp op) {
  if (!op.getKv())
    return values.fail("attention without a cache has no form in C yet");
  CWriter &out = values.out;
  View q = values.view(op.getQ()), to = values.view(op.getInit());
  Cache cache = cacheOf(values, op.getKv());
  auto offsets = op.getOffsets();
  Expr firstToken = offsets.empty() ? "0" : values.scalar(offsets[0]), firstGroup = offsets.empty() ? "0" : values.scalar(offsets[1]);
  // The tile's heads are those of one kv head, or all of the model's.
  int64_t heads = cast<ShapedType>(op.getQ().getType()).getDimSize(1);
  int64_t headsPerGroup = offsets.empty() ? heads / cache.type.getHeads() : heads, width = cache.type.getValueDim();
  int64_t chunk = int64_t(op.getChunk().value_or(kDefaultChunk));
  ChunkWalk walk(values, cache, op.getScaleAttr(), op.getSoftCapAttr(), chunk);
  out.loop("0", q.extents[0], "1", [&](const Expr &token) {
    Seen seen = seenBy(values, add(firstToken, token), op.getWindow());
    out.loop("0", number(heads), "1", [&](const Expr &head) {
      Window query = rowOf(values, q, {token, head, "0"}, cache.type.getKeyDim());
      State all = startJoin(values, width);
      Expr group = out.integer(add(firstGroup, div(head, number(headsPerGroup))));
      out.loop(div(seen.begin, number(chunk)), ceilDiv(seen.end, number(chunk)), "1", [&](const Expr &which) {
        Expr begin = out.integer(most(seen.begin, out.integer(mul(which, number(chunk)))));
        Expr end = out.integer(least(seen.end, out.integer(mul(add(which, "1"), number(chunk)))));
        State part = walk.run(query, seen, group, begin, end);
        join(values, all, part.largest, part.sum, [&](const Expr &d) { return element(part.values, d); }, width);
      });
      finish(values, all, to, {token, head, "0"}, width);
    });
  });
}

void lowerAttentionParts(StepValues &values, AttentionPartsOp op) {
  CWriter &out = values.out;
  View q = values.view(op.getQ()), to = values.view(op.getInit());
  Cache cache = cacheOf(values, op.getKv());
  auto offsets = op.getOffsets();
  if (offsets.size() != 3)
    return values.fail("parts of attention that are not cut into units have no form in C yet");
  Expr token = values.scalar(offsets[0]), group = values.scalar(offsets[1]), which = values.scalar(offsets[2]);
  int64_t chunk = int64_t(op.getChunk()), partElements = to.strides[2];
  Seen seen = seenBy(values, token, op.getWindow());
  Expr begin = out.integer(most(seen.begin, out.integer(mul(which, number(chunk)))));
  Expr end = out.integer(least(seen.end, out.integer(mul(add(which, "1"), number(chunk)))));
  ChunkWalk walk(values, cache, op.getScaleAttr(), op.getSoftCapAttr(), chunk);
  out.when(begin + " < " + end, [&] {
    out.loop("0", q.extents[1], "1", [&](const Expr &head) {
      Window query = rowOf(values, q, {"0", head, "0"}, cache.type.getKeyDim());
      State state = walk.run(query, seen, group, begin, end);
      Expr address = out.variable("girih_address", "m", values.addressOf(to, values.offsetOf(to, {"0", head, "0", "0"})));
      Window part = values.room(address, to.element, partElements);
      out.loop("0", number(kPartValues), "1", [&](const Expr &at) { values.store(part, at, "0.0f"); });
      values.store(part, number(kPartLargest), state.largest);
      values.store(part, number(kPartSum), state.sum);
      out.loop("0", number(cache.type.getValueDim()), "1", [&](const Expr &d) {
        values.store(part, add(d, number(kPartValues)), element(state.values, d));
      });
      values.flush(part, address, number(kPartValues + cache.type.getValueDim()));
    });
  });
}

void lowerJoinParts(StepValues &values, JoinPartsOp op) {
  CWriter &out = values.out;
  View parts = values.view(op.getParts()), to = values.view(op.getInit());
  Expr first = op.getTokenOffset() ? values.scalar(op.getTokenOffset()) : "0";
  int64_t chunk = int64_t(op.getChunk()), partElements = parts.strides[2];
  int64_t width = cast<ShapedType>(op.getInit().getType()).getDimSize(2);
  out.loop("0", to.extents[0], "1", [&](const Expr &token) {
    Seen seen = seenBy(values, add(first, token), op.getWindow());
    out.loop("0", to.extents[1], "1", [&](const Expr &head) {
      State all = startJoin(values, width);
      out.loop(div(seen.begin, number(chunk)), ceilDiv(seen.end, number(chunk)), "1", [&](const Expr &which) {
        Window part = rowOf(values, parts, {token, head, which, "0"}, partElements);
        join(values, all, values.load(part, number(kPartLargest)), values.load(part, number(kPartSum)),
             [&](const Expr &d) { return values.load(part, add(d, number(kPartValues))); }, width);
      });
      finish(values, all, to, {token, head, "0"}, width);
    });
  });
}

}  // namespace girih::compiler::c99
