// SPDX-License-Identifier: Apache-2.0
// girih inspect: what a .girih file holds, read from its tables; nothing of it is executed.
#include "runtime/base/json.h"
#include "runtime/tools/commands.h"
#include "runtime/tools/program_report.h"

#include "runtime/program/program.h"
#include "runtime/tools/model_cache.h"

#include <iostream>

namespace girih::tools {

Expected<int> inspectCommand(const Arguments &arguments) {
  std::string file, format = "text";
  bool everything = false;
  CommandLine line("inspect", "Shows what a .girih file holds: model, variants, numerics, tiling, quantization, notes. Runs nothing of it.");
  line.positional("FILE", file, "A .girih file, a checkpoint (.gguf file or Hugging Face folder), or smollm2");
  line.choice("--format", format, {"text", "json"}, "How to print the report");
  line.flag("--all", everything, "List every tensor and every dispatch, not only sums (JSON always lists all)");
  line.examples("Examples:\n  girih inspect model.girih\n  girih inspect model.girih --format json | jq .variants");
  if (auto exitStatus = line.parse(arguments))
    return *exitStatus;
  GIRIH_ASSIGN(std::string path, resolveProgram(file));
  GIRIH_ASSIGN(auto program, program::Program::open(path));
  if (format == "json")
    std::cout << programReportJson(*program) << std::endl;
  else
    std::cout << programReportText(*program, everything) << std::flush;
  return 0;
}

}  // namespace girih::tools
