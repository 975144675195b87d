// SPDX-License-Identifier: Apache-2.0
// Files of KV blocks: the header is checked first, then what stands behind it.
#include "runtime/kv/block_file.h"

#include "runtime/base/crc32c.h"
#include "runtime/base/whole_io.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <cstring>

namespace girih::kv {
namespace {

constexpr char kMagic[8] = {'G', 'I', 'R', 'I', 'H', 'K', 'V', '2'};
constexpr size_t kKeyDigits = 64;

// Little-endian, as everything that we write.
struct Header {
  char magic[8];
  uint8_t key[32];
  uint64_t blockBytes;
  uint32_t depth;
  uint32_t blockCrc32c; // 0 where the block is sealed
  uint8_t nonce[12];
  uint8_t tag[16];
  uint8_t zeros[40];
  uint32_t headerCrc32c; // of the bytes before it
};
static_assert(sizeof(Header) == kBlockHeaderBytes);

std::span<const uint8_t> bytesOf(const Header &header, size_t numBytes) {
  return {reinterpret_cast<const uint8_t *>(&header), numBytes};
}

// What the cipher's tag proves besides the block.
std::span<const uint8_t> sealedFacts(const Header &header) {
  return bytesOf(header, offsetof(Header, nonce));
}
uint32_t checksumOf(const Header &header) { return crc32c(bytesOf(header, offsetof(Header, headerCrc32c))); }

class Descriptor {
public:
  explicit Descriptor(int number) : number(number) {}
  ~Descriptor() {
    if (number >= 0)
      ::close(number);
  }
  Descriptor(const Descriptor &) = delete;
  Descriptor &operator=(const Descriptor &) = delete;
  bool isOpen() const { return number >= 0; }
  const int number;
};

bool readKey(std::string_view digits, ContentKey &key) {
  auto valueOf = [](char digit) {
    return digit >= '0' && digit <= '9' ? digit - '0' : digit >= 'a' && digit <= 'f' ? digit - 'a' + 10 : -1;
  };
  for (size_t index = 0; index < key.size(); ++index) {
    int high = valueOf(digits[2 * index]), low = valueOf(digits[2 * index + 1]);
    if (high < 0 || low < 0)
      return false;
    key[index] = static_cast<uint8_t>(high << 4 | low);
  }
  return true;
}

// "-123abc": a number behind a dash, in hexadecimal digits.
template <typename Number> bool takeNumber(std::string_view &text, Number &number) {
  if (text.empty() || text.front() != '-')
    return false;
  auto [end, error] = std::from_chars(text.data() + 1, text.data() + text.size(), number, 16);
  text.remove_prefix(static_cast<size_t>(end - text.data()));
  return error == std::errc{} && number >= 0;
}

std::string hexNumber(uint64_t number) {
  char digits[17];
  auto [end, error] = std::to_chars(digits, digits + sizeof digits, number, 16);
  return {digits, end};
}

} // namespace

std::string BlockFileName::text() const {
  return hexDigits(key) + "-" + hexNumber(depth) + "-" + hexNumber(static_cast<uint64_t>(expiresAt)) +
         std::string(kBlockFileSuffix);
}

std::optional<BlockFileName> BlockFileName::parse(std::string_view text) {
  BlockFileName name;
  if (text.size() < kKeyDigits || !readKey(text.substr(0, kKeyDigits), name.key))
    return std::nullopt;
  text.remove_prefix(kKeyDigits);
  if (!takeNumber(text, name.depth) || !takeNumber(text, name.expiresAt) || text != kBlockFileSuffix)
    return std::nullopt;
  return name;
}

bool writeBlockFile(const std::string &path, const BlockFileName &name, std::span<const uint8_t> block,
                    const BlockCipher *cipher, std::vector<uint8_t> &scratch) {
  Header header = {};
  std::memcpy(header.magic, kMagic, sizeof kMagic);
  std::copy(name.key.begin(), name.key.end(), header.key);
  header.blockBytes = block.size();
  header.depth = name.depth;
  if (cipher) {
    CipherMark mark;
    scratch.resize(block.size());
    if (!cipher->seal(sealedFacts(header), block, scratch, mark))
      return false;
    std::copy(mark.nonce.begin(), mark.nonce.end(), header.nonce);
    std::copy(mark.tag.begin(), mark.tag.end(), header.tag);
    block = scratch;
  } else {
    header.blockCrc32c = crc32c(block);
  }
  header.headerCrc32c = checksumOf(header);
  Descriptor file(::open(path.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600));
  return file.isOpen() && writeWhole(file.number, bytesOf(header, sizeof header)) &&
         writeWhole(file.number, block);
}

BlockRead readBlockFile(const std::string &path, const BlockFileName &name, std::span<uint8_t> block,
                        const BlockCipher *cipher) {
  Descriptor file(::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW));
  if (!file.isOpen())
    return errno == ENOENT ? BlockRead::Absent : BlockRead::Damaged;
  Header header;
  bool isSound = readWhole(file.number, {reinterpret_cast<uint8_t *>(&header), sizeof header}) &&
                 std::memcmp(header.magic, kMagic, sizeof kMagic) == 0 &&
                 header.headerCrc32c == checksumOf(header) &&
                 std::memcmp(header.key, name.key.data(), name.key.size()) == 0 &&
                 header.blockBytes == block.size() && readWhole(file.number, block);
  if (isSound && cipher) {
    CipherMark mark;
    std::copy(std::begin(header.nonce), std::end(header.nonce), mark.nonce.begin());
    std::copy(std::begin(header.tag), std::end(header.tag), mark.tag.begin());
    isSound = cipher->open(sealedFacts(header), mark, block);
  } else if (isSound) {
    isSound = header.blockCrc32c == crc32c(block);
  }
  return isSound ? BlockRead::Sound : BlockRead::Damaged;
}

} // namespace girih::kv
