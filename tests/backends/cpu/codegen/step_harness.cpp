// SPDX-License-Identifier: Apache-2.0
// StepHarness: implementation.
#include "tests/backends/cpu/codegen/step_harness.h"

#include "backends/cpu/codegen/backend.h"
#include "backends/cpu/codegen/passes.h"
#include "backends/cpu/device/features.h"
#include "dialects/register.h"

#include "mlir/IR/MLIRContext.h"
#include "mlir/Parser/Parser.h"

#include <atomic>
#include <dlfcn.h>
#include <immintrin.h>
#include <sys/mman.h>
#include <thread>
#include <unistd.h>

namespace girih::cpu::test {

namespace {

// Every thread waits until all have come; a test's team may be slower than the runtime's.
struct Team {
  int numThreads = 1;
  std::atomic<int64_t> arrived{0};

  static void barrier(void *team, int64_t) {
    auto *self = static_cast<Team *>(team);
    int64_t ticket = self->arrived.fetch_add(1);
    int64_t target = (ticket / self->numThreads + 1) * self->numThreads;
    for (int spins = 0; self->arrived.load() < target; ++spins) {
      _mm_pause();
      if (spins >= 4096)
        std::this_thread::yield();
    }
  }
};

}  // namespace

Expected<std::unique_ptr<Step>> Step::compile(const std::string &text, const std::string &isa) {
  GIRIH_ASSIGN(CpuTarget target, cpuTarget(isa));
  (void)requestTiles();  // a step with tiles would not run without
  mlir::DialectRegistry registry;
  dialect::registerDialects(registry);
  registerCpuDialects(registry);
  mlir::MLIRContext context(registry, mlir::MLIRContext::Threading::DISABLED);
  auto module = mlir::parseSourceString<mlir::ModuleOp>(text, &context);
  if (!module)
    return invalidArgument("the test's module does not parse");
  GIRIH_ASSIGN(StepImage image, compileStepModule(*module, target));
  auto step = std::make_unique<Step>();
  step->bytes = std::move(image.bytes);
  int file = memfd_create("step", 0);
  if (file < 0 || write(file, step->bytes.data(), step->bytes.size()) != static_cast<ssize_t>(step->bytes.size()))
    return internalError("memfd");
  step->library = dlopen(("/proc/self/fd/" + std::to_string(file)).c_str(), RTLD_NOW | RTLD_LOCAL);
  close(file);
  if (!step->library)
    return internalError(dlerror());
  return step;
}

Step::~Step() {
  if (library)
    dlclose(library);
}

void Step::run(StepData &data, int numThreads, const std::string &entry) const {
  auto function = reinterpret_cast<girih_step_fn>(dlsym(library, entry.c_str()));
  GIRIH_CHECK(function != nullptr);
  Team team;
  team.numThreads = numThreads;
  girih_step_args args = {};
  args.struct_size = sizeof(args);
  args.num_tokens = data.numTokens;
  args.num_sequences = data.numSequences;
  args.num_logit_rows = static_cast<int64_t>(data.logitRows.size());
  args.tokens = data.tokens.data();
  args.positions = data.positions.data();
  args.token_sequences = data.tokenSequences.data();
  args.kv_slots = data.kvSlots.data();
  args.sequence_starts = data.sequenceStarts.data();
  args.context_lengths = data.contextLengths.data();
  args.block_tables = data.blockTables.data();
  args.block_table_stride = data.blockTableStride;
  args.logit_rows = data.logitRows.data();
  args.logits = data.logits.data();
  args.weights = data.weights.data();
  args.kv_pool = data.kvPool.data();
  args.arena = data.arena.data();
  args.barrier = &Team::barrier;
  args.team = &team;
  std::vector<std::thread> threads;
  for (int thread = 1; thread < numThreads; ++thread)
    threads.emplace_back([&, thread] {
      _mm_setcsr(data.controlWord);
      function(&args, thread, numThreads);
    });
  unsigned saved = _mm_getcsr();
  _mm_setcsr(data.controlWord);
  function(&args, 0, numThreads);
  _mm_setcsr(saved);
  for (std::thread &thread : threads)
    thread.join();
}

std::vector<std::string> runnableIsas() {
  std::vector<std::string> granted = grantedFeatures(), isas;
  for (const char *isa : {"avx2", "avx512", "amx"})
    if (llvm::all_of(cpuTarget(isa).value().required,
                     [&](const std::string &feature) { return llvm::is_contained(granted, feature); }))
      isas.push_back(isa);
  return isas;
}

}  // namespace girih::cpu::test
