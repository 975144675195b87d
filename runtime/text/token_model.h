// SPDX-License-Identifier: Apache-2.0
// TokenizerModel: what stands behind a Tokenizer, either the own engine over mapped tables or the
// `tokenizers` crate.
#pragma once

#include "runtime/text/tokenizer.h"
#include "runtime/text/vocabulary.h"

namespace girih {

class TokenizerModel {
public:
  TokenizerModel(std::span<const std::byte> bytes, std::vector<std::byte> owned, Vocabulary vocabulary)
      : owned(std::move(owned)), bytes(bytes), vocabulary(vocabulary) {}
  virtual ~TokenizerModel() = default;
  // `text` is as the caller gave it; barriers are checked to be ascending and within it.
  virtual Expected<std::vector<int32_t>> encode(std::string_view text,
                                                const EncodeOptions &options) const = 0;
  virtual std::string decodeBytes(std::span<const int32_t> ids, bool skipSpecial) const = 0;
  // Whether a token's bytes depend on nothing but whether it is the first: then appendToken() decodes step by
  // step.
  virtual bool decodesTokenByToken() const = 0;
  // Appends the token's bytes; clears `atStart` when there are any. Requires: decodesTokenByToken().
  virtual void appendToken(int32_t id, bool skipSpecial, bool &atStart, std::string &out) const = 0;
  virtual int32_t vocabSize() const = 0;
  virtual int32_t tokenToId(std::string_view token) const = 0;
  virtual std::string idToToken(int32_t id) const = 0;
  virtual bool isSpecial(int32_t id) const = 0;
  // As Vocabulary::isGuarded.
  virtual bool isGuarded(int32_t id) const = 0;

  const Vocabulary &form() const { return vocabulary; }
  std::span<const std::byte> serialized() const { return bytes; }

protected:
  std::vector<std::byte> owned; // empty when `bytes` belong to a mapped file
  std::span<const std::byte> bytes;
  Vocabulary vocabulary;
};

// The model for a stored form. `owned` holds the bytes that `bytes` points to, or nothing if they outlive the
// model.
Expected<std::shared_ptr<const TokenizerModel>>
makeTableModel(std::span<const std::byte> bytes, std::vector<std::byte> owned, Vocabulary vocabulary);
Expected<std::shared_ptr<const TokenizerModel>>
makeCrateModel(std::span<const std::byte> bytes, std::vector<std::byte> owned, Vocabulary vocabulary);

// A part of a text: an added token, or (id -1) what stands between two.
struct TextPart {
  std::string_view text;
  int32_t id;
};

// Cuts added tokens out: leftmost first, longest of those. Special ones only where `parseSpecial`, and none
// across a barrier (positions in `text`, ascending).
std::vector<TextPart> cutAddedTokens(const Vocabulary &vocabulary, std::string_view text, bool parseSpecial,
                                     std::span<const size_t> barriers);

} // namespace girih
