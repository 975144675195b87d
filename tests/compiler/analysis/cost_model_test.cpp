// SPDX-License-Identifier: Apache-2.0
// The cost model: a prediction follows each fact of #machine, the context, and what was counted.
#include "compiler/analysis/cost_model.h"

#include "dialects/machine/json.h"
#include "dialects/register.h"

#include "mlir/IR/BuiltinOps.h"
#include "mlir/Parser/Parser.h"

#include <gtest/gtest.h>

namespace girih::compiler {
namespace {

using mlir::MLIRContext;

// 4 MB of weights, a step that all of it and 64 MB of others pass by; then attention over the cache.
constexpr const char *kModule = R"mlir(
module attributes {girih.weight_bytes = 67108864 : i64, girih.kv_block_bytes = 12288 : i64} {
  func.func @step(%zero: index, %rows: index) {
    %x = girih.buffer_at "arena"[%zero] rows %rows : memref<?x2048xf32>
    %y = girih.buffer_at "arena"[%zero] rows %rows : memref<?x4096xf32>
    %w = girih.packed_at %zero : !girih.packed<4096 x 2048, "p16:u4,f16,f16,32">
    scf.forall (%i) = (0) to (4096) step (32) {
      %tile = memref.subview %y[0, %i] [%rows, 32] [1, 1] : memref<?x4096xf32> to memref<?x32xf32, strided<[4096, 1], offset: ?>>
      girih.qmatmul ins(%x, %w[%i] : memref<?x2048xf32>, !girih.packed<4096 x 2048, "p16:u4,f16,f16,32">)
          outs(%tile : memref<?x32xf32, strided<[4096, 1], offset: ?>>)
          {strategy = "direct", row_tile = 1 : i64, column_tile = 32 : i64}
    } {girih.dispatch = "matmul"}
    return
  }
})mlir";

constexpr const char *kMachine =
    R"json({"name": "test", "kind": "cpu", "cores": 2, "clock_mhz": 2000, "barrier_ns": 300,
  "levels": [
    {"name": "L1", "size_bytes": 32768, "bytes_per_cycle": 128, "latency_cycles": 5, "shared_by": 1, "source": "test"},
    {"name": "L2", "size_bytes": 1048576, "bytes_per_cycle": 32, "latency_cycles": 15, "shared_by": 1, "source": "test"},
    {"name": "L3", "size_bytes": 33554432, "bytes_per_cycle": 8, "latency_cycles": 70, "shared_by": 2, "source": "test"},
    {"name": "memory", "size_bytes": 1099511627776, "bytes_per_cycle": 4, "latency_cycles": 300, "shared_by": 2, "source": "test"}],
  "units": [
    {"name": "fma", "element": "f32", "lanes": 16, "per_cycle": 2, "latency_cycles": 4, "registers": 32, "source": "test"},
    {"name": "matrix", "element": "bf16", "lanes": 512, "per_cycle": 1, "latency_cycles": 52, "registers": 8, "source": "test",
     "tile": {"rows": 16, "columns": 16, "depth": 32}}]})json";

class CostModel : public ::testing::Test {
protected:
  CostModel() {
    mlir::DialectRegistry registry;
    dialect::registerDialects(registry);
    context.appendDialectRegistry(registry);
    context.loadAllAvailableDialects();
    module = mlir::parseSourceString<mlir::ModuleOp>(kModule, &context);
    EXPECT_TRUE(module);
    module->walk([&](mlir::scf::ForallOp op) { loop = op; });
  }

  // The machine with one text in its JSON replaced by another.
  DispatchCost cost(std::optional<CountedWork> work, const std::string &from = "", const std::string &to = "",
                    BatchShape batch = {1, 1, 0}) {
    std::string json = kMachine, error;
    size_t at = json.find(from);
    EXPECT_NE(at, std::string::npos) << from;
    json.replace(at, from.size(), to);
    machine::DescriptionAttr machine = machine::parseJson(&context, json, error);
    EXPECT_TRUE(machine) << error;
    return estimateDispatch(loop, batch, machine, work);
  }

  MLIRContext context;
  mlir::OwningOpRef<mlir::ModuleOp> module;
  mlir::scf::ForallOp loop;
};

