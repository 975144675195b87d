// SPDX-License-Identifier: Apache-2.0
// Metadata: typed access to the key/value pairs of a GGUF file.
#include "runtime/weights/metadata.h"

#include <bit>
#include <cstring>
#include <limits>
#include <string>

namespace girih::weights {
namespace {

Status typeMismatch(std::string_view wanted, MetadataType found) {
  return invalidArgument("is of type " + std::string(metadataTypeName(found)) + "; " + std::string(wanted) +
                         " is needed here");
}

Status inKey(Status status, std::string_view key) {
  return std::move(status).withContext("metadata key `" + std::string(key) + "`");
}

template <typename T> T loadAt(std::span<const uint8_t> bytes, uint64_t index) {
  T value;
  std::memcpy(&value, bytes.data() + index * sizeof(T), sizeof(T));
  return value;
}

// Calls `visit` with every number as its own C++ type; false when the elements are not numbers.
template <typename Visit> bool visitScalars(const MetadataArray &array, Visit visit) {
  auto each = [&](auto example) {
    for (uint64_t index = 0; index < array.numElements; ++index)
      visit(loadAt<decltype(example)>(array.scalarBytes, index));
    return true;
  };
  switch (array.elementType) {
  case MetadataType::U8:
  case MetadataType::Bool: return each(uint8_t());
  case MetadataType::I8: return each(int8_t());
  case MetadataType::U16: return each(uint16_t());
  case MetadataType::I16: return each(int16_t());
  case MetadataType::U32: return each(uint32_t());
  case MetadataType::I32: return each(int32_t());
  case MetadataType::U64: return each(uint64_t());
  case MetadataType::I64: return each(int64_t());
  case MetadataType::F32: return each(float());
  case MetadataType::F64: return each(double());
  case MetadataType::String:
  case MetadataType::Array: return false;
  }
  return false;
}

bool isFloatType(MetadataType type) { return type == MetadataType::F32 || type == MetadataType::F64; }

}  // namespace

std::string_view metadataTypeName(MetadataType type) {
  constexpr std::string_view kNames[] = {"u8",   "i8",     "u16",   "i16", "u32", "i32", "f32",
                                         "bool", "string", "array", "u64", "i64", "f64"};
  return kNames[static_cast<size_t>(type)];
}

Expected<std::vector<int64_t>> MetadataArray::asIntegers() const {
  std::vector<int64_t> values;
  bool fits = true;
  auto append = [&](auto number) {
    if constexpr (std::is_same_v<decltype(number), uint64_t>)
      fits &= number <= static_cast<uint64_t>(std::numeric_limits<int64_t>::max());
    values.push_back(static_cast<int64_t>(number));
  };
  if (isFloatType(elementType) || !visitScalars(*this, append))
    return typeMismatch("an array of integers", elementType);
  if (!fits)
    return invalidArgument("holds a number beyond 2^63 - 1, the largest that is read");
  return values;
}

Expected<std::vector<float>> MetadataArray::asNumbers() const {
  std::vector<float> values;
  if (!visitScalars(*this, [&](auto number) { values.push_back(static_cast<float>(number)); }))
    return typeMismatch("an array of numbers", elementType);
  return values;
}

Expected<std::span<const std::string_view>> MetadataArray::asStrings() const {
  if (elementType != MetadataType::String)
    return typeMismatch("an array of strings", elementType);
  return std::span<const std::string_view>(strings);
}

const MetadataValue *Metadata::find(std::string_view key) const {
  auto found = indexOfKey.find(key);
  return found == indexOfKey.end() ? nullptr : &list[found->second].value;
}

Expected<const MetadataValue *> Metadata::require(std::string_view key) const {
  if (const MetadataValue *value = find(key))
    return value;
  return notFound("metadata key `" + std::string(key) + "` is absent; the file has " + std::to_string(list.size()) +
                  " keys");
}

Expected<std::string_view> Metadata::string(std::string_view key) const {
  GIRIH_ASSIGN(const MetadataValue *value, require(key));
  if (const auto *text = std::get_if<std::string_view>(&value->value))
    return *text;
  return inKey(typeMismatch("a string", value->type), key);
}

Expected<int64_t> Metadata::integer(std::string_view key) const {
  GIRIH_ASSIGN(const MetadataValue *value, require(key));
  if (const auto *number = std::get_if<int64_t>(&value->value))
    return *number;
  const auto *number = std::get_if<uint64_t>(&value->value);
  if (!number)
    return inKey(typeMismatch("an integer", value->type), key);
  if (*number > static_cast<uint64_t>(std::numeric_limits<int64_t>::max()))
    return inKey(invalidArgument("is " + std::to_string(*number) + ", beyond 2^63 - 1"), key);
  return static_cast<int64_t>(*number);
}

Expected<double> Metadata::number(std::string_view key) const {
  GIRIH_ASSIGN(const MetadataValue *value, require(key));
  if (const auto *number = std::get_if<double>(&value->value))
    return *number;
  if (const auto *number = std::get_if<uint64_t>(&value->value))
    return static_cast<double>(*number);
  if (const auto *number = std::get_if<int64_t>(&value->value))
    return static_cast<double>(*number);
  return inKey(typeMismatch("a number", value->type), key);
}

Expected<bool> Metadata::boolean(std::string_view key) const {
  GIRIH_ASSIGN(const MetadataValue *value, require(key));
  if (const auto *flag = std::get_if<bool>(&value->value))
    return *flag;
  return inKey(typeMismatch("a boolean", value->type), key);
}

Expected<const MetadataArray *> Metadata::array(std::string_view key) const {
  GIRIH_ASSIGN(const MetadataValue *value, require(key));
  if (const auto *elements = std::get_if<MetadataArray>(&value->value))
    return elements;
  return inKey(typeMismatch("an array", value->type), key);
}

bool Metadata::add(std::string_view key, MetadataValue value) {
  if (!indexOfKey.emplace(key, list.size()).second)
    return false;
  list.push_back({key, std::move(value)});
  return true;
}

}  // namespace girih::weights
