// Integer codes meet an i8 unit: x becomes codes once for all its readers. Anything else multiplies in f32.
// RUN: girih-opt %s -girih-choose-arithmetic -split-input-file | FileCheck %s

#l1 = #machine.level<name = "L1", size_bytes = 49152, bytes_per_cycle = 128, latency_cycles = 5, shared_by = 1, source = "test">
#dot = #machine.unit<name = "dot", element = "i8", lanes = 64, per_cycle = 2, latency_cycles = 5, registers = 32, source = "test">
#fma = #machine.unit<name = "fma", element = "f32", lanes = 16, per_cycle = 2, latency_cycles = 4, registers = 32, source = "test">
!codes = !girih.packed<64 x 75, "p16:u4,f16,f16,32">
!halves = !girih.packed<64 x 75, "p16:f16,none,none,32">
module attributes {girih.numerics = "invariant", girih.machine = #machine.description<name = "m", kind = "cpu", cores = 2, clock_mhz = 2600, barrier_ns = 200, levels = [#l1], units = [#fma, #dot]>} {
  // CHECK-LABEL: func.func @shares_codes_of_one_x
  // CHECK: %[[Q:.*]] = girih.quantize_rows ins({{.*}} : tensor<?x75xf32>) outs({{.*}} : tensor<?x448xi8>)
  // CHECK-NOT: girih.quantize_rows
  // CHECK: girih.qmatmul ins(%[[Q]], {{.*}} : tensor<?x448xi8>
  // CHECK: girih.qmatmul ins(%[[Q]], {{.*}} : tensor<?x448xi8>
  func.func @shares_codes_of_one_x(%x: tensor<?x75xf32>, %w: !codes, %init: tensor<?x64xf32>) -> (tensor<?x64xf32>, tensor<?x64xf32>) attributes {girih.max_tokens = 1 : i64} {
    %y = girih.qmatmul ins(%x, %w : tensor<?x75xf32>, !codes) outs(%init : tensor<?x64xf32>) -> tensor<?x64xf32>
    %z = girih.qmatmul ins(%x, %w : tensor<?x75xf32>, !codes) outs(%init : tensor<?x64xf32>) -> tensor<?x64xf32>
    return %y, %z : tensor<?x64xf32>, tensor<?x64xf32>
  }
  // CHECK-LABEL: func.func @keeps_f32_where_weights_are_floats
  // CHECK-NOT: girih.quantize_rows
  func.func @keeps_f32_where_weights_are_floats(%x: tensor<?x75xf32>, %w: !halves, %init: tensor<?x64xf32>) -> tensor<?x64xf32> attributes {girih.max_tokens = 1 : i64} {
    %y = girih.qmatmul ins(%x, %w : tensor<?x75xf32>, !halves) outs(%init : tensor<?x64xf32>) -> tensor<?x64xf32>
    return %y : tensor<?x64xf32>
  }
}

// -----

#l1 = #machine.level<name = "L1", size_bytes = 49152, bytes_per_cycle = 128, latency_cycles = 5, shared_by = 1, source = "test">
#dot = #machine.unit<name = "dot", element = "i8", lanes = 64, per_cycle = 2, latency_cycles = 5, registers = 32, source = "test">
!codes = !girih.packed<64 x 32, "p16:u4,f16,f16,32">
module attributes {girih.numerics = "exact", girih.machine = #machine.description<name = "m", kind = "cpu", cores = 2, clock_mhz = 2600, barrier_ns = 200, levels = [#l1], units = [#dot]>} {
  // CHECK-LABEL: func.func @exact_rounds_nothing
  // CHECK-NOT: girih.quantize_rows
  func.func @exact_rounds_nothing(%x: tensor<?x32xf32>, %w: !codes, %init: tensor<?x64xf32>) -> tensor<?x64xf32> attributes {girih.max_tokens = 1 : i64} {
    %y = girih.qmatmul ins(%x, %w : tensor<?x32xf32>, !codes) outs(%init : tensor<?x64xf32>) -> tensor<?x64xf32>
    return %y : tensor<?x64xf32>
  }
}

