# SPDX-License-Identifier: Apache-2.0
"""Girih and its peers behind one face: each can prefill, decode, decode many sequences, start, and answer a question.

Every measurement follows an untimed one in the same process. Programs of their own are started for each; the Python
peers keep a process per number of threads, stopped while others are measured.
"""
import json
import os
import pathlib
import random
import select
import signal
import subprocess
import tempfile
import time

import install
from install import HERE, REPOSITORY, PeerFailure

QUESTION = "What is the capital of France?"
CHAT = f"<|im_start|>user\n{QUESTION}<|im_end|>\n<|im_start|>assistant\n"
FIRST_TOKENS = "504,314,260,3575"
LONG = 2048  # prompts from here on are measured once in a process, without a repetition before
SAMPLE_SECONDS = 600


def pinned(threads, command):
    cores = sorted(os.sched_getaffinity(0))[:threads]
    return ["taskset", "-c", ",".join(map(str, cores)), *map(str, command)]


def measured(threads, command, environment=None):
    """(stdout, seconds, peak resident bytes)"""
    begun = time.perf_counter()
    with tempfile.TemporaryFile() as errors:  # a file, since a full pipe would block who writes much
        process = subprocess.Popen(pinned(threads, command), stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=errors,
                                   env=os.environ | (environment or {}), preexec_fn=lambda: signal.alarm(SAMPLE_SECONDS))
        said = process.stdout.read().decode(errors="replace")
        _, status, usage = os.wait4(process.pid, 0)
        seconds = time.perf_counter() - begun
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode != 0:
            errors.seek(0)
            told = errors.read().decode(errors="replace").strip()[-300:]
            raise PeerFailure(f"`{' '.join(map(str, command))[:160]}` exited with {process.returncode}: {told}")
    return said, seconds, usage.ru_maxrss * 1024


class Girih:
    name = "girih"
    weights = "the GGUF's, repacked at compile time"

    def __init__(self, options):
        build = pathlib.Path(os.environ.get("GIRIH_BUILD", REPOSITORY / "build"))
        self.binary, self.gguf, self.program = build / "bin/girih", options.gguf, options.program
        self.isa = {"native": [], "vulkan": ["--device", "vulkan"]}.get(options.isa, ["--isa", options.isa])
        self.held = f"`{self.isa[0]}`" if self.isa else ""
        if not self.binary.exists():
            raise PeerFailure(f"{self.binary} is not there; build it (`ninja -C build girih girih-compile`)")
        if not self.program:
            self.program = options.cache / f"bench{'-vulkan' if options.isa == 'vulkan' else ''}.girih"
            self.compile_seconds("vulkan" if options.isa == "vulkan" else "cpu")
        self.version = install.run("git", "-C", REPOSITORY, "rev-parse", "--short", "HEAD").strip()
        self.roofline = None  # of the last measurement

    def compile_seconds(self, target):
        command = [self.binary, "compile", self.gguf, "-o", self.program, "--target", target, "--no-golden", "--quiet",
                   "--code-cache="]  # the whole work, each time
        return measured(len(os.sched_getaffinity(0)), command)[1]

    def bench(self, threads, **flags):
        arguments = [part for name, value in flags.items() for part in (f"--{name.replace('_', '-')}", value)]
        answer = json.loads(measured(threads, [self.binary, "bench", self.program, "--format", "json", "--repetitions", 1,
                                               "--threads", threads, *self.isa, *arguments])[0])
        self.used_isa = answer["isa"]
        self.roofline = answer["roofline"]
        return answer

    def prefill(self, tokens, threads):
        return self.bench(threads, prompt_tokens=tokens, generate=1)["prefill_tokens_per_second"]

    def decode(self, context, generate, threads):
        return self.bench(threads, prompt_tokens=1, generate=generate, context=context)["decode_tokens_per_second"]

    def together(self, sequences, prompt, generate, threads):
        return self.bench(threads, prompt_tokens=1, generate=generate, context=prompt, sequences=sequences)["decode_tokens_per_second"]

    def start(self, threads):
        """Seconds from nothing to the first token of four."""
        return measured(threads, [self.binary, "run", self.program, "--tokens", FIRST_TOKENS, "--max-tokens", 1,
                                  "--threads", threads, *self.isa])[1]

    def start_from_text(self, threads):
        return measured(threads, [self.binary, "run", self.program, "--prompt", QUESTION, "--max-tokens", 1,
                                  "--threads", threads, *self.isa])[1]

    def resident(self, threads):
        ids = ",".join(str(random.Random(1).randrange(1000, 40000)) for _ in range(512))
        return measured(threads, [self.binary, "run", self.program, "--tokens", ids, "--max-tokens", 16, "--threads", threads,
                                  *self.isa])[2]

    def answer(self, threads):
        return measured(threads, [self.binary, "run", self.program, "--prompt", QUESTION, "--max-tokens", 12, "--threads",
                                  threads, *self.isa])[0]

    def close(self):
        pass


