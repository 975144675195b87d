/* SPDX-License-Identifier: Apache-2.0 */
/* GIRIH_LEVEL_C99: tiled kernels as C99 of a narrow kind, which a C compiler takes as it is, and a few hundred lines of
 * a vendor's own translate (backends/quill does). This header is what the text includes.
 *
 * A text is `static const` tables and functions, one for each entry of the step. Each core of the machine calls it with
 * its own index; they share the work out by index and meet at the barrier. No recursion, no calls but those below, no
 * pointers but girih_address, no variables outside of functions but the tables:
 *
 *   table      static const TYPE NAME[COUNT] = {NUMBER, ...};                       TYPE: int64_t, float
 *   function   void NAME(const girih_step_args *args, int64_t thread, int64_t threads) { STATEMENT ... }
 *   statement  TYPE NAME = EXPRESSION;                                              TYPE: int64_t, float, girih_address
 *              ELEMENT NAME[COUNT];         an array in the nearest memory. ELEMENT: float, int64_t, int32_t, int8_t,
 *                                           uint8_t, uint16_t
 *              NAME = EXPRESSION;   NAME[EXPRESSION] = EXPRESSION;   CALL(EXPRESSION, ...);   { STATEMENT ... }
 *              for (int64_t NAME = EXPRESSION; NAME < EXPRESSION; NAME += EXPRESSION) { STATEMENT ... }
 *              if (EXPRESSION) { STATEMENT ... } else { STATEMENT ... }             `else` may be missing
 *   expression C's + - * / % & | << >> < <= > >= == != && || ?: and unary -; NAME[EXPRESSION]; args->FIELD; numbers,
 *              INFINITY; casts to int64_t, int32_t, float, girih_address; the functions below. Integers are 64 bits wide
 *              and never meet floats without a cast; elements widen when they are read and are cut off when stored.
 *              Both sides of && and || may be evaluated.
 *
 * A machine whose memory no load reaches says so in its description: the level's `dma_in` and `dma_out` name builtins
 * that move rows of bytes, and then nothing else touches a girih_address. Arrays are dense, rows in memory `stride_bytes`
 * apart. Without them a statement may also be `ELEMENT *NAME = (ELEMENT *)(EXPRESSION);`, of a girih_address, and NAME is then
 * read and written as an array. A unit's `builtin` multiplies one tile, `barrier` is where cores meet (without one,
 * `args->barrier(args->team, thread);`). Their names are the machine's own:
 *
 *   void DMA_IN(void *to, girih_address from, int64_t rows, int64_t row_bytes, int64_t stride_bytes);
 *   void DMA_OUT(girih_address to, const void *from, int64_t rows, int64_t row_bytes, int64_t stride_bytes);
 *   void MULTIPLY(float *sums, const uint16_t *a, const uint16_t *b);   sums[m][n] += the sum over k of a[m][k] * b[k][n],
 *                                                                       row-major, f16, as large as the unit's `tile`
 *   void BARRIER(const girih_step_args *args, int64_t thread);
 *
 * Of math.h: fmaf expf sinf cosf tanhf sqrtf logf powf fabsf. `threads` is at most the machine's cores. */
#ifndef GIRIH_RUNTIME_ABI_KERNEL_H
#define GIRIH_RUNTIME_ABI_KERNEL_H

#include "step.h"

#include <math.h>
#include <stdint.h>
#include <string.h>

/* A place in the device's memory, in bytes. */
typedef uint8_t *girih_address;

static inline float girih_f32_of_bits(int64_t bits) {
  uint32_t word = (uint32_t)bits;
  float value;
  memcpy(&value, &word, 4);
  return value;
}

static inline int64_t girih_bits_of_f32(float value) {
  uint32_t word;
  memcpy(&word, &value, 4);
  return (int64_t)word;
}

/* f16 in 16 bits, exactly. */
static inline float girih_f32_of_f16(int64_t half) {
  uint32_t sign = (uint32_t)(half & 0x8000) << 16, exponent = (uint32_t)(half >> 10) & 31, fraction = (uint32_t)half & 1023;
  if (exponent == 31)
    return girih_f32_of_bits((int64_t)(sign | 0x7f800000u | fraction << 13));
  if (exponent == 0) { /* subnormal: fraction * 2^-24 */
    float value = (float)fraction * (1.0f / 16777216.0f);
    return sign ? -value : value;
  }
  return girih_f32_of_bits((int64_t)(sign | (exponent + 112) << 23 | fraction << 13));
}

/* The nearest f16, ties to even; beyond its range infinity. */
static inline int64_t girih_f16_of_f32(float value) {
  int64_t bits = girih_bits_of_f32(value), sign = bits >> 16 & 0x8000, rest = bits & 0x7fffffff, half;
  if (rest > 0x7f800000)
    return sign | 0x7e00;
  if (rest >= 0x477ff000) /* from 65520 on */
    return sign | 0x7c00;
  if (rest < 0x38800000) { /* below 2^-14: adding 0.5 leaves a multiple of 2^-24 in the low bits */
    float shifted = girih_f32_of_bits(rest) + 0.5f;
    return sign | (girih_bits_of_f32(shifted) - 0x3f000000);
  }
  half = rest - 0x38000000 + 0xfff + (rest >> 13 & 1);
  return sign | half >> 13;
}

#endif /* GIRIH_RUNTIME_ABI_KERNEL_H */
