# SPDX-License-Identifier: Apache-2.0
"""/v1/embeddings against each model's own logits: a head is a matrix, so the hidden states can be solved for.

embeddings_test.py            tiny models of every family: transformers judges their logits (families_test.py), numpy these
embeddings_test.py --judge    the default model against transformers' own hidden states
"""
import base64
import contextlib
import json
import pathlib
import re
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request

import numpy as np

import girih_cli
import tiny_checkpoints as tiny

# Of a vector of length 1. Least squares over f32 logits of a few dozen unknowns; measured below 1e-7.
TINY_BOUND = 1e-6
# exact: f32 on both sides, 30 layers; measured 9e-7. fast: 8-bit activations against f32; the cosine is what clients compare.
JUDGE_BOUND = 1e-5
FAST_COSINE = 0.999
PROMPTS = [[5], [1, 2, 3, 4, 5, 6, 7, 8, 9], [(7 * i + 3) % 100 for i in range(60)], [11, 11, 11], [99, 0]]
TEXTS = ["Hello!", "The cat sat on the mat.", "Der Hund schläft unter dem Tisch.", "def add(a, b):\n    return a + b\n",
         "Paris is the capital of France. " * 40]


@contextlib.contextmanager
def served(program, *flags):
    """ask(body) -> the answer of /v1/embeddings."""
    command = [str(girih_cli.GIRIH), "serve", str(program), "--port", "0", "--state-dir", "none", "--cache-dir", "none", *flags]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as process:
        try:
            url, seen = None, ""
            while not url:
                line = process.stdout.readline()
                if not line:
                    raise girih_cli.Failure(f"`{' '.join(command)}` ended: {seen}")
                seen += line
                url = re.search(r"listening on (http://[^\s,]+)", seen)

            def ask(body):
                request = urllib.request.Request(url[1] + "/v1/embeddings", json.dumps(body).encode(), {"Content-Type": "application/json"})
                try:
                    with urllib.request.urlopen(request, timeout=300) as answer:
                        return json.loads(answer.read())
                except urllib.error.HTTPError as error:
                    return json.loads(error.read())

            yield ask
        finally:
            process.kill()


def vectors_of(ask, inputs, **fields):
    answer = ask({"input": inputs, "encoding_format": "base64", **fields})
    if "data" not in answer:
        raise girih_cli.Failure(str(answer))
    return np.array([np.frombuffer(base64.b64decode(row["embedding"]), "<f4") for row in answer["data"]])


def normalised_mean(hidden):
    mean = np.asarray(hidden, np.float64).mean(axis=0)
    return mean / np.linalg.norm(mean)


def solved_hidden(name, logits):
    """[T, E]: what the head of the checkpoint was given, from what it gave."""
    description = tiny.load_description(name)
    tensors = tiny.model_tensors(name, description)
    stored = tensors.get("lm_head.weight", tensors.get("model.embed_tokens.weight"))
    weight = tiny.from_storage(tiny.to_storage(stored[1], stored[0]), stored[0]).astype(np.float64)
    cap = description["config"].get("final_logit_softcapping")
    logits = np.asarray(logits, np.float64)
    if cap:
        logits = cap * np.arctanh(logits / cap)
    return np.linalg.lstsq(weight, logits.T, rcond=None)[0].T


def check_tiny(name, folder, report):
    tiny.write_checkpoint(name, folder / name)
    program = girih_cli.compile_model(folder / name / "hf", folder / "model.girih", no_golden=True, embeddings=True, quiet=True)
    expected = []
    for prompt in PROMPTS:
        _, logits = girih_cli.run_tokens(program, prompt, 1, folder)
        expected.append(normalised_mean(solved_hidden(name, logits[:len(prompt)])))
    with served(program) as ask:
        together = vectors_of(ask, PROMPTS)
        alone = np.concatenate([vectors_of(ask, [prompt]) for prompt in PROMPTS])
        refused = ask({"input": [[10 ** 6]]})
    difference = np.abs(together - np.array(expected)).max()
    report(f"{name}: the mean of its hidden states, to {difference:.1e}", difference < TINY_BOUND)
    report(f"{name}: the same bits alone as together", np.array_equal(together, alone))
    report(f"{name}: ids beyond the vocabulary are refused", refused.get("error", {}).get("param") == "input")


def check_left_out(folder, report):
    tiny.write_checkpoint("llama_1", folder / "without")
    program = girih_cli.compile_model(folder / "without" / "hf", folder / "without.girih", no_golden=True, quiet=True)
    with served(program) as ask:
        message = ask({"input": [[1]]}).get("error", {}).get("message", "")
    report("a program without them says so", "with --embeddings" in message)


def judge(path, report):
    import torch
    import transformers

    import default_model_judge

    transformers.logging.set_verbosity_error()
    model = default_model_judge.load_model(path)
    with tempfile.TemporaryDirectory() as scratch:
        folder = pathlib.Path(scratch)
        exact = girih_cli.compile_model(path, folder / "exact.girih", no_golden=True, embeddings=True, quiet=True)
        fast = girih_cli.compile_model(path, folder / "fast.girih", numerics="fast", no_golden=True, embeddings=True, quiet=True)
        inputs = [json.loads(girih_cli.girih("run", exact, "--prompt", text, "--no-template", "--max-tokens", 1, "--format",
                                             "json"))["prompt_tokens"] for text in TEXTS]
        with torch.no_grad():
            expected = np.array([normalised_mean(model(torch.tensor([tokens]), output_hidden_states=True).hidden_states[-1][0].numpy())
                                 for tokens in inputs])
        with served(exact) as ask:
            from_tokens, from_texts = vectors_of(ask, inputs), vectors_of(ask, TEXTS)
        difference = np.abs(from_tokens - expected).max()
        report(f"exact: transformers' vectors, to {difference:.1e}", difference < JUDGE_BOUND)
        report("a text is its tokens", np.array_equal(from_tokens, from_texts))
        for isa in [None, *girih_cli.granted_isas(fast)]:
            with served(fast, *(["--isa", isa] if isa else [])) as ask:
                cosines = (vectors_of(ask, TEXTS) * expected).sum(axis=1)
            report(f"fast {isa or 'best'}: cosines {np.round(cosines, 5)}", cosines.min() > FAST_COSINE)


def main(arguments):
    report = girih_cli.Reporter()
    if arguments == ["--judge"]:
        path = girih_cli.default_model()
        if path is None:
            print("skipped: GIRIH_SMOLLM2_GGUF names no file")
            return girih_cli.SKIPPED
        judge(path, report)
        return 1 if report.failed else 0
    with tempfile.TemporaryDirectory() as scratch:
        folder = pathlib.Path(scratch)
        # A head of its own, a tied one, a capped one; norms of each kind.
        for name in arguments or ["llama_1", "llama_2", "gemma2_2", "qwen2_3", "qwen3_1"]:
            check_tiny(name, folder, report)
        check_left_out(folder, report)
    return 1 if report.failed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
