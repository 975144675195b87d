// SPDX-License-Identifier: Apache-2.0
// ChatFields: messages as OpenAI's clients send them, written again as chat templates take them.
#pragma once

#include "runtime/server/request_fields.h"

namespace girih::server {

// Reads `messages`: a "developer" is a "system", the arguments of calls are objects, parts other than text are refused.
void takeMessages(RequestFields &fields, ChatInput &chat);
// chat_template_kwargs and add_generation_prompt.
void takeTemplateOptions(RequestFields &fields, ChatInput &chat);

} // namespace girih::server
