// SPDX-License-Identifier: Apache-2.0
// StopMatcher: stop strings are few and short, so plain searching is enough.
#include "runtime/server/stop_matcher.h"

#include <algorithm>
#include <utility>

namespace girih::server {

std::string StopMatcher::push(std::string_view text) {
  if (matched)
    return {};
  held += text;
  // Only what was held back before can begin a match that ends in the new text, so `held` stays short.
  size_t stopAt = std::string::npos;
  for (const std::string &stop : stopStrings)
    if (size_t place = held.find(stop); place < stopAt) {
      stopAt = place;
      matchedText = stop;
    }
  matched = stopAt != std::string::npos;
  size_t numShown = matched ? stopAt : held.size() - heldBytes();
  std::string shown = held.substr(0, numShown);
  held.erase(0, numShown);
  return shown;
}

std::string StopMatcher::finish() {
  return matched ? std::string() : std::exchange(held, {});
}

size_t StopMatcher::heldBytes() const {
  size_t longest = 0;
  for (const std::string &stop : stopStrings)
    for (size_t numBytes = std::min(stop.size() - 1, held.size()); numBytes > longest; --numBytes)
      if (std::string_view(held).substr(held.size() - numBytes) == std::string_view(stop).substr(0, numBytes))
        longest = numBytes;
  return longest;
}

}  // namespace girih::server
