// SPDX-License-Identifier: Apache-2.0
// A kernel an operation, written by hand as C99; words that begin with $ are filled in.
#include "graph_kernels.h"

#include "isa.h"

#include <girih/graph.h>
#include <girih/message.h>

#include <algorithm>
#include <cstdlib>
#include <map>
#include <sstream>
#include <vector>

namespace quill {
namespace {

// Pieces of 1,024 elements by turns; the result may be an operand, since a piece is read before it is written.
constexpr const char *kPieces = R"(
  for (int64_t at = thread * 1024; at < $count; at += threads * 1024) {
    $type a[1024]; $type b[1024];
    int64_t n = $count - at < 1024 ? $count - at : 1024;
    quill_dma_in(a, $0 + at * $bytes, 1, n * $bytes, 0);
    quill_dma_in(b, $1 + at * $bytes, 1, n * $bytes, 0);
    for (int64_t i = 0; i < n; i += 1) { a[i] = $each; }
    quill_dma_out($last + at * $bytes, a, 1, n * $bytes, 0);
  }
)";

// A unit is one row and 16 columns.
constexpr const char *kMatmul = R"(
  for (int64_t unit = thread; unit < $rows * (($columns + 15) / 16); unit += threads) {
    int64_t m = unit / (($columns + 15) / 16);
    int64_t n = unit % (($columns + 15) / 16) * 16;
    int64_t width = $columns - n < 16 ? $columns - n : 16;
    $type a[512]; $type b[8192]; $to sums[16];
    for (int64_t i = 0; i < 16; i += 1) { sums[i] = $zero; }
    for (int64_t k = 0; k < $depth; k += 512) {
      int64_t many = $depth - k < 512 ? $depth - k : 512;
      quill_dma_in(a, $0 + (m * $depth + k) * $bytes, 1, many * $bytes, 0);
      quill_dma_in(b, $1 + (n * $depth + k) * $bytes, width, many * $bytes, $depth * $bytes);
      for (int64_t i = 0; i < width; i += 1) {
        $sum sum = sums[i];
        for (int64_t j = 0; j < many; j += 1) { sum = $each; }
        sums[i] = sum;
      }
    }
    quill_dma_out($2 + (m * $columns + n) * 4, sums, 1, width * 4, 0);
  }
)";

constexpr const char *kNorm = R"(
  for (int64_t row = thread; row < $rows; row += threads) {
    float x[$columns]; float w[$columns];
    quill_dma_in(x, $0 + row * $columns * 4, 1, $columns * 4, 0);
    quill_dma_in(w, $1, 1, $columns * 4, 0);
    float sum = 0.0f;
    for (int64_t k = 0; k < $columns; k += 1) { sum = fmaf(x[k], x[k], sum); }
    float factor = 1.0f / sqrtf(sum / $columns.0f + $eps);
    for (int64_t k = 0; k < $columns; k += 1) { x[k] = x[k] * factor * w[k]; }
    quill_dma_out($2 + row * $columns * 4, x, 1, $columns * 4, 0);
  }
)";

constexpr const char *kSoftmax = R"(
  for (int64_t row = thread; row < $rows; row += threads) {
    float x[$columns];
    quill_dma_in(x, $0 + row * $columns * 4, 1, $columns * 4, 0);
    float most = -INFINITY;
    for (int64_t k = 0; k < $columns; k += 1) { most = x[k] > most ? x[k] : most; }
    if (most == -INFINITY) { most = 0.0f; }
    float sum = 0.0f;
    for (int64_t k = 0; k < $columns; k += 1) {
      x[k] = expf(x[k] - most);
      sum = sum + x[k];
    }
    if (sum == 0.0f) { sum = 1.0f; }
    for (int64_t k = 0; k < $columns; k += 1) { x[k] = x[k] / sum; }
    quill_dma_out($1 + row * $columns * 4, x, 1, $columns * 4, 0);
  }
)";

struct Operand {
  std::string address, type, extents, rows = "1", columns, count;
  int64_t bytes = 0;
};

enum class Alike { All, Norm, Matmul };  // what the operands have in common

