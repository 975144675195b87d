// SPDX-License-Identifier: Apache-2.0
// WeightStore: finds the files of a checkpoint, and joins what their readers answer.
#include "runtime/weights/weight_store.h"

#include "runtime/base/json_reader.h"
#include "runtime/base/whole_io.h"
#include "runtime/weights/checkpoint_file.h"
#include "runtime/weights/gguf.h"
#include "runtime/weights/quantize_blocks.h"
#include "runtime/weights/quantized_linear.h"
#include "runtime/weights/safetensors.h"

#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <set>

namespace girih::weights {
namespace {

// The side files of a Hugging Face folder that describe the model; tokenizers reach some 30 MB.
constexpr std::string_view kSideFiles[] = {"config.json",           "generation_config.json",  "tokenizer.json",
                                           "tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja"};
constexpr uint64_t kMaxSideFileBytes = 256 << 20;
constexpr std::string_view kIndexFile = "model.safetensors.index.json";
constexpr std::string_view kSingleFile = "model.safetensors";

bool isFolder(const std::string &path) {
  struct stat status;
  return stat(path.c_str(), &status) == 0 && S_ISDIR(status.st_mode);
}

bool exists(const std::string &path) {
  struct stat status;
  return stat(path.c_str(), &status) == 0;
}

std::string baseName(const std::string &path) { return path.substr(path.find_last_of('/') + 1); }

Expected<std::string> readText(const std::string &path) {
  GIRIH_ASSIGN(MappedFile file, MappedFile::open(path));
  if (file.bytes().size() > kMaxSideFileBytes)
    return outOfRange("has " + std::to_string(file.bytes().size()) + " bytes; at most " +
                      std::to_string(kMaxSideFileBytes) + " are read");
  return std::string(file.bytes().begin(), file.bytes().end());
}

// "-00001-of-00003.gguf" with these numbers, as llama.cpp's splitter writes it.
std::string shardSuffix(int64_t number, int64_t numShards) {
  char text[64];
  std::snprintf(text, sizeof(text), "-%05lld-of-%05lld.gguf", static_cast<long long>(number),
                static_cast<long long>(numShards));
  return text;
}

// A file in memory: like any file's, its pages may be given back and are there again when they are read.
Expected<MappedFile> mappedCopy(std::span<const uint8_t> bytes) {
  int file = ::memfd_create("girih-weight", MFD_CLOEXEC);
  bool isWritten = file >= 0 && writeWhole(file, bytes);
  auto mapped = isWritten ? MappedFile::open("/proc/self/fd/" + std::to_string(file))
                          : Expected<MappedFile>(resourceExhausted("no memory for a weight that is put together"));
  if (file >= 0)
    ::close(file);
  return mapped;
}

}  // namespace

// Fills a store that nobody else sees yet.
class StoreBuilder {
public:
  explicit StoreBuilder(const std::string &path) {
    store.checkpointPath = path;
    store.pairs = std::make_unique<Metadata>();
  }

  Status openGguf(MappedFile first);
  Status openSafetensors(MappedFile file);
  Status openFolder();
  WeightStore take() && { return std::move(store); }

private:
  // Numbers the file's tensors and refuses names that another file has, too.
  Status addFile(MappedFile mapped, CheckpointFile file);
  Status addGgufShards(int64_t numShards);
  Status addIndexedShards();
  Status readSideFiles();
  Status assembleLayers();

