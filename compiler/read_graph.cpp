// SPDX-License-Identifier: Apache-2.0
// readGraph: writes each operation as linalg over rows of the step's buffers, which all code generators take.
#include "compiler/read_graph.h"

#include "compiler/graph_value.h"

#include "runtime/abi/step.h"

#include "mlir/IR/Diagnostics.h"
#include "mlir/Parser/Parser.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/ADT/StringMap.h"

#include <map>

using namespace mlir;
using llvm::formatv;

namespace girih::compiler {
namespace {

constexpr llvm::StringLiteral kFirstLine = "girih.graph 1";
constexpr int64_t kMostTokens = 256;       // of a step
constexpr int64_t kRowScratchBytes = 128;  // two values of a row, each on a line of its own

Status wrong(StringRef line, StringRef rule) {
  return invalidArgument("`" + line.str() + "` is no statement of a graph: " + rule.str());
}

class GraphReader {
public:
  Status read(StringRef text, int64_t arenaBytes) {
    SmallVector<StringRef> lines;
    text.split(lines, '\n', -1, /*KeepEmpty=*/false);
    if (lines.empty() || lines.front() != kFirstLine)
      return invalidArgument("the graph does not begin with `" + kFirstLine.str() + "`");
    module = formatv("module attributes {{girih.arena_bytes = {0} : i64, girih.scratch_bytes = {1} : i64} {{\n", arenaBytes,
                     kRowScratchBytes);
    for (StringRef line : ArrayRef(lines).drop_front())
      GIRIH_TRY(readLine(line));
    if (isInside)
      return invalidArgument("an entry has no `end`");
    module += globals + "}\n";
    return {};
  }
  std::string module;
  std::vector<AskedOperation> operations;

private:
  Status readLine(StringRef line) {
    SmallVector<StringRef> words;
    line.split(words, ' ');
    if (words.size() == 2 && words[0] == "entry" && !isInside) {
      values.clear();
      isInside = true;
      module += formatv("func.func @{0}(%args: !llvm.ptr, %thread: index, %threads: index)\n"
                        "attributes {{girih.entry, girih.max_tokens = {1} : i64} {{\n"
                        "%T = girih.step_extent \"num_tokens\"\n%Q = girih.step_extent \"num_logit_rows\"\n"
                        "%c0 = arith.constant 0 : index\n%c64 = arith.constant 64 : index\n", words[1], kMostTokens);
      return {};
    }
    if (!isInside)
      return wrong(line, "it stands outside of an entry");
    if (words.size() == 1 && words[0] == "end") {
      isInside = false;
      module += "return\n}\n";
      return {};
    }
    return words[0] == "value" ? readValue(line, words) : readOperation(line, words);
  }

  Status readValue(StringRef line, ArrayRef<StringRef> words) {
    GraphValue value;
    if (words.size() != 6 || words[3].getAsInteger(10, value.offset))
      return wrong(line, "value ID BINDING OFFSET TYPE EXTENTS");
    value.binding = words[2].str();
    value.element = words[4].str();
    value.extents = words[5].str();
    if (!llvm::is_contained({"weights", "kv_pool", "arena", "logits"}, words[2]))
      return wrong(line, "bindings are weights, kv_pool, arena and logits");
    value.id = words[1].str();
    bool isOpaque = value.isPacked() || value.isCache();
    if (!isOpaque && !llvm::is_contained({"f32", "f16", "bf16", "i8", "i32"}, words[4]))
      return unimplemented("values of type " + value.element + " are not lowered");
    SmallVector<StringRef> extents;
    words[5].split(extents, 'x');
    if (extents.size() == 1)
      extents.insert(extents.begin(), "1");
    for (auto [index, extent] : llvm::enumerate(extents)) {
      int64_t number = 0;
      bool isOfStep = extent == "T" || extent == "Q";
      if (isOfStep ? index > 0 : extent.getAsInteger(10, number))
        return wrong(line, "extents are numbers, the first may be T or Q");
      if (index == 0) {
        value.rows = isOfStep ? -1 : number;
        value.rowsName = extent.str();
      } else {
        value.columns *= number;
        value.inner.push_back(number);
      }
    }
    if (!values.emplace(value.id, value).second)
      return wrong(line, "the name is taken");
    if (isOpaque)
      return placeOpaque(line, values[value.id]);
    std::string rows = value.rows < 0 ? " rows %" + value.rowsName : "";
    module += formatv("%{0}_at = arith.constant {1} : index\n%{0}_v = girih.buffer_at \"{2}\"[%{0}_at]{3} : {4}\n", value.id,
                      value.offset, value.binding, rows, value.type());
    return {};
  }

