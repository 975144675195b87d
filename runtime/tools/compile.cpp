// SPDX-License-Identifier: Apache-2.0
// girih compile: becomes girih-compile, the one binary that holds LLVM.
#include "runtime/tools/commands.h"
#include "runtime/tools/model_cache.h"

#include <algorithm>
#include <cerrno>
#include <cstring>

#include <unistd.h>

namespace girih::tools {

Expected<int> compileCommand(const Arguments &arguments) {
  GIRIH_ASSIGN(std::string compiler, findCompiler());
  std::vector<char *> argv = {compiler.data()};
  for (const std::string &argument : arguments)
    argv.push_back(const_cast<char *>(argument.c_str()));
  std::string cache = codeCacheFlag();
  bool isNamed = std::any_of(arguments.begin(), arguments.end(),
                             [](const std::string &argument) { return argument.starts_with("--code-cache"); });
  if (!isNamed && !cache.empty())
    argv.push_back(cache.data());
  argv.push_back(nullptr);
  execv(compiler.c_str(), argv.data());
  return failedPrecondition("cannot start " + compiler + ": " + std::strerror(errno));
}

}  // namespace girih::tools
