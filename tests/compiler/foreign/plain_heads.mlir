// plain_heads: made by make_layers.py from an ONNX graph of its own, through iree-import-onnx and iree-compile.
// RUN: girih-opt %s -girih-import -girih-raise | FileCheck %s
// CHECK: girih.attention
// CHECK-NOT: math.exp
func.func @main(%ids: tensor<?x?xi64>) -> tensor<?x?x11xf32> {
    %axis0 = arith.constant 0 : index
    %axis1 = arith.constant 1 : index
    %c11_i64 = arith.constant 11 : i64
    %c0_i64 = arith.constant 0 : i64
    %c0 = arith.constant 0 : index
    %c1 = arith.constant 1 : index
    %c16_i64 = arith.constant 16 : i64
    %cst = arith.constant 0.000000e+00 : f32
    %c4 = arith.constant 4 : index
    %cst_0 = arith.constant 0xFF800000 : f32
    %cst_1 = arith.constant dense<0.000000e+00> : tensor<f32>
    %cst_2 = arith.constant dense<0xFF800000> : tensor<f32>
    %cst_3 = arith.constant dense<0.594603539> : tensor<f32>
    %0 = tensor.dim %ids, %axis0 : tensor<?x?xi64>
    %1 = tensor.dim %ids, %axis1 : tensor<?x?xi64>
    %embed = girih.weight "embed" : tensor<11x16xf32, #girih.storage<"f32">>
    %q = girih.weight "q" : tensor<32x16xf32, #girih.storage<"f32">>
    %k = girih.weight "k" : tensor<32x16xf32, #girih.storage<"f32">>
    %v = girih.weight "v" : tensor<32x16xf32, #girih.storage<"f32">>
    %o = girih.weight "o" : tensor<16x32xf32, #girih.storage<"f32">>
    %head = girih.weight "head" : tensor<11x16xf32, #girih.storage<"f32">>
    %3 = tensor.empty(%0, %1) : tensor<?x?xi1>
    %4 = linalg.generic {indexing_maps = [affine_map<(d0, d1) -> (d0, d1)>, affine_map<(d0, d1) -> (d0, d1)>], iterator_types = ["parallel", "parallel"]} ins(%ids : tensor<?x?xi64>) outs(%3 : tensor<?x?xi1>) {
    ^bb0(%in: i64, %out: i1):
      %74 = arith.cmpi slt, %in, %c0_i64 : i64
      linalg.yield %74 : i1
    } -> tensor<?x?xi1>
    %5 = tensor.empty(%0, %1) : tensor<?x?xi64>
    %6 = linalg.generic {indexing_maps = [affine_map<(d0, d1) -> (d0, d1)>, affine_map<(d0, d1) -> (d0, d1)>], iterator_types = ["parallel", "parallel"]} ins(%ids : tensor<?x?xi64>) outs(%5 : tensor<?x?xi64>) {
    ^bb0(%in: i64, %out: i64):
      %74 = arith.addi %in, %c11_i64 : i64
      linalg.yield %74 : i64
    } -> tensor<?x?xi64>
    %7 = linalg.generic {indexing_maps = [affine_map<(d0, d1) -> (d0, d1)>, affine_map<(d0, d1) -> (d0, d1)>, affine_map<(d0, d1) -> (d0, d1)>, affine_map<(d0, d1) -> (d0, d1)>], iterator_types = ["parallel", "parallel"]} ins(%4, %6, %ids : tensor<?x?xi1>, tensor<?x?xi64>, tensor<?x?xi64>) outs(%5 : tensor<?x?xi64>) {
    ^bb0(%in: i1, %in_26: i64, %in_27: i64, %out: i64):
      %74 = arith.select %in, %in_26, %in_27 : i64
      linalg.yield %74 : i64
    } -> tensor<?x?xi64>
    %8 = arith.index_cast %0 : index to i64
    %9 = arith.index_cast %1 : index to i64
    %collapsed = tensor.collapse_shape %7 [[0, 1]] : tensor<?x?xi64> into tensor<?xi64>
    %10 = affine.apply affine_map<()[s0, s1] -> (s0 * s1)>()[%0, %1]
    %11 = tensor.empty(%10) : tensor<?x16xf32>
    %12 = linalg.generic {indexing_maps = [affine_map<(d0, d1) -> (d0)>, affine_map<(d0, d1) -> (d0, d1)>], iterator_types = ["parallel", "parallel"]} ins(%collapsed : tensor<?xi64>) outs(%11 : tensor<?x16xf32>) {
    ^bb0(%in: i64, %out: f32):
      %74 = arith.index_cast %in : i64 to index
      %75 = linalg.index 1 : index
      %extracted = tensor.extract %embed[%74, %75] : tensor<11x16xf32, #girih.storage<"f32">>
      linalg.yield %extracted : f32
    } -> tensor<?x16xf32>
    %from_elements = tensor.from_elements %8, %9, %c16_i64 : tensor<3xi64>
    %reshape = tensor.reshape %12(%from_elements) : (tensor<?x16xf32>, tensor<3xi64>) -> tensor<?x?x16xf32>
    %13 = tensor.empty() : tensor<16x32xf32>
    %transposed = linalg.transpose ins(%q : tensor<32x16xf32, #girih.storage<"f32">>) outs(%13 : tensor<16x32xf32>) permutation = [1, 0] 
    %14 = tensor.empty(%0) : tensor<?x16x32xf32>
    %15 = linalg.generic {indexing_maps = [affine_map<(d0, d1, d2) -> (d1, d2)>, affine_map<(d0, d1, d2) -> (d0, d1, d2)>], iterator_types = ["parallel", "parallel", "parallel"]} ins(%transposed : tensor<16x32xf32>) outs(%14 : tensor<?x16x32xf32>) {
    ^bb0(%in: f32, %out: f32):
      linalg.yield %in : f32
    } -> tensor<?x16x32xf32>
    %16 = tensor.empty(%0, %1) : tensor<?x?x32xf32>
    %17 = linalg.fill ins(%cst : f32) outs(%16 : tensor<?x?x32xf32>) -> tensor<?x?x32xf32>
    %18 = linalg.batch_matmul ins(%reshape, %15 : tensor<?x?x16xf32>, tensor<?x16x32xf32>) outs(%17 : tensor<?x?x32xf32>) -> tensor<?x?x32xf32>
    %expanded = tensor.expand_shape %18 [[0], [1], [2, 3]] output_shape [%0, %1, 4, 8] : tensor<?x?x32xf32> into tensor<?x?x4x8xf32>
    %19 = tensor.empty(%0, %1) : tensor<?x4x?x8xf32>
    %transposed_4 = linalg.transpose ins(%expanded : tensor<?x?x4x8xf32>) outs(%19 : tensor<?x4x?x8xf32>) permutation = [0, 2, 1, 3] 
    %transposed_5 = linalg.transpose ins(%k : tensor<32x16xf32, #girih.storage<"f32">>) outs(%13 : tensor<16x32xf32>) permutation = [1, 0] 
    %20 = linalg.generic {indexing_maps = [affine_map<(d0, d1, d2) -> (d1, d2)>, affine_map<(d0, d1, d2) -> (d0, d1, d2)>], iterator_types = ["parallel", "parallel", "parallel"]} ins(%transposed_5 : tensor<16x32xf32>) outs(%14 : tensor<?x16x32xf32>) {
    ^bb0(%in: f32, %out: f32):
      linalg.yield %in : f32
    } -> tensor<?x16x32xf32>
    %21 = linalg.batch_matmul ins(%reshape, %20 : tensor<?x?x16xf32>, tensor<?x16x32xf32>) outs(%17 : tensor<?x?x32xf32>) -> tensor<?x?x32xf32>
    %expanded_6 = tensor.expand_shape %21 [[0], [1], [2, 3]] output_shape [%0, %1, 4, 8] : tensor<?x?x32xf32> into tensor<?x?x4x8xf32>
    %transposed_7 = linalg.transpose ins(%expanded_6 : tensor<?x?x4x8xf32>) outs(%19 : tensor<?x4x?x8xf32>) permutation = [0, 2, 1, 3] 
    %transposed_8 = linalg.transpose ins(%v : tensor<32x16xf32, #girih.storage<"f32">>) outs(%13 : tensor<16x32xf32>) permutation = [1, 0] 
    %22 = linalg.generic {indexing_maps = [affine_map<(d0, d1, d2) -> (d1, d2)>, affine_map<(d0, d1, d2) -> (d0, d1, d2)>], iterator_types = ["parallel", "parallel", "parallel"]} ins(%transposed_8 : tensor<16x32xf32>) outs(%14 : tensor<?x16x32xf32>) {
    ^bb0(%in: f32, %out: f32):
      linalg.yield %in : f32
    } -> tensor<?x16x32xf32>
    %23 = linalg.batch_matmul ins(%reshape, %22 : tensor<?x?x16xf32>, tensor<?x16x32xf32>) outs(%17 : tensor<?x?x32xf32>) -> tensor<?x?x32xf32>
    %expanded_9 = tensor.expand_shape %23 [[0], [1], [2, 3]] output_shape [%0, %1, 4, 8] : tensor<?x?x32xf32> into tensor<?x?x4x8xf32>
    %transposed_10 = linalg.transpose ins(%expanded_9 : tensor<?x?x4x8xf32>) outs(%19 : tensor<?x4x?x8xf32>) permutation = [0, 2, 1, 3] 
    %24 = tensor.empty(%1) : tensor<?xi64>
    %25 = linalg.generic {indexing_maps = [affine_map<(d0) -> (d0)>], iterator_types = ["parallel"]} outs(%24 : tensor<?xi64>) {
    ^bb0(%out: i64):
      %74 = linalg.index 0 : index
      %75 = arith.index_cast %74 : index to i64
      linalg.yield %75 : i64
    } -> tensor<?xi64>
    %expanded_11 = tensor.expand_shape %25 [[0, 1]] output_shape [%1, 1] : tensor<?xi64> into tensor<?x1xi64>
    %expanded_12 = tensor.expand_shape %25 [[0, 1]] output_shape [1, %1] : tensor<?xi64> into tensor<1x?xi64>
    %26 = tensor.empty(%1, %1) : tensor<?x?xi1>
    %27 = linalg.generic {indexing_maps = [affine_map<(d0, d1) -> (0, d1)>, affine_map<(d0, d1) -> (d0, 0)>, affine_map<(d0, d1) -> (d0, d1)>], iterator_types = ["parallel", "parallel"]} ins(%expanded_12, %expanded_11 : tensor<1x?xi64>, tensor<?x1xi64>) outs(%26 : tensor<?x?xi1>) {
    ^bb0(%in: i64, %in_26: i64, %out: i1):
      %74 = arith.cmpi sgt, %in, %in_26 : i64
      linalg.yield %74 : i1
    } -> tensor<?x?xi1>
    %28 = linalg.generic {indexing_maps = [affine_map<(d0, d1, d2, d3) -> (d0, d1, d2, d3)>, affine_map<(d0, d1, d2, d3) -> ()>, affine_map<(d0, d1, d2, d3) -> (d0, d1, d2, d3)>], iterator_types = ["parallel", "parallel", "parallel", "parallel"]} ins(%transposed_4, %cst_3 : tensor<?x4x?x8xf32>, tensor<f32>) outs(%19 : tensor<?x4x?x8xf32>) {
    ^bb0(%in: f32, %in_26: f32, %out: f32):
      %74 = arith.mulf %in, %in_26 : f32
      linalg.yield %74 : f32
    } -> tensor<?x4x?x8xf32>
    %29 = linalg.generic {indexing_maps = [affine_map<(d0, d1, d2, d3) -> (d0, d1, d2, d3)>, affine_map<(d0, d1, d2, d3) -> ()>, affine_map<(d0, d1, d2, d3) -> (d0, d1, d2, d3)>], iterator_types = ["parallel", "parallel", "parallel", "parallel"]} ins(%transposed_7, %cst_3 : tensor<?x4x?x8xf32>, tensor<f32>) outs(%19 : tensor<?x4x?x8xf32>) {
    ^bb0(%in: f32, %in_26: f32, %out: f32):
      %74 = arith.mulf %in, %in_26 : f32
      linalg.yield %74 : f32
    } -> tensor<?x4x?x8xf32>
    %30 = tensor.empty(%0, %1) : tensor<?x4x8x?xf32>
    %transposed_13 = linalg.transpose ins(%29 : tensor<?x4x?x8xf32>) outs(%30 : tensor<?x4x8x?xf32>) permutation = [0, 1, 3, 2] 
    %collapsed_14 = tensor.collapse_shape %28 [[0, 1], [2], [3]] : tensor<?x4x?x8xf32> into tensor<?x?x8xf32>
    %collapsed_15 = tensor.collapse_shape %transposed_13 [[0, 1], [2], [3]] : tensor<?x4x8x?xf32> into tensor<?x8x?xf32>
    %31 = arith.muli %0, %c4 : index
    %32 = tensor.empty(%31, %1, %1) : tensor<?x?x?xf32>
    %33 = linalg.fill ins(%cst : f32) outs(%32 : tensor<?x?x?xf32>) -> tensor<?x?x?xf32>
    %34 = linalg.batch_matmul ins(%collapsed_14, %collapsed_15 : tensor<?x?x8xf32>, tensor<?x8x?xf32>) outs(%33 : tensor<?x?x?xf32>) -> tensor<?x?x?xf32>
    %35 = arith.divsi %31, %c4 : index
    %expanded_16 = tensor.expand_shape %34 [[0, 1], [2], [3]] output_shape [%35, 4, %1, %1] : tensor<?x?x?xf32> into tensor<?x4x?x?xf32>
    %36 = tensor.empty(%1, %1) : tensor<?x?xf32>
    %37 = linalg.generic {indexing_maps = [affine_map<(d0, d1) -> (d0, d1)>, affine_map<(d0, d1) -> ()>, affine_map<(d0, d1) -> ()>, affine_map<(d0, d1) -> (d0, d1)>], iterator_types = ["parallel", "parallel"]} ins(%27, %cst_2, %cst_1 : tensor<?x?xi1>, tensor<f32>, tensor<f32>) outs(%36 : tensor<?x?xf32>) {
    ^bb0(%in: i1, %in_26: f32, %in_27: f32, %out: f32):
      %74 = arith.select %in, %in_26, %in_27 : f32
      linalg.yield %74 : f32
    } -> tensor<?x?xf32>
    %38 = tensor.empty(%35, %1, %1) : tensor<?x4x?x?xf32>
    %39 = linalg.generic {indexing_maps = [affine_map<(d0, d1, d2, d3) -> (d0, d1, d2, d3)>, affine_map<(d0, d1, d2, d3) -> (d2, d3)>, affine_map<(d0, d1, d2, d3) -> (d0, d1, d2, d3)>], iterator_types = ["parallel", "parallel", "parallel", "parallel"]} ins(%expanded_16, %37 : tensor<?x4x?x?xf32>, tensor<?x?xf32>) outs(%38 : tensor<?x4x?x?xf32>) {
    ^bb0(%in: f32, %in_26: f32, %out: f32):
      %74 = arith.addf %in, %in_26 : f32
      linalg.yield %74 : f32
    } -> tensor<?x4x?x?xf32>
    %40 = tensor.empty(%35, %1) : tensor<?x4x?xi64>
    %41 = linalg.fill ins(%c0_i64 : i64) outs(%40 : tensor<?x4x?xi64>) -> tensor<?x4x?xi64>
    %42 = tensor.empty(%35, %1) : tensor<?x4x?xf32>
    %43 = linalg.fill ins(%cst_0 : f32) outs(%42 : tensor<?x4x?xf32>) -> tensor<?x4x?xf32>
    %44:2 = linalg.generic {indexing_maps = [affine_map<(d0, d1, d2, d3) -> (d0, d1, d2, d3)>, affine_map<(d0, d1, d2, d3) -> (d0, d1, d2)>, affine_map<(d0, d1, d2, d3) -> (d0, d1, d2)>], iterator_types = ["parallel", "parallel", "parallel", "reduction"]} ins(%39 : tensor<?x4x?x?xf32>) outs(%43, %41 : tensor<?x4x?xf32>, tensor<?x4x?xi64>) {
    ^bb0(%in: f32, %out: f32, %out_26: i64):
      %74 = linalg.index 3 : index
      %75 = arith.index_cast %74 : index to i64
      %76 = arith.maximumf %in, %out : f32
      %77 = arith.cmpf ogt, %in, %out : f32
      %78 = arith.select %77, %75, %out_26 : i64
      linalg.yield %76, %78 : f32, i64
    } -> (tensor<?x4x?xf32>, tensor<?x4x?xi64>)
    %expanded_17 = tensor.expand_shape %44#0 [[0], [1], [2, 3]] output_shape [%35, 4, %1, 1] : tensor<?x4x?xf32> into tensor<?x4x?x1xf32>
    %45 = linalg.generic {indexing_maps = [affine_map<(d0, d1, d2, d3) -> (d0, d1, d2, d3)>, affine_map<(d0, d1, d2, d3) -> (d0, d1, d2, 0)>, affine_map<(d0, d1, d2, d3) -> (d0, d1, d2, d3)>], iterator_types = ["parallel", "parallel", "parallel", "parallel"]} ins(%39, %expanded_17 : tensor<?x4x?x?xf32>, tensor<?x4x?x1xf32>) outs(%38 : tensor<?x4x?x?xf32>) {
    ^bb0(%in: f32, %in_26: f32, %out: f32):
      %74 = arith.subf %in, %in_26 : f32
      linalg.yield %74 : f32
    } -> tensor<?x4x?x?xf32>
    %46 = linalg.generic {indexing_maps = [affine_map<(d0, d1, d2, d3) -> (d0, d1, d2, d3)>, affine_map<(d0, d1, d2, d3) -> (d0, d1, d2, d3)>], iterator_types = ["parallel", "parallel", "parallel", "parallel"]} ins(%45 : tensor<?x4x?x?xf32>) outs(%38 : tensor<?x4x?x?xf32>) {
    ^bb0(%in: f32, %out: f32):
      %74 = math.exp %in : f32
      linalg.yield %74 : f32
    } -> tensor<?x4x?x?xf32>
    %47 = tensor.empty(%35, %1) : tensor<?x4x?x1xf32>
    %48 = linalg.fill ins(%cst : f32) outs(%47 : tensor<?x4x?x1xf32>) -> tensor<?x4x?x1xf32>
    %49 = linalg.generic {indexing_maps = [affine_map<(d0, d1, d2, d3) -> (d0, d1, d2, d3)>, affine_map<(d0, d1, d2, d3) -> (d0, d1, d2, 0)>], iterator_types = ["parallel", "parallel", "parallel", "reduction"]} ins(%46 : tensor<?x4x?x?xf32>) outs(%48 : tensor<?x4x?x1xf32>) {
    ^bb0(%in: f32, %out: f32):
      %74 = arith.addf %in, %out : f32
      linalg.yield %74 : f32
    } -> tensor<?x4x?x1xf32>
    %50 = linalg.generic {indexing_maps = [affine_map<(d0, d1, d2, d3) -> (d0, d1, d2, d3)>, affine_map<(d0, d1, d2, d3) -> (d0, d1, d2, 0)>, affine_map<(d0, d1, d2, d3) -> (d0, d1, d2, d3)>], iterator_types = ["parallel", "parallel", "parallel", "parallel"]} ins(%46, %49 : tensor<?x4x?x?xf32>, tensor<?x4x?x1xf32>) outs(%38 : tensor<?x4x?x?xf32>) {
    ^bb0(%in: f32, %in_26: f32, %out: f32):
      %74 = arith.divf %in, %in_26 : f32
      linalg.yield %74 : f32
    } -> tensor<?x4x?x?xf32>
    %51 = arith.maxui %35, %0 : index
    %collapsed_18 = tensor.collapse_shape %50 [[0, 1], [2], [3]] : tensor<?x4x?x?xf32> into tensor<?x?x?xf32>
    %collapsed_19 = tensor.collapse_shape %transposed_10 [[0, 1], [2], [3]] : tensor<?x4x?x8xf32> into tensor<?x?x8xf32>
    %52 = arith.muli %51, %c4 : index
    %53 = tensor.empty(%52, %1) : tensor<?x?x8xf32>
    %54 = linalg.fill ins(%cst : f32) outs(%53 : tensor<?x?x8xf32>) -> tensor<?x?x8xf32>
    %55 = linalg.batch_matmul ins(%collapsed_18, %collapsed_19 : tensor<?x?x?xf32>, tensor<?x?x8xf32>) outs(%54 : tensor<?x?x8xf32>) -> tensor<?x?x8xf32>
    %56 = arith.divsi %52, %c4 : index
    %expanded_20 = tensor.expand_shape %55 [[0, 1], [2], [3]] output_shape [%56, 4, %1, 8] : tensor<?x?x8xf32> into tensor<?x4x?x8xf32>
    %57 = tensor.empty(%56, %1) : tensor<?x?x4x8xf32>
    %transposed_21 = linalg.transpose ins(%expanded_20 : tensor<?x4x?x8xf32>) outs(%57 : tensor<?x?x4x8xf32>) permutation = [0, 2, 1, 3] 
    %collapsed_22 = tensor.collapse_shape %transposed_21 [[0], [1], [2, 3]] : tensor<?x?x4x8xf32> into tensor<?x?x32xf32>
    %58 = tensor.empty() : tensor<32x16xf32>
    %transposed_23 = linalg.transpose ins(%o : tensor<16x32xf32, #girih.storage<"f32">>) outs(%58 : tensor<32x16xf32>) permutation = [1, 0] 
    %59 = tensor.empty(%56) : tensor<?x32x16xf32>
    %60 = linalg.generic {indexing_maps = [affine_map<(d0, d1, d2) -> (d1, d2)>, affine_map<(d0, d1, d2) -> (d0, d1, d2)>], iterator_types = ["parallel", "parallel", "parallel"]} ins(%transposed_23 : tensor<32x16xf32>) outs(%59 : tensor<?x32x16xf32>) {
    ^bb0(%in: f32, %out: f32):
      linalg.yield %in : f32
    } -> tensor<?x32x16xf32>
    %61 = tensor.empty(%56, %1) : tensor<?x?x16xf32>
    %62 = linalg.fill ins(%cst : f32) outs(%61 : tensor<?x?x16xf32>) -> tensor<?x?x16xf32>
    %63 = linalg.batch_matmul ins(%collapsed_22, %60 : tensor<?x?x32xf32>, tensor<?x32x16xf32>) outs(%62 : tensor<?x?x16xf32>) -> tensor<?x?x16xf32>
    %64 = tensor.empty(%0, %1) : tensor<?x?x16xf32>
    %65 = linalg.generic {indexing_maps = [affine_map<(d0, d1, d2) -> (d0, d1, d2)>, affine_map<(d0, d1, d2) -> (d0, d1, d2)>, affine_map<(d0, d1, d2) -> (d0, d1, d2)>], iterator_types = ["parallel", "parallel", "parallel"]} ins(%reshape, %63 : tensor<?x?x16xf32>, tensor<?x?x16xf32>) outs(%64 : tensor<?x?x16xf32>) {
    ^bb0(%in: f32, %in_26: f32, %out: f32):
      %74 = arith.addf %in, %in_26 : f32
      linalg.yield %74 : f32
    } -> tensor<?x?x16xf32>
    %66 = tensor.empty() : tensor<16x11xf32>
    %transposed_24 = linalg.transpose ins(%head : tensor<11x16xf32, #girih.storage<"f32">>) outs(%66 : tensor<16x11xf32>) permutation = [1, 0] 
    %67 = tensor.empty(%0) : tensor<?x16x11xf32>
    %68 = linalg.generic {indexing_maps = [affine_map<(d0, d1, d2) -> (d1, d2)>, affine_map<(d0, d1, d2) -> (d0, d1, d2)>], iterator_types = ["parallel", "parallel", "parallel"]} ins(%transposed_24 : tensor<16x11xf32>) outs(%67 : tensor<?x16x11xf32>) {
    ^bb0(%in: f32, %out: f32):
      linalg.yield %in : f32
    } -> tensor<?x16x11xf32>
    %69 = tensor.empty(%0, %1) : tensor<?x?x11xf32>
    %70 = linalg.fill ins(%cst : f32) outs(%69 : tensor<?x?x11xf32>) -> tensor<?x?x11xf32>
    %71 = linalg.batch_matmul ins(%65, %68 : tensor<?x?x16xf32>, tensor<?x16x11xf32>) outs(%70 : tensor<?x?x11xf32>) -> tensor<?x?x11xf32>
    %dim = tensor.dim %71, %c0 : tensor<?x?x11xf32>
    %dim_25 = tensor.dim %71, %c1 : tensor<?x?x11xf32>
    return %71 : tensor<?x?x11xf32>
}
