// SPDX-License-Identifier: Apache-2.0
// Renders chat templates for the Python judge. Stdin: records of seven texts, each preceded by its length (4
// bytes little-endian): template, bos, eos, messages, tools, extra, "1" to add the generation prompt. Stdout:
// for each record
// "+" or "-" (an error), then the text or message the same way.
#include "runtime/text/chat_template.h"

#include <array>
#include <cstdint>
#include <cstdio>

namespace {

bool readText(std::string &text) {
  uint32_t size;
  if (std::fread(&size, 4, 1, stdin) != 1)
    return false;
  text.resize(size);
  return std::fread(text.data(), 1, size, stdin) == size;
}

void writeText(char mark, std::string_view text) {
  uint32_t size = static_cast<uint32_t>(text.size());
  std::fputc(mark, stdout);
  std::fwrite(&size, 4, 1, stdout);
  std::fwrite(text.data(), 1, text.size(), stdout);
}

girih::Expected<girih::ChatPrompt> render(const std::array<std::string, 7> &fields) {
  GIRIH_ASSIGN(girih::ChatTemplate chat,
               girih::ChatTemplate::parse(fields[0], fields[1], fields[2], {"<|im_end|>"}));
  return chat.render({.messagesJson = fields[3],
                      .toolsJson = fields[4],
                      .extraJson = fields[5],
                      .addGenerationPrompt = fields[6] == "1"});
}

} // namespace

int main() {
  std::array<std::string, 7> fields;
  while (readText(fields[0])) {
    for (size_t i = 1; i < fields.size(); ++i)
      if (!readText(fields[i]))
        return 1;
    auto prompt = render(fields);
    writeText(prompt.isOk() ? '+' : '-', prompt.isOk() ? prompt->text : prompt.status().message());
  }
  return 0;
}
