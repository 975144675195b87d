// SPDX-License-Identifier: Apache-2.0
// GGUF: reads the header of a version 2 or 3 file; what it says is checked against the bytes that are there.
//
// Layout: magic, version u32, tensor count u64, key count u64, the pairs, the tensor records, padding to the alignment,
// the data. Strings have a u64 length; tensor extents stand innermost first, offsets count from the start of the data.
#include "runtime/weights/gguf.h"

#include <algorithm>
#include <bit>
#include <cstring>
#include <unordered_set>

namespace girih::weights {
namespace {

constexpr uint32_t kMagic = 0x46554747;  // "GGUF"
constexpr uint32_t kMaxAxes = 8;   // ggml itself stops at 4
constexpr int kMaxArrayDepth = 4;  // arrays of arrays: bounds the recursion, no writer goes beyond 2
constexpr uint64_t kDefaultAlignmentBytes = 32;
constexpr uint64_t kMaxAlignmentBytes = 1 << 20;
constexpr uint64_t kMinPairBytes = 8 + 4 + 1;        // empty key, type, a u8
constexpr uint64_t kMinTensorBytes = 8 + 4 + 4 + 8;  // empty name, no axes, type, offset

// A cursor over the header that cannot leave it.
class Cursor {
public:
  explicit Cursor(std::span<const uint8_t> bytes) : bytes(bytes) {}
  uint64_t position() const { return offsetBytes; }
  uint64_t remaining() const { return bytes.size() - offsetBytes; }

  Expected<std::span<const uint8_t>> take(uint64_t numBytes, std::string_view what) {
    if (numBytes > remaining())
      return dataLoss("the file ends at byte " + std::to_string(bytes.size()) + ", but " + std::string(what) +
                      " at byte " + std::to_string(offsetBytes) + " needs " + std::to_string(numBytes) +
                      " bytes; the file is truncated or damaged, fetch it again");
    auto taken = bytes.subspan(offsetBytes, numBytes);
    offsetBytes += numBytes;
    return taken;
  }

  template <typename T> Expected<T> number(std::string_view what) {
    GIRIH_ASSIGN(auto taken, take(sizeof(T), what));
    T value;
    std::memcpy(&value, taken.data(), sizeof(T));
    return value;
  }

  Expected<std::string_view> string(std::string_view what) {
    GIRIH_ASSIGN(uint64_t numBytes, number<uint64_t>(what));
    GIRIH_ASSIGN(auto taken, take(numBytes, what));
    return std::string_view(reinterpret_cast<const char *>(taken.data()), taken.size());
  }

