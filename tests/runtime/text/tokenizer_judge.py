#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Compares the tokenizer's ids with those of the `tokenizers` package on lines of hostile_lines.py.

  tokenizer_judge.py golden           the default model against the committed golden (no package needed)
  tokenizer_judge.py live             the default model, and every known expression, against the package
  tokenizer_judge.py live FOLDER      every ggml-vocab-*.gguf of FOLDER against the package
  tokenizer_judge.py write            writes the golden from the package's answers
Environment: GIRIH_BUILD, GIRIH_SMOLLM2_GGUF (the default model; absent: skipped).
"""
import hashlib
import os
import pathlib
import struct
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import hostile_lines

GOLDEN = pathlib.Path(__file__).parent / "golden" / "smollm2_ids.txt"
COUNT = 12000
SHOWN = 300  # lines of the golden that are kept whole, so that a difference can be read


def run_tool(file, texts, *options):
    tool = pathlib.Path(os.environ["GIRIH_BUILD"]) / "bin" / "tokenize_records"
    records = b"".join(struct.pack("<I", len(text)) + text for text in texts)
    out = subprocess.run([tool, file, *options], input=records, capture_output=True)
    if out.returncode:
        sys.exit(f"tokenize_records {file}: {out.stderr.decode()}")
    return out.stdout.decode()


def own_ids(file, texts, *options):
    return [[int(i) for i in line.split()] for line in run_tool(file, texts, *options).splitlines()]


def decoded_bytes(file, texts, *options):
    """What the ids of the texts decode to."""
    return [bytes.fromhex(line) for line in run_tool(file, texts, "--back", *options).split("\n")[:-1]]


def comes_back(file, texts):
    """How many texts lose bytes, of those whose bytes all have tokens (SmolLM2 has none for 15, such as F1)."""
    rare = [bytes([b]) for b in range(256)]
    rare = [byte for byte, back in zip(rare, decoded_bytes(file, rare, "--keep")) if back != byte]
    texts = [text for text in texts if not any(byte in text for byte in rare)]
    different = [text for text, back in zip(texts, decoded_bytes(file, texts, "--keep")) if back != text]
    print(f"{len(texts)} lines whose bytes have tokens, {len(different)} do not come back {different[:3]}")
    return len(different)


def gguf_text(file):
    import gguf
    fields = gguf.GGUFReader(file).fields
    return {key.removeprefix("tokenizer.ggml."): field.contents() for key, field in fields.items()
            if key.startswith("tokenizer.ggml.")}


def alphabet():
    """GPT-2's map of bytes to characters."""
    same = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    shifted = [b for b in range(256) if b not in same]
    return {chr(b) for b in same} | {chr(0x100 + i) for i in range(len(shifted))}


LLAMA3 = (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
          r"|\s*[\r\n]+|\s+(?!\S)|\s+")


CASED = (r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+CONTRACTION"
         r"|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*CONTRACTION"
         r"|\p{N}DIGITS| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+")
PATTERNS = {
    "llama3": LLAMA3,
    "qwen2": LLAMA3.replace("{1,3}", ""),
    "qwen3.5": (r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?[\p{L}\p{M}]+|\p{N}| ?[^\s\p{L}\p{M}\p{N}]+[\r\n]*"
                r"|\s*[\r\n]+|\s+(?!\S)|\s+"),
    "gpt-4o": CASED.replace("CONTRACTION", "(?i:'s|'t|'re|'ve|'m|'ll|'d)?").replace("DIGITS", "{1,3}"),
    "tekken": CASED.replace("CONTRACTION", "").replace("DIGITS", ""),
    "gpt-2": r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",
}


def split(pattern):
    from tokenizers import Regex, pre_tokenizers
    return pre_tokenizers.Split(Regex(pattern), "isolated")