  // A packed weight or a cache. Extents of the latter are all its own.
  Status placeOpaque(StringRef line, GraphValue &value) {
    module += formatv("%{0}_at = arith.constant {1} : index\n", value.id, value.offset);
    if (value.isPacked()) {
      module += formatv("%{0}_v = girih.packed_at %{0}_at : {1}\n", value.id, value.packedType());
      return value.binding == "weights" && value.rows > 0 && value.inner.size() == 1
                 ? Status()
                 : wrong(line, "a packed weight is NxK, among the weights");
    }
    value.inner.insert(value.inner.begin(), value.rows);
    bool isHalf = value.element == "kv:f16";
    if (value.binding != "kv_pool" || value.inner.size() != 3 || value.rows < 0 || !(isHalf || value.element == "kv:f32"))
      return wrong(line, "a cache is GxDxE in the kv_pool, kv:f32 or kv:f16");
    int64_t bytes = GIRIH_KV_BLOCK_TOKENS * value.inner[0] * (value.inner[1] + value.inner[2]) * (isHalf ? 2 : 4);
    module += formatv("%{0}_v = girih.kv_at %{0}_at {{block_bytes = {1} : i64} : {2}\n", value.id, (bytes + 63) / 64 * 64,
                      value.cacheType());
    return {};
  }

  Status readOperation(StringRef line, ArrayRef<StringRef> words) {
    SmallVector<const GraphValue *> operands;
    SmallVector<std::string> names;
    SmallVector<std::pair<std::string, double>> attributes;
    for (StringRef word : words.drop_front()) {
      if (auto [key, text] = word.split('='); !text.empty()) {
        if (text.getAsDouble(attributes.emplace_back(key.str(), 0.0).second))
          return wrong(line, "attributes are numbers");
        continue;
      }
      auto found = values.find(word.str());
      if (found == values.end())
        return wrong(line, "a value is named that is not there");
      operands.push_back(&found->second);
      names.push_back(word.str());
    }
    StringRef name = words[0];
    operations.push_back({name.str(), signatureOf(operands)});
    TokenOperation tokens{operands, int64_t(operations.size()), globals, attributes};
    using Lower = Expected<std::string> (*)(const TokenOperation &);
    bool isPacked = operands.size() == 3 && operands[1]->isPacked();
    Lower lower = name == "rope"        ? lowerRope
                  : name == "kv_append" ? lowerKvAppend
                  : name == "attention" ? lowerAttention
                  : name == "matmul" && isPacked ? lowerPackedMatmul
                                                 : nullptr;
    if (lower) {
      GIRIH_ASSIGN(std::string lowered, lower(tokens));
      module += lowered;
      return {};
    }
    if (llvm::any_of(operands, [](const GraphValue *value) { return value->isPacked() || value->isCache(); }))
      return unimplemented("the operation `" + name.str() + "` of a packed weight or a cache is not lowered");
    if (!attributes.empty() && name != "rms_norm")
      return wrong(line, "the operation has no attributes");
    auto areAlike = [&](size_t count) {
      return operands.size() == count && llvm::all_of(operands, [&](const GraphValue *value) {
        return value->extents == operands[0]->extents && value->element == operands[0]->element;
      });
    };
    if (name == "copy")
      return areAlike(2) ? emit(operands, names, {}, "memref.copy %r0, %r1 : " + operands[0]->rowType() + " to " +
                                                          operands[1]->rowType() + "\n")
                         : wrong(line, "copy FROM TO, of equal type and extents");
    if (name == "add" || name == "mul")
      return areAlike(3) ? emit(operands, names, {}, elementwise(operands, arithmetic(name, operands[0]->element)))
                         : wrong(line, "A B TO, of equal type and extents");
    if (name == "swiglu")
      return areAlike(3) && operands[0]->element == "f32" ? emit(operands, names, {}, elementwise(operands, kSwiglu))
                                                          : wrong(line, "swiglu G U TO, f32 of equal extents");
    if (name == "softmax")
      return areAlike(2) && operands[0]->element == "f32" ? emit(operands, names, {}, softmax(operands))
                                                          : wrong(line, "softmax X TO, f32 of equal extents");
    if (name == "rms_norm")
      return readNorm(line, operands, names, attributes);
    if (name == "matmul")
      return readMatmul(line, operands, names);
    return unimplemented("the operation `" + name.str() + "` is not lowered");
  }

