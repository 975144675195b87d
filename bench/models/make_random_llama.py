# SPDX-License-Identifier: Apache-2.0
"""Writes a GGUF of random weights in the shapes of Llama 3 8B (4.7 GB), to see what a model of that size costs.

Values have the spread of trained weights, so activations neither vanish nor overflow; there is no vocabulary, so only
token ids can be fed. Written as it goes: a few megabytes in memory whatever the size.

    make_random_llama.py OUT.gguf [--layers 32] [--hidden 4096] [--format Q4_0] [--head-format Q6_K] ...
"""
import argparse
import math
import struct

import numpy as np

ALIGNMENT = 32
PIECE_BLOCKS = 1 << 18  # made at a time
STRING, UINT32, FLOAT32 = 8, 4, 6  # types of GGUF's key/value pairs


def half_bytes(value, count):
    return np.full(count, value, np.float16).view(np.uint8).reshape(count, 2)


# Pairs of codes 1 to 15: a code of 0 has no counterpart above 8, and a mean that is not 0 drowns everything else.
PAIRS = np.add.outer(np.arange(1, 16), 16 * np.arange(1, 16)).astype(np.uint8).ravel()


def q4_0(random, count, spread):
    codes = PAIRS[random.integers(0, len(PAIRS), (count, 16), np.uint8)]
    return np.hstack([half_bytes(spread / 4.3, count), codes])


def q4_1(random, count, spread):
    scale = spread / 4.6
    return np.hstack([half_bytes(scale, count), half_bytes(-7.5 * scale, count),
                      random.integers(0, 256, (count, 16), np.uint8)])


def q8_0(random, count, spread):
    return np.hstack([half_bytes(spread / 74, count), random.integers(0, 256, (count, 32), np.uint8)])


def q6_k(random, count, spread):
    scales = random.integers(40, 88, (count, 16), np.uint8)
    return np.hstack([random.integers(0, 256, (count, 192), np.uint8), scales, half_bytes(spread / 18.5 / 64, count)])


def packed(random, count, halves, rest):
    """Blocks of the given halves and of random bytes."""
    return np.hstack([half_bytes(value, count) for value in halves] + [random.integers(0, 256, (count, rest), np.uint8)])


# The mean of codes times their scale less the smallest value is 0, and the spread that of codes alone.
def q5_0(random, count, spread):
    return packed(random, count, [spread / 9.2], 20)


def q5_1(random, count, spread):
    return packed(random, count, [spread / 9.2, -15.5 * spread / 9.2], 20)


def q4_k(random, count, spread):
    return packed(random, count, [spread / 300, 7.5 * spread / 300], 140)


def q5_k(random, count, spread):
    return packed(random, count, [spread / 600, 15.5 * spread / 600], 172)


def iq4_nl(random, count, spread):
    return packed(random, count, [spread / 70], 16)


def mxfp4(random, count, spread):
    exponents = np.full((count, 1), 127 + round(math.log2(spread / 3)), np.uint8)
    return np.hstack([exponents, random.integers(0, 256, (count, 16), np.uint8)])


def f16(random, count, spread):
    return (random.standard_normal((count, 1), np.float32) * spread).astype(np.float16).view(np.uint8)


def bf16(random, count, spread):
    return (random.standard_normal((count, 1), np.float32) * np.float32(spread)).view(np.uint8)[:, 2:]


def f32(random, count, spread):
    return np.ones((count, 1), np.float32).view(np.uint8)  # the norms' gains


# The type's number in GGUF, elements and bytes of a block, and what makes blocks of values with a given spread.
FORMATS = {"F32": (0, 1, 4, f32), "F16": (1, 1, 2, f16), "BF16": (30, 1, 2, bf16), "Q4_0": (2, 32, 18, q4_0),
           "Q4_1": (3, 32, 20, q4_1), "Q5_0": (6, 32, 22, q5_0), "Q5_1": (7, 32, 24, q5_1), "Q8_0": (8, 32, 34, q8_0),
           "Q4_K": (12, 256, 144, q4_k), "Q5_K": (13, 256, 176, q5_k), "Q6_K": (14, 256, 210, q6_k),
           "IQ4_NL": (20, 32, 18, iq4_nl), "MXFP4": (39, 32, 17, mxfp4)}


