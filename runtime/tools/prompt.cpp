// SPDX-License-Identifier: Apache-2.0
// girih prompt: the texts that a server's clients may name instead of sending them.
#include "runtime/server/named_prompts.h"
#include "runtime/server/state_folder.h"
#include "runtime/tools/commands.h"
#include "runtime/tools/loaded_model.h"
#include "runtime/tools/model_cache.h"

#include <cerrno>
#include <cstring>
#include <filesystem>
#include <iostream>

#include <unistd.h>

namespace girih::tools {
namespace {

std::string pathOf(const std::string &folder, const std::string &name) {
  return folder + "/" + name + std::string(server::kPromptSuffix);
}

Status addPrompt(const std::string &folder, const std::string &name, const std::string &file) {
  if (file.empty())
    return invalidArgument("the text's FILE is missing: girih prompt add NAME FILE");
  GIRIH_ASSIGN(std::string text, readTextFile(file));
  if (text.empty() || text.size() > server::kMaxPromptBytes)
    return invalidArgument(file + " has " + std::to_string(text.size()) + " bytes; a prompt has 1 to " +
                           std::to_string(server::kMaxPromptBytes));
  std::error_code error;
  std::filesystem::create_directories(folder, error);
  if (error)
    return unavailable("cannot make the folder " + folder + ": " + error.message());
  std::filesystem::permissions(folder, std::filesystem::perms::owner_all, error);
  return server::replaceFile(pathOf(folder, name), text, /*isSynced=*/true);
}

Status removePrompt(const std::string &folder, const std::string &name) {
  if (::unlink(pathOf(folder, name).c_str()) == 0)
    return {};
  return notFound("no prompt `" + name + "` is removed from " + folder + ": " + std::strerror(errno));
}

} // namespace

Expected<int> promptCommand(const Arguments &arguments) {
  std::string action, name, file, state;
  CommandLine line(
      "prompt", "Gives texts names, for the `prompt` field of /v1/responses: {\"prompt\": {\"id\": NAME}}.");
  line.positional("ACTION", action, "add, list or remove");
  line.positional("NAME", name, "1 to 64 letters, digits, '-', '_' and '.'", /*isRequired=*/false);
  line.positional("FILE", file,
                  "To add: the text, which becomes the beginning of the conversation's system message",
                  /*isRequired=*/false);
  line.text("--state-dir", "FOLDER", state, "The server's (default: ~/.local/state/girih)");
  line.examples("Examples:\n"
                "  girih prompt add support support.txt\n"
                "  girih prompt list\n"
                "  girih prompt remove support\n\n"
                "A running server sees the change with the next request. What was computed for a prompt is "
                "kept in memory and on\n"
                "disk, and found by every key that names it.");
  if (auto exitStatus = line.parse(arguments))
    return *exitStatus;
  if (state.empty()) {
    GIRIH_ASSIGN(state, stateFolder());
  }
  std::string folder = state + "/" + std::string(server::kPromptFolder);
  if (action == "list") {
    for (const std::string &known : server::NamedPrompts(folder, {}).names())
      std::cout << known << '\n';
    return 0;
  }
  if (action != "add" && action != "remove")
    return invalidArgument("the action is `" + action + "`; it must be add, list or remove");
  if (!server::isPromptName(name))
    return invalidArgument(
        "the name is `" + name +
        "`; it must have 1 to 64 letters, digits, '-', '_' and '.', and not begin with '.'");
  GIRIH_TRY(action == "add" ? addPrompt(folder, name, file) : removePrompt(folder, name));
  return 0;
}

} // namespace girih::tools
