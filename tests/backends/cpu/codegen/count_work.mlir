// RUN: girih-opt %s -split-input-file -girih-cpu-count-work=isa=avx512 | FileCheck %s
// RUN: girih-opt %s -split-input-file -girih-cpu-count-work=isa=avx2 | FileCheck %s --check-prefix=AVX2

// [units, bytes of vector instructions, products of tiles, bytes loaded, bytes stored]: each dispatch first without
// context, then with 1,024 positions.

#machine = #machine.description<name = "test", kind = "cpu", cores = 2, clock_mhz = 1000, barrier_ns = 100,
    levels = [#machine.level<name = "L1", size_bytes = 32768, bytes_per_cycle = 64, latency_cycles = 5, shared_by = 1, source = "test">],
    units = [#machine.unit<name = "fma", element = "f32", lanes = 8, per_cycle = 2, latency_cycles = 4, registers = 16, source = "test">]>

// CHECK: dispatch = "rows", entry = "step_t8"
// 8 rows of two registers: an addition each; the constant costs nothing.
// CHECK-SAME: first = array<f64: 8.000000e+00, 1.024000e+03, 0.000000e+00, 1.024000e+03, 1.024000e+03>
// AVX2: dispatch = "rows"
// Half as wide, twice as many: the same bytes.
// AVX2-SAME: first = array<f64: 8.000000e+00, 1.024000e+03, 0.000000e+00, 1.024000e+03, 1.024000e+03>

// CHECK: dispatch = "chain", entry = "step_t8"
// 16 additions that wait for one another: 4 cycles of 2 instructions each.
// CHECK-SAME: first = array<f64: 1.000000e+00, 8.192000e+03, 0.000000e+00, 1.024000e+03, 6.400000e+01>

// What every thread does for itself counts for the next dispatch, once for each core: 2 x 512. Then all positions that
// each of 8 sequences sees, its own token with them: 8 x 64 bytes, and 8 x 1,025 x 64; and the position itself.
// CHECK: dispatch = "seen", entry = "step_t8"
// CHECK-SAME: first = array<f64: 8.000000e+00, 0.000000e+00, 0.000000e+00, 5.440000e+02, 1.024000e+03>
// CHECK-SAME: later = array<f64: 8.000000e+00, 0.000000e+00, 0.000000e+00, 5.248320e+05, 1.024000e+03>

// A division is many additions, on narrow registers half as many; tiles are counted; a call counts where it is.
// CHECK: dispatch = "units", entry = "step_t8"
// CHECK-SAME: first = array<f64: 3.000000e+00, 3.840000e+03, 3.000000e+00, 0.000000e+00, 0.000000e+00>
// AVX2: dispatch = "units"
// AVX2-SAME: first = array<f64: 3.000000e+00, 1.920000e+03, 3.000000e+00

// The work of a causal loop grows with its row: the first, the last and 510 times the middle one, 131,073 loads.
// CHECK: dispatch = "causal", entry = "step_t512"
// CHECK-SAME: first = array<f64: 5.120000e+02, 0.000000e+00, 0.000000e+00, 0x4160000800000000, 0.000000e+00>

module attributes {girih.machine = #machine} {
  func.func @step_t8(%args: !llvm.ptr, %thread: index, %threads: index, %p: !llvm.ptr)
      attributes {girih.max_tokens = 8 : i64} {
    %c0 = arith.constant 0 : index
    %c1 = arith.constant 1 : index
    %c16 = arith.constant 16 : index
    %c2 = arith.constant 2 : index
    %one = arith.constant dense<1.0> : vector<16xf32>
    %t = girih.step_extent "num_tokens"
    scf.forall (%i) in (%t) {
      scf.for %j = %c0 to %c2 step %c1 {
        %x = llvm.load %p : !llvm.ptr -> vector<16xf32>
        %y = arith.addf %x, %one : vector<16xf32>
        llvm.store %y, %p : vector<16xf32>, !llvm.ptr
      }
    } {girih.dispatch = "rows"}
    scf.forall (%i) in (1) {
      %sum = scf.for %j = %c0 to %c16 step %c1 iter_args(%s = %one) -> vector<16xf32> {
        %x = llvm.load %p : !llvm.ptr -> vector<16xf32>
        %y = arith.addf %s, %x : vector<16xf32>
        scf.yield %y : vector<16xf32>
      }
      llvm.store %sum, %p : vector<16xf32>, !llvm.ptr
    } {girih.dispatch = "chain"}
    scf.forall (%i) in (%t) {
      llvm.store %one, %p : vector<16xf32>, !llvm.ptr
    } {girih.dispatch = "own", girih.distribution = "every"}
    scf.forall (%i) in (%t) {
      %field = llvm.getelementptr %args[40] : (!llvm.ptr) -> !llvm.ptr, i8
      %positions = llvm.load %field : !llvm.ptr -> !llvm.ptr
      %c4 = arith.constant 4 : index
      %bytes = arith.muli %i, %c4 : index
      %offset = arith.index_cast %bytes : index to i64
      %at = llvm.getelementptr %positions[%offset] : (!llvm.ptr, i64) -> !llvm.ptr, i8
      %word = llvm.load %at : !llvm.ptr -> i32
      %position = arith.index_cast %word : i32 to index
      %end = arith.addi %position, %c1 : index
      scf.for %j = %c0 to %end step %c1 {
        %x = llvm.load %p : !llvm.ptr -> vector<16xf32>
      }
    } {girih.dispatch = "seen"}
    scf.forall (%i) in (3) {
      func.call @unit(%p) : (!llvm.ptr) -> ()
    } {girih.dispatch = "units"}
    return
  }
  func.func private @unit(%p: !llvm.ptr) {
    %lanes = llvm.mlir.undef : vector<16xf32>
    %y = arith.divf %lanes, %lanes : vector<16xf32>
    %i = llvm.mlir.constant(0 : i8) : i8
    llvm.call_intrinsic "llvm.x86.tdpbf16ps"(%i, %i, %i) : (i8, i8, i8) -> ()
    return
  }
  func.func @step_t512(%args: !llvm.ptr, %thread: index, %threads: index, %p: !llvm.ptr)
      attributes {girih.max_tokens = 512 : i64} {
    %c0 = arith.constant 0 : index
    %c1 = arith.constant 1 : index
    %t = girih.step_extent "num_tokens"
    scf.forall (%i) in (%t) {
      %end = arith.addi %i, %c1 : index
      scf.for %j = %c0 to %end step %c1 {
        %x = llvm.load %p : !llvm.ptr -> vector<16xf32>
      }
    } {girih.dispatch = "causal"}
    return
  }
}

// -----

// Three vector instructions start a cycle, one of them multiplies: four of these beside two others are worth twelve.
// CHECK: dispatch = "multiplies", entry = "step_t1"
// CHECK-SAME: first = array<f64: 1.000000e+00, 7.680000e+02

// Second digits, beside the 4 bytes that say which: none where outliers alone have them; where all rows have both, all of the
// four quads.
// CHECK: dispatch = "outliers", entry = "step_t1"
// CHECK-SAME: first = array<f64: 1.000000e+00, 0.000000e+00, 0.000000e+00, 4.000000e+00, 0.000000e+00>
// CHECK: dispatch = "digits", entry = "step_t64"
// CHECK-SAME: first = array<f64: 1.000000e+00, 0.000000e+00, 0.000000e+00, 2.600000e+02, 0.000000e+00>

#slots = #machine.description<name = "test", kind = "cpu", cores = 2, clock_mhz = 1000, barrier_ns = 100,
    levels = [#machine.level<name = "L1", size_bytes = 32768, bytes_per_cycle = 64, latency_cycles = 5, shared_by = 1, source = "test">],
    units = [#machine.unit<name = "fma", element = "f32", lanes = 16, per_cycle = 1, latency_cycles = 4, registers = 16, source = "test">,
             #machine.unit<name = "vector", element = "i32", lanes = 16, per_cycle = 3, latency_cycles = 1, registers = 16, source = "test">]>

module attributes {girih.machine = #slots} {
  func.func @step_t1(%args: !llvm.ptr, %thread: index, %threads: index, %p: !llvm.ptr)
      attributes {girih.max_tokens = 1 : i64} {
    scf.forall (%i) in (1) {
      %x = llvm.load %p : !llvm.ptr -> vector<16xf32>
      %a = arith.mulf %x, %x : vector<16xf32>
      %b = arith.mulf %a, %x : vector<16xf32>
      %c = arith.addf %b, %x : vector<16xf32>
      %d = arith.mulf %c, %x : vector<16xf32>
      %e = arith.addf %d, %x : vector<16xf32>
      %f = arith.mulf %e, %x : vector<16xf32>
      llvm.store %f, %p : vector<16xf32>, !llvm.ptr
    } {girih.dispatch = "multiplies"}
    scf.forall (%i) in (1) {
      func.call @second(%p) : (!llvm.ptr) -> ()
    } {girih.dispatch = "outliers"}
    return
  }
  func.func @step_t64(%args: !llvm.ptr, %thread: index, %threads: index, %p: !llvm.ptr)
      attributes {girih.both_digits, girih.max_tokens = 64 : i64} {
    scf.forall (%i) in (1) {
      func.call @second(%p) : (!llvm.ptr) -> ()
    } {girih.dispatch = "digits"}
    return
  }
  func.func private @second(%p: !llvm.ptr) {
    %zero = arith.constant 0 : i32
    %one = arith.constant 1 : i32
    %bits = llvm.load %p : !llvm.ptr -> i32
    %any = arith.cmpi ne, %bits, %zero : i32
    scf.if %any {
      %left = scf.while (%b = %bits) : (i32) -> i32 {
        %more = arith.cmpi ne, %b, %zero : i32
        scf.condition(%more) %b : i32
      } do {
      ^body(%b: i32):
        %x = llvm.load %p : !llvm.ptr -> vector<16xf32>
        %less = arith.subi %b, %one : i32
        %next = arith.andi %b, %less : i32
        scf.yield %next : i32
      } attributes {girih.bits = 4 : i64}
    } {girih.outliers}
    return
  }
}
