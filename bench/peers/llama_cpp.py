# SPDX-License-Identifier: Apache-2.0
"""girih beside llama.cpp: prefill, decode and eight sequences, interleaved in one run, with the roofline.

The two take turns (A B A B ...), so that whatever else the machine does hits both. Figures are medians over the
rounds with the least and the most; each is followed by its share of the roof measured in the same run.

    llama_cpp.py GGUF [--program FILE] [--rounds 5] [--threads N] [--output table.md]
                 [--prompt-tokens 512] [--generate 128] [--sequences 8]
"""
import argparse
import json
import os
import pathlib
import statistics
import struct
import subprocess
import sys

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
BUILD = pathlib.Path(os.environ.get("GIRIH_BUILD", REPOSITORY / "build"))


def run(*command):
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    if done.returncode != 0:
        sys.exit(f"`{' '.join(map(str, command))}` exited with {done.returncode}: {done.stderr.strip()[-1500:]}")
    return done.stdout


def matmul_weights(path):
    """(weights of the layers' matrices, weights of the head) from the GGUF's tensor table."""
    with open(path, "rb") as file:
        blob = file.read(32 << 20)
    sizes = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}

    def text(at):
        (length,) = struct.unpack_from("<Q", blob, at)
        return blob[at + 8:at + 8 + length].decode(), at + 8 + length

    def skip(at, kind):
        if kind == 8:
            return text(at)[1]
        if kind != 9:
            return at + sizes[kind]
        item, count = struct.unpack_from("<IQ", blob, at)
        at += 12
        if item in sizes:
            return at + count * sizes[item]
        for _ in range(count):
            at = skip(at, item)
        return at

    tensors, pairs = struct.unpack_from("<QQ", blob, 8)
    at = 24
    for _ in range(pairs):
        _, at = text(at)
        (kind,) = struct.unpack_from("<I", blob, at)
        at = skip(at + 4, kind)
    counts = {}
    for _ in range(tensors):
        name, at = text(at)
        (rank,) = struct.unpack_from("<I", blob, at)
        extents = struct.unpack_from(f"<{rank}Q", blob, at + 4)
        at += 4 + 8 * rank + 12
        if rank == 2:
            counts[name] = extents[0] * extents[1]
    layers = sum(count for name, count in counts.items() if name.startswith("blk."))
    return layers, counts.get("output.weight", counts["token_embd.weight"])


class Girih:
    name = "girih"

    def __init__(self, options):
        self.options = options

    def bench(self, *arguments):
        return json.loads(run(BUILD / "bin/girih", "bench", self.options.program, "--format", "json", "--repetitions", 1,
                              "--threads", self.options.threads, *arguments))

    def sample(self):
        o = self.options
        one = self.bench("--prompt-tokens", o.prompt_tokens, "--generate", o.generate)
        many = self.bench("--prompt-tokens", 32, "--generate", o.generate, "--sequences", o.sequences)
        return {"prefill": one["prefill_tokens_per_second"], "decode": one["decode_tokens_per_second"],
                "together": many["decode_tokens_per_second"]}


class LlamaCpp:
    name = "llama.cpp"

    def __init__(self, options, tree):
        self.options, self.bin = options, pathlib.Path(tree) / "build" / "bin"

    def sample(self):
        o = self.options
        rows = json.loads(run(self.bin / "llama-bench", "-m", o.gguf, "-p", o.prompt_tokens, "-n", o.generate, "-r", 1,
                              "-t", o.threads, "-o", "json"))
        speeds = {("prefill" if row["n_prompt"] else "decode"): row["avg_ts"] for row in rows}
        lines = run(self.bin / "llama-batched-bench", "-m", o.gguf, "-npp", 32, "-ntg", o.generate, "-npl", o.sequences,
                    "-c", o.sequences * (o.generate + 64), "-t", o.threads, "--output-format", "jsonl").splitlines()
        row = next(json.loads(line) for line in lines if line.startswith("{"))
        return speeds | {"together": row["speed_tg"]}


