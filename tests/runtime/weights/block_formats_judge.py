#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Judges the block formats by the `gguf` package (pip install gguf==0.19.0 numpy).

  block_formats_judge.py           the committed hashes are what the package says of the samples of block_samples.h
  block_formats_judge.py --write   writes these hashes (golden/block_formats.txt) again
  block_formats_judge.py --full    besides: as many fresh random blocks (another seed), compared value by value with
                                   the program weights_dequantize_blocks of the build folder ($GIRIH_BUILD)
"""
import argparse
import hashlib
import os
import pathlib
import subprocess
import sys

GOLDEN = pathlib.Path(__file__).parent / "golden" / "block_formats.txt"
NUM_BLOCKS = 10240
SEED = 0x61726967  # as in block_formats_test.cpp
CANONICAL_NAN = 0x7FC00000

# Name: (GGML name, blocks' bytes, offsets of their f16 fields). A sample of f32, f16, bf16 is 32 numbers.
FORMATS = {
    "f32": ("F32", 128, []), "f16": ("F16", 64, []), "bf16": ("BF16", 64, []),
    "q8_0": ("Q8_0", 34, [0]), "q4_0": ("Q4_0", 18, [0]), "q4_1": ("Q4_1", 20, [0, 2]),
    "q5_0": ("Q5_0", 22, [0]), "q5_1": ("Q5_1", 24, [0, 2]), "q2_K": ("Q2_K", 84, [80, 82]),
    "q3_K": ("Q3_K", 110, [108]), "q4_K": ("Q4_K", 144, [0, 2]), "q5_K": ("Q5_K", 176, [0, 2]),
    "q6_K": ("Q6_K", 210, [208]), "iq4_nl": ("IQ4_NL", 18, [0]), "iq4_xs": ("IQ4_XS", 136, [0]),
    "mxfp4": ("MXFP4", 17, []),
}
# Zeros, the smallest and largest denormals and normals, infinities, NaNs, both signs; and one and minus two.
EXTREME_HALVES = [0x0000, 0x8000, 0x0001, 0x8001, 0x03FF, 0x0400, 0x7BFF, 0xFBFF, 0x7C00, 0xFC00, 0x7E00, 0xFE01,
                  0x3C00, 0xC000]
FILL_BYTES = [0x00, 0xFF, 0x80, 0x7F, 0x08, 0xF0, 0x3F, 0xC0]


def random_words(np, seed, first, count):
    """splitmix64: word k is a function of seed + k alone, so that C++ and numpy agree without a shared stream."""
    with np.errstate(over="ignore"):
        state = np.uint64(seed) + (np.arange(first, first + count, dtype=np.uint64) + np.uint64(1)) * np.uint64(
            0x9E3779B97F4A7C15)
        state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        return state ^ (state >> np.uint64(31))


def sample_blocks(np, name, seed, num_blocks):
    """[num_blocks, block bytes]. Every fourth block: all random; sane scales; extreme scales; extreme both."""
    _, block_bytes, halves = FORMATS[name]
    num_words = (num_blocks * block_bytes + 7) // 8
    blocks = random_words(np, seed, 0, num_words).view(np.uint8)[: num_blocks * block_bytes].reshape(
        num_blocks, block_bytes).copy()
    choices = random_words(np, seed ^ 0xFFFFFFFF, 0, num_blocks * 4).reshape(num_blocks, 4)
    kind = np.arange(num_blocks) % 4
    fill = np.array(FILL_BYTES, dtype=np.uint8)[choices[:, 3] % np.uint64(len(FILL_BYTES))]
    blocks[kind == 3] = fill[kind == 3][:, None]
    for field, offset in enumerate(halves):
        choice = choices[:, field]
        # Exponents 5 to 20 of 31: 2^-10 to 2^5 as real scales have them.
        sane = (choice & np.uint64(0x83FF)) | ((choice >> np.uint64(20)) % np.uint64(16) + np.uint64(5)) << np.uint64(10)
        extreme = np.array(EXTREME_HALVES, dtype=np.uint64)[choice % np.uint64(len(EXTREME_HALVES))]
        value = np.where(kind == 1, sane, extreme).astype(np.uint16)
        is_set = kind >= 1
        blocks[is_set, offset] = (value & 0xFF)[is_set].astype(np.uint8)
        blocks[is_set, offset + 1] = (value >> 8)[is_set].astype(np.uint8)
    return blocks


def dequantized_bits(np, gguf, name, blocks):
    """The package's f32 values as bits, every NaN as the same one (the sign and payload of a NaN are nobody's)."""
    with np.errstate(all="ignore"):
        kind = gguf.GGMLQuantizationType[FORMATS[name][0]]
        values = gguf.quants.dequantize(blocks.reshape(-1) if name in ("f32", "f16") else blocks, kind)
    values = np.ascontiguousarray(values, dtype=np.float32).reshape(-1)
    return np.where(np.isnan(values), np.uint32(CANONICAL_NAN), values.view(np.uint32))


def golden_text(np, gguf):
    lines = [f"# SHA-256 of the f32 values of {NUM_BLOCKS} sample blocks, seed {SEED:#x}; by gguf {version(gguf)},",
             "# written by block_formats_judge.py --write"]
    for name in FORMATS:
        bits = dequantized_bits(np, gguf, name, sample_blocks(np, name, SEED, NUM_BLOCKS))
        lines.append(f"{name} {NUM_BLOCKS} {hashlib.sha256(bits.tobytes()).hexdigest()}")
    return "\n".join(lines) + "\n"


def version(gguf):
    import importlib.metadata
    return importlib.metadata.version("gguf")


def compare_live(np, gguf, seed):
    """Number of formats that differ."""
    program = pathlib.Path(os.environ.get("GIRIH_BUILD", "build")) / "bin" / "weights_dequantize_blocks"
    num_failures = 0
    for name in FORMATS:
        blocks = sample_blocks(np, name, seed, NUM_BLOCKS)
        wanted = dequantized_bits(np, gguf, name, blocks)
        found = np.frombuffer(subprocess.run([program, name], input=blocks.tobytes(), stdout=subprocess.PIPE,
                                             check=True).stdout, dtype=np.float32)
        found = np.where(np.isnan(found), np.uint32(CANONICAL_NAN), found.view(np.uint32))
        if found.shape != wanted.shape:
            print(f"{name}: {found.size} values instead of {wanted.size}")
            num_failures += 1
            continue
        differing = np.flatnonzero(found != wanted)
        print(f"{name}: {NUM_BLOCKS} blocks, {wanted.size} values, {differing.size} differ")
        for index in differing[:3]:
            print(f"  value {index}: {found[index]:#010x} instead of {wanted[index]:#010x}")
        num_failures += differing.size > 0
    return num_failures


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--write", action="store_true")
    parser.add_argument("--full", action="store_true")
    parser.add_argument("--seed", type=lambda text: int(text, 0), default=None, help="of --full's blocks")
    arguments = parser.parse_args()
    try:
        import gguf
        import numpy as np
    except ImportError as error:
        print(f"skipped: {error}; pip install gguf==0.19.0 numpy")
        return 77
    if arguments.write:
        GOLDEN.write_text(golden_text(np, gguf))
        return 0
    wanted = [line for line in golden_text(np, gguf).splitlines() if not line.startswith("#")]
    found = [line for line in GOLDEN.read_text().splitlines() if not line.startswith("#")]
    if wanted != found:
        print("golden/block_formats.txt is not what the gguf package says:")
        print("\n".join(f"  {line}" for line in sorted(set(wanted) ^ set(found))))
        return 1
    print(f"the hashes of {len(found)} formats agree")
    if arguments.full:
        seed = arguments.seed if arguments.seed is not None else int.from_bytes(os.urandom(4), "little")
        print(f"seed {seed:#x}")
        return 1 if compare_live(np, gguf, seed) else 0
    return 0


if __name__ == "__main__":
    sys.exit(main())
