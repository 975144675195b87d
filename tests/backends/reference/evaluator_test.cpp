// SPDX-License-Identifier: Apache-2.0
// The reference on small functions whose answers are known: op by op, and one op against its decomposition.
#include "backends/reference/evaluator.h"

#include "dialects/register.h"

#include "mlir/IR/MLIRContext.h"
#include "mlir/Parser/Parser.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

namespace girih::reference {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

class Evaluator : public ::testing::Test {
protected:
  Evaluator() {
    dialect::registerDialects(registry);
    context.appendDialectRegistry(registry);
  }

  Expected<std::vector<Tensor>> run(llvm::StringRef text, std::vector<Tensor> arguments) {
    module = mlir::parseSourceString<mlir::ModuleOp>(text, &context);
    EXPECT_TRUE(module);
    return evaluate(*module, "f", std::move(arguments), [](const std::string &name) -> Expected<Tensor> {
      if (name == "w")
        return Tensor({4, 2}, {1, 2, 3, 4, 5, 6, 7, 8});
      return notFound("no weight " + name);
    });
  }
  std::vector<double> values(llvm::StringRef text, std::vector<Tensor> arguments) {
    auto results = run(text, std::move(arguments));
    EXPECT_TRUE(results.isOk()) << (results.isOk() ? "" : results.status().message());
    if (!results.isOk())
      return {};
    const Tensor &result = results->at(0);
    return {result.elements(), result.elements() + result.numElements()};
  }

  mlir::DialectRegistry registry;
  mlir::MLIRContext context;
  mlir::OwningOpRef<mlir::ModuleOp> module;
};

Tensor vector(std::vector<double> elements) {
  auto count = static_cast<int64_t>(elements.size());
  return Tensor({count}, std::move(elements));
}

// Deterministic numbers in [-1, 1).
Tensor numbers(std::vector<int64_t> shape, unsigned seed) {
  Tensor tensor(std::move(shape));
  for (int64_t i = 0; i < tensor.numElements(); ++i) {
    seed = seed * 1664525u + 1013904223u;
    tensor.mutableElements()[i] = static_cast<double>(seed >> 8) / (1 << 23) - 1;
  }
  return tensor;
}

TEST_F(Evaluator, RunsElementwiseGenericsWithIndicesAndSelects) {
  EXPECT_THAT(values(R"(
    func.func @f(%x: tensor<?xf32>) -> tensor<?xf32> {
      %c0 = arith.constant 0 : index
      %n = tensor.dim %x, %c0 : tensor<?xf32>
      %e = tensor.empty(%n) : tensor<?xf32>
      %r = linalg.generic {indexing_maps = [affine_map<(i) -> (i)>, affine_map<(i) -> (i)>],
          iterator_types = ["parallel"]} ins(%x : tensor<?xf32>) outs(%e : tensor<?xf32>) {
      ^bb0(%a: f32, %o: f32):
        %i = linalg.index 0 : index
        %two = arith.constant 2 : index
        %is = arith.cmpi slt, %i, %two : index
        %zero = arith.constant 0.0 : f32
        %s = arith.select %is, %a, %zero : f32
        linalg.yield %s : f32
      } -> tensor<?xf32>
      return %r : tensor<?xf32>
    })",
                     {vector({5, 6, 7})}),
              ElementsAre(5, 6, 0));
}

constexpr char kProduct[] = R"(
  func.func @f(%x: tensor<?x19xf32>, %w: tensor<21x19xf32>) -> tensor<?x21xf32> {
    %c0 = arith.constant 0 : index
    %n = tensor.dim %x, %c0 : tensor<?x19xf32>
    %zero = arith.constant 0.0 : f32
    %e = tensor.empty(%n) : tensor<?x21xf32>
    %init = linalg.fill ins(%zero : f32) outs(%e : tensor<?x21xf32>) -> tensor<?x21xf32>
    %r = linalg.generic {indexing_maps = [affine_map<(t, n, k) -> (t, k)>, affine_map<(t, n, k) -> (n, k)>,
        affine_map<(t, n, k) -> (t, n)>], iterator_types = ["parallel", "parallel", "reduction"]}
        ins(%x, %w : tensor<?x19xf32>, tensor<21x19xf32>) outs(%init : tensor<?x21xf32>) {
    ^bb0(%a: f32, %b: f32, %o: f32):
      %p = arith.mulf %a, %b : f32
      BODY
      linalg.yield %s : f32
    } -> tensor<?x21xf32>
    return %r : tensor<?x21xf32>
  })";

