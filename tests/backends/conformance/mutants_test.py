# SPDX-License-Identifier: Apache-2.0
"""The suite catches what it must: each deliberately wrong backend fails its named case, the right one none.

    mutants_test.py GIRIH_CONFORMANCE FOLDER_OF_MUTANTS
"""
import json
import pathlib
import subprocess
import sys
import tempfile

# mutant: the case that must catch it, and as what.
CAUGHT_BY = {
    "dropped_tail_row": ("execution/dynamic_rows_are_followed", "fail"),
    "ignored_stride": ("execution/dynamic_rows_are_followed", "fail"),
    "skipped_barrier": ("execution/statements_are_ordered", "fail"),
    "out_of_bounds": ("execution/copies_every_extent", "fail"),
    "stale_buffer": ("execution/nothing_is_stale", "fail"),
    "swapped_bindings": ("execution/bindings_are_told_apart", "fail"),
    "wrong_entry": ("execution/entries_are_told_apart", "fail"),
    "repeated_ticket": ("execution/tickets_grow_and_wait", "fail"),
    "deadlock": ("execution/nothing_is_stale", "hang"),
    "leak": ("memory/freed_memory_comes_back", "fail"),
    "more_memory_than_claimed": ("memory/too_much_is_a_status", "fail"),
    "dirty_memory": ("memory/buffers_are_zeroed", "fail"),
    "misaligned": ("memory/mapped_buffers_are_aligned", "fail"),
    "truncated_copy": ("memory/copies_move_bytes", "fail"),
    "overlapping_buffers": ("memory/buffers_do_not_overlap", "fail"),
    "message_overrun": ("abi/messages_fit", "fail"),
    "info_overrun": ("abi/short_info_is_respected", "fail"),
    "signal_handler": ("abi/signals_are_left_alone", "fail"),
    "extra_thread": ("abi/threads_are_as_declared", "fail"),
    "refuses_minor": ("abi/other_minor_is_served", "fail"),
    "promises_all": ("abi/declines_what_it_does_not_know", "fail"),
    "wrong_rounding": ("ops/adds_f32", "fail"),
    "narrow_cut_off": ("ops/adds_narrow_floats", "fail"),
    "large_extents_wrap": ("ops/huge_extents_are_covered", "fail"),
    "aligned_loads": ("ops/offsets_are_followed", "fail"),
    "dropped_k_tail": ("ops/matmuls_are_within_their_bound", "fail"),
    "lower_precision": ("ops/exact_sums_are_exact", "fail"),
    "unordered_reduction": ("ops/repeats_its_bits", "fail"),
    "saturated_pairs": ("ops/integer_matmuls_are_exact", "fail"),
    "epsilon_outside": ("fused/norms_small_rows", "fail"),
    "no_maximum": ("fused/softmaxes_large_scores", "fail"),
    "masked_rows_divide": ("fused/fully_masked_rows_are_zero", "fail"),
    "overflowing_gate": ("fused/gates_large_inputs", "fail"),
    "window_off_by_one": ("fused/attends_windows", "fail"),
    "cap_forgotten": ("fused/attends_capped_scores", "fail"),
    "groups_by_turns": ("fused/attends_grouped_heads", "fail"),
    "sees_the_future": ("fused/attends_grouped_heads", "fail"),
    "blocks_in_order": ("fused/attends_grouped_heads", "fail"),
    "truncated_cache": ("fused/appends_rounded_once", "fail"),
    "adjacent_pairs": ("fused/turns_pairs", "fail"),
    "swapped_nibbles": ("fused/multiplies_grouped_weights", "fail"),
    "one_scale_a_block": ("fused/multiplies_grouped_weights", "fail"),
}
# mutant: the least extents at which its case fails.
REDUCED_TO = {"dropped_k_tail": "1x1x5", "large_extents_wrap": "1x65536", "masked_rows_divide": "1x1", "skipped_barrier": ""}
HANG_SECONDS = 5  # what a mutant that must hang is given; on a busy machine the others may need more than that
LIMIT_SECONDS = 60