// Nearly nothing to compute: the weights' 5 MB (4 bits and two halves for each 32) from memory, 8 bytes a cycle of 2 GHz.
TEST_F(CostModel, IsTheTimeOfReadingWhereNothingElseTakesLong) {
  CountedWork idle{128, 64, 0, 64, 64};
  DispatchCost streamed = cost(idle);
  EXPECT_TRUE(streamed.isMemoryBound);
  EXPECT_NEAR(streamed.seconds, 4096 * 2048 * (0.5 + 4.0 / 32) / 16e9, 0.02 * streamed.seconds);
  EXPECT_NEAR(cost(idle, "\"bytes_per_cycle\": 4", "\"bytes_per_cycle\": 2").seconds, 2 * streamed.seconds,
              0.02 * streamed.seconds);
  // A step that fits the third level is read from there.
  EXPECT_NEAR(cost(idle, "33554432", "134217728").seconds, streamed.seconds / 2, 0.02 * streamed.seconds);
}

// One unit is read by one core, and its first line is waited for.
TEST_F(CostModel, WaitsForWhatComesFirst) {
  CountedWork one{1, 64, 0, 64, 64}, idle{128, 64, 0, 64, 64};
  EXPECT_NEAR(cost(one).memorySeconds, 2 * cost(idle).memorySeconds, 0.02 * cost(one).memorySeconds);
  EXPECT_NEAR(cost(idle, "\"latency_cycles\": 300", "\"latency_cycles\": 2300").memorySeconds,
              cost(idle).memorySeconds + 1e-6, 1e-9);
}

TEST_F(CostModel, FollowsEachUnit) {
  CountedWork vectors{128, 1e9, 0, 64, 64}, tiles{128, 64, 1e6, 64, 64};
  double before = cost(vectors).computeSeconds;
  EXPECT_NEAR(cost(vectors, "\"lanes\": 16", "\"lanes\": 8").computeSeconds, 2 * before, 1e-9);
  EXPECT_NEAR(cost(vectors, "\"per_cycle\": 2", "\"per_cycle\": 1").computeSeconds, 2 * before, 1e-9);
  EXPECT_NEAR(cost(vectors, "\"clock_mhz\": 2000", "\"clock_mhz\": 1000").computeSeconds, 2 * before, 1e-9);
  EXPECT_NEAR(cost(vectors, "\"cores\": 2", "\"cores\": 1").computeSeconds, 2 * before, 1e-9);
  // 16 cycles a product, on two cores of 2 GHz.
  EXPECT_NEAR(cost(tiles).computeSeconds, 1e6 * 16 / 4e9, 1e-7);
  EXPECT_NEAR(cost(tiles, "\"lanes\": 512", "\"lanes\": 256").computeSeconds, 1e6 * 32 / 4e9, 1e-7);
}

TEST_F(CostModel, FollowsWhereOperandsLie) {
  CountedWork loads{128, 64, 0, 1e9, 64};
  DispatchCost near = cost(loads);
  EXPECT_EQ(near.level, "L1");
  DispatchCost far = cost(loads, "32768", "4096"); // a row of x and of y no longer fit
  EXPECT_EQ(far.level, "L2");
  EXPECT_NEAR(far.computeSeconds, 4 * near.computeSeconds, 1e-9);
}

TEST_F(CostModel, FollowsMeetingsUnitsAndWhatOverlaps) {
  CountedWork idle{128, 64, 0, 64, 64}, both{128, 1e7, 0, 64, 64};
  EXPECT_NEAR(cost(idle, "\"barrier_ns\": 300", "\"barrier_ns\": 1300").seconds, cost(idle).seconds + 1e-6,
              1e-9);
  // One unit occupies one core; three take two rounds.
  CountedWork one{1, 1e9, 0, 64, 64}, two{2, 1e9, 0, 64, 64}, three{3, 1e9, 0, 64, 64};
  EXPECT_NEAR(cost(one).computeSeconds, 2 * cost(two).computeSeconds, 1e-9);
  EXPECT_NEAR(cost(three).computeSeconds, 4.0 / 3 * cost(two).computeSeconds, 1e-9);
  // What computes while it reads takes longer than the longer of them, and less than both.
  DispatchCost mixed = cost(both);
  EXPECT_GT(mixed.seconds, std::max(mixed.memorySeconds, mixed.computeSeconds) + 300e-9);
  EXPECT_LT(mixed.seconds, mixed.memorySeconds + mixed.computeSeconds + 300e-9);
}

TEST_F(CostModel, EstimatesFromOperationsWhereNothingWasCounted) {
  DispatchCost few = cost(std::nullopt), many = cost(std::nullopt, "", "", {512, 1, 0});
  EXPECT_DOUBLE_EQ(few.operations, 2.0 * 4096 * 2048);
  EXPECT_NEAR(many.computeSeconds, 512 * few.computeSeconds, 1e-9);
  EXPECT_FALSE(many.isMemoryBound);
}

} // namespace
} // namespace girih::compiler
