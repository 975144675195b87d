# SPDX-License-Identifier: Apache-2.0
"""`exact` and `invariant` mean the same bits: whatever the split into prefill and decode, the threads, the ISA, the company.

Compares dumped logits bit for bit: prefill(n) = prefill(k) then n - k decodes; 1 thread = 2 threads; AVX2 = AVX-512;
eight sequences that share steps on the server = each alone.
"""
import concurrent.futures
import json
import pathlib
import re
import subprocess
import sys
import tempfile
import time
import urllib.request

import numpy as np

import girih_cli
import tiny_checkpoints as tiny

DECODED = 12


def same_bits(a, b):
    return a.shape == b.shape and np.array_equal(a.view(np.uint32), b.view(np.uint32))


def available_isas(program):
    """Those of the file's variants that this machine can run, found by asking for each."""
    found = []
    with tempfile.TemporaryDirectory() as folder:
        for isa in ("avx2", "avx512"):
            try:
                girih_cli.run_tokens(program, [1], 1, folder, isa=isa)
                found.append(isa)
            except girih_cli.Failure as failure:
                print(f"     variant {isa} is not run here: {str(failure)[-160:]}")
    return found


def check_program(name, program, prompt, folder, report):
    """`prompt` must be long enough to be cut in three."""
    output, logits = girih_cli.run_tokens(program, prompt, DECODED, folder)
    for cut in (1, 2, len(prompt) // 3, len(prompt) - 1):
        # No row may depend on what follows it.
        _, shorter = girih_cli.run_tokens(program, prompt[:cut], 1, folder)
        report(f"{name}: first {cut} of {len(prompt)} tokens alone", same_bits(shorter[:cut], logits[:cut]))
    whole = list(prompt) + output[:-1]
    _, prefilled = girih_cli.run_tokens(program, whole, 1, folder)
    rows = len(prompt) + len(output) - 1
    report(f"{name}: prefill of {len(whole)} = prefill of {len(prompt)} and {len(output) - 1} decodes",
           same_bits(prefilled[:rows], logits[:rows]))
    decoded, one_by_one = girih_cli.run_tokens(program, prompt[:1], DECODED, folder)
    _, at_once = girih_cli.run_tokens(program, list(prompt[:1]) + decoded[:-1], 1, folder)
    count = len(decoded)
    report(f"{name}: {count} single decodes = one prefill", same_bits(at_once[:count], one_by_one[:count]))
    isas = available_isas(program)
    wanted = ["avx2", "avx512"] if "avx512vnni" in pathlib.Path("/proc/cpuinfo").read_text().replace("_", "") else ["avx2"]
    report(f"{name}: variants that run here: {isas}", isas == wanted)
    variants = [dict(threads=1), dict(threads=2)] + [dict(isa=isa) for isa in isas]
    for variant in variants:
        _, again = girih_cli.run_tokens(program, prompt, DECODED, folder, **variant)
        report(f"{name}: {variant}", same_bits(again, logits))


def post(url, body):
    request = urllib.request.Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"})
    with urllib.request.urlopen(request, timeout=120) as answer:
        return json.load(answer)


def check_company(program, prompts, report):
    """Eight completions at once against each alone, through one server; token for token."""
    server = subprocess.Popen([girih_cli.GIRIH, "serve", program, "--port", "0"], stdout=subprocess.PIPE,
                              stderr=subprocess.STDOUT, text=True)
    try:
        seen, address, deadline = "", None, time.monotonic() + 60
        while address is None and time.monotonic() < deadline:
            line = server.stdout.readline()
            if not line:
                break
            seen += line
            address = re.search(r"http://[\d.]+:[1-9]\d*", seen)
        if address is None:
            report(f"the server printed its address (it printed: {seen[-300:]!r})", False)
            return
        url = address.group(0) + "/v1/completions"
        bodies = [dict(model="smollm2", prompt=p, max_tokens=24, temperature=0) for p in prompts]
        alone = [post(url, body)["choices"][0]["text"] for body in bodies]
        with concurrent.futures.ThreadPoolExecutor(len(bodies)) as pool:
            together = [answer["choices"][0]["text"] for answer in pool.map(lambda b: post(url, b), bodies)]
        report(f"{len(bodies)} sequences together = each alone", alone == together)
    finally:
        server.terminate()
        server.wait(30)


def main():
    failed = []

    def report(what, passed):
        print(f"{'ok  ' if passed else 'FAIL'} {what}", flush=True)
        if not passed:
            failed.append(what)

    with tempfile.TemporaryDirectory() as scratch:
        folder = pathlib.Path(scratch)
        for name in ("llama_4", "mistral_3", "qwen3_3", "gemma2_3"):
            tiny.write_checkpoint(name, folder / name)
            program = girih_cli.compile_model(folder / name / "hf", folder / f"{name}.girih")
            check_program(name, program, np.load(tiny.GOLDEN / f"{name}.npz")["prompt"].tolist(), folder, report)
        model = girih_cli.default_model()
        if model is None:
            print("     the default model is not here (GIRIH_SMOLLM2_GGUF): its part is skipped")
        else:
            prompt = np.load(tiny.GOLDEN.parent / "smollm2.npz")["17_prompt"].tolist()
            for numerics in ("exact", "invariant"):
                program = girih_cli.compile_model(model, folder / f"smollm2_{numerics}.girih", numerics)
                check_program(f"smollm2 {numerics}", program, prompt, folder, report)
                check_company(program, ["The capital of France is", "1 2 3 4", "Once upon a time", "def f(x):",
                                        "The sea", "A", "Water boils at", "In the year 1900"], report)
    print(f"{len(failed)} invariants broken")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
