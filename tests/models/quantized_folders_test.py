# SPDX-License-Identifier: Apache-2.0
"""Hugging Face folders of quantised layers (compressed-tensors, GPTQ, AWQ): the values of their codes and scales, bit for bit.

Each scheme's folder must give the f64 logits of a plain f32 folder with the values (code - zero) * scale, and run; what would
need a guess is refused with the layer's name. The layouts are written here as their definitions have them.

    quantized_folders_test.py            needs numpy alone
    quantized_folders_test.py --judge    compares the codes written here with the compressed-tensors package's
"""
import json
import pathlib
import sys
import tempfile

import numpy as np

import girih_cli
import quantized_checkpoints as checkpoints
import tiny_checkpoints as tiny

sys.path.insert(0, str(girih_cli.REPOSITORY / "tests" / "backends" / "reference"))
import reference_cli  # noqa: E402

PROMPT = [3, 14, 15, 92, 65, 35, 89, 79, 32, 38, 46, 26]
BOUNDS = {"exact": 1e-5, "fast": 0.03}  # of the logits' spread; the latter as formats_test.py has it
CONFIG = {
    "model_type": "llama", "architectures": ["LlamaForCausalLM"], "hidden_act": "silu", "rms_norm_eps": 1e-5,
    "hidden_size": checkpoints.HIDDEN, "intermediate_size": checkpoints.FFN, "vocab_size": checkpoints.VOCAB,
    "num_attention_heads": checkpoints.HEADS, "num_key_value_heads": checkpoints.KV_HEADS, "rope_theta": 10000.0,
    "num_hidden_layers": checkpoints.LAYERS, "max_position_embeddings": 256, "tie_word_embeddings": False,
}
HF_NAMES = {gguf: name for name, gguf in tiny.GGUF_NAMES.items()}
# Scheme: method, bits, k of a group (0: a row), what else is said of it.
SCHEMES = {
    "int4 by 32": ("pack", 4, 32, {}), "int4 by 128": ("pack", 4, 128, {}), "int4 by row": ("pack", 4, 0, {}),
    "int8 by 64, packed": ("pack", 8, 64, {}), "int8 by row": ("int", 8, 0, {}),
    "gptq int4 by 128": ("gptq", 4, 128, {}), "gptq int8 by 64, v2": ("gptq", 8, 64, {"checkpoint_format": "gptq_v2"}),
    "int4 by 32 with zeros": ("pack", 4, 32, {"zeros": True}), "int4 by row with zeros": ("pack", 4, 0, {"zeros": True}),
    "gptq int4 by 128 with zeros": ("gptq", 4, 128, {"zeros": True}),
    "gptq int4 by 64 with zeros, v2": ("gptq", 4, 64, {"zeros": True, "checkpoint_format": "gptq_v2"}),
    "awq int4 by 128": ("awq", 4, 128, {"zeros": True}), "awq int4 by 64, symmetric": ("awq", 4, 64, {}),
}
AWQ_ORDER = [0, 2, 4, 6, 1, 3, 5, 7]


def hf_name(gguf):
    parts = gguf.split(".")
    return f"model.layers.{parts[1]}.{HF_NAMES[parts[2]]}" if parts[0] == "blk" else HF_NAMES[gguf]


