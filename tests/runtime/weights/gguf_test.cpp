// SPDX-License-Identifier: Apache-2.0
// The GGUF reader reads what the `gguf` package wrote, and refuses every lie about counts, types and offsets.
#include "runtime/weights/gguf.h"

#include "tests/runtime/weights/checkpoint_bytes.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace girih::weights {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;

constexpr uint32_t kF32 = 0, kQ4_1 = 3, kU32Pair = 4, kBoolPair = 7, kStringPair = 8, kArrayPair = 9;

// The message of the failure; checks its code on the way.
std::string failureOf(const std::vector<uint8_t> &bytes, StatusCode code) {
  auto file = readGguf(bytes);
  if (file.isOk())
    return "no failure";
  EXPECT_EQ(file.status().code(), code) << file.status().message();
  return std::string(file.status().message());
}

const StoredTensor &tensorNamed(const CheckpointFile &file, std::string_view name) {
  for (const StoredTensor &tensor : file.tensors)
    if (tensor.name == name)
      return tensor;
  ADD_FAILURE() << "no tensor " << name;
  return file.tensors.front();
}

std::vector<float> valuesOf(const StoredTensor &tensor) {
  std::vector<float> values(static_cast<size_t>(tensor.numElements));
  dequantize(tensor, values.data());
  return values;
}

TEST(Gguf, ReadsMetadataOfEveryType) {
  std::vector<uint8_t> bytes = readBytes(GIRIH_GOLDEN_FOLDER "/tiny.gguf");
  auto file = readGguf(bytes);
  ASSERT_TRUE(file.isOk()) << file.status().message();
  const Metadata &metadata = file->metadata;
  EXPECT_EQ(metadata.string("general.architecture").value(), "llama");
  EXPECT_EQ(metadata.integer("tiny.u8").value(), 200);
  EXPECT_EQ(metadata.integer("tiny.i8").value(), -100);
  EXPECT_EQ(metadata.integer("tiny.u16").value(), 60000);
  EXPECT_EQ(metadata.integer("tiny.i16").value(), -30000);
  EXPECT_EQ(metadata.integer("tiny.u32").value(), 4000000000);
  EXPECT_EQ(metadata.integer("tiny.i32").value(), -2000000000);
  EXPECT_EQ(std::get<uint64_t>(metadata.find("tiny.u64")->value), (uint64_t(1) << 63) + 1);
  EXPECT_EQ(metadata.integer("tiny.i64").value(), -(int64_t(1) << 62));
  EXPECT_EQ(metadata.number("tiny.f32").value(), 0.5);
  EXPECT_EQ(metadata.number("tiny.f64").value(), 0.1);
  EXPECT_EQ(metadata.number("tiny.i8").value(), -100.0);
  EXPECT_TRUE(metadata.boolean("tiny.flag").value());
  EXPECT_EQ(metadata.string("tiny.text").value(), "gr\u00fc\u00df dich");
  EXPECT_THAT(metadata.array("tiny.integers").value()->asIntegers().value(), ElementsAre(1, -2, 3));
  EXPECT_THAT(metadata.array("tiny.numbers").value()->asNumbers().value(), ElementsAre(0.5f, -1.5f));
  EXPECT_THAT(metadata.array("tiny.flags").value()->asIntegers().value(), ElementsAre(1, 0));
  auto tokens = metadata.array("tokenizer.ggml.tokens").value()->asStrings();
  EXPECT_THAT(std::vector(tokens->begin(), tokens->end()), ElementsAre("<s>", "a", "\u00e4b"));
}

