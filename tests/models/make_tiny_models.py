# SPDX-License-Identifier: Apache-2.0
"""Makes the goldens of the tiny models: configuration, tensors, logits and greedy tokens, with transformers as judge.

Needs requirements.txt of this folder (torch, transformers, gguf). Every model is written by transformers
(`save_pretrained`) and by the gguf package, read back by transformers from both, and compared with what
tiny_checkpoints.py writes without them.

    make_tiny_models.py [--keep FOLDER] [--check] [NAME ...]
        --keep FOLDER   leave the checkpoints and expected.npz (every position) in FOLDER/<name>/
        --check         compare with the committed goldens instead of rewriting them
"""
import argparse
import json
import pathlib
import shutil
import tempfile

import gguf
import numpy as np
import safetensors
import torch
import transformers

import tiny_checkpoints as tiny

GREEDY_TOKENS = 16
LLAMA3 = dict(rope_type="llama3", factor=8.0, low_freq_factor=1.0, high_freq_factor=4.0,
              original_max_position_embeddings=64)
LINEAR = dict(rope_type="linear", factor=4.0)
YARN = dict(rope_type="yarn", factor=4.0, original_max_position_embeddings=32)
YARN_BETAS = YARN | dict(factor=2.5, beta_fast=16.0, beta_slow=2.0)


def spec(hidden, heads, kv, head_dim, ffn, vocab, tied, dtype="float32", theta=10000.0, scaling=None, layers=2,
         prompt=32, old_spelling=False, **extra):
    config = dict(hidden_size=hidden, num_attention_heads=heads, num_key_value_heads=kv, head_dim=head_dim,
                  intermediate_size=ffn, vocab_size=vocab, tie_word_embeddings=tied, num_hidden_layers=layers,
                  rope_parameters=dict(rope_type="default") | (scaling or {}) | dict(rope_theta=theta),
                  max_position_embeddings=256, rms_norm_eps=1e-5, bos_token_id=1, eos_token_id=None,
                  pad_token_id=None) | extra
    return config, dtype, prompt, old_spelling


# Between them: odd head counts, head size other than hidden/heads, GQA 1:1 to 8:1, tied and untied, windows shorter
# than the prompt, each rope scaling, each storage type, extents that are no multiple of 16 or 32, both spellings of
# the rope in config.json (transformers 4 wrote rope_theta and rope_scaling, 5 writes rope_parameters).
MODELS = {
    "llama_1": spec(48, 3, 3, 16, 96, 128, False),
    "llama_2": spec(64, 8, 1, 8, 112, 160, True, "bfloat16", 500000.0, LLAMA3, prompt=40),
    "llama_3": spec(60, 5, 1, 16, 100, 131, False, scaling=LINEAR, prompt=24, rms_norm_eps=1e-6),
    "llama_4": spec(72, 9, 3, 8, 80, 144, True, "float16", scaling=YARN, layers=3, old_spelling=True),
    "llama_5": spec(48, 2, 1, 32, 64, 200, False, scaling=YARN_BETAS, prompt=36),
    "llama_6": spec(96, 6, 2, 16, 72, 250, False, "bfloat16", 100000.0, LLAMA3, old_spelling=True),
    "mistral_1": spec(48, 3, 1, 16, 96, 128, False, sliding_window=8),
    "mistral_2": spec(64, 8, 1, 8, 112, 160, True, "bfloat16", sliding_window=5, prompt=40),
    "mistral_3": spec(60, 5, 5, 16, 100, 131, False, sliding_window=17, layers=3, old_spelling=True),
    "mistral_4": spec(96, 4, 2, 32, 80, 200, False, "float16", 1000000.0, sliding_window=None, prompt=24),
    "qwen2_1": spec(48, 3, 1, None, 96, 128, True, theta=1000000.0),
    "qwen2_2": spec(56, 7, 7, None, 112, 151, False, "bfloat16", prompt=40),
    "qwen2_3": spec(64, 8, 1, None, 100, 160, False, use_sliding_window=True, sliding_window=8,
                    max_window_layers=1, layers=3),
    "qwen2_4": spec(96, 6, 2, None, 72, 200, True, "float16", layers=3, prompt=24, old_spelling=True),
    "qwen3_1": spec(48, 3, 1, 32, 96, 128, True, theta=1000000.0),
    "qwen3_2": spec(64, 8, 1, 16, 112, 160, False, "bfloat16", prompt=40),
    "qwen3_3": spec(60, 5, 5, 24, 100, 131, False, layers=3, old_spelling=True),
    "qwen3_4": spec(96, 4, 2, 16, 72, 200, True, "float16", prompt=24),
    "gemma2_1": spec(48, 3, 1, 16, 96, 128, True, sliding_window=8, query_pre_attn_scalar=16,
                     attn_logit_softcapping=5.0, final_logit_softcapping=4.0),
    "gemma2_2": spec(64, 8, 1, 16, 112, 160, True, "bfloat16", sliding_window=5, query_pre_attn_scalar=16,
                     layers=3, prompt=40),
    "gemma2_3": spec(60, 5, 5, 24, 100, 131, True, sliding_window=12, query_pre_attn_scalar=24,
                     attn_logit_softcapping=2.0, final_logit_softcapping=30.0, layers=4, old_spelling=True),
    "gemma2_4": spec(96, 4, 2, 32, 72, 200, True, "float16", sliding_window=100, query_pre_attn_scalar=32,
                     prompt=24),
    "gemma2_5": spec(64, 4, 4, 8, 96, 150, True, sliding_window=8, query_pre_attn_scalar=20, layers=3),
}


