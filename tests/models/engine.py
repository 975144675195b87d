# SPDX-License-Identifier: Apache-2.0
"""The C API (runtime/abi/girih.h) from Python: an engine that many sequences share."""
import ctypes
import threading

import girih_cli

FINISH_STOP, FINISH_LENGTH = 0, 1


class EngineOptions(ctypes.Structure):
    _fields_ = [("struct_size", ctypes.c_uint64), ("num_threads", ctypes.c_int32), ("max_sequences", ctypes.c_uint32),
                ("max_context_tokens", ctypes.c_uint32), ("max_queued", ctypes.c_uint32), ("kv_bytes", ctypes.c_uint64),
                ("isa", ctypes.c_char_p)]


class Sampling(ctypes.Structure):
    _fields_ = [("struct_size", ctypes.c_uint64), ("temperature", ctypes.c_float), ("top_k", ctypes.c_int32),
                ("top_p", ctypes.c_float), ("min_p", ctypes.c_float), ("repetition_penalty", ctypes.c_float),
                ("reserved", ctypes.c_int32), ("seed", ctypes.c_uint64)]


class Finish(ctypes.Structure):
    _fields_ = [("struct_size", ctypes.c_uint64), ("reason", ctypes.c_int32), ("code", ctypes.c_int32), ("text", ctypes.c_char_p)]


class Stats(ctypes.Structure):
    _fields_ = [("struct_size", ctypes.c_uint64), ("num_steps", ctypes.c_uint64), ("num_shared_steps", ctypes.c_uint64),
                ("rest", ctypes.c_uint64 * 7)]


ON_TOKENS = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_uint64, ctypes.POINTER(ctypes.c_int32), ctypes.c_uint64)
ON_FINISH = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_uint64, ctypes.POINTER(Finish))


class Request(ctypes.Structure):
    _fields_ = [("struct_size", ctypes.c_uint64), ("prompt_tokens", ctypes.POINTER(ctypes.c_int32)),
                ("num_prompt_tokens", ctypes.c_uint64), ("max_tokens", ctypes.c_uint32), ("reserved", ctypes.c_uint32),
                ("sampling", ctypes.POINTER(Sampling)), ("stop_tokens", ctypes.POINTER(ctypes.c_int32)),
                ("num_stop_tokens", ctypes.c_uint64), ("on_tokens", ON_TOKENS), ("on_finish", ON_FINISH),
                ("context", ctypes.c_void_p)]


def sized(kind, **fields):
    return kind(struct_size=ctypes.sizeof(kind), **fields)


class Engine:
    """`with Engine(path) as engine`; options: threads, isa."""

    def __init__(self, path, threads=0, isa=None):
        self.library = ctypes.CDLL(str(girih_cli.BUILD / "lib" / "libgirih_runtime.so"))
        self.program, self.engine = ctypes.c_void_p(), ctypes.c_void_p()
        self.call("girih_program_open", str(path).encode(), ctypes.byref(self.program))
        options = sized(EngineOptions, num_threads=threads, isa=isa.encode() if isa else None)
        self.call("girih_engine_create", self.program, ctypes.byref(options), ctypes.byref(self.engine))

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.library.girih_engine_destroy(self.engine)
        self.library.girih_program_close(self.program)

    def call(self, name, *arguments):
        code = getattr(self.library, name)(*arguments, None)
        if code != 0:
            raise girih_cli.Failure(f"{name} returned {code}")

    def generate(self, prompts, max_tokens, temperature=1.0):
        """The answers, as token ids; all prompts are submitted at once, each samples by its own seed."""
        outputs, failures, waiting = [[] for _ in prompts], [], threading.Semaphore(0)
        kept = []  # what C holds pointers to

        def submit(index, prompt):
            def on_tokens(_context, _id, tokens, count):
                outputs[index] += tokens[:count]

            def on_finish(_context, _id, finish):
                if finish.contents.reason not in (FINISH_STOP, FINISH_LENGTH):
                    failures.append(finish.contents.text)
                waiting.release()

            tokens = (ctypes.c_int32 * len(prompt))(*prompt)
            sampling = sized(Sampling, temperature=temperature, seed=sum(prompt))
            request = sized(Request, prompt_tokens=tokens, num_prompt_tokens=len(prompt), max_tokens=max_tokens,
                            sampling=ctypes.pointer(sampling), on_tokens=ON_TOKENS(on_tokens), on_finish=ON_FINISH(on_finish))
            kept.append(request)
            self.call("girih_engine_submit", self.engine, ctypes.byref(request), ctypes.byref(ctypes.c_uint64()))

        for index, prompt in enumerate(prompts):
            submit(index, prompt)
        for _ in prompts:
            if not waiting.acquire(timeout=300):
                raise girih_cli.Failure("a request did not finish within 300 s")
        if failures:
            raise girih_cli.Failure(f"requests failed: {failures}")
        return outputs

    def num_shared_steps(self):
        stats = sized(Stats)
        self.call("girih_engine_query", self.engine, ctypes.byref(stats))
        return stats.num_shared_steps
