// SPDX-License-Identifier: Apache-2.0
// The two tables of quill, and how both say why they refuse.
#pragma once

#include "isa.h"

#include <girih/backend.h>

#include <cstdio>
#include <new>

namespace quill {

extern const girih_run_table kRunTable;
extern const girih_compile_table kCompileTable;

inline girih_code answer(girih_message *message, girih_code code, const std::string &text) {
  if (message && message->capacity_bytes > 0)
    std::snprintf(message->text, message->capacity_bytes, "%s", text.c_str());
  return code;
}

// Runs `work`, which throws what it refuses: no exception crosses the line.
template <typename Work> girih_code guarded(girih_message *message, Work work) {
  try {
    work();
    return GIRIH_OK;
  } catch (const Refusal &refusal) {
    return answer(message, refusal.code, refusal.what());
  } catch (const std::bad_alloc &) {
    return answer(message, GIRIH_RESOURCE_EXHAUSTED, "the host has no memory left");
  } catch (const std::exception &other) {
    return answer(message, GIRIH_INTERNAL, other.what());
  }
}

}  // namespace quill