TEST_F(Evaluator, GivesTheSameBitsForAContractionAndItsInterpretedBody) {
  auto withBody = [](std::string body) {
    std::string text = kProduct;
    return text.replace(text.find("BODY"), 4, body);
  };
  std::vector<Tensor> arguments = {numbers({3, 19}, 1), numbers({21, 19}, 2)};
  std::vector<double> fast = values(withBody("%s = arith.addf %o, %p : f32"), arguments);
  // The negations cancel, but the body is none that the contraction's loops know.
  std::vector<double> slow =
      values(withBody("%m = arith.negf %p : f32\n %q = arith.negf %m : f32\n %s = arith.addf %o, %q : f32"),
             arguments);
  EXPECT_EQ(fast, slow);
  EXPECT_EQ(fast.size(), 63u);
}

TEST_F(Evaluator, FindsReadsOfWhatNobodyWrote) {
  EXPECT_TRUE(std::isnan(values(R"(
    func.func @f() -> tensor<1xf32> {
      %e = tensor.empty() : tensor<1xf32>
      return %e : tensor<1xf32>
    })",
                                {})[0]));
}

TEST_F(Evaluator, SlicesAndInserts) {
  EXPECT_THAT(values(R"(
    func.func @f(%x: tensor<2x3xf32>) -> tensor<2x3xf32> {
      %a = tensor.extract_slice %x[0, 1] [2, 1] [1, 1] : tensor<2x3xf32> to tensor<2xf32>
      %r = tensor.insert_slice %a into %x[0, 0] [2, 1] [1, 1] : tensor<2xf32> into tensor<2x3xf32>
      return %r : tensor<2x3xf32>
    })",
                     {Tensor({2, 3}, {1, 2, 3, 4, 5, 6})}),
              ElementsAre(2, 2, 3, 5, 5, 6));
}

TEST_F(Evaluator, RunsLoopsAndParallelInserts) {
  EXPECT_THAT(values(R"(
    func.func @f(%x: tensor<4xf32>) -> tensor<4xf32> {
      %c1 = arith.constant 1 : index
      %c3 = arith.constant 3 : index
      %y = scf.for %i = %c1 to %c3 step %c1 iter_args(%a = %x) -> tensor<4xf32> {
        %b = arith.addf %a, %x : tensor<4xf32>
        scf.yield %b : tensor<4xf32>
      }
      %z = scf.forall (%i) = (0) to (4) step (2) shared_outs(%o = %y) -> tensor<4xf32> {
        %s = tensor.extract_slice %x[%i] [2] [1] : tensor<4xf32> to tensor<2xf32>
        %j = affine.apply affine_map<(i) -> (2 - i)>(%i)
        scf.forall.in_parallel {
          tensor.parallel_insert_slice %s into %o[%j] [2] [1] : tensor<2xf32> into tensor<4xf32>
        }
      }
      %r = arith.addf %y, %z : tensor<4xf32>
      return %r : tensor<4xf32>
    })",
                     {vector({1, 2, 3, 4})}),
              ElementsAre(6, 10, 10, 14));
}

TEST_F(Evaluator, RoundsAnglesToF32) {
  double angle = 600 * 0.7;
  EXPECT_EQ(values(R"(
    func.func @f(%x: tensor<1xf32>) -> tensor<1xf32> {
      %r = math.sin %x : tensor<1xf32>
      return %r : tensor<1xf32>
    })",
                   {vector({angle})})[0],
            std::sin(static_cast<double>(static_cast<float>(angle))));
}