  WeightStore store;
};

Status StoreBuilder::addFile(MappedFile mapped, CheckpointFile file) {
  uint32_t fileIndex = static_cast<uint32_t>(store.mapped.size());
  store.mapped.push_back(std::move(mapped));
  for (StoredTensor &tensor : file.tensors) {
    if (!store.indexOfName.emplace(tensor.name, store.list.size()).second)
      return dataLoss("tensor " + quoteName(tensor.name) + " stands in two of the checkpoint's files");
    tensor.fileIndex = fileIndex;
    store.list.push_back(std::move(tensor));
  }
  std::move(file.unreadable.begin(), file.unreadable.end(), std::back_inserter(store.unreadable));
  return {};
}

Status StoreBuilder::openGguf(MappedFile first) {
  store.checkpointKind = CheckpointKind::Gguf;
  GIRIH_ASSIGN(CheckpointFile file, readGguf(first.bytes()));
  *store.pairs = std::move(file.metadata);
  GIRIH_TRY(addFile(std::move(first), std::move(file)));
  if (!store.pairs->find("split.count"))
    return {};
  GIRIH_ASSIGN(int64_t numShards, store.pairs->integer("split.count"));
  return numShards <= 1 ? Status() : addGgufShards(numShards);
}

Status StoreBuilder::addGgufShards(int64_t numShards) {
  constexpr int64_t kMostShards = 99999;  // the names have five digits
  GIRIH_ASSIGN(int64_t shardIndex, store.pairs->integer("split.no"));
  const std::string &path = store.checkpointPath;
  if (numShards > kMostShards || shardIndex < 0 || shardIndex >= numShards)
    return dataLoss("split.no is " + std::to_string(shardIndex) + " and split.count " + std::to_string(numShards) +
                    "; shards are numbered from 0, at most " + std::to_string(kMostShards) + " of them");
  std::string suffix = shardSuffix(shardIndex + 1, numShards);
  if (!path.ends_with(suffix))
    return failedPrecondition("is shard " + std::to_string(shardIndex + 1) + " of " + std::to_string(numShards) +
                              ", so its name must end in `" + suffix + "`; give the shards their names back");
  std::string stem = path.substr(0, path.size() - suffix.size());
  if (shardIndex != 0)
    return failedPrecondition("is shard " + std::to_string(shardIndex + 1) + " of " + std::to_string(numShards) +
                              "; name the first one, `" + baseName(stem) + shardSuffix(1, numShards) + "`");
  for (int64_t number = 2; number <= numShards; ++number) {
    std::string shardPath = stem + shardSuffix(number, numShards);
    std::string context = "shard \"" + shardPath + "\"";
    auto mapped = MappedFile::open(shardPath);
    if (!mapped.isOk())
      return std::move(mapped).status().withContext(context);
    auto file = readGguf(mapped->bytes());
    if (!file.isOk())
      return std::move(file).status().withContext(context);
    auto ownIndex = file->metadata.integer("split.no");
    if (!ownIndex.isOk() || *ownIndex != number - 1)
      return dataLoss(context + ": split.no is not " + std::to_string(number - 1) +
                      "; it belongs to another place or set");
    GIRIH_TRY(addFile(std::move(*mapped), std::move(*file)).withContext(context));
  }
  return {};
}

Status StoreBuilder::openSafetensors(MappedFile mapped) {
  store.checkpointKind = CheckpointKind::HuggingFace;
  GIRIH_ASSIGN(CheckpointFile file, readSafetensors(mapped.bytes()));
  return addFile(std::move(mapped), std::move(file));
}

Status StoreBuilder::addIndexedShards() {
  std::string indexPath = store.checkpointPath + "/" + std::string(kIndexFile);
  GIRIH_ASSIGN(std::string text, readText(indexPath));
  GIRIH_ASSIGN(JsonDocument json, JsonDocument::parse(text));
  auto weightMap = json.root().find("weight_map");
  if (!weightMap || !weightMap->isObject())
    return dataLoss("has no object `weight_map`; it maps each tensor to its file");
  std::vector<JsonMember> placements = weightMap->members();
  std::set<std::string> shards;
  for (const JsonMember &placement : placements) {
    GIRIH_ASSIGN(std::string_view shard, placement.value.asString());
    // A file name only: an index must not reach out of its folder.
    if (shard.empty() || shard.find('/') != shard.npos || shard.find('\0') != shard.npos || shard.starts_with("."))
      return dataLoss("names the file " + quoteName(shard) + "; only file names within the folder are read");
    shards.emplace(shard);
  }
  for (const std::string &shard : shards) {
    std::string context = "shard " + quoteName(shard);
    auto mapped = MappedFile::open(store.checkpointPath + "/" + shard);
    if (!mapped.isOk())
      return std::move(mapped).status().withContext(context);
    GIRIH_TRY(openSafetensors(std::move(*mapped)).withContext(context));
  }
  for (const JsonMember &placement : placements) {
    auto isNamed = [&](const UnreadableTensor &tensor) { return tensor.name == placement.key; };
    if (!store.find(placement.key) && std::none_of(store.unreadable.begin(), store.unreadable.end(), isNamed))
      return dataLoss("places tensor " + quoteName(placement.key) + " in " +
                      quoteName(placement.value.asString().value()) + ", but no shard has it");
  }
  return {};
}

Status StoreBuilder::readSideFiles() {
  for (std::string_view name : kSideFiles) {
    std::string path = store.checkpointPath + "/" + std::string(name);
    if (!exists(path))
      continue;
    auto text = readText(path);
    if (!text.isOk())
      return std::move(text).status().withContext(name);
    store.texts.emplace_back(name, std::move(*text));
  }
  return {};
}

// Layers that the folder's config calls quantised become single weights, behind the others.
Status StoreBuilder::assembleLayers() {
  std::string_view config = store.text("config.json").value_or("");
  GIRIH_ASSIGN(auto weights, assembleQuantized(config, store.list, store.unreadable));
  store.indexOfName.clear();
  for (AssembledTensor &weight : weights) {
    GIRIH_ASSIGN(MappedFile mapped, mappedCopy(weight.bytes));
    weight.tensor.bytes = mapped.bytes();
    weight.tensor.fileIndex = static_cast<uint32_t>(store.mapped.size());
    store.mapped.push_back(std::move(mapped));
    store.list.push_back(std::move(weight.tensor));
    weight.bytes = {};
  }
  for (size_t index = 0; index < store.list.size(); ++index)
    if (!store.indexOfName.emplace(store.list[index].name, index).second)
      return dataLoss("tensor " + quoteName(store.list[index].name) + " is there twice, quantised and plain");
  return {};
}

Status StoreBuilder::openFolder() {
  store.checkpointKind = CheckpointKind::HuggingFace;
  const std::string &folder = store.checkpointPath;
  GIRIH_TRY(readSideFiles());
  if (exists(folder + "/" + std::string(kIndexFile)))
    GIRIH_TRY(addIndexedShards().withContext(kIndexFile));
  else if (!exists(folder + "/" + std::string(kSingleFile)))
    return notFound("the folder has neither `" + std::string(kSingleFile) + "` nor `" + std::string(kIndexFile) +
                    "`; weights are read from those, save the model with safe_serialization, or name a .gguf file");
  else {
    GIRIH_ASSIGN(MappedFile mapped, MappedFile::open(folder + "/" + std::string(kSingleFile)));
    GIRIH_TRY(openSafetensors(std::move(mapped)).withContext(kSingleFile));
  }
  return assembleLayers();
}

namespace {

Expected<std::vector<uint8_t>> quantized(const StoredTensor &tensor, StorageFormat format) {
  std::vector<float> values(static_cast<size_t>(tensor.numElements));
  dequantize(tensor, values.data());
  auto isInfinite = [](float value) { return !std::isfinite(value); };
  if (std::any_of(values.begin(), values.end(), isInfinite))
    return dataLoss("tensor " + quoteName(tensor.name) + " has a value that is not finite; it cannot be quantised");
  GIRIH_ASSIGN(int64_t sizeBytes, storageBytes(format, tensor.numElements));
  std::vector<uint8_t> blocks(static_cast<size_t>(sizeBytes));
  weights::quantize(format, values, blocks.data());
  return blocks;
}

}  // namespace

Status WeightStore::quantize(StorageFormat format) {
  bool isAny = false;
  for (StoredTensor &tensor : list) {
    StorageFormat wanted = formatWanted(tensor.name, tensor.shape, tensor.format, format);
    if (wanted == tensor.format)
      continue;
    GIRIH_ASSIGN(auto blocks, quantized(tensor, wanted));
    GIRIH_ASSIGN(MappedFile file, mappedCopy(blocks));
    tensor.quantizedFrom = tensor.format;
    tensor.format = wanted;
    tensor.bytes = file.bytes();
    tensor.fileIndex = static_cast<uint32_t>(mapped.size());
    tensor.offsetBytes = 0;
    mapped.push_back(std::move(file));
    isAny = true;
  }
  if (!isAny)
    return invalidArgument("the checkpoint has no matrix of floats to quantise; it is compiled as it is without `--quantize`");
  return {};
}

Expected<WeightStore> WeightStore::open(const std::string &path) {
  StoreBuilder builder(path);
  std::string context = "checkpoint \"" + path + "\"";
  if (isFolder(path)) {
    GIRIH_TRY(builder.openFolder().withContext(context));
    return std::move(builder).take();
  }
  auto mapped = MappedFile::open(path);
  if (!mapped.isOk())
    return std::move(mapped).status().withContext(context);
  Status status = path.ends_with(".safetensors") ? builder.openSafetensors(std::move(*mapped))
                                                 : builder.openGguf(std::move(*mapped));
  if (!status.isOk())
    return std::move(status).withContext(context);
  return std::move(builder).take();
}

const StoredTensor *WeightStore::find(std::string_view name) const {
  auto found = indexOfName.find(std::string(name));
  return found == indexOfName.end() ? nullptr : &list[found->second];
}

Expected<const StoredTensor *> WeightStore::require(std::string_view name) const {
  if (const StoredTensor *tensor = find(name))
    return tensor;
  for (const UnreadableTensor &tensor : unreadable)
    if (tensor.name == name)
      return unimplemented("tensor " + quoteName(name) + " is stored as " + quoteName(tensor.storage) +
                           "; those that are read: " + supportedFormatNames() + ". Convert the model to one of them");
  return notFound("the checkpoint has no tensor " + quoteName(name) + "; it has " + std::to_string(list.size()) +
                  (list.empty() ? "" : ", the first is " + quoteName(list[0].name)));
}

std::optional<std::string_view> WeightStore::text(std::string_view fileName) const {
  for (const auto &[name, content] : texts)
    if (name == fileName)
      return content;
  return std::nullopt;
}

void dequantize(const StoredTensor &tensor, float *values) {
  dequantize(tensor.format, tensor.bytes.data(), tensor.numElements, values);
}

}  // namespace girih::weights
