/* SPDX-License-Identifier: Apache-2.0 */
/* The builtins of a made-up machine on this one, for kernels that are handed over as C: what each of them means. */
#include <girih/backend.h>
#include <girih/kernel.h>

enum { HOST_TILE = 16 };

/* What is bound, filled in by whoever runs a step, and whether the DMA unit was asked for more: what begins in a binding
   or at its end must end there. What begins elsewhere are the step's arguments. */
struct host_range {
  girih_address begin, end;
} host_bindings[GIRIH_STEP_NUM_BINDINGS];
int host_moved_beyond;

static inline int host_reaches(girih_address begin, int64_t rows, int64_t row_bytes, int64_t stride_bytes) {
  girih_address end = begin + (rows - 1) * stride_bytes + row_bytes;
  for (int index = 0; index < GIRIH_STEP_NUM_BINDINGS; ++index)
    if (host_bindings[index].begin && begin >= host_bindings[index].begin &&
        begin <= host_bindings[index].end && end > host_bindings[index].end) {
      host_moved_beyond = 1;
      return 0;
    }
  return 1;
}

static inline void host_dma_in(void *to, girih_address from, int64_t rows, int64_t row_bytes,
                               int64_t stride_bytes) {
  for (int64_t row = 0; row < rows && host_reaches(from, rows, row_bytes, stride_bytes); ++row)
    memcpy((uint8_t *)to + row * row_bytes, from + row * stride_bytes, (size_t)row_bytes);
}

static inline void host_dma_out(girih_address to, const void *from, int64_t rows, int64_t row_bytes,
                                int64_t stride_bytes) {
  for (int64_t row = 0; row < rows && host_reaches(to, rows, row_bytes, stride_bytes); ++row)
    memcpy(to + row * stride_bytes, (const uint8_t *)from + row * row_bytes, (size_t)row_bytes);
}

static inline void host_multiply(float *sums, const uint16_t *a, const uint16_t *b) {
  for (int m = 0; m < HOST_TILE; ++m)
    for (int k = 0; k < HOST_TILE; ++k)
      for (int n = 0; n < HOST_TILE; ++n)
        sums[m * HOST_TILE + n] +=
            girih_f32_of_f16(a[m * HOST_TILE + k]) * girih_f32_of_f16(b[k * HOST_TILE + n]);
}

static inline void host_barrier(const girih_step_args *args, int64_t thread) {
  args->barrier(args->team, thread);
}
