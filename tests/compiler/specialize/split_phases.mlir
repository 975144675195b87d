// RUN: girih-opt %s -girih-split-phases=max-tokens=1,64 | FileCheck %s

// Two step functions, each with blocks of its own; @main is gone and its description is the module's.
// CHECK: module attributes {girih.model = {family = "llama"}}
// CHECK-NOT: @main
// CHECK: func.func @step_t1(%{{.*}}: tensor<?xi32>) -> tensor<?xi32> attributes {girih.max_tokens = 1 : i64}
// CHECK: call @block_0_t1(
// CHECK: func.func private @block_0_t1
// CHECK: func.func @step_t64({{.*}} attributes {girih.max_tokens = 64 : i64}
// CHECK: call @block_0_t64(
// CHECK: func.func private @block_0_t64
func.func @main(%tokens: tensor<?xi32>) -> tensor<?xi32> attributes {girih.model = {family = "llama"}} {
  %0 = call @block_0(%tokens) : (tensor<?xi32>) -> tensor<?xi32>
  return %0 : tensor<?xi32>
}
func.func private @block_0(%x: tensor<?xi32>) -> tensor<?xi32> {
  return %x : tensor<?xi32>
}
