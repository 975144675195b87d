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
}
LIMIT_SECONDS = "5"


def outcomes(suite, library, only=None):
    with tempfile.NamedTemporaryFile(suffix=".json") as report:
        command = [suite, "--backend", library, "--json", report.name, "--limit", LIMIT_SECONDS]
        subprocess.run(command + (["--only", only] if only else []), capture_output=True, timeout=300)
        text = pathlib.Path(report.name).read_text()
    return {f"{case['level']}/{case['name']}": (case["outcome"], case["text"]) for case in json.loads(text)["cases"]}


def main(arguments):
    suite, folder = arguments[0], pathlib.Path(arguments[1])
    failures = 0
    right = outcomes(suite, folder / "none.so")
    for case, (outcome, text) in right.items():
        if outcome not in ("pass", "unsupported"):
            failures += 1
            print(f"FAILED the right backend: {outcome} at {case}: {text}")
    for mutant, (case, wanted) in CAUGHT_BY.items():
        outcome, text = outcomes(suite, folder / f"{mutant}.so", case).get(case, ("absent", ""))
        isCaught = outcome == wanted and right.get(case, ("",))[0] in ("pass", "unsupported")
        failures += not isCaught
        print(f"{'ok' if isCaught else 'FAILED':6} {mutant}: {outcome} at {case}: {text}")
    print(f"{len(CAUGHT_BY)} mutants, {failures} failures")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
