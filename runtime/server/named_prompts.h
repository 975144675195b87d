// SPDX-License-Identifier: Apache-2.0
// NamedPrompts: texts that the operator gave a name, for `prompt` of responses; computed once, for everybody.
#pragma once

#include "runtime/base/expected.h"

#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <mutex>
#include <string>
#include <string_view>
#include <vector>

namespace girih::server {

inline constexpr size_t kMaxPromptBytes = size_t{4} << 20;
// The part of the state folder that has them: NAME.prompt, a text each.
inline constexpr std::string_view kPromptFolder = "prompts";
inline constexpr std::string_view kPromptSuffix = ".prompt";

// 1 to 64 letters, digits, '-', '_' and '.', the first one no '.'.
bool isPromptName(std::string_view name);

struct NamedPrompt {
  std::string text;
  std::string sharedSalt;      // by which its KV is found, whoever asks: it is nobody's own
  std::vector<int32_t> tokens; // as a conversation's beginning
};

// Looks at the folder again for every request: `girih prompt add` needs no restart. Thread-safe.
class NamedPrompts {
public:
  // `folder` empty: there are none. `prepare` is called for every text that was not seen before, and gives its tokens.
  NamedPrompts(std::string folder, std::function<std::vector<int32_t>(const NamedPrompt &)> prepare)
      : folder(std::move(folder)), prepare(std::move(prepare)) {}
  // Null: there is none of that name.
  std::shared_ptr<const NamedPrompt> find(std::string_view name);
  std::vector<std::string> names() const;

private:
  const std::string folder;
  const std::function<std::vector<int32_t>(const NamedPrompt &)> prepare;
  std::mutex mutex;
  std::map<std::string, std::shared_ptr<const NamedPrompt>, std::less<>> known;
};

} // namespace girih::server
