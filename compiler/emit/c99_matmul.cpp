// SPDX-License-Identifier: Apache-2.0
// Matmuls and lookups of packed weights: a block of 32 k of one panel is dequantised near the arithmetic.
#include "compiler/emit/c99_values.h"

using namespace mlir;
using namespace girih::dialect;
using girih::weights::CodeType;
using girih::weights::PackedLayout;
using girih::weights::ScaleType;

namespace girih::compiler::c99 {
namespace {

constexpr int64_t kColumns = weights::kPanelColumns, kDepth = weights::kBlockDepth;
constexpr int64_t kRowsWithoutUnit = 16;  // that share a dequantised block

Type codeElement(MLIRContext *context, CodeType codes) {
  switch (codes) {
  case CodeType::F32:
    return Float32Type::get(context);
  case CodeType::F16:
    return Float16Type::get(context);
  case CodeType::BF16:
    return BFloat16Type::get(context);
  default:
    return IntegerType::get(context, 8);
  }
}

// Weights of one block as f32 in an array of [k][column].
class BlockReader {
public:
  BlockReader(StepValues &values, MLIRContext *context, const PackedWeight &weight)
      : values(values), out(values.out), context(context), weight(weight), layout(weight.layout) {}

  // Where block number `block` of the panel of `column` is.
  Expr addressOf(const Expr &column, const Expr &block) {
    Expr panel = mul(div(column, number(kColumns)), number(layout.panelBytes(weight.depth)));
    return out.variable("girih_address", "m", add(weight.address, add(panel, mul(block, number(layout.blockBytes())))));
  }

  Expr dequantise(const Expr &address) {
    Expr w = out.array("float", kDepth * kColumns);
    out.block([&] {
      Window codes = values.fetch(address, codeElement(context, layout.codes), number(numCodes()), numCodes());
      Factors scales = factors(address, layout.scales, layout.codeBytes());
      Factors mins = factors(address, layout.mins, layout.codeBytes() + layout.scaleBytes());
      Expr table = tableOfCodes();
      out.loop("0", number(kDepth), "1", [&](const Expr &k) {
        out.loop("0", number(kColumns), "1", [&](const Expr &column) {
          Expr value = code(codes, table, k, column), at = add(mul(div(k, number(layout.groupSize)), number(kColumns)), column);
          if (layout.scales != ScaleType::None)
            value = layout.mins == ScaleType::None
                        ? binary(value, "*", factor(layout.scales, scales, at, column))
                        : "fmaf(" + value + ", " + factor(layout.scales, scales, at, column) + ", " + factor(layout.mins, mins, at, column) + ")";
          out.line(element(w, add(mul(k, number(kColumns)), column)) + " = " + value + ";");
        });
      });
    });
    return w;
  }

private:
  int64_t numCodes() const { return layout.hasFloatCodes() ? kDepth * kColumns : layout.codeBytes(); }

  // Scales or mins: what is each group's own, and the f16 that groups share.
  struct Factors {
    Window own, shared;
  };

  Factors factors(const Expr &address, ScaleType type, int64_t begin) {
    if (type == ScaleType::None)
      return {};
    Type half = Float16Type::get(context), element = type == ScaleType::F16 ? half : Type(IntegerType::get(context, 8));
    Window shared = sharesHalf(type) ? values.fetch(add(address, number(begin)), half, number(kColumns), kColumns) : Window();
    int64_t count = layout.numGroups() * kColumns, own = begin + (sharesHalf(type) ? kColumns * 2 : 0);
    return {values.fetch(add(address, number(own)), element, number(count), count), shared};
  }

  Expr factor(ScaleType type, const Factors &factors, const Expr &at, const Expr &column) {
    Expr own = values.load(factors.own, at);
    if (type == ScaleType::F16)
      return own;
    if (type == ScaleType::E8M0) { // the first two are denormal: there the other integer is the larger one
      Expr exponent = out.integer(binary(own, "&", "255")), normal = out.integer(mul(sub(exponent, "1"), number(1 << 23)));
      return call("girih_f32_of_bits", most(normal, binary(number(1 << 21), "<<", binary(exponent, "&", "1"))));
    }
    return "(" + values.load(factors.shared, column) + " * (float)" + own + ")";
  }

  // What the 16 nibbles stand for; empty where a code is its own value.
  Expr tableOfCodes() {
    if (layout.codeValues().empty())
      return {};
    Expr table = out.array("float", int64_t(layout.codeValues().size()));
    for (auto [code, value] : llvm::enumerate(layout.codeValues()))
      out.line(element(table, number(int64_t(code))) + " = " + floating(value) + ";");
    return table;
  }