TEST(Gguf, SaysWhichTypeAMetadataKeyHas) {
  std::vector<uint8_t> bytes = readBytes(GIRIH_GOLDEN_FOLDER "/tiny.gguf");
  auto file = readGguf(bytes);
  const Metadata &metadata = file->metadata;
  EXPECT_EQ(metadata.integer("tiny.missing").status().code(), StatusCode::NotFound);
  Status status = std::move(metadata.integer("tiny.text")).status();
  EXPECT_EQ(status.code(), StatusCode::InvalidArgument);
  EXPECT_EQ(status.message(), "metadata key `tiny.text`: is of type string; an integer is needed here");
  EXPECT_EQ(metadata.integer("tiny.u64").status().code(), StatusCode::InvalidArgument);
  EXPECT_EQ(metadata.integer("tiny.f32").status().code(), StatusCode::InvalidArgument);
  EXPECT_EQ(metadata.string("tiny.u8").status().code(), StatusCode::InvalidArgument);
  EXPECT_EQ(metadata.number("tiny.text").status().code(), StatusCode::InvalidArgument);
  EXPECT_EQ(metadata.boolean("tiny.u8").status().code(), StatusCode::InvalidArgument);
  EXPECT_EQ(metadata.array("tiny.u8").status().code(), StatusCode::InvalidArgument);
  EXPECT_EQ(metadata.array("tiny.numbers").value()->asIntegers().status().code(), StatusCode::InvalidArgument);
  EXPECT_EQ(metadata.array("tiny.numbers").value()->asStrings().status().code(), StatusCode::InvalidArgument);
  EXPECT_EQ(metadata.array("tokenizer.ggml.tokens").value()->asNumbers().status().code(), StatusCode::InvalidArgument);
}

TEST(Gguf, ReadsTensorsOutermostAxisFirst) {
  std::vector<uint8_t> bytes = readBytes(GIRIH_GOLDEN_FOLDER "/tiny.gguf");
  auto file = readGguf(bytes);
  ASSERT_EQ(file->tensors.size(), 6u);
  EXPECT_THAT(tensorNamed(*file, "cube").shape, ElementsAre(2, 3, 32));
  EXPECT_EQ(valuesOf(tensorNamed(*file, "cube"))[100], 100.0f);
  EXPECT_THAT(tensorNamed(*file, "vector").shape, ElementsAre(32));
  const StoredTensor &quantized = tensorNamed(*file, "matrix_q4_1");
  EXPECT_EQ(quantized.format, StorageFormat::Q4_1);
  EXPECT_THAT(quantized.shape, ElementsAre(3, 64));
  EXPECT_EQ(quantized.bytes.size(), 3u * 2 * 20);
  EXPECT_EQ(quantized.bytes.data(), bytes.data() + quantized.offsetBytes);
  // The values are multiples of 1/16 within [-4, 8): f16 is exact, q8_0 and q4_1 are near.
  std::vector<float> exact = valuesOf(tensorNamed(*file, "matrix_f32"));
  EXPECT_EQ(valuesOf(tensorNamed(*file, "matrix_f16")), exact);
  for (size_t index = 0; index < exact.size(); ++index) {
    EXPECT_EQ(exact[index], static_cast<float>(index) / 16 - 4);
    EXPECT_NEAR(valuesOf(tensorNamed(*file, "matrix_q8_0"))[index], exact[index], 0.04);
    EXPECT_NEAR(valuesOf(quantized)[index], exact[index], 0.08);
  }
}

TEST(Gguf, RefusesEveryTruncation) {
  std::vector<uint8_t> bytes = readBytes(GIRIH_GOLDEN_FOLDER "/tiny.gguf");
  for (size_t numBytes = 0; numBytes < bytes.size(); ++numBytes) {
    std::vector<uint8_t> cut(bytes.begin(), bytes.begin() + static_cast<ptrdiff_t>(numBytes));
    auto file = readGguf(cut);
    ASSERT_FALSE(file.isOk()) << numBytes;
    ASSERT_EQ(file.status().code(), StatusCode::DataLoss) << numBytes << ": " << file.status().message();
  }
}

TEST(Gguf, SurvivesEveryFlippedByteOfTheHeader) {
  std::vector<uint8_t> bytes = readBytes(GIRIH_GOLDEN_FOLDER "/tiny.gguf");
  auto intact = readGguf(bytes);
  uint64_t headerBytes = bytes.size();
  for (const StoredTensor &tensor : intact->tensors)
    headerBytes = std::min(headerBytes, tensor.offsetBytes);
  int numRefused = 0;
  for (uint64_t index = 0; index < headerBytes; ++index)
    for (uint8_t mask : {0x01, 0x02, 0x40, 0x80, 0xFF}) {
      std::vector<uint8_t> damaged = bytes;
      damaged[index] ^= mask;
      auto file = readGguf(damaged);
      numRefused += !file.isOk();
      if (!file.isOk())
        continue;
      for (const StoredTensor &tensor : file->tensors)  // what was accepted can be read
        valuesOf(tensor);
    }
  EXPECT_GT(numRefused, 1000);
}

