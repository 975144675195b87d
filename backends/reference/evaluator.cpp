// SPDX-License-Identifier: Apache-2.0
// The oracle: evaluates a module op by op in f64, by plain loops.
#include "backends/reference/evaluator.h"

#include "backends/reference/frame.h"
#include "dialects/girih/dialect.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/SymbolTable.h"
#include "llvm/Support/raw_ostream.h"

using namespace mlir;

namespace girih::reference {
namespace {

std::string describe(Operation &op) {
  std::string text = "'" + op.getName().getStringRef().str() + "' at ";
  llvm::raw_string_ostream stream(text);
  op.getLoc().print(stream);
  return text;
}

} // namespace

WeightProvider weightsOf(const weights::WeightStore &store) {
  return [&store](const std::string &name) -> Expected<Tensor> {
    GIRIH_ASSIGN(const weights::StoredTensor *stored, store.require(name));
    std::vector<float> values(stored->numElements);
    weights::dequantize(*stored, values.data());
    return Tensor(stored->shape, std::vector<double>(values.begin(), values.end()));
  };
}

// ---- Frame ----

Expected<Tensor> Frame::Shared::stackedWeights(const std::vector<std::string> &names, int64_t interleave) {
  constexpr int64_t kMostKeptElements = int64_t(64) << 20; // half a gigabyte
  std::string key = std::to_string(interleave);
  for (const std::string &name : names)
    key += "\n" + name;
  if (auto found = kept.find(key); found != kept.end())
    return found->second;
  std::vector<Tensor> parts;
  for (const std::string &name : names) {
    GIRIH_ASSIGN(Tensor part, weights(name));
    parts.push_back(std::move(part));
  }
  Tensor result = parts.at(0);
  if (parts.size() > 1) {
    GIRIH_ASSIGN(result, stackRows(parts, interleave));
  }
  if (keptElements + result.numElements() > kMostKeptElements) {
    kept.clear();
    keptElements = 0;
  }
  keptElements += result.numElements();
  kept[key] = result;
  return result;
}

const Datum &Frame::operator[](Value value) const {
  auto found = values.find(value);
  GIRIH_CHECK(found != values.end());
  return found->second;
}

std::vector<Datum> Frame::take(ValueRange range) const {
  std::vector<Datum> result;
  for (Value value : range)
    result.push_back((*this)[value]);
  return result;
}

Expected<std::vector<Datum>> Frame::run(Block &block, std::vector<Datum> arguments) {
  GIRIH_CHECK(block.getNumArguments() == arguments.size());
  for (auto [argument, datum] : llvm::zip_equal(block.getArguments(), arguments))
    set(argument, std::move(datum));
  arguments.clear(); // so that no second owner makes writers copy
  for (Operation &op : block.without_terminator()) {
    Handler handler = findHandler(op);
    if (!handler)
      return unimplemented("the reference does not know the op " + describe(op));
    if (Status status = handler(*this, op); !status.isOk())
      return std::move(status).withContext(describe(op));
  }
  return take(block.getTerminator()->getOperands());
}

Expected<std::vector<Datum>> Frame::call(llvm::StringRef name, std::vector<Datum> arguments) {
  auto function = SymbolTable(shared.module).lookup<func::FuncOp>(name);
  if (!function || function.isDeclaration())
    return notFound("the module has no function @" + name.str());
  if (!function.getBody().hasOneBlock())
    return unimplemented("@" + name.str() +
                         " has branches between blocks; the reference runs structured ones");
  if (function.getNumArguments() != arguments.size())
    return invalidArgument("@" + name.str() + " takes " + std::to_string(function.getNumArguments()) +
                           " arguments; there are " + std::to_string(arguments.size()));
  Frame frame(shared);
  return frame.run(function.getBody().front(), std::move(arguments));
}

Handler findHandler(Operation &op) {
  llvm::StringRef name = op.getName().getStringRef();
  for (auto find : {findTensorHandler, findGirihHandler, findControlHandler})
    if (Handler handler = find(name))
      return handler;
  if (Handler handler = findScalarHandler(op))
    return handler;
  return findLinalgHandler(op);
}

// ---- The door ----

Expected<std::vector<Tensor>> evaluate(ModuleOp module, llvm::StringRef function,
                                       std::vector<Tensor> arguments, const WeightProvider &weights) {
  Frame::Shared shared(module, weights);
  Frame frame(shared);
  auto target = SymbolTable(module).lookup<func::FuncOp>(function);
  if (!target)
    return notFound("the module has no function @" + function.str());
  std::vector<Datum> data;
  size_t next = 0;
  for (Type type : target.getArgumentTypes()) {
    if (isa<dialect::KvType>(type)) {
      data.emplace_back(KvState());
      continue;
    }
    if (next == arguments.size())
      return invalidArgument("@" + function.str() + " takes more than the " + std::to_string(next) +
                             " arguments given");
    Tensor argument = std::move(arguments[next++]);
    if (isa<ShapedType>(type))
      data.emplace_back(std::move(argument));
    else
      data.emplace_back(argument.elements()[0]);
  }
  if (next != arguments.size())
    return invalidArgument("@" + function.str() + " takes " + std::to_string(next) +
                           " arguments; there are " + std::to_string(arguments.size()));
  GIRIH_ASSIGN(std::vector<Datum> results, frame.call(function, std::move(data)));
  std::vector<Tensor> tensors;
  for (Datum &result : results) {
    if (auto *tensor = std::get_if<Tensor>(&result))
      tensors.push_back(std::move(*tensor));
    else if (auto *scalar = std::get_if<double>(&result))
      tensors.emplace_back(std::vector<int64_t>(), *scalar);
  }
  return tensors;
}

} // namespace girih::reference
