# SPDX-License-Identifier: Apache-2.0
"""Writes a small llama as GGUF whose matrices all have one block format, of random blocks with fitting scales.

What a block means is judged elsewhere (block_formats_judge.py, by the gguf package); here every bit of a block that may
be anything is anything, so that kernels see all codes, scales and mins.

    quantized_checkpoints.py FORMAT OUT.gguf
"""
import math
import pathlib
import struct
import sys

import numpy as np

import tiny_checkpoints as tiny

HIDDEN, FFN, VOCAB, HEADS, KV_HEADS, LAYERS = 256, 512, 160, 4, 2, 2

# GGML's number; elements and bytes of a block; where its f16 scale is, what the codes' standard deviation is then; where
# the f16 min (or scale of mins) is, and how many scales it has so that the values' mean is near 0.
BLOCKS = {
    "q4_0": (2, 32, 18, 0, 4.6, None, 0), "q4_1": (3, 32, 20, 0, 4.6, 2, -7.5),
    "q5_0": (6, 32, 22, 0, 9.2, None, 0), "q5_1": (7, 32, 24, 0, 9.2, 2, -15.5), "q8_0": (8, 32, 34, 0, 74, None, 0),
    "q2_K": (10, 256, 84, 80, 15, 82, 1.5), "q3_K": (11, 256, 110, 108, 42, None, 0),
    "q4_K": (12, 256, 144, 0, 280, 2, 7.5), "q5_K": (13, 256, 176, 0, 570, 2, 15.5),
    "q6_K": (14, 256, 210, 208, 1370, None, 0), "iq4_nl": (20, 32, 18, 0, 70, None, 0),
    "iq4_xs": (23, 256, 136, 0, 1300, None, 0), "mxfp4": (39, 32, 17, None, 3, None, 0),
}
FLOATS = {"f32": "F32", "f16": "F16", "bf16": "BF16"}
NAMES = [*FLOATS, *BLOCKS]


def blocks_of(name, rows, columns, random):
    """The stored bytes of a [rows, columns] matrix whose values have about the deviation that keeps activations near 1."""
    _, elements, size, scale_at, deviation, min_at, min_scales = BLOCKS[name]
    count = rows * columns // elements
    blocks = random.randint(0, 256, (count, size)).astype(np.uint8)
    wanted = 1.2 / math.sqrt(columns) / deviation * (0.5 + random.random_sample(count))
    if scale_at is None:
        blocks[:, 0] = np.round(127 + np.log2(wanted))
        return blocks.tobytes()
    scales = wanted.astype(np.float16)
    blocks[:, scale_at:scale_at + 2] = scales.view(np.uint8).reshape(-1, 2)
    if min_at is not None:
        mins = (scales.astype(np.float32) * min_scales).astype(np.float16)
        blocks[:, min_at:min_at + 2] = mins.view(np.uint8).reshape(-1, 2)
    return blocks.tobytes()


def shapes():
    head = HIDDEN // HEADS
    yield "token_embd", (VOCAB, HIDDEN)
    for layer in range(LAYERS):
        block = f"blk.{layer}."
        yield block + "attn_norm", (HIDDEN,)
        yield block + "attn_q", (HIDDEN, HIDDEN)
        yield block + "attn_k", (KV_HEADS * head, HIDDEN)
        yield block + "attn_v", (KV_HEADS * head, HIDDEN)
        yield block + "attn_output", (HIDDEN, HIDDEN)
        yield block + "ffn_norm", (HIDDEN,)
        yield block + "ffn_gate", (FFN, HIDDEN)
        yield block + "ffn_up", (FFN, HIDDEN)
        yield block + "ffn_down", (HIDDEN, FFN)
    yield "output_norm", (HIDDEN,)
    yield "output", (VOCAB, HIDDEN)


def write_gguf(path, name):
    random = np.random.RandomState(NAMES.index(name) + 1)
    config = {
        "model_type": "llama", "num_hidden_layers": LAYERS, "max_position_embeddings": 256, "hidden_size": HIDDEN,
        "intermediate_size": FFN, "num_attention_heads": HEADS, "num_key_value_heads": KV_HEADS, "rms_norm_eps": 1e-5,
        "vocab_size": VOCAB, "rope_theta": 10000.0,
    }
    tensors = []
    for tensor, shape in shapes():
        if len(shape) == 1:
            values = (1 + 0.4 * (random.random_sample(shape) - 0.5)).astype(np.float32)
            tensors.append((tensor + ".weight", 0, shape, values.tobytes()))
        elif name in FLOATS:
            values = (1.2 / math.sqrt(shape[1]) * random.standard_normal(shape)).astype(np.float32)
            number = {"F32": 0, "F16": 1, "BF16": 30}[FLOATS[name]]
            tensors.append((tensor + ".weight", number, shape, tiny.to_storage(values, FLOATS[name]).tobytes()))
        else:
            tensors.append((tensor + ".weight", BLOCKS[name][0], shape, blocks_of(name, *shape, random)))
    pathlib.Path(path).write_bytes(tiny.gguf_bytes(tiny.gguf_metadata(config), tensors))


if __name__ == "__main__":
    if len(sys.argv) != 3 or sys.argv[1] not in NAMES:
        sys.exit(__doc__)
    write_gguf(sys.argv[2], sys.argv[1])
