// SPDX-License-Identifier: Apache-2.0
// LoadedModel: a program with its tokenizer and template, as run, chat, serve and score need it.
#pragma once

#include "runtime/engine/engine.h"
#include "runtime/program/program.h"
#include "runtime/text/chat_template.h"
#include "runtime/text/tokenizer.h"
#include "runtime/tools/command_line.h"

#include <memory>
#include <optional>
#include <string>

namespace girih::tools {

// The options that every command shares that runs a model.
struct ExecutionFlags {
  int64_t numThreads = 0;
  std::string isa;
  std::string device, backend;
  int64_t watchdogSeconds = 300;  // a step of the most tokens on a slow device takes seconds
  int64_t maxDraft = 0;
  std::string draft;

  void declare(CommandLine &line);
  // For commands that generate.
  void declareDrafts(CommandLine &line, int64_t usual);
  // Opens the device that was named, and the draft model. A step that hangs is told on stderr and ends the process.
  Expected<engine::EngineOptions> engineOptions() const;
};

struct LoadedModel {
  std::shared_ptr<const program::Program> program;
  std::optional<Tokenizer> tokenizer;  // absent: the file has none, only token ids can be fed

  const program::Tables &tables() const { return program->tables(); }
  // Ids that end an answer: those that the file names.
  std::vector<int32_t> stopTokens() const { return tables().tokenizer.eosTokens; }
  // Fails: FailedPrecondition when the file has no tokenizer; the message says what can be done instead.
  Expected<const Tokenizer *> requireTokenizer() const;
  bool hasChatTemplate() const { return tokenizer && !tables().chatTemplate.empty(); }
  Expected<ChatTemplate> chatTemplate() const;
  // The file's own sampling, or greedy where it states none.
  engine::SamplingOptions defaultSampling() const;
};

// Opens `name` as resolveProgram finds it. A tokenizer that cannot be loaded is an error only when `needsText`; else
// the model comes without one, and a warning goes to stderr.
Expected<LoadedModel> loadModel(const std::string &name, bool needsText);

// The ids of a rendered conversation: messages as a JSON array. Requires: model.hasChatTemplate().
Expected<std::vector<int32_t>> encodeMessages(const LoadedModel &model, const ChatTemplate &chatTemplate,
                                              std::string_view messagesJson);

// Ids separated by commas or white space. Fails: InvalidArgument naming the first thing that is no id.
Expected<std::vector<int32_t>> parseTokenIds(std::string_view text, uint32_t vocabSize);

Expected<std::string> readTextFile(const std::string &path);

}  // namespace girih::tools
