// SPDX-License-Identifier: Apache-2.0
// The best granted variant runs; what is not granted is explained.
#include "runtime/program/variant.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace girih::program {
namespace {

using ::testing::HasSubstr;

Tables twoVariants() {
  Tables tables;
  Executable plain, wide;
  plain.backend = wide.backend = "cpu";
  plain.isa = "avx2";
  plain.requiredFeatures = {"avx2", "fma"};
  plain.preference = 1;
  wide.isa = "avx512";
  wide.requiredFeatures = {"avx512f", "avx512vnni"};
  wide.preference = 2;
  tables.executables = {plain, wide};
  return tables;
}

std::string isaOf(const Expected<const Executable *> &chosen) {
  return chosen.isOk() ? chosen.value()->isa : std::string(chosen.status().message());
}

TEST(SelectVariant, TakesTheMostPreferredOfTheGranted) {
  Tables tables = twoVariants();
  std::vector<std::string> all = {"avx2", "fma", "avx512f", "avx512vnni"}, some = {"avx2", "fma", "avx512f"};
  EXPECT_EQ(isaOf(selectVariant(tables, "cpu", all, "")), "avx512");
  EXPECT_EQ(isaOf(selectVariant(tables, "cpu", some, "")), "avx2");
  EXPECT_EQ(isaOf(selectVariant(tables, "cpu", all, "avx2")), "avx2");
}

TEST(SelectVariant, SaysWhatIsMissing) {
  Tables tables = twoVariants();
  std::vector<std::string> some = {"avx2", "fma", "avx512f"}, none;
  auto forced = selectVariant(tables, "cpu", some, "avx512");
  EXPECT_EQ(forced.status().code(), StatusCode::Unavailable);
  EXPECT_THAT(isaOf(forced), HasSubstr("avx2 (granted); avx512 (missing avx512vnni)"));
  auto any = selectVariant(tables, "cpu", none, "");
  EXPECT_EQ(any.status().code(), StatusCode::Unavailable);
  EXPECT_THAT(isaOf(any), HasSubstr("avx2 (missing avx2, fma)"));
  auto unknown = selectVariant(tables, "cpu", some, "neon");
  EXPECT_EQ(unknown.status().code(), StatusCode::InvalidArgument);
  EXPECT_THAT(isaOf(unknown), HasSubstr("no variant \"neon\"; it has avx2"));
  EXPECT_THAT(isaOf(selectVariant(tables, "vulkan", some, "")), HasSubstr("for backend cpu"));
}

} // namespace
} // namespace girih::program
