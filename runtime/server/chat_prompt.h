// SPDX-License-Identifier: Apache-2.0
// ChatPrompt: a conversation through the model's template into token ids; what all chat endpoints begin with.
#pragma once

#include "runtime/server/service.h"

namespace girih::server {

struct ChatTokens {
  std::vector<int32_t> tokens;
  std::string text; // what the template wrote
};

// Special tokens typed in messages stay text. Failures name `field`, unless the model has no template.
ApiResult<ChatTokens> encodeChat(const Service &service, const ChatInput &chat, const std::string &field);

} // namespace girih::server
