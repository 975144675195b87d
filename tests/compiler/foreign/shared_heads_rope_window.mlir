// shared_heads_rope_window: made by make_layers.py from an ONNX graph of its own, through iree-import-onnx and iree-compile.
// RUN: girih-opt %s -girih-import -girih-raise | FileCheck %s
// CHECK: girih.attention
// CHECK-NOT: math.exp
func.func @main(%ids: tensor<?x?xi64>) -> tensor<?x?x11xf32> {
    %axis0 = arith.constant 0 : index
    %axis1 = arith.constant 1 : index
    %c8_i64 = arith.constant 8 : i64
    %c11_i64 = arith.constant 11 : i64
    %c4_i64 = arith.constant 4 : i64
    %c0_i64 = arith.constant 0 : i64
    %c0 = arith.constant 0 : index
    %c1 = arith.constant 1 : index
    %c16_i64 = arith.constant 16 : i64
    %cst = arith.constant 0.000000e+00 : f32
    %c4 = arith.constant 4 : index
    %cst_0 = arith.constant 0xFF800000 : f32
    %cst_1 = arith.constant dense<-3.400000e+38> : tensor<f32>
    %cst_2 = arith.constant dense<2.82842708> : tensor<f32>
    %cst_3 = arith.constant dense<5> : tensor<i64>
    %cst_4 = arith.constant dense<[[1.000000e+00, 1.000000e-01, 0.00999999977, 1.000000e-03, 1.000000e+00, 1.000000e-01, 0.00999999977, 1.000000e-03]]> : tensor<1x8xf32>
    %0 = tensor.dim %ids, %axis0 : tensor<?x?xi64>
    %1 = tensor.dim %ids, %axis1 : tensor<?x?xi64>
    %embed = girih.weight "embed" : tensor<11x16xf32, #girih.storage<"f32">>
    %q = girih.weight "q" : tensor<32x16xf32, #girih.storage<"f32">>
    %k = girih.weight "k" : tensor<16x16xf32, #girih.storage<"f32">>
    %v = girih.weight "v" : tensor<16x16xf32, #girih.storage<"f32">>
    %o = girih.weight "o" : tensor<16x32xf32, #girih.storage<"f32">>
    %head = girih.weight "head" : tensor<11x16xf32, #girih.storage<"f32">>
    %3 = tensor.empty(%0, %1) : tensor<?x?xi1>
    %4 = linalg.generic {indexing_maps = [affine_map<(d0, d1) -> (d0, d1)>, affine_map<(d0, d1) -> (d0, d1)>], iterator_types = ["parallel", "parallel"]} ins(%ids : tensor<?x?xi64>) outs(%3 : tensor<?x?xi1>) {
    ^bb0(%in: i64, %out: i1):
      %100 = arith.cmpi slt, %in, %c0_i64 : i64
      linalg.yield %100 : i1
    } -> tensor<?x?xi1>
    %5 = tensor.empty(%0, %1) : tensor<?x?xi64>
    %6 = linalg.generic {indexing_maps = [affine_map<(d0, d1) -> (d0, d1)>, affine_map<(d0, d1) -> (d0, d1)>], iterator_types = ["parallel", "parallel"]} ins(%ids : tensor<?x?xi64>) outs(%5 : tensor<?x?xi64>) {
    ^bb0(%in: i64, %out: i64):
      %100 = arith.addi %in, %c11_i64 : i64
      linalg.yield %100 : i64
    } -> tensor<?x?xi64>
    %7 = linalg.generic {indexing_maps = [affine_map<(d0, d1) -> (d0, d1)>, affine_map<(d0, d1) -> (d0, d1)>, affine_map<(d0, d1) -> (d0, d1)>, affine_map<(d0, d1) -> (d0, d1)>], iterator_types = ["parallel", "parallel"]} ins(%4, %6, %ids : tensor<?x?xi1>, tensor<?x?xi64>, tensor<?x?xi64>) outs(%5 : tensor<?x?xi64>) {
    ^bb0(%in: i1, %in_38: i64, %in_39: i64, %out: i64):
      %100 = arith.select %in, %in_38, %in_39 : i64
      linalg.yield %100 : i64
    } -> tensor<?x?xi64>
    %8 = arith.index_cast %0 : index to i64
    %9 = arith.index_cast %1 : index to i64
    %collapsed = tensor.collapse_shape %7 [[0, 1]] : tensor<?x?xi64> into tensor<?xi64>
    %10 = affine.apply affine_map<()[s0, s1] -> (s0 * s1)>()[%0, %1]
    %11 = tensor.empty(%10) : tensor<?x16xf32>
    %12 = linalg.generic {indexing_maps = [affine_map<(d0, d1) -> (d0)>, affine_map<(d0, d1) -> (d0, d1)>], iterator_types = ["parallel", "parallel"]} ins(%collapsed : tensor<?xi64>) outs(%11 : tensor<?x16xf32>) {
    ^bb0(%in: i64, %out: f32):
      %100 = arith.index_cast %in : i64 to index
      %101 = linalg.index 1 : index
      %extracted = tensor.extract %embed[%100, %101] : tensor<11x16xf32, #girih.storage<"f32">>
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
    %transposed_5 = linalg.transpose ins(%expanded : tensor<?x?x4x8xf32>) outs(%19 : tensor<?x4x?x8xf32>) permutation = [0, 2, 1, 3] 
    %20 = tensor.empty() : tensor<16x16xf32>
    %transposed_6 = linalg.transpose ins(%k : tensor<16x16xf32, #girih.storage<"f32">>) outs(%20 : tensor<16x16xf32>) permutation = [1, 0] 
    %21 = tensor.empty(%0) : tensor<?x16x16xf32>
    %22 = linalg.generic {indexing_maps = [affine_map<(d0, d1, d2) -> (d1, d2)>, affine_map<(d0, d1, d2) -> (d0, d1, d2)>], iterator_types = ["parallel", "parallel", "parallel"]} ins(%transposed_6 : tensor<16x16xf32>) outs(%21 : tensor<?x16x16xf32>) {
    ^bb0(%in: f32, %out: f32):
      linalg.yield %in : f32
    } -> tensor<?x16x16xf32>
    %23 = tensor.empty(%0, %1) : tensor<?x?x16xf32>
    %24 = linalg.fill ins(%cst : f32) outs(%23 : tensor<?x?x16xf32>) -> tensor<?x?x16xf32>
    %25 = linalg.batch_matmul ins(%reshape, %22 : tensor<?x?x16xf32>, tensor<?x16x16xf32>) outs(%24 : tensor<?x?x16xf32>) -> tensor<?x?x16xf32>
    %expanded_7 = tensor.expand_shape %25 [[0], [1], [2, 3]] output_shape [%0, %1, 2, 8] : tensor<?x?x16xf32> into tensor<?x?x2x8xf32>
    %26 = tensor.empty(%0, %1) : tensor<?x2x?x8xf32>
    %transposed_8 = linalg.transpose ins(%expanded_7 : tensor<?x?x2x8xf32>) outs(%26 : tensor<?x2x?x8xf32>) permutation = [0, 2, 1, 3] 
    %transposed_9 = linalg.transpose ins(%v : tensor<16x16xf32, #girih.storage<"f32">>) outs(%20 : tensor<16x16xf32>) permutation = [1, 0] 
    %27 = linalg.generic {indexing_maps = [affine_map<(d0, d1, d2) -> (d1, d2)>, affine_map<(d0, d1, d2) -> (d0, d1, d2)>], iterator_types = ["parallel", "parallel", "parallel"]} ins(%transposed_9 : tensor<16x16xf32>) outs(%21 : tensor<?x16x16xf32>) {
    ^bb0(%in: f32, %out: f32):
      linalg.yield %in : f32
    } -> tensor<?x16x16xf32>
    %28 = linalg.batch_matmul ins(%reshape, %27 : tensor<?x?x16xf32>, tensor<?x16x16xf32>) outs(%24 : tensor<?x?x16xf32>) -> tensor<?x?x16xf32>
    %expanded_10 = tensor.expand_shape %28 [[0], [1], [2, 3]] output_shape [%0, %1, 2, 8] : tensor<?x?x16xf32> into tensor<?x?x2x8xf32>
    %transposed_11 = linalg.transpose ins(%expanded_10 : tensor<?x?x2x8xf32>) outs(%26 : tensor<?x2x?x8xf32>) permutation = [0, 2, 1, 3] 
    %29 = tensor.empty(%1) : tensor<?xi64>
    %30 = linalg.generic {indexing_maps = [affine_map<(d0) -> (d0)>], iterator_types = ["parallel"]} outs(%29 : tensor<?xi64>) {
    ^bb0(%out: i64):
      %100 = linalg.index 0 : index
      %101 = arith.index_cast %100 : index to i64
      linalg.yield %101 : i64
    } -> tensor<?xi64>
    %expanded_12 = tensor.expand_shape %30 [[0, 1]] output_shape [%1, 1] : tensor<?xi64> into tensor<?x1xi64>
    %31 = tensor.empty(%1) : tensor<?x1xf32>
    %32 = linalg.generic {indexing_maps = [affine_map<(d0, d1) -> (d0, d1)>, affine_map<(d0, d1) -> (d0, d1)>], iterator_types = ["parallel", "parallel"]} ins(%expanded_12 : tensor<?x1xi64>) outs(%31 : tensor<?x1xf32>) {
    ^bb0(%in: i64, %out: f32):
      %100 = arith.sitofp %in : i64 to f32
      linalg.yield %100 : f32
    } -> tensor<?x1xf32>
    %33 = tensor.empty(%1) : tensor<?x8xf32>
    %34 = linalg.generic {indexing_maps = [affine_map<(d0, d1) -> (d0, 0)>, affine_map<(d0, d1) -> (0, d1)>, affine_map<(d0, d1) -> (d0, d1)>], iterator_types = ["parallel", "parallel"]} ins(%32, %cst_4 : tensor<?x1xf32>, tensor<1x8xf32>) outs(%33 : tensor<?x8xf32>) {
    ^bb0(%in: f32, %in_38: f32, %out: f32):
      %100 = arith.mulf %in, %in_38 : f32
      linalg.yield %100 : f32
    } -> tensor<?x8xf32>
    %35 = linalg.generic {indexing_maps = [affine_map<(d0, d1) -> (d0, d1)>, affine_map<(d0, d1) -> (d0, d1)>], iterator_types = ["parallel", "parallel"]} ins(%34 : tensor<?x8xf32>) outs(%33 : tensor<?x8xf32>) {
    ^bb0(%in: f32, %out: f32):
      %100 = math.cos %in : f32
      linalg.yield %100 : f32
    } -> tensor<?x8xf32>
    %36 = linalg.generic {indexing_maps = [affine_map<(d0, d1) -> (d0, d1)>, affine_map<(d0, d1) -> (d0, d1)>], iterator_types = ["parallel", "parallel"]} ins(%34 : tensor<?x8xf32>) outs(%33 : tensor<?x8xf32>) {
    ^bb0(%in: f32, %out: f32):
      %100 = math.sin %in : f32
      linalg.yield %100 : f32
    } -> tensor<?x8xf32>
    %extracted_slice = tensor.extract_slice %transposed_5[0, 0, 0, 0] [%0, 4, %1, 4] [1, 1, 1, 1] : tensor<?x4x?x8xf32> to tensor<?x4x?x4xf32>
    %extracted_slice_13 = tensor.extract_slice %transposed_5[0, 0, 0, 4] [%0, 4, %1, 4] [1, 1, 1, 1] : tensor<?x4x?x8xf32> to tensor<?x4x?x4xf32>
    %37 = tensor.empty(%0, %1) : tensor<?x4x?x4xf32>
    %38 = linalg.generic {indexing_maps = [affine_map<(d0, d1, d2, d3) -> (d0, d1, d2, d3)>, affine_map<(d0, d1, d2, d3) -> (d0, d1, d2, d3)>], iterator_types = ["parallel", "parallel", "parallel", "parallel"]} ins(%extracted_slice_13 : tensor<?x4x?x4xf32>) outs(%37 : tensor<?x4x?x4xf32>) {
    ^bb0(%in: f32, %out: f32):
      %100 = arith.negf %in : f32
      linalg.yield %100 : f32
    } -> tensor<?x4x?x4xf32>
    %concat = tensor.concat dim(3) %38, %extracted_slice : (tensor<?x4x?x4xf32>, tensor<?x4x?x4xf32>) -> tensor<?x4x?x8xf32>
    %39 = linalg.generic {indexing_maps = [affine_map<(d0, d1, d2, d3) -> (d0, d1, d2, d3)>, affine_map<(d0, d1, d2, d3) -> (d2, d3)>, affine_map<(d0, d1, d2, d3) -> (d0, d1, d2, d3)>], iterator_types = ["parallel", "parallel", "parallel", "parallel"]} ins(%transposed_5, %35 : tensor<?x4x?x8xf32>, tensor<?x8xf32>) outs(%19 : tensor<?x4x?x8xf32>) {
    ^bb0(%in: f32, %in_38: f32, %out: f32):
      %100 = arith.mulf %in, %in_38 : f32
      linalg.yield %100 : f32
    } -> tensor<?x4x?x8xf32>
    %40 = linalg.generic {indexing_maps = [affine_map<(d0, d1, d2, d3) -> (d0, d1, d2, d3)>, affine_map<(d0, d1, d2, d3) -> (d2, d3)>, affine_map<(d0, d1, d2, d3) -> (d0, d1, d2, d3)>], iterator_types = ["parallel", "parallel", "parallel", "parallel"]} ins(%concat, %36 : tensor<?x4x?x8xf32>, tensor<?x8xf32>) outs(%19 : tensor<?x4x?x8xf32>) {
    ^bb0(%in: f32, %in_38: f32, %out: f32):
      %100 = arith.mulf %in, %in_38 : f32
      linalg.yield %100 : f32
    } -> tensor<?x4x?x8xf32>
    %41 = linalg.generic {indexing_maps = [affine_map<(d0, d1, d2, d3) -> (d0, d1, d2, d3)>, affine_map<(d0, d1, d2, d3) -> (d0, d1, d2, d3)>, affine_map<(d0, d1, d2, d3) -> (d0, d1, d2, d3)>], iterator_types = ["parallel", "parallel", "parallel", "parallel"]} ins(%39, %40 : tensor<?x4x?x8xf32>, tensor<?x4x?x8xf32>) outs(%19 : tensor<?x4x?x8xf32>) {
    ^bb0(%in: f32, %in_38: f32, %out: f32):
      %100 = arith.addf %in, %in_38 : f32
      linalg.yield %100 : f32
    } -> tensor<?x4x?x8xf32>
    %extracted_slice_14 = tensor.extract_slice %transposed_8[0, 0, 0, 0] [%0, 2, %1, 4] [1, 1, 1, 1] : tensor<?x2x?x8xf32> to tensor<?x2x?x4xf32>
    %extracted_slice_15 = tensor.extract_slice %transposed_8[0, 0, 0, 4] [%0, 2, %1, 4] [1, 1, 1, 1] : tensor<?x2x?x8xf32> to tensor<?x2x?x4xf32>
    %42 = tensor.empty(%0, %1) : tensor<?x2x?x4xf32>
    %43 = linalg.generic {indexing_maps = [affine_map<(d0, d1, d2, d3) -> (d0, d1, d2, d3)>, affine_map<(d0, d1, d2, d3) -> (d0, d1, d2, d3)>], iterator_types = ["parallel", "parallel", "parallel", "parallel"]} ins(%extracted_slice_15 : tensor<?x2x?x4xf32>) outs(%42 : tensor<?x2x?x4xf32>) {
    ^bb0(%in: f32, %out: f32):
      %100 = arith.negf %in : f32
      linalg.yield %100 : f32
    } -> tensor<?x2x?x4xf32>
    %concat_16 = tensor.concat dim(3) %43, %extracted_slice_14 : (tensor<?x2x?x4xf32>, tensor<?x2x?x4xf32>) -> tensor<?x2x?x8xf32>
    %44 = linalg.generic {indexing_maps = [affine_map<(d0, d1, d2, d3) -> (d0, d1, d2, d3)>, affine_map<(d0, d1, d2, d3) -> (d2, d3)>, affine_map<(d0, d1, d2, d3) -> (d0, d1, d2, d3)>], iterator_types = ["parallel", "parallel", "parallel", "parallel"]} ins(%transposed_8, %35 : tensor<?x2x?x8xf32>, tensor<?x8xf32>) outs(%26 : tensor<?x2x?x8xf32>) {
    ^bb0(%in: f32, %in_38: f32, %out: f32):
      %100 = arith.mulf %in, %in_38 : f32
      linalg.yield %100 : f32
    } -> tensor<?x2x?x8xf32>
    %45 = linalg.generic {indexing_maps = [affine_map<(d0, d1, d2, d3) -> (d0, d1, d2, d3)>, affine_map<(d0, d1, d2, d3) -> (d2, d3)>, affine_map<(d0, d1, d2, d3) -> (d0, d1, d2, d3)>], iterator_types = ["parallel", "parallel", "parallel", "parallel"]} ins(%concat_16, %36 : tensor<?x2x?x8xf32>, tensor<?x8xf32>) outs(%26 : tensor<?x2x?x8xf32>) {
    ^bb0(%in: f32, %in_38: f32, %out: f32):
      %100 = arith.mulf %in, %in_38 : f32
      linalg.yield %100 : f32
    } -> tensor<?x2x?x8xf32>
    %46 = linalg.generic {indexing_maps = [affine_map<(d0, d1, d2, d3) -> (d0, d1, d2, d3)>, affine_map<(d0, d1, d2, d3) -> (d0, d1, d2, d3)>, affine_map<(d0, d1, d2, d3) -> (d0, d1, d2, d3)>], iterator_types = ["parallel", "parallel", "parallel", "parallel"]} ins(%44, %45 : tensor<?x2x?x8xf32>, tensor<?x2x?x8xf32>) outs(%26 : tensor<?x2x?x8xf32>) {
    ^bb0(%in: f32, %in_38: f32, %out: f32):
      %100 = arith.addf %in, %in_38 : f32
      linalg.yield %100 : f32
    } -> tensor<?x2x?x8xf32>
    %expanded_17 = tensor.expand_shape %46 [[0], [1], [2, 3], [4]] output_shape [%0, 2, 1, %1, 8] : tensor<?x2x?x8xf32> into tensor<?x2x1x?x8xf32>
    %47 = tensor.empty(%0, %1) : tensor<?x2x2x?x8xf32>
    %collapsed_18 = tensor.collapse_shape %expanded_17 [[0], [1, 2], [3], [4]] : tensor<?x2x1x?x8xf32> into tensor<?x2x?x8xf32>
    %48 = linalg.generic {indexing_maps = [affine_map<(d0, d1, d2, d3, d4) -> (d0, d1, d3, d4)>, affine_map<(d0, d1, d2, d3, d4) -> (d0, d1, d2, d3, d4)>], iterator_types = ["parallel", "parallel", "parallel", "parallel", "parallel"]} ins(%collapsed_18 : tensor<?x2x?x8xf32>) outs(%47 : tensor<?x2x2x?x8xf32>) {
    ^bb0(%in: f32, %out: f32):
      linalg.yield %in : f32
    } -> tensor<?x2x2x?x8xf32>
    %49 = arith.cmpi sgt, %8, %c0_i64 : i64
    cf.assert %49, "Expected dim size > 0."
    %50 = arith.cmpi sgt, %9, %c0_i64 : i64
    cf.assert %50, "Expected dim size > 0."
    %from_elements_19 = tensor.from_elements %8, %c4_i64, %9, %c8_i64 : tensor<4xi64>
    %reshape_20 = tensor.reshape %48(%from_elements_19) : (tensor<?x2x2x?x8xf32>, tensor<4xi64>) -> tensor<?x4x?x8xf32>
    %expanded_21 = tensor.expand_shape %transposed_11 [[0], [1], [2, 3], [4]] output_shape [%0, 2, 1, %1, 8] : tensor<?x2x?x8xf32> into tensor<?x2x1x?x8xf32>
    %collapsed_22 = tensor.collapse_shape %expanded_21 [[0], [1, 2], [3], [4]] : tensor<?x2x1x?x8xf32> into tensor<?x2x?x8xf32>
    %51 = linalg.generic {indexing_maps = [affine_map<(d0, d1, d2, d3, d4) -> (d0, d1, d3, d4)>, affine_map<(d0, d1, d2, d3, d4) -> (d0, d1, d2, d3, d4)>], iterator_types = ["parallel", "parallel", "parallel", "parallel", "parallel"]} ins(%collapsed_22 : tensor<?x2x?x8xf32>) outs(%47 : tensor<?x2x2x?x8xf32>) {
    ^bb0(%in: f32, %out: f32):
      linalg.yield %in : f32
    } -> tensor<?x2x2x?x8xf32>
    cf.assert %49, "Expected dim size > 0."
    cf.assert %50, "Expected dim size > 0."
    %reshape_23 = tensor.reshape %51(%from_elements_19) : (tensor<?x2x2x?x8xf32>, tensor<4xi64>) -> tensor<?x4x?x8xf32>
    %expanded_24 = tensor.expand_shape %30 [[0, 1]] output_shape [1, %1] : tensor<?xi64> into tensor<1x?xi64>
    %52 = tensor.empty(%1, %1) : tensor<?x?xi1>
    %53 = linalg.generic {indexing_maps = [affine_map<(d0, d1) -> (0, d1)>, affine_map<(d0, d1) -> (d0, 0)>, affine_map<(d0, d1) -> (d0, d1)>], iterator_types = ["parallel", "parallel"]} ins(%expanded_24, %expanded_12 : tensor<1x?xi64>, tensor<?x1xi64>) outs(%52 : tensor<?x?xi1>) {
    ^bb0(%in: i64, %in_38: i64, %out: i1):
      %100 = arith.cmpi sgt, %in, %in_38 : i64
      linalg.yield %100 : i1
    } -> tensor<?x?xi1>
    %54 = tensor.empty(%1) : tensor<1x?xi64>
    %55 = linalg.generic {indexing_maps = [affine_map<(d0, d1) -> (d0, d1)>, affine_map<(d0, d1) -> ()>, affine_map<(d0, d1) -> (d0, d1)>], iterator_types = ["parallel", "parallel"]} ins(%expanded_24, %cst_3 : tensor<1x?xi64>, tensor<i64>) outs(%54 : tensor<1x?xi64>) {
    ^bb0(%in: i64, %in_38: i64, %out: i64):
      %100 = arith.addi %in, %in_38 : i64
      linalg.yield %100 : i64
    } -> tensor<1x?xi64>
    %56 = linalg.generic {indexing_maps = [affine_map<(d0, d1) -> (0, d1)>, affine_map<(d0, d1) -> (d0, 0)>, affine_map<(d0, d1) -> (d0, d1)>], iterator_types = ["parallel", "parallel"]} ins(%55, %expanded_12 : tensor<1x?xi64>, tensor<?x1xi64>) outs(%52 : tensor<?x?xi1>) {
    ^bb0(%in: i64, %in_38: i64, %out: i1):
      %100 = arith.cmpi sle, %in, %in_38 : i64
      linalg.yield %100 : i1
    } -> tensor<?x?xi1>
    %57 = linalg.generic {indexing_maps = [affine_map<(d0, d1) -> (d0, d1)>, affine_map<(d0, d1) -> (d0, d1)>, affine_map<(d0, d1) -> (d0, d1)>], iterator_types = ["parallel", "parallel"]} ins(%53, %56 : tensor<?x?xi1>, tensor<?x?xi1>) outs(%52 : tensor<?x?xi1>) {
    ^bb0(%in: i1, %in_38: i1, %out: i1):
      %100 = arith.ori %in, %in_38 : i1
      linalg.yield %100 : i1
    } -> tensor<?x?xi1>
    %58 = tensor.empty(%0, %1) : tensor<?x4x8x?xf32>
    %transposed_25 = linalg.transpose ins(%reshape_20 : tensor<?x4x?x8xf32>) outs(%58 : tensor<?x4x8x?xf32>) permutation = [0, 1, 3, 2] 
    %collapsed_26 = tensor.collapse_shape %41 [[0, 1], [2], [3]] : tensor<?x4x?x8xf32> into tensor<?x?x8xf32>
    %collapsed_27 = tensor.collapse_shape %transposed_25 [[0, 1], [2], [3]] : tensor<?x4x8x?xf32> into tensor<?x8x?xf32>
    %59 = arith.muli %0, %c4 : index
    %60 = tensor.empty(%59, %1, %1) : tensor<?x?x?xf32>
    %61 = linalg.fill ins(%cst : f32) outs(%60 : tensor<?x?x?xf32>) -> tensor<?x?x?xf32>
    %62 = linalg.batch_matmul ins(%collapsed_26, %collapsed_27 : tensor<?x?x8xf32>, tensor<?x8x?xf32>) outs(%61 : tensor<?x?x?xf32>) -> tensor<?x?x?xf32>
    %63 = arith.divsi %59, %c4 : index
    %expanded_28 = tensor.expand_shape %62 [[0, 1], [2], [3]] output_shape [%63, 4, %1, %1] : tensor<?x?x?xf32> into tensor<?x4x?x?xf32>
    %64 = tensor.empty(%63, %1, %1) : tensor<?x4x?x?xf32>
    %65 = linalg.generic {indexing_maps = [affine_map<(d0, d1, d2, d3) -> (d0, d1, d2, d3)>, affine_map<(d0, d1, d2, d3) -> ()>, affine_map<(d0, d1, d2, d3) -> (d0, d1, d2, d3)>], iterator_types = ["parallel", "parallel", "parallel", "parallel"]} ins(%expanded_28, %cst_2 : tensor<?x4x?x?xf32>, tensor<f32>) outs(%64 : tensor<?x4x?x?xf32>) {
    ^bb0(%in: f32, %in_38: f32, %out: f32):
      %100 = arith.divf %in, %in_38 : f32
      linalg.yield %100 : f32
    } -> tensor<?x4x?x?xf32>
    %66 = linalg.generic {indexing_maps = [affine_map<(d0, d1, d2, d3) -> (d2, d3)>, affine_map<(d0, d1, d2, d3) -> ()>, affine_map<(d0, d1, d2, d3) -> (d0, d1, d2, d3)>, affine_map<(d0, d1, d2, d3) -> (d0, d1, d2, d3)>], iterator_types = ["parallel", "parallel", "parallel", "parallel"]} ins(%57, %cst_1, %65 : tensor<?x?xi1>, tensor<f32>, tensor<?x4x?x?xf32>) outs(%64 : tensor<?x4x?x?xf32>) {
    ^bb0(%in: i1, %in_38: f32, %in_39: f32, %out: f32):
      %100 = arith.select %in, %in_38, %in_39 : f32
      linalg.yield %100 : f32
    } -> tensor<?x4x?x?xf32>
    %67 = tensor.empty(%63, %1) : tensor<?x4x?xi64>
    %68 = linalg.fill ins(%c0_i64 : i64) outs(%67 : tensor<?x4x?xi64>) -> tensor<?x4x?xi64>
    %69 = tensor.empty(%63, %1) : tensor<?x4x?xf32>
    %70 = linalg.fill ins(%cst_0 : f32) outs(%69 : tensor<?x4x?xf32>) -> tensor<?x4x?xf32>
    %71:2 = linalg.generic {indexing_maps = [affine_map<(d0, d1, d2, d3) -> (d0, d1, d2, d3)>, affine_map<(d0, d1, d2, d3) -> (d0, d1, d2)>, affine_map<(d0, d1, d2, d3) -> (d0, d1, d2)>], iterator_types = ["parallel", "parallel", "parallel", "reduction"]} ins(%66 : tensor<?x4x?x?xf32>) outs(%70, %68 : tensor<?x4x?xf32>, tensor<?x4x?xi64>) {
    ^bb0(%in: f32, %out: f32, %out_38: i64):
      %100 = linalg.index 3 : index
      %101 = arith.index_cast %100 : index to i64
      %102 = arith.maximumf %in, %out : f32
      %103 = arith.cmpf ogt, %in, %out : f32
      %104 = arith.select %103, %101, %out_38 : i64
      linalg.yield %102, %104 : f32, i64
    } -> (tensor<?x4x?xf32>, tensor<?x4x?xi64>)
    %expanded_29 = tensor.expand_shape %71#0 [[0], [1], [2, 3]] output_shape [%63, 4, %1, 1] : tensor<?x4x?xf32> into tensor<?x4x?x1xf32>
    %72 = linalg.generic {indexing_maps = [affine_map<(d0, d1, d2, d3) -> (d0, d1, d2, d3)>, affine_map<(d0, d1, d2, d3) -> (d0, d1, d2, 0)>, affine_map<(d0, d1, d2, d3) -> (d0, d1, d2, d3)>], iterator_types = ["parallel", "parallel", "parallel", "parallel"]} ins(%66, %expanded_29 : tensor<?x4x?x?xf32>, tensor<?x4x?x1xf32>) outs(%64 : tensor<?x4x?x?xf32>) {
    ^bb0(%in: f32, %in_38: f32, %out: f32):
      %100 = arith.subf %in, %in_38 : f32
      linalg.yield %100 : f32
    } -> tensor<?x4x?x?xf32>
    %73 = linalg.generic {indexing_maps = [affine_map<(d0, d1, d2, d3) -> (d0, d1, d2, d3)>, affine_map<(d0, d1, d2, d3) -> (d0, d1, d2, d3)>], iterator_types = ["parallel", "parallel", "parallel", "parallel"]} ins(%72 : tensor<?x4x?x?xf32>) outs(%64 : tensor<?x4x?x?xf32>) {
    ^bb0(%in: f32, %out: f32):
      %100 = math.exp %in : f32
      linalg.yield %100 : f32
    } -> tensor<?x4x?x?xf32>
    %74 = tensor.empty(%63, %1) : tensor<?x4x?x1xf32>
    %75 = linalg.fill ins(%cst : f32) outs(%74 : tensor<?x4x?x1xf32>) -> tensor<?x4x?x1xf32>
    %76 = linalg.generic {indexing_maps = [affine_map<(d0, d1, d2, d3) -> (d0, d1, d2, d3)>, affine_map<(d0, d1, d2, d3) -> (d0, d1, d2, 0)>], iterator_types = ["parallel", "parallel", "parallel", "reduction"]} ins(%73 : tensor<?x4x?x?xf32>) outs(%75 : tensor<?x4x?x1xf32>) {
    ^bb0(%in: f32, %out: f32):
      %100 = arith.addf %in, %out : f32
      linalg.yield %100 : f32
    } -> tensor<?x4x?x1xf32>
    %77 = linalg.generic {indexing_maps = [affine_map<(d0, d1, d2, d3) -> (d0, d1, d2, d3)>, affine_map<(d0, d1, d2, d3) -> (d0, d1, d2, 0)>, affine_map<(d0, d1, d2, d3) -> (d0, d1, d2, d3)>], iterator_types = ["parallel", "parallel", "parallel", "parallel"]} ins(%73, %76 : tensor<?x4x?x?xf32>, tensor<?x4x?x1xf32>) outs(%64 : tensor<?x4x?x?xf32>) {
    ^bb0(%in: f32, %in_38: f32, %out: f32):
      %100 = arith.divf %in, %in_38 : f32
      linalg.yield %100 : f32
    } -> tensor<?x4x?x?xf32>
    %78 = arith.maxui %63, %0 : index
    %collapsed_30 = tensor.collapse_shape %77 [[0, 1], [2], [3]] : tensor<?x4x?x?xf32> into tensor<?x?x?xf32>
    %collapsed_31 = tensor.collapse_shape %reshape_23 [[0, 1], [2], [3]] : tensor<?x4x?x8xf32> into tensor<?x?x8xf32>
    %79 = arith.muli %78, %c4 : index
    %80 = tensor.empty(%79, %1) : tensor<?x?x8xf32>
    %81 = linalg.fill ins(%cst : f32) outs(%80 : tensor<?x?x8xf32>) -> tensor<?x?x8xf32>
    %82 = linalg.batch_matmul ins(%collapsed_30, %collapsed_31 : tensor<?x?x?xf32>, tensor<?x?x8xf32>) outs(%81 : tensor<?x?x8xf32>) -> tensor<?x?x8xf32>
    %83 = arith.divsi %79, %c4 : index
    %expanded_32 = tensor.expand_shape %82 [[0, 1], [2], [3]] output_shape [%83, 4, %1, 8] : tensor<?x?x8xf32> into tensor<?x4x?x8xf32>
    %84 = tensor.empty(%83, %1) : tensor<?x?x4x8xf32>
    %transposed_33 = linalg.transpose ins(%expanded_32 : tensor<?x4x?x8xf32>) outs(%84 : tensor<?x?x4x8xf32>) permutation = [0, 2, 1, 3] 
    %collapsed_34 = tensor.collapse_shape %transposed_33 [[0], [1], [2, 3]] : tensor<?x?x4x8xf32> into tensor<?x?x32xf32>
    %85 = tensor.empty() : tensor<32x16xf32>
    %transposed_35 = linalg.transpose ins(%o : tensor<16x32xf32, #girih.storage<"f32">>) outs(%85 : tensor<32x16xf32>) permutation = [1, 0] 
    %86 = tensor.empty(%83) : tensor<?x32x16xf32>
    %87 = linalg.generic {indexing_maps = [affine_map<(d0, d1, d2) -> (d1, d2)>, affine_map<(d0, d1, d2) -> (d0, d1, d2)>], iterator_types = ["parallel", "parallel", "parallel"]} ins(%transposed_35 : tensor<32x16xf32>) outs(%86 : tensor<?x32x16xf32>) {
    ^bb0(%in: f32, %out: f32):
      linalg.yield %in : f32
    } -> tensor<?x32x16xf32>
    %88 = tensor.empty(%83, %1) : tensor<?x?x16xf32>
    %89 = linalg.fill ins(%cst : f32) outs(%88 : tensor<?x?x16xf32>) -> tensor<?x?x16xf32>
    %90 = linalg.batch_matmul ins(%collapsed_34, %87 : tensor<?x?x32xf32>, tensor<?x32x16xf32>) outs(%89 : tensor<?x?x16xf32>) -> tensor<?x?x16xf32>
    %91 = linalg.generic {indexing_maps = [affine_map<(d0, d1, d2) -> (d0, d1, d2)>, affine_map<(d0, d1, d2) -> (d0, d1, d2)>, affine_map<(d0, d1, d2) -> (d0, d1, d2)>], iterator_types = ["parallel", "parallel", "parallel"]} ins(%reshape, %90 : tensor<?x?x16xf32>, tensor<?x?x16xf32>) outs(%23 : tensor<?x?x16xf32>) {
    ^bb0(%in: f32, %in_38: f32, %out: f32):
      %100 = arith.addf %in, %in_38 : f32
      linalg.yield %100 : f32
    } -> tensor<?x?x16xf32>
    %92 = tensor.empty() : tensor<16x11xf32>
    %transposed_36 = linalg.transpose ins(%head : tensor<11x16xf32, #girih.storage<"f32">>) outs(%92 : tensor<16x11xf32>) permutation = [1, 0] 
    %93 = tensor.empty(%0) : tensor<?x16x11xf32>
    %94 = linalg.generic {indexing_maps = [affine_map<(d0, d1, d2) -> (d1, d2)>, affine_map<(d0, d1, d2) -> (d0, d1, d2)>], iterator_types = ["parallel", "parallel", "parallel"]} ins(%transposed_36 : tensor<16x11xf32>) outs(%93 : tensor<?x16x11xf32>) {
    ^bb0(%in: f32, %out: f32):
      linalg.yield %in : f32
    } -> tensor<?x16x11xf32>
    %95 = tensor.empty(%0, %1) : tensor<?x?x11xf32>
    %96 = linalg.fill ins(%cst : f32) outs(%95 : tensor<?x?x11xf32>) -> tensor<?x?x11xf32>
    %97 = linalg.batch_matmul ins(%91, %94 : tensor<?x?x16xf32>, tensor<?x16x11xf32>) outs(%96 : tensor<?x?x11xf32>) -> tensor<?x?x11xf32>
    %dim = tensor.dim %97, %c0 : tensor<?x?x11xf32>
    %dim_37 = tensor.dim %97, %c1 : tensor<?x?x11xf32>
    return %97 : tensor<?x?x11xf32>
}
