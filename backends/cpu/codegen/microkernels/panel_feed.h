// SPDX-License-Identifier: Apache-2.0
// PanelFeed: makes pairs of bf16 of packed panels in slices so small that they fit between tile products.
#pragma once

#include "backends/cpu/codegen/kernel_builder.h"
#include "backends/cpu/codegen/microkernels/unpack_formats.h"
#include "runtime/weights/packed_layout.h"

namespace girih::cpu {

// Some k of a few panels side by side: what is dequantised together.
struct PanelJob {
  mlir::Value source;     // first block of the first panel
  mlir::Value panelBytes; // from a panel to the next
  int64_t mostPanels;
  mlir::Value panels;      // of them; none where it is not positive
  mlir::Value blocks;      // blocks of 32 k of each panel
  mlir::Value bytesToNext; // from source to that of the job that follows: fetched ahead
  int64_t targetBytes;     // from a dequantised panel to the next
};

// Weights that are such pairs already are used where they lie; their slices are only fetched into the second level.
// Target: [panel][block][16 pairs of k][16 columns][2] of bf16, a tile of weights being a block.
class PanelFeed {
public:
  static constexpr int64_t kSlicesPerBlock = 2; // of 16 k each

  PanelFeed(KernelBuilder &k, const weights::PackedLayout &layout, const IsaTraits &isa)
      : k(k), layout(layout), isa(isa) {}

  bool isInPlace() const { return layout.codes == weights::CodeType::BF16; }
  mlir::Value numSlices(const PanelJob &job);
  void emitSlice(const PanelJob &job, mlir::Value number, mlir::Value target);

private:
  KernelBuilder &k;
  const weights::PackedLayout &layout;
  const IsaTraits &isa;
};

// A slice, piece by piece, for who has more to do between them.
class PanelSlice {
public:
  static constexpr int64_t kPairs = 8; // of k: vectors of 16 columns x 2 k

  PanelSlice(KernelBuilder &k, const weights::PackedLayout &layout, const IsaTraits &isa, const PanelJob &job,
             mlir::Value number, mlir::Value target);

  void fetch();                  // ahead: what the job that follows needs, or what is used in place
  void emitPair(int64_t number); // in ascending order, each in a block that all before dominate

private:
  struct Places {
    mlir::Value codes, block, highShift, scales, mins, target;
  };
  PanelSlice(KernelBuilder &k, const weights::PackedLayout &layout, const IsaTraits &isa, const PanelJob &job,
             const Places &places);
  static Places placesOf(KernelBuilder &k, const weights::PackedLayout &layout, const PanelJob &job,
                         mlir::Value number, mlir::Value target);

  KernelBuilder &k;
  const weights::PackedLayout &layout;
  const IsaTraits &isa;
  mlir::Value bytesToNext;
  Places places;
  PanelBlock reader;
};

} // namespace girih::cpu