TEST(Gguf, RefusesOtherFilesVersionsAndByteOrders) {
  GgufBytes file;
  file.magic = 0x21212121;
  EXPECT_THAT(failureOf(file.build(), StatusCode::FailedPrecondition), HasSubstr("not \"GGUF\""));
  file = {};
  file.version = 1;
  EXPECT_THAT(failureOf(file.build(), StatusCode::Unimplemented), HasSubstr("version 1; versions 2 and 3"));
  file.version = 0x03000000;
  EXPECT_THAT(failureOf(file.build(), StatusCode::Unimplemented), HasSubstr("big-endian"));
  file.version = 2;
  EXPECT_TRUE(readGguf(file.build()).isOk());
}

TEST(Gguf, BelievesNoCount) {
  for (uint64_t count : {uint64_t(1) << 63, UINT64_MAX, uint64_t(1) << 32, uint64_t(100)}) {
    GgufBytes tensors, pairs;
    tensors.numTensors = count;
    EXPECT_THAT(failureOf(tensors.build(), StatusCode::DataLoss), HasSubstr("tensors, but only"));
    pairs.numPairs = count;
    EXPECT_THAT(failureOf(pairs.build(), StatusCode::DataLoss), HasSubstr("metadata pairs, but only"));
    for (uint32_t elementType : {0u, 8u, 9u, 10u}) {
      GgufBytes array;
      array.pair("a", kArrayPair).number(elementType).number(count);
      EXPECT_THAT(failureOf(array.build(), StatusCode::DataLoss), HasSubstr("array elements, but only"));
    }
    GgufBytes text;
    text.pair("s", kStringPair).number(count);
    EXPECT_THAT(failureOf(text.build(), StatusCode::DataLoss), HasSubstr("the file ends at byte"));
  }
}

TEST(Gguf, BelievesNoExtentAndNoOffset) {
  uint64_t huge = uint64_t(1) << 63;
  GgufBytes extent, product, offset, beyond, name;
  extent.tensorAt("t", {huge}, kF32, 0);
  EXPECT_THAT(failureOf(extent.build(), StatusCode::DataLoss), HasSubstr("extent 9223372036854775808"));
  product.tensorAt("t", {uint64_t(1) << 32, uint64_t(1) << 32}, kF32, 0);
  EXPECT_THAT(failureOf(product.build(), StatusCode::DataLoss), HasSubstr("more than 2^63 - 1 elements"));
  offset.tensorAt("t", {4}, kF32, huge);
  EXPECT_THAT(failureOf(offset.build(), StatusCode::DataLoss), HasSubstr("truncated or damaged"));
  beyond.tensorAt("t", {uint64_t(1) << 40}, kF32, 0);
  EXPECT_THAT(failureOf(beyond.build(), StatusCode::DataLoss), HasSubstr("needs 4398046511104 bytes"));
  name.numTensors = 1;
  name.records.number(huge).pad(64);
  EXPECT_THAT(failureOf(name.build(), StatusCode::DataLoss), HasSubstr("a tensor's name"));
  GgufBytes bytes;  // elements fit into 2^63, their bytes do not
  bytes.tensorAt("t", {uint64_t(1) << 62}, kF32, 0);
  EXPECT_THAT(failureOf(bytes.build(), StatusCode::OutOfRange), HasSubstr("exceed 2^63 bytes"));
}

TEST(Gguf, NamesAllFormatsWhenItMeetsAnother) {
  GgufBytes file;
  file.tensor("odd", {256}, 16, 66);  // iq2_xxs
  EXPECT_THAT(
      failureOf(file.build(), StatusCode::Unimplemented),
      AllOf(HasSubstr("tensor \"odd\": has GGML type 16"), HasSubstr("f32, f16, bf16, q8_0"), HasSubstr("mxfp4")));
}

