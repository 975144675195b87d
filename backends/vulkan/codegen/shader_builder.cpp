// SPDX-License-Identifier: Apache-2.0
// Writes the body of one compute shader; its memory is spirv's own, its arithmetic is arith's and math's.
#include "backends/vulkan/codegen/shader_builder.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/SPIRV/Transforms/SPIRVConversion.h"

using namespace mlir;

namespace girih::vulkan {
namespace {

constexpr StringLiteral kSharedName = "shared";
constexpr int64_t kHalfBits = 16, kWordBits = 32;

spirv::PointerType bufferType(MLIRContext *context) {
  auto words = spirv::RuntimeArrayType::get(IntegerType::get(context, 32), 4);
  return spirv::PointerType::get(spirv::StructType::get({words}, {0}), spirv::StorageClass::StorageBuffer);
}

spirv::PointerType texelsType(MLIRContext *context) {
  auto image =
      spirv::ImageType::get(IntegerType::get(context, 32), spirv::Dim::Buffer, spirv::ImageDepthInfo::NoDepth,
                            spirv::ImageArrayedInfo::NonArrayed, spirv::ImageSamplingInfo::SingleSampled,
                            spirv::ImageSamplerUseInfo::NeedSampler, spirv::ImageFormat::Unknown);
  return spirv::PointerType::get(image, spirv::StorageClass::UniformConstant);
}

spirv::PointerType sharedType(MLIRContext *context, int64_t words) {
  return spirv::PointerType::get(
      spirv::ArrayType::get(IntegerType::get(context, 32), unsigned(std::max<int64_t>(words, 1))),
      spirv::StorageClass::Workgroup);
}

} // namespace

ShaderBuilder::ShaderBuilder(MLIRContext *context, int64_t invocations)
    : b(context), loc(UnknownLoc::get(context)), invocations(invocations) {
  module = spirv::ModuleOp::create(b, loc, spirv::AddressingModel::Logical, spirv::MemoryModel::GLSL450);
  b.setInsertionPointToStart(module->getBody());
  auto main = func::FuncOp::create(b, loc, "main", b.getFunctionType({}, {}));
  main.setPublic();
  function = main;
  Block *body = main.addEntryBlock();
  b.setInsertionPointToStart(body);
  func::ReturnOp::create(b, loc);
  b.setInsertionPointToStart(body);
  auto component = [&](Value vector, int32_t index) -> Value {
    return spirv::CompositeExtractOp::create(b, loc, vector, index);
  };
  lane = component(builtIn(spirv::BuiltIn::LocalInvocationId), 0);
  Value all = builtIn(spirv::BuiltIn::WorkgroupId);
  for (int32_t axis = 0; axis < 3; ++axis)
    groups[axis] = component(all, axis);
}

Value ShaderBuilder::builtIn(spirv::BuiltIn which) {
  return spirv::getBuiltinVariableValue(function, which, b.getI32Type(), b);
}

OwningOpRef<spirv::ModuleOp> ShaderBuilder::take() {
  if (!sharedUses.empty()) {
    OpBuilder::InsertionGuard guard(b);
    b.setInsertionPointToStart(module->getBody());
    Type type = sharedType(b.getContext(), numSharedWords);
    spirv::GlobalVariableOp::create(b, loc, TypeAttr::get(type), b.getStringAttr(kSharedName));
    for (Operation *use : sharedUses)
      use->getResult(0).setType(cast<spirv::PointerType>(type));
  }
  return std::move(module);
}

// ---- Values ----
Value ShaderBuilder::c(int64_t value) {
  return arith::ConstantOp::create(b, loc, b.getI32IntegerAttr(int32_t(value)));
}
Value ShaderBuilder::f(double value) {
  return arith::ConstantOp::create(b, loc, b.getF32FloatAttr(float(value)));
}
Value ShaderBuilder::add(Value x, Value y) { return b.createOrFold<arith::AddIOp>(loc, x, y); }
Value ShaderBuilder::sub(Value x, Value y) { return b.createOrFold<arith::SubIOp>(loc, x, y); }
Value ShaderBuilder::mul(Value x, Value y) { return b.createOrFold<arith::MulIOp>(loc, x, y); }
// Powers of 2 by shifts and masks: drivers do not know that x >= 0 where the type is signed.
Value ShaderBuilder::div(Value x, int64_t y) {
  return llvm::isPowerOf2_64(uint64_t(y)) ? shiftRight(x, int64_t(llvm::Log2_64(uint64_t(y)))) : div(x, c(y));
}
Value ShaderBuilder::rem(Value x, int64_t y) {
  return llvm::isPowerOf2_64(uint64_t(y)) ? bitAnd(x, y - 1) : rem(x, c(y));
}
Value ShaderBuilder::div(Value x, Value y) { return b.createOrFold<arith::DivUIOp>(loc, x, y); }
Value ShaderBuilder::rem(Value x, Value y) { return b.createOrFold<arith::RemUIOp>(loc, x, y); }
Value ShaderBuilder::min(Value x, Value y) { return b.createOrFold<arith::MinSIOp>(loc, x, y); }
Value ShaderBuilder::max(Value x, Value y) { return b.createOrFold<arith::MaxSIOp>(loc, x, y); }
Value ShaderBuilder::shiftRight(Value x, Value bits) { return b.createOrFold<arith::ShRUIOp>(loc, x, bits); }
Value ShaderBuilder::shiftLeft(Value x, Value bits) { return b.createOrFold<arith::ShLIOp>(loc, x, bits); }
Value ShaderBuilder::bitAnd(Value x, int64_t mask) { return b.createOrFold<arith::AndIOp>(loc, x, c(mask)); }
Value ShaderBuilder::less(Value x, Value y) {
  return b.createOrFold<arith::CmpIOp>(loc, arith::CmpIPredicate::slt, x, y);
}
Value ShaderBuilder::isEqual(Value x, Value y) {
  return b.createOrFold<arith::CmpIOp>(loc, arith::CmpIPredicate::eq, x, y);
}
Value ShaderBuilder::both(Value x, Value y) { return b.createOrFold<arith::AndIOp>(loc, x, y); }
Value ShaderBuilder::select(Value condition, Value x, Value y) {
  return b.createOrFold<arith::SelectOp>(loc, condition, x, y);
}
Value ShaderBuilder::addf(Value x, Value y) { return arith::AddFOp::create(b, loc, x, y); }
Value ShaderBuilder::subf(Value x, Value y) { return arith::SubFOp::create(b, loc, x, y); }
Value ShaderBuilder::mulf(Value x, Value y) { return arith::MulFOp::create(b, loc, x, y); }
Value ShaderBuilder::divf(Value x, Value y) { return arith::DivFOp::create(b, loc, x, y); }
Value ShaderBuilder::maxf(Value x, Value y) { return spirv::GLFMaxOp::create(b, loc, x, y); }
Value ShaderBuilder::fma(Value x, Value y, Value z) { return math::FmaOp::create(b, loc, x, y, z); }
Value ShaderBuilder::lessMultiple(Value x, Value n, double constant) {
  auto asWritten = [&](Operation *op) {
    op->setAttr("no_contraction", b.getUnitAttr());
    return op->getResult(0);
  };
  Value product = asWritten(spirv::FMulOp::create(b, loc, n, f(-constant)));
  return asWritten(spirv::FAddOp::create(b, loc, x, product));
}

// 2^n * exp(r) where x = n ln 2 + r, r in two parts; exp(r) as Cephes has it. Within 2 units of the last place, where a
// driver's own may be off by 3 + 2 |x| of them. 2^n in two factors: results may be denormal, or infinite.
Value ShaderBuilder::exp(Value x) {
  constexpr double kLeast = -120, kMost = 100; // beyond, the result is 0 or infinite
  constexpr double kTerms[] = {1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1, 5.0000001201e-1};
  auto i32 = b.getI32Type();
  Value clamped = spirv::GLFMinOp::create(b, loc, maxf(x, f(kLeast)), f(kMost));
  Value turns = math::RoundEvenOp::create(b, loc, mulf(clamped, f(1.44269504088896341)));
  Value r = lessMultiple(lessMultiple(clamped, turns, 0.693145751953125), turns, 1.428606820309417232e-6);
  Value sum = f(1.9875691500e-4);
  for (double term : kTerms)
    sum = fma(sum, r, f(term));
  sum = addf(fma(sum, mulf(r, r), r), f(1));
  Value n = arith::FPToSIOp::create(b, loc, i32, turns), half = arith::ShRSIOp::create(b, loc, n, c(1));
  auto powerOf2 = [&](Value exponent) { return asFloat(shiftLeft(add(exponent, c(127)), 23)); };
  Value result = mulf(mulf(sum, powerOf2(half)), powerOf2(sub(n, half)));
  return select(arith::CmpFOp::create(b, loc, arith::CmpFPredicate::OEQ, x, x), result, x);
}
Value ShaderBuilder::toFloat(Value integer) {
  return arith::SIToFPOp::create(b, loc, b.getF32Type(), integer);
}
Value ShaderBuilder::asFloat(Value word) { return arith::BitcastOp::create(b, loc, b.getF32Type(), word); }
Value ShaderBuilder::asWord(Value value) { return arith::BitcastOp::create(b, loc, b.getI32Type(), value); }

Value ShaderBuilder::halfOf(Value word, Value which) {
  Value moved = shiftRight(word, mul(which, kHalfBits));
  Value pair = spirv::GLUnpackHalf2x16Op::create(b, loc, VectorType::get(2, b.getF32Type()), moved);
  return spirv::CompositeExtractOp::create(b, loc, pair, 0);
}

Value ShaderBuilder::asHalves(Value low) {
  Value pair =
      spirv::CompositeConstructOp::create(b, loc, VectorType::get(2, b.getF32Type()), ValueRange{low, f(0)});
  return spirv::GLPackHalf2x16Op::create(b, loc, b.getI32Type(), pair);
}

Value ShaderBuilder::rounded(Value x, Type type) {
  if (type.isF16())
    return halfOf(asHalves(x), c(0));
  // To the nearest, of two equally near ones to the even; what is no number stays none.
  Value bits = asWord(x), isOdd = bitAnd(shiftRight(bits, kHalfBits), 1);
  Value nearest = bitAnd(add(bits, add(isOdd, c(0x7fff))), -0x10000);
  Value isNumber = arith::CmpFOp::create(b, loc, arith::CmpFPredicate::OEQ, x, x);
  return asFloat(select(isNumber, nearest, c(0x7fc00000)));
}

Value ShaderBuilder::ofByte(Value word) {
  return b.createOrFold<arith::ShRSIOp>(loc, shiftLeft(word, kWordBits - 8), c(kWordBits - 8));
}

// ---- The workgroup ----
void ShaderBuilder::barrier() {
  auto all = spirv::MemorySemantics::AcquireRelease | spirv::MemorySemantics::WorkgroupMemory |
             spirv::MemorySemantics::UniformMemory;
  spirv::ControlBarrierOp::create(b, loc, spirv::Scope::Workgroup, spirv::Scope::Workgroup, all);
}

Value ShaderBuilder::ofNeighbour(Value value, int64_t lane) {
  Value id = spirv::ConstantOp::create(b, loc, b.getI32Type(), b.getI32IntegerAttr(int32_t(lane)));
  return spirv::GroupNonUniformBroadcastOp::create(b, loc, value.getType(), spirv::Scope::Subgroup, value,
                                                   id);
}

Value ShaderBuilder::reduce(Value value, llvm::function_ref<Value(Value, Value)> combine) {
  if (reduceWords < 0)
    reduceWords = share(invocations);
  Value mine = add(lane, reduceWords);
  barrier();
  store(kSharedMemory, mine, asWord(value));
  for (int64_t distance = invocations / 2; distance > 0; distance /= 2) {
    barrier();
    when(less(lane, c(distance)), [&] {
      Value x = asFloat(load(kSharedMemory, mine)), y = asFloat(load(kSharedMemory, add(mine, distance)));
      store(kSharedMemory, mine, asWord(combine(x, y)));
    });
  }
  barrier();
  Value result = asFloat(load(kSharedMemory, c(reduceWords)));
  barrier();
  return result;
}

// ---- Memory ----
Value ShaderBuilder::bufferVariable(uint32_t memory) {
  if (memory == kSharedMemory) {
    Type type = sharedType(b.getContext(), 1); // made right by take(), when the size is known
    auto address = spirv::AddressOfOp::create(b, loc, type, SymbolRefAttr::get(b.getContext(), kSharedName));
    sharedUses.push_back(address);
    return address;
  }
  return bound(memory, areTexels(memory) ? texelsType(b.getContext()) : bufferType(b.getContext()));
}

// The variable of a binding.
Value ShaderBuilder::bound(uint32_t memory, Type type) {
  std::string name = "buffer_" + std::to_string(memory);
  if (!module->lookupSymbol(name)) {
    OpBuilder::InsertionGuard guard(b);
    b.setInsertionPointToStart(module->getBody());
    auto variable = spirv::GlobalVariableOp::create(b, loc, TypeAttr::get(type), b.getStringAttr(name));
    variable->setAttr("descriptor_set", b.getI32IntegerAttr(0));
    variable->setAttr("binding", b.getI32IntegerAttr(int32_t(memory)));
  }
  return spirv::AddressOfOp::create(b, loc, type, SymbolRefAttr::get(b.getContext(), name));
}

Value ShaderBuilder::pointerTo(uint32_t memory, Value word) {
  Value variable = bufferVariable(memory);
  auto i32 = b.getI32Type();
  if (memory == kSharedMemory)
    return spirv::AccessChainOp::create(b, loc, spirv::PointerType::get(i32, spirv::StorageClass::Workgroup),
                                        variable, ValueRange{word});
  Value member = spirv::ConstantOp::getZero(i32, loc, b);
  return spirv::AccessChainOp::create(b, loc,
                                      spirv::PointerType::get(i32, spirv::StorageClass::StorageBuffer),
                                      variable, ValueRange{member, word});
}

Value ShaderBuilder::load(uint32_t memory, Value word) {
  if (!areTexels(memory))
    return spirv::LoadOp::create(b, loc, pointerTo(memory, word));
  std::array<Value, kTexelWords> words = loadTexel(memory, div(word, kTexelWords));
  Value isOdd = isEqual(bitAnd(word, 1), c(1)), isLate = isEqual(bitAnd(word, 2), c(2));
  return select(isLate, select(isOdd, words[3], words[2]), select(isOdd, words[1], words[0]));
}

std::array<Value, kTexelWords> ShaderBuilder::loadTexel(uint32_t memory, Value texel) {
  Value image = spirv::LoadOp::create(b, loc, bufferVariable(memory));
  Value loaded = spirv::ImageFetchOp::create(b, loc, VectorType::get(kTexelWords, b.getI32Type()), image,
                                             texel, spirv::ImageOperandsAttr(), ValueRange());
  std::array<Value, kTexelWords> words;
  for (uint32_t word = 0; word < kTexelWords; ++word)
    words[word] = spirv::CompositeExtractOp::create(b, loc, loaded, int32_t(word));
  return words;
}

void ShaderBuilder::store(uint32_t memory, Value word, Value value) {
  spirv::StoreOp::create(b, loc, pointerTo(memory, word), value);
}

Value ShaderBuilder::loadPart(uint32_t memory, Value word, Value part, int64_t count) {
  return shiftRight(load(memory, word), mul(part, kWordBits / count));
}

void ShaderBuilder::storePart(uint32_t memory, Value word, Value part, int64_t count, Value bits) {
  int64_t width = kWordBits / count, mask = (int64_t(1) << width) - 1;
  Value shift = mul(part, width), pointer = pointerTo(memory, word);
  Value others = b.createOrFold<arith::XOrIOp>(loc, shiftLeft(c(mask), shift), c(-1));
  Value set = shiftLeft(bitAnd(bits, mask), shift);
  spirv::AtomicAndOp::create(b, loc, b.getI32Type(), pointer, spirv::Scope::Device,
                             spirv::MemorySemantics::None, others);
  spirv::AtomicOrOp::create(b, loc, b.getI32Type(), pointer, spirv::Scope::Device,
                            spirv::MemorySemantics::None, set);
}

Value ShaderBuilder::pushConstant(uint32_t index) {
  return spirv::getPushConstantValue(function, kMaxPushWords, index, b.getI32Type(), b);
}

int64_t ShaderBuilder::share(int64_t words) {
  int64_t begin = numSharedWords;
  numSharedWords += words;
  return begin;
}

Value ShaderBuilder::constantArray(DenseElementsAttr values) {
  Type type = spirv::ArrayType::get(values.getElementType(), unsigned(values.getNumElements()));
  auto flat = values.reshape(RankedTensorType::get({values.getNumElements()}, values.getElementType()));
  Value constant = spirv::ConstantOp::create(b, loc, type, flat);
  auto variable =
      spirv::VariableOp::create(b, loc, spirv::PointerType::get(type, spirv::StorageClass::Function),
                                spirv::StorageClass::Function, constant);
  // Variables of a function stand before everything else in it.
  Block &entry = function->getRegion(0).front();
  variable->moveBefore(&entry, entry.begin());
  constant.getDefiningOp()->moveBefore(variable);
  return variable;
}

Value ShaderBuilder::loadConstant(Value array, Value index) {
  Type element =
      cast<spirv::ArrayType>(cast<spirv::PointerType>(array.getType()).getPointeeType()).getElementType();
  Value pointer = spirv::AccessChainOp::create(
      b, loc, spirv::PointerType::get(element, spirv::StorageClass::Function), array, ValueRange{index});
  return spirv::LoadOp::create(b, loc, pointer);
}

// ---- Control ----
SmallVector<Value> ShaderBuilder::loop(Value begin, Value end, Value step, ValueRange carried, Carry body) {
  auto made = scf::ForOp::create(b, loc, begin, end, step, carried,
                                 [&](OpBuilder &inner, Location, Value position, ValueRange values) {
                                   OpBuilder::InsertionGuard guard(b);
                                   b.setInsertionPoint(inner.getInsertionBlock(), inner.getInsertionPoint());
                                   SmallVector<Value> next = body(position, values);
                                   scf::YieldOp::create(b, loc, next);
                                 });
  APInt first, last;
  if (carried.empty() || (matchPattern(begin, m_ConstantInt(&first)) && matchPattern(end, m_ConstantInt(&last)) && first.slt(last)))
    return made.getResults();
  // The conversion to SPIR-V keeps what is carried in a variable that only the loop's body writes: undefined if none runs.
  Value runs = less(begin, end);
  return llvm::map_to_vector(llvm::zip(made.getResults(), carried), [&](auto pair) {
    return select(runs, std::get<0>(pair), std::get<1>(pair));
  });
}

void ShaderBuilder::loop(Value begin, Value end, Value step, llvm::function_ref<void(Value)> body) {
  loop(begin, end, step, ValueRange(), [&](Value position, ValueRange) {
    body(position);
    return SmallVector<Value>();
  });
}

void ShaderBuilder::when(Value condition, llvm::function_ref<void()> then) {
  auto made = scf::IfOp::create(b, loc, condition, /*withElseRegion=*/false);
  OpBuilder::InsertionGuard guard(b);
  b.setInsertionPointToStart(made.thenBlock());
  then();
}

void ShaderBuilder::forEach(Value total, llvm::function_ref<void(Value)> body) {
  APInt known;
  if (matchPattern(total, m_ConstantInt(&known)) && known.getSExtValue() == invocations)
    return body(lane);
  if (matchPattern(total, m_ConstantInt(&known)) && known.getSExtValue() < invocations)
    return when(less(lane, total), [&] { body(lane); });
  loop(lane, total, c(invocations), body);
}

} // namespace girih::vulkan
