// SPDX-License-Identifier: Apache-2.0
// girih-reference: evaluates a checkpoint's graph in f64, by the plain loops of backends/reference.
#include "backends/reference/evaluator.h"
#include "dialects/register.h"
#include "models/build_graph.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/MLIRContext.h"
#include "mlir/Parser/Parser.h"
#include "llvm/Support/CommandLine.h"
#include "llvm/Support/Format.h"
#include "llvm/Support/InitLLVM.h"
#include "llvm/Support/raw_ostream.h"

#include <algorithm>

namespace cl = llvm::cl;
using girih::Expected;
using girih::Status;
using girih::reference::Tensor;

namespace {

Expected<std::vector<double>> parseTokens(llvm::StringRef text) {
  std::vector<double> tokens;
  llvm::SmallVector<llvm::StringRef> parts;
  text.split(parts, ',');
  for (llvm::StringRef part : parts) {
    int32_t token;
    if (part.trim().getAsInteger(10, token) || token < 0)
      return girih::invalidArgument("--tokens holds \"" + part.str() + "\"; expected ids like 1,2,3");
    tokens.push_back(token);
  }
  return tokens;
}

// NumPy's format 1.0: f32, or f64 when asked.
Status writeNpy(const std::string &path, const Tensor &tensor, bool asF64) {
  std::string header =
      std::string("{'descr': '") + (asF64 ? "<f8" : "<f4") + "', 'fortran_order': False, 'shape': (";
  for (int64_t extent : tensor.shape())
    header += std::to_string(extent) + ", ";
  header += "), }";
  constexpr size_t kPreamble = 10, kAlignment = 64;
  header.append(kAlignment - (kPreamble + header.size() + 1) % kAlignment, ' ');
  header += '\n';
  std::error_code error;
  llvm::raw_fd_ostream file(path, error);
  if (error)
    return girih::unavailable("cannot write \"" + path + "\": " + error.message());
  file << llvm::StringRef("\x93NUMPY\x01\x00", 8) << static_cast<char>(header.size() & 255)
       << static_cast<char>(header.size() >> 8) << header;
  for (int64_t i = 0; i < tensor.numElements(); ++i) {
    double wide = tensor.elements()[i];
    auto narrow = static_cast<float>(wide);
    file.write(asF64 ? reinterpret_cast<char *>(&wide) : reinterpret_cast<char *>(&narrow), asF64 ? 8 : 4);
  }
  file.close();
  return file.has_error() ? girih::unavailable("cannot write \"" + path + "\": " + file.error().message())
                          : Status();
}

struct Options {
  std::string checkpoint, graph, tokens, logits;
  bool asF64 = false;
};

Expected<mlir::OwningOpRef<mlir::ModuleOp>> openGraph(mlir::MLIRContext &context, const Options &options,
                                                      const girih::weights::WeightStore &store) {
  if (options.graph.empty()) {
    GIRIH_ASSIGN(auto model, girih::models::buildGraph(&context, store));
    return std::move(model.module);
  }
  auto module = mlir::parseSourceFile<mlir::ModuleOp>(options.graph, &context);
  if (!module)
    return girih::invalidArgument("cannot read the graph \"" + options.graph + "\"");
  return module;
}

// @main, or the step function for this many tokens.
Expected<mlir::func::FuncOp> entryOf(mlir::ModuleOp module, int64_t numTokens) {
  if (auto main = module.lookupSymbol<mlir::func::FuncOp>("main"))
    return main;
  mlir::func::FuncOp best;
  auto limitOf = [](mlir::func::FuncOp function) {
    auto limit = function->getAttrOfType<mlir::IntegerAttr>("girih.max_tokens");
    return limit ? limit.getInt() : 0;
  };
  for (auto function : module.getOps<mlir::func::FuncOp>())
    if (!function->hasAttr("girih.gives") && limitOf(function) >= numTokens && (!best || limitOf(function) < limitOf(best)))
      best = function;
  if (!best)
    return girih::notFound("the graph has neither @main nor a step function for " +
                           std::to_string(numTokens) + " tokens");
  return best;
}

Status run(const Options &options) {
  mlir::DialectRegistry registry;
  girih::dialect::registerDialects(registry);
  mlir::MLIRContext context(registry);
  GIRIH_ASSIGN(auto store, girih::weights::WeightStore::open(options.checkpoint));
  GIRIH_ASSIGN(auto module, openGraph(context, options, store));
  GIRIH_ASSIGN(std::vector<double> tokens, parseTokens(options.tokens));
  auto numTokens = static_cast<int64_t>(tokens.size());
  std::vector<double> positions(tokens.size());
  for (size_t i = 0; i < positions.size(); ++i)
    positions[i] = static_cast<double>(i);
  GIRIH_ASSIGN(mlir::func::FuncOp entry, entryOf(*module, numTokens));
  // Tokens, positions, and the rows whose logits are wanted: all. Another importer's graph may take a batch: of one.
  std::vector<Tensor> arguments;
  for (mlir::Type type : entry.getArgumentTypes()) {
    auto tensor = mlir::dyn_cast<mlir::RankedTensorType>(type);
    if (!tensor || tensor.getRank() == 0)
      continue; // a cache
    std::vector<int64_t> shape(tensor.getRank(), 1);
    shape.back() = numTokens;
    arguments.emplace_back(shape, arguments.empty() ? tokens : positions);
  }
  GIRIH_ASSIGN(auto results, girih::reference::evaluate(*module, entry.getName(), arguments,
                                                        girih::reference::weightsOf(store)));
  const Tensor &logits = results.at(0);
  int64_t vocabSize = logits.shape().back();
  for (int64_t row = 0; row < logits.numElements() / vocabSize; ++row) {
    const double *values = logits.elements() + row * vocabSize;
    int64_t best = std::max_element(values, values + vocabSize) - values;
    llvm::outs() << row << ": token " << best << ", logit " << llvm::format("%.6f", values[best]) << "\n";
  }
  return options.logits.empty() ? Status() : writeNpy(options.logits, logits.reshaped({numTokens, vocabSize}), options.asF64);
}

} // namespace

int main(int argc, char **argv) {
  llvm::InitLLVM init(argc, argv);
  cl::opt<std::string> input(cl::Positional, cl::Required,
                             cl::desc("<a .gguf file or a Hugging Face folder>"));
  cl::opt<std::string> graph("graph", cl::desc("evaluate this graph with the checkpoint's weights"),
                             cl::value_desc("file.mlir"));
  cl::opt<std::string> tokens("tokens", cl::Required, cl::desc("the prompt's token ids"),
                              cl::value_desc("1,2,3"));
  cl::opt<std::string> logits("dump-logits", cl::desc("where all logits are written, f32 [T, V]"),
                              cl::value_desc("out.npy"));
  cl::opt<bool> wide("f64", cl::desc("write the logits as f64"));
  cl::ParseCommandLineOptions(argc, argv,
                              "Girih's reference: evaluates a model's graph in f64 by plain loops\n");
  Status status = run({input, graph, tokens, logits, wide});
  if (status.isOk())
    return 0;
  llvm::errs() << "girih-reference: " << status.message() << "\n";
  return 1;
}
