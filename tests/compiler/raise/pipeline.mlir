// RUN: girih-opt %s -girih-raise | FileCheck %s

// After the stage: attention is one operation and no softmax, score or mask is left; projections of one input are one.
// CHECK-LABEL: func.func @layer
// CHECK: girih.concat_rows {{.*}} interleave 0
// CHECK-NOT: math.exp
// CHECK: girih.attention
// CHECK-SAME: {scale = {{0.35355[0-9]*}} : f32, window = 4 : i64}
// CHECK-NOT: tensor<?x?xf32>
#x = affine_map<(t, n, k) -> (t, k)>
#w = affine_map<(t, n, k) -> (n, k)>
#y = affine_map<(t, n, k) -> (t, n)>
#tu = affine_map<(t, u) -> (t, u)>
#t = affine_map<(t, u) -> (t)>
!w = tensor<8x16xf32, #girih.storage<"q8_0">>
func.func @layer(%x: tensor<?x16xf32>, %wq: !w, %wk: !w, %wv: !w) -> tensor<?x8xf32> {
  %c0 = arith.constant 0 : index
  %zero = arith.constant 0.0 : f32
  %lowest = arith.constant 0xFF800000 : f32
  %scale = arith.constant 0.35355338 : f32
  %t = tensor.dim %x, %c0 : tensor<?x16xf32>
  %empty = tensor.empty(%t) : tensor<?x8xf32>
  %init = linalg.fill ins(%zero : f32) outs(%empty : tensor<?x8xf32>) -> tensor<?x8xf32>
  %q = linalg.matmul indexing_maps = [#x, #w, #y] ins(%x, %wq : tensor<?x16xf32>, !w) outs(%init : tensor<?x8xf32>) -> tensor<?x8xf32>
  %k = linalg.matmul indexing_maps = [#x, #w, #y] ins(%x, %wk : tensor<?x16xf32>, !w) outs(%init : tensor<?x8xf32>) -> tensor<?x8xf32>
  %v = linalg.matmul indexing_maps = [#x, #w, #y] ins(%x, %wv : tensor<?x16xf32>, !w) outs(%init : tensor<?x8xf32>) -> tensor<?x8xf32>
  %square = tensor.empty(%t, %t) : tensor<?x?xf32>
  %start = linalg.fill ins(%zero : f32) outs(%square : tensor<?x?xf32>) -> tensor<?x?xf32>
  %s = linalg.matmul indexing_maps = [#x, #w, #y] ins(%q, %k : tensor<?x8xf32>, tensor<?x8xf32>) outs(%start : tensor<?x?xf32>) -> tensor<?x?xf32>
  %masked = linalg.generic {indexing_maps = [#tu, #tu], iterator_types = ["parallel", "parallel"]} ins(%s : tensor<?x?xf32>) outs(%square : tensor<?x?xf32>) {
  ^bb0(%score: f32, %out: f32):
    %query = linalg.index 0 : index
    %key = linalg.index 1 : index
    %width = arith.constant 4 : index
    %before = arith.cmpi sle, %key, %query : index
    %distance = arith.subi %query, %key : index
    %near = arith.cmpi slt, %distance, %width : index
    %seen = arith.andi %before, %near : i1
    %scaled = arith.mulf %score, %scale : f32
    %kept = arith.select %seen, %scaled, %lowest : f32
    linalg.yield %kept : f32
  } -> tensor<?x?xf32>
  %row = tensor.empty(%t) : tensor<?xf32>
  %row_low = linalg.fill ins(%lowest : f32) outs(%row : tensor<?xf32>) -> tensor<?xf32>
  %high = linalg.generic {indexing_maps = [#tu, #t], iterator_types = ["parallel", "reduction"]} ins(%masked : tensor<?x?xf32>) outs(%row_low : tensor<?xf32>) {
  ^bb0(%a: f32, %b: f32):
    %m = arith.maximumf %a, %b : f32
    linalg.yield %m : f32
  } -> tensor<?xf32>
  %power = linalg.generic {indexing_maps = [#tu, #t, #tu], iterator_types = ["parallel", "parallel"]} ins(%masked, %high : tensor<?x?xf32>, tensor<?xf32>) outs(%square : tensor<?x?xf32>) {
  ^bb0(%a: f32, %m: f32, %out: f32):
    %d = arith.subf %a, %m : f32
    %e = math.exp %d : f32
    linalg.yield %e : f32
  } -> tensor<?x?xf32>
  %row_zero = linalg.fill ins(%zero : f32) outs(%row : tensor<?xf32>) -> tensor<?xf32>
  %sum = linalg.generic {indexing_maps = [#tu, #t], iterator_types = ["parallel", "reduction"]} ins(%power : tensor<?x?xf32>) outs(%row_zero : tensor<?xf32>) {
  ^bb0(%a: f32, %b: f32):
    %m = arith.addf %a, %b : f32
    linalg.yield %m : f32
  } -> tensor<?xf32>
  %p = linalg.generic {indexing_maps = [#tu, #t, #tu], iterator_types = ["parallel", "parallel"]} ins(%power, %sum : tensor<?x?xf32>, tensor<?xf32>) outs(%square : tensor<?x?xf32>) {
  ^bb0(%a: f32, %b: f32, %out: f32):
    %d = arith.divf %a, %b : f32
    linalg.yield %d : f32
  } -> tensor<?x?xf32>
  %o = linalg.matmul ins(%p, %v : tensor<?x?xf32>, tensor<?x8xf32>) outs(%init : tensor<?x8xf32>) -> tensor<?x8xf32>
  return %o : tensor<?x8xf32>
}
