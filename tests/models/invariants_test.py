# SPDX-License-Identifier: Apache-2.0
"""`exact` and `invariant` mean the same bits: whatever the split into prefill and decode, the threads, the ISA, the company.

Compares dumped logits bit for bit: prefill(n) = prefill(k) then n - k decodes; 1 thread = 2 threads; AVX2 = AVX-512;
any chunking of the prompt. And token for token: eight sequences that share steps = each alone.
"""
import pathlib
import sys
import tempfile

import numpy as np

import engine
import girih_cli
import tiny_checkpoints as tiny

DECODED, COMPANY_TOKENS = 12, 10


def same_bits(a, b):
    return a.shape == b.shape and np.array_equal(a.view(np.uint32), b.view(np.uint32))


def check_cuts(name, program, prompt, folder, report):
    """`prompt` must be long enough to be cut in three. Returns the logits of it and of what follows."""
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
    return logits


def check_program(name, program, prompt, folder, report):
    logits = check_cuts(name, program, prompt, folder, report)
    isas = girih_cli.granted_isas(program)
    wanted = ["avx2", "avx512"] if "avx512vnni" in pathlib.Path("/proc/cpuinfo").read_text().replace("_", "") else ["avx2"]
    report(f"{name}: variants that run here: {isas}", isas == wanted)
    variants = [dict(threads=1), dict(threads=2)] + [dict(isa=isa) for isa in isas]
    for variant in variants:
        _, again = girih_cli.run_tokens(program, prompt, DECODED, folder, **variant)
        report(f"{name}: {variant}", same_bits(again, logits))


def check_company(name, programs, prompts, report):
    """Eight sequences that share steps against each alone, token for token; sampled, so that a token depends on all logits."""
    with engine.Engine(programs[0]) as alone:
        expected = [alone.generate([prompt], COMPANY_TOKENS)[0] for prompt in prompts]
    for program in programs:
        for threads in (1, 2):
            with engine.Engine(program, threads) as shared:
                got = shared.generate(prompts, COMPANY_TOKENS)
                steps = shared.num_shared_steps()
                cached = shared.generate(prompts, COMPANY_TOKENS)
            report(f"{name}: {len(prompts)} sequences in {steps} shared steps of {program.name}, {threads} threads = each alone",
                   got == expected and steps > 0)
            report(f"{name}: the same again, from the KV that the first time left", cached == expected)


def check_model(name, checkpoint, prompt, folder, report, chunked, numerics="exact"):
    programs = [girih_cli.compile_model(checkpoint, folder / f"{name}.girih", numerics)]
    check_program(name, programs[0], prompt, folder, report)
    if chunked:
        # The same model with few tokens a step: a prompt is cut, in company wherever the others leave room.
        programs.append(girih_cli.compile_model(checkpoint, folder / f"{name}_of_16.girih", numerics, target="cpu:native",
                                                 max_tokens_per_step=16))
        whole, cut = (girih_cli.run_tokens(program, prompt, DECODED, folder)[1] for program in programs)
        report(f"{name}: prefill of {len(prompt)} = in chunks of 16", same_bits(cut, whole))
    # Eight lengths, from one token to the whole prompt.
    check_company(name, programs, [prompt[i:i + 1 + (len(prompt) - 1) * i // 7] for i in range(8)], report)


def main():
    report = girih_cli.Reporter()
    with tempfile.TemporaryDirectory() as scratch:
        folder = pathlib.Path(scratch)
        for name in ("llama_4", "mistral_3", "qwen3_3", "gemma2_4"):
            tiny.write_checkpoint(name, folder / name)
            prompt = np.load(tiny.GOLDEN / f"{name}.npz")["prompt"].tolist()
            check_model(name, folder / name / "hf", prompt, folder, report, chunked=name == "llama_4")
        model = girih_cli.default_model()
        if model is None:
            print("     the default model is not here (GIRIH_SMOLLM2_GGUF): its part is skipped")
        else:
            prompt = np.load(tiny.GOLDEN.parent / "smollm2.npz")["17_prompt"].tolist()
            check_model("smollm2", model, prompt, folder, report, chunked=True)
            check_model("smollm2_invariant", model, prompt, folder, report, chunked=False, numerics="invariant")
    print(f"{len(report.failed)} invariants broken")
    return 1 if report.failed else 0


if __name__ == "__main__":
    sys.exit(main())
