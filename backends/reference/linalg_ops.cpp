// SPDX-License-Identifier: Apache-2.0
// Linalg: nested loops over a region, interpreted. Contractions, whose body is known, run as plain loops of
// their own.
#include "backends/reference/frame.h"
#include "backends/reference/scalar_ops.h"
#include "backends/reference/tensor_ops.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "mlir/IR/AffineExprVisitor.h"

#include <cmath>

using namespace mlir;

namespace girih::reference {
namespace {

// Where an operand's element for a point of the loops lies: base + sum of strides[i] * point[i].
struct LinearAccess {
  int64_t base = 0;
  std::vector<int64_t> strides;
};

// Coefficients of a linear expression over the loops; false when it is not linear (mod, division).
bool addLinear(AffineExpr expr, int64_t scale, LinearAccess &access) {
  if (auto constant = dyn_cast<AffineConstantExpr>(expr)) {
    access.base += scale * constant.getValue();
    return true;
  }
  if (auto dim = dyn_cast<AffineDimExpr>(expr)) {
    access.strides[dim.getPosition()] += scale;
    return true;
  }
  auto binary = dyn_cast<AffineBinaryOpExpr>(expr);
  if (!binary)
    return false;
  if (expr.getKind() == AffineExprKind::Add)
    return addLinear(binary.getLHS(), scale, access) && addLinear(binary.getRHS(), scale, access);
  if (expr.getKind() != AffineExprKind::Mul)
    return false;
  auto factor = dyn_cast<AffineConstantExpr>(binary.getRHS());
  return factor && addLinear(binary.getLHS(), scale * factor.getValue(), access);
}

// The loops of one op with its operands' elements.
struct LoopNest {
  std::vector<int64_t> extents;
  std::vector<LinearAccess> accesses; // one an operand
  std::vector<const double *> inputs; // null for a scalar operand: its value is in `scalars`
  std::vector<double> scalars;
  std::vector<Tensor> results; // start as the inits
  size_t numInputs = 0;
};

Status setExtent(LoopNest &nest, unsigned loop, int64_t extent) {
  if (nest.extents[loop] >= 0 && nest.extents[loop] != extent)
    return invalidArgument("loop " + std::to_string(loop) + " has extents " +
                           std::to_string(nest.extents[loop]) + " and " + std::to_string(extent) +
                           "; operands must agree");
  nest.extents[loop] = extent;
  return {};
}

Status addOperand(LoopNest &nest, AffineMap map, const Tensor &tensor) {
  LinearAccess access;
  access.strides.resize(map.getNumDims());
  if (static_cast<int64_t>(map.getNumResults()) != tensor.rank())
    return invalidArgument("an operand of rank " + std::to_string(tensor.rank()) + " has " +
                           std::to_string(map.getNumResults()) + " indices");
  std::vector<int64_t> strides = tensor.strides();
  for (auto [axis, expr] : llvm::enumerate(map.getResults())) {
    if (!addLinear(expr, strides[axis], access))
      return unimplemented("an operand's indices are not linear in the loops");
    if (auto dim = dyn_cast<AffineDimExpr>(expr))
      GIRIH_TRY(setExtent(nest, dim.getPosition(), tensor.shape()[axis]));
  }
  nest.accesses.push_back(std::move(access));
  return {};
}

Expected<LoopNest> makeNest(Frame &frame, linalg::LinalgOp op) {
  LoopNest nest;
  nest.extents.assign(op.getNumLoops(), -1);
  nest.numInputs = op.getNumDpsInputs();
  for (OpOperand &operand : op->getOpOperands()) {
    AffineMap map = op.getMatchingIndexingMap(&operand);
    const Datum &datum = frame[operand.get()];
    Tensor tensor;
    if (auto *shaped = std::get_if<Tensor>(&datum))
      tensor = *shaped;
    else
      tensor = Tensor({}, std::get<double>(datum));
    GIRIH_TRY(addOperand(nest, map, tensor));
    if (op.isDpsInput(&operand)) {
      nest.scalars.push_back(tensor.elements()[0]);
      nest.inputs.push_back(std::holds_alternative<Tensor>(datum) ? tensor.elements() : nullptr);
    } else {
      nest.results.push_back(std::move(tensor));
    }
  }
  for (auto [loop, extent] : llvm::enumerate(nest.extents))
    if (extent < 0)
      return unimplemented("no operand shows the extent of loop " + std::to_string(loop));
  return nest;
}

// ---- The body as a list of steps over numbered registers ----

struct Step {
  ScalarFunction function = nullptr; // null: linalg.index (loop) or tensor.extract (source)
  int target = 0;
  int operands[3] = {0, 0, 0}; // register 0 is always 0
  int loop = -1;
  Tensor source;
  std::vector<int> indices;
};

struct Program {
  std::vector<double> registers = {0};
  std::vector<Step> steps;
  std::vector<int> arguments; // registers of the block's arguments
  std::vector<int> yields;
};

class ProgramBuilder {
public:
  explicit ProgramBuilder(const Frame &frame) : frame(frame) {}

