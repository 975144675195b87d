// SPDX-License-Identifier: Apache-2.0
// How templates of several kinds write a call.
#include "runtime/text/tool_format.h"

#include <gtest/gtest.h>

namespace girih {
namespace {

ToolFormat formatOf(std::string source, std::vector<std::string> specials = {"<|im_start|>", "<|im_end|>"}) {
  auto chatTemplate = ChatTemplate::parse(source, "", "<|im_end|>", specials);
  EXPECT_TRUE(chatTemplate.isOk()) << chatTemplate.status().message();
  return findToolFormat(*chatTemplate, specials);
}

// Tools, then turns; `call` writes one call `c`.
std::string withCalls(std::string call, std::string before = "") {
  return "{% for t in tools %}{{ t | tojson }}\n{% endfor %}{% for m in messages %}<|im_start|>{{ m.role "
         "}}\n" +
         before + "{{ m.content }}{% for c in m.tool_calls %}" + call +
         "{% endfor %}<|im_end|>\n{% endfor %}"
         "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}";
}

const std::string kJson =
    R"({"name": "{{ c.function.name }}", "arguments": {{ c.function.arguments | tojson }}})";

TEST(ToolFormat, FindsTagsAroundTheCall) {
  ToolFormat format = formatOf(withCalls("<tool_call>\n" + kJson + "\n</tool_call>"));
  EXPECT_TRUE(format.isNative);
  EXPECT_EQ(format.open, "<tool_call>\n");
  EXPECT_EQ(format.close, "\n</tool_call>");
  EXPECT_EQ(format.argumentsKey, "arguments");
}

TEST(ToolFormat, FindsBareCallsAndOtherKeys) {
  ToolFormat format = formatOf(
      withCalls(R"({"name": "{{ c.function.name }}", "parameters": {{ c.function.arguments | tojson }}})"));
  EXPECT_TRUE(format.isNative);
  EXPECT_EQ(format.open, "");
  EXPECT_EQ(format.close, "");
  EXPECT_EQ(format.argumentsKey, "parameters");
}

TEST(ToolFormat, LeavesOutWhatWasThoughtBefore) {
  std::string thought = "{% if m.role == 'assistant' %}<think>\n\n</think>\n\n{% endif %}";
  EXPECT_EQ(formatOf(withCalls("<tool_call>\n" + kJson + "\n</tool_call>", thought)).open, "<tool_call>\n");
}

TEST(ToolFormat, IsOursWhereTheTemplateKnowsNoneOrWritesThemOtherwise) {
  const std::string kSources[] = {
      "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}",
      withCalls("<call name={{ c.function.name }}/>"),   // no JSON
      withCalls("<|im_start|>" + kJson),                 // a special token, which text does not show
      withCalls(R"({"tool": "{{ c.function.name }}"})"), // another object
      withCalls("{{ '{' }}"),                            // never closed
      "{% if tools %}{{ raise_exception('no') }}{% endif %}",
  };
  for (const std::string &source : kSources) {
    ToolFormat format = formatOf(source);
    EXPECT_FALSE(format.isNative) << source;
    EXPECT_EQ(format.open, "<tool_call>\n");
    EXPECT_EQ(format.argumentsKey, "arguments");
  }
}

} // namespace
} // namespace girih
