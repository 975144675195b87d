// SPDX-License-Identifier: Apache-2.0
// girih: the command line; picks the subcommand and turns its result into an exit status.
#include "runtime/tools/commands.h"

#include <csignal>
#include <cstdio>
#include <exception>
#include <iostream>

namespace girih::tools {
namespace {

struct Command {
  const char *name;
  Expected<int> (*run)(const Arguments &);
  const char *summary;
};

constexpr Command kCommands[] = {
    {"run", runCommand, "answer one prompt"},
    {"chat", chatCommand, "talk with a model in the terminal"},
    {"serve", serveCommand, "answer OpenAI clients over HTTP"},
    {"batch", batchCommand, "answer a file of requests, without a server"},
    {"prompt", promptCommand, "give a server's prompts names: computed once, warm for everybody"},
    {"compile", compileCommand, "turn a checkpoint (.gguf, or a Hugging Face folder) into one .girih file"},
    {"inspect", inspectCommand, "show what a .girih file holds, without running any of it"},
    {"verify", verifyCommand, "check a .girih file's checksums and its golden answers"},
    {"score", scoreCommand, "log-probability of every token of a text"},
    {"bench", benchCommand, "measure prefill and decode beside what memory allows"},
    {"machine", machineCommand, "describe this machine as the compiler sees it"},
};

void printHelp(std::ostream &out) {
  out << "girih: compiles transformers ahead of time and runs them.\n\nUsage: girih COMMAND ...    (girih COMMAND --help explains each)\n\n";
  for (const Command &command : kCommands)
    out << "  " << std::string(command.name) << std::string(10 - std::string_view(command.name).size(), ' ') << command.summary << '\n';
  out << "\nA model FILE is a .girih file; a checkpoint (.gguf file, Hugging Face folder) or the name smollm2 may stand\n"
         "wherever one may: it is compiled once, kept in a cache and reused.\n\n"
         "A .girih file holds native code: running a stranger's file is running a stranger's program (inspect runs nothing).\n\n"
         "Exit status: 0 done, 1 failed, 2 wrong usage. Errors go to stderr.\n\n"
         "  girih run smollm2 --prompt \"What is the capital of France?\"\n"
         "  girih serve smollm2\n"
         "  girih compile model.gguf -o model.girih && girih inspect model.girih\n";
}

int main(int argc, char **argv) {
  std::string name = argc > 1 ? argv[1] : "";
  if (name == "--help" || name == "-h" || name == "help") {
    printHelp(std::cout);
    return 0;
  }
  if (name == "--version") {
    std::cout << "girih " GIRIH_VERSION "\n";
    return 0;
  }
  for (const Command &command : kCommands) {
    if (name != command.name)
      continue;
    auto exitStatus = command.run(Arguments(argv + 2, argv + argc));
    if (exitStatus.isOk())
      return *exitStatus;
    std::cerr << "girih " << name << ": " << exitStatus.status().message() << '\n';
    return kExitFailure;
  }
  if (name.empty())
    printHelp(std::cerr);
  else
    std::cerr << "girih: there is no command `" << name << "`; `girih --help` lists the commands\n";
  return kExitUsage;
}

}  // namespace
}  // namespace girih::tools

int main(int argc, char **argv) {
  // A reader that goes away (`girih run ... | head -1`) ends us by a failed write, not by a signal in mid-step.
  std::signal(SIGPIPE, SIG_IGN);
  std::signal(SIGXFSZ, SIG_IGN);  // and a limit on file sizes is an error like a full disk
  try {
    return girih::tools::main(argc, argv);
  } catch (const std::bad_alloc &) {
    std::fputs("girih: out of memory; close other programs, or choose a smaller model or context\n", stderr);
  } catch (const std::exception &error) {
    std::fprintf(stderr, "girih: internal error: %s; please report this\n", error.what());
  }
  return girih::tools::kExitFailure;
}
