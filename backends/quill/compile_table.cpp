// SPDX-License-Identifier: Apache-2.0
// The compile table and the query: quill as data, and kernels as C99.
#include "kernel_compiler.h"
#include "tables.h"

#include <algorithm>
#include <cstring>
#include <memory>
#include <string_view>

struct girih_artifact {
  std::vector<uint8_t> image;
  std::vector<std::string> names;
  std::vector<const char *> symbols;
};

namespace quill {
namespace {

// Girih_MACHINE_SCHEMA of the SDK says what each figure is.
constexpr const char *kMachine = R"({
  "name": "quill", "kind": "npu", "cores": 2, "clock_mhz": 500, "barrier_ns": 100, "barrier": "quill_barrier",
  "levels": [
    {"name": "scratchpad", "size_bytes": 65536, "bytes_per_cycle": 32, "latency_cycles": 2, "shared_by": 1,
     "source": "the simulator"},
    {"name": "memory", "size_bytes": 4294967296, "bytes_per_cycle": 8, "latency_cycles": 200, "shared_by": 2,
     "source": "the simulator; its rate is made up", "dma_in": "quill_dma_in", "dma_out": "quill_dma_out"}
  ],
  "units": [
    {"name": "scalar", "element": "f32", "lanes": 1, "per_cycle": 1, "latency_cycles": 4, "registers": 1024,
     "source": "the simulator; its latency is made up"},
    {"name": "matrix", "element": "f16", "lanes": 4096, "per_cycle": 1, "latency_cycles": 32, "registers": 1,
     "source": "the simulator; its latency is made up", "builtin": "quill_multiply",
     "tile": {"rows": 16, "columns": 16, "depth": 16}}
  ]
})";

// That Girih writes as C99 of quill's builtins.
constexpr std::string_view kOperations[] = {"copy", "add", "mul", "matmul", "rms_norm", "softmax", "swiglu", "rope", "kv_append",
                                            "attention"};

girih_code describe(const char *, const char **machineJson, girih_message *) {
  *machineJson = kMachine;
  return GIRIH_OK;
}

girih_code supports(const char *, const girih_op *ops, uint64_t numOps, girih_verdict *verdicts, girih_message *message) {
  thread_local std::vector<std::string> reasons;
  return guarded(message, [&] {
    reasons.assign(numOps, "");
    for (uint64_t index = 0; index < numOps; ++index) {
      bool isKnown = std::find(std::begin(kOperations), std::end(kOperations), ops[index].name) != std::end(kOperations);
      reasons[index] = isKnown ? "" : "nobody has tried `" + std::string(ops[index].name) + "` on quill";
      verdicts[index].code = reasons[index].empty() ? GIRIH_OK : GIRIH_UNIMPLEMENTED;
      verdicts[index].reason = reasons[index].c_str();
    }
  });
}

girih_code compile(const girih_compilation *compilation, girih_artifact **artifact, girih_artifact_info *info,
                   girih_message *message) {
  return guarded(message, [&] {
    std::string text(reinterpret_cast<const char *>(compilation->bytes), compilation->size_bytes);
    if (compilation->level != GIRIH_LEVEL_C99)
      throw Refusal(GIRIH_UNIMPLEMENTED, "level " + std::to_string(compilation->level) + " is offered; quill takes 2, C99");
    Program program = compileKernels(text);
    auto made = std::make_unique<girih_artifact>();
    made->image = quill::write(program);
    for (const Entry &entry : program.entries)
      made->names.push_back(entry.name);
    for (const std::string &name : made->names)
      made->symbols.push_back(name.c_str());
    girih_artifact_info filled = {};
    filled.struct_size = std::min<uint64_t>(info->struct_size, sizeof filled);
    filled.bytes = made->image.data();
    filled.size_bytes = made->image.size();
    filled.format = kFormat;
    filled.entry_symbols = made->symbols.data();
    filled.num_entries = made->symbols.size();
    filled.required_features = "";
    filled.accumulate_type = "f32";
    filled.activation_type = program.usesMatrixUnit() ? "f16" : "f32";
    std::memcpy(info, &filled, filled.struct_size);
    *artifact = made.release();
  });
}

void release(girih_artifact *artifact) { delete artifact; }

}  // namespace

const girih_compile_table kCompileTable = {
    sizeof(girih_compile_table), describe, supports, compile, release, nullptr, nullptr, nullptr, nullptr, nullptr,
};

}  // namespace quill

GIRIH_BACKEND_EXPORT const girih_backend *girih_backend_query(const girih_host *host) {
  static const girih_backend backend = {
      sizeof(girih_backend), GIRIH_BACKEND_ABI_MAJOR, GIRIH_BACKEND_ABI_MINOR, "quill", "", &quill::kRunTable,
      &quill::kCompileTable, GIRIH_LEVEL_BIT(GIRIH_LEVEL_C99),
  };
  return host->abi_major == GIRIH_BACKEND_ABI_MAJOR ? &backend : nullptr;
}
