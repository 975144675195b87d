// SPDX-License-Identifier: Apache-2.0
// The arithmetic of single numbers: what each op of arith and math computes on doubles.
#include "backends/reference/scalar_ops.h"

#include "backends/reference/frame.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "llvm/ADT/APFloat.h"

#include <cmath>

using namespace mlir;

namespace girih::reference {
namespace {

int64_t integer(double x) { return static_cast<int64_t>(x); }
uint64_t bits(double x) { return static_cast<uint64_t>(integer(x)); }

double roundTo(const llvm::fltSemantics &semantics, double value) {
  llvm::APFloat number(value);
  bool losesInfo;
  number.convert(semantics, llvm::APFloat::rmNearestTiesToEven, &losesInfo);
  number.convert(llvm::APFloat::IEEEdouble(), llvm::APFloat::rmNearestTiesToEven, &losesInfo);
  return number.convertToDouble();
}

double identity(double a, double, double) { return a; }
// An angle is rounded to f32: that is how checkpoints were trained, and part of what a model means.
double cosine(double a, double, double) { return std::cos(static_cast<double>(static_cast<float>(a))); }
double sine(double a, double, double) { return std::sin(static_cast<double>(static_cast<float>(a))); }
// As IEEE 754's maximum and minimum: NaN wins.
double maximum(double a, double b, double) { return std::isnan(a) ? a : std::isnan(b) ? b : a > b ? a : b; }
double minimum(double a, double b, double) { return std::isnan(a) ? a : std::isnan(b) ? b : a < b ? a : b; }
// Division by 0 has no meaning in MLIR; 0 keeps the reference itself defined.
int64_t floorDivide(int64_t a, int64_t b) { return b == 0 ? 0 : a / b - (a % b != 0 && (a < 0) != (b < 0)); }

struct Row {
  const char *name;
  ScalarFunction function;
};

constexpr Row kRows[] = {
    {"arith.addf", [](double a, double b, double) { return a + b; }},
    {"arith.subf", [](double a, double b, double) { return a - b; }},
    {"arith.mulf", [](double a, double b, double) { return a * b; }},
    {"arith.divf", [](double a, double b, double) { return a / b; }},
    {"arith.remf", [](double a, double b, double) { return std::fmod(a, b); }},
    {"arith.negf", [](double a, double, double) { return -a; }},
    {"arith.maximumf", maximum},
    {"arith.minimumf", minimum},
    {"arith.maxnumf", [](double a, double b, double) { return std::fmax(a, b); }},
    {"arith.minnumf", [](double a, double b, double) { return std::fmin(a, b); }},
    {"arith.select", [](double a, double b, double c) { return a != 0 ? b : c; }},
    {"arith.extf", identity},
    {"arith.sitofp", identity},
    {"arith.uitofp", identity},
    {"arith.fptosi", [](double a, double, double) { return std::trunc(a); }},
    {"arith.fptoui", [](double a, double, double) { return std::trunc(a); }},
    {"arith.index_cast", identity},
    {"arith.index_castui", identity},
    {"arith.extsi", identity},
    {"arith.trunci", identity},
    {"arith.addi", [](double a, double b, double) { return a + b; }},
    {"arith.subi", [](double a, double b, double) { return a - b; }},
    {"arith.muli", [](double a, double b, double) { return a * b; }},
    {"arith.divsi", [](double a, double b, double) { return std::trunc(a / b); }},
    {"arith.divui", [](double a, double b, double) { return std::trunc(a / b); }},
    {"arith.floordivsi",
     [](double a, double b, double) { return double(floorDivide(integer(a), integer(b))); }},
    {"arith.ceildivsi",
     [](double a, double b, double) { return double(-floorDivide(-integer(a), integer(b))); }},
    {"arith.ceildivui",
     [](double a, double b, double) { return double(-floorDivide(-integer(a), integer(b))); }},
    {"arith.remsi", [](double a, double b, double) { return std::fmod(a, b); }},
    {"arith.remui", [](double a, double b, double) { return std::fmod(a, b); }},
    {"arith.maxsi", [](double a, double b, double) { return a > b ? a : b; }},
    {"arith.minsi", [](double a, double b, double) { return a < b ? a : b; }},
    {"arith.maxui", [](double a, double b, double) { return bits(a) > bits(b) ? a : b; }},
    {"arith.minui", [](double a, double b, double) { return bits(a) < bits(b) ? a : b; }},
    {"arith.andi", [](double a, double b, double) { return double(integer(a) & integer(b)); }},
    {"arith.ori", [](double a, double b, double) { return double(integer(a) | integer(b)); }},
    {"arith.xori", [](double a, double b, double) { return double(integer(a) ^ integer(b)); }},
    {"math.absf", [](double a, double, double) { return std::fabs(a); }},
    {"math.ceil", [](double a, double, double) { return std::ceil(a); }},
    {"math.cos", cosine},
    {"math.erf", [](double a, double, double) { return std::erf(a); }},
    {"math.exp", [](double a, double, double) { return std::exp(a); }},
    {"math.exp2", [](double a, double, double) { return std::exp2(a); }},
    {"math.floor", [](double a, double, double) { return std::floor(a); }},
    {"math.fma", [](double a, double b, double c) { return a * b + c; }},
    {"math.fpowi", [](double a, double b, double) { return std::pow(a, b); }},
    {"math.log", [](double a, double, double) { return std::log(a); }},
    {"math.powf", [](double a, double b, double) { return std::pow(a, b); }},
    {"math.rsqrt", [](double a, double, double) { return 1 / std::sqrt(a); }},
    {"math.sin", sine},
    {"math.sqrt", [](double a, double, double) { return std::sqrt(a); }},
    {"math.tanh", [](double a, double, double) { return std::tanh(a); }},
};

ScalarFunction comparison(arith::CmpIPredicate predicate) {
  using P = arith::CmpIPredicate;
  switch (predicate) {
  case P::eq:
    return [](double a, double b, double) { return double(a == b); };
  case P::ne:
    return [](double a, double b, double) { return double(a != b); };
  case P::slt:
    return [](double a, double b, double) { return double(a < b); };
  case P::sle:
    return [](double a, double b, double) { return double(a <= b); };
  case P::sgt:
    return [](double a, double b, double) { return double(a > b); };
  case P::sge:
    return [](double a, double b, double) { return double(a >= b); };
  case P::ult:
    return [](double a, double b, double) { return double(bits(a) < bits(b)); };
  case P::ule:
    return [](double a, double b, double) { return double(bits(a) <= bits(b)); };
  case P::ugt:
    return [](double a, double b, double) { return double(bits(a) > bits(b)); };
  case P::uge:
    return [](double a, double b, double) { return double(bits(a) >= bits(b)); };
  }
  return nullptr;
}

ScalarFunction comparison(arith::CmpFPredicate predicate) {
  using P = arith::CmpFPredicate;
  switch (predicate) {
  case P::OEQ:
    return [](double a, double b, double) { return double(a == b); };
  case P::OLT:
    return [](double a, double b, double) { return double(a < b); };
  case P::OLE:
    return [](double a, double b, double) { return double(a <= b); };
  case P::OGT:
    return [](double a, double b, double) { return double(a > b); };
  case P::OGE:
    return [](double a, double b, double) { return double(a >= b); };
  case P::ONE:
    return [](double a, double b, double) { return double(a < b || a > b); };
  case P::UEQ:
    return [](double a, double b, double) { return double(!(a < b || a > b)); };
  case P::ULT:
    return [](double a, double b, double) { return double(!(a >= b)); };
  case P::ULE:
    return [](double a, double b, double) { return double(!(a > b)); };
  case P::UGT:
    return [](double a, double b, double) { return double(!(a <= b)); };
  case P::UGE:
    return [](double a, double b, double) { return double(!(a < b)); };
  case P::UNE:
    return [](double a, double b, double) { return double(a != b); };
  case P::ORD:
    return [](double a, double b, double) { return double(!std::isnan(a) && !std::isnan(b)); };
  case P::UNO:
    return [](double a, double b, double) { return double(std::isnan(a) || std::isnan(b)); };
  default:
    return nullptr;
  }
}

// Element by element where an operand is a tensor or a vector; single numbers are spread over it.
Status evaluateElementwise(Frame &frame, Operation &op) {
  ScalarFunction function = findScalarFunction(op);
  const Tensor *shaped = nullptr;
  for (Value operand : op.getOperands())
    if (frame.isTensor(operand))
      shaped = &frame.tensor(operand);
  auto element = [&](unsigned position, int64_t offset) {
    if (position >= op.getNumOperands())
      return 0.0;
    const Datum &datum = frame[op.getOperand(position)];
    auto *tensor = std::get_if<Tensor>(&datum);
    return tensor ? tensor->elements()[offset] : std::get<double>(datum);
  };
  if (!shaped) {
    frame.set(op.getResult(0), function(element(0, 0), element(1, 0), element(2, 0)));
    return {};
  }
  Tensor result(shaped->shape());
  double *out = result.mutableElements();
  for (int64_t offset = 0; offset < result.numElements(); ++offset)
    out[offset] = function(element(0, offset), element(1, offset), element(2, offset));
  frame.set(op.getResult(0), std::move(result));
  return {};
}

} // namespace

double roundToF16(double value) { return roundTo(llvm::APFloat::IEEEhalf(), value); }
double roundToBf16(double value) { return roundTo(llvm::APFloat::BFloat(), value); }

ScalarFunction findScalarFunction(Operation &op) {
  if (auto compare = dyn_cast<arith::CmpIOp>(op))
    return comparison(compare.getPredicate());
  if (auto compare = dyn_cast<arith::CmpFOp>(op))
    return comparison(compare.getPredicate());
  if (auto truncate = dyn_cast<arith::TruncFOp>(op)) {
    Type type = getElementTypeOrSelf(truncate.getType());
    if (type.isF16())
      return [](double a, double, double) { return roundToF16(a); };
    if (type.isBF16())
      return [](double a, double, double) { return roundToBf16(a); };
    return type.isF32() ? identity : nullptr;
  }
  if (isa<arith::ExtUIOp>(op)) { // an i1 is 0 or 1 here
    Type from = getElementTypeOrSelf(op.getOperand(0));
    if (from.isInteger(32))
      return [](double a, double, double) { return a < 0 ? a + 4294967296.0 : a; };
    return from.isInteger(1) ? identity : nullptr;
  }
  llvm::StringRef name = op.getName().getStringRef();
  for (const Row &row : kRows)
    if (name == row.name)
      return row.function;
  return nullptr;
}

Handler findScalarHandler(Operation &op) { return findScalarFunction(op) ? evaluateElementwise : nullptr; }

} // namespace girih::reference