def spread(values):
    return f"{statistics.median(values):.1f} ({min(values):.1f} to {max(values):.1f})"


def table(options, samples, roof, git):
    layers, head = matmul_weights(options.gguf)
    file_bytes = os.path.getsize(options.gguf)
    # Decode reads every stored byte a token; prefill multiplies each layer's weights once a token.
    roofs = {"prefill": roof["f32_gigaflops_per_second"] * 1e9 / (2 * layers),
             "decode": roof["read_gigabytes_per_second"] * 1e9 / file_bytes}
    roofs["together"] = min(options.sequences * roofs["decode"],
                            roof["f32_gigaflops_per_second"] * 1e9 / (2 * (layers + head)))
    titles = {"prefill": f"prefill of {options.prompt_tokens}", "decode": f"decode of {options.generate}",
              "together": f"{options.sequences} sequences, decode"}
    yield (f"{cpu_name()}, {options.threads} threads; girih {git}, llama.cpp of "
           f"llama-cpp-python 0.3.36 (clang 22); {options.rounds} interleaved rounds, medians (least to most), tokens/s.")
    yield (f"Roofs measured in the run: {roof['read_gigabytes_per_second']:.1f} GB/s reading {file_bytes / 1e6:.0f} MB, "
           f"{roof['f32_gigaflops_per_second']:.0f} GFLOP/s of f32 multiply-adds (llama.cpp may use int8 and AMX units, "
           "whose roof is higher).")
    yield ""
    yield "| | girih | llama.cpp | ratio | f32 roofline | girih of it |"
    yield "|---|---|---|---|---|---|"
    for key, title in titles.items():
        ours, theirs = ([sample[key] for sample in samples[name]] for name in ("girih", "llama.cpp"))
        ratio = statistics.median(ours) / statistics.median(theirs)
        yield (f"| {title} | {spread(ours)} | {spread(theirs)} | {ratio:.2f}x | {roofs[key]:.0f} | "
               f"{100 * statistics.median(ours) / roofs[key]:.0f} % |")
    gain = {name: statistics.median(s["together"] for s in samples[name]) / statistics.median(s["decode"] for s in samples[name])
            for name in samples}
    yield ""
    yield (f"{options.sequences} sequences together give {gain['girih']:.2f}x the tokens of one with girih, "
           f"{gain['llama.cpp']:.2f}x with llama.cpp.")


def cpu_name():
    for line in open("/proc/cpuinfo"):
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return "unknown processor"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("gguf")
    parser.add_argument("--program")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--prompt-tokens", type=int, default=512)
    parser.add_argument("--generate", type=int, default=128)
    parser.add_argument("--sequences", type=int, default=8)
    parser.add_argument("--output", type=pathlib.Path)
    parser.add_argument("--peers", default="", help="folder for the peer's build (default: the cache)")
    options = parser.parse_args()
    options.program = options.program or options.gguf

    tree = run(REPOSITORY / "bench/peers/build_llama_cpp", *([options.peers] if options.peers else [])).strip().split("\n")[-1]
    run("ninja", "-C", BUILD, "roofline_bench")
    contestants = [Girih(options), LlamaCpp(options, tree)]
    samples = {contestant.name: [] for contestant in contestants}
    roofs = []
    for round_number in range(options.rounds):
        for contestant in contestants:
            samples[contestant.name].append(contestant.sample())
            print(f"round {round_number + 1}: {contestant.name} {samples[contestant.name][-1]}", file=sys.stderr, flush=True)
        roofs.append(json.loads(run(BUILD / "bin/roofline_bench", "--format", "json", "--threads", options.threads,
                                    "--bytes", os.path.getsize(options.gguf))))
    best = {key: max(roof[key] for roof in roofs) for key in ("read_gigabytes_per_second", "f32_gigaflops_per_second")}
    git = run("git", "-C", REPOSITORY, "rev-parse", "--short", "HEAD").strip()
    text = "\n".join(table(options, samples, best, git)) + "\n"
    print(text)
    if options.output:
        options.output.write_text(text)


if __name__ == "__main__":
    main()
