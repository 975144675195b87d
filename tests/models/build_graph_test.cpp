// SPDX-License-Identifier: Apache-2.0
// The graph that buildGraph makes of small checkpoints, and the checkpoints it refuses.
#include "models/build_graph.h"

#include "tests/models/small_checkpoint.h"

#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/SymbolTable.h"

#include <gmock/gmock.h>

namespace girih::models {
namespace {

using ::testing::HasSubstr;
using ::testing::Not;
using weights::TemporaryFolder;

std::string printed(mlir::Operation *op, bool withLocations = false) {
  std::string text;
  llvm::raw_string_ostream stream(text);
  op->print(stream, mlir::OpPrintingFlags().enableDebugInfo(withLocations, true));
  return text;
}

std::string refusal(const weights::WeightStore &store) {
  mlir::MLIRContext context;
  auto model = buildGraph(&context, store);
  return model.isOk() ? "" : std::string(model.status().message());
}

TEST(BuildGraph, MakesAFunctionALayer) {
  TemporaryFolder folder;
  mlir::MLIRContext context;
  auto store = SmallLlama().open(folder);
  auto model = buildGraph(&context, store);
  ASSERT_TRUE(model.isOk()) << model.status().message();
  mlir::SymbolTable symbols(*model->module);
  for (const char *name : {"main", "embed", "rotary", "layer_0", "layer_1", "head"}) {
    auto function = symbols.lookup<mlir::func::FuncOp>(name);
    ASSERT_TRUE(function) << name;
    EXPECT_EQ(function.isPublic(), std::string(name) == "main");
  }
  EXPECT_TRUE(symbols.lookup("main")->hasAttr("girih.model"));
}

TEST(BuildGraph, KeepsNamesAndStorageOfTheCheckpoint) {
  TemporaryFolder folder;
  mlir::MLIRContext context;
  auto store = SmallGguf().open(folder);
  auto model = buildGraph(&context, store);
  ASSERT_TRUE(model.isOk()) << model.status().message();
  mlir::Operation *layer = mlir::SymbolTable(*model->module).lookup("layer_1");
  EXPECT_THAT(printed(layer),
              HasSubstr(R"(girih.weight "blk.1.attn_q.weight" : tensor<8x8xf32, #girih.storage<"f32">>)"));
  EXPECT_THAT(printed(layer), HasSubstr(R"(girih.rope = "interleaved")"));
  EXPECT_THAT(printed(layer, true), HasSubstr(R"("model.layers.1.self_attn.q_proj")"));
}

TEST(BuildGraph, ReadsTheEmbeddingTwiceWhenTied) {
  TemporaryFolder folder;
  mlir::MLIRContext context;
  SmallLlama llama;
  llama.fields["tie_word_embeddings"] = "true";
  std::erase_if(llama.tensors, [](const SmallTensor &tensor) { return tensor.name == "lm_head.weight"; });
  auto store = llama.open(folder);
  auto model = buildGraph(&context, store);
  ASSERT_TRUE(model.isOk()) << model.status().message();
  mlir::Operation *head = mlir::SymbolTable(*model->module).lookup("head");
  EXPECT_THAT(printed(head), HasSubstr(R"(girih.weight "model.embed_tokens.weight")"));
  EXPECT_THAT(printed(head), Not(HasSubstr("lm_head.weight")));
}

TEST(BuildGraph, NamesAMissingTensor) {
  TemporaryFolder folder;
  SmallLlama llama;
  std::erase_if(llama.tensors,
                [](const SmallTensor &tensor) { return tensor.name == "model.layers.1.mlp.up_proj.weight"; });
  EXPECT_THAT(refusal(llama.open(folder)), HasSubstr("model.layers.1.mlp.up_proj.weight"));
}

TEST(BuildGraph, NamesATensorOfAnotherShape) {
  TemporaryFolder folder;
  SmallLlama llama;
  llama.tensor("model.layers.0.self_attn.k_proj.weight").shape = {8, 8};
  EXPECT_THAT(
      refusal(llama.open(folder)),
      HasSubstr("\"model.layers.0.self_attn.k_proj.weight\" has shape [8, 8]; the config asks for [4, 8]"));
}

TEST(BuildGraph, RefusesTensorsThatNothingReads) {
  TemporaryFolder folder;
  SmallLlama llama;
  llama.tensor("model.layers.0.self_attn.q_norm.weight").shape = {2};
  llama.tensor("model.layers.0.self_attn.rotary_emb.inv_freq").shape = {1}; // a buffer older writers store
  EXPECT_THAT(refusal(llama.open(folder)), HasSubstr("1 tensors that the graph of family llama does not use: "
                                                     "\"model.layers.0.self_attn.q_norm.weight\""));
}

} // namespace
} // namespace girih::models