// -----

#l1 = #machine.level<name = "L1", size_bytes = 49152, bytes_per_cycle = 128, latency_cycles = 5, shared_by = 1, source = "test">
#fma = #machine.unit<name = "fma", element = "f32", lanes = 16, per_cycle = 2, latency_cycles = 4, registers = 32, source = "test">
!codes = !girih.packed<64 x 32, "p16:u4,f16,f16,32">
module attributes {girih.numerics = "fast", girih.machine = #machine.description<name = "m", kind = "cpu", cores = 2, clock_mhz = 2600, barrier_ns = 200, levels = [#l1], units = [#fma]>} {
  // CHECK-LABEL: func.func @no_integer_unit
  // CHECK-NOT: girih.quantize_rows
  func.func @no_integer_unit(%x: tensor<?x32xf32>, %w: !codes, %init: tensor<?x64xf32>) -> tensor<?x64xf32> attributes {girih.max_tokens = 1 : i64} {
    %y = girih.qmatmul ins(%x, %w : tensor<?x32xf32>, !codes) outs(%init : tensor<?x64xf32>) -> tensor<?x64xf32>
    return %y : tensor<?x64xf32>
  }
}

// -----

#l1 = #machine.level<name = "L1", size_bytes = 49152, bytes_per_cycle = 128, latency_cycles = 5, shared_by = 1, source = "test">
#dot = #machine.unit<name = "dot", element = "i8", lanes = 64, per_cycle = 2, latency_cycles = 5, registers = 32, source = "test">
#matrix = #machine.unit<name = "matrix", element = "bf16", lanes = 512, per_cycle = 1, latency_cycles = 52, registers = 8, source = "test", tile = <rows = 16, columns = 16, depth = 32>>
!codes = !girih.packed<64 x 32, "p16:u4,f16,f16,32">
module attributes {girih.numerics = "fast", girih.machine = #machine.description<name = "m", kind = "cpu", cores = 2, clock_mhz = 2600, barrier_ns = 200, levels = [#l1], units = [#dot, #matrix]>} {
  // CHECK-LABEL: func.func @fills_the_matrix_unit
  // CHECK: %[[H:.*]] = linalg.generic
  // CHECK: arith.truncf {{.*}} : f32 to bf16
  // CHECK-NOT: arith.truncf
  // CHECK: girih.qmatmul ins(%[[H]], {{.*}} : tensor<?x32xbf16>
  // CHECK: girih.qmatmul ins(%[[H]], {{.*}} : tensor<?x32xbf16>
  func.func @fills_the_matrix_unit(%x: tensor<?x32xf32>, %w: !codes, %init: tensor<?x64xf32>) -> (tensor<?x64xf32>, tensor<?x64xf32>) attributes {girih.max_tokens = 16 : i64} {
    %y = girih.qmatmul ins(%x, %w : tensor<?x32xf32>, !codes) outs(%init : tensor<?x64xf32>) -> tensor<?x64xf32>
    %z = girih.qmatmul ins(%x, %w : tensor<?x32xf32>, !codes) outs(%init : tensor<?x64xf32>) -> tensor<?x64xf32>
    return %y, %z : tensor<?x64xf32>, tensor<?x64xf32>
  }
  // Two tiles deep: the rows lie three tiles apart.
  // CHECK-LABEL: func.func @spreads_rows_over_sets
  // CHECK: %[[M:.*]] = tensor.empty({{.*}}) : tensor<?x96xbf16>
  // CHECK: tensor.extract_slice %[[M]][0, 0] [{{.*}}, 40] [1, 1] : tensor<?x96xbf16> to tensor<?x40xbf16>
  func.func @spreads_rows_over_sets(%x: tensor<?x40xf32>, %w: !girih.packed<64 x 40, "p16:u4,f16,f16,32">, %init: tensor<?x64xf32>) -> tensor<?x64xf32> attributes {girih.max_tokens = 16 : i64} {
    %y = girih.qmatmul ins(%x, %w : tensor<?x40xf32>, !girih.packed<64 x 40, "p16:u4,f16,f16,32">) outs(%init : tensor<?x64xf32>) -> tensor<?x64xf32>
    return %y : tensor<?x64xf32>
  }
  // CHECK-LABEL: func.func @attends_on_it
  // CHECK: girih.attention {{.*}}operand_type = bf16
  func.func @attends_on_it(%q: tensor<?x4x16xf32>, %kv: !girih.kv<2, 16, 16, f16>, %init: tensor<?x4x16xf32>) -> tensor<?x4x16xf32> attributes {girih.max_tokens = 64 : i64} {
    %o = girih.attention ins(%q : tensor<?x4x16xf32>) cache(%kv : !girih.kv<2, 16, 16, f16>) outs(%init : tensor<?x4x16xf32>) {scale = 0.25 : f32} -> tensor<?x4x16xf32>
    return %o : tensor<?x4x16xf32>
  }

