#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Judges what quantises weights by the `gguf` package (pip install gguf==0.19.0 numpy): the same bytes for each format.

    quantize_blocks_judge.py [--seed N]      GIRIH_BUILD names the build folder
"""
import argparse
import os
import pathlib
import subprocess
import sys

NUM_BLOCKS = 20000
FORMATS = ["q4_0", "q4_1", "q5_0", "q5_1", "q8_0"]


def samples(np, seed):
    """Blocks as weights have them, and every kind that a rule could stumble on."""
    random = np.random.default_rng(seed)
    blocks = random.standard_normal((NUM_BLOCKS, 32)).astype(np.float32)
    blocks *= np.exp2(random.integers(-12, 6, (NUM_BLOCKS, 1))).astype(np.float32)
    kind = np.arange(NUM_BLOCKS) % 10
    blocks[kind == 1] = np.round(blocks[kind == 1] * 64) / 64                              # ties
    blocks[kind == 2] = blocks[kind == 2].astype(np.float16).astype(np.float32)            # as a checkpoint of f16
    blocks[kind == 3] = np.abs(blocks[kind == 3])                                          # one sign
    blocks[kind == 4, 1:] = 0                                                              # an only value
    blocks[kind == 5] = blocks[kind == 5, :1]                                              # all the same
    blocks[kind == 6, 16:] = -blocks[kind == 6, :16]                                       # two farthest ones
    blocks[kind == 7] *= random.random((np.count_nonzero(kind == 7), 32)) < 0.2            # mostly zeros
    blocks[0], blocks[10] = 0, np.float32(1e-9)                                            # nothing; beneath f16
    return blocks + np.float32(0)  # no -0: which of two zeros is the least of a block is nobody's rule


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seed", type=int, default=int.from_bytes(os.urandom(4), "little"))
    seed = parser.parse_args().seed
    try:
        import gguf
        import numpy as np
    except ImportError as error:
        print(f"skipped: {error}; pip install gguf==0.19.0 numpy")
        return 77
    print(f"seed {seed}")
    program = pathlib.Path(os.environ.get("GIRIH_BUILD", "build")) / "bin" / "weights_quantize_blocks"
    blocks, num_failures = samples(np, seed), 0
    for name in FORMATS:
        with np.errstate(all="ignore"):
            wanted = gguf.quants.quantize(blocks, gguf.GGMLQuantizationType[name.upper()])
        found = np.frombuffer(subprocess.run([program, name], input=blocks.tobytes(), stdout=subprocess.PIPE, check=True).stdout,
                              dtype=np.uint8).reshape(wanted.shape)
        differing = np.flatnonzero((found != wanted).any(axis=1))
        print(f"{name}: {len(blocks)} blocks, {differing.size} differ")
        for block in differing[:2]:
            print(f"  block {block}: {found[block].tobytes().hex()} instead of {wanted[block].tobytes().hex()}")
        num_failures += differing.size > 0
    return 1 if num_failures else 0


if __name__ == "__main__":
    sys.exit(main())
