// SPDX-License-Identifier: Apache-2.0
// The steps of a tokenizer.json pipeline, each matched against what the own engine does; anything else is
// reported.
#include "runtime/text/tokenizer_json.h"

#include <simdjson.h>

#include <algorithm>

namespace girih {
namespace {

using simdjson::dom::array;
using simdjson::dom::element;
using simdjson::dom::object;

std::string_view textOf(const element &parent, const char *key) {
  std::string_view text;
  return parent[key].get(text) ? std::string_view() : text;
}

bool flagOf(const element &parent, const char *key, bool otherwise) {
  bool flag;
  return parent[key].get(flag) ? otherwise : flag;
}

void unknown(TokenizerJsonReading &reading, std::string part) {
  if (reading.unknownPart.empty())
    reading.unknownPart = std::move(part);
}

// Calls `read` for the step, or for each step of a Sequence.
template <typename Read> void forEachStep(const element &step, const char *listKey, Read read) {
  if (step.is_null())
    return;
  array steps;
  if (textOf(step, "type") != "Sequence" || step[listKey].get(steps)) {
    read(step);
    return;
  }
  for (element inner : steps)
    read(inner);
}

constexpr std::string_view kMark = "\xE2\x96\x81";

struct KnownPattern {
  std::string_view expression;
  SplitStep step;
  bool coversText; // then "isolated" and "removed, inverted" cut the same pieces
};

#define GIRIH_CONTRACTIONS "(?i:'s|'t|'re|'ve|'m|'ll|'d)"
#define GIRIH_TAIL "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"
#define GIRIH_UPPER "[\\p{Lu}\\p{Lt}\\p{Lm}\\p{Lo}\\p{M}]"
#define GIRIH_LOWER "[\\p{Ll}\\p{Lm}\\p{Lo}\\p{M}]"
#define GIRIH_CASED_TAIL "| ?[^\\s\\p{L}\\p{N}]+[\\r\\n/]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+"

constexpr KnownPattern kPatterns[] = {
    {GIRIH_CONTRACTIONS "|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}" GIRIH_TAIL, SplitStep::Llama3, true},
    {GIRIH_CONTRACTIONS "|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}" GIRIH_TAIL, SplitStep::Qwen2, true},
    {GIRIH_CONTRACTIONS "|[^\\r\\n\\p{L}\\p{N}]?[\\p{L}\\p{M}]+|\\p{N}| ?[^\\s\\p{L}\\p{M}\\p{N}]+[\\r\\n]*"
                        "|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+",
     SplitStep::Qwen35, true},
    {"'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+", SplitStep::Gpt2,
     true},
    {"[^\\r\\n\\p{L}\\p{N}]?" GIRIH_UPPER "*" GIRIH_LOWER "+" GIRIH_CONTRACTIONS
     "?|[^\\r\\n\\p{L}\\p{N}]?" GIRIH_UPPER "+" GIRIH_LOWER "*" GIRIH_CONTRACTIONS
     "?|\\p{N}{1,3}" GIRIH_CASED_TAIL,
     SplitStep::Gpt4o, true},
    {"[^\\r\\n\\p{L}\\p{N}]?" GIRIH_UPPER "*" GIRIH_LOWER "+|[^\\r\\n\\p{L}\\p{N}]?" GIRIH_UPPER
     "+" GIRIH_LOWER "*|\\p{N}" GIRIH_CASED_TAIL,
     SplitStep::Tekken, true},
    {"[\\r\\n]", SplitStep::SingleNewlines, false},
    {"[\r\n]", SplitStep::SingleNewlines, false},
    {"\\s?\\p{L}+", SplitStep::SpaceLetters, false},
    {"\\s?\\p{P}+", SplitStep::SpacePunctuation, false},
    {"\\s+$", SplitStep::TrailingSpace, false},
    {"[\xE4\xB8\x80-\xE9\xBE\xA5\xE0\xA0\x80-\xE4\xB8\x80\xEA\xB0\x80-\xED\x9F\xBF]+", SplitStep::CjkRuns,
     false},
    {"[0-9][0-9][0-9]", SplitStep::DigitTriples, false},
};
#undef GIRIH_CONTRACTIONS
#undef GIRIH_TAIL
#undef GIRIH_UPPER
#undef GIRIH_LOWER
#undef GIRIH_CASED_TAIL

void readSplit(const element &step, TokenizerJsonReading &reading) {
  std::string_view expression, behavior = textOf(step, "behavior");
  bool inverted = flagOf(step, "invert", false);
  std::string_view literal;
  if (!step["pattern"]["String"].get(literal)) {
    // Gemma splits at spaces that its normalizer has already replaced.
    bool never = literal == " " && (reading.description.flags & kFuseUnknown);
    return never ? void() : unknown(reading, "pre_tokenizer Split at \"" + std::string(literal) + "\"");
  }
  if (step["pattern"]["Regex"].get(expression))
    return unknown(reading, "pre_tokenizer Split without a pattern");
  for (const KnownPattern &known : kPatterns) {
    bool isolated = behavior == "Isolated" && !inverted;
    bool removed = behavior == "Removed" && inverted && known.coversText;
    if (known.expression == expression && (isolated || removed))
      return reading.description.splitSteps.push_back(known.step);
  }
  unknown(reading,
          "pre_tokenizer Split with " + std::string(behavior) + " \"" + std::string(expression) + "\"");
}

void readMetaspace(const element &step, TokenizerJsonReading &reading) {
  VocabularyDescription &out = reading.description;
  if (textOf(step, "replacement") != kMark || flagOf(step, "split", true))
    return unknown(reading, "pre_tokenizer Metaspace that splits");
  out.kind = TokenizerKind::SentencePieceBpe;
  std::string_view scheme = textOf(step, "prepend_scheme");
  bool prepends = scheme.empty() ? flagOf(step, "add_prefix_space", true) : scheme != "never";
  if (prepends)
    out.flags |= kAddSpacePrefix | kPrefixUnlessSpace | (scheme == "first" ? kPrefixFirstOnly : 0u);
}

void readPreTokenizerStep(const element &step, TokenizerJsonReading &reading) {
  VocabularyDescription &out = reading.description;
  std::string_view type = textOf(step, "type");
  if (type == "ByteLevel") {
    out.kind = TokenizerKind::ByteLevelBpe;
    // The space in front is put before each piece of the steps above, which only one step alone has whole.
    if (flagOf(step, "add_prefix_space", true)) {
      if (!out.splitSteps.empty())
        return unknown(reading, "pre_tokenizer ByteLevel with add_prefix_space after other steps");
      out.flags |= kAddSpacePrefix;
    }
    if (flagOf(step, "use_regex", true))
      out.splitSteps.push_back(SplitStep::Gpt2);
  } else if (type == "Digits") {
    bool single = flagOf(step, "individual_digits", false);
    // Behind ByteLevel's expression the steps see the byte alphabet instead of the text.
    bool seesBytes = std::count(out.splitSteps.begin(), out.splitSteps.end(), SplitStep::Gpt2) > 0;
    if (single && seesBytes)
      return unknown(reading, "pre_tokenizer Digits of single digits after ByteLevel");
    out.splitSteps.push_back(single      ? SplitStep::SingleDigits
                             : seesBytes ? SplitStep::ByteDigitRuns
                                         : SplitStep::DigitRuns);
  } else if (type == "Punctuation" && textOf(step, "behavior") == "Contiguous") {
    out.splitSteps.push_back(SplitStep::PunctuationRuns);
  } else if (type == "Split") {
    readSplit(step, reading);
  } else if (type == "Metaspace") {
    readMetaspace(step, reading);
  } else if (type != "BertPreTokenizer") {
    unknown(reading, "pre_tokenizer " + std::string(type));
  }
}

void readNormalizerStep(const element &step, TokenizerJsonReading &reading) {
  VocabularyDescription &out = reading.description;
  std::string_view type = textOf(step, "type"), pattern;
  if (type == "NFC") {
    out.flags |= kNormalizeNfc;
  } else if (type == "Prepend" && textOf(step, "prepend") == kMark) {
    out.flags |= kAddSpacePrefix;
  } else if (type == "Replace" && !step["pattern"]["String"].get(pattern) && pattern == " " &&
             textOf(step, "content") == kMark) {
    out.kind = TokenizerKind::SentencePieceBpe;
  } else if (type == "BertNormalizer") {
    bool lower = flagOf(step, "lowercase", true);
    bool strip = flagOf(step, "strip_accents", lower); // null follows lowercase
    out.flags |= (flagOf(step, "clean_text", true) ? kCleanText : 0u) | (strip ? kStripAccents : 0u) |
                 (flagOf(step, "handle_chinese_chars", true) ? kSplitIdeographs : 0u) |
                 (lower ? kLowerCase : 0u);
  } else {
    unknown(reading, "normalizer " + std::string(type));
  }
}

void readDecoderStep(const element &step, TokenizerJsonReading &reading) {
  VocabularyDescription &out = reading.description;
  std::string_view type = textOf(step, "type"), pattern;
  bool replacesMark = type == "Replace" && !step["pattern"]["String"].get(pattern) && pattern == kMark &&
                      textOf(step, "content") == " ";
  int64_t start = 0, stop = 0;
  bool stripsStart = type == "Strip" && textOf(step, "content") == " " && !step["start"].get(start) &&
                     start == 1 && !step["stop"].get(stop) && stop == 0;
  if (stripsStart || (type == "Metaspace" && textOf(step, "prepend_scheme") != "never"))
    out.flags |= kStripLeadingSpace;
  else if (type == "WordPiece")
    out.flags |= flagOf(step, "cleanup", true) ? kCleanUpSpaces : 0u;
  else if (type != "ByteLevel" && type != "ByteFallback" && type != "Fuse" && type != "Metaspace" &&
           !replacesMark)
    unknown(reading, "decoder " + std::string(type));
}

void readTemplate(const element &step, TokenizerJsonReading &reading) {
  array items;
  if (step["single"].get(items))
    return unknown(reading, "post_processor TemplateProcessing without \"single\"");
  bool afterText = false;
  for (element item : items) {
    std::string_view name;
    if (item["SpecialToken"]["id"].get(name)) {
      afterText = true;
      continue;
    }
    array ids;
    if (step["special_tokens"][name]["ids"].get(ids))
      return unknown(reading, "post_processor TemplateProcessing without ids of its tokens");
    for (element id : ids) {
      int64_t value = -1;
      if (id.get(value) || value < 0 || value > INT32_MAX)
        return unknown(reading, "post_processor TemplateProcessing with an id that is none");
      auto &side = afterText ? reading.description.suffix : reading.description.prefix;
      side.push_back(static_cast<int32_t>(value));
    }
  }
}

void readPostProcessorStep(const element &step, TokenizerJsonReading &reading) {
  std::string_view type = textOf(step, "type");
  if (type == "TemplateProcessing")
    return readTemplate(step, reading);
  if (type == "BertProcessing" || type == "RobertaProcessing") {
    for (const char *key : {"cls", "sep"}) {
      int64_t id = -1;
      if (step[key].at(1).get(id) || id < 0 || id > INT32_MAX)
        return unknown(reading, "post_processor without the id of \"" + std::string(key) + "\"");
      auto &side = key[0] == 'c' ? reading.description.prefix : reading.description.suffix;
      side.push_back(static_cast<int32_t>(id));
    }
  } else if (type != "ByteLevel") { // which moves offsets, not ids
    unknown(reading, "post_processor " + std::string(type));
  }
}

} // namespace

void readNormalizer(const element &normalizer, TokenizerJsonReading &reading) {
  forEachStep(normalizer, "normalizers", [&](const element &step) { readNormalizerStep(step, reading); });
}

void readPreTokenizer(const element &preTokenizer, TokenizerJsonReading &reading) {
  forEachStep(preTokenizer, "pretokenizers",
              [&](const element &step) { readPreTokenizerStep(step, reading); });
}

void readDecoder(const element &decoder, TokenizerJsonReading &reading) {
  forEachStep(decoder, "decoders", [&](const element &step) { readDecoderStep(step, reading); });
}

void readPostProcessor(const element &postProcessor, TokenizerJsonReading &reading) {
  forEachStep(postProcessor, "processors",
              [&](const element &step) { readPostProcessorStep(step, reading); });
}

} // namespace girih