TEST_F(Evaluator, MultipliesByRowsOfStoredWeights) {
  EXPECT_THAT(values(R"(
    func.func @f(%x: tensor<1x2xf32>, %init: tensor<1x8xf32>) -> tensor<1x8xf32> {
      %w = girih.weight "w" : tensor<4x2xf32, #girih.storage<"f32">>
      %c = girih.concat_rows %w, %w interleave 2 : (tensor<4x2xf32, #girih.storage<"f32">>,
          tensor<4x2xf32, #girih.storage<"f32">>) -> tensor<8x2xf32, #girih.storage<"f32">>
      %y = girih.qmatmul ins(%x, %c : tensor<1x2xf32>, tensor<8x2xf32, #girih.storage<"f32">>)
          outs(%init : tensor<1x8xf32>) -> tensor<1x8xf32>
      return %y : tensor<1x8xf32>
    })",
                     {Tensor({1, 2}, {1, 10}), Tensor({1, 8})}),
              ElementsAre(21, 43, 21, 43, 65, 87, 65, 87));
}

TEST_F(Evaluator, AttendsThroughTheCacheAsWithGivenKeys) {
  std::vector<Tensor> arguments = {numbers({5, 4, 2}, 1), numbers({5, 2, 2}, 2), numbers({5, 2, 2}, 3),
                                   Tensor({5, 4, 2})};
  std::vector<double> given = values(R"(
    func.func @f(%q: tensor<5x4x2xf32>, %k: tensor<5x2x2xf32>, %v: tensor<5x2x2xf32>, %i: tensor<5x4x2xf32>)
        -> tensor<5x4x2xf32> {
      %o = girih.attention ins(%q : tensor<5x4x2xf32>) keys(%k, %v : tensor<5x2x2xf32>, tensor<5x2x2xf32>)
          outs(%i : tensor<5x4x2xf32>) {scale = 0.5 : f32, window = 3 : i64, soft_cap = 2.0 : f32} -> tensor<5x4x2xf32>
      return %o : tensor<5x4x2xf32>
    })",
                                     arguments);
  std::vector<double> cached = values(R"(
    func.func @f(%q: tensor<5x4x2xf32>, %k: tensor<5x2x2xf32>, %v: tensor<5x2x2xf32>, %i: tensor<5x4x2xf32>)
        -> tensor<5x4x2xf32> {
      %kv = girih.kv_layer 0 : !girih.kv<2, 2, 2, f32>
      %next = girih.kv_append %k, %v into %kv : tensor<5x2x2xf32>, tensor<5x2x2xf32>, !girih.kv<2, 2, 2, f32>
      %o = girih.attention ins(%q : tensor<5x4x2xf32>) cache(%next : !girih.kv<2, 2, 2, f32>)
          outs(%i : tensor<5x4x2xf32>) {scale = 0.5 : f32, window = 3 : i64, soft_cap = 2.0 : f32} -> tensor<5x4x2xf32>
      return %o : tensor<5x4x2xf32>
    })",
                                      arguments);
  EXPECT_EQ(given, cached);
  // The first token sees itself only, so that its answer is its own value: head 0 has kv head 0.
  EXPECT_EQ(given[0], arguments[2].elements()[0]);
  EXPECT_EQ(given[6], arguments[2].elements()[2]);
}

