// SPDX-License-Identifier: Apache-2.0
// Owning wrappers over the C interface of the Rust library.
#pragma once

#include "runtime/base/status.h"
#include "runtime/text/ffi/text_ffi.h"

#include <cstring>
#include <string>
#include <string_view>
#include <vector>

namespace girih {

// A buffer that the library filled, freed at the end of its scope.
class FfiBuffer {
public:
  FfiBuffer() = default;
  FfiBuffer(const FfiBuffer &) = delete;
  FfiBuffer &operator=(const FfiBuffer &) = delete;
  ~FfiBuffer() {
    if (raw.data)
      girih_text_free(raw);
  }
  GirihTextBuffer *out() { return &raw; }
  std::string text() const {
    return raw.data ? std::string(static_cast<const char *>(raw.data), raw.size) : std::string();
  }
  template <typename T> std::vector<T> elements() const {
    std::vector<T> out(raw.size / sizeof(T));
    if (!out.empty())
      std::memcpy(out.data(), raw.data, out.size() * sizeof(T));
    return out;
  }

private:
  GirihTextBuffer raw{};
};

inline GirihTextSlice ffiSlice(std::string_view text) { return {text.data(), text.size()}; }

} // namespace girih
