// SPDX-License-Identifier: Apache-2.0
// Typed reading of a checkpoint's fields, where absent is a normal answer: GGUF metadata and config.json
// alike.
#include "models/config_fields.h"

#include <simdjson.h>

#include <cmath>

namespace girih::models {
namespace dom = simdjson::dom;

// ---- GGUF ----

std::string GgufFields::fullKey(std::string_view key) const {
  return prefix.empty() ? std::string(key) : prefix + "." + std::string(key);
}

namespace {

template <typename T, typename Value>
Field<T> optionalOf(const weights::Metadata &metadata, const std::string &key, Expected<Value> value) {
  if (value.isOk())
    return std::optional<T>(T(std::move(value).value()));
  if (!metadata.find(key))
    return std::optional<T>();
  return std::move(value).status();
}

} // namespace

Field<int64_t> GgufFields::integer(std::string_view key) const {
  std::string full = fullKey(key);
  return optionalOf<int64_t>(store.metadata(), full, store.metadata().integer(full));
}
Field<double> GgufFields::number(std::string_view key) const {
  std::string full = fullKey(key);
  return optionalOf<double>(store.metadata(), full, store.metadata().number(full));
}
Field<bool> GgufFields::boolean(std::string_view key) const {
  std::string full = fullKey(key);
  return optionalOf<bool>(store.metadata(), full, store.metadata().boolean(full));
}
Field<std::string> GgufFields::string(std::string_view key) const {
  std::string full = fullKey(key);
  return optionalOf<std::string>(store.metadata(), full, store.metadata().string(full));
}

// ---- JSON ----

struct JsonFields::Document {
  dom::parser parser;
  dom::element root;
};

Expected<JsonFields> JsonFields::open(const weights::WeightStore &store, std::string_view fileName) {
  std::optional<std::string_view> text = store.text(fileName);
  if (!text)
    return notFound("the checkpoint has no " + std::string(fileName) +
                    "; a Hugging Face checkpoint is a folder that holds it beside the weights");
  auto document = std::make_shared<Document>();
  simdjson::padded_string padded(*text);
  if (auto error = document->parser.parse(padded).get(document->root))
    return invalidArgument(std::string(fileName) + " is not JSON: " + simdjson::error_message(error));
  if (!document->root.is_object())
    return invalidArgument(std::string(fileName) + " holds no JSON object at its top");
  JsonFields fields;
  fields.document = std::move(document);
  fields.where = fileName;
  return fields;
}

namespace {

// False when there is no such key.
bool findElement(dom::element root, const std::vector<std::string> &path, std::string_view key,
                 dom::element &found) {
  for (const std::string &name : path)
    if (root[name].get(root))
      return false;
  return !root[key].get(found);
}

} // namespace

bool JsonFields::isNull(std::string_view key) const {
  dom::element element;
  return findElement(document->root, path, key, element) && element.is_null();
}

template <typename T, typename Get>
Field<T> JsonFields::read(std::string_view key, std::string_view expected, Get get) const {
  dom::element element;
  if (!findElement(document->root, path, key, element) || element.is_null())
    return std::optional<T>();
  std::optional<T> value = get(element);
  if (!value)
    return invalidArgument(where + ": \"" + std::string(key) + "\" is " +
                           simdjson::minify(element).substr(0, 60) + "; expected " + std::string(expected));
  return value;
}

Field<int64_t> JsonFields::integer(std::string_view key) const {
  return read<int64_t>(key, "an integer", [](dom::element e) -> std::optional<int64_t> {
    int64_t value;
    if (!e.get_int64().get(value))
      return value;
    double real;                                    // some writers print 4096.0
    constexpr double kMostExact = 9007199254740992; // 2^53
    if (!e.get_double().get(real) && std::abs(real) <= kMostExact && real == std::trunc(real))
      return static_cast<int64_t>(real);
    return std::nullopt;
  });
}
Field<double> JsonFields::number(std::string_view key) const {
  return read<double>(key, "a number", [](dom::element e) -> std::optional<double> {
    double value;
    return e.get_double().get(value) ? std::nullopt : std::optional<double>(value);
  });
}
Field<bool> JsonFields::boolean(std::string_view key) const {
  return read<bool>(key, "true or false", [](dom::element e) -> std::optional<bool> {
    bool value;
    return e.get_bool().get(value) ? std::nullopt : std::optional<bool>(value);
  });
}
Field<std::string> JsonFields::string(std::string_view key) const {
  return read<std::string>(key, "a string", [](dom::element e) -> std::optional<std::string> {
    std::string_view value;
    return e.get_string().get(value) ? std::nullopt : std::optional<std::string>(value);
  });
}
Field<JsonFields> JsonFields::object(std::string_view key) const {
  return read<JsonFields>(key, "an object", [&](dom::element e) -> std::optional<JsonFields> {
    if (!e.is_object())
      return std::nullopt;
    JsonFields inner = *this;
    inner.where += ": " + std::string(key);
    inner.path.emplace_back(key);
    return inner;
  });
}
Field<std::vector<std::string>> JsonFields::strings(std::string_view key) const {
  using List = std::vector<std::string>;
  return read<List>(key, "a list of strings", [](dom::element e) -> std::optional<List> {
    List list;
    dom::array array;
    if (e.get_array().get(array))
      return std::nullopt;
    for (dom::element item : array) {
      std::string_view text;
      if (item.get_string().get(text))
        return std::nullopt;
      list.emplace_back(text);
    }
    return list;
  });
}
Field<std::vector<int64_t>> JsonFields::integers(std::string_view key) const {
  using List = std::vector<int64_t>;
  return read<List>(key, "an integer or a list of integers", [](dom::element e) -> std::optional<List> {
    int64_t single;
    if (!e.get_int64().get(single))
      return List{single};
    List list;
    dom::array array;
    if (e.get_array().get(array))
      return std::nullopt;
    for (dom::element item : array) {
      if (item.get_int64().get(single))
        return std::nullopt;
      list.push_back(single);
    }
    return list;
  });
}

} // namespace girih::models
