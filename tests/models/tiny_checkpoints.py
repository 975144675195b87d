# SPDX-License-Identifier: Apache-2.0
"""Writes the tiny test checkpoints (a Hugging Face folder and a GGUF each) from golden/tiny, with numpy alone.

golden/tiny/<name>.json holds the configuration exactly as transformers wrote it, and every tensor's name, shape and
type. The values are not stored: each tensor is filled from a seed made of its name, by numpy's frozen legacy
generator, so a checkpoint of 200 kB costs 2 kB in the repository and `./check` needs neither torch nor transformers.
make_tiny_models.py, which does need them, proves that what is written here is byte for byte what transformers and
the gguf package write.

    tiny_checkpoints.py OUT_FOLDER [NAME ...]      writes OUT_FOLDER/<name>/{hf/,model.gguf}
"""
import hashlib
import json
import pathlib
import struct
import sys

import numpy as np

GOLDEN = pathlib.Path(__file__).resolve().parent / "golden" / "tiny"

# Tensor names of GGUF beside those of Hugging Face; `{}` is the layer.
GGUF_NAMES = {
    "model.embed_tokens": "token_embd",
    "model.norm": "output_norm",
    "lm_head": "output",
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "self_attn.q_norm": "attn_q_norm",
    "self_attn.k_norm": "attn_k_norm",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}
# Gemma 2 has norms on both sides of each half, so the same Hugging Face word means another tensor.
GEMMA2_NAMES = GGUF_NAMES | {
    "post_attention_layernorm": "post_attention_norm",
    "pre_feedforward_layernorm": "ffn_norm",
    "post_feedforward_layernorm": "post_ffw_norm",
}


def tensor_values(model, name, shape, dtype, zero_centred_norm):
    """The f32 values of one tensor, each of them exact in `dtype`."""
    seed = int.from_bytes(hashlib.sha256(f"{model}/{name}".encode()).digest()[:4], "little")
    count = int(np.prod(shape))
    uniform = np.random.RandomState(seed).random_sample(count) * 2.0 - 1.0  # frozen: the same bits in every numpy
    if zero_centred_norm and name == "model.norm.weight":
        values = 8.0 + 2.0 * uniform  # makes up for the small embedding below, which is the head as well
    elif zero_centred_norm and "embed_tokens" in name:
        values = 0.6 / np.sqrt(shape[-1]) * uniform  # the graph multiplies by sqrt(hidden): keep layers in the answer
    elif "norm" in name:
        values = 0.4 * uniform + (0.0 if zero_centred_norm else 1.0)
    elif name.endswith(".bias"):
        values = 0.5 * uniform
    elif "embed_tokens" in name:
        values = 0.6 * uniform
    else:
        # Gains that keep activations near 1 but make attention sharp and the logits spread out, so that a wrong
        # rope, mask or head shows up as a large difference and greedy tokens have clear margins.
        gain = 2.0 if ("q_proj" in name or "k_proj" in name) else 3.0 if "lm_head" in name else 1.2
        values = gain * np.sqrt(3.0 / shape[-1]) * uniform
    return from_storage(to_storage(values.astype(np.float32), dtype), dtype).reshape(shape)


def to_storage(values, dtype):
    if dtype == "BF16":  # by truncation: any rule will do, the values are made exact by it
        return (np.ascontiguousarray(values).view(np.uint32) >> 16).astype(np.uint16)
    return values.astype({"F32": np.float32, "F16": np.float16}[dtype])


def from_storage(stored, dtype):
    if dtype == "BF16":
        return (stored.astype(np.uint32) << 16).view(np.float32)
    return stored.astype(np.float32)


