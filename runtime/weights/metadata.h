// SPDX-License-Identifier: Apache-2.0
// Metadata: the typed key/value pairs of a GGUF file.
#pragma once

#include "runtime/base/expected.h"

#include <cstdint>
#include <span>
#include <string_view>
#include <unordered_map>
#include <variant>
#include <vector>

namespace girih::weights {

// The numbers are those of the file.
enum class MetadataType : uint32_t {
  U8 = 0, I8 = 1, U16 = 2, I16 = 3, U32 = 4, I32 = 5, F32 = 6,
  Bool = 7, String = 8, Array = 9, U64 = 10, I64 = 11, F64 = 12,
};
std::string_view metadataTypeName(MetadataType type);

// Elements of one type. Numbers stay in the file (unaligned); strings are views into it.
struct MetadataArray {
  MetadataType elementType = MetadataType::U8;
  uint64_t numElements = 0;
  std::span<const uint8_t> scalarBytes;        // numbers and booleans
  std::vector<std::string_view> strings;       // String
  std::vector<MetadataArray> arrays;           // Array

  // Fails: InvalidArgument when the elements are not integers (or booleans) / numbers / strings.
  Expected<std::vector<int64_t>> asIntegers() const;
  Expected<std::vector<float>> asNumbers() const;
  Expected<std::span<const std::string_view>> asStrings() const;
};

// Unsigned integers are uint64_t, signed ones int64_t, both float types double (exact).
struct MetadataValue {
  MetadataType type = MetadataType::U8;
  std::variant<uint64_t, int64_t, double, bool, std::string_view, MetadataArray> value;
};

struct MetadataEntry {
  std::string_view key;
  MetadataValue value;
};

// Views into the mapped file: valid as long as the store that answered it. Thread-safe for reading.
class Metadata {
public:
  std::span<const MetadataEntry> entries() const { return list; }
  const MetadataValue *find(std::string_view key) const;

  // Fail: NotFound when the key is absent, InvalidArgument when its type is another one. Any integer type and any
  // sign counts as integer, integers count as numbers: writers differ in them.
  Expected<std::string_view> string(std::string_view key) const;
  Expected<int64_t> integer(std::string_view key) const;
  Expected<double> number(std::string_view key) const;
  Expected<bool> boolean(std::string_view key) const;
  Expected<const MetadataArray *> array(std::string_view key) const;

  // False when the key stands there already.
  bool add(std::string_view key, MetadataValue value);

private:
  Expected<const MetadataValue *> require(std::string_view key) const;
  std::vector<MetadataEntry> list;
  std::unordered_map<std::string_view, size_t> indexOfKey;
};

}  // namespace girih::weights
