# SPDX-License-Identifier: Apache-2.0
"""The command line over the toy model: a whole .girih file with a step of a few lines, so that no compiler is needed."""
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
import unittest
import unittest.mock
import urllib.error
import urllib.request

import numpy as np

BIN = pathlib.Path(os.environ["GIRIH_BUILD"]) / "bin"
VOCAB = 257
BACKENDS = BIN.parent / "tests/runtime/hal/backends"


def girih(*arguments, **options):
    return subprocess.run([str(BIN / "girih"), *map(str, arguments)], capture_output=True, text=True, timeout=120, **options)


class Toy(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = pathlib.Path(tempfile.mkdtemp())
        cls.addClassCleanup(shutil.rmtree, cls.folder)
        for name in ("toy", "bare", "untrue"):
            subprocess.run([str(BIN / "girih-write-toy"), str(cls.folder / f"{name}.girih"), name], check=True)
        cls.toy, cls.bare, cls.untrue = (cls.folder / f"{name}.girih" for name in ("toy", "bare", "untrue"))

    def answer(self, *arguments):
        done = girih(*arguments, "--format", "json")
        self.assertEqual(done.returncode, 0, done.stderr)
        return json.loads(done.stdout)


@unittest.skipUnless((BACKENDS / "backend_small.so").exists(), "the small backends are not built")
class VendorsLibrary(Toy):
    """--backend: a library from outside runs a program, and what is wrong with one is named."""

    def program(self):
        path = self.folder / "small.girih"
        subprocess.run([str(BIN / "girih-write-toy"), str(path), "small"], check=True)
        return path

    def test_runs_a_program(self):
        answer = self.answer("run", self.program(), "--tokens", "1,2", "--max-tokens", 3, "--backend", BACKENDS / "backend_small.so")
        self.assertEqual(answer["output_tokens"], [0, 0, 0])  # every logit is the same

    def test_without_it_the_file_has_no_code_for_here(self):
        refused = girih("run", self.program(), "--tokens", "1,2")
        self.assertEqual(refused.returncode, 1)
        self.assertIn("small:baseline", refused.stderr)
        self.assertIn("--backend", refused.stderr)

    def test_faults_are_named(self):
        for name, seen in (("crash_info", "crashes in device_info"), ("other_major", "speaks version 7.3"),
                           ("long_size", "its run table says that it has"), ("error_load", "moon"),
                           ("error_submit", "moon"), ("error_wait", "moon"), ("absent", "cannot load")):
            refused = girih("run", self.program(), "--tokens", "1,2", "--backend", BACKENDS / f"backend_{name}.so")
            self.assertEqual(refused.returncode, 1, name)
            self.assertIn(seen, refused.stderr, name)

    def test_a_hang_in_submit_is_told_with_the_entry(self):
        refused = girih("run", self.program(), "--tokens", "1,2", "--watchdog", 1, "--backend", BACKENDS / "backend_hang_submit.so")
        self.assertEqual(refused.returncode, 1)
        self.assertIn("entry `girih_step_toy", refused.stderr)


class Run(Toy):
    def test_tokens_are_taken_as_they_are(self):
        answer = self.answer("run", self.toy, "--tokens", "72,105,33", "--max-tokens", 5)
        self.assertEqual(answer["prompt_tokens"], [72, 105, 33])
        self.assertEqual(len(answer["output_tokens"]), 5)
        self.assertEqual(answer["finish_reason"], "length")
        self.assertEqual(set(answer["timings"]), {"load_seconds", "prefill_tokens_per_second", "decode_tokens_per_second"})

    def test_without_a_tokenizer_tokens_still_work(self):
        with_one = self.answer("run", self.toy, "--tokens", "1,2", "--max-tokens", 4)
        without = self.answer("run", self.bare, "--tokens", "1,2", "--max-tokens", 4)
        self.assertEqual(with_one["output_tokens"], without["output_tokens"])
        self.assertEqual(without["text"], "")
        refused = girih("run", self.bare, "--prompt", "x")
        self.assertEqual((refused.returncode, refused.stdout), (1, ""))
        self.assertIn("--tokens", refused.stderr)

    def test_prompts_go_through_the_template_unless_told_not_to(self):
        templated = self.answer("run", self.toy, "--prompt", "Hi", "--max-tokens", 1)
        self.assertEqual(bytes(templated["prompt_tokens"]), b"user: Hi\n")
        raw = self.answer("run", self.toy, "--prompt", "Hi", "--no-template", "--max-tokens", 1)
        self.assertEqual(bytes(raw["prompt_tokens"]), b"Hi")
        prompt_file = self.folder / "prompt.txt"
        prompt_file.write_text("Hi")
        self.assertEqual(self.answer("run", self.toy, "--prompt-file", prompt_file, "--max-tokens", 1), {**templated, "timings": unittest.mock.ANY})

    def test_text_goes_to_stdout_and_speed_to_stderr(self):
        done = girih("run", self.toy, "--prompt", "Hi", "--max-tokens", 6)
        self.assertEqual(done.returncode, 0)
        self.assertTrue(done.stdout.endswith("\n"))
        self.assertIn("tokens/s", done.stderr)

    def test_seed_repeats(self):
        def sample(seed):
            return self.answer("run", self.toy, "--tokens", "5", "--max-tokens", 20, "--temperature", 2, "--seed", seed)["output_tokens"]

        self.assertEqual(sample(1), sample(1))
        self.assertNotEqual(sample(1), sample(2))

    def test_dumps_the_logits_of_every_evaluated_position(self):
        path = self.folder / "logits.npy"
        answer = self.answer("run", self.toy, "--tokens", "7,8,9", "--max-tokens", 4, "--dump-logits", path)
        logits = np.load(path)
        # The last token is the answer of the row before and is not evaluated itself.
        self.assertEqual(logits.shape, (3 + 4 - 1, VOCAB))
        self.assertEqual(logits.dtype, np.float32)
        self.assertEqual(logits[2:].argmax(1).tolist(), answer["output_tokens"])
        self.answer("run", self.toy, "--tokens", "7,8,9", "--max-tokens", 0, "--dump-logits", path)
        self.assertTrue((np.load(path) == logits[:3]).all())
        refused = girih("run", self.toy, "--tokens", "7", "--dump-logits", self.folder / "no" / "where.npy")
        self.assertEqual(refused.returncode, 1)

    def test_refusals_name_what_was_seen(self):
        cases = [(["--tokens", "1,x"], "token 2"), (["--tokens", "300"], "0 to 256"), (["--tokens", "1", "--isa", "avx9"], "avx9"),
                 (["--tokens", ",".join(["1"] * 3000)], "2048")]
        for arguments, seen in cases:
            done = girih("run", self.toy, *arguments)
            self.assertEqual((done.returncode, done.stdout), (1, ""), arguments)
            self.assertIn(seen, done.stderr)

    def test_interrupt_ends_cleanly(self):
        process = subprocess.Popen([str(BIN / "girih"), "run", str(self.toy), "--tokens", "1", "--max-tokens", "2000", "--dump-logits",
                                    str(self.folder / "interrupted.npy")], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        process.stdout.read(1)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
        self.assertIn(process.returncode, (0, 130, -signal.SIGINT))  # 130; the others where it was done already
        self.assertFalse((self.folder / "interrupted.npy.partial").exists())

    def test_a_reader_that_goes_away_is_no_crash(self):
        process = subprocess.Popen([str(BIN / "girih"), "run", str(self.toy), "--tokens", "1", "--max-tokens", "1000"], stdout=subprocess.PIPE,
                                   stderr=subprocess.DEVNULL)
        process.stdout.close()
        self.assertGreaterEqual(process.wait(60), 0)


class Others(Toy):
    def test_score_is_the_log_softmax_of_the_logits(self):
        tokens = [7, 8, 9, 200, 5]
        (self.folder / "ids.txt").write_text("7, 8\n9 200,5\n")
        scores = self.answer("score", self.toy, "--tokens-file", self.folder / "ids.txt")
        self.assertEqual(scores["tokens"], tokens)
        self.assertIsNone(scores["logprobs"][0])
        path = self.folder / "score.npy"
        self.answer("run", self.toy, "--tokens", ",".join(map(str, tokens)), "--max-tokens", 0, "--dump-logits", path)
        logits = np.load(path).astype(np.float64)
        expected = [logits[at - 1][token] - np.log(np.exp(logits[at - 1]).sum()) for at, token in enumerate(tokens) if at]
        np.testing.assert_allclose(scores["logprobs"][1:], expected, atol=1e-4)
        self.assertAlmostEqual(scores["perplexity"], np.exp(-np.mean(expected)), places=2)

    def test_bench_names_and_counters(self):
        figures = self.answer("bench", self.toy, "--prompt-tokens", 32, "--generate", 8, "--sequences", 4, "--repetitions", 3)
        for name in ("prefill_tokens_per_second", "decode_tokens_per_second"):
            self.assertLessEqual(figures[name + "_min"], figures[name])
            self.assertLessEqual(figures[name], figures[name + "_max"])
            self.assertGreater(figures[name + "_min"], 0)
        self.assertGreater(figures["shared_steps"], 0)
        self.assertGreater(figures["roofline"]["read_bytes_per_second"], 0)
        alone = self.answer("bench", self.toy, "--prompt-tokens", 8, "--generate", 8, "--repetitions", 1)
        self.assertEqual(alone["shared_steps"], 0)
        self.assertIn("tokens/s", girih("bench", self.toy, "--prompt-tokens", 8, "--generate", 8, "--repetitions", 1).stdout)

    def test_bench_of_kernels_wants_a_report_of_this_code(self):
        # The toy names one dispatch, its step runs two.
        done = girih("bench", self.toy, "--kernels", "--repetitions", 1)
        self.assertEqual((done.returncode, done.stdout), (1, ""))
        self.assertIn("the file states 1", done.stderr)

    def test_inspect_shows_everything(self):
        report = self.answer("inspect", self.toy)
        self.assertEqual(report["model"]["numerics"], "exact")
        self.assertEqual([entry["invariant"] for entry in report["variants"][0]["entries"]], [True, True])
        self.assertEqual(report["tensors"][0]["treatment"], "kept, lossless")
        self.assertEqual(report["dispatches"][0]["level"], "L1")
        self.assertEqual(report["notes"][0]["topic"], "toy")
        text = girih("inspect", self.toy, "--all").stdout
        for word in ("exact", "baseline", "invariant", "toy.weights", "toy_dispatch", "no layer here is real"):
            self.assertIn(word, text)

    def test_verify_finds_untrue_goldens_and_damaged_payloads(self):
        done = girih("verify", self.toy)
        self.assertEqual(done.returncode, 0, done.stderr)
        self.assertIn("ok        golden 1 on baseline", done.stdout)
        untrue = girih("verify", self.untrue)
        self.assertEqual(untrue.returncode, 1)
        self.assertIn("logit of token 7", untrue.stdout)
        damaged = self.folder / "damaged.girih"
        content = bytearray(self.toy.read_bytes())
        content[content.index(b"\x01\x01\x00\x00\x01\x00\x00\x00")] ^= 1  # the toy's weights: vocabulary 257, salt 1
        damaged.write_bytes(content)
        self.assertEqual(girih("verify", damaged).returncode, 1)

    def test_chat_holds_a_conversation(self):
        done = girih("chat", self.toy, "--max-tokens", 5, input="Hi\nAgain\n/clear\nNew\n")
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        self.assertEqual(done.stdout.count("\n") >= 3, True)
        self.assertEqual(girih("chat", self.bare, input="").returncode, 1)


class Serve(Toy):
    def start(self, *arguments):
        if "--cache-dir" not in arguments:
            arguments += ("--cache-dir", "none")
        if "--models" not in arguments:
            arguments = (str(self.toy), *arguments)
        process = subprocess.Popen([str(BIN / "girih"), "serve", *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self.addCleanup(lambda: (process.kill(), process.communicate()))
        greeting = ""
        for line in process.stdout:
            greeting += line
            if "v1/completions" in line:
                break
        return process, greeting

    def post(self, url, body, **headers):
        request = urllib.request.Request(url, body, {"content-type": "application/json", **headers})
        return urllib.request.urlopen(request, timeout=60)

    def test_keys_from_a_file_and_a_log_without_prompts(self):
        keys = self.folder / "keys"
        keys.write_text("# staff\nsesame name=staff priority=5\nopen name=guests\n")
        process, greeting = self.start("--port", "0", "--api-key-file", str(keys), "--log", "json")
        url = greeting.split("listening on ")[1].split()[0].rstrip(",")
        body = json.dumps({"prompt": "a very secret prompt", "max_tokens": 2, "n": 2}).encode()
        for key, code in (("sesame", 200), ("open", 200), ("wrong", 401)):
            try:
                with self.post(url + "/v1/completions", body, authorization="Bearer " + key) as response:
                    self.assertEqual(response.status, code)
                    answer = json.load(response)
                self.assertEqual([choice["index"] for choice in answer["choices"]], [0, 1])
                # Clients do not find each other's prompts.
                self.assertEqual(answer["usage"]["prompt_tokens_details"]["cached_tokens"], 0)
            except urllib.error.HTTPError as refused:
                self.assertEqual(refused.code, code)
        process.send_signal(signal.SIGTERM)
        lines = [json.loads(line) for line in process.communicate(timeout=60)[1].splitlines() if line.startswith("{")]
        self.assertEqual([line["client"] for line in lines], ["staff", "guests"])
        self.assertEqual([line["output_tokens"] for line in lines], [4, 4])
        self.assertNotIn("secret", json.dumps(lines))
        self.assertNotIn("sesame", json.dumps(lines))

    def test_the_models_of_a_folder(self):
        folder = self.folder / "models"
        folder.mkdir()
        for name in ("first", "second"):
            shutil.copy(self.toy, folder / f"{name}.girih")
        (folder / "broken.girih").write_bytes(b"no program")
        process, greeting = self.start("--models", str(folder), "--models-mib", "1", "--port", "0", "--state-dir", str(self.folder / "fleet"))
        self.assertIn("2 models of", greeting)
        url = greeting.split("listening on ")[1].split()[0]
        listed = json.load(urllib.request.urlopen(url + "/v1/models", timeout=60))
        self.assertEqual([model["id"] for model in listed["data"]], ["first", "second"])
        answers = []
        for model in ("first", "second", "first"):
            with self.post(url + "/v1/completions", json.dumps({"model": model, "prompt": "abc", "max_tokens": 5}).encode()) as response:
                answers.append(json.load(response))
        self.assertEqual([answer["model"] for answer in answers], ["first", "second", "first"])
        self.assertEqual(len({answer["choices"][0]["text"] for answer in answers}), 1)  # one toy under two names
        for body, code in (({"prompt": "abc"}, 400), ({"model": "third", "prompt": "abc"}, 404)):
            with self.assertRaises(urllib.error.HTTPError) as refused:
                self.post(url + "/v1/completions", json.dumps(body).encode())
            self.assertEqual(refused.exception.code, code)
            self.assertIn("`first`, `second`", refused.exception.read().decode())
        metrics = urllib.request.urlopen(url + "/metrics", timeout=60).read().decode()
        self.assertIn("girih_model_load_failures_total 0", metrics)
        process.send_signal(signal.SIGTERM)
        _, errors = process.communicate(timeout=60)
        self.assertIn("broken.girih is left out", errors)
        self.assertEqual(process.returncode, 0)

    def test_a_folder_without_a_program_is_refused(self):
        (self.folder / "empty").mkdir()
        for folder, seen in (("empty", "there is no program in"), ("absent", "cannot read the folder")):
            done = girih("serve", "--models", self.folder / folder)
            self.assertEqual((done.returncode, done.stdout), (1, ""))
            self.assertIn(seen, done.stderr)

    def test_bench_serve_measures_what_clients_see(self):
        process, greeting = self.start("--port", "0")
        url = greeting.split("listening on ")[1].split()[0].rstrip(",")
        answer = self.answer("bench", "serve", "--url", url, "--clients", 4, "--conversations", 6, "--turns", 2, "--prompt-words", 20,
                             "--shared-words", 40, "--output-tokens", 5, "--cost-per-hour", 1)
        self.assertEqual((answer["answered"], answer["failed"], answer["output_tokens"]), (12, 0, 60))
        # Every second turn finds the first one, and all but one conversation the shared words.
        self.assertGreater(answer["cached_tokens"], answer["prompt_tokens"] // 2)
        self.assertGreater(answer["first_text_seconds"]["p50"], 0)
        self.assertEqual(set(answer["dollars_per_million"]), {"uncached_input", "cached_input", "output"})
        self.assertTrue(all(price > 0 for price in answer["dollars_per_million"].values()))
        open_loop = self.answer("bench", "serve", "--url", url, "--rate", 200, "--conversations", 10, "--output-tokens", 3)
        self.assertEqual(open_loop["answered"], 10)
        refused = girih("bench", "serve", "--url", "http://127.0.0.1:1")
        self.assertEqual((refused.returncode, refused.stdout), (1, ""))
        self.assertIn("cannot connect", refused.stderr)

    def test_a_prompt_is_found_after_kill_9(self):
        folder = self.folder / "kv"
        body = json.dumps({"prompt": "All that is said before every question. " * 20, "max_tokens": 4, "temperature": 0}).encode()
        answers, cached = [], []
        for _ in range(2):
            process, greeting = self.start("--port", "0", "--cache-dir", str(folder))
            url = greeting.split("listening on ")[1].split()[0].rstrip(",")
            with self.post(url + "/v1/completions", body) as response:
                answer = json.load(response)
            answers.append(answer["choices"][0]["text"])
            cached.append(answer["usage"]["prompt_tokens_details"]["cached_tokens"])
            deadline = time.time() + 60  # files are written behind the answer
            while len(list(folder.rglob("*.kv"))) < 50 and time.time() < deadline:
                time.sleep(0.02)
            process.kill()
            process.wait(60)
        self.assertEqual(answers[0], answers[1])
        self.assertEqual(cached[0], 0)
        self.assertGreater(cached[1], 700)

    def test_a_cache_folder_that_cannot_be_costs_a_warning(self):
        (self.folder / "taken").write_text("a file")
        process, greeting = self.start("--port", "0", "--cache-dir", str(self.folder / "taken"))
        url = greeting.split("listening on ")[1].split()[0].rstrip(",")
        with self.post(url + "/v1/completions", json.dumps({"prompt": "x", "max_tokens": 1}).encode()) as response:
            self.assertEqual(response.status, 200)
        process.send_signal(signal.SIGTERM)
        self.assertIn("not kept on disk", process.communicate(timeout=60)[1])

    def test_a_file_without_keys_is_refused(self):
        keys = self.folder / "no-keys"
        keys.write_text("key priority=high\n")
        done = girih("serve", self.toy, "--api-key-file", keys)
        self.assertEqual((done.returncode, done.stdout), (1, ""))
        self.assertIn("line 1", done.stderr)

    def test_greets_answers_and_drains(self):
        process, greeting = self.start("--port", "0")
        self.assertEqual(greeting.count("  curl "), 3)
        url = greeting.split("listening on ")[1].split()[0].rstrip(",")
        body = json.dumps({"model": "toy", "messages": [{"role": "user", "content": "Hi, who are you?"}], "max_tokens": 3}).encode()
        for cached in (0, 16):
            with self.post(url + "/v1/chat/completions", body) as response:
                usage = json.load(response)["usage"]
                self.assertEqual(usage["completion_tokens"], 3)
                self.assertEqual(usage["prompt_tokens_details"]["cached_tokens"], cached)
        with self.assertRaises(urllib.error.HTTPError) as refused:
            self.post(url + "/v1/chat/completions", b"x" * (100 << 20))
        self.assertEqual(refused.exception.code, 413)
        process.send_signal(signal.SIGTERM)
        self.assertEqual(process.wait(60), 0)

    def test_a_taken_port_is_a_clear_failure(self):
        with socket.socket() as taken:
            taken.bind(("127.0.0.1", 0))
            taken.listen()
            port = taken.getsockname()[1]
            done = girih("serve", self.toy, "--port", port)
            self.assertEqual((done.returncode, done.stdout), (1, ""))
            self.assertIn(f"port {port}", done.stderr)
            self.assertIn("--port", done.stderr)

    def test_second_signal_ends_at_once(self):
        process, greeting = self.start("--port", "0")
        url = greeting.split("listening on ")[1].split()[0].rstrip(",")
        host, port = url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port))) as busy:
            busy.sendall(b"POST /v1/completions HTTP/1.1\r\nhost: localhost\r\ncontent-length: 100\r\n\r\n")  # a body that never comes
            time.sleep(0.2)
            process.send_signal(signal.SIGINT)
            time.sleep(0.2)
            self.assertIsNone(process.poll())
            process.send_signal(signal.SIGINT)
            self.assertEqual(process.wait(10), 0)


if __name__ == "__main__":
    if not (BIN / "girih-write-toy").exists() or not (BIN / "girih").exists():
        print("skipped: girih or girih-write-toy is not built")
        sys.exit(77)
    unittest.main()
