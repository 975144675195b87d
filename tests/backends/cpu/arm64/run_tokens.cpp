// SPDX-License-Identifier: Apache-2.0
// run_tokens PROGRAM TOKENS MAX_TOKENS LOGITS [ISA [THREADS]]: greedy generation from token ids by the runtime's engine, as
// `girih run --tokens` does it. Prints the variant that ran, V and the output's ids; LOGITS takes f32 [positions, V].
#include "runtime/engine/engine.h"

#include <cstdio>
#include <cstdlib>
#include <fstream>
#include <sstream>

using namespace girih;

static int fail(const Status &status) {
  std::fprintf(stderr, "run_tokens: %s\n", std::string(status.message()).c_str());
  return 1;
}

int main(int argc, char **argv) {
  if (argc < 5)
    return fail(invalidArgument("usage: run_tokens PROGRAM TOKENS MAX_TOKENS LOGITS [ISA [THREADS]]"));
  auto program = program::Program::open(argv[1]);
  if (!program.isOk())
    return fail(program.status());
  engine::EngineOptions options;
  options.isa = argc > 5 ? argv[5] : "";
  options.numThreads = argc > 6 ? std::atoi(argv[6]) : 1;
  auto engine = engine::Engine::create(*program, options);
  if (!engine.isOk())
    return fail(engine.status());
  engine::Request request;
  std::istringstream ids(argv[2]);
  for (std::string id; std::getline(ids, id, ',');)
    request.promptTokens.push_back(std::atoi(id.c_str()));
  request.maxTokens = static_cast<uint32_t>(std::atoi(argv[3]));
  request.stopTokens = (*program)->tables().tokenizer.eosTokens;
  request.wantLogits = true;
  auto completion = engine::generate(**engine, request);
  if (!completion.isOk())
    return fail(completion.status());
  std::ofstream logits(argv[4], std::ios::binary);
  logits.write(reinterpret_cast<const char *>(completion->logits.data()),
               static_cast<std::streamsize>(completion->logits.size() * sizeof(float)));
  std::printf("%s\n%u\n", (*engine)->executable().isa.c_str(), (*program)->model().vocabSize);
  for (size_t index = 0; index < completion->tokens.size(); ++index)
    std::printf("%s%d", index ? "," : "", completion->tokens[index]);
  std::printf("\n");
  return logits.flush().good() ? 0 : 1;
}
