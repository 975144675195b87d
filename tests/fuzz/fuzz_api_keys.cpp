// SPDX-License-Identifier: Apache-2.0
// Fuzz target: any text as a file of API keys; what is accepted names clients that can be found and are within bounds.
#include "runtime/engine/engine.h"
#include "runtime/server/api_keys.h"

#include <cstdlib>
#include <string_view>

extern "C" int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t numBytes) {
  std::string_view text(reinterpret_cast<const char *>(bytes), numBytes);
  for (bool shareCache : {false, true}) {
    auto keys = girih::server::ApiKeys::parse(text, shareCache);
    if (!keys.isOk())
      continue;
    if (keys->all().empty() || keys->all().size() > girih::engine::kMaxClients)
      std::abort();
    // The first word of a line that counts is a key.
    size_t at = text.find_first_not_of(" \t\r\n");
    if (at == std::string_view::npos || text[at] == '#' || !keys->areAskedFor())
      continue;
    std::string_view first = text.substr(at, text.find_first_of(" \t\r\n", at) - at);
    if (!keys->find(first) || keys->find(std::string(first) + "x y"))
      std::abort();
  }
  return 0;
}
