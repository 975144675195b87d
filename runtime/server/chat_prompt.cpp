// SPDX-License-Identifier: Apache-2.0
// ChatPrompt: render, then encode with the template's barriers.
#include "runtime/server/chat_prompt.h"

#include "runtime/server/tool_use.h"

namespace girih::server {

ApiResult<ChatTokens> encodeChat(const Service &service, ChatCompletionRequest &conversation,
                                 const std::string &field, const ChatTokens *known) {
  const ServedModel &model = service.model();
  if (!model.tokenizer || !model.chatTemplate)
    return invalidField(field,
                        "this model's file has no chat template; use /v1/completions, or compile from a "
                        "checkpoint that has one",
                        "unsupported");
  if (auto error = applyTools(model.toolFormat, conversation))
    return *error;
  const ChatInput &chat = conversation.chat;
  auto fault = [&](const Status &status) {
    ApiError error = apiErrorOf(status);
    error.param = field;
    return error;
  };
  ChatRequest request;
  request.messagesJson = chat.messagesJson;
  request.toolsJson = chat.toolsJson;
  request.extraJson = chat.extraJson;
  request.addGenerationPrompt = chat.addGenerationPrompt;
  auto prompt = model.chatTemplate->render(request);
  if (!prompt.isOk())
    return fault(prompt.status());
  // The template writes what surrounds the text itself.
  EncodeOptions encoding;
  encoding.addSpecial = false;
  size_t knownBytes = known && prompt->text.starts_with(known->text) ? known->text.size() : 0;
  std::vector<size_t> barriers;
  for (size_t position : prompt->barriers)
    if (position >= knownBytes)
      barriers.push_back(position - knownBytes);
  encoding.barriers = barriers;
  auto tokens = model.tokenizer->encode(std::string_view(prompt->text).substr(knownBytes), encoding);
  if (!tokens.isOk())
    return fault(tokens.status());
  ChatTokens answer{{}, std::move(prompt->text)};
  if (knownBytes > 0)
    answer.tokens = known->tokens;
  answer.tokens.insert(answer.tokens.end(), tokens->begin(), tokens->end());
  if (!chat.answerBegin.empty()) {
    // Behind the template's own text: nothing of it may become a special token.
    encoding.barriers = {};
    encoding.parseSpecial = false;
    auto begin = model.tokenizer->encode(chat.answerBegin, encoding);
    if (!begin.isOk())
      return fault(begin.status());
    answer.tokens.insert(answer.tokens.end(), begin->begin(), begin->end());
    answer.text += chat.answerBegin;
  }
  return answer;
}

ApiResult<std::vector<std::vector<int32_t>>> encodePrompts(const Service &service, std::vector<RawPrompt> prompts,
                                                           std::string_view field) {
  std::vector<std::vector<int32_t>> all;
  for (RawPrompt &prompt : prompts) {
    if (prompt.hasTokens) {
      all.push_back(std::move(prompt.tokens));
      continue;
    }
    std::string name(field);
    if (!service.model().tokenizer)
      return invalidField(name, "this model's file has no tokenizer; send `" + name + "` as an array of token ids",
                          "unsupported");
    auto tokens = service.model().tokenizer->encode(prompt.text);
    if (!tokens.isOk())
      return apiErrorOf(tokens.status());
    all.push_back(std::move(tokens).value());
  }
  return all;
}

} // namespace girih::server
