#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""A batch whose requests share a long prompt, beside the same requests asked one at a time; and killed in the middle.

    bench/models/batch_job.py model.girih [--lines 1000] [--singly 1000] [--kill]

Both have their prefix cache. What is compared is output tokens a second; `--singly N` asks only the first N one at a time.
`--kill` ends the batch by SIGKILL when half of it is answered, starts it again and counts the answers of each line.
"""
import argparse
import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import time
import urllib.request

GIRIH = pathlib.Path(os.environ.get("GIRIH_BUILD", pathlib.Path(__file__).resolve().parents[2] / "build")) / "bin/girih"
SENTENCE = "The farmer walks to the field by the river and looks at the corn while his daughter reads a story about light and water. "


def request(number, options):
    """A word of the sentence is about a token."""
    shared = (SENTENCE * (options.shared // len(SENTENCE.split()) + 1)).split()[:options.shared]
    return {"custom_id": f"line-{number}", "method": "POST", "url": "/v1/chat/completions",
            "body": {"messages": [{"role": "system", "content": " ".join(shared)},
                                  {"role": "user", "content": f"Say something about the number {number}."}],
                     "max_tokens": options.tokens, "temperature": 0, "ignore_eos": True}}


def answered(path):
    return [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []


def tokens_of(bodies):
    return sum(body["usage"]["completion_tokens"] for body in bodies)


def start_batch(options, folder, output):
    return subprocess.Popen([GIRIH, "batch", folder / "in.jsonl", output, "--model", options.program, "--max-sequences",
                             str(options.sequences), "--kv-mib", str(options.kv_mib)], stderr=subprocess.DEVNULL)


def timed_batch(options, folder):
    begun = time.monotonic()
    if start_batch(options, folder, folder / "out.jsonl").wait() != 0:
        sys.exit("batch_job: `girih batch` failed")
    return answered(folder / "out.jsonl"), time.monotonic() - begun


def ask_singly(options, lines):
    server = subprocess.Popen([GIRIH, "serve", options.program, "--port", "0", "--cache-dir", "none", "--state-dir", "none",
                               "--kv-mib", str(options.kv_mib)], stdout=subprocess.PIPE, text=True)
    try:
        url = None
        while not url:
            line = server.stdout.readline()
            if not line:
                sys.exit("batch_job: `girih serve` ended")
            url = re.search(r"listening on (http://[^\s,]+)", line)
        bodies, begun = [], time.monotonic()
        for line in lines:
            post = urllib.request.Request(url[1] + line["url"], json.dumps(line["body"]).encode(), {"Content-Type": "application/json"})
            bodies.append(json.loads(urllib.request.urlopen(post, timeout=300).read()))
        return bodies, time.monotonic() - begun
    finally:
        server.kill()
        server.wait()


def kill_and_go_on(options, folder, lines):
    output = folder / "killed.jsonl"
    batch = start_batch(options, folder, output)
    while batch.poll() is None and len(output.read_bytes().splitlines() if output.exists() else []) < len(lines) // 2:
        time.sleep(0.05)
    batch.kill()
    batch.wait()
    before = len(output.read_bytes().splitlines())
    if start_batch(options, folder, output).wait() != 0:
        sys.exit("batch_job: `girih batch` failed after it was killed")
    names = sorted(answer["custom_id"] for answer in answered(output))
    is_once = names == sorted(line["custom_id"] for line in lines)
    print(f"killed after {before} of {len(lines)}; then each was answered {'once' if is_once else 'NOT once'}")
    return is_once


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("program", help="a .girih file")
    parser.add_argument("--lines", type=int, default=1000)
    parser.add_argument("--shared", type=int, default=2000, help="words that all requests begin with")
    parser.add_argument("--tokens", type=int, default=32, help="of each answer")
    parser.add_argument("--singly", type=int, help="how many are asked one at a time (default: all; 0: none)")
    parser.add_argument("--sequences", type=int, default=64)
    parser.add_argument("--kv-mib", type=int, default=1024)
    parser.add_argument("--kill", action="store_true")
    options = parser.parse_args()
    lines = [request(number, options) for number in range(options.lines)]
    with tempfile.TemporaryDirectory() as scratch:
        folder = pathlib.Path(scratch)
        (folder / "in.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
        if options.kill:
            return 0 if kill_and_go_on(options, folder, lines) else 1
        answers, seconds = timed_batch(options, folder)
        bodies = [answer["response"]["body"] for answer in answers]
        rate = tokens_of(bodies) / seconds
        print(f"{len(bodies)} requests of {bodies[0]['usage']['prompt_tokens']} tokens in {seconds:.1f} s, start included: {rate:.0f} output tokens/s")
        singly = lines[:options.lines if options.singly is None else options.singly]
        if singly:
            bodies, seconds = ask_singly(options, singly)
            its = tokens_of(bodies) / seconds
            print(f"{len(bodies)} one at a time in {seconds:.1f} s: {its:.0f} output tokens/s; the batch makes {rate / its:.2f}x as many")
    return 0


if __name__ == "__main__":
    sys.exit(main())
