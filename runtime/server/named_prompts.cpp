// SPDX-License-Identifier: Apache-2.0
// NamedPrompts: files, read when they are asked for.
#include "runtime/server/named_prompts.h"

#include "runtime/base/sha256.h"
#include "runtime/server/state_folder.h"

#include <algorithm>
#include <cctype>

namespace girih::server {

bool isPromptName(std::string_view name) {
  return !name.empty() && name.size() <= 64 && name.front() != '.' &&
         std::all_of(name.begin(), name.end(), [](unsigned char letter) {
           return std::isalnum(letter) || letter == '-' || letter == '_' || letter == '.';
         });
}

std::shared_ptr<const NamedPrompt> NamedPrompts::find(std::string_view name) {
  if (folder.empty() || !isPromptName(name))
    return nullptr;
  auto text = readFile(folder + "/" + std::string(name) + std::string(kPromptSuffix), kMaxPromptBytes);
  std::lock_guard lock(mutex);
  auto found = known.find(name);
  if (!text.isOk()) {
    if (found != known.end())
      known.erase(found);
    return nullptr;
  }
  if (found != known.end() && found->second->text == *text)
    return found->second;
  auto prompt = std::make_shared<NamedPrompt>();
  // By its text: two names of one text are one, and a changed text is another.
  Sha256Digest digest = sha256({reinterpret_cast<const uint8_t *>(text->data()), text->size()});
  prompt->sharedSalt = "named prompt " + hexDigits(digest);
  prompt->text = std::move(text).value();
  prompt->tokens = prepare(*prompt);
  return known[std::string(name)] = std::move(prompt);
}

std::vector<std::string> NamedPrompts::names() const {
  std::vector<std::string> found;
  for (const std::string &file : folder.empty() ? std::vector<std::string>() : filesIn(folder, kPromptSuffix))
    if (std::string name = file.substr(0, file.size() - kPromptSuffix.size()); isPromptName(name))
      found.push_back(std::move(name));
  return found;
}

} // namespace girih::server
