#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes the tiny checkpoints that the readers' tests open and the fuzz targets start from, with the `gguf` and
`safetensors` packages themselves (gguf==0.19.0 safetensors==0.8.0 numpy).

  make_tiny_files.py      golden/ beside this script, and tests/fuzz/corpus/{gguf,safetensors}
"""
import pathlib

import gguf
import numpy as np
from safetensors.numpy import save_file

GOLDEN = pathlib.Path(__file__).resolve().parent / "golden"
CORPUS = pathlib.Path(__file__).resolve().parents[2] / "fuzz" / "corpus"
FORMATS = ("F32 F16 BF16 Q8_0 Q4_0 Q4_1 Q5_0 Q5_1 Q2_K Q3_K Q4_K Q5_K Q6_K IQ4_NL IQ4_XS MXFP4").split()


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


def write_every_format(path):
    """One row of one block (or of 32 numbers) of each block format."""
    writer = gguf.GGUFWriter(path, "llama")
    for name in FORMATS:
        kind = gguf.GGMLQuantizationType[name]
        block_elements, block_bytes = gguf.GGML_QUANT_SIZES[kind]
        row = np.arange(block_bytes * (32 if block_elements == 1 else 1), dtype=np.uint8).reshape(1, -1)
        if name in ("F32", "F16"):
            writer.add_tensor(name.lower(), row.view(np.float32 if name == "F32" else np.float16))
        else:
            writer.add_tensor(name.lower(), row, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def write_shard(path):
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_uint16("split.no", 0)
    writer.add_uint16("split.count", 2)
    writer.add_int32("split.tensors.count", 1)
    writer.add_custom_alignment(64)
    writer.add_tensor("a", np.zeros((2, 3), dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def main():
    write_gguf(GOLDEN / "tiny.gguf")
    write_safetensors(GOLDEN / "tiny.safetensors")
    write_gguf(CORPUS / "gguf" / "tiny.gguf")
    write_every_format(CORPUS / "gguf" / "every_format.gguf")
    write_shard(CORPUS / "gguf" / "shard.gguf")
    write_safetensors(CORPUS / "safetensors" / "tiny.safetensors")
    save_file({}, CORPUS / "safetensors" / "no_tensors.safetensors")
    save_file({"w": np.zeros((17, 33), dtype=np.float16)}, CORPUS / "safetensors" / "odd_shape.safetensors")
    for path in [*GOLDEN.iterdir(), *CORPUS.glob("*/*")]:
        path.chmod(0o644)


if __name__ == "__main__":
    main()
