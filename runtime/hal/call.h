// SPDX-License-Identifier: Apache-2.0
// Call: room for a backend's message, and the Status made of it.
#pragma once

#include "runtime/abi/message.h"
#include "runtime/base/status.h"

#include <string>

namespace girih::hal {

class Call {
public:
  girih_message *message() { return &buffer; }
  Status status(girih_code code) const {
    if (code == GIRIH_OK)
      return {};
    bool isKnown = code > 0 && code <= GIRIH_INTERNAL;
    return {isKnown ? static_cast<StatusCode>(code) : StatusCode::Internal,
            text[0] ? std::string(text)
                    : "the backend failed with code " + std::to_string(code) + " and no message"};
  }

private:
  char text[4096] = {}; // a compiler's diagnostic with its location and notes
  girih_message buffer = {text, sizeof text};
};

} // namespace girih::hal
