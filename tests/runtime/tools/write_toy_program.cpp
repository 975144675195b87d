// SPDX-License-Identifier: Apache-2.0
// girih-write-toy PATH [bare|untrue|foreign]: the toy model with a tokenizer of bytes and a template, for tests of the command line.
#include "compiler/emit/program_writer.h"
#include "runtime/text/tokenizer.h"
#include "tests/runtime/program/toy_program.h"
#include "tests/runtime/server/fake_engine.h"

#include <cstdio>
#include <cstring>

using namespace girih;

namespace {

// Answers from the toy's few lines of C++, not from its compiled step. `untrue` ones must be found out.
program::Golden makeGolden(const girih::testing::ToyOptions &options, bool isUntrue) {
  program::Golden golden;
  golden.promptTokens = {72, 105, 33};
  golden.outputTokens = girih::testing::toyGreedy(golden.promptTokens, 5, options);
  std::vector<float> logits = girih::testing::toyLogits(golden.promptTokens, options);
  for (int32_t id = 0; id < 8; ++id) {
    golden.logitsIndex.push_back(id);
    golden.logits.push_back(logits[static_cast<size_t>(id)]);
  }
  golden.logits.back() += isUntrue ? 1.0f : 0.0f;
  golden.tolerance = 1e-4f;
  golden.source = "toy reference";
  return golden;
}

}  // namespace

int main(int argc, char **argv) {
  if (argc < 2)
    return 2;
  std::string kind = argc > 2 ? argv[2] : "";
  girih::testing::ToyOptions options;
  options.vocabSize = 257;
  options.maxPositions = 2048;
  std::vector<uint8_t> image = girih::testing::readWholeFile(TOY_IMAGE), otherImage = girih::testing::readWholeFile(TOY_OTHER_IMAGE);
  program::Tables tables = girih::testing::toyTables(options, image, otherImage);
  tables.goldens.push_back(makeGolden(options, kind == "untrue"));
  tables.notes.push_back({"toy", "no layer here is real"});
  tables.dispatches.push_back({"toy_dispatch", "baseline", "girih_step_toy", "rows 1", "plain", "", 1e-6, 0.0, 100, 200, "memory", 4096, "L1"});

  // For the least backend of tests/runtime/abi: an entry is the byte that it fills the logits with.
  std::vector<uint8_t> fills(tables.executables[0].entries.size(), 0x3f);
  if (kind == "small")
    for (program::Executable &executable : tables.executables) {
      executable.backend = "small";
      executable.format = "fills";
      executable.image = fills;
    }
  if (kind == "foreign")
    for (program::Executable &executable : tables.executables) {
      executable.isa = "vax780";
      executable.requiredFeatures = {"packed_decimal"};
    }

  server::ServedModel fake = server::fakeModel({});
  auto stored = fake.tokenizer->serialize();
  if (kind != "bare") {
    tables.tokenizer.kind = fake.tokenizer->kind();
    tables.tokenizer.payload = {reinterpret_cast<const uint8_t *>(stored.data()), stored.size()};
    tables.tokenizer.eosTokens = {server::FakeEngine::kEndToken};
    tables.chatTemplate = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}";
    tables.eosText = "<|end|>";
  }

  auto writer = compiler::ProgramWriter::create(argv[1]);
  if (!writer.isOk())
    return 1;
  uint32_t words[2] = {options.vocabSize, options.salt};
  std::vector<uint8_t> bytes(sizeof(words));
  std::memcpy(bytes.data(), words, sizeof(words));
  program::Tensor tensor;
  tensor.name = "toy.weights";
  tensor.shape = {2};
  tensor.storage = "u32";
  tensor.layout = "toy:raw";
  tensor.treatment = "kept, lossless";
  tensor.offsetBytes = compiler::ProgramWriter::kNextOffset;
  auto offset = (*writer)->addTensor(tensor, bytes);
  Status status = offset.isOk() ? (*writer)->finish(tables) : std::move(offset).status();
  if (!status.isOk())
    std::fprintf(stderr, "%s\n", std::string(status.message()).c_str());
  return status.isOk() ? 0 : 1;
}
