/* SPDX-License-Identifier: Apache-2.0 */
/* The null backend with all operations of graph.h in plain loops, right or with one fault each, named by MUTANT_... */
#include <girih/backend.h>
struct value;
static girih_code other_operation(const char *line, const struct value *values, int count,
                                  const girih_submission *submission, girih_message *message);
#define OTHER_OPERATION other_operation
#include "backends/null/backend.c"

#include <math.h>

typedef struct matrix {
  const value *at;
  uint64_t rows, columns;
  uint8_t *bytes; /* null while the graph is only checked */
} matrix;

/* The first extent is rows, the others together are columns; one extent alone is a row. */
static girih_code open_matrix(const value *v, const girih_submission *submission, matrix *m, girih_message *message) {
  const girih_step_args *args = submission ? (const girih_step_args *)submission->arguments : 0;
  const char *rest = strchr(v->extents, 'x');
  value tail = *v;
  m->at = v;
  tail.element_bytes = 1;
  if (rest)
    memmove(tail.extents, rest + 1, strlen(rest));
  m->columns = size_of(&tail, args);
  m->rows = 1;
  if (rest) {
    tail = *v;
    tail.element_bytes = 1;
    tail.extents[rest - v->extents] = 0;
    m->rows = size_of(&tail, args);
  }
  m->bytes = 0;
  if (submission) {
    girih_buffer_view view = submission->bindings[v->binding];
    view.offset_bytes += v->offset_bytes;
    view.size_bytes = m->rows * m->columns * v->element_bytes;
    m->bytes = resolve(&view, message);
    if (!m->bytes)
      return GIRIH_OUT_OF_RANGE;
  }
  return GIRIH_OK;
}

static float number(const matrix *m, uint64_t row, uint64_t column) {
  float value;
  memcpy(&value, m->bytes + 4 * (row * m->columns + column), 4);
  return value;
}

static void put(const matrix *m, uint64_t row, uint64_t column, double exact) {
  float value = (float)exact;
#ifdef MUTANT_WRONG_ROUNDING
  if (fabs((double)value) > fabs(exact)) /* cut off instead */
    value = nextafterf(value, 0.0f);
#endif
  memcpy(m->bytes + 4 * (row * m->columns + column), &value, 4);
}

static void put_word(const matrix *m, uint64_t at, uint32_t word) { memcpy(m->bytes + 4 * at, &word, 4); }

static uint32_t word_of(const matrix *m, uint64_t at) {
  uint32_t word;
  memcpy(&word, m->bytes + 4 * at, 4);
  return word;
}

#include "plain_tokens.c"

/* f16 and bf16, in f32 and back: rounded twice is rounded once. */
static float narrow_number(const matrix *m, uint64_t at) {
  uint32_t bits = 0;
  if (!strcmp(m->at->type, "f16"))
    return half_of(m->bytes + 2 * at);
  memcpy((uint8_t *)&bits + 2, m->bytes + 2 * at, 2);
  return single_of((const uint8_t *)&bits);
}

static void put_narrow(const matrix *m, uint64_t at, float value) {
  _Float16 half = (_Float16)value;
  uint32_t bits;
  memcpy(&bits, &value, 4);
#ifndef MUTANT_NARROW_CUT_OFF
  bits += 0x7fff + (bits >> 16 & 1);
#endif
  memcpy(m->bytes + 2 * at, strcmp(m->at->type, "f16") ? (void *)((uint8_t *)&bits + 2) : (void *)&half, 2);
}