def cased_letters():
    """The class of DeepSeek LLM's pattern, from the ranges that the engine uses."""
    import re
    source = pathlib.Path(__file__).parents[3] / "runtime" / "text" / "cased_letters.inc"
    pairs = re.findall(r"\{0x([0-9a-f]+),0x([0-9a-f]+)\}", source.read_text())
    return "".join(f"{chr(int(a, 16))}-{chr(int(b, 16))}" for a, b in pairs)


def pre_tokenizer(name):
    """What the models' own tokenizer.json files hold under `pre_tokenizer`."""
    from tokenizers import pre_tokenizers as p
    bytes_only = p.ByteLevel(add_prefix_space=False, use_regex=False)
    gpt2 = p.ByteLevel(add_prefix_space=False, use_regex=True)
    steps = {
        "gpt-2": [gpt2], "mpt": [gpt2], "default": [gpt2],
        "smollm": [p.Digits(individual_digits=True), gpt2],
        "llama-bpe": [split(LLAMA3), bytes_only],
        "qwen2": [split(LLAMA3.replace("{1,3}", "")), bytes_only],
        "deepseek-coder": [split("[\r\n]"), split(r"\s?\p{L}+"), split(r"\s?\p{P}+"),
                           split("[一-龥ࠀ-一가-\ud7ff]+"), p.Digits(individual_digits=True), bytes_only],
        "deepseek-llm": [split("[\r\n]"), split(rf"\s?[{cased_letters()}]+"),
                         split("\\s?[!-/:-~！-／：-～‘-‟　-。]+"), split(r"\s+$"), split("[一-龥ࠀ-一가-\ud7ff]+"),
                         p.Digits(individual_digits=True), bytes_only],
        "falcon": [p.Punctuation("contiguous"), gpt2, p.Digits(individual_digits=False), split("[0-9][0-9][0-9]")],
    }
    steps["starcoder"] = steps["refact"] = steps["command-r"] = steps["smollm"]
    return p.Sequence(steps[name]) if name in steps else None


def derived_merges(vocabulary, scores):
    """transformers' generate_merges."""
    merges = []
    for token, score in scores.items():
        local = [(token[:i], token[i:], score) for i in range(1, len(token))
                 if token[:i] in vocabulary and token[i:] in vocabulary]
        merges.extend(sorted(local, key=lambda m: (vocabulary[m[0]], vocabulary[m[1]])))
    merges.sort(key=lambda m: (m[2], len(m[0]), len(m[1])), reverse=True)
    return [(left, right) for left, right, _ in merges]


def judge(text):
    """The package's tokenizer for a GGUF vocabulary; None where the package has no such pipeline here."""
    from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers
    tokens, types = text["tokens"], text["token_type"]
    vocabulary = {token: i for i, token in enumerate(tokens)}
    if text["model"] == "gpt2":
        steps = pre_tokenizer(text.get("pre", "default"))
        if steps is None:
            return None
        letters = alphabet()
        model = {t: i for t, i in vocabulary.items() if types[i] not in (3, 4) and set(t) <= letters}
        model |= {t: i for t, i in vocabulary.items() if t not in model}  # so that added tokens keep their ids
        merges = [tuple(merge.split(" ")) for merge in text["merges"]]
        tokenizer = Tokenizer(models.BPE(model, merges, ignore_merges=text.get("pre") == "llama-bpe"))
        tokenizer.pre_tokenizer = steps
        if text.get("pre") in ("qwen2", "command-r"):
            tokenizer.normalizer = normalizers.NFC()
    elif text["model"] == "llama":
        keep = {t: i for t, i in vocabulary.items() if types[i] != 3 and not (types[i] == 2)}
        scores = {t: text["scores"][i] for t, i in keep.items() if types[i] != 6}
        tokenizer = Tokenizer(models.BPE(vocabulary, derived_merges(keep, scores), unk_token="<unk>", fuse_unk=True,
                                         byte_fallback=True))
        tokenizer.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    elif text["model"] == "bert":
        spelled = {(t[1:] if t.startswith("▁") else t if types[i] == 3 else "##" + t): i for t, i in vocabulary.items()}
        tokenizer = Tokenizer(models.WordPiece(spelled, unk_token="[UNK]"))
        tokenizer.normalizer = normalizers.BertNormalizer()
        tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    else:
        return None
    unknown = text.get("unknown_token_id", -1) if text["model"] == "llama" else -1
    tokenizer.add_special_tokens([AddedToken(t, normalized=False, special=True) for i, t in enumerate(tokens)
                                  if types[i] == 3 or i == unknown])
    tokenizer.add_tokens([AddedToken(t, normalized=False, special=False) for i, t in enumerate(tokens) if types[i] == 4])
    return tokenizer