struct Kernel {
  const char *operation, *type;  // of the first operand; "": any
  size_t numOperands;
  Alike alike;
  const char *text, *each;
};
constexpr Kernel kKernels[] = {
    {"copy", "", 2, Alike::All, kPieces, "a[i]"},
    {"add", "f32", 3, Alike::All, kPieces, "a[i] + b[i]"},
    {"add", "i32", 3, Alike::All, kPieces, "a[i] + b[i]"},
    {"mul", "f32", 3, Alike::All, kPieces, "a[i] * b[i]"},
    {"mul", "i32", 3, Alike::All, kPieces, "a[i] * b[i]"},
    {"swiglu", "f32", 3, Alike::All, kPieces, "a[i] / (1.0f + expf(-a[i])) * b[i]"},
    {"matmul", "f32", 3, Alike::Matmul, kMatmul, "fmaf(a[j], b[i * many + j], sum)"},
    {"matmul", "i8", 3, Alike::Matmul, kMatmul, "sum + a[j] * b[i * many + j]"},
    {"rms_norm", "f32", 3, Alike::Norm, kNorm, ""},
    {"softmax", "f32", 2, Alike::All, kSoftmax, ""},
};

struct ElementType {
  const char *name, *inC;
  int64_t bytes;
};
constexpr ElementType kTypes[] = {{"f32", "float", 4}, {"i32", "int32_t", 4}, {"i8", "int8_t", 1}, {"f16", "uint16_t", 2},
                                  {"bf16", "uint16_t", 2}};

const ElementType *typeNamed(const std::string &name) {
  auto found = std::find_if(std::begin(kTypes), std::end(kTypes), [&](const ElementType &type) { return name == type.name; });
  return found == std::end(kTypes) ? nullptr : found;
}

[[noreturn]] void refuse(int32_t code, const std::string &line, const std::string &rule) {
  throw Refusal(code, "`" + line + "`: " + rule);
}

std::string extentText(const std::string &extent) {
  return extent == "T" ? "args->num_tokens" : extent == "Q" ? "args->num_logit_rows" : extent;
}

Operand readValue(const std::string &line, std::istringstream &words) {
  Operand value;
  std::string binding, extents;
  uint64_t offset = 0;
  words >> binding >> offset >> value.type >> value.extents;
  const ElementType *type = typeNamed(value.type);
  bool isBinding = binding == "weights" || binding == "kv_pool" || binding == "arena" || binding == "logits";
  if (!words || !isBinding)
    refuse(GIRIH_INVALID_ARGUMENT, line, "a value has a binding of the step, an offset, a type and extents");
  if (!type)
    refuse(GIRIH_UNIMPLEMENTED, line, "quill has no elements of that type");
  value.address = "((girih_address)args->" + binding + " + " + std::to_string(offset) + ")";
  value.bytes = type->bytes;
  std::istringstream each(value.extents);
  int64_t columns = 1;
  bool isFirst = true, hasRows = value.extents.find('x') != std::string::npos;
  for (std::string extent; std::getline(each, extent, 'x'); isFirst = false) {
    bool isNumber = extent.find_first_not_of("0123456789") == std::string::npos && !extent.empty() && extent.size() < 16;
    if (!isNumber && extent != "T" && extent != "Q")
      refuse(GIRIH_INVALID_ARGUMENT, line, "extents are numbers, T or Q, joined by x");
    if (isFirst && (hasRows || !isNumber))
      value.rows = extentText(extent);
    else if (isNumber)
      columns *= std::strtoll(extent.c_str(), nullptr, 10);
    else
      refuse(GIRIH_UNIMPLEMENTED, line, "only the first extent may be the step's");
  }
  value.columns = std::to_string(columns);
  value.count = "(" + value.rows + " * " + value.columns + ")";
  return value;
}

bool areAlike(const Kernel &kernel, const std::vector<Operand> &of) {
  if (kernel.alike == Alike::Norm)
    return of[0].extents == of[2].extents && of[1].rows == "1" && of[1].columns == of[0].columns && of[2].type == "f32" &&
           of[1].type == "f32";
  if (kernel.alike == Alike::Matmul)
    return of[0].columns == of[1].columns && of[1].type == of[0].type && of[2].columns == of[1].rows &&
           of[2].rows == of[0].rows && of[2].type == (of[0].type == "i8" ? "i32" : "f32");
  return std::all_of(of.begin(), of.end(),
                     [&](const Operand &one) { return one.extents == of[0].extents && one.type == of[0].type; });
}

