// SPDX-License-Identifier: Apache-2.0
// ChatPrompt: a conversation through the model's template into token ids; what all chat endpoints begin with. And texts
// that go through no template.
#pragma once

#include "runtime/server/service.h"

namespace girih::server {

struct ChatTokens {
  std::vector<int32_t> tokens;
  std::string text; // what the template wrote
};

// `known`: a text that the prompt may go on from, with the tokens that were evaluated for it: they are kept, so that the
// cache has them even where the same text would be cut otherwise.
// Brings tools into the messages (and a demanded call into the answer's shape) first. Special tokens typed in messages
// stay text. Failures of the template name `field`.
ApiResult<ChatTokens> encodeChat(const Service &service, ChatCompletionRequest &conversation,
                                 const std::string &field, const ChatTokens *known = nullptr);

// The tokens of each, in order; those that came as tokens stay as they are.
ApiResult<std::vector<std::vector<int32_t>>> encodePrompts(const Service &service, std::vector<RawPrompt> prompts,
                                                           std::string_view field);

} // namespace girih::server