static void pairwise(const char *name, const matrix *a, const matrix *b, const matrix *to, int is_float) {
  uint64_t at, count = to->rows * to->columns;
#ifdef MUTANT_LARGE_EXTENTS_WRAP
  count &= 0xffff;
#endif
#ifdef MUTANT_ALIGNED_LOADS
  /* loads that drop the low bits of an address, as some vector units do */
  matrix aligned = *a;
  aligned.bytes = (uint8_t *)((uintptr_t)a->bytes & ~(uintptr_t)15);
  a = &aligned;
#endif
  for (at = 0; at < count; ++at) {
    int is_sum = !strcmp(name, "add");
    if (to->at->element_bytes == 2) {
      float x = narrow_number(a, at), y = narrow_number(b, at);
      put_narrow(to, at, is_sum ? x + y : x * y);
    } else if (!is_float)
      put_word(to, at, is_sum ? word_of(a, at) + word_of(b, at) : word_of(a, at) * word_of(b, at));
    else if (is_sum)
      put(to, 0, at, (double)number(a, 0, at) + (double)number(b, 0, at));
    else
      put(to, 0, at, (double)number(a, 0, at) * (double)number(b, 0, at));
  }
}

static double dot(const matrix *a, uint64_t row, const matrix *b, uint64_t column) {
  uint64_t k, depth = a->columns;
#ifdef MUTANT_DROPPED_K_TAIL
  if (depth > 4)
    depth = depth / 4 * 4;
#endif
#if defined(MUTANT_LOWER_PRECISION)
  _Float16 sum = 0; /* declares nothing, which means f32 */
#elif defined(MUTANT_UNORDERED_REDUCTION)
  static unsigned calls;
  uint64_t first = calls++ % 7 * depth / 7; /* whoever comes first adds first; the device says deterministic */
  float sum = 0;
#else
  double sum = 0;
#endif
  for (k = 0; k < depth; ++k) {
#ifdef MUTANT_UNORDERED_REDUCTION
    uint64_t at = (k + first) % depth;
    sum += number(a, row, at) * number(b, column, at);
#elif defined(MUTANT_LOWER_PRECISION)
    sum += (_Float16)(number(a, row, k) * number(b, column, k));
#else
    sum += (double)number(a, row, k) * (double)number(b, column, k);
#endif
  }
  return (double)sum;
}

static int32_t integer_dot(const matrix *a, uint64_t row, const matrix *b, uint64_t column) {
  uint64_t k;
  int32_t sum = 0;
  for (k = 0; k + 1 <= a->columns; k += 2) {
    int32_t pair = 0;
    uint64_t at;
    for (at = k; at < k + 2 && at < a->columns; ++at)
      pair += (int32_t)(int8_t)a->bytes[row * a->columns + at] * (int32_t)(int8_t)b->bytes[column * b->columns + at];
#ifdef MUTANT_SATURATED_PAIRS
    pair = pair > 32767 ? 32767 : pair < -32768 ? -32768 : pair; /* as vpmaddubsw */
#endif
    sum += pair;
  }
  return sum;
}

static void multiply(const matrix *a, const matrix *b, const matrix *to, int is_float) {
  uint64_t row, column;
  for (row = 0; row < to->rows; ++row)
    for (column = 0; column < to->columns; ++column)
      if (is_float)
        put(to, row, column, dot(a, row, b, column));
      else
        put_word(to, row * to->columns + column, (uint32_t)integer_dot(a, row, b, column));
}

static void normalise(const matrix *x, const matrix *w, const matrix *to, double eps) {
  uint64_t row, k;
  for (row = 0; row < x->rows; ++row) {
    double squares = 0, factor;
    for (k = 0; k < x->columns; ++k)
      squares += (double)number(x, row, k) * (double)number(x, row, k);
#ifdef MUTANT_EPSILON_OUTSIDE
    factor = 1 / (sqrt(squares / (double)x->columns) + eps);
#else
    factor = 1 / sqrt(squares / (double)x->columns + eps);
#endif
    for (k = 0; k < x->columns; ++k)
      put(to, row, k, (double)number(x, row, k) * (double)number(w, 0, k) * factor);
  }
}

