/* SPDX-License-Identifier: Apache-2.0 */
/* The operations of graph.h whose tokens have a place, and packed weights, in plain loops; part of plain_ops.c. */

#define BLOCK_TOKENS GIRIH_KV_BLOCK_TOKENS

static double attribute(const char *line, const char *key, double otherwise) {
  const char *at = strstr(line, key), *end = strchr(line, '\n');
  return at && end && at < end ? strtod(at + strlen(key), 0) : otherwise;
}

static float half_of(const uint8_t *bytes) {
  _Float16 half;
  memcpy(&half, bytes, 2);
  return (float)half;
}

static float single_of(const uint8_t *bytes) {
  float value;
  memcpy(&value, bytes, 4);
  return value;
}

/* ---- the cache ---------------------------------------------------------------------------------------------- */

typedef struct cache {
  long long groups, key_dim, value_dim;
  int element_bytes;
  uint64_t block_bytes;
  girih_buffer_view view; /* from block 0 on */
} cache;

static int open_cache(const value *v, const girih_submission *submission, cache *made) {
  if (strncmp(v->type, "kv:f", 4) ||
      sscanf(v->extents, "%lldx%lldx%lld", &made->groups, &made->key_dim, &made->value_dim) != 3)
    return 0;
  made->element_bytes = strcmp(v->type, "kv:f16") ? 4 : 2;
  made->block_bytes = ((uint64_t)(BLOCK_TOKENS * made->groups * (made->key_dim + made->value_dim) * made->element_bytes) + 63) / 64 * 64;
  if (submission) {
    made->view = submission->bindings[v->binding];
    made->view.offset_bytes += v->offset_bytes;
  }
  return 1;
}

static uint8_t *slot_element(const cache *c, int64_t slot, int is_key, int64_t group, int64_t at, girih_message *message) {
  girih_buffer_view view = c->view;
  int64_t within = slot % BLOCK_TOKENS;
  int64_t element = is_key ? (group * c->key_dim + at) * BLOCK_TOKENS + within
                           : (c->groups * c->key_dim + group * c->value_dim) * BLOCK_TOKENS + within * c->value_dim + at;
  view.offset_bytes += (uint64_t)(slot / BLOCK_TOKENS) * c->block_bytes + (uint64_t)(element * c->element_bytes);
  view.size_bytes = (uint64_t)c->element_bytes;
  return resolve(&view, message);
}

static float kept(const cache *c, int64_t slot, int is_key, int64_t group, int64_t at) {
  const uint8_t *bytes = slot_element(c, slot, is_key, group, at, 0);
  return !bytes ? NAN : c->element_bytes == 2 ? half_of(bytes) : single_of(bytes);
}

static girih_code keep(const cache *c, int64_t slot, int is_key, int64_t group, int64_t at, float exact, girih_message *message) {
  uint8_t *bytes = slot_element(c, slot, is_key, group, at, message);
  _Float16 half = (_Float16)exact;
#ifdef MUTANT_TRUNCATED_CACHE
  uint16_t bits;
  memcpy(&bits, &half, 2);
  bits -= fabsf((float)half) > fabsf(exact); /* cut off instead */
  memcpy(&half, &bits, 2);
#endif
  if (!bytes)
    return GIRIH_OUT_OF_RANGE;
  memcpy(bytes, c->element_bytes == 2 ? (void *)&half : (void *)&exact, (size_t)c->element_bytes);
  return GIRIH_OK;
}

static girih_code append(const matrix *from, const cache *c, int is_key, const girih_step_args *args, girih_message *message) {
  int64_t width = is_key ? c->key_dim : c->value_dim, column;
  uint64_t token;
  for (token = 0; token < from->rows; ++token)
    for (column = 0; column < (int64_t)from->columns; ++column) {
      girih_code code = keep(c, args->kv_slots[token], is_key, column / width, column % width,
                             number(from, token, (uint64_t)column), message);
      if (code != GIRIH_OK)
        return code;
    }
  return GIRIH_OK;
}

/* ---- attention ---------------------------------------------------------------------------------------------- */

typedef struct scoring {
  double scale, cap;
  int64_t window;
} scoring;

static int64_t slot_of(const girih_step_args *args, int64_t sequence, int64_t position) {
#ifdef MUTANT_BLOCKS_IN_ORDER
  return position;
#endif
  return args->block_tables[sequence * args->block_table_stride + position / BLOCK_TOKENS] * BLOCK_TOKENS + position % BLOCK_TOKENS;
}

static double score_of(const matrix *q, uint64_t token, int64_t head, const cache *c, int64_t slot, int64_t group, const scoring *by) {
  double sum = 0;
  int64_t d;
  for (d = 0; d < c->key_dim; ++d)
    sum += (double)number(q, token, (uint64_t)(head * c->key_dim + d)) * (double)kept(c, slot, 1, group, d);
  sum *= by->scale;
#ifndef MUTANT_CAP_FORGOTTEN
  if (by->cap > 0)
    sum = by->cap * tanh(sum / by->cap);
#endif
  return sum;
}

