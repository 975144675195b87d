// SPDX-License-Identifier: Apache-2.0
// girih run: one prompt, one answer; text as it comes, or JSON with ids and timings.
#include "runtime/base/json.h"
#include "runtime/tools/commands.h"
#include "runtime/tools/loaded_model.h"
#include "runtime/tools/model_cache.h"
#include "runtime/tools/npy_writer.h"
#include "runtime/tools/sampling_flags.h"
#include "runtime/tools/token_stream.h"

#include <chrono>
#include <cstdio>
#include <iostream>

namespace girih::tools {
namespace {

struct RunFlags {
  std::string file;
  std::string prompt;
  std::string promptFile;
  std::string tokens;
  int64_t maxTokens = 512;
  SamplingFlags sampling;
  ExecutionFlags execution;
  bool noTemplate = false;
  std::string format = "text";
  std::string dumpLogits;
};

void declare(CommandLine &line, RunFlags &flags) {
  line.positional("FILE", flags.file, "A .girih file, a checkpoint (.gguf file or Hugging Face folder), or smollm2");
  line.text("--prompt", "TEXT", flags.prompt, "What to answer; put through the model's chat template where it has one");
  line.text("--prompt-file", "F", flags.promptFile, "The same, read from a file");
  line.text("--tokens", "1,2,3", flags.tokens, "Token ids, taken as they are: no template, no tokenizer needed");
  line.requireOneOf({"--prompt", "--prompt-file", "--tokens"});
  line.integer("--max-tokens", flags.maxTokens, 0, 1 << 30, "Most tokens to generate; 0 only evaluates the prompt");
  flags.sampling.declare(line);
  line.flag("--no-template", flags.noTemplate, "Feed the prompt as it is, without the chat template");
  flags.execution.declare(line);
  flags.execution.declareDrafts(line, 0);
  line.choice("--format", flags.format, {"text", "json"}, "How to print the answer");
  line.text("--dump-logits", "out.npy", flags.dumpLogits, "Also write the logits, f32, one row for each evaluated position of prompt and output");
  line.examples("Examples:\n"
                "  girih run smollm2 --prompt \"What is the capital of France?\"\n"
                "  girih run model.girih --prompt-file letter.txt --temperature 0.7 --seed 1\n"
                "  girih run model.girih --tokens 1,2,3 --max-tokens 8 --format json\n\n"
                "JSON: prompt_tokens and output_tokens (ids), text, finish_reason, timings {load_seconds,\n"
                "prefill_tokens_per_second, decode_tokens_per_second}; where two devices share the steps,\n"
                "between_devices {copies, bytes}.");
}

Expected<std::vector<int32_t>> promptTokens(const LoadedModel &model, const RunFlags &flags, bool hasTokens) {
  if (hasTokens)
    return parseTokenIds(flags.tokens, model.program->model().vocabSize);
  std::string text = flags.prompt;
  if (!flags.promptFile.empty()) {
    GIRIH_ASSIGN(text, readTextFile(flags.promptFile));
  }
  GIRIH_ASSIGN(const Tokenizer *tokenizer, model.requireTokenizer());
  if (flags.noTemplate || !model.hasChatTemplate())
    return tokenizer->encode(text);
  GIRIH_ASSIGN(ChatTemplate chatTemplate, model.chatTemplate());
  JsonWriter messages;
  messages.beginArray().beginObject().member("role", "user").member("content", text).endObject().endArray();
  return encodeMessages(model, chatTemplate, messages.text());
}

double perSecond(double count, double seconds) { return seconds > 0 ? count / seconds : 0; }

struct Timings {
  double loadSeconds = 0;
  double prefillTokensPerSecond = 0;
  double decodeTokensPerSecond = 0;
};

Timings timingsOf(double loadSeconds, const engine::Usage &usage) {
  // The first token comes out of the prefill; decode produced the others.
  double numDecoded = usage.numOutputTokens > 0 ? usage.numOutputTokens - 1.0 : 0;
  return {loadSeconds, perSecond(usage.numPromptTokens, usage.prefillSeconds), perSecond(numDecoded, usage.decodeSeconds)};
}

std::string_view reasonName(const GenerationOutcome &outcome) {
  if (outcome.interrupted)
    return "interrupted";
  return outcome.reason == engine::FinishReason::Stop ? "stop" : "length";
}

void printJson(const std::vector<int32_t> &prompt, const GenerationOutcome &outcome, const std::string &text,
               const Timings &timings, const program::Crossings &crossings) {
  JsonWriter writer;
  writer.beginObject().arrayMember("prompt_tokens", prompt).arrayMember("output_tokens", outcome.tokens);
  writer.member("text", text).member("finish_reason", reasonName(outcome)).key("timings").beginObject();
  writer.member("load_seconds", timings.loadSeconds);
  writer.member("prefill_tokens_per_second", timings.prefillTokensPerSecond);
  writer.member("decode_tokens_per_second", timings.decodeTokensPerSecond).endObject();
  if (crossings.numCopies > 0)
    writer.key("between_devices").beginObject().member("copies", crossings.numCopies).member("bytes", crossings.numBytes).endObject();
  writer.endObject();
  std::cout << writer.text() << std::endl;
}

void printSpeed(const GenerationOutcome &outcome, const Timings &timings, const program::Crossings &crossings) {
  std::fprintf(stderr, "[%u + %zu tokens; loaded in %.0f ms; prefill %.0f tokens/s, decode %.1f tokens/s]\n",
               outcome.usage.numPromptTokens, outcome.tokens.size(), timings.loadSeconds * 1e3,
               timings.prefillTokensPerSecond, timings.decodeTokensPerSecond);
  if (crossings.numCopies > 0)
    std::fprintf(stderr, "[two devices share each step: %llu copies between them, %.1f KiB]\n",
                 static_cast<unsigned long long>(crossings.numCopies), static_cast<double>(crossings.numBytes) / 1024);
}

// Prints text as tokens come; a model without a tokenizer prints ids.
class AnswerPrinter {
public:
  AnswerPrinter(const std::optional<Tokenizer> &tokenizer, bool printsNow) : printsNow(printsNow) {
    if (tokenizer)
      decoder.emplace(*tokenizer, /*skipSpecial=*/true);
  }
  void push(int32_t token) { say(decoder ? decoder->push(token) : (text.empty() ? "" : ",") + std::to_string(token)); }
  // The whole text; empty without a tokenizer.
  std::string finish() {
    if (decoder)
      say(decoder->finish());
    if (printsNow)
      std::cout << std::endl;
    return decoder ? text : std::string();
  }

private:
  void say(const std::string &piece) {
    text += piece;
    if (printsNow)
      std::cout << piece << std::flush;
  }
  std::optional<StreamingDecoder> decoder;
  bool printsNow;
  std::string text;
};

Expected<int> answerPrompt(const RunFlags &flags, const LoadedModel &model, engine::Engine &engine,
                           const std::vector<int32_t> &prompt, double loadSeconds) {
  engine::Request request;
  request.promptTokens = prompt;
  request.maxTokens = static_cast<uint32_t>(flags.maxTokens);
  request.sampling = flags.sampling.apply(model.defaultSampling());
  request.stopTokens = model.stopTokens();
  std::optional<NpyWriter> logits;
  LogitSink sink;
  if (!flags.dumpLogits.empty()) {
    GIRIH_ASSIGN(logits, NpyWriter::create(flags.dumpLogits, model.program->model().vocabSize));
    request.wantLogits = true;
    sink = [&logits](uint32_t, uint32_t, std::span<const float> rows) { logits->append(rows); };
  }
  InterruptScope interrupts;
  AnswerPrinter printer(model.tokenizer, flags.format == "text" && flags.maxTokens > 0);
  GIRIH_ASSIGN(auto outcome, streamTokens(engine, std::move(request), [&](int32_t token) { printer.push(token); }, sink));
  std::string text = printer.finish();
  Timings timings = timingsOf(loadSeconds, outcome.usage);
  if (flags.format == "json")
    printJson(prompt, outcome, text, timings, engine.stats().crossings);
  else
    printSpeed(outcome, timings, engine.stats().crossings);
  if (logits)
    GIRIH_TRY(logits->finish());
  return outcome.interrupted ? kExitInterrupted : 0;
}

}  // namespace

Expected<int> runCommand(const Arguments &arguments) {
  RunFlags flags;
  CommandLine line("run", "Answers one prompt: text on stdout as it comes, the speed on stderr.");
  declare(line, flags);
  if (auto exitStatus = line.parse(arguments))
    return *exitStatus;
  // Compiling a checkpoint is not loading: the clock starts when there is a program.
  GIRIH_ASSIGN(std::string program, resolveProgram(flags.file));
  auto start = std::chrono::steady_clock::now();
  bool hasTokens = line.wasGiven("--tokens");
  GIRIH_ASSIGN(LoadedModel model, loadModel(program, /*needsText=*/!hasTokens));
  GIRIH_ASSIGN(auto prompt, promptTokens(model, flags, hasTokens));
  GIRIH_ASSIGN(auto options, flags.execution.engineOptions());
  GIRIH_ASSIGN(auto engine, engine::Engine::create(model.program, options));
  std::chrono::duration<double> loadTime = std::chrono::steady_clock::now() - start;
  return answerPrompt(flags, model, *engine, prompt, loadTime.count());
}

}  // namespace girih::tools
