// SPDX-License-Identifier: Apache-2.0
// girih score: the log-probability of every token of a text, given those before it.
#include "runtime/base/json.h"
#include "runtime/tools/commands.h"
#include "runtime/tools/loaded_model.h"

#include <cmath>
#include <cstdio>
#include <iostream>

namespace girih::tools {
namespace {

struct ScoreFlags {
  std::string file;
  std::string tokensFile;
  std::string format = "text";
  ExecutionFlags execution;
};

double sumOf(const std::vector<float> &logprobs) {
  double sum = 0;
  for (float logprob : logprobs)
    sum += logprob;
  return sum;
}

// The first token has nothing before it: null, as OpenAI's echo has it.
void printJson(const std::vector<int32_t> &tokens, const std::vector<float> &logprobs, double perplexity) {
  JsonWriter writer;
  writer.beginObject().arrayMember("tokens", tokens).key("logprobs").beginArray().null();
  for (size_t tokenIndex = 1; tokenIndex < logprobs.size(); ++tokenIndex)
    writer.value(logprobs[tokenIndex]);
  writer.endArray().member("sum_logprob", sumOf(logprobs)).member("perplexity", perplexity).endObject();
  std::cout << writer.text() << std::endl;
}

void printTable(const LoadedModel &model, const std::vector<int32_t> &tokens, const std::vector<float> &logprobs,
                double perplexity) {
  for (size_t tokenIndex = 0; tokenIndex < tokens.size(); ++tokenIndex) {
    std::string text;
    if (model.tokenizer)
      appendJsonString(text, model.tokenizer->idToToken(tokens[tokenIndex]));
    if (tokenIndex == 0)
      std::printf("%8d %12s  %s\n", tokens[tokenIndex], "-", text.c_str());
    else
      std::printf("%8d %12.6f  %s\n", tokens[tokenIndex], logprobs[tokenIndex], text.c_str());
  }
  std::printf("perplexity %.4f over %zu tokens\n", perplexity, tokens.size() - 1);
}

}  // namespace

Expected<int> scoreCommand(const Arguments &arguments) {
  ScoreFlags flags;
  CommandLine line("score", "Log-probability of every token of a text, given those before it (teacher-forced).");
  line.positional("FILE", flags.file, "A .girih file, a checkpoint (.gguf file or Hugging Face folder), or smollm2");
  line.text("--tokens-file", "F", flags.tokensFile, "File of token ids, separated by commas or white space");
  line.requireOneOf({"--tokens-file"});
  line.choice("--format", flags.format, {"text", "json"}, "How to print the scores");
  flags.execution.declare(line);
  line.examples("Examples:\n  girih score model.girih --tokens-file ids.txt --format json\n\n"
                "JSON: tokens, logprobs (natural logarithm; null for the first token, which nothing predicts),\n"
                "sum_logprob, perplexity. Texts longer than the context are scored in overlapping windows.");
  if (auto exitStatus = line.parse(arguments))
    return *exitStatus;
  GIRIH_ASSIGN(LoadedModel model, loadModel(flags.file, /*needsText=*/false));
  GIRIH_ASSIGN(std::string text, readTextFile(flags.tokensFile));
  auto tokens = parseTokenIds(text, model.program->model().vocabSize);
  if (!tokens.isOk())
    return std::move(tokens).status().withContext(flags.tokensFile);
  GIRIH_ASSIGN(auto options, flags.execution.engineOptions());
  GIRIH_ASSIGN(auto engine, engine::Engine::create(model.program, options));
  GIRIH_ASSIGN(auto logprobs, engine::score(*engine, *tokens));
  double numScored = static_cast<double>(std::max<size_t>(logprobs.size() - 1, 1));
  double perplexity = std::exp(-sumOf(logprobs) / numScored);
  if (flags.format == "json")
    printJson(*tokens, logprobs, perplexity);
  else
    printTable(model, *tokens, logprobs, perplexity);
  return 0;
}

}  // namespace girih::tools