static void attend_row(const matrix *q, const cache *c, const matrix *to, uint64_t token, int64_t head, const scoring *by,
                       const girih_step_args *args) {
  int64_t heads = (int64_t)q->columns / c->key_dim, group = head / (heads / c->groups), e, u;
  int64_t sequence = args->token_sequences[token], end = args->positions[token] + 1, begin = 0;
  double most = -INFINITY, sum = 0;
  if (by->window > 0 && end > by->window)
    begin = end - by->window;
#ifdef MUTANT_GROUPS_BY_TURNS
  group = head % c->groups;
#endif
#ifdef MUTANT_WINDOW_OFF_BY_ONE
  begin -= begin > 0;
#endif
#ifdef MUTANT_SEES_THE_FUTURE
  end = args->context_lengths[sequence];
#endif
  for (u = begin; u < end; ++u)
    most = fmax(most, score_of(q, token, head, c, slot_of(args, sequence, u), group, by));
  for (e = 0; e < c->value_dim; ++e)
    put(to, token, (uint64_t)(head * c->value_dim + e), 0);
  for (u = begin; u < end; ++u)
    sum += exp(score_of(q, token, head, c, slot_of(args, sequence, u), group, by) - most);
  for (u = begin; u < end; ++u) {
    int64_t slot = slot_of(args, sequence, u);
    double weight = exp(score_of(q, token, head, c, slot, group, by) - most) / sum;
    for (e = 0; e < c->value_dim; ++e) {
      uint64_t column = (uint64_t)(head * c->value_dim + e);
      put(to, token, column, (double)number(to, token, column) + weight * (double)kept(c, slot, 0, group, e));
    }
  }
}

static void turn(const matrix *x, const matrix *to, uint64_t width, double base, const girih_step_args *args) {
  uint64_t token, head, pair, half = width / 2;
  for (token = 0; token < x->rows; ++token)
    for (head = 0; head < x->columns / width; ++head)
      for (pair = 0; pair < half; ++pair) {
        uint64_t low = head * width + pair, high = low + half;
        double angle = args->positions[token] * pow(base, -(double)pair / (double)half), first, second;
#ifdef MUTANT_ADJACENT_PAIRS
        low = head * width + 2 * pair, high = low + 1;
#endif
        first = (double)number(x, token, low), second = (double)number(x, token, high);
        put(to, token, low, first * cos(angle) - second * sin(angle));
        put(to, token, high, second * cos(angle) + first * sin(angle));
      }
}

/* ---- packed weights ----------------------------------------------------------------------------------------- */

typedef struct packed {
  char codes[8], scales[8], mins[8];
  int group, offset;
  uint64_t code_bytes, block_bytes, depth;
  const uint8_t *bytes;
} packed;

/* Of a float code; of what a group has for itself of a scale or min. */
static int factor_bytes(const char *type) {
  return !strcmp(type, "f16") ? 2 : !strcmp(type, "f32") ? 4 : !strcmp(type, "f16*s8") || !strcmp(type, "e8m0") ? 1 : 0;
}

/* Scales or mins of a block: before the bytes of `f16*s8` the 16 f16 that its groups share. */
static int shared_bytes(const char *type) { return !strcmp(type, "f16*s8") ? 32 : 0; }
static int part_bytes(const char *type, int group) { return shared_bytes(type) + 32 / group * 16 * factor_bytes(type); }

/* Codes of 4 bits; of 5 and 6, whose bits above them lie in lines of their own. */
static int high_bits(const packed *p) { return !strcmp(p->codes, "u5") ? 1 : !strcmp(p->codes, "u6") ? 2 : 0; }

static int has_nibbles(const packed *p) {
  return !strcmp(p->codes, "u4") || !strcmp(p->codes, "iq4") || !strcmp(p->codes, "e2m1") || high_bits(p) > 0;
}

static const signed char k_iq4[16] = {-127, -104, -83, -65, -49, -35, -22, -10, 1, 13, 25, 38, 53, 69, 89, 113};
static const signed char k_e2m1_twice[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};

static int is_packed(const value *v) { return !strncmp(v->type, "p16:", 4); }

static girih_code open_packed(const value *v, const girih_submission *submission, packed *made, girih_message *message) {
  unsigned long long columns, depth;
  memset(made, 0, sizeof *made);
  if (sscanf(v->type, "p16:%7[^,],%7[^,],%7[^,],%d,%d", made->codes, made->scales, made->mins, &made->group, &made->offset) < 4 ||
      sscanf(v->extents, "%llux%llu", &columns, &depth) != 2)
    return fail(message, GIRIH_UNIMPLEMENTED, "`%s` of %s is no layout", v->type, v->extents);
  made->depth = depth;
  made->code_bytes = has_nibbles(made) ? 256 + 64 * (uint64_t)high_bits(made) : made->codes[0] == 'f' ? 512 * (uint64_t)factor_bytes(made->codes) : 512;
  made->block_bytes = made->code_bytes + (uint64_t)(part_bytes(made->scales, made->group) + part_bytes(made->mins, made->group));
  if (submission) {
    girih_buffer_view view = submission->bindings[v->binding];
    view.offset_bytes += v->offset_bytes;
    view.size_bytes = (columns + 15) / 16 * ((depth + 31) / 32) * made->block_bytes;
    made->bytes = resolve(&view, message);
    if (!made->bytes)
      return GIRIH_OUT_OF_RANGE;
  }
  return GIRIH_OK;
}

