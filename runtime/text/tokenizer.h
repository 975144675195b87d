// SPDX-License-Identifier: Apache-2.0
// Tokenizer: text to token ids and back, over one immutable block of bytes that a .girih file carries and
// maps in place.
#pragma once

#include "runtime/base/expected.h"

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace girih {

// A vocabulary as GGUF's `tokenizer.ggml.*` keys describe it; absent keys keep these defaults.
struct GgufVocabulary {
  std::string model;        // "gpt2" (byte-level BPE), "llama" (SentencePiece BPE), "bert" (WordPiece)
  std::string preTokenizer; // tokenizer.ggml.pre: "smollm", "llama-bpe", "qwen2", ...
  std::vector<std::string> tokens;
  std::vector<float> scores; // empty or one for each token
  std::vector<int32_t>
      tokenTypes; // empty or one for each token: 1 normal, 2 unknown, 3 control, 4 user, 5 unused, 6 byte
  std::vector<std::string> merges; // "left right", best first
  int32_t bosToken = -1;
  int32_t eosToken = -1;
  int32_t unknownToken = -1;
  int32_t separatorToken = -1; // BERT's [SEP]
  int32_t classToken = -1;     // BERT's [CLS]
  std::optional<bool> addBos;
  std::optional<bool> addEos;
  std::optional<bool> addSpacePrefix;
  std::optional<bool> removeExtraWhitespaces;
};

// What bytes that are no UTF-8 become.
enum class MalformedText {
  Replace, // U+FFFD for each maximal ill-formed part, as Python's errors="replace": the ids are Hugging
           // Face's
  Keep,    // the bytes themselves, where the vocabulary has them: detokenising gives the bytes back
};

struct EncodeOptions {
  bool addSpecial = true;   // what the tokenizer puts around a text, for instance BOS
  bool parseSpecial = true; // "<|im_end|>" in the text is the token; false: specialTexts() stay text
  MalformedText malformed = MalformedText::Replace;
  // Ascending byte positions of the text that no special token may span: see ChatPrompt.
  std::span<const size_t> barriers = {};
};

class TokenizerModel; // the engine behind a Tokenizer; runtime/text only

// Immutable and thread-safe; cheap to move, and copies share the same bytes.
class Tokenizer {
public:
  // From `tokenizer.json`; `tokenizerConfigJson` may be empty. A pipeline that the own engine does not know
  // is run by the `tokenizers` crate instead: the same ids, but slower to load (kind() says which).
  static Expected<Tokenizer> fromHuggingFace(std::string_view tokenizerJson,
                                             std::string_view tokenizerConfigJson);
  static Expected<Tokenizer> fromGguf(const GgufVocabulary &vocabulary);
  // From what serialize() gave. Keeps pointing into `bytes`, which must be 8-byte aligned and outlive the
  // tokenizer. Every offset is checked here, so that a damaged file fails now and never later.
  static Expected<Tokenizer> load(std::span<const std::byte> bytes);
  // The bytes that load() takes; they live as long as the tokenizer.
  std::span<const std::byte> serialize() const;

  Expected<std::vector<int32_t>> encode(std::string_view text, const EncodeOptions &options = {}) const;
  // UTF-8 always: bytes that are none become U+FFFD. Ids outside the vocabulary give nothing.
  std::string decode(std::span<const int32_t> ids, bool skipSpecial) const;
  // The bytes as they are, which a prompt encoded with MalformedText::Keep needs.
  std::string decodeBytes(std::span<const int32_t> ids, bool skipSpecial) const;

  // One more than the largest id.
  int32_t vocabSize() const;
  // -1 when there is none. `token` is the bytes that the token stands for (" the", not "Ġthe").
  int32_t tokenToId(std::string_view token) const;
  // The bytes that the token stands for; empty outside the vocabulary. "▁" of SentencePiece is given as a
  // space.
  std::string idToToken(int32_t id) const;
  // Control tokens such as <|im_end|>: skipped by decode, and text when typed in a chat message.
  bool isSpecial(int32_t id) const;
  // What ChatTemplate keeps messages from writing: the special tokens and the added ones spelled like them
  // ("<|START_OF_TURN_TOKEN|>" of Command R, which its vocabulary lists as an ordinary word).
  std::vector<std::string> specialTexts() const;
  int32_t bosToken() const; // -1: none
  int32_t eosToken() const; // -1: none
  bool addsBos() const;
  bool addsEos() const;
  // "byte-level bpe", "sentencepiece bpe", "wordpiece", or "tokenizers" for the crate's pipeline.
  std::string_view kind() const;

private:
  friend class StreamingDecoder;
  // As load(), but keeps the bytes itself.
  static Expected<Tokenizer> adopt(std::vector<std::byte> bytes);
  explicit Tokenizer(std::shared_ptr<const TokenizerModel> model) : model(std::move(model)) {}
  std::shared_ptr<const TokenizerModel> model;
};

// Text of a growing sequence of tokens. What push() and finish() gave, joined, is decode() of all the ids: a
// character whose bytes are not all there is held back, and one that can no longer be completed becomes
// U+FFFD.
class StreamingDecoder {
public:
  StreamingDecoder(Tokenizer tokenizer, bool skipSpecial);
  std::string push(int32_t id);
  // What is still held back. The decoder is then as new.
  std::string finish();

private:
  Tokenizer tokenizer;
  bool skipSpecial;
  bool atStart = true;
  std::string pending; // at most 3 bytes between calls: the beginning of a character

  // The crate's pipelines only: the ids since the last border, how many of them are given, and (in `pending`)
  // their text.
  std::string pushInContext(int32_t id);
  std::vector<int32_t> window;
  size_t windowGiven = 0;
};

} // namespace girih