  // A count of things of at least `minBytes` each: more than can follow is an error before anything is allocated.
  Expected<uint64_t> count(uint64_t minBytes, std::string_view what) {
    GIRIH_ASSIGN(uint64_t numThings, number<uint64_t>(what));
    if (numThings > remaining() / minBytes)
      return dataLoss("the header counts " + std::to_string(numThings) + " " + std::string(what) + ", but only " +
                      std::to_string(remaining()) + " bytes follow; the file is truncated or damaged");
    return numThings;
  }

private:
  std::span<const uint8_t> bytes;
  uint64_t offsetBytes = 0;
};

// 0 for String and Array.
uint64_t scalarBytes(MetadataType type) {
  constexpr uint8_t kBytes[] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
  return kBytes[static_cast<size_t>(type)];
}

Expected<MetadataType> readType(Cursor &cursor) {
  GIRIH_ASSIGN(uint32_t type, cursor.number<uint32_t>("a metadata type"));
  if (type > static_cast<uint32_t>(MetadataType::F64))
    return dataLoss("metadata type " + std::to_string(type) + " at byte " + std::to_string(cursor.position() - 4) +
                    " is not one of GGUF's 0 to 12; the file is damaged");
  return static_cast<MetadataType>(type);
}

Expected<MetadataArray> readArray(Cursor &cursor, int depth) {
  if (depth >= kMaxArrayDepth)
    return dataLoss("arrays are nested more than " + std::to_string(kMaxArrayDepth) + " deep");
  MetadataArray array;
  GIRIH_ASSIGN(array.elementType, readType(cursor));
  uint64_t elementBytes = scalarBytes(array.elementType);
  bool isString = array.elementType == MetadataType::String;
  uint64_t minBytes = elementBytes ? elementBytes : isString ? 8 : 12;
  GIRIH_ASSIGN(array.numElements, cursor.count(minBytes, "array elements"));
  if (elementBytes) {
    GIRIH_ASSIGN(array.scalarBytes, cursor.take(array.numElements * elementBytes, "an array"));
    return array;
  }
  for (uint64_t index = 0; index < array.numElements; ++index) {
    if (isString) {
      GIRIH_ASSIGN(array.strings.emplace_back(), cursor.string("a string in an array"));
    } else {
      GIRIH_ASSIGN(array.arrays.emplace_back(), readArray(cursor, depth + 1));
    }
  }
  return array;
}

template <typename Stored, typename Wide> Status readScalar(Cursor &cursor, MetadataValue &value) {
  GIRIH_ASSIGN(Stored number, cursor.number<Stored>("a metadata value"));
  value.value = static_cast<Wide>(number);
  return {};
}

Status readValue(Cursor &cursor, MetadataValue &value) {
  GIRIH_ASSIGN(value.type, readType(cursor));
  switch (value.type) {
  case MetadataType::U8: return readScalar<uint8_t, uint64_t>(cursor, value);
  case MetadataType::I8: return readScalar<int8_t, int64_t>(cursor, value);
  case MetadataType::U16: return readScalar<uint16_t, uint64_t>(cursor, value);
  case MetadataType::I16: return readScalar<int16_t, int64_t>(cursor, value);
  case MetadataType::U32: return readScalar<uint32_t, uint64_t>(cursor, value);
  case MetadataType::I32: return readScalar<int32_t, int64_t>(cursor, value);
  case MetadataType::U64: return readScalar<uint64_t, uint64_t>(cursor, value);
  case MetadataType::I64: return readScalar<int64_t, int64_t>(cursor, value);
  case MetadataType::F32: return readScalar<float, double>(cursor, value);
  case MetadataType::F64: return readScalar<double, double>(cursor, value);
  case MetadataType::Bool: return readScalar<uint8_t, bool>(cursor, value);
  case MetadataType::String: {
    GIRIH_ASSIGN(value.value, cursor.string("a metadata string"));
    return {};
  }
  case MetadataType::Array: {
    GIRIH_ASSIGN(value.value, readArray(cursor, 0));
    return {};
  }
  }
  return {};
}

Status readPairs(Cursor &cursor, uint64_t numPairs, Metadata &metadata) {
  for (uint64_t index = 0; index < numPairs; ++index) {
    GIRIH_ASSIGN(std::string_view key, cursor.string("a metadata key"));
    MetadataValue value;
    GIRIH_TRY(readValue(cursor, value).withContext("metadata key " + quoteName(key)));
    if (!metadata.add(key, std::move(value)))
      return dataLoss("metadata key " + quoteName(key) + " stands in the file twice; keys are unique");
  }
  return {};
}

// What is left of a tensor's record after its name; bytes and offset are still relative to the data.
Status readTensorRecord(Cursor &cursor, StoredTensor &tensor) {
  GIRIH_ASSIGN(uint32_t numAxes, cursor.number<uint32_t>("the number of a tensor's axes"));
  if (numAxes > kMaxAxes)
    return dataLoss("has " + std::to_string(numAxes) + " axes; at most " + std::to_string(kMaxAxes) + " are read");
  for (uint32_t axis = 0; axis < numAxes; ++axis) {
    GIRIH_ASSIGN(uint64_t extent, cursor.number<uint64_t>("a tensor's shape"));
    if (extent > static_cast<uint64_t>(INT64_MAX))
      return dataLoss("axis " + std::to_string(axis) + " has extent " + std::to_string(extent) + ", beyond 2^63 - 1");
    tensor.shape.insert(tensor.shape.begin(), static_cast<int64_t>(extent));  // the file has the innermost first
  }
  GIRIH_ASSIGN(uint32_t type, cursor.number<uint32_t>("a tensor's type"));
  GIRIH_ASSIGN(tensor.offsetBytes, cursor.number<uint64_t>("a tensor's offset"));
  const FormatRow *format = findFormatByGgmlType(type);
  if (!format)
    return unimplemented("has GGML type " + std::to_string(type) + "; those that are read: " + supportedFormatNames() +
                         ". Convert the model to one of them");
  tensor.format = format->format;
  GIRIH_ASSIGN(tensor.numElements, countElements(tensor.shape));
  int64_t rowElements = tensor.shape.empty() ? 1 : tensor.shape.back();
  if (rowElements % format->blockElements != 0)
    return dataLoss("shape " + shapeText(tensor.shape) + " does not end in a multiple of " +
                    std::to_string(format->blockElements) + ", the elements of a " + std::string(format->name) +
                    " block");
  return {};
}

Expected<uint64_t> readAlignment(const Metadata &metadata) {
  if (!metadata.find("general.alignment"))
    return kDefaultAlignmentBytes;
  GIRIH_ASSIGN(int64_t alignment, metadata.integer("general.alignment"));
  if (alignment <= 0 || static_cast<uint64_t>(alignment) > kMaxAlignmentBytes ||
      !std::has_single_bit(static_cast<uint64_t>(alignment)))
    return dataLoss("general.alignment is " + std::to_string(alignment) + "; a power of two up to " +
                    std::to_string(kMaxAlignmentBytes) + " is needed");
  return static_cast<uint64_t>(alignment);
}

// Points the tensor at its bytes. `data` starts at `dataOffset` of the file.
Status placeTensor(StoredTensor &tensor, std::span<const uint8_t> data, uint64_t dataOffset, uint64_t alignment) {
  GIRIH_ASSIGN(int64_t sizeBytes, storageBytes(tensor.format, tensor.numElements));
  uint64_t offset = tensor.offsetBytes;
  if (offset % alignment != 0)
    return dataLoss("starts at byte " + std::to_string(offset) + " of the data; the file's alignment is " +
                    std::to_string(alignment));
  if (offset > data.size() || static_cast<uint64_t>(sizeBytes) > data.size() - offset)
    return dataLoss("needs " + std::to_string(sizeBytes) + " bytes at byte " + std::to_string(offset) +
                    " of the data, which has " + std::to_string(data.size()) +
                    "; the file is truncated or damaged, fetch it again");
  tensor.bytes = data.subspan(offset, static_cast<size_t>(sizeBytes));
  tensor.offsetBytes = dataOffset + offset;
  return {};
}

Status readTensors(Cursor &cursor, uint64_t numTensors, CheckpointFile &file) {
  std::unordered_set<std::string_view> names;
  for (uint64_t index = 0; index < numTensors; ++index) {
    GIRIH_ASSIGN(std::string_view name, cursor.string("a tensor's name"));
    StoredTensor tensor;
    tensor.name = name;
    GIRIH_TRY(readTensorRecord(cursor, tensor).withContext("tensor " + quoteName(name)));
    if (!names.insert(name).second)
      return dataLoss("tensor " + quoteName(name) + " stands in the file twice; names are unique");
    file.tensors.push_back(std::move(tensor));
  }
  return {};
}

Status placeTensors(std::span<const uint8_t> bytes, uint64_t headerBytes, CheckpointFile &file) {
  GIRIH_ASSIGN(uint64_t alignment, readAlignment(file.metadata));
  // A file without tensors (a vocabulary) may end before the padding does.
  uint64_t dataOffset = std::min((headerBytes + alignment - 1) / alignment * alignment, uint64_t(bytes.size()));
  std::span<const uint8_t> data = bytes.subspan(dataOffset);
  std::vector<TensorExtent> extents;
  for (StoredTensor &tensor : file.tensors) {
    uint64_t begin = tensor.offsetBytes;
    GIRIH_TRY(placeTensor(tensor, data, dataOffset, alignment).withContext("tensor " + quoteName(tensor.name)));
    extents.push_back({tensor.name, begin, begin + tensor.bytes.size()});
  }
  return checkDisjoint(extents);
}

Status checkVersion(uint32_t version) {
  if (version == 2 || version == 3)
    return {};
  if ((version & 0xFFFF) == 0 && version != 0)
    return unimplemented(
        "this GGUF file is big-endian; little-endian ones are read, convert it again without --bigendian");
  return unimplemented("this GGUF file is of version " + std::to_string(version) +
                       "; versions 2 and 3 are read, convert the model again with a current converter");
}

}  // namespace

Expected<CheckpointFile> readGguf(std::span<const uint8_t> bytes) {
  Cursor cursor(bytes);
  GIRIH_ASSIGN(uint32_t magic, cursor.number<uint32_t>("the magic number"));
  if (magic != kMagic)
    return failedPrecondition("the first four bytes are not \"GGUF\"; a GGUF file, a .safetensors file or a Hugging "
                              "Face folder is needed");
  GIRIH_ASSIGN(uint32_t version, cursor.number<uint32_t>("the version"));
  GIRIH_TRY(checkVersion(version));
  GIRIH_ASSIGN(uint64_t numTensors, cursor.count(kMinTensorBytes, "tensors"));
  GIRIH_ASSIGN(uint64_t numPairs, cursor.count(kMinPairBytes, "metadata pairs"));
  CheckpointFile file;
  GIRIH_TRY(readPairs(cursor, numPairs, file.metadata));
  GIRIH_TRY(readTensors(cursor, numTensors, file));
  GIRIH_TRY(placeTensors(bytes, cursor.position(), file));
  return file;
}

}  // namespace girih::weights
