// SPDX-License-Identifier: Apache-2.0
// PanelFeed: implementation.
#include "backends/cpu/codegen/microkernels/panel_feed.h"

#include "backends/cpu/codegen/microkernels/unpack_formats.h"

using namespace mlir;
using namespace girih::weights;

namespace girih::cpu {

namespace {

constexpr int64_t kPairRowBytes = kPanelColumns * 2 * 2; // 16 columns x 2 k of bf16
constexpr int64_t kTargetBlockBytes = kBlockDepth / 2 * kPairRowBytes;
constexpr int64_t kLineBytes = 64;

// Where slice 0 of a block lies, and how far the others are from it. A line of nibbles holds 4 k of each half.
struct SliceShape {
  SmallVector<int64_t> depths;          // the even k, a pair each
  int64_t depth;                        // k of the block from one slice's first to the next one's
  int64_t codeBytes;                    // likewise
  int64_t slicesPerGroup;               // slices in a row that share scales
  int64_t highShift = 0;                // bits of what lies apart from nibbles, from one slice to the next
  int64_t scaleBytes = 0, minBytes = 0; // from one such group to the next
};

SliceShape shapeOf(const PackedLayout &layout) {
  bool isNibble = layout.hasNibbles();
  int64_t depth = isNibble ? 8 : 16;
  SliceShape shape{isNibble ? SmallVector<int64_t>{0, 2, 16, 18, 4, 6, 20, 22}
                            : SmallVector<int64_t>{0, 2, 4, 6, 8, 10, 12, 14},
                   depth, layout.codeOffsetBytes(0, depth) - layout.codeOffsetBytes(0, 0),
                   PanelFeed::kSlicesPerBlock};
  shape.highShift = layout.highShift(isNibble ? depth : 0);
  // Groups of 16 are the halves of a block: both in every slice of nibbles.
  if (isNibble || layout.groupSize == kBlockDepth)
    return shape;
  shape.slicesPerGroup = layout.groupSize / depth;
  if (layout.scales != ScaleType::None)
    shape.scaleBytes = layout.scaleOffsetBytes(0, layout.groupSize) - layout.scaleOffsetBytes(0, 0);
  if (layout.mins != ScaleType::None)
    shape.minBytes = layout.minOffsetBytes(0, layout.groupSize) - layout.minOffsetBytes(0, 0);
  return shape;
}

// Two k side by side, each rounded to bf16, halves away from zero: four integer operations, where the machine's own
// conversion of two vectors and the permutation that it needs take longer than the dequantisation. Pinned, the shift is
// not made part of a permutation of words, three operations on the port that table lookups need.
Value pairOf(KernelBuilder &k, const IsaTraits &isa, Value even, Value odd) {
  VectorType words = k.lanes(k.b.getI32Type());
  auto rounded = [&](Value value) -> Value {
    Value bits = arith::BitcastOp::create(k.b, k.loc, words, value);
    return arith::AddIOp::create(k.b, k.loc, bits, k.integer(words, 0x8000));
  };
  Value low = k.pin(arith::ShRUIOp::create(k.b, k.loc, rounded(even), k.integer(words, 16)),
                    isa.architecture->vectorConstraint);
  Value high = arith::AndIOp::create(k.b, k.loc, rounded(odd), k.integer(words, 0xffff0000));
  return arith::OrIOp::create(k.b, k.loc, low, high);
}

} // namespace

Value PanelFeed::numSlices(const PanelJob &job) {
  return k.mul(k.mul(k.maxOf(job.panels, k.index(0)), job.blocks), kSlicesPerBlock);
}

PanelSlice::PanelSlice(KernelBuilder &k, const PackedLayout &layout, const IsaTraits &isa,
                       const PanelJob &job, Value number, Value target)
    : PanelSlice(k, layout, isa, job, placesOf(k, layout, job, number, target)) {}

PanelSlice::PanelSlice(KernelBuilder &k, const PackedLayout &layout, const IsaTraits &isa,
                       const PanelJob &job, const Places &places)
    : k(k), layout(layout), isa(isa), bytesToNext(job.bytesToNext), places(places),
      reader(k, layout, isa, places.codes, places.block, places.highShift, places.scales, places.mins) {}

PanelSlice::Places PanelSlice::placesOf(KernelBuilder &k, const PackedLayout &layout, const PanelJob &job,
                                        Value number, Value target) {
  SliceShape shape = shapeOf(layout);
  Value block = k.div(number, PanelFeed::kSlicesPerBlock);
  Value slice = k.rem(number, k.index(PanelFeed::kSlicesPerBlock));
  Value offset = k.mul(block, layout.blockBytes()), targetOffset = k.mul(block, kTargetBlockBytes);
  // From the last block that is wanted of a panel to the next panel's first one.
  Value toNext = k.sub(job.panelBytes, k.mul(job.blocks, layout.blockBytes()));
  Value toNextTarget = k.sub(k.index(job.targetBytes), k.mul(job.blocks, kTargetBlockBytes));
  for (int64_t panel = 1; panel < job.mostPanels; ++panel) {
    Value isBefore = k.less(block, k.mul(job.blocks, panel));
    offset = k.add(offset, k.select(isBefore, k.index(0), toNext));
    targetOffset = k.add(targetOffset, k.select(isBefore, k.index(0), toNextTarget));
  }
  Value group = k.div(slice, shape.slicesPerGroup), source = k.at(job.source, offset);
  return {k.at(source, k.mul(slice, shape.codeBytes)), source,
          layout.highBits() ? k.mul(slice, shape.highShift) : Value(), k.at(source, k.mul(group, shape.scaleBytes)),
          k.at(source, k.mul(group, shape.minBytes)),
          k.at(target, k.add(targetOffset, k.mul(slice, shape.depth / 2 * kPairRowBytes)))};
}

void PanelSlice::fetch() {
  bool isInPlace = PanelFeed(k, layout, isa).isInPlace();
  auto fetchLines = [&](Value from, int64_t bytes) {
    for (int64_t line = 0; line < bytes; line += kLineBytes)
      k.prefetch(k.at(isInPlace ? from : k.at(from, bytesToNext), line), /*level=*/2);
  };
  fetchLines(places.codes, shapeOf(layout).codeBytes);
  if (layout.highBits())
    fetchLines(k.at(places.block, layout.highOffsetBytes(0, 0)), layout.codeBytes() - layout.highOffsetBytes(0, 0));
  if (layout.scales != ScaleType::None)
    fetchLines(k.at(places.scales, layout.scaleOffsetBytes(0, 0)), 1);
}

void PanelSlice::emitPair(int64_t number) {
  if (PanelFeed(k, layout, isa).isInPlace())
    return;
  int64_t depth = shapeOf(layout).depths[size_t(number)];
  Value even = reader.weights(depth), odd = reader.weights(depth + 1);
  k.store(pairOf(k, isa, even, odd), k.at(places.target, depth / 2 * kPairRowBytes), kPairRowBytes);
}

void PanelFeed::emitSlice(const PanelJob &job, Value number, Value target) {
  PanelSlice slice(k, layout, isa, job, number, target);
  slice.fetch();
  for (int64_t pair = 0; pair < PanelSlice::kPairs; ++pair)
    slice.emitPair(pair);
}

} // namespace girih::cpu
