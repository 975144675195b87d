// SPDX-License-Identifier: Apache-2.0
// A machine description as JSON, both ways.
#include "dialects/machine/json.h"

#include "llvm/Support/JSON.h"
#include "llvm/Support/raw_ostream.h"

using namespace girih::machine;
using llvm::StringRef;

namespace {

constexpr int64_t kLargestFigure = int64_t(1) << 48;  // bytes, cycles, counts: beyond it a figure is a mistake

// Reads the fields of one object; the first that does not fit is kept in `error`.
class Fields {
public:
  Fields(const llvm::json::Value &value, std::string where, std::string &error)
      : object(value.getAsObject()), where(std::move(where)), error(error) {
    if (!object)
      fail("is not an object");
  }

  std::string text(StringRef key) {
    if (!object)
      return {};
    if (auto value = object->getString(key))
      return value->str();
    fail(("field \"" + key + "\" is missing or no string").str());
    return {};
  }

  // A whole number in [1, 2^48].
  int64_t number(StringRef key) {
    if (!object)
      return 1;
    auto value = object->getInteger(key);
    if (value && *value >= 1 && *value <= kLargestFigure)
      return *value;
    fail(("field \"" + key + "\" is missing or no whole number from 1 to 2^48").str());
    return 1;
  }

  // Null when there is no such field.
  const llvm::json::Value *optional(StringRef key) { return object ? object->get(key) : nullptr; }

  // Null when there is no such field.
  mlir::StringAttr optionalText(mlir::MLIRContext *context, StringRef key) {
    return optional(key) ? mlir::StringAttr::get(context, text(key)) : mlir::StringAttr();
  }

  const llvm::json::Array &list(StringRef key) {
    static const llvm::json::Array empty;
    const llvm::json::Array *value = object ? object->getArray(key) : nullptr;
    if (object && (!value || value->empty()))
      fail(("field \"" + key + "\" is missing or no list with entries").str());
    return value ? *value : empty;
  }

private:
  void fail(std::string what) {
    if (error.empty())
      error = "machine description: " + where + " " + what;
  }
  const llvm::json::Object *object;
  std::string where;
  std::string &error;
};

}  // namespace

DescriptionAttr girih::machine::parseJson(mlir::MLIRContext *context, StringRef text, std::string &error) {
  error.clear();
  llvm::Expected<llvm::json::Value> parsed = llvm::json::parse(text);
  if (!parsed) {
    error = "machine description is no JSON: " + llvm::toString(parsed.takeError());
    return {};
  }
  Fields top(*parsed, "the description", error);
  llvm::SmallVector<LevelAttr> levels;
  for (const llvm::json::Value &value : top.list("levels")) {
    Fields f(value, "level " + std::to_string(levels.size()), error);
    levels.push_back(LevelAttr::get(context, f.text("name"), f.number("size_bytes"), f.number("bytes_per_cycle"),
                                    f.number("latency_cycles"), f.number("shared_by"), f.text("source"),
                                    f.optionalText(context, "dma_in"), f.optionalText(context, "dma_out")));
  }
  llvm::SmallVector<UnitAttr> units;
  for (const llvm::json::Value &value : top.list("units")) {
    Fields f(value, "unit " + std::to_string(units.size()), error);
    TileAttr tile;
    if (const llvm::json::Value *shape = f.optional("tile")) {
      Fields t(*shape, "tile of unit " + std::to_string(units.size()), error);
      tile = TileAttr::get(context, t.number("rows"), t.number("columns"), t.number("depth"));
    }
    units.push_back(UnitAttr::get(context, f.text("name"), f.text("element"), f.number("lanes"),
                                  f.number("per_cycle"), f.number("latency_cycles"), f.number("registers"),
                                  f.text("source"), tile, f.optionalText(context, "builtin")));
  }
  auto description = DescriptionAttr::get(context, top.text("name"), top.text("kind"), top.number("cores"),
                                          top.number("clock_mhz"), top.number("barrier_ns"), levels, units,
                                          top.optionalText(context, "barrier"));
  return error.empty() ? description : DescriptionAttr();
}

std::string girih::machine::printJson(DescriptionAttr description) {
  std::string text;
  llvm::raw_string_ostream stream(text);
  llvm::json::OStream json(stream, 2);
  auto optional = [&](StringRef key, mlir::StringAttr name) {
    if (name)
      json.attribute(key, name.getValue());
  };
  json.object([&] {
    json.attribute("name", description.getName());
    json.attribute("kind", description.getKind());
    json.attribute("cores", description.getCores());
    json.attribute("clock_mhz", description.getClockMhz());
    json.attribute("barrier_ns", description.getBarrierNs());
    optional("barrier", description.getBarrier());
    json.attributeArray("levels", [&] {
      for (LevelAttr level : description.getLevels())
        json.object([&] {
          json.attribute("name", level.getName());
          json.attribute("size_bytes", level.getSizeBytes());
          json.attribute("bytes_per_cycle", level.getBytesPerCycle());
          json.attribute("latency_cycles", level.getLatencyCycles());
          json.attribute("shared_by", level.getSharedBy());
          json.attribute("source", level.getSource());
          optional("dma_in", level.getDmaIn());
          optional("dma_out", level.getDmaOut());
        });
    });
    json.attributeArray("units", [&] {
      for (UnitAttr unit : description.getUnits())
        json.object([&] {
          json.attribute("name", unit.getName());
          json.attribute("element", unit.getElement());
          json.attribute("lanes", unit.getLanes());
          json.attribute("per_cycle", unit.getPerCycle());
          json.attribute("latency_cycles", unit.getLatencyCycles());
          json.attribute("registers", unit.getRegisters());
          json.attribute("source", unit.getSource());
          optional("builtin", unit.getBuiltin());
          if (TileAttr tile = unit.getTile())
            json.attributeObject("tile", [&] {
              json.attribute("rows", tile.getRows());
              json.attribute("columns", tile.getColumns());
              json.attribute("depth", tile.getDepth());
            });
        });
    });
  });
  return text;
}
