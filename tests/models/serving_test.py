# SPDX-License-Identifier: Apache-2.0
"""The default model behind `girih serve`: guesses, company, batches and kill -9 change no token and lose no answer.

Under `invariant`, where rows do not depend on what shares their step, so that every difference is a mistake.
"""
import concurrent.futures
import json
import pathlib
import re
import signal
import subprocess
import sys
import tempfile
import time
import urllib.request

import girih_cli

KEY = "a-key"
DEADLINE_SECONDS = 300
TEXT = ("The quick brown fox jumps over the lazy dog near the river bank. In the morning the farmer walks to the field and looks "
        "at the corn. His daughter brings bread, cheese and a bottle of cold water. ")
PROMPTS = [f"Repeat the following text exactly: {TEXT}", "Write a short story about a lighthouse keeper.",
           "What is the capital of France?", "Count from one to twenty in words.", "List three colours, then list them again."]


class Server:
    """A `girih serve` of its own, with its state in `folder`; restarted by entering again."""

    def __init__(self, program, folder, *flags):
        keys = folder / "keys"
        keys.write_text(f"{KEY} name=tester\n")
        self.command = [str(girih_cli.GIRIH), "serve", str(program), "--port", "0", "--admin-port", "0", "--api-key-file", str(keys),
                        "--state-dir", str(folder / "state"), "--cache-dir", str(folder / "kv"), *flags]

    def __enter__(self):
        self.process = subprocess.Popen(self.command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        seen = ""
        while not (found := re.search(r"this machine alone: (http://\S+)/ledger", seen)):
            line = self.process.stdout.readline()
            if not line:
                raise girih_cli.Failure(f"`{' '.join(self.command)}` ended: {seen}")
            seen += line
        self.admin, self.url = found[1], re.search(r"listening on (http://[^\s,]+)", seen)[1]
        return self

    def __exit__(self, *_):
        self.end(signal.SIGKILL)

    def end(self, how):
        if self.process.poll() is None:
            self.process.send_signal(how)
        self.process.wait(60)
        self.process.stdout.close()

    def ask(self, path, body=None, content_type="application/json", base=None):
        data = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        request = urllib.request.Request((base or self.url) + path, data, {"Authorization": f"Bearer {KEY}", "Content-Type": content_type})
        with urllib.request.urlopen(request, timeout=DEADLINE_SECONDS) as answer:
            return answer.read().decode()

    def chat(self, body):
        answer = json.loads(self.ask("/v1/chat/completions", body))
        return answer["choices"][0]["message"]["content"], answer["usage"]

    def metric(self, name):
        """The sum of its rows."""
        rows = re.findall(rf"^{name}(?:\{{[^}}]*\}})? (\S+)$", self.ask("/metrics"), re.M)
        if not rows:
            raise girih_cli.Failure(f"/metrics has no {name}")
        return sum(map(float, rows))

    def used(self):
        """Output tokens of this key, live and in batches, as the ledger has them."""
        return sum(float(number) for number in
                   re.findall(r'^girih_client_tokens_total\{client="tester",kind="(?:batch_)?output"\} (\S+)$', self.ask("/metrics"), re.M))

    def upload(self, lines):
        form = ('--x\r\nContent-Disposition: form-data; name="purpose"\r\n\r\nbatch\r\n'
                '--x\r\nContent-Disposition: form-data; name="file"; filename="in.jsonl"\r\n\r\n' + lines + "\r\n--x--\r\n")
        return json.loads(self.ask("/v1/files", form.encode(), "multipart/form-data; boundary=x"))["id"]

    def wait_for_batch(self, name, is_reached):
        end = time.monotonic() + DEADLINE_SECONDS
        while time.monotonic() < end:
            batch = json.loads(self.ask(f"/v1/batches/{name}"))
            if is_reached(batch):
                return batch
            time.sleep(0.05)
        raise girih_cli.Failure(f"the batch stands still: {batch}")


def bodies():
    """Greedy and sampled, each as a request of its own."""
    for number, prompt in enumerate(PROMPTS):
        for sampling in ({"temperature": 0}, {"temperature": 0.9, "seed": number, "top_p": 0.95}):
            yield {"messages": [{"role": "user", "content": prompt}], "max_tokens": 32, **sampling}


def check_guesses(program, folder, report):
    """Answers without guesses, one at a time; with them; with them and in company."""
    wanted = list(bodies())
    (folder / "plain").mkdir()
    (folder / "guessing").mkdir()
    with Server(program, folder / "plain", "--max-draft", "0") as server:
        expected = [server.chat(body)[0] for body in wanted]
        report("no guesses where none are allowed", server.metric("girih_drafts_total") == 0)
    with Server(program, folder / "guessing") as server:
        report(f"{len(wanted)} greedy and sampled answers with guesses = without", [server.chat(body)[0] for body in wanted] == expected)
        # Whether guessing pays is measured: on a busy machine it may look as if it did not, for a while.
        for _ in range(20):
            if (accepted := server.metric("girih_draft_tokens_accepted_total")) >= 10:
                break
            server.chat(wanted[0])
        report(f"{accepted:.0f} guesses came true", accepted >= 10)
        with concurrent.futures.ThreadPoolExecutor(len(wanted)) as pool:
            together = [text for text, _ in pool.map(server.chat, wanted)]
        report("the same all at once", together == expected)
        server.end(signal.SIGTERM)
        report("drained and ended on SIGTERM", server.process.returncode == 0)


def check_draft(program, folder, report):
    """A draft as large as its model: it cannot pay, is tried all the same, and changes nothing."""
    wanted = list(bodies())
    (folder / "undrafted").mkdir()
    (folder / "drafted").mkdir()
    with Server(program, folder / "undrafted", "--max-draft", "0") as server:
        expected = [server.chat(body)[0] for body in wanted]
    with Server(program, folder / "drafted", "--draft", str(program)) as server:
        report("answers with a draft model = without", [server.chat(body)[0] for body in wanted] == expected)
        report("the draft model was asked", server.metric("girih_draft_seconds_total") > 0)


def lines_of(count):
    system = {"role": "system", "content": TEXT * 6}
    return [{"custom_id": f"line-{number}", "method": "POST", "url": "/v1/chat/completions",
             "body": {"messages": [system, {"role": "user", "content": f"Say the number {number} and a word about it."}],
                      "max_tokens": 12, "temperature": 0}} for number in range(count)]


def check_batch(program, folder, report):
    """Killed twice in the middle; and the same file without a server."""
    lines = lines_of(24)
    text = "".join(json.dumps(line) + "\n" for line in lines)
    server = Server(program, folder, "--max-sequences", "4")
    with server:
        body = {"input_file_id": server.upload(text), "endpoint": "/v1/chat/completions", "completion_window": "24h"}
        name = json.loads(server.ask("/v1/batches", body))["id"]
        server.wait_for_batch(name, lambda batch: batch["request_counts"]["completed"] >= 5)
    with server:
        before = server.wait_for_batch(name, lambda batch: batch["request_counts"]["completed"] >= 12)
    with server:
        batch = server.wait_for_batch(name, lambda batch: batch["status"] == "completed")
        report(f"killed twice in the middle, the second time after {before['request_counts']['completed']}",
               before["status"] == "in_progress" and batch["request_counts"] == {"total": 24, "completed": 24, "failed": 0})
        answers = [json.loads(line) for line in server.ask(f"/v1/files/{batch['output_file_id']}/content").splitlines()]
        report("each line was answered once", sorted(answer["custom_id"] for answer in answers) == sorted(line["custom_id"] for line in lines))
        said = {answer["custom_id"]: answer["response"]["body"]["choices"][0]["message"]["content"] for answer in answers}
        used = sum(answer["response"]["body"]["usage"]["completion_tokens"] for answer in answers)
        live, usage = server.chat(lines[7]["body"])
        report("an answer of the batch = the same asked live", said["line-7"] == live)
        report(f"{usage['prompt_tokens_details']['cached_tokens']} tokens of its prompt came from the cache",
               usage["prompt_tokens_details"]["cached_tokens"] >= 200)
        # What was computed but not written when the process was killed is no answer, and is not metered.
        report(f"the ledger has what was answered, over all runs: {used} tokens and {usage['completion_tokens']} live",
               used + usage["completion_tokens"] <= server.used() <= used + usage["completion_tokens"] + 2 * 64 * 12)
        report("the operator's port has the same", "tester" in server.ask("/ledger", base=server.admin))
        end = time.monotonic() + DEADLINE_SECONDS
        while server.metric("girih_disk_files") < 17 and time.monotonic() < end:
            time.sleep(0.05)
    with server:
        report("after kill -9 its KV is found on disk", server.metric("girih_disk_files") >= 17)
        again, usage = server.chat(lines[7]["body"])
        # On a busy machine computing may overtake the disk: then less of it is loaded, or nothing.
        report(f"the same answer, with {usage['prompt_tokens_details']['cached_tokens']} tokens from there", again == live)
    (folder / "in.jsonl").write_text(text)
    girih_cli.girih("batch", folder / "in.jsonl", folder / "out.jsonl", "--model", program)
    alone = {answer["custom_id"]: answer["response"]["body"]["choices"][0]["message"]["content"]
             for answer in map(json.loads, (folder / "out.jsonl").read_text().splitlines())}
    report("`girih batch` says the same without a server", alone == said)


def main():
    model = girih_cli.default_model()
    if model is None:
        print("the default model is not here (GIRIH_SMOLLM2_GGUF)")
        return girih_cli.SKIPPED
    report = girih_cli.Reporter()
    with tempfile.TemporaryDirectory() as scratch:
        folder = pathlib.Path(scratch)
        program = girih_cli.compile_model(model, folder / "model.girih", "invariant", no_golden=True)
        check_guesses(program, folder, report)
        check_draft(program, folder, report)
        (folder / "batch").mkdir()
        check_batch(program, folder / "batch", report)
    print(f"{len(report.failed)} checks failed")
    return 1 if report.failed else 0


if __name__ == "__main__":
    sys.exit(main())
