// SPDX-License-Identifier: Apache-2.0
// The model families Girih can import: one row each.
#include "models/registry.h"

namespace girih::models {

std::span<const FamilyRow> families() {
  // Where GGUF has one architecture for several families, the more general one comes first.
  static const FamilyRow rows[] = {llamaFamily(), mistralFamily(), qwen2Family(), qwen3Family(),
                                   gemma2Family()};
  return rows;
}

const FamilyRow *findFamilyByModelType(std::string_view modelType) {
  for (const FamilyRow &row : families())
    if (row.name == modelType)
      return &row;
  return nullptr;
}

const FamilyRow *findFamilyByGgufArchitecture(std::string_view architecture) {
  for (const FamilyRow &row : families())
    if (row.ggufArchitecture == architecture)
      return &row;
  return nullptr;
}

} // namespace girih::models
