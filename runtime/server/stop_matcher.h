// SPDX-License-Identifier: Apache-2.0
// StopMatcher: cuts a stream of text at the first stop string, and holds back what may be the beginning of one.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace girih::server {

// What push() gave, joined, never holds a byte at or after a stop string. Thread-compatible.
class StopMatcher {
public:
  // Requires: no stop string is empty.
  explicit StopMatcher(std::vector<std::string> stopStrings) : stopStrings(std::move(stopStrings)) {}

  // The text that can be shown now. Once a stop string was met: nothing, whatever comes.
  std::string push(std::string_view text);
  // What was held back and turned out to begin no stop string after all.
  std::string finish();
  bool hasMatched() const { return matched; }
  // Empty: none was met.
  const std::string &matchedString() const { return matchedText; }

private:
  // Bytes at the end of `held` that some stop string begins with.
  size_t heldBytes() const;

  std::vector<std::string> stopStrings;
  std::string held;
  std::string matchedText;
  bool matched = false;
};

}  // namespace girih::server
