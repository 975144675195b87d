// SPDX-License-Identifier: Apache-2.0
// Grammars from strangers: whatever the source, compiling and the first masks end soon and in bounded memory.
#include "runtime/text/grammar.h"

#include "tests/runtime/text/small_vocabulary.h"

#include <gtest/gtest.h>

#include <ctime>
#include <fstream>
#include <functional>
#include <random>

#include <unistd.h>

namespace girih {
namespace {

// Of this machine, with room for a debug build; the longest takes 0.5 s and 30 MB in an optimised one.
constexpr double kMaxSeconds = 5.0;
constexpr size_t kMaxMegabytes = 256;

double processSeconds() {
  timespec time{};
  clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &time);
  return static_cast<double>(time.tv_sec) + 1e-9 * static_cast<double>(time.tv_nsec);
}

size_t residentMegabytes() {
  size_t whole = 0, resident = 0;
  std::ifstream("/proc/self/statm") >> whole >> resident;
  return resident * static_cast<size_t>(sysconf(_SC_PAGESIZE)) >> 20;
}

std::string times(size_t count, const std::function<std::string(size_t)> &text) {
  std::string all;
  for (size_t index = 0; index < count; ++index)
    all += text(index);
  return all;
}
std::string times(size_t count, const std::string &text) {
  return times(count, [&](size_t) { return text; });
}

class GrammarLimitsTest : public testing::Test {
protected:
  GrammarLimitsTest()
      : tokenizer(Tokenizer::fromGguf(smallByteLevel()).value()),
        vocabulary(GrammarVocabulary::create(tokenizer, kEnd).value()),
        mask(static_cast<size_t>(tokenizer.vocabSize() + 31) / 32) {}

  // Compiles, and writes a text that the grammar allows. True where it compiled.
  bool runs(GrammarKind kind, const std::string &source) {
    double begun = processSeconds();
    auto grammar = Grammar::create(vocabulary, kind, source);
    if (grammar.isOk())
      write(*grammar);
    else
      EXPECT_FALSE(grammar.status().message().empty());
    EXPECT_LT(processSeconds() - begun, kMaxSeconds) << source.substr(0, 200);
    EXPECT_LT(residentMegabytes(), kMaxMegabytes) << source.substr(0, 200);
    return grammar.isOk();
  }

  void write(Grammar &grammar) {
    for (int step = 0; step < 20; ++step) {
      if (!grammar.fillMask(mask).isOk())
        return; // too dear: the sequence fails, the process goes on
      std::vector<int32_t> allowed;
      for (int32_t token = 0; token < tokenizer.vocabSize(); ++token)
        if (mask[static_cast<size_t>(token) / 32] >> (token % 32) & 1)
          allowed.push_back(token);
      ASSERT_FALSE(allowed.empty());
      int32_t token = allowed[random() % allowed.size()];
      if (token == kEnd || !grammar.accept(token).isOk())
        return;
    }
  }

