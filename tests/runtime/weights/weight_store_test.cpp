// SPDX-License-Identifier: Apache-2.0
// WeightStore finds the files of a checkpoint, single, split or in a folder, and says what is missing.
#include "runtime/weights/weight_store.h"

#include "tests/runtime/weights/checkpoint_bytes.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstdio>
#include <cstdlib>

namespace girih::weights {
namespace {

using testing::AllOf;
using testing::ElementsAre;
using testing::HasSubstr;

constexpr uint32_t kF32 = 0, kU16Pair = 2;

std::string failureOf(const std::string &path, StatusCode code) {
  auto store = WeightStore::open(path);
  if (store.isOk())
    return "no failure";
  EXPECT_EQ(store.status().code(), code) << store.status().message();
  return std::string(store.status().message());
}

std::vector<uint8_t> shardBytes(int index, int numShards, std::string_view tensorName) {
  GgufBytes file;
  file.pair("split.no", kU16Pair).number(static_cast<uint16_t>(index));
  file.pair("split.count", kU16Pair).number(static_cast<uint16_t>(numShards));
  file.tensor(tensorName, {8, 2}, kF32, 64);
  return file.build();
}

constexpr std::string_view kOneTensor = R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})";
constexpr std::string_view kOtherTensors =
    R"({"b":{"dtype":"BF16","shape":[2],"data_offsets":[0,4]},"ids":{"dtype":"I64","shape":[1],"data_offsets":[4,12]}})";

TEST(WeightStore, OpensASingleGguf) {
  auto store = WeightStore::open(GIRIH_GOLDEN_FOLDER "/tiny.gguf");
  ASSERT_TRUE(store.isOk()) << store.status().message();
  EXPECT_EQ(store->kind(), CheckpointKind::Gguf);
  EXPECT_EQ(store->metadata().string("general.architecture").value(), "llama");
  ASSERT_NE(store->find("vector"), nullptr);
  EXPECT_EQ(store->require("vector").value()->numElements, 32);
  EXPECT_EQ(store->text("config.json"), std::nullopt);
  WeightStore moved = std::move(*store);  // views stay valid
  EXPECT_EQ(moved.find("vector")->bytes.size(), 128u);
  EXPECT_EQ(moved.metadata().string("general.architecture").value(), "llama");
}

TEST(WeightStore, JoinsAllShardsOfASplitGguf) {
  TemporaryFolder folder;
  std::string first = folder.write("m-00001-of-00003.gguf", shardBytes(0, 3, "a"));
  folder.write("m-00002-of-00003.gguf", shardBytes(1, 3, "b"));
  folder.write("m-00003-of-00003.gguf", shardBytes(2, 3, "c"));
  auto store = WeightStore::open(first);
  ASSERT_TRUE(store.isOk()) << store.status().message();
  ASSERT_EQ(store->files().size(), 3u);
  EXPECT_EQ(store->find("c")->fileIndex, 2u);
  EXPECT_THAT(store->find("b")->shape, ElementsAre(2, 8));
}

TEST(WeightStore, SaysWhatIsWrongWithASplitGguf) {
  TemporaryFolder folder;
  std::string first = folder.write("m-00001-of-00002.gguf", shardBytes(0, 2, "a"));
  EXPECT_THAT(failureOf(first, StatusCode::NotFound), HasSubstr("m-00002-of-00002.gguf"));
  std::string second = folder.write("m-00002-of-00002.gguf", shardBytes(1, 2, "a"));
  EXPECT_THAT(failureOf(first, StatusCode::DataLoss), HasSubstr("stands in two"));
  EXPECT_THAT(failureOf(second, StatusCode::FailedPrecondition),
              HasSubstr("name the first one, `m-00001-of-00002.gguf`"));
  folder.write("m-00002-of-00002.gguf", shardBytes(0, 2, "b"));
  EXPECT_THAT(failureOf(first, StatusCode::DataLoss), HasSubstr("split.no is not 1"));
  std::string renamed = folder.write("renamed.gguf", shardBytes(0, 2, "a"));
  EXPECT_THAT(failureOf(renamed, StatusCode::FailedPrecondition), HasSubstr("must end in `-00001-of-00002.gguf`"));
  std::string odd = folder.write("m-00001-of-00002.gguf", shardBytes(5, 2, "a"));
  EXPECT_THAT(failureOf(odd, StatusCode::DataLoss), HasSubstr("split.no is 5"));
}

TEST(WeightStore, OpensAFolderWithOneFile) {
  TemporaryFolder folder;
  folder.write("model.safetensors", safetensorsBytes(kOneTensor, 8));
  folder.write("config.json", R"({"model_type":"llama"})");
  folder.write("chat_template.jinja", "{{ messages }}");
  auto store = WeightStore::open(folder.path());
  ASSERT_TRUE(store.isOk()) << store.status().message();
  EXPECT_EQ(store->kind(), CheckpointKind::HuggingFace);
  EXPECT_EQ(store->text("config.json"), R"({"model_type":"llama"})");
  EXPECT_EQ(store->text("chat_template.jinja"), "{{ messages }}");
  EXPECT_EQ(store->text("tokenizer.json"), std::nullopt);
  EXPECT_NE(store->find("a"), nullptr);
  EXPECT_TRUE(store->metadata().entries().empty());
  EXPECT_TRUE(WeightStore::open(folder.path("model.safetensors")).isOk());
}

