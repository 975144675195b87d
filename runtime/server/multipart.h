// SPDX-License-Identifier: Apache-2.0
// Multipart: the parts of a multipart/form-data body (RFC 7578), as uploads come.
#pragma once

#include "runtime/base/expected.h"

#include <string>
#include <string_view>
#include <vector>

namespace girih::server {

inline constexpr size_t kMaxFormParts = 32;

struct FormPart {
  std::string name, fileName;
  std::string_view content; // of the body that was read
};

bool isMultipart(std::string_view contentType);
// Fails: InvalidArgument saying where the body is not what its content type says.
Expected<std::vector<FormPart>> readMultipart(std::string_view contentType, std::string_view body);

} // namespace girih::server