  // The bits above a nibble, where they count: those of k = 4 * s + j are in byte j of a column's place.
  Expr highPart(const Window &codes, const Expr &k, const Expr &column) {
    Expr bit = mul(div(k, "4"), number(layout.highBits()));
    Expr line = add(number(4 * kColumns * 4), mul(div(bit, "8"), number(4 * kColumns)));
    Expr raw = values.load(codes, add(add(line, mul(column, "4")), rem(k, "4")));
    return mul(binary(binary(raw, ">>", rem(bit, "8")), "&", number((1 << layout.highBits()) - 1)), "16");
  }

  Expr code(const Window &codes, const Expr &table, const Expr &k, const Expr &column) {
    if (layout.codes == CodeType::BF16)
      return values.load(codes, add(mul(add(mul(div(k, "2"), number(kColumns)), column), "2"), rem(k, "2")));
    if (layout.hasFloatCodes())
      return values.load(codes, add(mul(k, number(kColumns)), column));
    bool isNibble = layout.hasNibbles();
    Expr within = isNibble ? rem(k, "16") : k;
    Expr byte = add(add(mul(div(within, "4"), number(4 * kColumns)), mul(column, "4")), rem(within, "4"));
    Expr raw = values.load(codes, byte);
    if (isNibble)
      raw = binary(binary(raw, ">>", mul(div(k, "16"), "4")), "&", "15");
    if (!table.empty())
      return element(table, raw);
    if (layout.highBits())
      raw = add(raw, highPart(codes, k, column));
    return "((float)" + sub(raw, number(layout.codeOffset)) + ")";
  }

  StepValues &values;
  CWriter &out;
  MLIRContext *context;
  const PackedWeight &weight;
  const PackedLayout &layout;
};

class MatmulLowering {
public:
  MatmulLowering(StepValues &values, QMatmulOp op)
      : values(values), out(values.out), x(values.view(op.getX())), to(values.view(op.getInit())),
        weight(values.packed(op.getW())), firstColumn(op.getColumnOffset() ? values.scalar(op.getColumnOffset()) : "0"),
        usesUnit(!values.units.multiply.empty()), reader(values, op.getContext(), weight) {
    mostRows = usesUnit ? values.units.tile.getRows() : kRowsWithoutUnit;
    if (auto rows = knownNumber(x.extents[0]); rows && !usesUnit)
      mostRows = std::min(mostRows, *rows);
  }

  void run() {
    out.loop("0", to.extents[1], number(kColumns), [&](const Expr &column) {
      out.loop("0", x.extents[0], number(mostRows), [&](const Expr &row) { tile(row, column); });
    });
  }

private:
  // Up to `mostRows` rows by one panel. Sums of an element are one chain over ascending k.
  void tile(const Expr &row, const Expr &column) {
    Expr rows = out.integer(least(number(mostRows), out.integer(sub(x.extents[0], row))));
    Expr columns = out.integer(least(number(kColumns), out.integer(sub(to.extents[1], column))));
    Expr sums = out.array("float", mostRows * kColumns);
    out.loop("0", number(mostRows * kColumns), "1", [&](const Expr &at) { out.line(element(sums, at) + " = 0.0f;"); });
    out.loop("0", number(weight.depth), number(kDepth), [&](const Expr &k) {
      Expr depth = out.integer(least(number(kDepth), sub(number(weight.depth), k)));
      if (weight.depth % kDepth == 0)
        depth = number(kDepth);
      Expr w = reader.dequantise(reader.addressOf(add(firstColumn, column), div(k, number(kDepth))));
      Expr apart = number(x.strides[0]), from = values.addressOf(x, values.offsetOf(x, {row, k}));
      Window left = values.fetchRows(from, x.element, rows, mostRows, depth, kDepth, apart);
      usesUnit ? multiplyTiles(sums, left, apart, w, rows, depth) : multiply(sums, left, apart, w, rows, depth);
    });
    out.loop("0", rows, "1", [&](const Expr &at) { storeRow(sums, at, add(row, at), column, columns); });
  }

  void multiply(const Expr &sums, const Window &left, const Expr &apart, const Expr &w, const Expr &rows, const Expr &depth) {
    out.loop("0", rows, "1", [&](const Expr &row) {
      out.loop("0", number(kColumns), "1", [&](const Expr &column) {
        Expr place = add(mul(row, number(kColumns)), column), sum = out.variable("float", "f", element(sums, place));
        out.loop("0", depth, "1", [&](const Expr &k) {
          out.line(sum + " = fmaf(" + values.load(left, add(mul(row, apart), k)) + ", " +
                   element(w, add(mul(k, number(kColumns)), column)) + ", " + sum + ");");
        });
        out.line(element(sums, place) + " = " + sum + ";");
      });
    });
  }

