# SPDX-License-Identifier: Apache-2.0
"""Quality of the default numerics: mean KL divergence to the f32 model and how often the top token is the same, for
girih and for llama.cpp, on the same tokens in the same run.

The text is Debian's constitution and manifesto (package doc-debian), pinned by checksum and never committed.

    kl_judge.py [GGUF] [--tokens 4096] [--window 512] [--program FILE] [--isa amx,avx512,avx2] [--no-llama-cpp]
"""
import argparse
import gzip
import hashlib
import os
import pathlib
import subprocess
import sys
import tempfile

import numpy as np

import default_model_judge
import girih_cli

TEXTS = ["/usr/share/doc/debian/debian-manifesto.gz", "/usr/share/doc/debian/constitution.txt.gz"]
TEXT_SHA256 = "be33beee1300a9204f5f3bef00a5b2e743ac8644c9a4cd6f9722096f8c4474b7"


def read_text():
    missing = [path for path in TEXTS if not pathlib.Path(path).exists()]
    if missing:
        sys.exit(f"{missing[0]} is not there; install Debian's package doc-debian")
    text = b"".join(gzip.open(path).read() for path in TEXTS)
    digest = hashlib.sha256(text).hexdigest()
    if digest != TEXT_SHA256:
        sys.exit(f"the text has sha256 {digest}; figures are only comparable for {TEXT_SHA256} (doc-debian 11.3+nmu1)")
    return text.decode()


def log_softmax(logits):
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))


class Tally:
    """Sums over positions of what is compared with the reference's distributions."""

    def __init__(self):
        self.divergences, self.same_top = [], 0

    def add(self, reference, logits):
        ours = log_softmax(logits)
        self.divergences += (np.exp(reference) * (reference - ours)).sum(axis=1).tolist()
        self.same_top += int((reference.argmax(axis=1) == ours.argmax(axis=1)).sum())

    def line(self, name):
        kl = np.array(self.divergences)
        return (f"{name:12} mean KL {kl.mean():.6f} (99th percentile {np.percentile(kl, 99):.4f}, worst {kl.max():.3f}), "
                f"same top token {100 * self.same_top / len(kl):.2f} % of {len(kl)}")


def llama_cpp_logits(path):
    """The peer's logits through its Python binding, over the libraries that bench/peers/build_llama_cpp makes."""
    tree = subprocess.run([girih_cli.REPOSITORY / "bench/peers/build_llama_cpp", *os.environ.get("GIRIH_PEERS", "").split()],
                          stdout=subprocess.PIPE, text=True, check=True).stdout.strip().split("\n")[-1]
    os.environ["LLAMA_CPP_LIB_PATH"] = f"{tree}/build/bin"
    sys.path.insert(0, tree)
    import llama_cpp

    model = llama_cpp.Llama(str(path), n_ctx=1024, n_batch=512, logits_all=True, verbose=False)

    def logits_of(tokens):
        model.reset()
        model.eval(tokens)
        return np.array(model.scores[:len(tokens)])

    return logits_of, llama_cpp.__version__


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("gguf", nargs="?", default=girih_cli.default_model())
    parser.add_argument("--tokens", type=int, default=4096)
    parser.add_argument("--window", type=int, default=512)
    parser.add_argument("--program", help="a compiled program; default: the GGUF compiled with default options")
    parser.add_argument("--isa", help="variants to hold girih to, by commas; default: the one that this machine takes")
    parser.add_argument("--no-llama-cpp", action="store_true")
    options = parser.parse_args()

    import gguf
    import torch

    tokenizer = default_model_judge.load_tokenizer(gguf.GGUFReader(options.gguf).fields)
    ids = tokenizer.encode(read_text()).ids[:options.tokens]
    if len(ids) < options.tokens:
        sys.exit(f"the text has {len(ids)} tokens; {options.tokens} were asked for")
    reference_model = default_model_judge.load_model(options.gguf)
    variants = {f"girih {isa}": {"isa": isa} for isa in options.isa.split(",")} if options.isa else {"girih": {}}
    tallies = {name: Tally() for name in variants}
    if not options.no_llama_cpp:
        peer, version = llama_cpp_logits(options.gguf)
        print(f"llama-cpp-python {version}")
        tallies["llama.cpp"] = Tally()
    with tempfile.TemporaryDirectory() as folder:
        program = options.program or girih_cli.compile_model(
            options.gguf, pathlib.Path(folder) / "model.girih", numerics="fast")
        for start in range(0, len(ids), options.window):
            window = ids[start:start + options.window]
            with torch.no_grad():
                reference = log_softmax(reference_model(torch.tensor([window]), use_cache=False).logits[0].numpy())
            for name, held in variants.items():
                tallies[name].add(reference, girih_cli.run_tokens(program, window, 1, folder, **held)[1][:len(window)])
            if not options.no_llama_cpp:
                tallies["llama.cpp"].add(reference, peer(window))
    for name, tally in tallies.items():
        print(tally.line(name))
    if options.no_llama_cpp:
        return 0
    theirs = tallies["llama.cpp"]
    worse = [name for name in variants if np.mean(tallies[name].divergences) > np.mean(theirs.divergences)
             or tallies[name].same_top < theirs.same_top]
    print(f"{', '.join(worse)}: worse than llama.cpp" if worse else f"{', '.join(variants)}: no worse than llama.cpp")
    return 1 if worse else 0


if __name__ == "__main__":
    sys.exit(main())
