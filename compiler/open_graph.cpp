// SPDX-License-Identifier: Apache-2.0
// openGraph: the graph that is compiled, built from a checkpoint or read from a file beside it.
#include "compiler/open_graph.h"

#include "dialects/girih/dialect.h"
#include "runtime/weights/checkpoint_file.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/Diagnostics.h"
#include "mlir/Parser/Parser.h"
#include "llvm/Support/raw_ostream.h"

using namespace mlir;

namespace girih::compiler {
namespace {

constexpr int64_t kDefaultMaxPositions = 4096;  // of a graph that states none

Expected<OwningOpRef<ModuleOp>> parseGraph(MLIRContext *context, const std::string &path) {
  std::string errors;
  ScopedDiagnosticHandler handler(context, [&](Diagnostic &diagnostic) {
    llvm::raw_string_ostream stream(errors);
    stream << (errors.empty() ? "" : "; ") << diagnostic.getLocation() << ": " << diagnostic.str();
    return success();
  });
  auto module = parseSourceFile<ModuleOp>(path, ParserConfig(context));
  if (!module)
    return invalidArgument("the graph \"" + path + "\" cannot be read: " + errors);
  return module;
}

// A graph may name any tensor: what it says of it must be what the checkpoint holds.
Status checkWeight(dialect::WeightOp weight, const weights::WeightStore &store) {
  GIRIH_ASSIGN(const weights::StoredTensor *stored, store.require(weight.getName().str()));
  auto type = cast<RankedTensorType>(weight.getType());
  StringRef format(weights::formatRow(stored->format).name);
  if (type.getShape() == ArrayRef<int64_t>(stored->shape) && dialect::storageFormat(type) == format)
    return {};
  std::string declared;
  llvm::raw_string_ostream(declared) << type;
  return invalidArgument("the graph declares weight \"" + weight.getName().str() + "\" as " + declared +
                         "; the checkpoint holds " + weights::shapeText(stored->shape) + " in " + format.str());
}

int64_t stated(DictionaryAttr model, StringRef key, int64_t otherwise) {
  auto number = model ? model.getAs<IntegerAttr>(key) : IntegerAttr();
  return number && number.getInt() > 0 ? number.getInt() : otherwise;
}

}  // namespace

Expected<models::ImportedModel> openGraph(MLIRContext *context, const std::string &graphPath,
                                          const weights::WeightStore &store) {
  if (graphPath.empty())
    return models::buildGraph(context, store);
  models::ImportedModel model;
  GIRIH_ASSIGN(model.module, parseGraph(context, graphPath));
  auto main = model.module->lookupSymbol<func::FuncOp>("main");
  auto logits = main && main.getNumResults() ? dyn_cast<RankedTensorType>(main.getResultTypes()[0]) : RankedTensorType();
  if (!logits || logits.getRank() < 2 || logits.isDynamicDim(logits.getRank() - 1))
    return invalidArgument("the graph \"" + graphPath + "\" has no @main whose first result is logits [.., V]");
  Status weights;
  model.module->walk([&](dialect::WeightOp weight) {
    if (weights.isOk())
      weights = checkWeight(weight, store);
  });
  GIRIH_TRY(std::move(weights));
  auto about = main->getAttrOfType<DictionaryAttr>("girih.model");
  model.config.family = "graph";
  model.config.source = store.kind();
  model.config.vocabSize = logits.getDimSize(logits.getRank() - 1);
  model.config.numLayers = stated(about, "numLayers", 0);
  model.config.maxPositions = stated(about, "maxPositions", kDefaultMaxPositions);
  return model;
}

}  // namespace girih::compiler