TEST(Gguf, RefusesTensorsOutOfPlace) {
  GgufBytes unaligned, overlapping, repeated, partial, axes;
  unaligned.tensor("t", {8}, kF32, 64);
  unaligned.tensorAt("u", {1}, kF32, 33);
  EXPECT_THAT(failureOf(unaligned.build(), StatusCode::DataLoss), HasSubstr("alignment is 32"));
  overlapping.tensor("t", {16}, kF32, 64);
  overlapping.tensorAt("u", {8}, kF32, 32);
  EXPECT_THAT(failureOf(overlapping.build(), StatusCode::DataLoss), HasSubstr("\"t\" and \"u\" overlap"));
  repeated.tensor("t", {8}, kF32, 32);
  repeated.tensor("t", {8}, kF32, 32);
  EXPECT_THAT(failureOf(repeated.build(), StatusCode::DataLoss), HasSubstr("twice"));
  partial.tensor("t", {48, 2}, kQ4_1, 60);  // three blocks in all, but one and a half a row
  EXPECT_THAT(failureOf(partial.build(), StatusCode::DataLoss), HasSubstr("multiple of 32"));
  axes.tensorAt("t", std::vector<uint64_t>(9, 1), kF32, 0);
  EXPECT_THAT(failureOf(axes.build(), StatusCode::DataLoss), HasSubstr("9 axes"));
}

TEST(Gguf, RefusesOddMetadata) {
  GgufBytes repeated, type, nested, alignment;
  repeated.pair("k", kU32Pair).number<uint32_t>(1);
  repeated.pair("k", kU32Pair).number<uint32_t>(2);
  EXPECT_THAT(failureOf(repeated.build(), StatusCode::DataLoss), HasSubstr("key \"k\" stands in the file twice"));
  type.pair("k", 13).number<uint64_t>(0);
  EXPECT_THAT(failureOf(type.build(), StatusCode::DataLoss), HasSubstr("metadata type 13"));
  ByteWriter &value = nested.pair("k", kArrayPair);
  for (int depth = 0; depth < 1000; ++depth)
    value.number<uint32_t>(kArrayPair).number<uint64_t>(1);
  EXPECT_THAT(failureOf(nested.build(), StatusCode::DataLoss), HasSubstr("nested more than"));
  for (uint32_t bytes : {0u, 3u, 1u << 30}) {
    alignment = {};
    alignment.pair("general.alignment", kU32Pair).number(bytes);
    EXPECT_THAT(failureOf(alignment.build(), StatusCode::DataLoss), HasSubstr("a power of two"));
  }
}

TEST(Gguf, ReadsArraysOfArraysAndOddAlignments) {
  GgufBytes file;
  file.alignment = 64;
  file.pair("general.alignment", kU32Pair).number<uint32_t>(64);
  file.pair("flag", kBoolPair).number<uint8_t>(2);
  ByteWriter &value = file.pair("nested", kArrayPair);
  value.number<uint32_t>(kArrayPair).number<uint64_t>(2);
  value.number<uint32_t>(kU32Pair).number<uint64_t>(1).number<uint32_t>(7);
  value.number<uint32_t>(kStringPair).number<uint64_t>(1).string("x");
  file.tensor("a", {3}, kF32, 12);
  file.tensor("b", {3}, kF32, 12);
  std::vector<uint8_t> bytes = file.build();
  auto read = readGguf(bytes);
  ASSERT_TRUE(read.isOk()) << read.status().message();
  const MetadataArray *nested = read->metadata.array("nested").value();
  ASSERT_EQ(nested->arrays.size(), 2u);
  EXPECT_THAT(nested->arrays[0].asIntegers().value(), ElementsAre(7));
  EXPECT_EQ(nested->arrays[1].strings[0], "x");
  EXPECT_TRUE(read->metadata.boolean("flag").value());
  EXPECT_EQ(read->tensors[1].offsetBytes % 64, 0u);
}

}  // namespace
}  // namespace girih::weights
