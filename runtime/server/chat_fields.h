// SPDX-License-Identifier: Apache-2.0
// ChatFields: messages as OpenAI's clients send them, written again as chat templates take them.
#pragma once

#include "runtime/server/request_fields.h"

namespace girih::server {

// Writes `messages` into `messagesJson`: a "developer" is a "system", parts other than text are refused.
void takeMessages(RequestFields &fields, std::string &messagesJson);
// chat_template_kwargs and add_generation_prompt.
void takeTemplateOptions(RequestFields &fields, ChatInput &chat);

} // namespace girih::server
