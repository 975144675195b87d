// SPDX-License-Identifier: Apache-2.0
// Transcendental functions: range reduction and polynomials. f32 coefficients are those of Cephes' single-precision set.
#include "backends/cpu/codegen/math_functions.h"

#include "mlir/Dialect/Math/IR/Math.h"

#include <limits>

using namespace mlir;

namespace girih::cpu {

namespace {

constexpr double kInfinity = std::numeric_limits<double>::infinity();
constexpr double kLog2E = 1.4426950408889634074;
// ln 2 in two parts; the first has few enough bits that n * kLn2High is exact in f32.
constexpr double kLn2High = 0.693359375, kLn2Low = -2.12194440054690583e-4;
constexpr double kLn2 = 0.69314718055994530942;

// The operations a formula is written with, on one element type and shape.
struct Math {
  KernelBuilder &k;
  Type type;

  Value c(double value) { return k.constant(type, value); }
  Value add(Value x, Value y) { return k.addf(x, y); }
  Value sub(Value x, Value y) { return k.subf(x, y); }
  Value mul(Value x, Value y) { return k.mulf(x, y); }
  Value div(Value x, Value y) { return arith::DivFOp::create(k.b, k.loc, x, y); }
  Value fma(Value x, Value y, Value z) { return k.fma(x, y, z); }
  Value neg(Value x) { return arith::NegFOp::create(k.b, k.loc, x); }
  Value abs(Value x) { return math::AbsFOp::create(k.b, k.loc, x); }
  Value withSignOf(Value x, Value y) { return math::CopySignOp::create(k.b, k.loc, x, y); }
  Value compare(arith::CmpFPredicate predicate, Value x, Value y) {
    return arith::CmpFOp::create(k.b, k.loc, predicate, x, y);
  }
  Value less(Value x, Value y) { return compare(arith::CmpFPredicate::OLT, x, y); }
  Value greater(Value x, Value y) { return compare(arith::CmpFPredicate::OGT, x, y); }
  Value isNan(Value x) { return compare(arith::CmpFPredicate::UNO, x, x); }
  // c[0] x^n + ... + c[n], by Horner's rule.
  Value polynomial(Value x, ArrayRef<double> coefficients) {
    Value sum = c(coefficients.front());
    for (double coefficient : coefficients.drop_front())
      sum = fma(sum, x, c(coefficient));
    return sum;
  }
  Type shaped(Type element) {
    auto vector = dyn_cast<VectorType>(type);
    return vector ? Type(vector.cloneWith(std::nullopt, element)) : element;
  }
  bool isDouble() { return getElementTypeOrSelf(type).isF64(); }
  Type bitsType() { return shaped(isDouble() ? k.b.getI64Type() : k.b.getI32Type()); }
  Value bits(Value x) { return arith::BitcastOp::create(k.b, k.loc, bitsType(), x); }
  Value fromBits(Value x) { return arith::BitcastOp::create(k.b, k.loc, type, x); }
  Value addi(Value x, Value y) { return arith::AddIOp::create(k.b, k.loc, x, y); }
  Value subi(Value x, Value y) { return arith::SubIOp::create(k.b, k.loc, x, y); }
  Value andi(Value x, int64_t y) { return arith::AndIOp::create(k.b, k.loc, x, k.integer(x.getType(), y)); }
  Value shl(Value x, int64_t y) { return arith::ShLIOp::create(k.b, k.loc, x, k.integer(x.getType(), y)); }
  int64_t mantissaBits() { return isDouble() ? 52 : 23; }
};

Math mathFor(KernelBuilder &k, Value x) { return {k, x.getType()}; }

Value extend(KernelBuilder &k, Value x) {
  Math m = mathFor(k, x);
  return arith::ExtFOp::create(k.b, k.loc, m.shaped(k.b.getF64Type()), x);
}

Value truncate(KernelBuilder &k, Value x) {
  Math m = mathFor(k, x);
  return arith::TruncFOp::create(k.b, k.loc, m.shaped(k.b.getF32Type()), x);
}

struct Nearest {
  Value value;  // the integer as a float
  Value bits;   // the same as an integer, in the low bits
};

// The nearest integer to x: adding 1.5 * 2^mantissaBits leaves it in the low bits of the sum.
Nearest nearest(Math &m, Value x, Value factor) {
  double shift = m.isDouble() ? 6755399441055744.0 : 12582912.0;
  Value moved = m.fma(x, factor, m.c(shift));
  return {m.sub(moved, m.c(shift)), m.subi(m.bits(moved), m.bits(m.c(shift)))};
}

// y * 2^n, for results in the normal range.
Value scaleByPower(Math &m, Value y, Value n) { return m.fromBits(m.addi(m.bits(y), m.shl(n, m.mantissaBits()))); }

// e^r for |r| <= ln(2)/2.
Value expReduced(Math &m, Value r) {
  Value q = m.polynomial(r, {1.9875691500e-4, 1.3981999507e-3, 8.3334519073e-3, 4.1665795894e-2, 1.6666665459e-1,
                             5.0000001201e-1});
  return m.add(m.fma(q, m.mul(r, r), r), m.c(1));
}

// e^x in f64 for |x| < 700.
Value expDouble(Math &m, Value x) {
  Nearest n = nearest(m, x, m.c(kLog2E));
  Value r = m.fma(n.value, m.c(-6.93147180369123816490e-01), x);
  r = m.fma(n.value, m.c(-1.90821492927058770002e-10), r);
  SmallVector<double> inverseFactorials = {1};
  for (int degree = 1; degree <= 13; ++degree)
    inverseFactorials.insert(inverseFactorials.begin(), inverseFactorials.front() / degree);
  return scaleByPower(m, m.polynomial(r, inverseFactorials), n.bits);
}

struct Decomposed {
  Value mantissa;  // in [sqrt(1/2), sqrt(2))
  Value exponent;  // as a float
};

// x = mantissa * 2^exponent, for normal x > 0.
Decomposed decompose(Math &m, Value x) {
  int64_t sqrtHalf = m.isDouble() ? 0x3fe6a09e667f3bcd : 0x3f3504f3;
  Value bits = m.bits(x);
  Value above = m.subi(bits, m.k.integer(bits.getType(), sqrtHalf));
  Value power = arith::ShRSIOp::create(m.k.b, m.k.loc, above, m.k.integer(bits.getType(), m.mantissaBits()));
  Value mantissa = m.fromBits(m.subi(bits, m.shl(power, m.mantissaBits())));
  return {mantissa, arith::SIToFPOp::create(m.k.b, m.k.loc, m.type, power)};
}

// ln x in f64, for normal x > 0: 2 atanh((f-1)/(f+1)).
Value logDouble(Math &m, Value x) {
  Decomposed parts = decompose(m, x);
  Value s = m.div(m.sub(parts.mantissa, m.c(1)), m.add(parts.mantissa, m.c(1)));
  SmallVector<double> terms;
  for (int power = 19; power >= 1; power -= 2)
    terms.push_back(2.0 / power);
  return m.fma(parts.exponent, m.c(kLn2), m.mul(s, m.polynomial(m.mul(s, s), terms)));
}

// sin(x + quadrants * pi/2) in f64.
Value sinShifted(KernelBuilder &k, Value x32, int64_t quadrants) {
  Value x = extend(k, x32);
  Math m = mathFor(k, x);
  Nearest n = nearest(m, x, m.c(0.63661977236758134308));
  Value r = m.fma(n.value, m.c(-1.57079632679489655800), x);
  r = m.fma(n.value, m.c(-6.12323399573676603587e-17), r);
  Value square = m.mul(r, r);
  Value sine = m.mul(r, m.polynomial(square, {-1.0 / 1307674368000, 1.0 / 6227020800, -1.0 / 39916800, 1.0 / 362880,
                                              -1.0 / 5040, 1.0 / 120, -1.0 / 6, 1.0}));
  Value cosine = m.polynomial(square, {1.0 / 20922789888000, -1.0 / 87178291200, 1.0 / 479001600, -1.0 / 3628800,
                                       1.0 / 40320, -1.0 / 720, 1.0 / 24, -0.5, 1.0});
  Value quadrant = m.addi(n.bits, k.integer(n.bits.getType(), quadrants));
  Value isOdd = arith::CmpIOp::create(k.b, k.loc, arith::CmpIPredicate::ne, m.andi(quadrant, 1),
                                      k.integer(quadrant.getType(), 0));
  Value isNegative = arith::CmpIOp::create(k.b, k.loc, arith::CmpIPredicate::ne, m.andi(quadrant, 2),
                                           k.integer(quadrant.getType(), 0));
  Value value = k.select(isOdd, cosine, sine);
  return truncate(k, k.select(isNegative, m.neg(value), value));
}

}  // namespace

Value emitExp(KernelBuilder &k, Value x, bool atMostOne) {
  Math m = mathFor(k, x);
  Nearest n = nearest(m, x, m.c(kLog2E));
  Value r = m.fma(n.value, m.c(-kLn2Low), m.fma(n.value, m.c(-kLn2High), x));
  Value y = scaleByPower(m, expReduced(m, r), n.bits);
  y = k.select(m.less(x, m.c(-87.33654)), m.c(0), y);
  if (atMostOne)
    return y;
  y = k.select(m.greater(x, m.c(88.72283)), m.c(kInfinity), y);
  return k.select(m.isNan(x), x, y);
}

Value emitExp2(KernelBuilder &k, Value x) {
  Math m = mathFor(k, x);
  Nearest n = nearest(m, x, m.c(1));
  Value y = scaleByPower(m, expReduced(m, m.mul(m.sub(x, n.value), m.c(kLn2))), n.bits);
  y = k.select(m.less(x, m.c(-126)), m.c(0), y);
  y = k.select(m.compare(arith::CmpFPredicate::OGE, x, m.c(128)), m.c(kInfinity), y);
  return k.select(m.isNan(x), x, y);
}

Value emitQuotientByExp(KernelBuilder &k, Value x, Value y, Value c) {
  Math m = mathFor(k, x);
  Value power = m.mul(y, m.c(kLog2E));
  // A bound is taken where it is passed: NaN passes none and stays.
  power = k.select(m.greater(power, m.c(126)), m.c(126), power);
  power = k.select(m.less(power, m.c(-126)), m.c(-126), power);
  Nearest n = nearest(m, power, m.c(1));
  // 2^f for |f| <= 1/2, minimax of the relative error: 7.5e-8.
  Value fraction = m.polynomial(m.sub(power, n.value), {1.3276472029e-3, 9.6755414798e-3, 5.5507132746e-2,
                                                        2.4022119721e-1, 6.9314696706e-1, 1.0000000717});
  Value sum = m.add(scaleByPower(m, fraction, n.bits), c);
  Value zeros = m.c(0), all = k.integer(k.b.getI16Type(), -1);
  Value estimate = LLVM::CallIntrinsicOp::create(k.b, k.loc, m.type, k.b.getStringAttr("llvm.x86.avx512.rcp14.ps.512"),
                                                 ValueRange{sum, zeros, all})
                       .getResult(0);
  Value error = m.fma(m.neg(sum), estimate, m.c(1));
  return m.mul(x, m.fma(error, estimate, estimate));
}

Value emitLog(KernelBuilder &k, Value x) {
  Math m = mathFor(k, x);
  // A subnormal is first brought into the normal range.
  Value isTiny = m.less(x, m.c(1.17549435e-38));
  Decomposed parts = decompose(m, k.select(isTiny, m.mul(x, m.c(8388608)), x));
  Value exponent = m.sub(parts.exponent, k.select(isTiny, m.c(23), m.c(0)));
  Value f = m.sub(parts.mantissa, m.c(1));
  Value square = m.mul(f, f);
  Value y = m.mul(m.mul(f, square),
                  m.polynomial(f, {7.0376836292e-2, -1.1514610310e-1, 1.1676998740e-1, -1.2420140846e-1,
                                   1.4249322787e-1, -1.6668057665e-1, 2.0000714765e-1, -2.4999993993e-1,
                                   3.3333331174e-1}));
  y = m.fma(exponent, m.c(kLn2Low), y);
  y = m.fma(square, m.c(-0.5), y);
  y = m.fma(exponent, m.c(kLn2High), m.add(f, y));
  y = k.select(m.compare(arith::CmpFPredicate::OEQ, x, m.c(kInfinity)), x, y);
  y = k.select(m.compare(arith::CmpFPredicate::OEQ, x, m.c(0)), m.c(-kInfinity), y);
  return k.select(m.compare(arith::CmpFPredicate::ULT, x, m.c(0)), m.c(std::numeric_limits<double>::quiet_NaN()), y);
}

Value emitTanh(KernelBuilder &k, Value x) {
  Math m = mathFor(k, x);
  Value size = m.abs(x);
  // 1 - 2 / (e^2|x| + 1) loses nothing once e^2|x| is large; near 0 a polynomial does.
  Value large = m.sub(m.c(1), m.div(m.c(2), m.add(emitExp(k, m.add(size, size)), m.c(1))));
  Value square = m.mul(x, x);
  Value p = m.polynomial(square, {-5.70498872745e-3, 2.06390887954e-2, -5.37397155531e-2, 1.33314422036e-1,
                                  -3.33332819422e-1});
  Value small = m.fma(m.mul(p, square), x, x);
  return k.select(m.less(size, m.c(0.625)), small, m.withSignOf(large, x));
}

Value emitSin(KernelBuilder &k, Value x) { return sinShifted(k, x, 0); }
Value emitCos(KernelBuilder &k, Value x) { return sinShifted(k, x, 1); }

Value emitErf(KernelBuilder &k, Value x32) {
  Value x = extend(k, x32);
  Math m = mathFor(k, x);
  Value square = m.mul(x, x);
  // Cephes, double precision: a rational for erf up to 1, and for e^x^2 erfc(x) beyond; 6 and more are 1 in f32.
  Value t = m.polynomial(square, {9.60497373987051638749e0, 9.00260197203842689217e1, 2.23200534594684319226e3,
                                  7.00332514112805075473e3, 5.55923013010394962768e4});
  Value u = m.polynomial(square, {1.0, 3.35617141647503099647e1, 5.21357949780152679795e2, 4.59432382970980127987e3,
                                  2.26290000613890934246e4, 4.92673942608635921086e4});
  Value small = m.mul(x, m.div(t, u));
  Value size = k.select(m.less(m.abs(x), m.c(6)), m.abs(x), m.c(6));
  Value p = m.polynomial(size, {2.46196981473530512524e-10, 5.64189564831068821977e-1, 7.46321056442269912687e0,
                                4.86371970985681366614e1, 1.96520832956077098242e2, 5.26445194995477358631e2,
                                9.34528527171957607540e2, 1.02755188689515710272e3, 5.57535335369399327526e2});
  Value q = m.polynomial(size, {1.0, 1.32281951154744992508e1, 8.67072140885989742329e1, 3.54937778887819891062e2,
                                9.75708501743205489753e2, 1.82390916687909736289e3, 2.24633760818710981792e3,
                                1.65666309194161350182e3, 5.57535340817727675546e2});
  Value complement = m.mul(expDouble(m, m.neg(m.mul(size, size))), m.div(p, q));
  Value large = m.withSignOf(m.sub(m.c(1), complement), x);
  Value y = k.select(m.less(m.abs(x), m.c(1)), small, large);
  return truncate(k, k.select(m.isNan(x), x, y));
}

Value emitPow(KernelBuilder &k, Value x32, Value y32) {
  Value x = extend(k, x32), y = extend(k, y32);
  Math m = mathFor(k, x);
  auto equal = [&](Value a, Value b) { return m.compare(arith::CmpFPredicate::OEQ, a, b); };
  Value size = m.abs(x);
  // Every f32 but 0 and infinity is normal in f64; those two are put right below.
  Value exponent = m.mul(y, logDouble(m, size));
  Value clamped = k.select(m.less(exponent, m.c(-690)), m.c(-690), exponent);
  clamped = k.select(m.greater(clamped, m.c(690)), m.c(690), clamped);
  Value result = expDouble(m, clamped);
  Value isGrowing = m.greater(y, m.c(0));
  result = k.select(equal(size, m.c(0)), k.select(isGrowing, m.c(0), m.c(kInfinity)), result);
  result = k.select(equal(size, m.c(kInfinity)), k.select(isGrowing, m.c(kInfinity), m.c(0)), result);
  // A negative base: y must be an integer, an odd one keeps the sign.
  Value half = m.mul(y, m.c(0.5));
  Value isWhole = equal(math::FloorOp::create(k.b, k.loc, y), y);
  Value isEven = equal(math::FloorOp::create(k.b, k.loc, half), half);
  Value mirrored = k.select(isEven, result, m.neg(result));
  mirrored = k.select(isWhole, mirrored, m.c(std::numeric_limits<double>::quiet_NaN()));
  result = k.select(m.less(x, m.c(0)), mirrored, result);
  Value isUnordered = m.compare(arith::CmpFPredicate::UNO, x, y);
  result = k.select(isUnordered, m.add(x, y), result);
  result = k.select(equal(y, m.c(0)), m.c(1), result);
  return truncate(k, k.select(equal(x, m.c(1)), m.c(1), result));
}

Value emitRsqrt(KernelBuilder &k, Value x) {
  Math m = mathFor(k, x);
  return m.div(m.c(1), math::SqrtOp::create(k.b, k.loc, x));
}

Value emitRound(KernelBuilder &k, Value x) {
  Math m = mathFor(k, x);
  Value whole = math::TruncOp::create(k.b, k.loc, x);
  Value isFar = m.compare(arith::CmpFPredicate::OGE, m.abs(m.sub(x, whole)), m.c(0.5));
  return k.select(isFar, m.add(whole, m.withSignOf(m.c(1), x)), whole);
}

}  // namespace girih::cpu
