// SPDX-License-Identifier: Apache-2.0
// girih-emit-c99: a scheduled step (the last file of `girih-compile --dump-ir`) as the C99 that a backend would be given.
#include "compiler/emit/emit_c99.h"
#include "dialects/register.h"

#include "mlir/IR/MLIRContext.h"
#include "mlir/Parser/Parser.h"
#include "llvm/Support/raw_ostream.h"

int main(int argc, char **argv) {
  if (argc != 2) {
    llvm::errs() << "usage: girih-emit-c99 STEP.mlir|-\n";
    return 2;
  }
  mlir::DialectRegistry registry;
  girih::dialect::registerDialects(registry);
  mlir::MLIRContext context(registry, mlir::MLIRContext::Threading::DISABLED);
  context.loadAllAvailableDialects();
  auto module = mlir::parseSourceFile<mlir::ModuleOp>(argv[1], &context);
  if (!module)
    return 1;
  auto text = girih::compiler::emitC99(*module);
  if (!text.isOk()) {
    llvm::errs() << text.status().message() << "\n";
    return 1;
  }
  llvm::outs() << *text;
  return 0;
}
