/* SPDX-License-Identifier: Apache-2.0 */
/* The builtins of a made-up machine on this one, for kernels that are handed over as C: what each of them means. */
#include <girih/kernel.h>

enum { HOST_TILE = 16 };

static inline void host_dma_in(void *to, girih_address from, int64_t rows, int64_t row_bytes,
                               int64_t stride_bytes) {
  for (int64_t row = 0; row < rows; ++row)
    memcpy((uint8_t *)to + row * row_bytes, from + row * stride_bytes, (size_t)row_bytes);
}

static inline void host_dma_out(girih_address to, const void *from, int64_t rows, int64_t row_bytes,
                                int64_t stride_bytes) {
  for (int64_t row = 0; row < rows; ++row)
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