class LlamaCpp:
    name = "llama.cpp"
    weights = "the GGUF's, repacked at load where it has kernels for it"

    def __init__(self, options, programs=None, name=None):
        self.bin = pathlib.Path(programs) if programs else install.llama_cpp(options.cache, options.isa)
        self.gguf = options.gguf
        self.is_vulkan = options.isa == "vulkan"
        self.name = name or self.name
        self.version = "of the folder given" if programs else f"llama-cpp-python {install.LLAMA_CPP_VERSION}, clang 22"
        self.held = "not held: built as it is" if programs else "flags of its build"

    def run(self, threads, program, *arguments):
        # It takes a device that is a processor only when it is named.
        environment = {"GGML_VK_VISIBLE_DEVICES": "0"} if self.is_vulkan else {}
        layers = ["-ngl", 99] if self.is_vulkan else []
        return measured(threads, [self.bin / program, "-m", self.gguf, "-t", threads, *layers, *arguments], environment)

    def bench(self, threads, *arguments):
        said = self.run(threads, "llama-bench", "-o", "json", *arguments)[0]
        return json.loads(said)[-1]["samples_ts"][-1]

    def prefill(self, tokens, threads):
        return self.bench(threads, "-p", tokens, "-n", 0, "-r", 1 if tokens >= LONG else 2)

    def decode(self, context, generate, threads):
        return self.bench(threads, "-p", 0, "-n", generate, "-d", context, "-r", 1 if context >= LONG else 2)

    def together(self, sequences, prompt, generate, threads):
        said = self.run(threads, "llama-batched-bench", "-npp", prompt, "-ntg", generate, "-npl", sequences, "-c",
                        sequences * (prompt + generate), "--output-format", "jsonl")[0]
        return next(json.loads(line) for line in said.splitlines() if line.startswith("{"))["speed_tg"]

    def start(self, threads):
        return self.run(threads, "llama-bench", "-o", "json", "-p", 4, "-n", 0, "-r", 1, "--no-warmup")[1]

    def resident(self, threads):
        return self.run(threads, "llama-bench", "-o", "json", "-p", 512, "-n", 16, "-r", 1)[2]

    def answer(self, threads):
        return self.run(threads, "llama-completion", "-c", 256, "--fit", "off", "-n", 12, "--temp", 0, "-no-cnv",
                        "--no-display-prompt", "-p", CHAT)[0]

    def close(self):
        pass


class Worker:
    """One process of a Python peer, stopped unless it is asked something."""

    def __init__(self, command, threads, environment):
        self.process = subprocess.Popen(pinned(threads, command), stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                        stderr=subprocess.DEVNULL, text=True, env=os.environ | environment)
        try:
            self.started = self.read()
        except PeerFailure:
            self.close()
            raise
        self.signal(signal.SIGSTOP)

    def signal(self, number):
        self.process.send_signal(number)

    def read(self):
        # One line an answer, so nothing waits in Python's own buffer when the pipe is empty.
        if not select.select([self.process.stdout], [], [], SAMPLE_SECONDS)[0]:
            raise PeerFailure(f"no answer within {SAMPLE_SECONDS} s")
        line = self.process.stdout.readline()
        if not line:
            raise PeerFailure(f"`{' '.join(self.process.args[3:])[:160]}` ended without an answer")
        answer = json.loads(line)
        if "error" in answer:
            raise PeerFailure(answer["error"][:300])
        return answer

    def ask(self, **request):
        self.signal(signal.SIGCONT)
        try:
            self.process.stdin.write(json.dumps(request) + "\n")
            self.process.stdin.flush()
            return self.read()
        finally:
            self.signal(signal.SIGSTOP)

    def close(self):
        self.process.kill()
        self.process.wait()


