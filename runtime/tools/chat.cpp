// SPDX-License-Identifier: Apache-2.0
// girih chat: a conversation in the terminal; every turn feeds the whole conversation again.
#include "runtime/base/json.h"
#include "runtime/tools/commands.h"
#include "runtime/tools/loaded_model.h"
#include "runtime/tools/sampling_flags.h"
#include "runtime/tools/token_stream.h"

#include <iostream>

#include <unistd.h>

namespace girih::tools {
namespace {

struct ChatFlags {
  std::string file;
  std::string system;
  int64_t maxTokens = 1024;
  SamplingFlags sampling;
  ExecutionFlags execution;
};

// The messages so far, as the JSON array that templates take.
class Conversation {
public:
  explicit Conversation(std::string system) : system(std::move(system)) {}
  void add(std::string role, std::string content) { turns.emplace_back(std::move(role), std::move(content)); }
  void dropLast() { turns.pop_back(); }
  void clear() { turns.clear(); }
  std::string messagesJson() const {
    JsonWriter writer;
    writer.beginArray();
    if (!system.empty())
      writer.beginObject().member("role", "system").member("content", system).endObject();
    for (const auto &[role, content] : turns)
      writer.beginObject().member("role", role).member("content", content).endObject();
    return writer.endArray().take();
  }

private:
  std::string system;
  std::vector<std::pair<std::string, std::string>> turns;
};

// Says the answer to the last message; its text. Ctrl-C ends it early, what was said stays in the conversation.
Expected<std::string> answerTurn(const LoadedModel &model, const ChatTemplate &chatTemplate, engine::Engine &engine,
                                 const ChatFlags &flags, const Conversation &conversation) {
  engine::Request request;
  GIRIH_ASSIGN(request.promptTokens, encodeMessages(model, chatTemplate, conversation.messagesJson()));
  if (request.promptTokens.size() >= engine.contextTokens())
    return outOfRange("the conversation has " + std::to_string(request.promptTokens.size()) + " tokens, the model's context " + std::to_string(engine.contextTokens()) + "; /clear begins a new one");
  request.maxTokens = static_cast<uint32_t>(flags.maxTokens);
  request.sampling = flags.sampling.apply(model.defaultSampling());
  request.stopTokens = model.stopTokens();
  StreamingDecoder decoder(*model.tokenizer, /*skipSpecial=*/true);
  std::string answer;
  auto say = [&answer](const std::string &piece) {
    answer += piece;
    std::cout << piece << std::flush;
  };
  InterruptScope interrupts;
  GIRIH_ASSIGN(auto outcome, streamTokens(engine, std::move(request), [&](int32_t token) { say(decoder.push(token)); }));
  say(decoder.finish());
  std::cout << (outcome.interrupted ? " [stopped]" : "") << std::endl;
  return answer;
}

void converse(const LoadedModel &model, const ChatTemplate &chatTemplate, engine::Engine &engine, const ChatFlags &flags) {
  bool isTerminal = isatty(STDIN_FILENO);
  if (isTerminal)
    std::cerr << model.program->model().name << ", context " << engine.contextTokens() << " tokens. /clear begins anew, /exit or Ctrl-D ends, Ctrl-C stops an answer.\n";
  Conversation conversation(flags.system);
  std::string lineText;
  while (true) {
    if (isTerminal)
      std::cerr << "\n> ";
    if (!std::getline(std::cin, lineText) || lineText == "/exit")
      return;
    if (lineText == "/clear")
      conversation.clear();
    if (lineText.empty() || lineText == "/clear")
      continue;
    conversation.add("user", lineText);
    auto answer = answerTurn(model, chatTemplate, engine, flags, conversation);
    if (answer.isOk()) {
      conversation.add("assistant", *answer);
      continue;
    }
    std::cerr << "girih chat: " << answer.status().message() << '\n';
    conversation.dropLast();
  }
}

}  // namespace

Expected<int> chatCommand(const Arguments &arguments) {
  ChatFlags flags;
  CommandLine line("chat", "Talks with a model in the terminal, a line a message.");
  line.positional("FILE", flags.file, "A .girih file, a checkpoint (.gguf file or Hugging Face folder), or smollm2");
  line.text("--system", "TEXT", flags.system, "Instructions that stand before the conversation");
  line.integer("--max-tokens", flags.maxTokens, 1, 1 << 30, "Most tokens of one answer");
  flags.sampling.declare(line);
  flags.execution.declare(line);
  flags.execution.declareDrafts(line, 0);
  line.examples("Examples:\n  girih chat smollm2\n  girih chat model.girih --system \"Answer in one sentence.\" --temperature 0.7");
  if (auto exitStatus = line.parse(arguments))
    return *exitStatus;
  GIRIH_ASSIGN(LoadedModel model, loadModel(flags.file, /*needsText=*/true));
  GIRIH_TRY([&]() -> Status {
    auto tokenizer = model.requireTokenizer();
    return tokenizer.isOk() ? Status() : std::move(tokenizer).status();
  }());
  if (!model.hasChatTemplate())
    return failedPrecondition(model.program->path() + " has no chat template, so it cannot hold a conversation; `girih run FILE --prompt TEXT` continues a text");
  GIRIH_ASSIGN(ChatTemplate chatTemplate, model.chatTemplate());
  GIRIH_ASSIGN(auto options, flags.execution.engineOptions());
  GIRIH_ASSIGN(auto engine, engine::Engine::create(model.program, options));
  converse(model, chatTemplate, *engine, flags);
  return 0;
}

}  // namespace girih::tools
