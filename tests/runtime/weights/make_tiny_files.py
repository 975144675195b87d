#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes the tiny checkpoints that the readers' tests open, with the `gguf` and `safetensors` packages themselves.

  make_tiny_files.py [FOLDER]   (default: golden/ beside this script; needs gguf==0.19.0 safetensors==0.8.0 numpy)
"""
import pathlib
import sys

import gguf
import numpy as np
from safetensors.numpy import save_file

FOLDER = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else pathlib.Path(__file__).parent / "golden"


def write_gguf(path):
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_uint8("tiny.u8", 200)
    writer.add_int8("tiny.i8", -100)
    writer.add_uint16("tiny.u16", 60000)
    writer.add_int16("tiny.i16", -30000)
    writer.add_uint32("tiny.u32", 4000000000)
    writer.add_int32("tiny.i32", -2000000000)
    writer.add_uint64("tiny.u64", 2**63 + 1)
    writer.add_key_value("tiny.i64", -(2**62), gguf.GGUFValueType.INT64)
    writer.add_float32("tiny.f32", 0.5)
    writer.add_float64("tiny.f64", 0.1)
    writer.add_bool("tiny.flag", True)
    writer.add_string("tiny.text", "gr\u00fc\u00df dich")
    writer.add_array("tiny.integers", [1, -2, 3])
    writer.add_array("tiny.numbers", [0.5, -1.5])
    writer.add_array("tiny.flags", [True, False])
    writer.add_array("tokenizer.ggml.tokens", ["<s>", "a", "\u00e4b"])
    rows = np.arange(3 * 64, dtype=np.float32).reshape(3, 64) / 16 - 4
    writer.add_tensor("matrix_f32", rows)
    writer.add_tensor("matrix_f16", rows.astype(np.float16))
    for kind in (gguf.GGMLQuantizationType.Q8_0, gguf.GGMLQuantizationType.Q4_1):
        writer.add_tensor(f"matrix_{kind.name.lower()}", gguf.quants.quantize(rows, kind), raw_dtype=kind)
    writer.add_tensor("vector", np.arange(32, dtype=np.float32))
    writer.add_tensor("cube", np.arange(2 * 3 * 32, dtype=np.float32).reshape(2, 3, 32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def write_safetensors(path):
    tensors = {
        "matrix": np.arange(6, dtype=np.float32).reshape(2, 3),
        "half": np.arange(8, dtype=np.float16).reshape(2, 2, 2),
        "position_ids": np.arange(4, dtype=np.int64),
        "scalar": np.array(2.5, dtype=np.float32),
        "empty": np.zeros((0, 4), dtype=np.float32),
    }
    save_file(tensors, path, metadata={"format": "pt"})


def main():
    FOLDER.mkdir(parents=True, exist_ok=True)
    write_gguf(FOLDER / "tiny.gguf")
    write_safetensors(FOLDER / "tiny.safetensors")


if __name__ == "__main__":
    main()