class PythonPeer:
    """Its worker's command comes from `command(threads)`; see worker_protocol.py."""

    environment = {}

    def __init__(self):
        self.workers, self.warm = {}, set()

    def worker(self, threads):
        if threads not in self.workers:
            self.workers[threads] = Worker(self.command(threads), threads, self.environment)
        return self.workers[threads]

    def rate(self, threads, **request):
        key = (threads, *sorted(request.items()))
        worker = self.worker(threads)
        long = max(request.get("tokens", 0), request.get("context", 0)) >= LONG
        if key not in self.warm and not long:
            worker.ask(**request)
            self.warm.add(key)
        return worker.ask(**request)["tokens_per_second"]

    def prefill(self, tokens, threads):
        return self.rate(threads, do="prefill", tokens=tokens)

    def decode(self, context, generate, threads):
        return self.rate(threads, do="decode", context=max(1, context), generate=generate)

    def together(self, sequences, prompt, generate, threads):
        return self.rate(threads, do="together", sequences=sequences, prompt=prompt, generate=generate)

    def fresh(self, threads, use):
        worker = Worker(self.command(threads), threads, self.environment)
        try:
            return use(worker)
        finally:
            worker.close()

    def start(self, threads):
        # From within, so that starting Python and importing its library are not held against it.
        return self.fresh(threads, lambda worker: worker.started["first_token_seconds"])

    def resident(self, threads):
        def use(worker):
            worker.ask(do="prefill", tokens=512)
            return worker.ask(do="resident")["bytes"]
        return self.fresh(threads, use)

    def answer(self, threads):
        return self.worker(threads).ask(do="answer", text=CHAT, generate=12)["text"]

    def close(self):
        for worker in self.workers.values():
            worker.close()
        self.workers = {}


def refuse_vulkan(options):
    if options.isa == "vulkan":
        raise PeerFailure("runs on no Vulkan device")


class OpenVino(PythonPeer):
    name = "OpenVINO GenAI"
    weights = "the GGUF's, read by itself"

    def __init__(self, options):
        super().__init__()
        refuse_vulkan(options)
        self.python, self.gguf = install.openvino(options.cache), options.gguf
        self.version = install.OPENVINO[0].replace("==", " ")
        self.environment, self.precision, self.held = {}, [], "all that the machine has"
        if options.isa != "native":
            self.environment = {"ONEDNN_MAX_CPU_ISA": {"avx512": "AVX512_CORE_VNNI", "avx2": "AVX2"}[options.isa]}
            self.precision = ["f32"]
            self.held = "asked to: ONEDNN_MAX_CPU_ISA, and f32 inference; its MLAS f32 GEMM asks the processor itself"

    def command(self, threads):
        return [self.python, HERE / "openvino_worker.py", self.gguf, threads, *self.precision]


class OnnxRuntime(PythonPeer):
    name = "ONNX Runtime GenAI"
    weights = "int4 by its builder, asymmetric in groups of 32, head int8"

    def __init__(self, options):
        super().__init__()
        refuse_vulkan(options)
        self.python, self.folder = install.onnxruntime(options.cache, options.gguf)
        self.version = install.ONNXRUNTIME[0].replace("==", " ")
        self.held = "all that the machine has" if options.isa == "native" else "cannot be held: its kernels ask the processor"

    def command(self, threads):
        return [self.python, HERE / "onnxruntime_worker.py", self.folder, threads]


ALL = {"girih": Girih, "llama.cpp": LlamaCpp, "openvino": OpenVino, "onnxruntime": OnnxRuntime}
