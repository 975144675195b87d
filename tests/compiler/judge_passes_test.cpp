// SPDX-License-Identifier: Apache-2.0
// PassJudge: the ladder of a small model leaves its answer alone, and a pass broken on purpose is named.
#include "compiler/judge_passes.h"

#include "compiler/pipeline.h"
#include "dialects/register.h"
#include "models/build_graph.h"
#include "tests/models/small_checkpoint.h"

#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Transforms/Passes.h"

#include <gmock/gmock.h>

#include <functional>

namespace girih::compiler {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

// Numbers in [-1, 1) that depend on the weight's name: the small checkpoint itself holds zeros.
reference::WeightProvider randomWeights(const weights::WeightStore &store) {
  return [&store](const std::string &name) -> Expected<reference::Tensor> {
    GIRIH_ASSIGN(const weights::StoredTensor *stored, store.require(name));
    reference::Tensor tensor(stored->shape);
    auto state = static_cast<unsigned>(std::hash<std::string>()(name));
    for (int64_t i = 0; i < tensor.numElements(); ++i) {
      state = state * 1664525u + 1013904223u;
      tensor.mutableElements()[i] = static_cast<double>(state >> 8) / (1 << 23) - 1;
    }
    return tensor;
  };
}

class JudgePasses : public ::testing::Test {
protected:
  JudgePasses() : store(models::SmallLlama().open(folder)) {
    mlir::DialectRegistry registry;
    dialect::registerDialects(registry);
    context.appendDialectRegistry(registry);
    context.loadAllAvailableDialects();
    auto built = models::buildGraph(&context, store);
    EXPECT_TRUE(built.isOk()) << built.status().message();
    model = std::move(built).value();
  }
  PassJudge judge() {
    auto created = PassJudge::create(*model.module, randomWeights(store));
    EXPECT_TRUE(created.isOk()) << created.status().message();
    return std::move(created).value();
  }

  weights::TemporaryFolder folder;
  weights::WeightStore store;
  mlir::MLIRContext context;
  models::ImportedModel model;
};

// Multiplies the first small constant, a norm's epsilon, by `factor`.
struct BreakConstantPass : mlir::PassWrapper<BreakConstantPass, mlir::OperationPass<mlir::ModuleOp>> {
  MLIR_DEFINE_EXPLICIT_INTERNAL_INLINE_TYPE_ID(BreakConstantPass)
  explicit BreakConstantPass(double factor) : factor(factor) {}
  llvm::StringRef getArgument() const override { return "break-constant"; }

  void runOnOperation() override {
    getOperation().walk([&](mlir::arith::ConstantOp constant) {
      auto number = mlir::dyn_cast<mlir::FloatAttr>(constant.getValue());
      if (!number || number.getValueAsDouble() < 1e-6 || number.getValueAsDouble() > 1e-4)
        return mlir::WalkResult::advance();
      constant.setValueAttr(mlir::FloatAttr::get(number.getType(), number.getValueAsDouble() * factor));
      return mlir::WalkResult::interrupt();
    });
  }
  double factor;
};

// A mask that lets every token see all others: the comparison of key and query positions always holds.
struct BreakMaskPass : mlir::PassWrapper<BreakMaskPass, mlir::OperationPass<mlir::ModuleOp>> {
  MLIR_DEFINE_EXPLICIT_INTERNAL_INLINE_TYPE_ID(BreakMaskPass)
  llvm::StringRef getArgument() const override { return "break-mask"; }

  void runOnOperation() override {
    getOperation().walk(
        [](mlir::arith::CmpIOp comparison) { comparison->setOperand(1, comparison.getLhs()); });
  }
};

TEST_F(JudgePasses, PassesTheLadder) {
  PassJudge judged = judge();
  mlir::PassManager ladder(&context);
  buildMachineFreeLadder(ladder, {.kvElement = "f16", .maxTokens = {1, 16}});
  Status status = judged.run(ladder);
  EXPECT_TRUE(status.isOk()) << status.message();
  ASSERT_GT(judged.verdicts().size(), 10u);
  for (const Verdict &verdict : judged.verdicts()) {
    bool isRounding = verdict.pass == "girih-insert-kv-cache";
    EXPECT_EQ(verdict.difference > 0, isRounding) << verdict.pass << " " << verdict.difference;
  }
}

TEST_F(JudgePasses, NamesAPassThatChangesAnEpsilon) {
  PassJudge judged = judge();
  mlir::PassManager ladder(&context);
  ladder.addPass(mlir::createCanonicalizerPass());
  ladder.addPass(std::make_unique<BreakConstantPass>(2.0));
  ladder.addPass(mlir::createCSEPass());
  Status status = judged.run(ladder);
  ASSERT_FALSE(status.isOk());
  EXPECT_EQ(status.code(), StatusCode::Internal);
  EXPECT_THAT(std::string(status.message()),
              AllOf(HasSubstr("pass break-constant changed the answer of @main: logit "),
                    HasSubstr("the bound is 1.00e-07")));
  ASSERT_EQ(judged.verdicts().size(), 1u);
  EXPECT_EQ(judged.verdicts()[0].pass, "canonicalize");
}

TEST_F(JudgePasses, NamesAPassThatBreaksTheMask) {
  PassJudge judged = judge();
  mlir::PassManager ladder(&context);
  ladder.addPass(std::make_unique<BreakMaskPass>());
  EXPECT_THAT(std::string(judged.run(ladder).message()), HasSubstr("pass break-mask changed the answer"));
}

TEST_F(JudgePasses, LetsAPassThatChangesNothingPass) {
  PassJudge judged = judge();
  mlir::PassManager ladder(&context);
  ladder.addPass(std::make_unique<BreakConstantPass>(1.0));
  EXPECT_THAT(std::string(judged.run(ladder).message()), IsEmpty());
}

TEST_F(JudgePasses, KeepsOneLayerOfEachKind) {
  EXPECT_EQ(cutToOneLayerOfEachKind(*model.module), 1); // both layers of the small model are alike
  EXPECT_FALSE(model.module->lookupSymbol("layer_1"));
  EXPECT_TRUE(model.module->lookupSymbol("layer_0"));
}

} // namespace
} // namespace girih::compiler