  // Sequences that are decoded together share no keys.
  // CHECK-LABEL: func.func @attends_for_many_sequences
  // CHECK-NOT: operand_type
  // CHECK: return
  func.func @attends_for_many_sequences(%q: tensor<?x4x16xf32>, %kv: !girih.kv<2, 16, 16, f16>, %init: tensor<?x4x16xf32>) -> tensor<?x4x16xf32> attributes {girih.max_tokens = 16 : i64} {
    %o = girih.attention ins(%q : tensor<?x4x16xf32>) cache(%kv : !girih.kv<2, 16, 16, f16>) outs(%init : tensor<?x4x16xf32>) {scale = 0.25 : f32} -> tensor<?x4x16xf32>
    return %o : tensor<?x4x16xf32>
  }

  // What only a matmul reads, attention rounds, into rows that lie an odd number of the unit's tiles apart.
  // CHECK-LABEL: func.func @rounds_its_result
  // CHECK: tensor.empty(%{{.*}}) : tensor<?x96xbf16>
  // CHECK: %[[O:.*]] = girih.attention {{.*}} outs(%{{.*}} : tensor<?x4x16xbf16>) {operand_type = bf16
  // CHECK-NOT: arith.truncf
  // CHECK: %[[FLAT:.*]] = tensor.collapse_shape %[[O]]
  // CHECK: girih.qmatmul ins(%[[FLAT]], %{{.*}} : tensor<?x64xbf16>
  func.func @rounds_its_result(%q: tensor<?x4x16xf32>, %kv: !girih.kv<2, 16, 16, f16>, %init: tensor<?x4x16xf32>,
      %w: !girih.packed<64 x 64, "p16:u4,f16,f16,32">, %out: tensor<?x64xf32>) -> tensor<?x64xf32> attributes {girih.max_tokens = 64 : i64} {
    %o = girih.attention ins(%q : tensor<?x4x16xf32>) cache(%kv : !girih.kv<2, 16, 16, f16>) outs(%init : tensor<?x4x16xf32>) {scale = 0.25 : f32} -> tensor<?x4x16xf32>
    %flat = tensor.collapse_shape %o [[0], [1, 2]] : tensor<?x4x16xf32> into tensor<?x64xf32>
    %y = girih.qmatmul ins(%flat, %w : tensor<?x64xf32>, !girih.packed<64 x 64, "p16:u4,f16,f16,32">) outs(%out : tensor<?x64xf32>) -> tensor<?x64xf32>
    return %y : tensor<?x64xf32>
  }
  // CHECK-LABEL: func.func @has_too_few_rows_for_it
  // CHECK-NOT: both_digits
  // CHECK: girih.quantize_rows
  func.func @has_too_few_rows_for_it(%x: tensor<?x32xf32>, %w: !codes, %init: tensor<?x64xf32>) -> tensor<?x64xf32> attributes {girih.max_tokens = 8 : i64} {
    %y = girih.qmatmul ins(%x, %w : tensor<?x32xf32>, !codes) outs(%init : tensor<?x64xf32>) -> tensor<?x64xf32>
    return %y : tensor<?x64xf32>
  }
}