  Tokenizer tokenizer;
  GrammarVocabulary vocabulary;
  std::vector<uint32_t> mask;
  std::mt19937 random{1};
};

TEST_F(GrammarLimitsTest, EndsWithHostileRegexes) {
  const std::string kSources[] = {
      times(100000, "("),
      times(50000, "a?"),
      times(1999, "a?"),
      times(50000, ".*"),
      times(1990, "[ab]?"),
      "a{1000000}",
      "((((a{100}){100}){100}){100}){100}",
      "(a|b)*a(a|b){30}",
      "[01]*1[01]{5000}",
      "(.*.*.*.*.*.*.*=.*)*x",
      "\\p{L}{5000}\\p{Greek}{5000}",
      "(a?){30000}a{30000}",
      times(1990, "(a|)"),
      times(50000, "a|"),
      std::string(250000, 'x'),
      std::string(300000, 'x'),
      "(a)\\1",
      "(?=a)b",
      "\xFF",
      "",
  };
  for (const std::string &source : kSources)
    runs(GrammarKind::Regex, source);
  EXPECT_TRUE(runs(GrammarKind::Regex, "[0-9]{3}-[0-9]{4}"));
}

TEST_F(GrammarLimitsTest, EndsWithHostileSchemas) {
  auto properties = [](size_t count, const std::string &schema) {
    return R"({"type":"object","properties":{)" +
           times(count,
                 [&](size_t index) {
                   return (index ? ",\"p" : "\"p") + std::to_string(index) + "\":" + schema;
                 }) +
           "}}";
  };
  auto definitions = [](size_t count, const std::function<std::string(const std::string &)> &schemaOf) {
    return R"({"$ref":"#/$defs/d0","$defs":{)" +
           times(count,
                 [&](size_t index) {
                   return "\"d" + std::to_string(index) +
                          "\":" + schemaOf(R"({"$ref":"#/$defs/d)" + std::to_string(index + 1) + "\"}") + ",";
                 }) +
           "\"d" + std::to_string(count) + R"(":{"type":"string"}}})";
  };
  const std::string kSources[] = {
      properties(900, R"({"type":"integer"})"),
      properties(8000, R"({"type":"integer"})"),
      properties(900, R"({"type":"string","pattern":"^a{99}b*$"})"),
      definitions(3000, [](const std::string &next) { return R"({"allOf":[)" + next + "]}"; }),
      definitions(4000, [](const std::string &next) { return R"({"type":"array","items":)" + next + "}"; }),
      definitions(60, [](const std::string &next) { return R"({"anyOf":[)" + next + "," + next + "]}"; }),
      definitions(60, [](const std::string &next) { return R"({"allOf":[)" + next + "," + next + "]}"; }),
      R"({"type":"array","minItems":1000000,"items":{"type":"string"}})",
      R"({"type":"array","minItems":9999,"items":{"type":"array","minItems":9999,"items":{}}})",
      R"({"type":"string","minLength":1000000,"maxLength":2000000})",
      R"({"type":"string","pattern":")" + times(1990, "a?") + "\"}",
      R"({"required":[)" +
          times(20000, [](size_t index) { return (index ? ",\"p" : "\"p") + std::to_string(index) + "\""; }) +
          "]}",
      R"({"enum":[)" +
          times(15000, [](size_t index) { return (index ? ",\"v" : "\"v") + std::to_string(index) + "\""; }) +
          "]}",
      R"({"$ref":"#"})",
      R"({"anyOf":[{"$ref":"#"},{"$ref":"#"}]})",
      R"({"allOf":[{"$ref":"#"},{"type":"object"}]})",
      R"({"multipleOf":1e-300})",
      R"({"type":"integer","minimum":-1e308,"maximum":1e308})",
      R"({"type":"integer","multipleOf":999999})",
      R"({"allOf":[{"multipleOf":97},{"multipleOf":89},{"multipleOf":8.3}]})",
      R"({"$ref":"file:///etc/passwd"})",
      R"({"x-guidance":{"whitespace_pattern":"((a|b|ab)*c){1000}"},"type":"object"})",
      times(100, "{\"items\":") + "{}" + times(100, "}"),
      times(100000, "["),
      "7",
      "false",
      "",
      "{\"a\":\"\\ud800\"}",
  };
  for (const std::string &source : kSources)
    runs(GrammarKind::JsonSchema, source);
  EXPECT_TRUE(runs(GrammarKind::JsonSchema, properties(100, R"({"type":"string"})")));
  EXPECT_FALSE(runs(GrammarKind::JsonSchema, R"({"$ref":"file:///etc/passwd"})"));
}

TEST_F(GrammarLimitsTest, EndsWithHostileGrammars) {
  auto chain = [](size_t count, std::string name, std::string behind) {
    return "start: " + name + "0\n" +
           times(count,
                 [&](size_t index) {
                   std::string next = name + std::to_string(index + 1);
                   std::string rule = name + std::to_string(index) + ": " + next;
                   for (char mark : behind)
                     rule += mark == '2' ? " " + next : " \"x\"?";
                   return rule + "\n";
                 }) +
           name + std::to_string(count) + ": \"z\"?\n";
  };
  const std::string kSources[] = {
      "start: " + times(100000, "(") + "\"a\"",
      "start: " + times(60, "(") + "\"a\"" + times(60, ")"),
      chain(1900, "a", "x"),
      chain(490, "a", "x"),
      chain(1900, "A", "x"),
      chain(490, "A", "x"),
      chain(40, "a", "2"),
      chain(40, "A", "2"),
      chain(12, "A", "2"),
      chain(7, "A", "22"),
      "start: start start | \"a\" | \"\"",
      "start: e\ne: e e e | \"a\" | \"b\" | \"\"",
      "start: " + times(1990, "\"a\"? "),
      "start: A\nA: " + times(1990, "\"a\"? "),
      "start: A\nA: " + times(660, "(\"a\"|\"\") "),
      "start: A\nA: /[a-z]*/ & ~/(?s:.*)(a|b)[a-z]{20}(?s:.*)/",
      "start: (((\"a\"{1000}){1000}){1000})",
      "start: x{9999}\nx[max_tokens=1]: /.*/",
      "start: %json {\"$ref\":\"#\"}",
      "start: <[5]>",
      "%import common.X",
      "\xFF",
      "",
  };
  for (const std::string &source : kSources)
    runs(GrammarKind::Lark, source);
  EXPECT_TRUE(runs(GrammarKind::Lark, "start: word (\" \" word)*\nword: /[a-z]+/"));
}

// Schemas made at random out of everything that the language has, with what does not belong thrown in.
class SchemaMaker {
public:
  explicit SchemaMaker(std::mt19937 &random) : random(random) {}

  std::string make(int depth) {
    std::string all = "{";
    for (size_t member = random() % 4 + 1; member > 0; --member)
      all += (all.size() > 1 ? "," : "") + memberText(depth);
    return all + "}";
  }

private:
  std::string pick(std::initializer_list<const char *> texts) {
    return *(texts.begin() + random() % texts.size());
  }
  std::string list(int depth) {
    std::string all;
    for (size_t count = random() % 4; count > 0; --count)
      all += (all.empty() ? "" : ",") + (depth > 0 ? make(depth - 1) : std::string("{}"));
    return "[" + all + "]";
  }
  std::string number() {
    return pick({"0", "1", "-1", "3", "1.5", "1e300", "-9223372036854775808", "1e-9", "97", "999999"});
  }
  std::string memberText(int depth) {
    std::string inner =
        depth > 0 ? make(depth - 1) : pick({"{}", "true", "false", "null", "7", R"({"$ref":"#"})"});
    switch (random() % 16) {
    case 0:
      return R"("properties":{"a":)" + inner + R"(,"":{"type":"null"}})";
    case 1:
      return R"("items":)" + inner;
    case 2:
      return R"("anyOf":)" + list(depth);
    case 3:
      return R"("allOf":)" + list(depth);
    case 4:
      return R"("oneOf":)" + list(depth);
    case 5:
      return R"("prefixItems":)" + list(depth);
    case 6:
      return R"("$ref":)" +
             pick({R"("#")", R"("#/$defs/a")", R"("#/properties/a")", R"("#/nowhere")", R"("x")"});
    case 7:
      return R"("$defs":{"a":)" + inner + "}";
    case 8:
      return "\"" + pick({"minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum", "multipleOf"}) +
             "\":" + number();
    case 9:
      return "\"" +
             pick({"minItems", "maxItems", "minLength", "maxLength", "minProperties", "maxProperties"}) +
             "\":" + number();
    case 10:
      return R"("pattern":)" + pick({R"("a*b")", R"("^(a|b)+$")", R"("(")", R"("(a?){99}")",
                                     R"("\\w{3,}\\d")", R"("[^\"]{0,999}")"});
    case 11:
      return R"("patternProperties":{"^a":)" + inner + "}";
    case 12:
      return R"("required":)" + pick({R"(["a"])", R"(["a","b"])", "[]", "7", R"([7])"});
    case 13:
      return R"("additionalProperties":)" + inner;
    case 14:
      return R"("enum":)" + pick({R"([1,"a",null,{"b":[]}])", "[]", R"(["\u0000"])", "7"});
    default:
      return R"("type":)" + pick({R"("object")", R"("array")", R"("string")", R"("integer")", R"("number")",
                                  R"(["string","null"])", R"("x")"});
    }
  }
  std::mt19937 &random;
};

TEST_F(GrammarLimitsTest, EndsWithRandomSchemas) {
  SchemaMaker maker(random);
  int numCompiled = 0;
  for (int round = 0; round < 2500; ++round)
    numCompiled += runs(GrammarKind::JsonSchema, maker.make(round % 5));
  EXPECT_GT(numCompiled, 250) << "most of these should be schemas";
}

} // namespace
} // namespace girih
