// SPDX-License-Identifier: Apache-2.0
// Tokenizer::fromGguf: vocabularies embedded in GGUF, with the pipelines that their pre-tokenizer names stand
// for.
#include "runtime/text/byte_alphabet.h"
#include "runtime/text/merge_list.h"
#include "runtime/text/tokenizer.h"
#include "runtime/text/vocabulary_builder.h"

#include <algorithm>
#include <cmath>

namespace girih {
namespace {

enum GgufTokenType : int32_t { kUnknown = 2, kControl = 3, kUserDefined = 4, kUnused = 5, kByte = 6 };

struct Pipeline {
  std::string_view names[12];
  SplitStep steps[kMaxSplitSteps];
  uint32_t flags;
  bool addsBos; // where the file does not say
};

// What `tokenizer.ggml.pre` stands for. NFC stands where the model's own tokenizer.json is known to
// normalise.
constexpr Pipeline kPipelines[] = {
    {{"", "default", "gpt-2", "mpt", "olmo", "jais", "phi-2", "roberta-bpe", "gpt2"},
     {SplitStep::Gpt2},
     0,
     false},
    {{"llama-bpe", "llama3", "llama-v3", "falcon3", "falcon-h1", "pixtral", "midm-2.0", "lfm2",
      "jina-v5-nano"},
     {SplitStep::Llama3},
     kIgnoreMerges,
     true},
    {{"dbrx", "smaug-bpe"}, {SplitStep::Llama3}, 0, false},
    {{"qwen2"}, {SplitStep::Qwen2}, kNormalizeNfc, false},
    {{"deepseek-r1-qwen", "kormo", "f2llmv2", "megrez", "stablelm2", "hunyuan"},
     {SplitStep::Qwen2},
     0,
     false},
    {{"qwen35"}, {SplitStep::Qwen35}, 0, false},
    {{"smollm", "starcoder", "refact", "codeshell", "exaone", "minerva-7b"},
     {SplitStep::SingleDigits, SplitStep::Gpt2},
     0,
     false},
    {{"command-r"}, {SplitStep::SingleDigits, SplitStep::Gpt2}, kNormalizeNfc, false},
    {{"deepseek-llm"},
     {SplitStep::SingleNewlines, SplitStep::CasedWords, SplitStep::WidePunctuation, SplitStep::TrailingSpace,
      SplitStep::CjkRuns, SplitStep::SingleDigits},
     0,
     false},
    {{"deepseek-coder"},
     {SplitStep::SingleNewlines, SplitStep::SpaceLetters, SplitStep::SpacePunctuation, SplitStep::CjkRuns,
      SplitStep::SingleDigits},
     0,
     false},
    {{"falcon"},
     {SplitStep::PunctuationRuns, SplitStep::Gpt2, SplitStep::ByteDigitRuns, SplitStep::DigitTriples},
     0,
     false},
    {{"gpt-4o", "llama4", "kanana2"}, {SplitStep::Gpt4o}, 0, false},
    {{"tekken"}, {SplitStep::Tekken}, kIgnoreMerges, true},
};

Expected<const Pipeline *> findPipeline(const std::string &name) {
  std::string known;
  for (const Pipeline &pipeline : kPipelines) {
    for (std::string_view other : pipeline.names) {
      if (other == name)
        return &pipeline;
      if (!other.empty())
        known += (known.empty() ? "" : ", ") + std::string(other);
    }
  }
  return unimplemented("pre-tokenizer \"" + name + "\" is not known; known are: " + known);
}

Status checkSizes(const GgufVocabulary &source) {
  size_t count = source.tokens.size();
  if (count == 0)
    return invalidArgument("the vocabulary is empty; tokenizer.ggml.tokens must list its tokens");
  auto fits = [&](size_t size) { return size == 0 || size == count; };
  if (!fits(source.scores.size()) || !fits(source.tokenTypes.size()))
    return invalidArgument("the vocabulary has " + std::to_string(count) + " tokens, " +
                           std::to_string(source.scores.size()) + " scores and " +
                           std::to_string(source.tokenTypes.size()) + " token types; the counts must agree");
  if (std::any_of(source.scores.begin(), source.scores.end(), [](float score) { return std::isnan(score); }))
    return invalidArgument("a score of the vocabulary is not a number");
  for (int32_t id :
       {source.bosToken, source.eosToken, source.unknownToken, source.separatorToken, source.classToken})
    if (id < -1 || (id >= 0 && size_t(id) >= count))
      return invalidArgument("special token id " + std::to_string(id) + " lies outside the " +
                             std::to_string(count) + " tokens");
  return {};
}

int32_t typeOf(const GgufVocabulary &source, size_t id) {
  return source.tokenTypes.empty() ? 1 : source.tokenTypes[id];
}

// Control tokens are cut out of prompts and skipped in answers; user-defined ones are only cut out.
uint16_t addedFlags(const GgufVocabulary &source, size_t id) {
  int32_t type = typeOf(source, id);
  if (type == kControl || (type == kUnknown && static_cast<int32_t>(id) == source.unknownToken))
    return kTokenSpecial | kTokenAdded;
  if (type == kUnknown)
    return kTokenSpecial;
  return type == kUserDefined ? kTokenAdded : 0;
}

void setAffixes(const GgufVocabulary &source, bool bosDefault, VocabularyDescription &out) {
  out.bosToken = source.bosToken;
  out.eosToken = source.eosToken;
  if (source.addBos.value_or(bosDefault) && source.bosToken >= 0)
    out.prefix.push_back(source.bosToken);
  if (source.addEos.value_or(false) && source.eosToken >= 0)
    out.suffix.push_back(source.eosToken);
}

Expected<std::vector<std::pair<std::string_view, std::string_view>>>
splitMerges(const GgufVocabulary &source) {
  std::vector<std::pair<std::string_view, std::string_view>> pairs;
  for (const std::string &merge : source.merges) {
    // Gemma 4 writes tokens of spaces as they are; the border is then the first space past the first
    // character.
    size_t space = merge.find(' ', 1);
    if (space == std::string::npos || space + 1 == merge.size())
      return invalidArgument("merge \"" + merge + "\" is not two tokens with a space between");
    pairs.emplace_back(std::string_view(merge).substr(0, space), std::string_view(merge).substr(space + 1));
  }
  return pairs;
}

Expected<VocabularyDescription> describeByteLevel(const GgufVocabulary &source) {
  GIRIH_ASSIGN(const Pipeline *pipeline, findPipeline(source.preTokenizer));
  VocabularyDescription out;
  out.kind = TokenizerKind::ByteLevelBpe;
  out.flags = pipeline->flags;
  out.splitSteps.assign(std::begin(pipeline->steps),
                        std::find(std::begin(pipeline->steps), std::end(pipeline->steps), SplitStep::None));
  setAffixes(source, pipeline->addsBos, out);
  TokenIndex index;
  for (size_t id = 0; id < source.tokens.size(); ++id) {
    const std::string &spelling = source.tokens[id];
    TokenDescription token;
    token.flags = addedFlags(source, id);
    // Added tokens are written as text, ordinary ones in the byte alphabet.
    std::optional<std::string> bytes = token.flags ? std::nullopt : bytesFromAlphabet(spelling);
    token.bytes = bytes.value_or(spelling);
    token.isWord = token.flags == 0 && typeOf(source, id) != kUnused;
    if (token.isWord && token.bytes.size() == 1)
      out.byteTokens[static_cast<uint8_t>(token.bytes[0])] = static_cast<int32_t>(id);
    index.emplace(spelling, static_cast<int32_t>(id));
    out.tokens.push_back(std::move(token));
  }
  GIRIH_ASSIGN(auto pairs, splitMerges(source));
  GIRIH_ASSIGN(out.merges, resolveMerges(pairs, index, out.tokens));
  return out;
}

void replaceAll(std::string &text, std::string_view from, std::string_view to) {
  for (size_t at = 0; (at = text.find(from, at)) != std::string::npos; at += to.size())
    text.replace(at, from.size(), to);
}

// "<0x0A>"; -1 where the token is not so written.
int parseByteToken(const std::string &token) {
  if (token.size() != 6 || !token.starts_with("<0x") || token[5] != '>')
    return -1;
  auto digit = [](char c) {
    return c >= '0' && c <= '9' ? c - '0' : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
  };
  int high = digit(token[3]), low = digit(token[4]);
  return high < 0 || low < 0 ? -1 : high * 16 + low;
}

Expected<VocabularyDescription> describeSentencePiece(const GgufVocabulary &source) {
  VocabularyDescription out;
  out.kind = TokenizerKind::SentencePieceBpe;
  out.flags = kByteFallback | kFuseUnknown;
  if (source.addSpacePrefix.value_or(true))
    out.flags |= kAddSpacePrefix | kStripLeadingSpace;
  setAffixes(source, true, out);
  out.unknownToken = source.unknownToken;
  std::vector<std::string> spellings; // what may merge; empty for the others
  for (size_t id = 0; id < source.tokens.size(); ++id) {
    TokenDescription token;
    token.flags = addedFlags(source, id);
    token.bytes = source.tokens[id];
    int byte = typeOf(source, id) == kByte ? parseByteToken(token.bytes) : -1;
    token.isWord = byte < 0 && !(token.flags & kTokenSpecial) && typeOf(source, id) != kUnused;
    if (byte >= 0) {
      token.bytes = std::string(1, static_cast<char>(byte));
      token.flags |= kTokenByte;
      out.byteTokens[size_t(byte)] = static_cast<int32_t>(id);
    } else if (!(token.flags & kTokenSpecial)) {
      replaceAll(token.bytes, "\xE2\x96\x81", " ");
    }
    spellings.push_back(token.isWord ? token.bytes : std::string());
    out.tokens.push_back(std::move(token));
  }
  if (source.merges.empty()) {
    out.merges = deriveMerges(spellings, source.scores);
    return out;
  }
  TokenIndex index;
  for (size_t id = 0; id < source.tokens.size(); ++id)
    index.emplace(source.tokens[id], static_cast<int32_t>(id));
  GIRIH_ASSIGN(auto pairs, splitMerges(source));
  GIRIH_ASSIGN(out.merges, resolveMerges(pairs, index, out.tokens));
  return out;
}

Expected<VocabularyDescription> describeWordPiece(const GgufVocabulary &source) {
  VocabularyDescription out;
  out.kind = TokenizerKind::WordPiece;
  out.flags = kCleanText | kSplitIdeographs | kStripAccents | kLowerCase | kCleanUpSpaces;
  out.bosToken = source.classToken >= 0 ? source.classToken : source.bosToken;
  out.eosToken = source.separatorToken >= 0 ? source.separatorToken : source.eosToken;
  out.unknownToken = source.unknownToken;
  if (out.bosToken >= 0)
    out.prefix.push_back(out.bosToken);
  if (out.eosToken >= 0)
    out.suffix.push_back(out.eosToken);
  for (size_t id = 0; id < source.tokens.size(); ++id) {
    TokenDescription token;
    token.flags = addedFlags(source, id);
    token.bytes = source.tokens[id];
    token.isWord = token.flags == 0;
    // GGUF writes "##ing" as "ing" and "word" as "▁word".
    constexpr std::string_view kWordMark = "\xE2\x96\x81";
    if (token.isWord && token.bytes.starts_with(kWordMark))
      token.bytes.erase(0, kWordMark.size());
    else if (token.isWord)
      token.flags |= kTokenContinuation;
    out.tokens.push_back(std::move(token));
  }
  return out;
}

} // namespace

Expected<Tokenizer> Tokenizer::fromGguf(const GgufVocabulary &source) {
  GIRIH_TRY(checkSizes(source));
  auto describe = source.model == "gpt2"                                ? describeByteLevel
                  : source.model == "llama" || source.model == "gemma4" ? describeSentencePiece
                  : source.model == "bert"                              ? describeWordPiece
                                                                        : nullptr;
  if (!describe)
    return unimplemented("tokenizer model \"" + source.model +
                         "\" is not supported; supported are gpt2, llama, gemma4 and bert");
  GIRIH_ASSIGN(VocabularyDescription description, describe(source));
  GIRIH_ASSIGN(std::vector<std::byte> bytes, buildVocabulary(description));
  return adopt(std::move(bytes));
}

} // namespace girih