// A tiled step appends and attends inside loops over tiles, whose bodies each name the layer's cache.
TEST_F(Evaluator, SharesACacheBetweenTiles) {
  EXPECT_THAT(
      values(R"(
    func.func @f(%q: tensor<4x2x1xf32>, %k: tensor<4x1x1xf32>, %v: tensor<4x1x1xf32>, %i: tensor<4x2x1xf32>)
        -> tensor<4x2x1xf32> {
      %c0 = arith.constant 0 : index
      %c1 = arith.constant 1 : index
      scf.forall (%t) = (0) to (4) step (2) {
        %kv = girih.kv_layer 3 : !girih.kv<1, 1, 1, f32>
        %kt = tensor.extract_slice %k[%t, 0, 0] [2, 1, 1] [1, 1, 1] : tensor<4x1x1xf32> to tensor<2x1x1xf32>
        %vt = tensor.extract_slice %v[%t, 0, 0] [2, 1, 1] [1, 1, 1] : tensor<4x1x1xf32> to tensor<2x1x1xf32>
        %n = girih.kv_append %kt, %vt into %kv[%t] : tensor<2x1x1xf32>, tensor<2x1x1xf32>, !girih.kv<1, 1, 1, f32>
      }
      %kv = girih.kv_layer 1[%c1] {stride = 2 : i64} : !girih.kv<1, 1, 1, f32>
      %o = scf.forall (%t) = (0) to (4) step (2) shared_outs(%s = %i) -> tensor<4x2x1xf32> {
        %qt = tensor.extract_slice %q[%t, 0, 0] [2, 2, 1] [1, 1, 1] : tensor<4x2x1xf32> to tensor<2x2x1xf32>
        %it = tensor.extract_slice %s[%t, 0, 0] [2, 2, 1] [1, 1, 1] : tensor<4x2x1xf32> to tensor<2x2x1xf32>
        %ot = girih.attention ins(%qt : tensor<2x2x1xf32>) cache(%kv[%t, %c0] : !girih.kv<1, 1, 1, f32>)
            outs(%it : tensor<2x2x1xf32>) {scale = 1.0 : f32} -> tensor<2x2x1xf32>
        scf.forall.in_parallel {
          tensor.parallel_insert_slice %ot into %s[%t, 0, 0] [2, 2, 1] [1, 1, 1]
              : tensor<2x2x1xf32> into tensor<4x2x1xf32>
        }
      }
      return %o : tensor<4x2x1xf32>
    })",
             {Tensor({4, 2, 1}), numbers({4, 1, 1}, 1), Tensor({4, 1, 1}, {3, 5, 7, 9}), Tensor({4, 2, 1})}),
      ElementsAre(3, 3, 4, 4, 5, 5, 6, 6)); // queries of 0: the mean of the values so far
}

TEST_F(Evaluator, StacksTheWeightsOfALayer) {
  EXPECT_THAT(values(R"(
    func.func @f(%layer: index) -> tensor<8x2xf32> {
      %w = girih.layer_weight %layer [["none"], ["w", "w"]] {interleave = 2 : i64} : tensor<8x2xf32>
      return %w : tensor<8x2xf32>
    })",
                     {Tensor({}, {1})}),
              ElementsAre(1, 2, 3, 4, 1, 2, 3, 4, 5, 6, 7, 8, 5, 6, 7, 8));
}

TEST_F(Evaluator, NamesAnOpItDoesNotKnow) {
  auto result = run(R"(
    func.func @f(%x: tensor<2xf32>) -> tensor<2xf32> {
      %r = math.atan %x : tensor<2xf32>
      return %r : tensor<2xf32>
    })",
                    {vector({1, 2})});
  ASSERT_FALSE(result.isOk());
  EXPECT_EQ(result.status().code(), StatusCode::Unimplemented);
  EXPECT_THAT(std::string(result.status().message()), HasSubstr("'math.atan'"));
}

TEST_F(Evaluator, RefusesExtentsThatContradictEachOther) {
  auto result = run(R"(
    func.func @f(%x: tensor<?xf32>, %y: tensor<?xf32>) -> tensor<?xf32> {
      %r = linalg.generic {indexing_maps = [affine_map<(i) -> (i)>, affine_map<(i) -> (i)>],
          iterator_types = ["parallel"]} ins(%x : tensor<?xf32>) outs(%y : tensor<?xf32>) {
      ^bb0(%a: f32, %o: f32):
        linalg.yield %a : f32
      } -> tensor<?xf32>
      return %r : tensor<?xf32>
    })",
                    {vector({1, 2}), vector({1, 2, 3})});
  ASSERT_FALSE(result.isOk());
  EXPECT_THAT(std::string(result.status().message()), HasSubstr("loop 0 has extents 2 and 3"));
}

TEST_F(Evaluator, RefusesRowsBeyondTheTable) {
  auto result = run(R"(
    func.func @f(%t: tensor<1xi32>, %s: tensor<3x2xf32>, %i: tensor<1x2xf32>) -> tensor<1x2xf32> {
      %x = girih.gather_rows ins(%t, %s : tensor<1xi32>, tensor<3x2xf32>) outs(%i : tensor<1x2xf32>) -> tensor<1x2xf32>
      return %x : tensor<1x2xf32>
    })",
                    {vector({3}), Tensor({3, 2}), Tensor({1, 2})});
  ASSERT_FALSE(result.isOk());
  EXPECT_THAT(std::string(result.status().message()), HasSubstr("row 3; the source has 3"));
}

} // namespace
} // namespace girih::reference