  // Both sides rounded to f16, tile by tile of the unit's depth; what is beyond rows and k is zero.
  void multiplyTiles(const Expr &sums, const Window &left, const Expr &apart, const Expr &w, const Expr &rows, const Expr &depth) {
    int64_t tileDepth = values.units.tile.getDepth();
    Expr a = out.array("uint16_t", mostRows * tileDepth), b = out.array("uint16_t", tileDepth * kColumns);
    out.loop("0", number(kDepth), number(tileDepth), [&](const Expr &first) {
      out.loop("0", number(mostRows), "1", [&](const Expr &row) {
        out.loop("0", number(tileDepth), "1", [&](const Expr &k) {
          Expr at = out.integer(add(first, k)), half = out.variable("int64_t", "v", "0");
          out.when(row + " < " + rows + " && " + at + " < " + depth, [&] {
            out.line(half + " = girih_f16_of_f32(" + values.load(left, add(mul(row, apart), at)) + ");");
          });
          out.line(element(a, add(mul(row, number(tileDepth)), k)) + " = " + half + ";");
        });
      });
      out.loop("0", number(tileDepth * kColumns), "1", [&](const Expr &at) {
        out.line(element(b, at) + " = girih_f16_of_f32(" + element(w, add(mul(first, number(kColumns)), at)) + ");");
      });
      out.line(values.units.multiply + "(" + sums + ", " + a + ", " + b + ");");
    });
  }

  void storeRow(const Expr &sums, const Expr &at, const Expr &row, const Expr &column, const Expr &columns) {
    Expr address = out.variable("girih_address", "m", values.addressOf(to, values.offsetOf(to, {row, column})));
    Window window = values.room(address, to.element, kColumns);
    out.loop("0", columns, "1", [&](const Expr &index) {
      values.store(window, index, element(sums, add(mul(at, number(kColumns)), index)));
    });
    values.flush(window, address, columns);
  }

  StepValues &values;
  CWriter &out;
  View x, to;
  PackedWeight weight;
  Expr firstColumn;
  bool usesUnit;
  BlockReader reader;
  int64_t mostRows;
};

}  // namespace

void lowerQMatmul(StepValues &values, QMatmulOp op) {
  if (!isa<PackedType>(op.getW().getType()) || !getElementTypeOrSelf(op.getX()).isF32() || values.packed(op.getW()).layout.isDense)
    return values.fail("a matmul of " + Twine(op.getStrategy().value_or("no strategy")) +
                       " with activations that are not f32, or of a weight that is not packed, has no form in C yet");
  MatmulLowering(values, op).run();
}

void lowerGatherRows(StepValues &values, GatherRowsOp op) {
  CWriter &out = values.out;
  View indices = values.view(op.getIndices()), to = values.view(op.getInit());
  bool isPacked = isa<PackedType>(op.getSource().getType());
  PackedWeight weight = isPacked ? values.packed(op.getSource()) : PackedWeight();
  View source = isPacked && !weight.layout.isDense ? View() : isPacked ? View{weight.address, "0", "", to.element, {weight.depth, 1}, {}}
                                                                       : values.view(op.getSource());
  Expr numRows = isPacked ? number(weight.columns) : source.extents[0];
  BlockReader reader(values, op.getContext(), weight);
  out.loop("0", indices.extents[0], "1", [&](const Expr &token) {
    Window wanted = values.fetch(values.addressOf(indices, values.offsetOf(indices, {token})), indices.element, "1", 1);
    Expr asked = out.integer(values.load(wanted, "0"));
    // No program reads elsewhere, whatever the index.
    Expr row = out.integer(most("0", out.integer(least(asked, out.integer(sub(numRows, "1"))))));
    out.loop("0", to.extents[1], number(kDepth), [&](const Expr &k) {
      Expr count = out.integer(least(number(kDepth), out.integer(sub(to.extents[1], k))));
      Expr address = out.variable("girih_address", "m", values.addressOf(to, values.offsetOf(to, {token, k})));
      Window written = values.room(address, to.element, kDepth), read;
      Expr w;
      if (source.base.empty())
        w = reader.dequantise(reader.addressOf(row, div(k, number(kDepth))));
      else
        read = values.fetch(values.addressOf(source, values.offsetOf(source, {row, k})), source.element, count, kDepth);
      out.loop("0", count, "1", [&](const Expr &index) {
        values.store(written, index, w.empty() ? values.load(read, index)
                                               : element(w, add(mul(index, number(kColumns)), rem(row, number(kColumns)))));
      });
      values.flush(written, address, count);
    });
  });
}

}  // namespace girih::compiler::c99
