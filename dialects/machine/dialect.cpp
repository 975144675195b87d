// SPDX-License-Identifier: Apache-2.0
// Dialect `machine`: registration and look-ups.
#include "dialects/machine/dialect.h"

#include "mlir/IR/Builders.h"
#include "mlir/IR/DialectImplementation.h"
#include "llvm/ADT/TypeSwitch.h"

using namespace mlir;
using namespace girih::machine;

#include "dialects/machine/dialect.cpp.inc"

#define GET_ATTRDEF_CLASSES
#include "dialects/machine/attrs.cpp.inc"

void MachineDialect::initialize() {
  addAttributes<
#define GET_ATTRDEF_LIST
#include "dialects/machine/attrs.cpp.inc"
      >();
}

girih::machine::UnitAttr DescriptionAttr::unitFor(llvm::StringRef element) const {
  girih::machine::UnitAttr best;
  for (girih::machine::UnitAttr unit : getUnits())
    if (unit.getElement() == element && !unit.getTile() && (!best || unit.getLanes() > best.getLanes()))
      best = unit;
  return best;
}

girih::machine::UnitAttr DescriptionAttr::matrixUnitFor(llvm::StringRef element) const {
  for (girih::machine::UnitAttr unit : getUnits())
    if (unit.getElement() == element && unit.getTile())
      return unit;
  return {};
}

LevelAttr DescriptionAttr::level(llvm::StringRef name) const {
  for (LevelAttr level : getLevels())
    if (level.getName() == name)
      return level;
  return {};
}
