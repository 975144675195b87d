// SPDX-License-Identifier: Apache-2.0
// The safetensors reader reads what the `safetensors` package wrote, and refuses every lie of the header.
#include "runtime/weights/safetensors.h"

#include "tests/runtime/weights/checkpoint_bytes.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace girih::weights {
namespace {

using testing::ElementsAre;
using testing::HasSubstr;
using testing::IsEmpty;

std::string failureOf(const std::vector<uint8_t> &bytes, StatusCode code = StatusCode::DataLoss) {
  auto file = readSafetensors(bytes);
  if (file.isOk())
    return "no failure";
  EXPECT_EQ(file.status().code(), code) << file.status().message();
  return std::string(file.status().message());
}

std::string failureOfHeader(std::string_view header, size_t dataBytes) {
  return failureOf(safetensorsBytes(header, dataBytes));
}

TEST(Safetensors, ReadsWhatThePackageWrote) {
  std::vector<uint8_t> bytes = readBytes(GIRIH_GOLDEN_FOLDER "/tiny.safetensors");
  auto file = readSafetensors(bytes);
  ASSERT_TRUE(file.isOk()) << file.status().message();
  ASSERT_EQ(file->tensors.size(), 4u);
  for (const StoredTensor &tensor : file->tensors) {
    std::vector<float> values(static_cast<size_t>(tensor.numElements));
    dequantize(tensor, values.data());
    if (tensor.name == "matrix") {
      EXPECT_THAT(tensor.shape, ElementsAre(2, 3));
      EXPECT_THAT(values, ElementsAre(0, 1, 2, 3, 4, 5));
      EXPECT_EQ(tensor.bytes.data(), bytes.data() + tensor.offsetBytes);
    } else if (tensor.name == "half") {
      EXPECT_EQ(tensor.format, StorageFormat::F16);
      EXPECT_THAT(tensor.shape, ElementsAre(2, 2, 2));
      EXPECT_EQ(values[7], 7);
    } else if (tensor.name == "scalar") {
      EXPECT_THAT(tensor.shape, IsEmpty());
      EXPECT_THAT(values, ElementsAre(2.5f));
    } else {
      EXPECT_EQ(tensor.name, "empty");
      EXPECT_THAT(values, IsEmpty());
    }
  }
  ASSERT_EQ(file->unreadable.size(), 1u);
  EXPECT_EQ(file->unreadable[0].name, "position_ids");
  EXPECT_EQ(file->unreadable[0].storage, "I64");
}

TEST(Safetensors, RefusesEveryTruncation) {
  std::vector<uint8_t> bytes = readBytes(GIRIH_GOLDEN_FOLDER "/tiny.safetensors");
  for (size_t numBytes = 0; numBytes < bytes.size(); ++numBytes)
    ASSERT_NE(failureOf({bytes.begin(), bytes.begin() + static_cast<ptrdiff_t>(numBytes)}), "no failure") << numBytes;
}

TEST(Safetensors, SurvivesEveryFlippedByteOfTheHeader) {
  std::vector<uint8_t> bytes = readBytes(GIRIH_GOLDEN_FOLDER "/tiny.safetensors");
  size_t headerBytes = 8 + bytes[0] + 256 * bytes[1];
  int numRefused = 0;
  for (size_t index = 0; index < headerBytes; ++index)
    for (uint8_t mask : {0x01, 0x02, 0x04, 0x10, 0x80, 0xFF}) {
      std::vector<uint8_t> damaged = bytes;
      damaged[index] ^= mask;
      numRefused += !readSafetensors(damaged).isOk();
    }
  EXPECT_GT(numRefused, 500);
}

TEST(Safetensors, BoundsTheHeader) {
  for (uint64_t headerBytes : {uint64_t(1) << 63, UINT64_MAX, uint64_t(100'000'001), uint64_t(50)}) {
    ByteWriter file;
    file.number(headerBytes).number<uint16_t>(0x7D7B);
    EXPECT_THAT(failureOf(file.bytes), HasSubstr(headerBytes > 100 ? "the most is 100000000" : "2 follow"));
  }
  EXPECT_THAT(failureOf({1, 2, 3}), HasSubstr("the file has 3 bytes"));
  EXPECT_THAT(failureOfHeader("", 0), HasSubstr("not JSON"));
  EXPECT_THAT(failureOfHeader("[]", 0), HasSubstr("the header is an array"));
  EXPECT_THAT(failureOfHeader(std::string(100, '[') + std::string(100, ']'), 0), HasSubstr("deep"));
  EXPECT_TRUE(readSafetensors(safetensorsBytes("{}", 0)).isOk());
}

TEST(Safetensors, RefusesRecordsThatAreNone) {
  EXPECT_THAT(failureOfHeader(R"({"t":3})", 0), HasSubstr("tensor \"t\": is an integer"));
  EXPECT_THAT(failureOfHeader(R"({"t":{"shape":[1],"data_offsets":[0,4]}})", 4), HasSubstr("no `dtype`"));
  EXPECT_THAT(failureOfHeader(R"({"t":{"dtype":"F32","data_offsets":[0,4]}})", 4), HasSubstr("no `shape`"));
  EXPECT_THAT(failureOfHeader(R"({"t":{"dtype":"F32","shape":[1]}})", 4), HasSubstr("no `data_offsets`"));
  EXPECT_THAT(failureOfHeader(R"({"t":{"dtype":1,"shape":[1],"data_offsets":[0,4]}})", 4),
              HasSubstr("dtype: is an integer"));
  EXPECT_THAT(failureOfHeader(R"({"t":{"dtype":"F32","shape":1,"data_offsets":[0,4]}})", 4),
              HasSubstr("shape is an integer"));
  EXPECT_THAT(failureOfHeader(R"({"t":{"dtype":"F32","shape":["1"],"data_offsets":[0,4]}})", 4),
              HasSubstr("is a string"));
  EXPECT_THAT(failureOfHeader(R"({"t":{"dtype":"F32","shape":[1],"data_offsets":[0]}})", 4), HasSubstr("1 elements"));
  EXPECT_THAT(failureOfHeader(R"({"t":{"dtype":"F32","shape":[1],"data_offsets":[-4,0]}})", 4), HasSubstr("negative"));
  EXPECT_THAT(failureOfHeader(R"({"t":{"dtype":"F32","shape":[1,1,1,1,1,1,1,1,1],"data_offsets":[0,4]}})", 4),
              HasSubstr("9 axes"));
}

TEST(Safetensors, BelievesNoExtentAndNoOffset) {
  EXPECT_THAT(failureOfHeader(R"({"t":{"dtype":"F32","shape":[-1],"data_offsets":[0,4]}})", 4),
              HasSubstr("negative extent"));
  EXPECT_THAT(failureOfHeader(R"({"t":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,4]}})", 4),
              HasSubstr("more than 2^63 - 1 elements"));
  EXPECT_THAT(failureOfHeader(R"({"t":{"dtype":"F32","shape":[9223372036854775808],"data_offsets":[0,4]}})", 4),
              HasSubstr("beyond 2^63 - 1"));
  EXPECT_THAT(failureOfHeader(
                  R"({"t":{"dtype":"F32","shape":[1],"data_offsets":[9223372036854775808,9223372036854775812]}})", 4),
              HasSubstr("truncated or damaged"));
  EXPECT_THAT(failureOfHeader(R"({"t":{"dtype":"F32","shape":[1],"data_offsets":[4,0]}})", 4), HasSubstr("[4, 0]"));
  EXPECT_THAT(failureOfHeader(R"({"t":{"dtype":"F32","shape":[2],"data_offsets":[0,4]}})", 4),
              HasSubstr("needs 8 bytes"));
}

TEST(Safetensors, RefusesOverlapHolesAndRepeatedNames) {
  constexpr std::string_view kA = R"("a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]})";
  auto with = [&](std::string_view other) { return "{" + std::string(kA) + "," + std::string(other) + "}"; };
  EXPECT_THAT(failureOfHeader(with(R"("b":{"dtype":"F32","shape":[2],"data_offsets":[4,12]})"), 12),
              HasSubstr("\"a\" and \"b\" overlap"));
  EXPECT_THAT(failureOfHeader(with(R"("b":{"dtype":"F32","shape":[1],"data_offsets":[12,16]})"), 16),
              HasSubstr("bytes 8 to 12"));
  EXPECT_THAT(failureOfHeader(with(R"("b":{"dtype":"F32","shape":[1],"data_offsets":[8,12]})"), 16),
              HasSubstr("end at byte 12"));
  EXPECT_THAT(failureOfHeader(with(kA), 8), HasSubstr("twice"));
  EXPECT_TRUE(
      readSafetensors(safetensorsBytes(with(R"("b":{"dtype":"F32","shape":[1],"data_offsets":[8,12]})"), 12)).isOk());
}

}  // namespace
}  // namespace girih::weights
