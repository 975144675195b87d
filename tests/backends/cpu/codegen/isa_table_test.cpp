// SPDX-License-Identifier: Apache-2.0
// What the emitted variants require is what the device half can grant: a name that it does not know runs nowhere.
#include "backends/cpu/codegen/microkernels/isa_table.h"

#include "backends/cpu/device/features.h"

#include "llvm/ADT/SmallVector.h"
#include "llvm/ADT/StringExtras.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace girih::cpu {
namespace {

TEST(IsaTable, RequiresOnlyWhatTheDeviceKnows) {
  std::vector<std::string> known = knownFeatures();
  for (const char *name : {"avx2", "avx512", "amx"}) {
    const IsaTraits *isa = findIsa(name);
    ASSERT_NE(isa, nullptr) << name;
    llvm::SmallVector<llvm::StringRef> features;
    llvm::StringRef(isa->features).split(features, ',');
    for (llvm::StringRef feature : features)
      if (feature.consume_front("+")) {
        EXPECT_THAT(known, ::testing::Contains(feature.str())) << name;
      }
  }
}

}  // namespace
}  // namespace girih::cpu