  Status readNorm(StringRef line, ArrayRef<const GraphValue *> operands, ArrayRef<std::string> names,
                  ArrayRef<std::pair<std::string, double>> attributes) {
    bool isNorm = operands.size() == 3 && attributes.size() == 1 && attributes[0].first == "eps" && operands[0]->extents == operands[2]->extents &&
                  operands[1]->columns == operands[0]->columns && operands[1]->rows == 1 &&
                  llvm::all_of(operands, [](const GraphValue *value) { return value->element == "f32"; });
    if (!isNorm)
      return wrong(line, "rms_norm X W TO eps=E, f32: X and TO alike, W of as many columns");
    std::string row = operands[0]->rowType(), weight = operands[1]->type();
    std::string body = rowScratch("sum", "%c0") + fillScratch("sum", "0.0") +
                       reduce("%r0", row, "%sum", R"(
        %p = arith.mulf %a, %a : f32
        %n = arith.addf %acc, %p : f32
        linalg.yield %n : f32)");
    body += formatv(R"(
      linalg.generic {{indexing_maps = [{0}, {0}, {1}, {0}], iterator_types = ["parallel", "parallel"]}
          ins(%r0, %r1, %sum : {2}, {3}, memref<1xf32>) outs(%r2 : {2}) {{
      ^bb0(%a: f32, %w: f32, %s: f32, %out: f32):
        %count = arith.constant {4} : f32
        %eps = arith.constant {5} : f32
        %mean = arith.divf %s, %count : f32
        %m = arith.addf %mean, %eps : f32
        %q = math.rsqrt %m : f32
        %x = arith.mulf %a, %q : f32
        %y = arith.mulf %x, %w : f32
        linalg.yield %y : f32
      })", kBoth, kRowOnly, row, weight, floating(double(operands[0]->columns)), floating(attributes[0].second));
    return emit(operands, names, {1}, body);
  }

  Status readMatmul(StringRef line, ArrayRef<const GraphValue *> operands, ArrayRef<std::string> names) {
    bool isFloat = operands.size() == 3 && operands[0]->element == "f32" && operands[2]->element == "f32";
    bool isInteger = operands.size() == 3 && operands[0]->element == "i8" && operands[2]->element == "i32";
    if (!(isFloat || isInteger) || operands[1]->element != operands[0]->element || operands[1]->rows < 0 ||
        operands[0]->rowsName != operands[2]->rowsName || operands[1]->rows != operands[2]->columns ||
        operands[1]->columns != operands[0]->columns)
      return wrong(line, "matmul A B TO: MxK, NxK, MxN; f32, or i8, i8 and i32");
    std::string to = operands[2]->element, from = operands[0]->element;
    std::string body = formatv("%zero = arith.constant {0} : {1}\nlinalg.fill ins(%zero : {1}) outs(%r2 : {2})\n",
                               isFloat ? "0.0" : "0", to, operands[2]->rowType());
    body += formatv(R"(
      linalg.generic {{indexing_maps = [affine_map<(m, n, k) -> (m, k)>, affine_map<(m, n, k) -> (n, k)>,
          affine_map<(m, n, k) -> (m, n)>], iterator_types = ["parallel", "parallel", "reduction"]}
          ins(%r0, %r1 : {0}, {1}) outs(%r2 : {2}) {{
      ^bb0(%a: {3}, %b: {3}, %acc: {4}):
{5}        linalg.yield %n : {4}
      })", operands[0]->rowType(), operands[1]->type(), operands[2]->rowType(), from, to, isFloat ? R"(
        %p = arith.mulf %a, %b : f32
        %n = arith.addf %acc, %p : f32
)" : R"(
        %x = arith.extsi %a : i8 to i32
        %y = arith.extsi %b : i8 to i32
        %p = arith.muli %x, %y : i32
        %n = arith.addi %acc, %p : i32
)");
    return emit(operands, names, {1}, body);
  }

  // A dispatch of a unit a row: %r0, %r1, ... are the operands' rows, or whole values where `whole` says so.
  Status emit(ArrayRef<const GraphValue *> operands, ArrayRef<std::string> names, ArrayRef<int64_t> whole, std::string body) {
    const GraphValue &first = *operands[0];
    std::string count = first.rows < 0 ? "%" + first.rowsName : std::to_string(first.rows);
    std::string text = formatv("scf.forall (%i) in ({0}) {{\n", count).str();
    for (auto [index, value] : llvm::enumerate(operands)) {
      std::string row = "%r" + std::to_string(index);
      if (llvm::is_contained(whole, int64_t(index)))
        body = replaced(body, row, "%" + names[index] + "_v");
      else
        text += formatv("{0} = memref.subview %{1}_v[%i, 0] [1, {2}] [1, 1] : {3} to {4}\n", row, names[index], value->columns,
                        value->type(), value->rowType());
    }
    module += text + body + "\n}\n";
    return {};
  }

  static std::string signatureOf(ArrayRef<const GraphValue *> operands) {
    std::string signature;
    for (const GraphValue *value : operands)
      signature += (signature.empty() ? "" : " ") + value->element + "[" + replaced(value->extents, "x", ",") + "]";
    return signature;
  }

  static std::string replaced(std::string text, StringRef from, StringRef to) {
    for (size_t at = text.find(from); at != std::string::npos; at = text.find(from, at + to.size()))
      text.replace(at, from.size(), to);
    return text;
  }

  static std::string floating(double value) {
    return formatv("{0:f12}", value).str();
  }

  static std::string arithmetic(StringRef name, StringRef element) {
    if (element != "f16" && element != "bf16")
      return formatv("        %n = arith.{0}{1} %a, %b : {2}\n        linalg.yield %n : {2}", name, element == "f32" ? "f" : "i", element);
    // In f32, whose rounding before the last one changes nothing: it has more than twice the digits.
    return formatv(R"(
        %x = arith.extf %a : {1} to f32
        %y = arith.extf %b : {1} to f32
        %z = arith.{0}f %x, %y : f32
        %n = arith.truncf %z : f32 to {1}
        linalg.yield %n : {1})", name, element);
  }

  // Two operands and one result of equal types; the body sees %a and %b.
  static std::string elementwise(ArrayRef<const GraphValue *> operands, StringRef body) {
    return formatv(R"(
      linalg.generic {{indexing_maps = [{0}, {0}, {0}], iterator_types = ["parallel", "parallel"]}
          ins(%r0, %r1 : {1}, {1}) outs(%r2 : {1}) {{
      ^bb0(%a: {2}, %b: {2}, %out: {2}):
{3}
      })", kBoth, operands[0]->rowType(), operands[0]->element, body);
  }

  static std::string rowScratch(StringRef name, StringRef offset) {
    return formatv("%{0} = girih.buffer_at \"scratch\"[{1}] : memref<1xf32>\n", name, offset);
  }
  static std::string fillScratch(StringRef name, StringRef value) {
    return formatv("%{0}_first = arith.constant {1} : f32\nlinalg.fill ins(%{0}_first : f32) outs(%{0} : memref<1xf32>)\n", name,
                   value);
  }
  static std::string reduce(StringRef from, StringRef type, StringRef into, StringRef body) {
    return formatv(R"(
      linalg.generic {{indexing_maps = [{0}, {1}], iterator_types = ["parallel", "reduction"]}
          ins({2} : {3}) outs({4} : memref<1xf32>) {{
      ^bb0(%a: f32, %acc: f32):{5}
      })", kBoth, kRowOnly, from, type, into, body);
  }

  // The largest is taken off first; a row of -inf alone has no finite largest, and sums to nothing.
  static std::string softmax(ArrayRef<const GraphValue *> operands) {
    std::string row = operands[0]->rowType();
    std::string text = rowScratch("most", "%c0") + rowScratch("sum", "%c64") + fillScratch("most", "-3.40282347E+38") +
                       fillScratch("sum", "0.0") + reduce("%r0", row, "%most", R"(
        %n = arith.maximumf %acc, %a : f32
        linalg.yield %n : f32)");
    text += formatv(R"(
      linalg.generic {{indexing_maps = [{0}, {1}, {0}], iterator_types = ["parallel", "parallel"]}
          ins(%r0, %most : {2}, memref<1xf32>) outs(%r1 : {2}) {{
      ^bb0(%a: f32, %m: f32, %out: f32):
        %d = arith.subf %a, %m : f32
        %e = math.exp %d : f32
        linalg.yield %e : f32
      })", kBoth, kRowOnly, row);
    text += reduce("%r1", row, "%sum", R"(
        %n = arith.addf %acc, %a : f32
        linalg.yield %n : f32)");
    text += formatv(R"(
      linalg.generic {{indexing_maps = [{0}, {1}], iterator_types = ["parallel", "parallel"]}
          ins(%sum : memref<1xf32>) outs(%r1 : {2}) {{
      ^bb0(%s: f32, %e: f32):
        %zero = arith.constant 0.0 : f32
        %one = arith.constant 1.0 : f32
        %isEmpty = arith.cmpf oeq, %s, %zero : f32
        %d = arith.select %isEmpty, %one, %s : f32
        %p = arith.divf %e, %d : f32
        linalg.yield %p : f32
      })", kRowOnly, kBoth, row);
    return text;
  }

  static constexpr llvm::StringLiteral kBoth = "affine_map<(d0, d1) -> (d0, d1)>";
  static constexpr llvm::StringLiteral kRowOnly = "affine_map<(d0, d1) -> (d0)>";
  static constexpr llvm::StringLiteral kSwiglu = R"(
        %one = arith.constant 1.0 : f32
        %m = arith.negf %a : f32
        %e = math.exp %m : f32
        %d = arith.addf %one, %e : f32
        %q = arith.divf %a, %d : f32
        %n = arith.mulf %q, %b : f32
        linalg.yield %n : f32)";

  std::map<std::string, GraphValue> values;
  std::string globals;  // what stands beside the functions
  bool isInside = false;
};

}  // namespace

Expected<OwningOpRef<ModuleOp>> readGraph(MLIRContext *context, std::string_view text, int64_t arenaBytes,
                                          std::vector<AskedOperation> &operations) {
  GraphReader reader;
  GIRIH_TRY(reader.read(text, arenaBytes));
  operations = std::move(reader.operations);
  std::string said;
  ScopedDiagnosticHandler handler(context, [&](Diagnostic &diagnostic) {
    said += diagnostic.str() + "; ";
    return success();
  });
  auto module = parseSourceString<ModuleOp>(reader.module, context, "graph");
  if (!module)
    return internalError("the graph became no module: " + said + reader.module);
  return module;
}

}  // namespace girih::compiler