def judged_ids(tokenizer, texts):
    decoded = [text.decode("utf-8", "replace") for text in texts]
    return [e.ids for e in tokenizer.encode_batch(decoded, add_special_tokens=False)]


def digest(ids):
    return hashlib.sha256("\n".join(" ".join(map(str, line)) for line in ids).encode()).hexdigest()


def compare(name, texts, own, expected):
    different = [i for i in range(len(texts)) if own[i] != expected[i]]
    print(f"{name}: {len(texts)} lines, {sum(map(len, expected))} ids, {len(different)} lines differ")
    for i in different[:5]:
        print(f"  {texts[i]!r}\n    own      {own[i]}\n    expected {expected[i]}")
    return len(different)


def golden(file, texts):
    head, *shown = GOLDEN.read_text().splitlines()
    own = own_ids(file, texts)
    failed = compare("golden, shown lines", texts[:SHOWN], own[:SHOWN], [[int(i) for i in line.split()] for line in shown])
    same = digest(own) == head.split()[-1]
    print(f"golden, all {len(texts)} lines: {'the same ids' if same else 'ids differ; find where with `live`'}")
    return failed + (not same) + comes_back(file, texts)


def live(files, texts):
    failed = 0
    for file in files:
        tokenizer = judge(gguf_text(file))
        if tokenizer is None:
            print(f"{pathlib.Path(file).name}: no judge for this pipeline")
            continue
        failed += compare(pathlib.Path(file).name, texts, own_ids(file, texts), judged_ids(tokenizer, texts))
    return failed


def live_patterns(file, texts):
    """Each expression in front of one vocabulary: through tokenizer.json, which the own engine must not refuse."""
    import tempfile
    from tokenizers import pre_tokenizers
    failed = 0
    for name, pattern in PATTERNS.items():
        tokenizer = judge(gguf_text(file))
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
            [split(pattern), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)])
        with tempfile.TemporaryDirectory() as folder:
            path = str(pathlib.Path(folder) / "tokenizer.json")
            tokenizer.save(path)
            failed += compare("expression " + name, texts, own_ids(path, texts), judged_ids(tokenizer, texts))
            if "byte-level" not in run_tool(path, texts[:1], "--time"):
                print(f"expression {name}: not run by the own engine")
                failed += 1
    return failed


def main(mode, *folder):
    model = os.environ.get("GIRIH_SMOLLM2_GGUF", "")
    if not folder and not os.path.exists(model):
        print("skipped: GIRIH_SMOLLM2_GGUF does not name the default model's file")
        return 77
    texts = hostile_lines.lines(COUNT)
    if mode == "golden":
        return 1 if golden(model, texts) else 0
    if mode == "live":
        files = sorted(map(str, pathlib.Path(folder[0]).glob("ggml-vocab-*.gguf"))) if folder else [model]
        failed = live(files, texts) + (0 if folder else live_patterns(model, texts))
        return 1 if failed else 0
    ids = judged_ids(judge(gguf_text(model)), texts)
    rows = [" ".join(map(str, line)) for line in ids[:SHOWN]]
    head = f"# {COUNT} lines of hostile_lines.py by the tokenizers package; sha256 of all ids {digest(ids)}"
    GOLDEN.write_text("\n".join([head, *rows]) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
