// SPDX-License-Identifier: Apache-2.0
// The rules that a program's tables must keep so that the executor may trust every number in them.
#pragma once

#include "runtime/base/expected.h"
#include "runtime/program/tables.h"

namespace girih::program {

// Fails: DataLoss for a number out of its range, Unimplemented for a step ABI or layout of another version.
Status checkTables(const Tables &tables);

} // namespace girih::program
