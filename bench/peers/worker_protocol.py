# SPDX-License-Identifier: Apache-2.0
"""What the Python peers' workers share: one JSON request a line on stdin, one JSON answer a line on stdout.

A worker holds one loaded model with one number of threads. It is stopped by a signal while others are measured, so
none of its threads can disturb them. Requests:

    {"do": "prefill", "tokens": N}                  -> {"tokens_per_second"}   N random tokens to the first choice
    {"do": "decode", "context": C, "generate": G}   -> {"tokens_per_second"}   G tokens after C random ones
    {"do": "together", "sequences": S, "prompt": P, "generate": G}  -> {"tokens_per_second"}   decode alone, all S
    {"do": "answer", "text": T, "generate": G}      -> {"text"}
    {"do": "resident"}                              -> {"bytes"}               the process's peak
"""
import json
import os
import sys
import time


def peak_resident_bytes():
    for line in open("/proc/self/status"):
        if line.startswith("VmHWM"):
            return int(line.split()[1]) * 1024
    return 0


def serve(load):
    """`load()` gives an object whose methods are the requests. What libraries print goes to stderr."""
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    begun = time.perf_counter()
    model = load()
    seconds = time.perf_counter() - begun
    model.prefill(4)  # four tokens to the first choice, as the others' start is measured
    print(json.dumps({"load_seconds": seconds, "first_token_seconds": time.perf_counter() - begun}), file=answers, flush=True)
    for line in sys.stdin:
        request = json.loads(line)
        what = request.pop("do")
        try:
            if what == "resident":
                answer = {"bytes": peak_resident_bytes()}
            elif what == "answer":
                answer = {"text": model.answer(**request)}
            else:
                answer = {"tokens_per_second": getattr(model, what)(**request)}
        except Exception as error:  # the peer's own failure is an answer, told in the table
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), file=answers, flush=True)