def packed(codes, bits):
    """Words of 32 / bits neighbours of a row, the first in the lowest bits; `codes` are unsigned."""
    words = codes.reshape(codes.shape[0], -1, 32 // bits).astype(np.uint32)
    shifts = np.arange(32 // bits, dtype=np.uint32) * np.uint32(bits)
    return np.bitwise_or.reduce(words << shifts, axis=2).astype(np.uint32)


def layer_tensors(module, method, bits, codes, zeros, scales, options):
    """What a method stores of one layer: signed codes [N, K], their signed zeros and scales [N, groups]."""
    middle, depth = 1 << (bits - 1), codes.shape[1]
    if method == "awq":
        def words(values):  # [rows, n] in words over rows, [n, words]
            return packed(values.T.reshape(values.shape[1], -1, 8)[:, :, AWQ_ORDER].reshape(values.shape[1], -1), 4)
        return [(f"{module}.qweight", "I32", words(codes + middle)), (f"{module}.qzeros", "I32", words(zeros + middle)),
                (f"{module}.scales", "F16", np.ascontiguousarray(scales.T))]
    if method == "int":
        return [(f"{module}.weight", "I8", codes.astype(np.int8)), (f"{module}.weight_scale", "F16", scales)]
    if method == "pack":
        said = [(f"{module}.weight_zero_point", "I32", np.ascontiguousarray(packed((zeros + middle).T, bits).T))]
        return [(f"{module}.weight_packed", "I32", packed(codes + middle, bits)), (f"{module}.weight_scale", "F16", scales),
                (f"{module}.weight_shape", "I64", np.array(codes.shape, np.int64))] + (said if options.get("zeros") else [])
    stored_zeros = zeros.T + middle - (options.get("checkpoint_format") != "gptq_v2")
    order = np.arange(depth, dtype=np.int32) // (depth // scales.shape[1])
    return [(f"{module}.qweight", "I32", np.ascontiguousarray(packed(codes + middle, bits).T)),
            (f"{module}.qzeros", "I32", packed(stored_zeros, bits)), (f"{module}.scales", "F16", np.ascontiguousarray(scales.T)),
            (f"{module}.g_idx", "I32", order)]


def write_folder(folder, tensors, quantization=None):
    folder.mkdir(parents=True, exist_ok=True)
    config = CONFIG | ({"quantization_config": quantization} if quantization else {})
    (folder / "config.json").write_text(json.dumps(config))
    tiny.write_safetensors(folder / "model.safetensors", [(n, d, v.shape, v.tobytes()) for n, d, v in tensors])


def quantization_of(method, bits, options):
    if method == "gptq":
        return {"quant_method": "gptq", "bits": bits, "sym": True, "desc_act": False} | options
    if method == "awq":
        return {"quant_method": "awq", "bits": bits, "version": "gemm", "zero_point": True}
    return {"quant_method": "compressed-tensors", "format": "pack-quantized" if method == "pack" else "int-quantized"}


def tensors_of(method, bits, group, options):
    """The quantised folder's tensors, and those of a plain one with the same values."""
    random = np.random.RandomState(5)
    stored, plain = [], []
    for gguf, shape in checkpoints.shapes():
        name = hf_name(gguf)
        if "layers" not in name or len(shape) == 1:
            scale = 0.4 if len(shape) == 1 else 1.2 / np.sqrt(shape[-1])
            values = (scale * random.standard_normal(shape) + (len(shape) == 1)).astype(np.float32)
            stored.append((f"{name}.weight", "F32", values))
            plain.append((f"{name}.weight", "F32", values))
            continue
        middle = 1 << (bits - 1)
        codes = random.randint(-middle, middle, shape)
        groups = shape[1] // group if group else 1
        deviation = middle * np.sqrt((2 if options.get("zeros") else 1) / 3)  # of codes less zeros, each spread evenly
        scales = (1.2 / np.sqrt(shape[1]) / deviation * (0.5 + random.random_sample((shape[0], groups)))).astype(np.float16)
        # A zero of -middle cannot be said by version 1 of GPTQ, which stores them less one.
        zeros = random.randint(1 - middle, middle, scales.shape) if options.get("zeros") else np.zeros(scales.shape, np.int64)
        stored += layer_tensors(name, method, bits, codes, zeros, scales, options)
        every = shape[1] // groups
        values = (codes - np.repeat(zeros, every, axis=1)) * np.repeat(scales.astype(np.float64), every, axis=1)
        plain.append((f"{name}.weight", "F32", values.astype(np.float32)))
    return stored, plain


def check_scheme(name, folder, report):
    method, bits, group, options = SCHEMES[name]
    stored, plain = tensors_of(method, bits, group, options)
    write_folder(folder / "quantised", stored, quantization_of(method, bits, options))
    write_folder(folder / "plain", plain)
    got, expected = (reference_cli.evaluate(folder / kind, PROMPT, folder) for kind in ("quantised", "plain"))
    report(f"{name}: the values of its definition", got.tobytes() == expected.tobytes())
    for numerics, bound in BOUNDS.items():
        program = girih_cli.compile_model(folder / "quantised", folder / "model.girih", numerics, target="cpu:native", no_golden=True)
        _, logits = girih_cli.run_tokens(program, PROMPT, 1, folder)
        error = float(np.sqrt(np.mean((logits[:len(PROMPT)] - expected) ** 2)) / expected.std())
        report(f"{name}: {numerics}, {error:.1e} of the spread from the reference", error <= bound)


def check_refusals(folder, report):
    def refuse(what, word, change, scheme="int4 by 32", quantization=None):
        method, bits, group, options = SCHEMES[scheme]
        stored = change(tensors_of(method, bits, group, options)[0])
        write_folder(folder / "bad", stored, quantization or quantization_of(method, bits, options))
        try:
            reference_cli.evaluate(folder / "bad", PROMPT, folder)
            report(f"{what} is refused", False)
        except reference_cli.Failure as failure:
            report(f"{what}: {str(failure)[-150:]}", word in str(failure) and "exited with 1" in str(failure))

    def replaced(suffix, edit):
        return lambda tensors: [(n, d, edit(v)) if n.endswith(suffix) else (n, d, v) for n, d, v in tensors]

    zero = ("model.layers.0.self_attn.q_proj.weight_zero_point", "I32", np.zeros((32, 1), np.uint32))
    refuse("zeros of another shape", "zeros of", lambda tensors: tensors + [zero])
    refuse("a zero of bytes", "weight_zero_point", lambda tensors: tensors + [zero], "int8 by row")
    refuse("a shape that contradicts the codes", "codes of", replaced("weight_shape", lambda v: v * 2))
    refuse("a shape beyond all bounds", "codes of", replaced("weight_shape", lambda v: v * 0 + (1 << 62)))
    refuse("a missing scale", "weight_scale", lambda tensors: [t for t in tensors if not t[0].endswith("q_proj.weight_scale")])
    refuse("too few scales", "scales", replaced("q_proj.weight_scale", lambda v: v.reshape(-1)[:3]))
    tiny_scale = [(n, "F32" if n.endswith("weight_scale") else d, v.astype(np.float32) * 1.0001 if n.endswith("weight_scale") else v)
                  for n, d, v in tensors_of("pack", 4, 32, {})[0]]
    refuse("a scale that is no f16", "is no f16", lambda _: tiny_scale)
    refuse("act-order", "act-order", replaced("g_idx", lambda v: v[::-1].copy()), "gptq int4 by 128")
    refuse("8 bits that a zero point widens", "zero point", replaced("qzeros", lambda v: v + 1), "gptq int8 by 64, v2")
    refuse("AWQ of another version", "gemm", lambda tensors: tensors, "awq int4 by 128", {"quant_method": "awq", "bits": 4, "version": "gemv"})
    refuse("another method", "hqq", lambda tensors: tensors, quantization={"quant_method": "hqq", "bits": 4})


def judge(report):
    import torch
    from compressed_tensors.compressors.pack_quantized.helpers import pack_to_int32
    for bits in (4, 8):
        codes = np.random.RandomState(bits).randint(-(1 << bits - 1), 1 << bits - 1, (48, 256))
        theirs = pack_to_int32(torch.from_numpy(codes.astype(np.int8)), bits).numpy().view(np.uint32)
        report(f"{bits} bits packed as compressed-tensors does", np.array_equal(packed(codes + (1 << bits - 1), bits), theirs))


def main(arguments):
    failed = []

    def report(what, passed):
        print(f"{'ok  ' if passed else 'FAIL'} {what}", flush=True)
        if not passed:
            failed.append(what)

    if arguments == ["--judge"]:
        judge(report)
        return 1 if failed else 0
    with tempfile.TemporaryDirectory() as scratch:
        for name in SCHEMES:
            check_scheme(name, pathlib.Path(scratch), report)
        check_refusals(pathlib.Path(scratch), report)
    print(f"{len(failed)} failures")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