def outcomes(suite, library, only=None, limit=LIMIT_SECONDS, more=()):
    with tempfile.NamedTemporaryFile(suffix=".json") as report:
        command = [suite, "--backend", library, "--json", report.name, "--limit", str(limit), *more]
        subprocess.run(command + (["--only", only] if only else []), capture_output=True, timeout=300)
        text = pathlib.Path(report.name).read_text()
    return {f"{case['level']}/{case['name']}": (case["outcome"], case["text"]) for case in json.loads(text)["cases"]}


def reduced(suite, library, case):
    """The shape of the reproducer that is written, and the outcome of the command that it gives."""
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([suite, "--backend", library, "--only", case, "--reduce", folder], capture_output=True, timeout=300)
        explained = (pathlib.Path(folder) / "README").read_text()
        assert (pathlib.Path(folder) / "step").read_text().count("entry ") == 1, explained
    again = explained[explained.index("Again: ") + len("Again: "):].splitlines()[0].split()
    done = subprocess.run([suite, *again[1:]], capture_output=True, text=True, timeout=300)
    return again[again.index("--shape") + 1] if "--shape" in again else "", done.stdout.split()[0]


def expected(suite, library, case):
    """The first word and the exit status of a run that expects the case not to pass."""
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as known:
        known.write(f"{case} it is known\n")
        known.flush()
        done = subprocess.run([suite, "--backend", library, "--only", case, "--expected", known.name], capture_output=True, text=True,
                              timeout=300)
    return done.stdout.split()[0], done.returncode


def page_rows(suite, library):
    """(level, case, outcome) of each row of the report for people."""
    with tempfile.NamedTemporaryFile(suffix=".html") as page:
        subprocess.run([suite, "--backend", library, "--html", page.name], capture_output=True, timeout=300)
        text = pathlib.Path(page.name).read_text()
    return [tuple(row.split("<td>")[1:4]) for row in text.split("<tr>") if row.startswith("<td>")]


def main(arguments):
    suite, folder = arguments[0], pathlib.Path(arguments[1])
    failures = 0
    right = {}
    for name in ("none", "plain"):  # the second does everything that the first does, and all operations
        right = outcomes(suite, folder / f"{name}.so")
        for case, (outcome, text) in right.items():
            if outcome not in ("pass", "unsupported"):
                failures += 1
                print(f"FAILED the right backend {name}: {outcome} at {case}: {text}")
    for mutant, (case, wanted) in CAUGHT_BY.items():
        limit = HANG_SECONDS if wanted == "hang" else LIMIT_SECONDS
        outcome, text = outcomes(suite, folder / f"{mutant}.so", case, limit).get(case, ("absent", ""))
        isCaught = outcome == wanted and right.get(case, ("",))[0] in ("pass", "unsupported")
        failures += not isCaught
        print(f"{'ok' if isCaught else 'FAILED':6} {mutant}: {outcome} at {case}: {text}")
    shown = page_rows(suite, folder / "plain.so")
    isWhole = shown == [(*case.split("/"), outcome) for case, (outcome, _) in right.items()]
    failures += not isWhole
    print(f"{'ok' if isWhole else 'FAILED':6} {len(shown)} rows in the HTML report, {len(right)} in the JSON one")
    for mutant, shape in REDUCED_TO.items():
        seen = reduced(suite, folder / f"{mutant}.so", CAUGHT_BY[mutant][0])
        failures += seen != (shape, "fail")
        print(f"{'ok' if seen == (shape, 'fail') else 'FAILED':6} {mutant} is reduced: {seen}")
    for library, wanted in (("wrong_rounding", ("expected", 0)), ("plain", ("fail", 1))):
        seen = expected(suite, folder / f"{library}.so", "ops/adds_f32")
        failures += seen != wanted
        print(f"{'ok' if seen == wanted else 'FAILED':6} {library} where ops/adds_f32 is known to fail: {seen}")
    print(f"{len(CAUGHT_BY)} mutants, {failures} failures")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
