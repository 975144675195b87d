// SPDX-License-Identifier: Apache-2.0
// What holding an answer to a shape costs on one thread: the first copy (compiling), then each token's mask and step.
//
//   grammar_masks FILE    FILE as `girih run` takes it; its vocabulary is what masks are made of
//
// Answers are fed token by token as the model's tokenizer cuts them; one that a mask forbids ends the program with 1.
#include "runtime/text/grammar.h"
#include "runtime/tools/loaded_model.h"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <functional>
#include <string>
#include <vector>

namespace {

using girih::Grammar;
using girih::GrammarKind;
using Clock = std::chrono::steady_clock;

constexpr int kRounds = 30;

struct Shape {
  std::string name;
  GrammarKind kind;
  std::string source, answer;
};

std::string repeated(int count, const std::string &separator, const std::function<std::string(int)> &piece) {
  std::string all;
  for (int index = 0; index < count; ++index)
    all += (index > 0 ? separator : "") + piece(index);
  return all;
}

std::vector<Shape> shapes() {
  const std::string prose = "The quick brown fox jumps over the lazy dog near the river bank, and in the "
                            "morning the farmer walks to "
                            "the field to look at the corn.";
  const std::string person =
      R"({"type":"object","properties":{"name":{"type":"string"},"age":{"type":"integer","minimum":0,"maximum":150},)"
      R"("mail":{"type":"string","pattern":"^[a-z.]+@[a-z]+\\.(com|org)$"},"tags":{"type":"array","items":{"enum":)"
      R"(["new","old","gone"]},"maxItems":4}},"required":["name","age","mail","tags"],"additionalProperties":false})";
  const std::string ada =
      R"({"name": "Ada Lovelace", "age": 36, "mail": "ada.lovelace@engine.org", "tags": ["old", "new"]})";
  auto field = [](int index) { return "field_" + std::to_string(index); };
  return {
      {"two enums", GrammarKind::JsonSchema,
       R"({"type":"object","properties":{"verdict":{"enum":["yes","no"]},"sure":{"type":"boolean"}},"required":["verdict","sure"],"additionalProperties":false})",
       R"({"verdict": "yes", "sure": true})"},
      {"a person", GrammarKind::JsonSchema, person, ada},
      {"50 people", GrammarKind::JsonSchema, R"({"type":"array","items":)" + person + "}",
       "[" + repeated(50, ", ", [&](int) { return ada; }) + "]"},
      {"free text in JSON", GrammarKind::JsonSchema,
       R"({"type":"object","properties":{"text":{"type":"string"}},"required":["text"],"additionalProperties":false})",
       R"({"text": ")" + prose + "\"}"},
      {"any JSON object", GrammarKind::JsonSchema, R"({"type":"object"})", ada},
      {"200 properties", GrammarKind::JsonSchema,
       R"({"type":"object","properties":{)" +
           repeated(200, ",", [&](int i) { return "\"" + field(i) + R"(":{"type":"integer"})"; }) +
           R"(},"additionalProperties":false})",
       "{" + repeated(200, ", ", [&](int i) { return "\"" + field(i) + "\": " + std::to_string(i); }) + "}"},
      {"a date by regex", GrammarKind::Regex, "[0-9]{4}-(0[1-9]|1[0-2])-([0-2][0-9]|3[01])", "2024-12-31"},
      {"text of 20 to 400 letters", GrammarKind::Regex, "[A-Za-z ,.]{20,400}", prose},
      {"a call, or text", GrammarKind::ToolCalls,
       R"({"open":"<tool_call>\n","close":"\n</tool_call>","arguments":"arguments","many":true,"text":true,"tools":[{"name":"add_person","parameters":)" +
           person + "}]}",
       prose + "\n<tool_call>\n{\"name\": \"add_person\", \"arguments\": " + ada + "}\n</tool_call>"},
  };
}

double microsecondsSince(Clock::time_point begun) {
  return std::chrono::duration<double, std::micro>(Clock::now() - begun).count();
}

double quantile(std::vector<double> values, double part) {
  auto place = values.begin() + static_cast<std::ptrdiff_t>(part * static_cast<double>(values.size() - 1));
  std::nth_element(values.begin(), place, values.end());
  return *place;
}

girih::Status measure(const girih::GrammarVocabulary &vocabulary, const girih::Tokenizer &tokenizer,
                      const Shape &shape) {
  std::vector<uint32_t> mask(static_cast<size_t>(tokenizer.vocabSize() + 31) / 32);
  girih::EncodeOptions plain;
  plain.addSpecial = false;
  GIRIH_ASSIGN(std::vector<int32_t> tokens, tokenizer.encode(shape.answer, plain));
  std::vector<double> compiles, masks, steps;
  for (int round = 0; round < kRounds; ++round) {
    Clock::time_point begun = Clock::now();
    GIRIH_ASSIGN(Grammar grammar, Grammar::create(vocabulary, shape.kind, shape.source));
    compiles.push_back(microsecondsSince(begun));
    for (int32_t token : tokens) {
      begun = Clock::now();
      GIRIH_TRY(grammar.fillMask(mask));
      masks.push_back(microsecondsSince(begun));
      if (!(mask[static_cast<size_t>(token) / 32] >> (token % 32) & 1))
        return girih::internalError("the mask of \"" + shape.name + "\" forbids its answer");
      begun = Clock::now();
      GIRIH_TRY(grammar.accept(token));
      steps.push_back(microsecondsSince(begun));
    }
    if (!grammar.mayEnd())
      return girih::internalError("\"" + shape.name + "\" does not end with its answer");
  }
  double sum = 0;
  for (size_t index = 0; index < masks.size(); ++index)
    sum += masks[index] + steps[index];
  std::printf("| %s | %zu | %.1f | %.1f | %.1f | %.1f | %.0f | %.2f |\n", shape.name.c_str(), tokens.size(),
              sum / static_cast<double>(masks.size()), quantile(masks, 0.5), quantile(steps, 0.5),
              quantile(masks, 0.99), quantile(masks, 1), quantile(compiles, 0.5) / 1000);
  return {};
}

girih::Status run(const char *file) {
  GIRIH_ASSIGN(girih::tools::LoadedModel model, girih::tools::loadModel(file, /*needsText=*/true));
  GIRIH_ASSIGN(girih::GrammarVocabulary vocabulary,
               girih::GrammarVocabulary::create(*model.tokenizer, model.stopTokens().front()));
  std::printf("%d words, %d rounds; microseconds a token\n\n", model.tokenizer->vocabSize(), kRounds);
  std::printf("| shape | tokens | mask and step, mean | mask, median | step, median | mask, p99 | mask, "
              "worst | compile, ms |\n");
  std::printf("|---|---|---|---|---|---|---|---|\n");
  for (const Shape &shape : shapes())
    GIRIH_TRY(measure(vocabulary, *model.tokenizer, shape));
  return {};
}

} // namespace

int main(int count, char **arguments) {
  if (count != 2) {
    std::fprintf(stderr, "usage: grammar_masks FILE\n");
    return 2;
  }
  girih::Status status = run(arguments[1]);
  if (!status.isOk())
    std::fprintf(stderr, "error: %.*s\n", static_cast<int>(status.message().size()), status.message().data());
  return status.isOk() ? 0 : 1;
}