std::string filled(std::string text, const std::vector<std::pair<std::string, std::string>> &words) {
  for (const auto &[word, meaning] : words)
    for (size_t at = text.find(word); at != std::string::npos; at = text.find(word, at + meaning.size()))
      text.replace(at, word.size(), meaning);
  return text;
}

std::string kernelText(const Kernel &kernel, const std::vector<Operand> &of, const std::string &eps) {
  bool isMatmul = kernel.alike == Alike::Matmul, isFloat = of[0].type == "f32";
  std::vector<std::pair<std::string, std::string>> words = {
      {"$each", kernel.each}, {"$type", typeNamed(of[0].type)->inC}, {"$bytes", std::to_string(of[0].bytes)},
      {"$rows", of[0].rows}, {"$columns", isMatmul ? of[2].columns : of[0].columns}, {"$depth", of[0].columns},
      {"$count", of[0].count}, {"$to", isFloat ? "float" : "int32_t"}, {"$sum", isFloat ? "float" : "int64_t"},
      {"$zero", isFloat ? "0.0f" : "0"}, {"$eps", eps + "f"}, {"$last", of.back().address},
      {"$0", of[0].address}, {"$1", of[1].address}, {"$2", of.back().address}};
  return filled(kernel.text, words) + "  quill_barrier(args, thread);\n";
}

class GraphReader {
public:
  void readLine(const std::string &line) {
    std::istringstream words(line);
    std::string first, name;
    words >> first;
    if (first == "entry" && words >> name && !isInside) {
      isInside = true;
      values.clear();
      text += "void " + name + "(const girih_step_args *args, int64_t thread, int64_t threads) {\n";
    } else if (!isInside) {
      refuse(GIRIH_INVALID_ARGUMENT, line, "a statement stands in an entry");
    } else if (first == "end") {
      isInside = false;
      text += "}\n";
    } else if (first == "value" && words >> name) {
      values[name] = readValue(line, words);
    } else {
      readOperation(line, first, words);
    }
  }

  std::string text = "#include <girih/kernel.h>\n";
  bool isInside = false;

private:
  void readOperation(const std::string &line, const std::string &name, std::istringstream &words) {
    std::vector<Operand> operands;
    std::string eps = "0.0";
    for (std::string word; words >> word;) {
      if (word.rfind("eps=", 0) == 0) {
        eps = word.substr(4);
        continue;
      }
      if (values.count(word) == 0)
        refuse(GIRIH_INVALID_ARGUMENT, line, "the entry has no value `" + word + "`");
      operands.push_back(values[word]);
    }
    if (std::string reason = reasonAgainst(name); !reason.empty())
      refuse(GIRIH_UNIMPLEMENTED, line, reason);
    for (const Kernel &kernel : kKernels)
      if (name == kernel.operation && operands.size() == kernel.numOperands &&
          (kernel.type[0] == 0 || operands[0].type == kernel.type) && areAlike(kernel, operands)) {
        text += kernelText(kernel, operands, eps);
        return;
      }
    refuse(GIRIH_INVALID_ARGUMENT, line, "quill has no kernel of these types and extents");
  }

  std::map<std::string, Operand> values;
};

}  // namespace

std::string reasonAgainst(std::string_view operation) {
  bool isKnown = std::any_of(std::begin(kKernels), std::end(kKernels),
                             [&](const Kernel &kernel) { return operation == kernel.operation; });
  return isKnown ? "" : "quill has no kernel for `" + std::string(operation) + "`";
}

std::string writeKernels(std::string_view graph) {
  std::istringstream lines{std::string(graph)};
  std::string line;
  if (!std::getline(lines, line) || line + "\n" != GIRIH_GRAPH_FIRST_LINE)
    refuse(GIRIH_INVALID_ARGUMENT, line, "a graph begins with `girih.graph 1`");
  GraphReader reader;
  while (std::getline(lines, line))
    reader.readLine(line);
  if (reader.isInside)
    refuse(GIRIH_INVALID_ARGUMENT, line, "an entry has no `end`");
  return std::move(reader.text);
}

}  // namespace quill
