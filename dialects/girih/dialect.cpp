// SPDX-License-Identifier: Apache-2.0
// Dialect `girih`: registration of its attributes, types and operations.
#include "dialects/girih/dialect.h"

#include "mlir/IR/Builders.h"
#include "mlir/IR/DialectImplementation.h"
#include "mlir/IR/OpImplementation.h"
#include "llvm/ADT/TypeSwitch.h"

using namespace mlir;
using namespace girih::dialect;

#include "dialects/girih/dialect.cpp.inc"

#define GET_ATTRDEF_CLASSES
#include "dialects/girih/attrs.cpp.inc"

#define GET_TYPEDEF_CLASSES
#include "dialects/girih/types.cpp.inc"

#define GET_OP_CLASSES
#include "dialects/girih/ops.cpp.inc"

void GirihDialect::initialize() {
  addAttributes<
#define GET_ATTRDEF_LIST
#include "dialects/girih/attrs.cpp.inc"
      >();
  addTypes<
#define GET_TYPEDEF_LIST
#include "dialects/girih/types.cpp.inc"
      >();
  addOperations<
#define GET_OP_LIST
#include "dialects/girih/ops.cpp.inc"
      >();
}

llvm::StringRef girih::dialect::storageFormat(Type type) {
  auto tensor = dyn_cast<RankedTensorType>(type);
  if (!tensor)
    return {};
  auto storage = dyn_cast_or_null<StorageAttr>(tensor.getEncoding());
  return storage ? storage.getFormat() : llvm::StringRef();
}
