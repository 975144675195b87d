// SPDX-License-Identifier: Apache-2.0
// ToolUse: brings tools into the prompt, in the template's own way or in ours, and a demanded call into the answer.
#pragma once

#include "runtime/server/api_types.h"
#include "runtime/text/tool_format.h"

namespace girih::server {

// Changes the request's messages and shape. Fails where the answer's shape and tools exclude each other.
std::optional<ApiError> applyTools(const ToolFormat &format, ChatCompletionRequest &request);

// A name that nobody guesses and no other object has: the prefix and 24 letters and digits.
std::string makeId(std::string_view prefix);

} // namespace girih::server