// -----

#l1 = #machine.level<name = "L1", size_bytes = 49152, bytes_per_cycle = 128, latency_cycles = 5, shared_by = 1, source = "test">
#matrix = #machine.unit<name = "matrix", element = "bf16", lanes = 512, per_cycle = 1, latency_cycles = 52, registers = 8, source = "test", tile = <rows = 16, columns = 16, depth = 32>>
!codes = !girih.packed<64 x 32, "p16:u4,f16,f16,32">
module attributes {girih.numerics = "invariant", girih.machine = #machine.description<name = "m", kind = "cpu", cores = 2, clock_mhz = 2600, barrier_ns = 200, levels = [#l1], units = [#matrix]>} {
  // CHECK-LABEL: func.func @matrix_units_are_for_fast_alone
  // CHECK-NOT: arith.truncf
  func.func @matrix_units_are_for_fast_alone(%x: tensor<?x32xf32>, %w: !codes, %init: tensor<?x64xf32>) -> tensor<?x64xf32> attributes {girih.max_tokens = 16 : i64} {
    %y = girih.qmatmul ins(%x, %w : tensor<?x32xf32>, !codes) outs(%init : tensor<?x64xf32>) -> tensor<?x64xf32>
    return %y : tensor<?x64xf32>
  }
}

// -----

// Without a matrix unit, short prompts get 16 bits; few rows and many get 8, and so does everything in `invariant`.
#l1 = #machine.level<name = "L1", size_bytes = 49152, bytes_per_cycle = 128, latency_cycles = 5, shared_by = 1, source = "test">
#dot = #machine.unit<name = "dot", element = "i8", lanes = 64, per_cycle = 2, latency_cycles = 5, registers = 32, source = "test">
!codes = !girih.packed<64 x 32, "p16:u4,f16,f16,32">
module attributes {girih.numerics = "fast", girih.machine = #machine.description<name = "m", kind = "cpu", cores = 2, clock_mhz = 2600, barrier_ns = 200, levels = [#l1], units = [#dot]>} {
  // CHECK-LABEL: func.func @decodes_together
  // CHECK: girih.quantize_rows
  // CHECK-NOT: both_digits
  func.func @decodes_together(%x: tensor<?x32xf32>, %w: !codes, %init: tensor<?x64xf32>) -> tensor<?x64xf32> attributes {girih.max_tokens = 16 : i64} {
    %y = girih.qmatmul ins(%x, %w : tensor<?x32xf32>, !codes) outs(%init : tensor<?x64xf32>) -> tensor<?x64xf32>
    return %y : tensor<?x64xf32>
  }
  // CHECK-LABEL: func.func @is_a_short_prompt
  // CHECK: girih.quantize_rows {{.*}} {both_digits}
  func.func @is_a_short_prompt(%x: tensor<?x32xf32>, %w: !codes, %init: tensor<?x64xf32>) -> tensor<?x64xf32> attributes {girih.max_tokens = 64 : i64} {
    %y = girih.qmatmul ins(%x, %w : tensor<?x32xf32>, !codes) outs(%init : tensor<?x64xf32>) -> tensor<?x64xf32>
    return %y : tensor<?x64xf32>
  }
  // In long ones scales may be rounded, but in what is returned.
  // CHECK-LABEL: func.func @is_a_long_prompt
  // CHECK: girih.quantize_rows
  // CHECK-NOT: both_digits
  // CHECK: girih.qmatmul {{.*}} {girih.rounded_scales}
  // CHECK: girih.qmatmul
  // CHECK-NOT: rounded_scales
  func.func @is_a_long_prompt(%x: tensor<?x32xf32>, %w: !codes, %v: !girih.packed<64 x 64, "p16:u4,f16,f16,32">, %init: tensor<?x64xf32>) -> tensor<?x64xf32> attributes {girih.max_tokens = 512 : i64} {
    %y = girih.qmatmul ins(%x, %w : tensor<?x32xf32>, !codes) outs(%init : tensor<?x64xf32>) -> tensor<?x64xf32>
    %z = girih.qmatmul ins(%y, %v : tensor<?x64xf32>, !girih.packed<64 x 64, "p16:u4,f16,f16,32">) outs(%init : tensor<?x64xf32>) -> tensor<?x64xf32>
    return %z : tensor<?x64xf32>
  }
}

