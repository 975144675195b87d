/* SPDX-License-Identifier: Apache-2.0 */
/* GIRIH_LEVEL_GRAPH: whole operations over the buffers of a step, as text that a few lines of C read.
 *
 * UTF-8, a statement a line, words separated by single spaces; every line ends with a newline:
 *
 *   girih.graph 1                            the first line; a reader refuses another number
 *   entry NAME                               begins an entry point; NAME is its symbol
 *   value ID BINDING OFFSET TYPE EXTENTS     a row-major tensor in a binding of the step, from a byte offset on
 *   OP ID ... [KEY=VALUE ...]                an operation: operands, then results, then attributes
 *   end                                      ends the entry point
 *
 * ID is a letter and digits, unique in its entry. BINDING is weights, kv_pool, arena or logits. TYPE is f32, f16, bf16,
 * i8, i32, a packed weight's layout or a cache (below). EXTENTS are joined by x: "8x64"; T stands for the step's
 * num_tokens, Q for its num_logit_rows. Operations run in their order; each reads what those before it wrote, and what
 * other entries wrote to the same bytes. Operands and results do not overlap, except where an operation says so.
 *
 * Operations of version 1; a backend declares by `supports` which it takes:
 *   copy FROM TO       equal types and extents
 *   add A B TO         f32, f16, bf16 or i32, equal extents; TO may be A or B
 *   mul A B TO         the same
 *   matmul A B TO      A is MxK, B is NxK, TO is MxN; TO[m,n] is the sum over k of A[m,k] * B[n,k]. All f32, or A and B i8
 *                      and TO i32, or A and TO f32 of the step's tokens and B packed
 *   rms_norm X W TO eps=E     f32: X and TO are MxK, W is K; TO[m,k] = X[m,k] * W[k] / sqrt(mean of X[m,:]^2 + E)
 *   softmax X TO       f32, MxK: exp(X[m,k]) over its sum in the row; -inf counts nothing, a row of them alone gives 0
 *   swiglu G U TO      f32, equal extents: G / (1 + exp(-G)) * U
 *   rope X TO base=B   f32, TxHxD: with a = positions[t] * B^(-2i/D), elements i and D/2+i of each head become
 *                      X[i] cos a - X[D/2+i] sin a and X[D/2+i] cos a + X[i] sin a
 *   kv_append K V CACHE    f32 of TxGxD and TxGxE, each element rounded once, to the tokens' kv_slots
 *   attention Q CACHE TO scale=S [window=W] [cap=C]   Q is f32 of TxHxD, TO of TxHxE. For token t at position p of its
 *                      sequence and head h of group g = h / (H / G): s[u] = S * (the sum over d of Q[t,h,d] * K[u,g,d]),
 *                      with a cap C * tanh(s[u] / C), over the positions u <= p of that sequence, with a window those
 *                      > p - W; TO[t,h,e] is the sum over u of softmax(s)[u] * V[u,g,e]
 * Where an operation has M rows, the first extent is M and the others together are the columns.
 *
 * Of a model that it hands over at another level the compiler asks, too, with this text's signatures: for matmul, kv_append,
 * attention and rms_norm. What has no name here (other arithmetic by element,
 * sums over rows, rows by index) it takes for supported. The cache is one machine's: with attention declined anywhere,
 * every attention and kv_append of the model is another's.
 *
 * A cache has TYPE kv:f32 or kv:f16 and EXTENTS GxDxE, in the kv_pool: block b of the step's block_tables and kv_slots is b
 * times so many bytes further on as 16 positions take, rounded up to 64: K as [G,D,16], then V as [G,16,E].
 *
 * A packed weight of NxK is in panels of 16 columns n, a panel in blocks of 32 k, both filled up with zero weights. TYPE is
 * p16:CODES,SCALES,MINS,GROUP[,OFFSET]; a block is codes, then 32/GROUP times 16 scales, then as many mins (f16; f16*s8: 16
 * f16 for all groups, then bytes, to be multiplied; e8m0: bytes b of 2^(b-128); none: all are 1, all are 0):
 *   u4                 byte [line*64 + n*4 + j], 4 lines: low bits k = line*4+j, high bits k = 16+line*4+j
 *   u8 s8              byte [line*64 + n*4 + j], 8 lines: k = line*4+j
 *   f16 bf16 f32       number [k][n]
 * A weight is scale * (code - OFFSET) + min. */
#ifndef GIRIH_RUNTIME_ABI_GRAPH_H
#define GIRIH_RUNTIME_ABI_GRAPH_H

#define GIRIH_GRAPH_FIRST_LINE "girih.graph 1\n"
#define GIRIH_GRAPH_FORMAT "girih-graph-1" /* of an artifact that is the text itself */

#endif /* GIRIH_RUNTIME_ABI_GRAPH_H */
