# SPDX-License-Identifier: Apache-2.0
"""The results as one JSON object, and as the Markdown table of it."""
import os
import pathlib
import platform
import statistics
import time

import install
from install import REPOSITORY

# Which measured unit is the roof of arithmetic, by the instruction set that all are held to: the fastest it has.
UNITS = {"native": ["int8_amx", "int8_vnni", "int4_avx2", "f32"], "avx512": ["int8_vnni", "f32"], "avx2": ["int4_avx2", "f32_avx2"],
         "vulkan": ["f32_avx2", "f32"]}


def processor():
    lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
    names = {line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")}
    flags = next((line for line in lines if line.startswith("flags")), "").split()
    features = [flag for flag in ("avx2", "avx512f", "avx512_vnni", "avx512_fp16", "amx_int8", "amx_bf16") if flag in flags]
    return {"name": ", ".join(sorted(names)) or platform.processor(), "features": features}


def spread(samples):
    return {"median": statistics.median(samples), "least": min(samples), "most": max(samples), "samples": samples}


def roof_of(workload, taken, peaks, units, facts, threads):
    """(figure that the machine allows, what it is) or None"""
    if workload.roof == "memory" and workload.name in taken.rooflines:
        # Girih's own bench measured it beside each sample: the bytes of a step, read as its kernels read.
        rooflines = taken.rooflines[workload.name]
        reading = max(r["read_bytes_per_second"] for r in rooflines)
        step_bytes = rooflines[0]["decode_step_bytes"]
        tokens = workload.sequences * reading / step_bytes
        computing = units[1] * threads / facts["threads"] * 1e9
        bound = workload.sequences * computing / facts["decode_operations"][str(workload.sequences)]
        if bound < tokens:
            return {"figure": bound, "of": f"{units[0]} arithmetic"}
        return {"figure": tokens, "of": f"reading {step_bytes / 1e6:.0f} MB at {reading / 1e9:.1f} GB/s"}
    if workload.roof == "compute":
        rate = units[1] * threads / facts["threads"]
        return {"figure": rate * 1e9 * workload.tokens / facts["prefill_operations"][str(workload.tokens)],
                "of": f"{rate / 1000:.2f} Top/s of {units[0]}"}
    return None


def collect(options, ready, failed, taken, peaks, gguf):
    best = {unit: max(peak["gigaops_per_second"].get(unit, 0) for peak in peaks) for unit in peaks[0]["gigaops_per_second"]}
    unit = next(unit for unit in UNITS[options.isa] if unit in best)
    facts = {"threads": options.threads,
             "prefill_operations": {str(w.tokens): gguf.prefill_operations(w.tokens) for w in options.chosen if w.tokens},
             "decode_operations": {str(w.sequences): gguf.decode_operations(w.sequences) for w in options.chosen}}
    rows = []
    for workload in options.chosen:
        samples = taken.samples.get(workload.name, {})
        figures = {name: spread(values) for name, values in samples.items()}
        peers = [f["median"] for name, f in figures.items() if name != "girih"]
        row = {"name": workload.name, "title": workload.title, "unit": workload.unit, "is_less_better": workload.is_less_better,
               "figures": figures, "failures": taken.failures.get(workload.name, {}),
               "roof": roof_of(workload, taken, peaks, (unit, best[unit]), facts, workload.threads or options.threads)}
        if peers and "girih" in figures:
            ours, theirs = figures["girih"]["median"], (min if workload.is_less_better else max)(peers)
            row["ratio"] = theirs / ours if workload.is_less_better else ours / theirs
        rows.append(row)
    return {
        "machine": processor() | {"kernel": platform.release(), "cores": sorted(os.sched_getaffinity(0)),
                                  "load_average": {"median": statistics.median(taken.loads or [0]), "most": max(taken.loads or [0])}},
        "when": time.strftime("%Y-%m-%d"), "commit": install.run("git", "-C", REPOSITORY, "rev-parse", "--short", "HEAD").strip(),
        "model": {"file": options.gguf.name, "bytes": gguf.file_bytes}, "isa": options.isa, "threads": options.threads,
        "rounds": options.rounds, "peaks": best | {"read_gigabytes_per_second": max(p["read_gigabytes_per_second"] for p in peaks)},
        "contestants": [{"name": c.name, "version": c.version, "weights": c.weights, "held": c.held} for c in ready],
        "stayed_out": failed, "workloads": rows}


def figure(value, unit):
    return f"{value:,.2f}" if unit == "s" else f"{value:,.0f}" if value >= 100 else f"{value:.1f}"


def cell(row, name):
    if name not in row["figures"]:
        return "–" if row["failures"].get(name) in (None, "–") else "failed"
    values = row["figures"][name]
    text = figure(values["median"], row["unit"])
    if len(values["samples"]) > 1:
        text += f" ({figure(values['least'], row['unit'])} to {figure(values['most'], row['unit'])})"
    return text


def warning(results):
    # A contestant alone keeps the load at its number of threads.
    if results["machine"]["load_average"]["median"] <= results["threads"] + 0.7:
        return []
    return ["**The machine was busy with other work: the ratios are by turns and may stand, the figures do not.**", ""]


def markdown(results):
    machine, peaks = results["machine"], results["peaks"]
    names = [c["name"] for c in results["contestants"]]
    lines = [f"{machine['name']} ({', '.join(machine['features'])}), {results['threads']} threads on cores "
             f"{', '.join(map(str, machine['cores'][:results['threads']]))}, Linux {machine['kernel']}, {results['when']}, girih {results['commit']}; "
             f"{results['model']['file']} ({results['model']['bytes'] / 1e6:.0f} MB); {results['rounds']} interleaved rounds: medians (least to most). "
             f"Load average while measuring: {machine['load_average']['median']:.1f} (most {machine['load_average']['most']:.1f}).", "",
             f"Measured limits: reading the file's size {peaks['read_gigabytes_per_second']:.1f} GB/s; " +
             ", ".join(f"{unit} {rate:,.0f}" for unit, rate in peaks.items() if unit != "read_gigabytes_per_second") + " Gop/s.", "",
             *warning(results), "| | " + " | ".join(names) + " | ratio to the best peer | girih of the roofline |", "|---" * (len(names) + 3) + "|"]
    for row in results["workloads"]:
        roof, share = row["roof"], "–"
        if roof and "girih" in row["figures"]:
            share = f"{100 * row['figures']['girih']['median'] / roof['figure']:.0f} % of {figure(roof['figure'], row['unit'])} ({roof['of']})"
        ratio = f"**{row['ratio']:.2f}x**" if "ratio" in row else "–"
        lines.append(f"| {row['title']}, {row['unit']} | " + " | ".join(cell(row, name) for name in names) + f" | {ratio} | {share} |")
    lines += ["", "| contestant | version | weights | " + (f"held to {results['isa']} by |" if results["isa"] != "native" else "units |"),
              "|---|---|---|---|"]
    for c in results["contestants"]:
        held = c["held"] if results["isa"] != "native" else "all that the machine has"
        lines.append(f"| {c['name']} | {c['version']} | {c['weights']} | {held} |")
    for name, reason in results["stayed_out"].items():
        lines.append(f"\n{name} stayed out: {reason.splitlines()[-1][:200]}")
    for row in results["workloads"]:
        for name, reason in row["failures"].items():
            if reason != "–":
                lines.append(f"\n{row['title']}: {name} failed: {reason.splitlines()[-1][:160]}")
    return "\n".join(lines) + "\n"
