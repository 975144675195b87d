// SPDX-License-Identifier: Apache-2.0
// Safetensors: reads the header of a .safetensors file; what it says is checked against the bytes that are there.
//
// Layout: header length u64, that many bytes of JSON {name: {dtype, shape, data_offsets: [begin, end]}}, the data.
#include "runtime/weights/safetensors.h"

#include "runtime/base/json_reader.h"

#include <cstring>
#include <unordered_set>

namespace girih::weights {
namespace {

constexpr uint64_t kLengthBytes = 8;
constexpr uint64_t kMaxHeaderBytes = 100'000'000;  // the limit of the format's definition
constexpr size_t kMaxAxes = 8;

Expected<JsonValue> requireMember(const JsonValue &record, std::string_view key) {
  if (auto member = record.find(key))
    return *member;
  return dataLoss("has no `" + std::string(key) + "`; a record has dtype, shape and data_offsets");
}

// The header is data of the file: whatever is wrong with it means a damaged file.
Status damaged(const Status &status) { return dataLoss(std::string(status.message())); }

Expected<std::vector<int64_t>> readShape(const JsonValue &record) {
  GIRIH_ASSIGN(JsonValue member, requireMember(record, "shape"));
  if (!member.isArray())
    return dataLoss("shape is " + std::string(jsonKindName(member.kind())) + "; an array is needed here");
  std::vector<JsonValue> extents = member.elements();
  if (extents.size() > kMaxAxes)
    return dataLoss("has " + std::to_string(extents.size()) + " axes; at most " + std::to_string(kMaxAxes) +
                    " are read");
  std::vector<int64_t> shape;
  for (const JsonValue &extent : extents) {
    Expected<int64_t> number = extent.asInteger();
    if (!number.isOk())
      return damaged(number.status()).withContext("an extent of shape");
    shape.push_back(*number);
  }
  return shape;
}

Status readExtent(const JsonValue &record, uint64_t dataBytes, TensorExtent &extent) {
  GIRIH_ASSIGN(JsonValue member, requireMember(record, "data_offsets"));
  std::vector<JsonValue> offsets = member.elements();
  if (offsets.size() != 2)
    return dataLoss("data_offsets has " + std::to_string(offsets.size()) + " elements; it is [begin, end]");
  for (auto [target, offset] : {std::pair(&extent.beginBytes, offsets[0]), std::pair(&extent.endBytes, offsets[1])}) {
    Expected<uint64_t> number = offset.asUnsigned();
    if (!number.isOk())
      return damaged(number.status()).withContext("data_offsets");
    *target = *number;
  }
  if (extent.beginBytes > extent.endBytes || extent.endBytes > dataBytes)
    return dataLoss("data_offsets are [" + std::to_string(extent.beginBytes) + ", " + std::to_string(extent.endBytes) +
                    "], the data has " + std::to_string(dataBytes) +
                    " bytes; the file is truncated or damaged, fetch it again");
  return {};
}

// One member of the header. `data` follows the header; `dataOffset` is its place in the file.
Status readRecord(const JsonMember &member, std::span<const uint8_t> data, uint64_t dataOffset, TensorExtent &extent,
                  CheckpointFile &file) {
  if (!member.value.isObject())
    return dataLoss("is " + std::string(jsonKindName(member.value.kind())) + "; an object is needed here");
  GIRIH_ASSIGN(JsonValue dtypeMember, requireMember(member.value, "dtype"));
  Expected<std::string_view> dtype = dtypeMember.asString();
  if (!dtype.isOk())
    return damaged(dtype.status()).withContext("dtype");
  StoredTensor tensor;
  tensor.name = member.key;
  GIRIH_ASSIGN(tensor.shape, readShape(member.value));
  GIRIH_ASSIGN(tensor.numElements, countElements(tensor.shape));
  GIRIH_TRY(readExtent(member.value, data.size(), extent));
  const FormatRow *format = findFormatBySafetensorsName(*dtype);
  if (!format) {
    file.unreadable.push_back({std::move(tensor.name), std::string(*dtype), std::move(tensor.shape),
                               data.subspan(extent.beginBytes, extent.endBytes - extent.beginBytes)});
    return {};
  }
  GIRIH_ASSIGN(int64_t sizeBytes, storageBytes(format->format, tensor.numElements));
  if (extent.endBytes - extent.beginBytes != static_cast<uint64_t>(sizeBytes))
    return dataLoss("shape " + shapeText(tensor.shape) + " of " + std::string(*dtype) + " needs " +
                    std::to_string(sizeBytes) + " bytes, data_offsets has " +
                    std::to_string(extent.endBytes - extent.beginBytes));
  tensor.format = format->format;
  tensor.bytes = data.subspan(extent.beginBytes, static_cast<size_t>(sizeBytes));
  tensor.offsetBytes = dataOffset + extent.beginBytes;
  file.tensors.push_back(std::move(tensor));
  return {};
}

// Requires: `extents` is sorted and disjoint.
Status checkNoHoles(std::span<const TensorExtent> extents, uint64_t dataBytes) {
  uint64_t coveredBytes = 0;
  for (const TensorExtent &extent : extents) {
    if (extent.beginBytes > coveredBytes)
      return dataLoss("bytes " + std::to_string(coveredBytes) + " to " + std::to_string(extent.beginBytes) +
                      " of the data belong to no tensor; safetensors files have no holes");
    coveredBytes = std::max(coveredBytes, extent.endBytes);
  }
  if (coveredBytes != dataBytes)
    return dataLoss("the tensors end at byte " + std::to_string(coveredBytes) + " of the data, which has " +
                    std::to_string(dataBytes) + " bytes; safetensors files have no holes");
  return {};
}

Expected<std::span<const uint8_t>> headerOf(std::span<const uint8_t> bytes) {
  uint64_t headerBytes = 0;
  if (bytes.size() < kLengthBytes)
    return dataLoss("the file has " + std::to_string(bytes.size()) + " bytes; the header's length alone needs 8");
  std::memcpy(&headerBytes, bytes.data(), kLengthBytes);
  if (headerBytes > kMaxHeaderBytes)
    return dataLoss("the header's length is " + std::to_string(headerBytes) + " bytes, the most is " +
                    std::to_string(kMaxHeaderBytes) + "; this is no safetensors file or it is damaged");
  if (headerBytes > bytes.size() - kLengthBytes)
    return dataLoss("the header needs " + std::to_string(headerBytes) + " bytes, " +
                    std::to_string(bytes.size() - kLengthBytes) +
                    " follow; the file is truncated or damaged, fetch it again");
  return bytes.subspan(kLengthBytes, headerBytes);
}

}  // namespace

Expected<CheckpointFile> readSafetensors(std::span<const uint8_t> bytes) {
  GIRIH_ASSIGN(auto header, headerOf(bytes));
  auto json = JsonDocument::parse({reinterpret_cast<const char *>(header.data()), header.size()}, 16);
  if (!json.isOk())
    return damaged(json.status()).withContext("the header");
  if (!json->root().isObject())
    return dataLoss("the header is " + std::string(jsonKindName(json->root().kind())) + "; an object is needed here");
  uint64_t dataOffset = kLengthBytes + header.size();
  std::span<const uint8_t> data = bytes.subspan(dataOffset);
  CheckpointFile file;
  std::vector<TensorExtent> extents;
  std::unordered_set<std::string_view> names;
  std::vector<JsonMember> members = json->root().members();
  for (const JsonMember &member : members) {
    if (!names.insert(member.key).second)
      return dataLoss("tensor " + quoteName(member.key) + " stands in the header twice; names are unique");
    if (member.key == "__metadata__")
      continue;
    TensorExtent extent{member.key};
    GIRIH_TRY(readRecord(member, data, dataOffset, extent, file).withContext("tensor " + quoteName(member.key)));
    extents.push_back(extent);
  }
  GIRIH_TRY(checkDisjoint(extents));
  GIRIH_TRY(checkNoHoles(extents, data.size()));
  return file;
}

}  // namespace girih::weights