static double factor(const uint8_t *at, const char *type, int index) {
  if (shared_bytes(type))
    return (double)half_of(at + 2 * (index % 16)) * (int8_t)at[32 + index];
  if (factor_bytes(type) == 1)
    return ldexp(1, at[index] - 128);
  return (double)(factor_bytes(type) == 2 ? half_of(at + 2 * index) : single_of(at + 4 * index));
}

static double weight_of(const packed *p, uint64_t column, uint64_t at) {
  const uint8_t *block = p->bytes + (column / 16 * ((p->depth + 31) / 32) + at / 32) * p->block_bytes;
  const uint8_t *scales = block + p->code_bytes, *mins = scales + part_bytes(p->scales, p->group);
  int n = (int)(column % 16), k = (int)(at % 32), place = k / p->group * 16 + n, code;
  if (p->codes[0] == 'f')
    return factor(block, p->codes, k * 16 + n);
  code = block[k % (has_nibbles(p) ? 16 : 32) / 4 * 64 + n * 4 + k % 4];
  if (has_nibbles(p))
#ifdef MUTANT_SWAPPED_NIBBLES
    code = k < 16 ? code >> 4 : code & 15;
#else
    code = k < 16 ? code & 15 : code >> 4;
#endif
  if (p->codes[0] == 's')
    code = (int8_t)code;
  if (high_bits(p) == 1)
    code += 16 * (block[256 + n * 4 + k % 4] >> k / 4 & 1);
  if (high_bits(p) == 2)
    code += 16 * (block[256 + k / 16 * 64 + n * 4 + k % 4] >> 2 * (k / 4 % 4) & 3);
  if (p->codes[0] == 'i')
    code = k_iq4[code];
  if (p->codes[0] == 'e')
    code = k_e2m1_twice[code];
#ifdef MUTANT_ONE_SCALE_A_BLOCK
  place = n;
#endif
  return factor(scales, p->scales, place) * (code - p->offset) + (factor_bytes(p->mins) ? factor(mins, p->mins, place) : 0);
}

static void multiply_packed(const matrix *a, const packed *weight, const matrix *to) {
  uint64_t row, column, k;
  for (row = 0; row < to->rows; ++row)
    for (column = 0; column < to->columns; ++column) {
      double sum = 0;
      for (k = 0; k < a->columns; ++k)
        sum += (double)number(a, row, k) * weight_of(weight, column, k);
      put(to, row, column, sum);
    }
}

/* ---- */

/* GIRIH_NOT_FOUND where the operation is none of these. */
static girih_code token_operation(const char *line, const char *name, const value *const *of, int words,
                                  const girih_submission *submission, girih_message *message) {
  const girih_step_args *args = submission ? (const girih_step_args *)submission->arguments : 0;
  matrix first, last;
  cache c;
  packed weight;
  girih_code code = open_matrix(of[0], submission, &first, message);
  if (code != GIRIH_OK)
    return code;
  if (words == 3 && !strcmp(name, "matmul") && is_packed(of[1])) {
    code = open_packed(of[1], submission, &weight, message);
    code = code == GIRIH_OK ? open_matrix(of[2], submission, &last, message) : code;
    if (code == GIRIH_OK && submission)
      multiply_packed(&first, &weight, &last);
    return code;
  }
  if (words == 2 && !strcmp(name, "rope")) {
    const char *width = strrchr(of[0]->extents, 'x');
    code = open_matrix(of[1], submission, &last, message);
    if (code == GIRIH_OK && submission)
      turn(&first, &last, strtoull(width + 1, 0, 10), attribute(line, "base=", 0), args);
    return code;
  }
  if (words == 3 && !strcmp(name, "kv_append") && open_cache(of[2], submission, &c)) {
    code = open_matrix(of[1], submission, &last, message);
    code = code == GIRIH_OK && submission ? append(&first, &c, 1, args, message) : code;
    return code == GIRIH_OK && submission ? append(&last, &c, 0, args, message) : code;
  }
  if (words == 3 && !strcmp(name, "attention") && open_cache(of[1], submission, &c)) {
    scoring by = {attribute(line, "scale=", 1), attribute(line, "cap=", 0), (int64_t)attribute(line, "window=", 0)};
    uint64_t token;
    int64_t head;
    code = open_matrix(of[2], submission, &last, message);
    for (token = 0; code == GIRIH_OK && submission && token < first.rows; ++token)
      for (head = 0; head < (int64_t)first.columns / c.key_dim; ++head)
        attend_row(&first, &c, &last, token, head, &by, args);
    return code;
  }
  return GIRIH_NOT_FOUND;
}