TEST(WeightStore, OpensAFolderWithShards) {
  TemporaryFolder folder;
  folder.write("model-1.safetensors", safetensorsBytes(kOneTensor, 8));
  folder.write("model-2.safetensors", safetensorsBytes(kOtherTensors, 12));
  folder.write("model.safetensors.index.json",
               R"({"metadata":{"total_size":12},"weight_map":)"
               R"({"a":"model-1.safetensors","b":"model-2.safetensors","ids":"model-2.safetensors"}})");
  auto store = WeightStore::open(folder.path());
  ASSERT_TRUE(store.isOk()) << store.status().message();
  EXPECT_EQ(store->files().size(), 2u);
  EXPECT_EQ(store->find("b")->format, StorageFormat::BF16);
  EXPECT_EQ(store->unreadableTensors().size(), 1u);
  Status status = std::move(store->require("ids")).status();
  EXPECT_EQ(status.code(), StatusCode::Unimplemented);
  EXPECT_THAT(std::string(status.message()), AllOf(HasSubstr("stored as \"I64\""), HasSubstr("f32, f16, bf16")));
}

TEST(WeightStore, SaysWhatIsWrongWithAnIndex) {
  TemporaryFolder folder;
  folder.write("model-1.safetensors", safetensorsBytes(kOneTensor, 8));
  auto withIndex = [&](std::string_view text) {
    folder.write("model.safetensors.index.json", text);
    return folder.path();
  };
  EXPECT_THAT(failureOf(withIndex("{"), StatusCode::InvalidArgument), HasSubstr("JSON"));
  EXPECT_THAT(failureOf(withIndex("{}"), StatusCode::DataLoss), HasSubstr("weight_map"));
  EXPECT_THAT(failureOf(withIndex(R"({"weight_map":{"a":1}})"), StatusCode::InvalidArgument),
              HasSubstr("is an integer"));
  EXPECT_THAT(failureOf(withIndex(R"({"weight_map":{"a":"../x.safetensors"}})"), StatusCode::DataLoss),
              HasSubstr("within the folder"));
  EXPECT_THAT(failureOf(withIndex(R"({"weight_map":{"a":"missing.safetensors"}})"), StatusCode::NotFound),
              HasSubstr("missing"));
  EXPECT_THAT(failureOf(withIndex(R"({"weight_map":{"z":"model-1.safetensors"}})"), StatusCode::DataLoss),
              HasSubstr("places tensor \"z\""));
}

TEST(WeightStore, BoundsTheSideFiles) {
  TemporaryFolder folder;
  std::string config = folder.write("config.json", "{}");
  std::filesystem::resize_file(config, (256 << 20) + 1);  // sparse: takes no space
  EXPECT_THAT(failureOf(folder.path(), StatusCode::OutOfRange), HasSubstr("config.json: has 268435457 bytes"));
}

TEST(WeightStore, SaysWhatIsNoCheckpoint) {
  TemporaryFolder folder;
  EXPECT_THAT(failureOf(folder.path("absent.gguf"), StatusCode::NotFound), HasSubstr("absent.gguf"));
  EXPECT_THAT(failureOf(folder.path(), StatusCode::NotFound), HasSubstr("neither `model.safetensors` nor"));
  std::string text = folder.write("notes.txt", "hello, this is text");
  EXPECT_THAT(failureOf(text, StatusCode::FailedPrecondition), HasSubstr("not \"GGUF\""));
  EXPECT_THAT(failureOf(folder.write("empty.gguf", ""), StatusCode::DataLoss), HasSubstr("ends at byte 0"));
}

TEST(WeightStore, NamesATensorThatIsNotThere) {
  auto store = WeightStore::open(GIRIH_GOLDEN_FOLDER "/tiny.gguf");
  Status status = std::move(store->require("blk.0.attn_q.weight")).status();
  EXPECT_EQ(status.code(), StatusCode::NotFound);
  EXPECT_THAT(std::string(status.message()), HasSubstr("no tensor \"blk.0.attn_q.weight\"; it has 6"));
}

// A real model, cut at every 1 % of its length: always an error. GIRIH_SMOLLM2_GGUF names the file.
TEST(WeightStore, RefusesARealModelCutAnywhere) {
  const char *path = std::getenv("GIRIH_SMOLLM2_GGUF");
  if (!path || !std::filesystem::exists(path))
    GTEST_SKIP() << "GIRIH_SMOLLM2_GGUF does not name the default model's file";
  auto intact = WeightStore::open(path);
  ASSERT_TRUE(intact.isOk()) << intact.status().message();
  EXPECT_EQ(intact->tensors().size(), 272u);
  EXPECT_THAT(intact->require("token_embd.weight").value()->shape, ElementsAre(49152, 576));
  TemporaryFolder folder;
  std::string cut = folder.path("cut.gguf");
  std::filesystem::copy_file(path, cut);
  uint64_t sizeBytes = std::filesystem::file_size(cut);
  for (uint64_t percent = 99; percent < 100; --percent) {  // shrinking the one copy, down to nothing
    std::filesystem::resize_file(cut, sizeBytes * percent / 100);
    ASSERT_NE(failureOf(cut, StatusCode::DataLoss), "no failure") << percent;
  }
}

}  // namespace
}  // namespace girih::weights