def prompt_tokens(name, vocab, count):
    return tiny.np.random.RandomState(len(name) * 1000 + ord(name[-1])).randint(3, vocab, count).tolist()


def build_model(name):
    fields, dtype, _, _ = MODELS[name]
    fields = {k: v for k, v in fields.items() if not (k == "head_dim" and v is None)}
    config = transformers.AutoConfig.for_model(name.split("_")[0], **fields)
    model = transformers.AutoModelForCausalLM.from_config(config, dtype=getattr(torch, dtype))
    storage = {"float32": "F32", "float16": "F16", "bfloat16": "BF16"}[dtype]
    state = {}
    for tensor, values in model.state_dict().items():
        filled = tiny.tensor_values(name, tensor, list(values.shape), storage, config.model_type == "gemma2")
        state[tensor] = torch.from_numpy(filled).to(values.dtype)
    if config.tie_word_embeddings:
        state["lm_head.weight"] = state["model.embed_tokens.weight"]
    model.load_state_dict(state)
    return model


def spell_as_transformers_4(path):
    """Rewrites config.json to the keys that checkpoints from before transformers 5 carry."""
    config = json.loads(path.read_text())
    rope = config.pop("rope_parameters")
    config["rope_theta"] = rope.pop("rope_theta")
    config["rope_scaling"] = rope if rope["rope_type"] != "default" else None
    config["torch_dtype"] = config.pop("dtype")
    config.pop("layer_types", None)
    path.write_text(json.dumps(config, indent=2) + "\n")


def write_with_packages(name, folder):
    """Transformers writes the folder, the gguf package the GGUF; returns the description for golden/tiny."""
    hf = folder / "hf"
    build_model(name).save_pretrained(hf)
    if MODELS[name][3]:
        spell_as_transformers_4(hf / "config.json")
    with safetensors.safe_open(hf / "model.safetensors", "np") as file:
        slices = {key: file.get_slice(key) for key in file.keys()}
        # In file order, which safetensors does not promise to be the names' order.
        tensors = {key: [s.get_dtype(), s.get_shape()] for key, s in slices.items()}
    config = json.loads((hf / "config.json").read_text())
    description = dict(config=config, tensors=tensors)
    if tiny.has_gguf(config):
        writer = gguf.GGUFWriter(folder / "model.gguf", tiny.gguf_metadata(config)[0][2])
        add = dict(u32=writer.add_uint32, f32=writer.add_float32, str=writer.add_string, bool=writer.add_bool)
        for key, kind, value in tiny.gguf_metadata(config)[1:]:
            add[kind](key, value)
        for key, dtype, values in tiny.gguf_tensors(config, tiny.model_tensors(name, description)):
            kind = getattr(gguf.GGMLQuantizationType, dtype)
            stored = tiny.to_storage(values, dtype)
            writer.add_tensor(key, stored.view(np.uint8) if dtype == "BF16" else stored, raw_dtype=kind)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
    return description


def load_judge(folder, gguf_file=None):
    # The configuration is given beside a GGUF because transformers reads neither rope scaling, nor windows, nor
    # soft caps from one; the weights, which the test is about, come from the GGUF.
    config = transformers.AutoConfig.from_pretrained(folder / "hf", attn_implementation="eager")
    source = folder if gguf_file else folder / "hf"
    stored_as = config
    if gguf_file and config.model_type == "mistral":
        # GGUF stores Mistral as `llama`, and transformers 5.23 cannot map `mistral` back: load a Llama, move its weights.
        stored_as = transformers.LlamaConfig(**{k: v for k, v in config.to_dict().items() if k != "model_type"})
    load = dict(dtype=torch.float32, attn_implementation="eager")
    model = transformers.AutoModelForCausalLM.from_pretrained(source, gguf_file=gguf_file, config=stored_as, **load)
    if stored_as is not config:
        weights = model.state_dict()
        model = transformers.AutoModelForCausalLM.from_config(config, **load)
        model.load_state_dict(weights)
    return model.eval()


