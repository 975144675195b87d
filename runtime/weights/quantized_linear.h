// SPDX-License-Identifier: Apache-2.0
// Quantised linear layers of Hugging Face folders: several tensors (packed integers, scales) become one weight in blocks.
#pragma once

#include "runtime/weights/weight_store.h"

#include <string_view>
#include <vector>

namespace girih::weights {

struct AssembledTensor {
  StoredTensor tensor;        // `<module>.weight`; its bytes are the next field's
  std::vector<uint8_t> bytes; // blocks of q4_0, q5_0 or q8_0: f16 scale and codes of 32 k
};

// Takes what belongs to quantised layers out of both lists and answers their weights. `configText` is config.json, whose
// `quantization_config` says how they are stored; without one nothing happens. Read are, for codes of 4 and 8 bits with
// one scale a row or a group of 32 k or more:
//   compressed-tensors `pack-quantized` (weight_packed, weight_scale, weight_shape, perhaps weight_zero_point) and
//   `int-quantized` (int8 weight, symmetric);
//   gptq, v1 and v2 (qweight, qzeros, scales; g_idx in order);
//   awq of 4 bits, version gemm (qweight, qzeros, scales).
// Every value is kept exactly: codes of 4 bits with zero points become ones of 5 without. Fails: Unimplemented (another
// method, act-order, a scale that is no f16, 8 bits that a zero point widens), DataLoss (extents that contradict one
// another).
Expected<std::vector<AssembledTensor>> assembleQuantized(std::string_view configText,
                                                         std::vector<StoredTensor> &tensors,
                                                         std::vector<UnreadableTensor> &unreadable);

} // namespace girih::weights
