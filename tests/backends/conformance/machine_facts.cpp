// SPDX-License-Identifier: Apache-2.0
// MachineFacts: reads what is described, and refuses what dialects/machine/machine.schema.json would.
#include "tests/backends/conformance/machine_facts.h"

#include "runtime/base/json_reader.h"
#include "runtime/hal/call.h"

namespace girih::conformance {
namespace {

constexpr int64_t kMostFigure = int64_t{1} << 48;

Expected<int64_t> figure(const JsonValue &of, std::string_view key) {
  auto found = of.find(key);
  if (!found)
    return dataLoss("`" + std::string(key) + "` is missing in " + of.print().substr(0, 200));
  GIRIH_ASSIGN(int64_t value, found->asInteger());
  if (value < 1 || value > kMostFigure)
    return dataLoss("`" + std::string(key) + "` is " + std::to_string(value) + "; a figure is from 1 to 2^48");
  return value;
}

// "" where it is absent.
Expected<std::string> text(const JsonValue &of, std::string_view key, bool isRequired = false) {
  auto found = of.find(key);
  if (!found && !isRequired)
    return std::string();
  if (!found)
    return dataLoss("`" + std::string(key) + "` is missing in " + of.print().substr(0, 200));
  GIRIH_ASSIGN(std::string_view value, found->asString());
  return value.empty() ? Expected<std::string>(dataLoss("`" + std::string(key) + "` is empty")) : std::string(value);
}

Status requireFigures(const JsonValue &of, std::initializer_list<std::string_view> keys) {
  for (std::string_view key : keys)
    if (auto value = figure(of, key); !value.isOk())
      return std::move(value).status();
  for (std::string_view key : {"name", "source"})
    if (auto value = text(of, key, true); !value.isOk())
      return std::move(value).status();
  return {};
}

Status readLevels(const JsonValue &machine, MachineFacts &facts) {
  auto levels = machine.find("levels");
  if (!levels || levels->elements().empty())
    return dataLoss("the machine has no `levels` of memory");
  for (const JsonValue &level : levels->elements()) {
    GIRIH_TRY(requireFigures(level, {"size_bytes", "bytes_per_cycle", "latency_cycles", "shared_by"}));
    GIRIH_ASSIGN(int64_t sizeBytes, figure(level, "size_bytes"));
    GIRIH_ASSIGN(std::string dmaIn, text(level, "dma_in"));
    GIRIH_ASSIGN(std::string dmaOut, text(level, "dma_out"));
    if (dmaIn.empty() != dmaOut.empty())
      return dataLoss("a level has one of `dma_in` and `dma_out`; bytes go both ways");
    facts.nearestBytes = facts.nearestBytes ? facts.nearestBytes : sizeBytes;
    facts.farthestBytes = static_cast<uint64_t>(sizeBytes);
    facts.dmaIn = dmaIn.empty() ? facts.dmaIn : dmaIn;
    facts.dmaOut = dmaOut.empty() ? facts.dmaOut : dmaOut;
  }
  return {};
}

Status readUnits(const JsonValue &machine, MachineFacts &facts) {
  auto units = machine.find("units");
  if (!units || units->elements().empty())
    return dataLoss("the machine has no compute `units`");
  for (const JsonValue &unit : units->elements()) {
    GIRIH_TRY(requireFigures(unit, {"lanes", "per_cycle", "latency_cycles", "registers"}));
    GIRIH_ASSIGN(std::string element, text(unit, "element", true));
    GIRIH_ASSIGN(std::string builtin, text(unit, "builtin"));
    auto tile = unit.find("tile");
    if (builtin.empty())
      continue;
    if (!tile)
      return dataLoss("the unit `" + builtin + "` multiplies tiles and has no `tile`");
    GIRIH_ASSIGN(int64_t rows, figure(*tile, "rows"));
    GIRIH_ASSIGN(int64_t columns, figure(*tile, "columns"));
    GIRIH_ASSIGN(int64_t depth, figure(*tile, "depth"));
    facts.matrix = {builtin, element, rows, columns, depth};
  }
  return {};
}

} // namespace

Expected<MachineFacts> readMachine(const Subject &subject) {
  if (!subject.backend->compile)
    return unimplemented("no compile table");
  const char *json = nullptr;
  hal::Call call;
  GIRIH_TRY(call.status(subject.backend->compile->describe(subject.backend->name, &json, call.message())));
  if (!json)
    return dataLoss("`describe` answers null");
  GIRIH_ASSIGN(JsonDocument document, JsonDocument::parse(json));
  JsonValue machine = document.root();
  MachineFacts facts;
  for (std::string_view key : {"name", "kind"})
    if (auto value = text(machine, key, true); !value.isOk())
      return std::move(value).status();
  for (std::string_view key : {"clock_mhz", "barrier_ns"})
    if (auto value = figure(machine, key); !value.isOk())
      return std::move(value).status();
  GIRIH_ASSIGN(facts.cores, figure(machine, "cores"));
  GIRIH_ASSIGN(facts.barrier, text(machine, "barrier"));
  GIRIH_TRY(readLevels(machine, facts));
  GIRIH_TRY(readUnits(machine, facts));
  return facts;
}

} // namespace girih::conformance