// -----

// Attention of long prompts multiplies 16-bit integers where a unit does, unless results are to be the same everywhere.
#l1 = #machine.level<name = "L1", size_bytes = 49152, bytes_per_cycle = 128, latency_cycles = 5, shared_by = 1, source = "test">
#dot = #machine.unit<name = "dot", element = "i16", lanes = 32, per_cycle = 2, latency_cycles = 5, registers = 32, source = "test">
!kv = !girih.kv<3, 64, 64, f16>
module attributes {girih.numerics = "fast", girih.machine = #machine.description<name = "m", kind = "cpu", cores = 2, clock_mhz = 2600, barrier_ns = 200, levels = [#l1], units = [#dot]>} {
  // CHECK-LABEL: func.func @attends_long
  // CHECK: girih.attention {{.*}}operand_type = i16
  func.func @attends_long(%q: tensor<?x9x64xf32>, %init: tensor<?x9x64xf32>, %kv: !kv) -> tensor<?x9x64xf32> attributes {girih.max_tokens = 512 : i64} {
    %o = girih.attention ins(%q : tensor<?x9x64xf32>) cache(%kv : !kv) outs(%init : tensor<?x9x64xf32>) {scale = 0.125 : f32} -> tensor<?x9x64xf32>
    return %o : tensor<?x9x64xf32>
  }
  // CHECK-LABEL: func.func @attends_short
  // CHECK-NOT: operand_type
  func.func @attends_short(%q: tensor<?x9x64xf32>, %init: tensor<?x9x64xf32>, %kv: !kv) -> tensor<?x9x64xf32> attributes {girih.max_tokens = 64 : i64} {
    %o = girih.attention ins(%q : tensor<?x9x64xf32>) cache(%kv : !kv) outs(%init : tensor<?x9x64xf32>) {scale = 0.125 : f32} -> tensor<?x9x64xf32>
    return %o : tensor<?x9x64xf32>
  }
}

// -----