def write_safetensors(path, tensors):
    """tensors: list of (name, dtype, shape, bytes), in file order."""
    header, offset = {"__metadata__": {"format": "pt"}}, 0
    for name, dtype, shape, payload in tensors:
        header[name] = {"dtype": dtype, "shape": list(shape), "data_offsets": [offset, offset + len(payload)]}
        offset += len(payload)
    text = json.dumps(header, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    path.write_bytes(struct.pack("<Q", len(text)) + text + b"".join(t[3] for t in tensors))


def rope_of(config):
    """(theta, scaling dict without theta), from the 5.x spelling or the 4.x one."""
    if "rope_parameters" in config:
        scaling = dict(config["rope_parameters"] or {})
        theta = scaling.pop("rope_theta", 10000.0)
    else:
        scaling, theta = dict(config.get("rope_scaling") or {}), config.get("rope_theta", 10000.0)
    kind = scaling.pop("rope_type", scaling.pop("type", "default"))
    return theta, kind, scaling


def llama3_frequency_factors(head_size, theta, scaling):
    """What the GGUF convention stores as rope_freqs.weight: by how much each frequency is divided."""
    frequencies = 1.0 / theta ** (np.arange(0, head_size, 2, dtype=np.float64) / head_size)
    wavelengths = 2 * np.pi / frequencies
    low, high = scaling["low_freq_factor"], scaling["high_freq_factor"]
    original, factor = scaling["original_max_position_embeddings"], scaling["factor"]
    smooth = (original / wavelengths - low) / (high - low)
    blended = 1.0 / ((1 - smooth) / factor + smooth)
    factors = np.where(wavelengths < original / high, 1.0, np.where(wavelengths > original / low, factor, blended))
    return factors.astype(np.float32)


def gguf_metadata(config):
    """The key-value pairs as (key, kind, value), kinds: u32 f32 str bool."""
    arch = {"mistral": "llama"}.get(config["model_type"], config["model_type"])
    heads = config["num_attention_heads"]
    head_size = config.get("head_dim") or config["hidden_size"] // heads
    theta, rope_kind, scaling = rope_of(config)
    pairs = [
        ("general.architecture", "str", arch),
        # Mistral is stored as `llama`: only the window's key tells them apart, never this name.
        ("general.name", "str", f"tiny {config['model_type']}"),
        (f"{arch}.block_count", "u32", config["num_hidden_layers"]),
        (f"{arch}.context_length", "u32", config["max_position_embeddings"]),
        (f"{arch}.embedding_length", "u32", config["hidden_size"]),
        (f"{arch}.feed_forward_length", "u32", config["intermediate_size"]),
        (f"{arch}.attention.head_count", "u32", heads),
        (f"{arch}.attention.head_count_kv", "u32", config["num_key_value_heads"]),
        (f"{arch}.attention.key_length", "u32", head_size),
        (f"{arch}.attention.value_length", "u32", head_size),
        (f"{arch}.attention.layer_norm_rms_epsilon", "f32", config["rms_norm_eps"]),
        (f"{arch}.rope.freq_base", "f32", float(theta)),
        (f"{arch}.vocab_size", "u32", config["vocab_size"]),
    ]
    if arch == "llama":
        pairs.append((f"{arch}.rope.dimension_count", "u32", head_size))
    if rope_kind in ("linear", "yarn"):
        pairs.append((f"{arch}.rope.scaling.type", "str", rope_kind))
        pairs.append((f"{arch}.rope.scaling.factor", "f32", float(scaling["factor"])))
    if rope_kind == "yarn":
        original = scaling.get("original_max_position_embeddings", config["max_position_embeddings"])
        pairs.append((f"{arch}.rope.scaling.original_context_length", "u32", original))
        for key, gguf_key in (("beta_fast", "yarn_beta_fast"), ("beta_slow", "yarn_beta_slow")):
            if key in scaling:
                pairs.append((f"{arch}.rope.scaling.{gguf_key}", "f32", float(scaling[key])))
    if config.get("sliding_window") and config["model_type"] in ("mistral", "gemma2"):
        pairs.append((f"{arch}.attention.sliding_window", "u32", config["sliding_window"]))
    if config["model_type"] == "gemma2":
        pairs.append((f"{arch}.attn_logit_softcapping", "f32", float(config["attn_logit_softcapping"])))
        pairs.append((f"{arch}.final_logit_softcapping", "f32", float(config["final_logit_softcapping"])))
    return pairs


def has_gguf(config):
    """False where GGUF cannot say what the model is: Qwen's window on some layers, Gemma's own scale of the query."""
    own_scale = config.get("query_pre_attn_scalar", config.get("head_dim")) != config.get("head_dim")
    return not own_scale and not (config["model_type"].startswith("qwen") and config.get("use_sliding_window"))


def interleave_halves(weight, heads):
    """Rows of a head from [first half, second half] to [pair 0, pair 1, ...]: GGUF's rope rotates neighbours."""
    shape = weight.shape
    return weight.reshape(heads, 2, shape[0] // heads // 2, *shape[1:]).swapaxes(1, 2).reshape(shape)


def gguf_tensors(config, tensors):
    """(gguf name, dtype, values) for each tensor; `tensors` maps Hugging Face names to (dtype, f32 values)."""
    family, result = config["model_type"], []
    theta, rope_kind, scaling = rope_of(config)
    head_size = config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"]
    if rope_kind == "llama3":
        result.append(("rope_freqs.weight", "F32", llama3_frequency_factors(head_size, theta, scaling)))
    for name, (dtype, values) in tensors.items():
        stem, suffix = name.rsplit(".", 1)
        prefix = ""
        if stem.startswith("model.layers."):
            _, _, layer, stem = stem.split(".", 3)
            prefix = f"blk.{layer}."
        gguf_name = prefix + (GEMMA2_NAMES if family == "gemma2" else GGUF_NAMES)[stem] + "." + suffix
        if family in ("llama", "mistral") and stem in ("self_attn.q_proj", "self_attn.k_proj"):
            heads = config["num_attention_heads" if "q_proj" in stem else "num_key_value_heads"]
            values = interleave_halves(values, heads)
        if family == "gemma2" and "norm" in stem:
            values = values + np.float32(1)
        # One-dimensional tensors are f32 in every GGUF.
        result.append((gguf_name, "F32" if values.ndim == 1 else dtype, values))
    return result


def gguf_string(text):
    return struct.pack("<Q", len(text.encode())) + text.encode()


def gguf_bytes(pairs, tensors, alignment=32):
    """GGUF version 3, of (name, number of its type, shape, stored bytes). Kinds of values as numbered by the format."""
    pack = {
        "u32": lambda v: struct.pack("<II", 4, v),
        "f32": lambda v: struct.pack("<If", 6, v),
        "bool": lambda v: struct.pack("<IB", 7, v),
        "str": lambda v: struct.pack("<I", 8) + gguf_string(v),
    }
    head = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(pairs))
    head += b"".join(gguf_string(key) + pack[kind](value) for key, kind, value in pairs)
    payload = b""
    for name, number, shape, stored in tensors:
        head += gguf_string(name) + struct.pack("<I", len(shape))
        head += struct.pack(f"<{len(shape)}Q", *reversed(shape))
        head += struct.pack("<IQ", number, len(payload))
        payload += stored
        payload += b"\0" * (-len(payload) % alignment)
    return head + b"\0" * (-len(head) % alignment) + payload


def write_gguf(path, pairs, tensors):
    """`tensors`: (name, "F32", "F16" or "BF16", f32 values)."""
    numbers = {"F32": 0, "F16": 1, "BF16": 30}
    stored = [(n, numbers[d], v.shape, to_storage(v, d).tobytes()) for n, d, v in tensors]
    path.write_bytes(gguf_bytes(pairs, stored))


def load_description(name):
    return json.loads((GOLDEN / f"{name}.json").read_text())


def model_tensors(name, description):
    """Hugging Face name -> (dtype, f32 values), in the file's order."""
    zero_centred = description["config"]["model_type"] == "gemma2"
    return {
        tensor: (dtype, tensor_values(name, tensor, shape, dtype, zero_centred))
        for tensor, (dtype, shape) in description["tensors"].items()
    }


def write_checkpoint(name, folder):
    """Writes folder/hf/{config.json,model.safetensors} and, where GGUF can express it, folder/model.gguf."""
    description = load_description(name)
    config = description["config"]
    tensors = model_tensors(name, description)
    hf = folder / "hf"
    hf.mkdir(parents=True, exist_ok=True)
    (hf / "config.json").write_text(json.dumps(config, indent=2) + "\n")
    stored = [(n, d, v.shape, to_storage(v, d).tobytes()) for n, (d, v) in tensors.items()]
    write_safetensors(hf / "model.safetensors", stored)
    if has_gguf(config):
        write_gguf(folder / "model.gguf", gguf_metadata(config), gguf_tensors(config, tensors))


def all_names():
    return sorted(path.stem for path in GOLDEN.glob("*.json"))


def main(arguments):
    if not arguments:
        print(__doc__, file=sys.stderr)
        return 2
    for name in arguments[1:] or all_names():
        write_checkpoint(name, pathlib.Path(arguments[0]) / name)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
