// SPDX-License-Identifier: Apache-2.0
// The operations of a graph (runtime/abi/graph.h) that know tokens, and matmuls of packed weights, as scheduled dispatches.
#include "compiler/graph_value.h"

#include "llvm/ADT/STLExtras.h"

#include <cmath>

using llvm::formatv;

namespace girih::compiler {
namespace {

constexpr int64_t kQueryTile = 16, kUnitRows = 8;  // what a unit takes of the step's tokens
constexpr int64_t kChunk = 128;                    // positions with a maximum of their own, as in whole models

double attribute(const TokenOperation &op, llvm::StringRef key, double otherwise) {
  for (const auto &[name, value] : op.attributes)
    if (name == key)
      return value;
  return otherwise;
}

Status checkAttributes(const TokenOperation &op, llvm::ArrayRef<llvm::StringRef> known, llvm::StringRef rule) {
  for (const auto &[name, value] : op.attributes)
    if (!llvm::is_contained(known, name))
      return invalidArgument("`" + name + "` is no attribute here: " + rule.str());
  return {};
}

std::string exact(double value) { return formatv("{0:e9}", value).str(); }

// Tokens of the step by heads by elements.
std::string headsType(llvm::StringRef tokens, int64_t heads, int64_t width) {
  return formatv("memref<{0}x{1}x{2}xf32>", tokens, heads, width).str();
}
std::string stridedHeads(llvm::StringRef tokens, int64_t heads, int64_t width, const GraphValue &of) {
  return formatv("memref<{0}x{1}x{2}xf32, strided<[{3}, {4}, 1], offset: ?>>", tokens, heads, width, of.columns, of.inner[1]).str();
}
std::string placed(const GraphValue &value, int64_t serial) {
  return formatv("%{0}_h{1} = girih.buffer_at \"{2}\"[%{0}_at] rows %T : {3}\n", value.id, serial, value.binding,
                 headsType("?", value.inner[0], value.inner[1])).str();
}
// `name`: a part of the tokens, heads and elements of a value.
std::string part(llvm::StringRef name, const GraphValue &of, int64_t serial, llvm::StringRef begin, llvm::StringRef extents,
                 llvm::StringRef type) {
  return formatv("{0} = memref.subview %{1}_h{2}[{3}] [{4}] [1, 1, 1] : {5} to {6}\n", name, of.id, serial, begin, extents,
                 headsType("?", of.inner[0], of.inner[1]), type).str();
}

}  // namespace

std::string GraphValue::packedType() const {
  return formatv("!girih.packed<{0} x {1}, \"{2}\">", rows, columns, element).str();
}

std::string GraphValue::cacheType() const {
  return formatv("!girih.kv<{0}, {1}, {2}, {3}>", inner[0], inner[1], inner[2], llvm::StringRef(element).drop_front(3)).str();
}

// A pair of elements, half a head apart, is turned by the token's position times the pair's frequency.
Expected<std::string> lowerRope(const TokenOperation &op) {
  constexpr llvm::StringLiteral kRule = "rope X TO base=B, f32 of TxHxD alike, D even";
  GIRIH_TRY(checkAttributes(op, {"base"}, kRule));
  double base = attribute(op, "base", 0);
  if (op.operands.size() != 2 || !op.operands[0]->isHeads() || op.operands[0]->extents != op.operands[1]->extents ||
      op.operands[1]->element != "f32" || op.operands[0]->inner[1] % 2 != 0 || base <= 0)
    return invalidArgument(kRule.str());
  const GraphValue &x = *op.operands[0], &to = *op.operands[1];
  int64_t heads = x.inner[0], half = x.inner[1] / 2;
  std::string frequencies;
  for (int64_t pair = 0; pair < half; ++pair)
    frequencies += (pair ? ", " : "") + exact(std::pow(base, -static_cast<double>(pair) / static_cast<double>(half)));
  std::string table = formatv("memref<{0}xf32>", half);
  op.globals += formatv("memref.global \"private\" constant @frequencies{0} : {1} = dense<[{2}]>\n", op.serial, table, frequencies);
  std::string text = placed(x, op.serial) + placed(to, op.serial);
  text += formatv(R"(%f{0} = memref.get_global @frequencies{0} : {1}
      %positions{0} = girih.buffer_at "positions"[%c0] rows %T : memref<?xi32>
      scf.forall (%i) in (%T) {{
      %p = memref.subview %positions{0}[%i] [1] [1] : memref<?xi32> to memref<1xi32, strided<[1], offset: ?>>
)", op.serial, table);
  std::string extents = formatv("1, {0}, {1}", heads, half), rowType = stridedHeads("1", heads, half, x);
  std::string high = formatv("%i, 0, {0}", half);
  text += part("%x0", x, op.serial, "%i, 0, 0", extents, rowType) + part("%x1", x, op.serial, high, extents, rowType) +
          part("%y0", to, op.serial, "%i, 0, 0", extents, rowType) + part("%y1", to, op.serial, high, extents, rowType);
  for (auto [result, own, other, combine] : {std::tuple{"%y0", "%x0", "%x1", "subf"}, std::tuple{"%y1", "%x1", "%x0", "addf"}})
    text += formatv(R"(linalg.generic {{indexing_maps = [affine_map<(t, h, d) -> (t, h, d)>, affine_map<(t, h, d) -> (t, h, d)>,
          affine_map<(t, h, d) -> (t)>, affine_map<(t, h, d) -> (d)>, affine_map<(t, h, d) -> (t, h, d)>],
          iterator_types = ["parallel", "parallel", "parallel"]}
          ins({1}, {2}, %p, %f{0} : {4}, {4}, memref<1xi32, strided<[1], offset: ?>>, {5}) outs({3} : {4}) {{
      ^bb0(%a: f32, %b: f32, %at: i32, %f: f32, %out: f32):
        %place = arith.sitofp %at : i32 to f32
        %angle = arith.mulf %place, %f : f32
        %c = math.cos %angle : f32
        %s = math.sin %angle : f32
        %ac = arith.mulf %a, %c : f32
        %bs = arith.mulf %b, %s : f32
        %y = arith.{6} %ac, %bs : f32
        linalg.yield %y : f32
      }
)", op.serial, own, other, result, rowType, table, combine);
  return text + "}\n";
}

Expected<std::string> lowerKvAppend(const TokenOperation &op) {
  constexpr llvm::StringLiteral kRule = "kv_append K V CACHE: f32 of TxGxD and TxGxE, a cache of GxDxE";
  GIRIH_TRY(checkAttributes(op, {}, kRule));
  auto fits = [&](const GraphValue &heads, size_t width) {
    return heads.isHeads() && heads.inner[0] == op.operands[2]->inner[0] && heads.inner[1] == op.operands[2]->inner[width];
  };
  if (op.operands.size() != 3 || !op.operands[2]->isCache() || !fits(*op.operands[0], 1) || !fits(*op.operands[1], 2))
    return invalidArgument(kRule.str());
  const GraphValue &key = *op.operands[0], &value = *op.operands[1], &cache = *op.operands[2];
  std::string text = placed(key, op.serial) + placed(value, op.serial) + "scf.forall (%i) in (%T) {\n", types;
  for (auto [name, of] : {std::pair{"%k", &key}, std::pair{"%v", &value}}) {
    std::string type = stridedHeads("1", of->inner[0], of->inner[1], *of);
    text += part(name, *of, op.serial, "%i, 0, 0", formatv("1, {0}, {1}", of->inner[0], of->inner[1]).str(), type);
    types += type + ", ";
  }
  return text + formatv("%next = girih.kv_append %k, %v into %{0}_v[%i] : {1}{2}\n}\n", cache.id, types, cache.cacheType()).str();
}

Expected<std::string> lowerAttention(const TokenOperation &op) {
  constexpr llvm::StringLiteral kRule =
      "attention Q CACHE TO scale=S [window=W] [cap=C]: f32 of TxHxD, a cache of GxDxE, f32 of TxHxE, G divides H";
  GIRIH_TRY(checkAttributes(op, {"scale", "window", "cap"}, kRule));
  if (op.operands.size() != 3 || !op.operands[0]->isHeads() || !op.operands[1]->isCache() || !op.operands[2]->isHeads())
    return invalidArgument(kRule.str());
  const GraphValue &q = *op.operands[0], &cache = *op.operands[1], &to = *op.operands[2];
  int64_t groups = cache.inner[0], shared = groups > 0 ? q.inner[0] / groups : 0;
  double window = attribute(op, "window", 0), cap = attribute(op, "cap", 0);
  if (q.inner[0] != to.inner[0] || groups < 1 || shared * groups != q.inner[0] || q.inner[1] != cache.inner[1] ||
      to.inner[1] != cache.inner[2] || window < 0 || cap < 0)
    return invalidArgument(kRule.str());
  std::string options;
  if (window > 0)
    options += formatv(", window = {0} : i64", static_cast<int64_t>(window));
  if (cap > 0)
    options += ", soft_cap = " + exact(cap) + " : f32";
  std::string qType = stridedHeads("?", shared, q.inner[1], q), toType = stridedHeads("?", shared, to.inner[1], to);
  std::string text = placed(q, op.serial) + placed(to, op.serial);
  text += formatv(R"(%groups{0} = arith.constant {1} : index
      scf.forall (%first, %g) = (0, 0) to (%T, %groups{0}) step ({2}, 1) {{
      %n = affine.min affine_map<(d0, d1) -> ({2}, d1 - d0)>(%first, %T)
      %head = affine.apply affine_map<(d0) -> (d0 * {3})>(%g)
)", op.serial, groups, kQueryTile, shared);
  text += part("%q", q, op.serial, "%first, %head, 0", formatv("%n, {0}, {1}", shared, q.inner[1]).str(), qType) +
          part("%to", to, op.serial, "%first, %head, 0", formatv("%n, {0}, {1}", shared, to.inner[1]).str(), toType);
  return text + formatv(R"(girih.attention ins(%q : {0}) cache(%{1}_v[%first, %g] : {2}) outs(%to : {3})
          {{scale = {4} : f32, query_tile = {5} : i64, chunk = {6} : i64{7}}
      }
)", qType, cache.id, cache.cacheType(), toType, exact(attribute(op, "scale", 1)), kQueryTile, kChunk, options).str();
}

// A unit is a few rows by all columns: a panel's blocks are dequantised once for them.
Expected<std::string> lowerPackedMatmul(const TokenOperation &op) {
  constexpr llvm::StringLiteral kRule = "matmul A B TO of a packed B: f32 of TxK, NxK, f32 of TxN";
  GIRIH_TRY(checkAttributes(op, {}, kRule));
  const GraphValue &x = *op.operands[0], &weight = *op.operands[1], &to = *op.operands[2];
  if (x.element != "f32" || to.element != "f32" || x.rowsName != "T" || to.rowsName != "T" || x.columns != weight.columns ||
      to.columns != weight.rows)
    return invalidArgument(kRule.str());
  auto tile = [](const GraphValue &of) {
    return formatv("memref<?x{0}xf32, strided<[{0}, 1], offset: ?>>", of.columns).str();
  };
  return formatv(R"(scf.forall (%first) = (0) to (%T) step ({0}) {{
      %n = affine.min affine_map<(d0, d1) -> ({0}, d1 - d0)>(%first, %T)
      %x = memref.subview %{1}_v[%first, 0] [%n, {2}] [1, 1] : {3} to {4}
      %y = memref.subview %{5}_v[%first, 0] [%n, {6}] [1, 1] : {7} to {8}
      girih.qmatmul ins(%x, %{9}_v[%c0] : {4}, {10}) outs(%y : {8})
          {{strategy = "direct", row_tile = 4 : i64, column_tile = 16 : i64, k_tile = 64 : i64}
      }
)", kUnitRows, x.id, x.columns, x.type(), tile(x), to.id, to.columns, to.type(), tile(to), weight.id, weight.packedType()).str();
}

}  // namespace girih::compiler