@torch.no_grad()
def judge(model, prompt):
    """Greedy tokens by full recomputation (no cache to trust), and the logits of every position but the last's."""
    tokens = list(prompt)
    for _ in range(GREEDY_TOKENS):
        logits = model(torch.tensor([tokens]), use_cache=False).logits[0]
        tokens.append(int(logits[-1].argmax()))
    return tokens[len(prompt):], logits.numpy()


def compare_writers(name, folder, description):
    """What tiny_checkpoints.py writes must be, tensor for tensor and key for key, what the packages wrote."""
    again = folder / "again"
    (tiny.GOLDEN / f"{name}.json").exists() or save_description(name, description)
    tiny.write_checkpoint(name, again)
    with safetensors.safe_open(folder / "hf/model.safetensors", "pt") as ours, \
            safetensors.safe_open(again / "hf/model.safetensors", "pt") as theirs:
        assert set(ours.keys()) == set(theirs.keys()), name
        for key in ours.keys():
            assert torch.equal(ours.get_tensor(key), theirs.get_tensor(key)), (name, key)
    if (folder / "model.gguf").exists():
        ours, theirs = (gguf.GGUFReader(path / "model.gguf") for path in (folder, again))
        for a, b in zip(ours.tensors, theirs.tensors, strict=True):
            assert a.name == b.name and a.tensor_type == b.tensor_type and np.array_equal(a.data, b.data), (name, a.name)
        keys = {key for key in ours.fields if not key.startswith("GGUF.")}
        assert keys == {key for key in theirs.fields if not key.startswith("GGUF.")}, name
        for key in keys:
            assert ours.fields[key].contents() == theirs.fields[key].contents(), (name, key)
    shutil.rmtree(again)


def save_description(name, description):
    text = json.dumps(description["config"], indent=1)
    rows = ",\n  ".join(f"{json.dumps(k)}: {json.dumps(v)}" for k, v in description["tensors"].items())
    (tiny.GOLDEN / f"{name}.json").write_text(f'{{\n "config": {text},\n "tensors": {{\n  {rows}\n }}\n}}\n')


def golden_positions(prompt_length, total):
    """A handful of positions: both ends and the middle of the prompt, and of the decoded part."""
    chosen = {0, 1, 7, prompt_length // 2, prompt_length - 2, prompt_length - 1, prompt_length, total - 2, total - 1}
    return sorted(chosen)


def make(name, folder, check):
    fields, _, prompt_length, _ = MODELS[name]
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    description = write_with_packages(name, folder)
    if not check:
        save_description(name, description)
    compare_writers(name, folder, description)
    prompt = prompt_tokens(name, fields["vocab_size"], prompt_length)
    output, logits = judge(load_judge(folder), prompt)
    assert np.isfinite(logits).all()
    drift = 0.0
    if (folder / "model.gguf").exists():
        output_gguf, logits_gguf = judge(load_judge(folder, "model.gguf"), prompt)
        drift = float(np.abs(logits - logits_gguf).max() / np.abs(logits).max())
        # Only Gemma's norms (stored plus one) may round differently.
        assert output == output_gguf and drift < 1e-5, (name, drift)
    np.savez(folder / "expected.npz", prompt=prompt, output=output, logits=logits)
    positions = golden_positions(len(prompt), len(logits))
    golden = tiny.GOLDEN / f"{name}.npz"
    top = np.sort(logits[len(prompt) - 1:], axis=1)
    margin = float((top[:, -1] - top[:, -2]).min())
    if check:
        saved = np.load(golden)
        assert saved["output"].tolist() == output, name
        assert np.abs(saved["logits"] - logits[positions]).max() <= 1e-5 * np.abs(logits).max(), name
    else:
        np.savez(golden, prompt=np.array(prompt, np.int32), output=np.array(output, np.int32),
                 positions=np.array(positions, np.int32), logits=logits[positions], largest=np.abs(logits).max())
    print(f"{name}: {sum(np.prod(s) for _, s in description['tensors'].values())} weights, "
          f"largest logit {np.abs(logits).max():.3f}, least greedy margin {margin:.4f}, gguf drift {drift:.1e}")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keep", type=pathlib.Path)
    parser.add_argument("--check", action="store_true")
    parser.add_argument("names", nargs="*")
    options = parser.parse_args()
    torch.set_num_threads(1)  # models this small only lose by sharing cores
    transformers.logging.set_verbosity_error()
    transformers.logging.disable_progress_bar()
    with tempfile.TemporaryDirectory() as scratch:
        for name in options.names or MODELS:
            make(name, (options.keep or pathlib.Path(scratch)) / name, options.check)


if __name__ == "__main__":
    main()
