// SPDX-License-Identifier: Apache-2.0
// ApiKeys: who may ask, under which name, with which priority; told apart without telling how near a guess was.
#pragma once

#include "runtime/base/expected.h"
#include "runtime/base/sha256.h"
#include "runtime/server/http_server.h"

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace girih::server {

// One who asks. Requests without a key, where none is needed, are one client too.
struct Client {
  std::string name = "anonymous"; // in metrics and logs, which never show a key
  uint32_t number = 0;            // the engine's: fairness and shares of the cache are by it
  int32_t priority = 0;
  uint32_t weight = 1;
  std::string salt; // what only this client's cached prompts are found by; see ApiKeys
  // The same in every run, whatever stands around its key: what is kept between runs belongs to it. No secret.
  std::string identity = "anybody";
};

// Immutable and thread-safe.
class ApiKeys {
public:
  // No key is asked for; everybody is one client.
  ApiKeys() : clients(1) {}
  // One key, all defaults.
  static ApiKeys ofOne(std::string_view key);
  // A line for each key: `KEY [name=NAME] [priority=N] [weight=N]`; empty lines and those that begin with '#'
  // do not count. Lines with the same name are keys of one client. `shareCache`: all clients find each other's
  // prompts in the cache (faster, but the time to an answer tells what others asked). Fails: InvalidArgument
  // naming the line.
  static Expected<ApiKeys> parse(std::string_view text, bool shareCache);

  bool areAskedFor() const { return !digests.empty(); }
  // Null when the key is none of these. Takes the same time wherever a wrong key differs: digests are compared,
  // all of them, and to the end.
  const Client *find(std::string_view key) const;
  const Client &anybody() const { return clients.front(); }
  // By number.
  const std::vector<Client> &all() const { return clients; }

private:
  struct KeyDigest {
    Sha256Digest digest;
    size_t client;
  };
  std::vector<KeyDigest> digests;
  std::vector<Client> clients;
};

// The key that a request carries: `Authorization: Bearer KEY` or `x-api-key: KEY`; empty: none.
std::string_view offeredKey(const HttpRequest &request);

} // namespace girih::server
