// SPDX-License-Identifier: Apache-2.0
// LoadedModel: opening, and turning what a user gave into token ids.
#include "runtime/tools/loaded_model.h"

#include "runtime/tools/backend_choice.h"
#include "runtime/tools/model_cache.h"

#include <cctype>
#include <charconv>
#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <iostream>
#include <iterator>

namespace girih::tools {

void ExecutionFlags::declare(CommandLine &line) {
  line.integer("--threads", numThreads, 0, 1024, "Threads that compute; 0: as many cores as this process is granted");
  line.text("--isa", "NAME", isa, "Hold to one of the file's variants (avx2, avx512, ...; `girih inspect` lists them)");
  line.text("--device", "NAME", device, "Run on this device only: cpu, vulkan, vulkan:1, ... (`girih machine --list`); by default on the best one that the file has code for");
  line.text("--backend", "LIB", backend, "Run on this backend: a vendor's library (path/lib.so), or a name");
  line.integer("--watchdog", watchdogSeconds, 0, 1 << 20, "Seconds after which a step that has not ended is reported, by its entry's name, and given up; 0: never");
}

void ExecutionFlags::declareDrafts(CommandLine &line, int64_t usual) {
  maxDraft = usual;
  line.integer("--max-draft", maxDraft, 0, engine::kMaxDraft, "Tokens of an answer that may be guessed from its own text and checked in one step, where that pays; 0: none");
  line.text("--draft", "FILE", draft,
            "A smaller model with the same vocabulary, which guesses, too, where that pays");
}

// The thread that hangs holds the device: nothing can be closed in order.
static void giveUp(const std::string &entry, double seconds) {
  std::fprintf(stderr, "girih: the device hangs: entry `%s` has not ended after %.0f s; giving up (--watchdog sets the time)\n",
               entry.c_str(), seconds);
  std::fflush(nullptr);
  std::_Exit(kExitFailure);
}

Expected<engine::EngineOptions> ExecutionFlags::engineOptions() const {
  engine::EngineOptions options;
  GIRIH_ASSIGN(options.devices, openDevices(device, backend));
  options.watchdogSeconds = static_cast<double>(watchdogSeconds);
  options.onHang = giveUp;
  options.onNote = [](const std::string &note) { std::fprintf(stderr, "girih: %s\n", note.c_str()); };
  options.numThreads = static_cast<int32_t>(numThreads);
  options.isa = isa;
  options.maxDraft = static_cast<uint32_t>(maxDraft);
  if (draft.empty())
    return options;
  GIRIH_ASSIGN(std::string path, resolveProgram(draft));
  auto program = program::Program::open(path);
  if (!program.isOk())
    return std::move(program).status().withContext("--draft");
  options.draft = std::move(program).value();
  // Who names a draft wants it to guess.
  if (maxDraft == 0)
    options.maxDraft = engine::kMaxDraft;
  return options;
}

Expected<const Tokenizer *> LoadedModel::requireTokenizer() const {
  if (!tokenizer)
    return failedPrecondition(program->path() + " has no tokenizer: give token ids (--tokens), or compile again from a checkpoint that has one");
  return &*tokenizer;
}

Expected<ChatTemplate> LoadedModel::chatTemplate() const {
  auto parsed = ChatTemplate::parse(tables().chatTemplate, tables().bosText, tables().eosText, tokenizer->specialTexts());
  if (!parsed.isOk())
    return std::move(parsed).status().withContext("the chat template of " + program->path());
  return parsed;
}

engine::SamplingOptions LoadedModel::defaultSampling() const {
  const program::GenerationDefaults &defaults = tables().generation;
  if (!defaults.hasSampling)
    return {};
  return {defaults.temperature, defaults.topK, defaults.topP, defaults.minP, defaults.repetitionPenalty, 0};
}

Expected<LoadedModel> loadModel(const std::string &name, bool needsText) {
  GIRIH_ASSIGN(std::string path, resolveProgram(name));
  LoadedModel model;
  auto program = program::Program::open(path);
  if (!program.isOk())
    return std::move(program).status();
  model.program = std::move(program).value();
  const program::Tokenizer &stored = model.tables().tokenizer;
  if (stored.kind.empty())
    return model;
  auto tokenizer = Tokenizer::load(std::as_bytes(stored.payload));
  if (tokenizer.isOk()) {
    model.tokenizer = std::move(tokenizer).value();
    return model;
  }
  Status failure = std::move(tokenizer).status().withContext("the tokenizer of " + path);
  if (needsText)
    return failure;
  std::cerr << "warning: " << failure.message() << "; going on without text\n";
  return model;
}

Expected<std::vector<int32_t>> encodeMessages(const LoadedModel &model, const ChatTemplate &chatTemplate,
                                              std::string_view messagesJson) {
  ChatRequest request;
  request.messagesJson = messagesJson;
  GIRIH_ASSIGN(ChatPrompt prompt, chatTemplate.render(request));
  EncodeOptions options;
  options.addSpecial = false;  // the template writes what surrounds the text itself
  options.barriers = prompt.barriers;
  return model.tokenizer->encode(prompt.text, options);
}

Expected<std::vector<int32_t>> parseTokenIds(std::string_view text, uint32_t vocabSize) {
  std::vector<int32_t> tokens;
  const char *end = text.data() + text.size();
  for (const char *at = text.data(); at != end;) {
    if (*at == ',' || *at == '[' || *at == ']' || std::isspace(static_cast<unsigned char>(*at))) {
      ++at;
      continue;
    }
    int32_t token = 0;
    auto [next, error] = std::from_chars(at, end, token);
    std::string where = "token " + std::to_string(tokens.size() + 1);
    if (error != std::errc{})
      return invalidArgument(where + " is \"" + std::string(at, std::min<size_t>(20, static_cast<size_t>(end - at))) + "\", not a number; ids are separated by commas or white space");
    if (token < 0 || static_cast<uint32_t>(token) >= vocabSize)
      return invalidArgument(where + " is " + std::to_string(token) + "; this model's ids are 0 to " + std::to_string(vocabSize - 1));
    tokens.push_back(token);
    at = next;
  }
  if (tokens.empty())
    return invalidArgument("there are no token ids; give at least one");
  return tokens;
}

Expected<std::string> readTextFile(const std::string &path) {
  std::ifstream file(path, std::ios::binary);
  std::string text{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
  if (!file.is_open() || file.bad())
    return notFound("cannot read " + path);
  return text;
}

}  // namespace girih::tools