def text(value):
    return struct.pack("<Q", len(value)) + value.encode()


def pair(key, kind, value):
    packed = text(value) if kind == STRING else struct.pack("<f" if kind == FLOAT32 else "<I", value)
    return text(key) + struct.pack("<I", kind) + packed


def metadata(options):
    rows = [("general.architecture", STRING, "llama"), ("general.name", STRING, "random llama"),
            ("llama.block_count", UINT32, options.layers), ("llama.context_length", UINT32, options.context),
            ("llama.embedding_length", UINT32, options.hidden), ("llama.feed_forward_length", UINT32, options.intermediate),
            ("llama.attention.head_count", UINT32, options.heads), ("llama.attention.head_count_kv", UINT32, options.kv_heads),
            ("llama.rope.freq_base", FLOAT32, 500000.0), ("llama.attention.layer_norm_rms_epsilon", FLOAT32, 1e-5),
            ("llama.vocab_size", UINT32, options.vocabulary), ("tokenizer.ggml.model", STRING, "no_vocab")]
    return rows


def tensors(options):
    """(name, shape, format) of every tensor; shapes as numpy has them, rows first."""
    hidden, kv = options.hidden, options.hidden // options.heads * options.kv_heads
    yield "token_embd.weight", (options.vocabulary, hidden), options.format
    for layer in range(options.layers):
        matrices = {"attn_q": (hidden, hidden), "attn_k": (kv, hidden), "attn_v": (kv, hidden),
                    "attn_output": (hidden, hidden), "ffn_gate": (options.intermediate, hidden),
                    "ffn_up": (options.intermediate, hidden), "ffn_down": (hidden, options.intermediate)}
        for name in ("attn_norm", "ffn_norm"):
            yield f"blk.{layer}.{name}.weight", (hidden,), "F32"
        for name, shape in matrices.items():
            yield f"blk.{layer}.{name}.weight", shape, options.format
    yield "output_norm.weight", (hidden,), "F32"
    yield "output.weight", (options.vocabulary, hidden), options.head_format


def size_bytes(shape, name):
    _, elements, block_bytes, _ = FORMATS[name]
    return math.prod(shape) // elements * block_bytes


def padding(position):
    return bytes(-position % ALIGNMENT)


def write(file, options):
    listed, rows = list(tensors(options)), metadata(options)
    head = b"GGUF" + struct.pack("<IQQ", 3, len(listed), len(rows)) + b"".join(pair(*row) for row in rows)
    offset = 0
    for name, shape, kind in listed:
        extents = tuple(reversed(shape))
        head += text(name) + struct.pack(f"<I{len(extents)}QIQ", len(extents), *extents, FORMATS[kind][0], offset)
        offset += size_bytes(shape, kind) + len(padding(size_bytes(shape, kind)))
    file.write(head + padding(len(head)))
    random = np.random.default_rng(options.seed)
    for name, shape, kind in listed:
        _, elements, _, make = FORMATS[kind]
        spread = 1.0 if name == "token_embd.weight" else 1 / math.sqrt(shape[-1])
        left = math.prod(shape) // elements
        while left:
            count = min(left, PIECE_BLOCKS)
            file.write(make(random, count, spread).tobytes())
            left -= count
        file.write(padding(size_bytes(shape, kind)))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out")
    for name, value in {"layers": 32, "hidden": 4096, "intermediate": 14336, "heads": 32, "kv-heads": 8,
                        "vocabulary": 128256, "context": 8192, "seed": 1}.items():
        parser.add_argument(f"--{name}", type=int, default=value)
    parser.add_argument("--format", choices=sorted(FORMATS), default="Q4_0")
    parser.add_argument("--head-format", choices=sorted(FORMATS), default="Q6_K")
    options = parser.parse_args()
    with open(options.out, "wb") as file:
        write(file, options)


if __name__ == "__main__":
    main()
