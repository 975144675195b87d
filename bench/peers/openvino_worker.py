# SPDX-License-Identifier: Apache-2.0
"""OpenVINO GenAI on the GGUF itself (see worker_protocol.py): openvino_worker.py GGUF THREADS [f32]"""
import sys
import time

import numpy as np
import openvino as ov
import openvino_genai as genai

from worker_protocol import serve


class Model:
    def __init__(self, gguf, threads, precision):
        properties = {"INFERENCE_NUM_THREADS": threads}
        if precision:
            properties["INFERENCE_PRECISION_HINT"] = precision  # f32 keeps its matrix units (AMX) out
        self.pipeline = genai.LLMPipeline(gguf, "CPU", **properties)
        self.random = np.random.default_rng(1)

    def generate(self, sequences, prompt, generate):
        # Random prompts, so that no prefix is found in a cache.
        ids = self.random.integers(1000, 40000, (sequences, prompt), dtype=np.int64)
        config = genai.GenerationConfig(max_new_tokens=generate, ignore_eos=True, do_sample=False)
        inputs = genai.TokenizedInputs(ov.Tensor(ids), ov.Tensor(np.ones_like(ids)))
        begun = time.perf_counter()
        metrics = self.pipeline.generate(inputs, config).perf_metrics
        return time.perf_counter() - begun, metrics

    def prefill(self, tokens):
        return 1000 * tokens / self.generate(1, tokens, 1)[1].get_ttft().mean

    def decode(self, context, generate):
        return 1000 / self.generate(1, context, generate + 1)[1].get_tpot().mean

    def together(self, sequences, prompt, generate):
        # Its sequences get their first tokens at different times, so prefill alone is taken off.
        prefill = self.generate(sequences, prompt, 1)[0]
        return sequences * generate / (self.generate(sequences, prompt, generate + 1)[0] - prefill)

    def answer(self, text, generate):
        return str(self.pipeline.generate(text, max_new_tokens=generate, do_sample=False, apply_chat_template=False))


serve(lambda: Model(sys.argv[1], int(sys.argv[2]), sys.argv[3] if len(sys.argv) > 3 else ""))