static void softmax(const matrix *x, const matrix *to) {
  uint64_t row, k;
  for (row = 0; row < x->rows; ++row) {
    double most = -INFINITY, sum = 0;
    for (k = 0; k < x->columns; ++k)
      most = fmax(most, (double)number(x, row, k));
#ifdef MUTANT_NO_MAXIMUM
    most = 0;
#endif
#ifndef MUTANT_MASKED_ROWS_DIVIDE
    if (isinf(most))
      most = 0;
#endif
    for (k = 0; k < x->columns; ++k) {
      float power = expf((float)((double)number(x, row, k) - most));
      sum += (double)power;
      put(to, row, k, (double)power);
    }
#ifndef MUTANT_MASKED_ROWS_DIVIDE
    if (sum == 0)
      sum = 1;
#endif
    for (k = 0; k < x->columns; ++k)
      put(to, row, k, (double)number(to, row, k) / sum);
  }
}

static void gate(const matrix *g, const matrix *u, const matrix *to) {
  uint64_t at;
  for (at = 0; at < to->rows * to->columns; ++at) {
#ifdef MUTANT_OVERFLOWING_GATE
    float power = expf(number(g, 0, at)); /* inf / inf from 89 on */
    put(to, 0, at, (double)(number(g, 0, at) * power / (1 + power) * number(u, 0, at)));
#else
    double x = (double)number(g, 0, at);
    put(to, 0, at, x / (1 + exp(-x)) * (double)number(u, 0, at));
#endif
  }
}

static int are_alike(const matrix *a, const matrix *b) {
  return !strcmp(a->at->type, b->at->type) && !strcmp(a->at->extents, b->at->extents);
}

static girih_code other_operation(const char *line, const value *values, int count, const girih_submission *submission,
                                  girih_message *message) {
  char name[16], ids[3][16];
  const value *of[3];
  matrix m[3];
  girih_code code = GIRIH_OK;
  double eps = attribute(line, "eps=", 0);
  int words = sscanf(line, "%15s %15s %15s %15s", name, ids[0], ids[1], ids[2]) - 1, index;
  if (!strcmp(name, "softmax") || !strcmp(name, "rope"))
    words = 2;
  if (words < 2)
    return fail(message, GIRIH_UNIMPLEMENTED, "`%.40s` is no operation of graph.h", line);
  for (index = 0; index < words; ++index)
    if (!(of[index] = find(values, count, ids[index])))
      return fail(message, GIRIH_UNIMPLEMENTED, "`%.40s` names no value", line);
  code = token_operation(line, name, of, words, submission, message);
  if (code != GIRIH_NOT_FOUND)
    return code;
  for (index = 0; index < words; ++index)
    if ((code = open_matrix(of[index], submission, &m[index], message)) != GIRIH_OK)
      return code;
  if (words == 3 && (!strcmp(name, "add") || !strcmp(name, "mul")) && are_alike(&m[0], &m[1]) && are_alike(&m[0], &m[2])) {
    if (submission)
      pairwise(name, &m[0], &m[1], &m[2], !m[0].at->is_integer);
  } else if (words == 3 && !strcmp(name, "matmul") && m[0].columns == m[1].columns) {
    if (submission)
      multiply(&m[0], &m[1], &m[2], !m[0].at->is_integer);
  } else if (words == 3 && !strcmp(name, "rms_norm") && m[0].columns == m[1].columns && are_alike(&m[0], &m[2])) {
    if (submission)
      normalise(&m[0], &m[1], &m[2], eps);
  } else if (words == 3 && !strcmp(name, "swiglu") && are_alike(&m[0], &m[1]) && are_alike(&m[0], &m[2])) {
    if (submission)
      gate(&m[0], &m[1], &m[2]);
  } else if (words == 2 && !strcmp(name, "softmax") && are_alike(&m[0], &m[1])) {
    if (submission)
      softmax(&m[0], &m[1]);
  } else {
    return fail(message, GIRIH_UNIMPLEMENTED, "`%.40s` is no operation that plain loops do", line);
  }
  return GIRIH_OK;
}
