// RUN: girih-opt %s -girih-cpu-lower-addresses | FileCheck %s

// An address far into the weights: LLVM's constant indices hold 29 bits, so what needs more is a value.

// CHECK-LABEL: func.func @near
// CHECK: llvm.getelementptr %{{.*}}[268435455]
// CHECK-LABEL: func.func @far
// CHECK: %[[OFFSET:.*]] = arith.constant 268435456 : i64
// CHECK: llvm.getelementptr %{{.*}}[%[[OFFSET]]]

func.func @near(%args: !llvm.ptr, %thread: index, %threads: index) -> memref<64xf32> {
  %offset = arith.constant 268435455 : index
  %gain = girih.buffer_at "weights"[%offset] : memref<64xf32>
  return %gain : memref<64xf32>
}
func.func @far(%args: !llvm.ptr, %thread: index, %threads: index) -> memref<64xf32> {
  %offset = arith.constant 268435456 : index
  %gain = girih.buffer_at "weights"[%offset] : memref<64xf32>
  return %gain : memref<64xf32>
}