  Expected<Program> build(Block &body) {
    for (Value argument : body.getArguments())
      program.arguments.push_back(newRegister(argument, 0));
    for (Operation &op : body.without_terminator())
      GIRIH_TRY(addStep(op));
    for (Value value : body.getTerminator()->getOperands())
      program.yields.push_back(registerOf(value));
    return std::move(program);
  }

private:
  int newRegister(Value value, double initial) {
    program.registers.push_back(initial);
    return registers[value] = static_cast<int>(program.registers.size()) - 1;
  }
  // Values from outside the body are constants of it.
  int registerOf(Value value) {
    auto found = registers.find(value);
    return found != registers.end() ? found->second : newRegister(value, frame.scalar(value));
  }
  Status addStep(Operation &op);

  const Frame &frame;
  Program program;
  llvm::DenseMap<Value, int> registers;
};

Status ProgramBuilder::addStep(Operation &op) {
  if (auto constant = dyn_cast<arith::ConstantOp>(op)) {
    GIRIH_ASSIGN(double number, scalarOf(constant.getValue()));
    newRegister(op.getResult(0), number);
    return {};
  }
  Step step;
  if (auto index = dyn_cast<linalg::IndexOp>(op)) {
    step.loop = static_cast<int>(index.getDim());
  } else if (auto extract = dyn_cast<tensor::ExtractOp>(op)) {
    step.source = frame.tensor(extract.getTensor());
    for (Value value : extract.getIndices())
      step.indices.push_back(registerOf(value));
  } else {
    step.function = findScalarFunction(op);
    if (!step.function)
      return unimplemented("the reference does not know '" + op.getName().getStringRef().str() +
                           "' in a body");
    for (auto [position, operand] : llvm::enumerate(op.getOperands()))
      step.operands[position] = registerOf(operand);
  }
  step.target = newRegister(op.getResult(0), 0);
  program.steps.push_back(std::move(step));
  return {};
}

Expected<double> extractElement(const Step &step, const std::vector<double> &registers) {
  int64_t offset = 0;
  for (size_t axis = 0; axis < step.indices.size(); ++axis) {
    auto index = static_cast<int64_t>(registers[step.indices[axis]]);
    int64_t extent = step.source.shape()[axis];
    if (index < 0 || index >= extent)
      return invalidArgument("index " + std::to_string(index) + " on axis " + std::to_string(axis) +
                             "; the tensor has " + std::to_string(extent) + " there");
    offset = offset * extent + index;
  }
  return step.source.elements()[offset];
}

// Advances the point, innermost loop first; false after the last.
bool advance(std::vector<int64_t> &point, const std::vector<int64_t> &extents) {
  for (size_t loop = point.size(); loop-- > 0;) {
    if (++point[loop] < extents[loop])
      return true;
    point[loop] = 0;
  }
  return false;
}

int64_t offsetOf(const LinearAccess &access, const std::vector<int64_t> &point) {
  int64_t offset = access.base;
  for (size_t loop = 0; loop < point.size(); ++loop)
    offset += access.strides[loop] * point[loop];
  return offset;
}

Status interpret(LoopNest &nest, Program &program) {
  std::vector<double> &registers = program.registers;
  std::vector<double *> results;
  for (Tensor &result : nest.results)
    results.push_back(result.mutableElements());
  std::vector<int64_t> point(nest.extents.size());
  std::vector<int64_t> offsets(nest.accesses.size());
  do {
    for (size_t i = 0; i < nest.accesses.size(); ++i) {
      offsets[i] = offsetOf(nest.accesses[i], point);
      double value = i >= nest.numInputs ? results[i - nest.numInputs][offsets[i]]
                     : nest.inputs[i]    ? nest.inputs[i][offsets[i]]
                                         : nest.scalars[i];
      registers[program.arguments[i]] = value;
    }
    for (const Step &step : program.steps) {
      if (step.function) {
        registers[step.target] = step.function(registers[step.operands[0]], registers[step.operands[1]],
                                               registers[step.operands[2]]);
      } else if (step.loop >= 0) {
        registers[step.target] = static_cast<double>(point[step.loop]);
      } else {
        GIRIH_ASSIGN(registers[step.target], extractElement(step, registers));
      }
    }
    for (size_t i = 0; i < results.size(); ++i)
      results[i][offsets[nest.numInputs + i]] = registers[program.yields[i]];
  } while (advance(point, nest.extents));
  return {};
}

// ---- Contractions ----

// The body is out + a * b, in whichever order.
bool isMultiplyAdd(Block &body) {
  if (body.getNumArguments() != 3 || body.getOperations().size() != 3)
    return false;
  auto product = dyn_cast<arith::MulFOp>(body.front());
  auto sum = dyn_cast<arith::AddFOp>(body.front().getNextNode());
  Value a = body.getArgument(0), b = body.getArgument(1), out = body.getArgument(2);
  auto pairs = [](Operation *op, Value x, Value y) {
    return (op->getOperand(0) == x && op->getOperand(1) == y) ||
           (op->getOperand(0) == y && op->getOperand(1) == x);
  };
  return product && sum && pairs(product, a, b) && pairs(sum, out, product) &&
         body.getTerminator()->getOperand(0) == sum.getResult();
}

// Sums over the innermost loop, eight points of the next loop at a time, each in its own order of k.
void contract(LoopNest &nest) {
  constexpr int64_t kLanes = 8;
  size_t numLoops = nest.extents.size();
  int64_t depth = nest.extents[numLoops - 1], width = nest.extents[numLoops - 2];
  auto stride = [&](size_t operand, size_t loop) { return nest.accesses[operand].strides[loop]; };
  int64_t aDepth = stride(0, numLoops - 1), bDepth = stride(1, numLoops - 1);
  int64_t aWidth = stride(0, numLoops - 2), bWidth = stride(1, numLoops - 2),
          outWidth = stride(2, numLoops - 2);
  double *out = nest.results[0].mutableElements();
  std::vector<int64_t> outer(nest.extents.begin(), nest.extents.end() - 2);
  std::vector<int64_t> point(numLoops);
  std::vector<int64_t> outerPoint(numLoops - 2);
  do {
    std::copy(outerPoint.begin(), outerPoint.end(), point.begin());
    const double *a = nest.inputs[0] + offsetOf(nest.accesses[0], point);
    const double *b = nest.inputs[1] + offsetOf(nest.accesses[1], point);
    double *c = out + offsetOf(nest.accesses[2], point);
    for (int64_t first = 0; first < width; first += kLanes) {
      int64_t lanes = std::min(kLanes, width - first);
      double sums[kLanes] = {};
      const double *laneA[kLanes], *laneB[kLanes];
      for (int64_t lane = 0; lane < kLanes; ++lane) { // lanes beyond the last repeat it
        int64_t column = first + std::min(lane, lanes - 1);
        laneA[lane] = a + column * aWidth;
        laneB[lane] = b + column * bWidth;
        sums[lane] = c[column * outWidth];
      }
      for (int64_t k = 0; k < depth; ++k)
        for (int64_t lane = 0; lane < kLanes; ++lane)
          sums[lane] += laneA[lane][k * aDepth] * laneB[lane][k * bDepth];
      for (int64_t lane = 0; lane < lanes; ++lane)
        c[(first + lane) * outWidth] = sums[lane];
    }
  } while (advance(outerPoint, outer));
}

bool canContract(linalg::LinalgOp op, const LoopNest &nest) {
  size_t numLoops = nest.extents.size();
  if (numLoops < 2 || nest.numInputs != 2 || nest.results.size() != 1 || !nest.inputs[0] || !nest.inputs[1])
    return false;
  // One reduction loop, the innermost; every other loop moves the result.
  for (size_t loop = 0; loop < numLoops; ++loop)
    if ((nest.accesses[2].strides[loop] == 0) != (loop + 1 == numLoops) && nest.extents[loop] > 1)
      return false;
  return isMultiplyAdd(*op.getBlock());
}

Status evaluateStructured(Frame &frame, Operation &operation) {
  auto op = cast<linalg::LinalgOp>(operation);
  GIRIH_ASSIGN(LoopNest nest, makeNest(frame, op));
  bool isEmpty = llvm::is_contained(nest.extents, 0);
  if (!isEmpty && canContract(op, nest)) {
    contract(nest);
  } else if (!isEmpty) {
    GIRIH_ASSIGN(Program program, ProgramBuilder(frame).build(*op.getBlock()));
    GIRIH_TRY(interpret(nest, program));
  }
  for (auto [value, tensor] : llvm::zip_equal(operation.getResults(), nest.results))
    frame.set(value, std::move(tensor));
  return {};
}

Status evaluateSoftmax(Frame &frame, Operation &operation) {
  auto op = cast<linalg::SoftmaxOp>(operation);
  Tensor result = frame.tensor(op.getInput());
  int64_t axis = op.getDimension();
  int64_t extent = result.shape()[axis], inner = result.strides()[axis];
  double *x = result.mutableElements();
  for (int64_t start = 0; start < result.numElements(); ++start) {
    if ((start / inner) % extent != 0)
      continue;
    double highest = -INFINITY, sum = 0;
    for (int64_t i = 0; i < extent; ++i)
      highest = std::max(highest, x[start + i * inner]);
    for (int64_t i = 0; i < extent; ++i)
      sum += x[start + i * inner] = std::exp(x[start + i * inner] - highest);
    for (int64_t i = 0; i < extent; ++i)
      x[start + i * inner] /= sum;
  }
  frame.set(operation.getResult(0), std::move(result));
  return {};
}

} // namespace

Handler findLinalgHandler(Operation &op) {
  if (isa<linalg::SoftmaxOp>(op))
    return evaluateSoftmax;
  return isa<linalg::LinalgOp>(op) ? evaluateStructured : nullptr;
}

} // namespace girih::reference
