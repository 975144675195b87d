# SPDX-License-Identifier: Apache-2.0
"""What is measured: one row of the table each."""
import dataclasses
import typing


@dataclasses.dataclass(frozen=True)
class Workload:
    name: str
    title: str
    unit: str
    measure: typing.Callable  # (contestant, threads) -> figure
    roof: str = ""            # "memory" or "compute": what bounds it
    threads: int = 0          # 0: as asked
    is_less_better: bool = False
    tokens: int = 0           # of prefill
    sequences: int = 1
    slow: bool = False        # left out by --quick


def decode(name, title, context, generate, **more):
    return Workload(name, title, "tok/s", lambda c, t: c.decode(context, generate, t), roof="memory", **more)


def together(sequences):
    return Workload(f"together_{sequences}", f"decode, {sequences} sequences (128 in, 64 out)", "tok/s",
                    lambda c, t: c.together(sequences, 128, 64, t), roof="memory", sequences=sequences, slow=sequences > 8)


def prefill(tokens, **more):
    name = f"prefill_{tokens}" + (f"_{more['threads']}t" if more.get("threads") else "")
    title = f"prefill of {tokens:,}" + (", one thread" if more.get("threads") else "")
    return Workload(name, title, "tok/s", lambda c, t: c.prefill(tokens, t), roof="compute", tokens=tokens,
                    slow=tokens > 512 or bool(more.get("threads")), **more)


def compiling(name, title, target):
    # Peers compile nothing, or do so whenever they start: that is in their start.
    return Workload(name, title, "s", lambda c, t: c.compile_seconds(target), is_less_better=True, slow=True)


ALL = [
    decode("decode", "decode, one sequence, short context", 16, 128),
    decode("decode_4096", "decode at 4,096 of context", 4096, 32, slow=True),
    together(8),
    together(16),
    prefill(32),
    prefill(512),
    prefill(2048),
    prefill(8000),
    decode("decode_1t", "decode, one thread", 16, 64, threads=1, slow=True),
    prefill(512, threads=1),
    Workload("start", "start to first token, from token ids", "ms", lambda c, t: 1000 * c.start(t), is_less_better=True),
    Workload("start_text", "start to first token, from text", "ms", lambda c, t: 1000 * c.start_from_text(t),
             is_less_better=True, slow=True),
    Workload("resident", "resident memory, 512 in and 16 out", "MB", lambda c, t: c.resident(t) / 1e6, is_less_better=True),
    compiling("compile_one", "compile, for this machine's best ISA", "cpu:native"),
    compiling("compile_all", "compile, for all of x86", "cpu"),
]
