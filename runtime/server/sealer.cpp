// SPDX-License-Identifier: Apache-2.0
// Sealer over libcrypto: authenticated encryption at the memory's speed, which loading KV from a disk needs.
#include "runtime/server/sealer.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/rand.h>

namespace girih::server {
namespace {

constexpr std::string_view kSecretName = "secret";

std::span<const uint8_t> bytesOf(std::string_view text) {
  return {reinterpret_cast<const uint8_t *>(text.data()), text.size()};
}

kv::ContentKey keyedDigest(const kv::ContentKey &key, std::span<const uint8_t> bytes) {
  kv::ContentKey digest;
  unsigned numBytes = 0;
  HMAC(EVP_sha256(), key.data(), static_cast<int>(key.size()), bytes.data(), bytes.size(), digest.data(),
       &numBytes);
  GIRIH_CHECK(numBytes == digest.size());
  return digest;
}

struct ContextDeleter {
  void operator()(EVP_CIPHER_CTX *context) const { EVP_CIPHER_CTX_free(context); }
};
using Context = std::unique_ptr<EVP_CIPHER_CTX, ContextDeleter>;

// Both ways; libcrypto takes lengths as int. Empty parts are nothing to update with.
bool run(EVP_CIPHER_CTX *context, bool seals, const kv::ContentKey &key, std::span<const uint8_t> facts,
         const kv::CipherMark &mark, std::span<const uint8_t> from, uint8_t *to) {
  constexpr size_t kMostAtOnce = size_t{1} << 30;
  int numDone = 0;
  if (EVP_CipherInit_ex(context, EVP_aes_256_gcm(), nullptr, key.data(), mark.nonce.data(), seals) != 1 ||
      (!facts.empty() &&
       EVP_CipherUpdate(context, nullptr, &numDone, facts.data(), static_cast<int>(facts.size())) != 1))
    return false;
  while (!from.empty()) {
    std::span<const uint8_t> part = from.first(std::min(from.size(), kMostAtOnce));
    if (EVP_CipherUpdate(context, to, &numDone, part.data(), static_cast<int>(part.size())) != 1)
      return false;
    from = from.subspan(part.size());
    to += part.size();
  }
  return true;
}

bool sealWith(const kv::ContentKey &key, std::span<const uint8_t> facts, std::span<const uint8_t> plain,
              uint8_t *sealed, kv::CipherMark &mark) {
  Context context(EVP_CIPHER_CTX_new());
  int numDone = 0;
  return context && RAND_bytes(mark.nonce.data(), static_cast<int>(mark.nonce.size())) == 1 &&
         run(context.get(), true, key, facts, mark, plain, sealed) &&
         EVP_CipherFinal_ex(context.get(), nullptr, &numDone) == 1 &&
         EVP_CIPHER_CTX_ctrl(context.get(), EVP_CTRL_GCM_GET_TAG, static_cast<int>(mark.tag.size()),
                             mark.tag.data()) == 1;
}

bool openWith(const kv::ContentKey &key, std::span<const uint8_t> facts, kv::CipherMark mark,
              std::span<uint8_t> bytes) {
  Context context(EVP_CIPHER_CTX_new());
  int numDone = 0;
  return context && run(context.get(), false, key, facts, mark, bytes, bytes.data()) &&
         EVP_CIPHER_CTX_ctrl(context.get(), EVP_CTRL_GCM_SET_TAG, static_cast<int>(mark.tag.size()),
                             mark.tag.data()) == 1 &&
         EVP_CipherFinal_ex(context.get(), nullptr, &numDone) == 1;
}

// Whoever of several processes comes first makes it; all read the same one.
Status makeSecret(const std::string &path) {
  uint8_t secret[32];
  std::string temporary = path + "." + std::to_string(::getpid());
  int file = RAND_bytes(secret, sizeof secret) == 1
                 ? ::open(temporary.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600)
                 : -1;
  bool isWritten = file >= 0 && ::write(file, secret, sizeof secret) == sizeof secret && ::fsync(file) == 0;
  if (file >= 0)
    ::close(file);
  isWritten = isWritten && (::link(temporary.c_str(), path.c_str()) == 0 || errno == EEXIST);
  int error = errno;
  ::unlink(temporary.c_str());
  return isWritten ? Status() : unavailable("cannot write " + path + ": " + std::strerror(error));
}

} // namespace

Expected<std::shared_ptr<const Sealer>> Sealer::ofFolder(const std::string &folder) {
  std::string path = folder + "/" + std::string(kSecretName);
  int file = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
  if (file < 0 && errno == ENOENT) {
    GIRIH_TRY(makeSecret(path));
    file = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
  }
  if (file < 0)
    return unavailable("cannot read " + path + ": " + std::strerror(errno));
  struct stat facts;
  kv::ContentKey secret;
  bool isKnown = ::fstat(file, &facts) == 0;
  ssize_t numRead = ::read(file, secret.data(), secret.size());
  ::close(file);
  if (!isKnown || (facts.st_mode & 077) != 0)
    return failedPrecondition(path +
                              " may be read by others; `chmod 600` it, or remove it and what it sealed");
  if (facts.st_size != static_cast<off_t>(secret.size()) || numRead != static_cast<ssize_t>(secret.size()))
    return dataLoss(
        path + " has " + std::to_string(facts.st_size) +
        " bytes, a secret has 32; remove it and lose what it sealed, or bring the right one back");
  return std::make_shared<const Sealer>(secret);
}

Sealer::Sealer(const kv::ContentKey &secret)
    : blockKey(keyedDigest(secret, bytesOf("girih blocks 1"))),
      textKey(keyedDigest(secret, bytesOf("girih texts 1"))),
      nameKey(keyedDigest(secret, bytesOf("girih names 1"))) {}

bool Sealer::seal(std::span<const uint8_t> facts, std::span<const uint8_t> plain, std::span<uint8_t> sealed,
                  kv::CipherMark &mark) const {
  return sealed.size() == plain.size() && sealWith(blockKey, facts, plain, sealed.data(), mark);
}

bool Sealer::open(std::span<const uint8_t> facts, const kv::CipherMark &mark,
                  std::span<uint8_t> bytes) const {
  return openWith(blockKey, facts, mark, bytes);
}

kv::ContentKey Sealer::hide(const kv::ContentKey &key) const { return keyedDigest(nameKey, key); }

std::string Sealer::sealText(std::string_view purpose, std::string_view text) const {
  kv::CipherMark mark;
  std::string sealed(sizeof mark + text.size(), '\0');
  auto *bytes = reinterpret_cast<uint8_t *>(sealed.data());
  // Only a machine without random numbers or memory comes here.
  GIRIH_CHECK(sealWith(textKey, bytesOf(purpose), bytesOf(text), bytes + sizeof mark, mark));
  std::memcpy(bytes, &mark, sizeof mark);
  return sealed;
}

Expected<std::string> Sealer::openText(std::string_view purpose, std::string_view sealed) const {
  kv::CipherMark mark;
  if (sealed.size() < sizeof mark)
    return dataLoss("it has " + std::to_string(sealed.size()) + " bytes, fewer than a sealed text has");
  std::memcpy(&mark, sealed.data(), sizeof mark);
  std::string text(sealed.substr(sizeof mark));
  if (!openWith(textKey, bytesOf(purpose), mark, {reinterpret_cast<uint8_t *>(text.data()), text.size()}))
    return dataLoss("it was changed, or sealed by another installation");
  return text;
}

} // namespace girih::server
