// SPDX-License-Identifier: Apache-2.0
// ToolFields: tools and tool_choice in the shapes of OpenAI's chat, of its responses and of Anthropic's messages.
#pragma once

#include "runtime/server/request_fields.h"

namespace girih::server {

inline constexpr size_t kMaxTools = 128;

// tools, tool_choice and parallel_tool_calls.
void takeTools(RequestFields &fields, ToolUse &toolUse);

} // namespace girih::server
