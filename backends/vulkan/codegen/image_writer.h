// SPDX-License-Identifier: Apache-2.0
// Planned entries and their kernels as the bytes of backends/vulkan/image.h.
#pragma once

#include "backends/vulkan/codegen/plan_commands.h"

namespace girih::vulkan {

std::vector<uint8_t> writeImage(const std::vector<Kernel> &kernels, const std::vector<PlannedEntry> &entries,
                                uint64_t arenaBytes, uint32_t flags);

} // namespace girih::vulkan
