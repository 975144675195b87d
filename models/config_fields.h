// SPDX-License-Identifier: Apache-2.0
// Typed reading of a checkpoint's fields, where absent is a normal answer: GGUF metadata and config.json
// alike.
#pragma once

#include "runtime/base/expected.h"
#include "runtime/weights/weight_store.h"

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace girih::models {

// Every reader answers nullopt when the field is absent (or null), and fails with InvalidArgument when it has
// another type.
template <typename T> using Field = Expected<std::optional<T>>;

// Metadata under one prefix: integer("block_count") reads `llama.block_count`.
class GgufFields {
public:
  GgufFields(const weights::WeightStore &store, std::string_view prefix) : store(store), prefix(prefix) {}

  Field<int64_t> integer(std::string_view key) const;
  Field<double> number(std::string_view key) const;
  Field<bool> boolean(std::string_view key) const;
  Field<std::string> string(std::string_view key) const;

private:
  std::string fullKey(std::string_view key) const;
  const weights::WeightStore &store;
  std::string prefix;
};

// A JSON object of a side file. Copies share the parsed document.
class JsonFields {
public:
  // Fails: NotFound (the folder has no such file), InvalidArgument (not a JSON object).
  static Expected<JsonFields> open(const weights::WeightStore &store, std::string_view fileName);

  Field<int64_t> integer(std::string_view key) const;
  Field<double> number(std::string_view key) const;
  Field<bool> boolean(std::string_view key) const;
  Field<std::string> string(std::string_view key) const;
  Field<JsonFields> object(std::string_view key) const;
  bool isNull(std::string_view key) const; // present, and null
  Field<std::vector<std::string>> strings(std::string_view key) const;
  // A list of integers, or one alone.
  Field<std::vector<int64_t>> integers(std::string_view key) const;

private:
  struct Document;
  template <typename T, typename Get>
  Field<T> read(std::string_view key, std::string_view expected, Get get) const;
  std::shared_ptr<const Document> document;
  std::string where;             // `config.json`, `config.json: rope_scaling`
  std::vector<std::string> path; // of this object in the document
};

// Assigns a field that may be absent to `target`: keeps it then.
#define GIRIH_READ_OPTIONAL(target, field)                                                                   \
  do {                                                                                                       \
    GIRIH_ASSIGN(auto girihField, field);                                                                    \
    if (girihField)                                                                                          \
      target = std::move(*girihField);                                                                       \
  } while (false)

} // namespace girih::models
