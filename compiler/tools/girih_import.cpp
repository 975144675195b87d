// SPDX-License-Identifier: Apache-2.0
// girih-import: prints the textbook graph of a checkpoint.
#include "models/build_graph.h"

#include "mlir/Support/FileUtilities.h"
#include "llvm/Support/CommandLine.h"
#include "llvm/Support/InitLLVM.h"
#include "llvm/Support/ToolOutputFile.h"

namespace cl = llvm::cl;

int main(int argc, char **argv) {
  llvm::InitLLVM init(argc, argv);
  cl::opt<std::string> input(cl::Positional, cl::Required,
                             cl::desc("<a .gguf file or a Hugging Face folder>"));
  cl::opt<std::string> output("o", cl::init("-"), cl::desc("where the graph is written"),
                              cl::value_desc("file"));
  cl::opt<bool> locations("locations", cl::desc("print each op's location, which names the layer"));
  cl::ParseCommandLineOptions(argc, argv,
                              "Girih's importer: from a checkpoint to the graph that is compiled\n");

  auto fail = [](std::string_view message) {
    llvm::errs() << "girih-import: " << message << "\n";
    return 1;
  };
  auto store = girih::weights::WeightStore::open(input);
  if (!store.isOk())
    return fail(store.status().message());
  mlir::MLIRContext context;
  auto model = girih::models::buildGraph(&context, *store);
  if (!model.isOk())
    return fail(std::move(model).status().withContext("importing \"" + input + "\"").message());
  std::string error;
  auto file = mlir::openOutputFile(output, &error);
  if (!file)
    return fail(error);
  mlir::OpPrintingFlags flags;
  model->module->print(file->os(), flags.enableDebugInfo(locations, /*prettyForm=*/false));
  file->keep();
  return 0;
}
