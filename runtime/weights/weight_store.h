// SPDX-License-Identifier: Apache-2.0
// WeightStore: a checkpoint opened in place, whatever its file format: what it says about itself, and its tensors.
#pragma once

#include "runtime/base/expected.h"
#include "runtime/base/mapped_file.h"
#include "runtime/weights/formats.h"
#include "runtime/weights/metadata.h"

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace girih::weights {

enum class CheckpointKind : uint8_t { Gguf, HuggingFace };

// One stored tensor. Its bytes were checked to lie within the file and to fit shape and format.
struct StoredTensor {
  std::string name;
  std::vector<int64_t> shape;  // row-major, outermost first (GGUF files have it the other way round); scalars: {}
  StorageFormat format = StorageFormat::F32;
  std::span<const uint8_t> bytes;  // in the mapped file; maybe unaligned
  int64_t numElements = 0;
  uint32_t fileIndex = 0;    // in WeightStore::files()
  uint64_t offsetBytes = 0;  // in that file
  std::optional<StorageFormat> quantizedFrom;  // the file's own format, where WeightStore::quantize changed it
};

// A tensor whose element type Girih does not read (safetensors only: int64 buffers, fp8, ...). Listed, not refused:
// checkpoints carry buffers that no model graph asks for.
struct UnreadableTensor {
  std::string name;
  std::string storage;  // as the file spells it: "I64"
  std::vector<int64_t> shape;
  std::span<const uint8_t> bytes;  // not yet compared with shape and storage
};

// Owns the mappings; everything it returns points into them or into itself. Thread-safe once open.
class WeightStore {
public:
  // `path`: a .gguf file (of a split set: its first shard, `-00001-of-0000N.gguf`), a .safetensors file, or a folder
  // as Hugging Face writes it. Fails: NotFound, DataLoss (truncated, offsets beyond the file, malformed),
  // Unimplemented (big-endian, version, storage format), FailedPrecondition (not a checkpoint).
  static Expected<WeightStore> open(const std::string &path);

  // Makes matrices of floats blocks of `format` (quantize_blocks.h, formatWanted). Call before tensors are asked for.
  // Fails: InvalidArgument (no float matrix is left to quantise), DataLoss (a value that is not finite).
  Status quantize(StorageFormat format);

  CheckpointKind kind() const { return checkpointKind; }
  const std::string &path() const { return checkpointPath; }

  // Sorted as in the file(s).
  std::span<const StoredTensor> tensors() const { return list; }
  // Null when there is none.
  const StoredTensor *find(std::string_view name) const;
  // Fails: NotFound; Unimplemented when its element type is not read, with the list of all that are.
  Expected<const StoredTensor *> require(std::string_view name) const;
  std::span<const UnreadableTensor> unreadableTensors() const { return unreadable; }

  // GGUF: the key/value pairs of the first shard. Empty for Hugging Face.
  const Metadata &metadata() const { return *pairs; }

  // Hugging Face: the text of a side file: "config.json", "generation_config.json", "tokenizer.json",
  // "tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja"; nullopt when the folder has none.
  std::optional<std::string_view> text(std::string_view fileName) const;

  // The mapped weight files in order of their shards, then what was put together of several tensors.
  std::span<const MappedFile> files() const { return mapped; }

private:
  friend class StoreBuilder;
  WeightStore() = default;

  CheckpointKind checkpointKind = CheckpointKind::Gguf;
  std::string checkpointPath;
  std::vector<MappedFile> mapped;
  std::vector<StoredTensor> list;
  std::unordered_map<std::string, size_t> indexOfName;
  std::vector<UnreadableTensor> unreadable;
  std::unique_ptr<Metadata> pairs;
  std::vector<std::pair<std::string, std::string>> texts;
};

// Dequantizes a whole tensor to f32, row-major. Requires: `values` holds numElements.
void dequantize(const StoredTensor &tensor, float *values);

}  // namespace girih::weights
