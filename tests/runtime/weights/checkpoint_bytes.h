// SPDX-License-Identifier: Apache-2.0
// Builds GGUF and safetensors files in memory, well-formed or not, and folders of files that go away with the test.
#pragma once

#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <span>
#include <sstream>
#include <string>
#include <string_view>
#include <vector>

namespace girih::weights {

// Appends little-endian fields as GGUF has them.
class ByteWriter {
public:
  template <typename T> ByteWriter &number(T value) {
    size_t offset = bytes.size();
    bytes.resize(offset + sizeof(T));
    std::memcpy(bytes.data() + offset, &value, sizeof(T));
    return *this;
  }
  ByteWriter &raw(std::span<const uint8_t> more) {
    bytes.insert(bytes.end(), more.begin(), more.end());
    return *this;
  }
  ByteWriter &string(std::string_view text) {
    number<uint64_t>(text.size());
    return raw({reinterpret_cast<const uint8_t *>(text.data()), text.size()});
  }
  ByteWriter &pad(size_t alignment) {
    bytes.resize((bytes.size() + alignment - 1) / alignment * alignment);
    return *this;
  }
  std::vector<uint8_t> bytes;
};

// A GGUF file; every number of it can be set to something untrue before build().
struct GgufBytes {
  uint32_t magic = 0x46554747;
  uint32_t version = 3;
  uint64_t numTensors = 0;
  uint64_t numPairs = 0;
  ByteWriter pairs;
  ByteWriter records;
  ByteWriter data;
  size_t alignment = 32;

  // The pair's value follows: file.pair("key", 4).number<uint32_t>(7).
  ByteWriter &pair(std::string_view key, uint32_t type) {
    ++numPairs;
    return pairs.string(key).number(type);
  }
  // `extents` as in the file: innermost first. `dataBytes` zeros are appended to the data.
  void tensor(std::string_view name, std::vector<uint64_t> extents, uint32_t type, size_t dataBytes) {
    data.pad(alignment);
    tensorAt(name, extents, type, data.bytes.size());
    data.bytes.resize(data.bytes.size() + dataBytes);
  }
  void tensorAt(std::string_view name, const std::vector<uint64_t> &extents, uint32_t type, uint64_t offset) {
    ++numTensors;
    records.string(name).number(static_cast<uint32_t>(extents.size()));
    for (uint64_t extent : extents)
      records.number(extent);
    records.number(type).number(offset);
  }
  std::vector<uint8_t> build() const {
    ByteWriter file;
    file.number(magic).number(version).number(numTensors).number(numPairs);
    file.raw(pairs.bytes).raw(records.bytes).pad(alignment).raw(data.bytes);
    return file.bytes;
  }
};

inline std::vector<uint8_t> safetensorsBytes(std::string_view header, size_t dataBytes) {
  ByteWriter file;
  file.string(header);
  file.bytes.resize(file.bytes.size() + dataBytes);
  return file.bytes;
}

inline std::vector<uint8_t> readBytes(const std::string &path) {
  std::ifstream file(path, std::ios::binary);
  std::ostringstream text;
  text << file.rdbuf();
  std::string content = text.str();
  return {content.begin(), content.end()};
}

// A folder under the system's temporary one, removed with its files at the end of the test.
class TemporaryFolder {
public:
  TemporaryFolder() {
    std::string pattern = (std::filesystem::temp_directory_path() / "girih-weights-XXXXXX").string();
    folder = mkdtemp(pattern.data());
  }
  ~TemporaryFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(folder, ignored);
  }
  std::string path(std::string_view name = "") const { return (folder / name).string(); }
  std::string write(std::string_view name, std::span<const uint8_t> bytes) const {
    std::ofstream(folder / name, std::ios::binary)
        .write(reinterpret_cast<const char *>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
    return path(name);
  }
  std::string write(std::string_view name, std::string_view text) const {
    return write(name, std::span(reinterpret_cast<const uint8_t *>(text.data()), text.size()));
  }

private:
  std::filesystem::path folder;
};

}  // namespace girih::weights
