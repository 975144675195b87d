// SPDX-License-Identifier: Apache-2.0
// Dialect `machine`: generated classes.
#pragma once

#include "mlir/IR/Attributes.h"
#include "mlir/IR/Dialect.h"

#include "dialects/machine/dialect.h.inc"

#define GET_ATTRDEF_CLASSES
#include "dialects/machine/attrs.h.inc"
