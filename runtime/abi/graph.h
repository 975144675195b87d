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
 * i8, i32 or a block format's name ("q8_0"). EXTENTS are joined by x: "8x64"; T stands for the step's num_tokens, Q for its
 * num_logit_rows. Operations run in their order; each reads what those before it wrote, and what other entries wrote to
 * the same bytes. Operands and results do not overlap, except where an operation says so.
 *
 * Operations of version 1; a backend declares by `supports` which it takes:
 *   copy FROM TO       equal types and extents
 *   add A B TO         f32 or i32, equal extents; TO may be A or B
 *   mul A B TO         the same
 *   matmul A B TO      A is MxK, B is NxK, TO is MxN; TO[m,n] is the sum over k of A[m,k] * B[n,k]. All f32, or A and B i8
 *                      and TO i32
 *   rms_norm X W TO eps=E     f32: X and TO are MxK, W is K; TO[m,k] = X[m,k] * W[k] / sqrt(mean of X[m,:]^2 + E)
 *   softmax X TO       f32, MxK: exp(X[m,k]) over its sum in the row; -inf counts nothing, a row of them alone gives 0
 *   swiglu G U TO      f32, equal extents: G / (1 + exp(-G)) * U
 * Where an operation has M rows, the first extent is M and the others together are the columns. */
#ifndef GIRIH_RUNTIME_ABI_GRAPH_H
#define GIRIH_RUNTIME_ABI_GRAPH_H

#define GIRIH_GRAPH_FIRST_LINE "girih.graph 1\n"
#define GIRIH_GRAPH_FORMAT "girih-graph-1" /* of an artifact that is the text itself */

#endif /* GIRIH_RUNTIME_ABI_GRAPH_H */
