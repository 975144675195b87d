// SPDX-License-Identifier: Apache-2.0
// ApiKeys: a small file of keys, kept as digests only.
#include "runtime/server/api_keys.h"

#include "runtime/engine/engine.h"

#include <algorithm>
#include <cctype>
#include <charconv>

namespace girih::server {
namespace {

constexpr size_t kMaxNameBytes = 64;

Sha256Digest digestOf(std::string_view text) {
  return sha256({reinterpret_cast<const uint8_t *>(text.data()), text.size()});
}

// Hashed again: the digest of a key is its salt.
std::string identityOf(const Sha256Digest &digest) { return "key " + hexDigits(sha256(digest)); }

// The next word of the line, which loses it.
std::string_view takeWord(std::string_view &line) {
  constexpr std::string_view kBlanks = " \t\r";
  line.remove_prefix(std::min(line.find_first_not_of(kBlanks), line.size()));
  std::string_view word = line.substr(0, line.find_first_of(kBlanks));
  line.remove_prefix(word.size());
  return word;
}

Expected<int32_t> readNumber(std::string_view name, std::string_view text, int32_t lowest, int32_t highest) {
  int32_t number = 0;
  auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), number);
  if (error != std::errc{} || end != text.data() + text.size() || number < lowest || number > highest)
    return invalidArgument(std::string(name) + " is \"" + std::string(text.substr(0, 20)) +
                           "\"; it must be a number from " + std::to_string(lowest) + " to " +
                           std::to_string(highest));
  return number;
}

Status readOption(std::string_view word, Client &client) {
  size_t equals = word.find('=');
  std::string_view name = word.substr(0, equals);
  std::string_view value = equals == word.npos ? std::string_view() : word.substr(equals + 1);
  if (name == "priority") {
    GIRIH_ASSIGN(client.priority, readNumber(name, value, -100, 100));
  } else if (name == "weight") {
    GIRIH_ASSIGN(int32_t weight, readNumber(name, value, 1, 1000));
    client.weight = static_cast<uint32_t>(weight);
  } else if (name == "name") {
    bool isPlain = !value.empty() && value.size() <= kMaxNameBytes &&
                   std::all_of(value.begin(), value.end(), [](unsigned char letter) {
                     return std::isalnum(letter) || letter == '-' || letter == '_' || letter == '.';
                   });
    if (!isPlain)
      return invalidArgument("a name must be 1 to " + std::to_string(kMaxNameBytes) +
                             " letters, digits, '-', '_' or '.'");
    client.name = value;
  } else {
    return invalidArgument("an option begins like \"" + std::string(name.substr(0, 20)) +
                           "\"; known are name=, priority= and weight=");
  }
  return {};
}

} // namespace

ApiKeys ApiKeys::ofOne(std::string_view key) {
  ApiKeys keys;
  keys.digests.push_back({digestOf(key), 0});
  keys.clients.front().identity = identityOf(keys.digests.front().digest);
  return keys;
}

Expected<ApiKeys> ApiKeys::parse(std::string_view text, bool shareCache) {
  ApiKeys keys;
  keys.clients.clear();
  size_t lineNumber = 0;
  while (!text.empty()) {
    ++lineNumber;
    std::string_view line = text.substr(0, text.find('\n'));
    text.remove_prefix(std::min(line.size() + 1, text.size()));
    std::string_view key = takeWord(line);
    if (key.empty() || key.front() == '#')
      continue;
    std::string place = "line " + std::to_string(lineNumber);
    Client client;
    client.name.clear();
    for (std::string_view word = takeWord(line); !word.empty(); word = takeWord(line))
      if (Status status = readOption(word, client); !status.isOk())
        return std::move(status).withContext(place);
    bool isNamed = !client.name.empty();
    if (!isNamed)
      client.name = "client-" + std::to_string(keys.clients.size() + 1);
    Sha256Digest digest = digestOf(key);
    for (const KeyDigest &other : keys.digests)
      if (other.digest == digest)
        return invalidArgument(place + " has a key that stands further up already; each may stand once");
    auto same = std::find_if(keys.clients.begin(), keys.clients.end(),
                             [&](const Client &other) { return other.name == client.name; });
    if (same == keys.clients.end()) {
      if (keys.clients.size() >= engine::kMaxClients)
        return invalidArgument(place + " names one client too many; at most " +
                               std::to_string(engine::kMaxClients) + " are told apart");
      client.number = static_cast<uint32_t>(keys.clients.size());
      // From the key itself: whoever reads the cache's keys learns nothing without it.
      if (!shareCache)
        client.salt.assign(digest.begin(), digest.end());
      client.identity = isNamed ? "name " + client.name : identityOf(digest);
      keys.clients.push_back(client);
      same = std::prev(keys.clients.end());
    }
    keys.digests.push_back({digest, static_cast<size_t>(same - keys.clients.begin())});
  }
  if (keys.digests.empty())
    return invalidArgument("there is no key in it; a line must begin with one");
  return keys;
}

const Client *ApiKeys::find(std::string_view key) const {
  Sha256Digest offered = digestOf(key);
  const Client *found = nullptr;
  for (const KeyDigest &known : digests) {
    unsigned difference = 0;
    for (size_t index = 0; index < offered.size(); ++index)
      difference |= offered[index] ^ known.digest[index];
    if (difference == 0)
      found = &clients[known.client];
  }
  return found;
}

std::string_view offeredKey(const HttpRequest &request) {
  constexpr std::string_view kScheme = "bearer ";
  std::string_view offered = request.authorization;
  bool isBearer = offered.size() >= kScheme.size();
  for (size_t index = 0; isBearer && index < kScheme.size(); ++index)
    isBearer = (offered[index] | 0x20) == (kScheme[index] | 0x20);
  return isBearer ? offered.substr(kScheme.size()) : std::string_view(request.apiKey);
}

} // namespace girih::server