#l1 = #machine.level<name = "L1", size_bytes = 49152, bytes_per_cycle = 128, latency_cycles = 5, shared_by = 1, source = "test">
#dot = #machine.unit<name = "dot", element = "i8", lanes = 64, per_cycle = 2, latency_cycles = 5, registers = 32, source = "test">
#halves = #machine.unit<name = "matrix", element = "bf16", lanes = 512, per_cycle = 1, latency_cycles = 52, registers = 8, source = "test", tile = <rows = 16, columns = 16, depth = 32>>
#bytes = #machine.unit<name = "matrix", element = "i8", lanes = 1024, per_cycle = 1, latency_cycles = 52, registers = 8, source = "test", tile = <rows = 16, columns = 16, depth = 64>>
!nibbles = !girih.packed<64 x 32, "p16:u4,f16,f16,32">
!bytes = !girih.packed<64 x 32, "p16:s8,f16,none,32">
!halved = !girih.packed<64 x 32, "p16:s8,f16*s8,none,16">
!next = !girih.packed<64 x 64, "p16:s8,f16,none,32">
module attributes {girih.numerics = "fast", girih.machine = #machine.description<name = "m", kind = "cpu", cores = 2, clock_mhz = 2600, barrier_ns = 200, levels = [#l1], units = [#dot, #halves, #bytes]>} {
  // Signed bytes with one scale a block as they are stored, where one tile has all rows and the result is the step's.
  // CHECK-LABEL: func.func @one_tile_of_bytes
  // CHECK: girih.qmatmul ins({{.*}} : tensor<?x32xbf16>
  // CHECK: girih.qmatmul ins({{.*}} : tensor<?x192xi8>
  // CHECK: girih.qmatmul ins({{.*}} : tensor<?x32xbf16>
  func.func @one_tile_of_bytes(%x: tensor<?x32xf32>, %w: !nibbles, %v: !bytes, %u: !halved, %init: tensor<?x64xf32>) -> (tensor<?x64xf32>, tensor<?x64xf32>, tensor<?x64xf32>) attributes {girih.max_tokens = 16 : i64} {
    %a = girih.qmatmul ins(%x, %w : tensor<?x32xf32>, !nibbles) outs(%init : tensor<?x64xf32>) -> tensor<?x64xf32>
    %b = girih.qmatmul ins(%x, %v : tensor<?x32xf32>, !bytes) outs(%init : tensor<?x64xf32>) -> tensor<?x64xf32>
    %c = girih.qmatmul ins(%x, %u : tensor<?x32xf32>, !halved) outs(%init : tensor<?x64xf32>) -> tensor<?x64xf32>
    return %a, %b, %c : tensor<?x64xf32>, tensor<?x64xf32>, tensor<?x64xf32>
  }
  // A layer's rounding would be carried on by the next.
  // CHECK-LABEL: func.func @within
  // CHECK: girih.qmatmul ins({{.*}} : tensor<?x32xbf16>
  // CHECK: girih.qmatmul ins({{.*}} : tensor<?x320xi8>
  func.func @within(%x: tensor<?x32xf32>, %v: !bytes, %w: !next, %init: tensor<?x64xf32>) -> tensor<?x64xf32> attributes {girih.max_tokens = 16 : i64} {
    %a = girih.qmatmul ins(%x, %v : tensor<?x32xf32>, !bytes) outs(%init : tensor<?x64xf32>) -> tensor<?x64xf32>
    %b = girih.qmatmul ins(%a, %w : tensor<?x64xf32>, !next) outs(%init : tensor<?x64xf32>) -> tensor<?x64xf32>
    return %b : tensor<?x64xf32>
  }
  // CHECK-LABEL: func.func @many_tiles
  // CHECK: girih.qmatmul ins({{.*}} : tensor<?x32xbf16>
  func.func @many_tiles(%x: tensor<?x32xf32>, %v: !bytes, %init: tensor<?x64xf32>) -> tensor<?x64xf32> attributes {girih.max_tokens = 64 : i64} {
    %a = girih.qmatmul ins(%x, %v : tensor<?x32xf32>, !bytes) outs(%init : tensor<?x64xf32>) -> tensor<?x64xf32>
    return %a : tensor<?x64xf32>
  }
}

// -----

#l1 = #machine.level<name = "L1", size_bytes = 49152, bytes_per_cycle = 128, latency_cycles = 5, shared_by = 1, source = "test">
#dot = #machine.unit<name = "dot", element = "i16", lanes = 32, per_cycle = 2, latency_cycles = 5, registers = 32, source = "test">
!kv = !girih.kv<3, 64, 64, f16>
module attributes {girih.numerics = "invariant", girih.machine = #machine.description<name = "m", kind = "cpu", cores = 2, clock_mhz = 2600, barrier_ns = 200, levels = [#l1], units = [#dot]>} {
  // CHECK-LABEL: func.func @attends_the_same_everywhere
  // CHECK-NOT: operand_type
  func.func @attends_the_same_everywhere(%q: tensor<?x9x64xf32>, %init: tensor<?x9x64xf32>, %kv: !kv) -> tensor<?x9x64xf32> attributes {girih.max_tokens = 512 : i64} {
    %o = girih.attention ins(%q : tensor<?x9x64xf32>) cache(%kv : !kv) outs(%init : tensor<?x9x64xf32>) {scale = 0.125 : f32} -> tensor<?x9x64xf32>
    return %o : tensor<?x9x64xf32>
  }
}
