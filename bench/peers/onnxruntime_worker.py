# SPDX-License-Identifier: Apache-2.0
"""ONNX Runtime GenAI on a converted model (see worker_protocol.py): onnxruntime_worker.py FOLDER THREADS"""
import json
import sys
import time

import numpy as np
import onnxruntime_genai as genai

from worker_protocol import serve


class Model:
    def __init__(self, folder, threads):
        config = genai.Config(folder)
        config.overlay(json.dumps({"model": {"decoder": {"session_options": {"intra_op_num_threads": threads}}}}))
        self.model = genai.Model(config)
        self.tokenizer = genai.Tokenizer(self.model)
        self.random = np.random.default_rng(1)

    def generate(self, ids, generate, may_stop=False):
        """(generator, seconds to the first token, seconds of the others)"""
        params = genai.GeneratorParams(self.model)
        most = ids.shape[1] + generate
        # min_length forbids the end of text: made-up prompts must not end early.
        params.set_search_options(max_length=most, min_length=0 if may_stop else most, batch_size=ids.shape[0], do_sample=False)
        generator = genai.Generator(self.model, params)
        begun = time.perf_counter()
        generator.append_tokens(ids)
        generator.generate_next_token()
        first = time.perf_counter()
        for _ in range(generate - 1):
            if generator.is_done():
                break
            generator.generate_next_token()
        return generator, first - begun, time.perf_counter() - first

    def made_up(self, sequences, tokens):
        return self.random.integers(1000, 40000, (sequences, tokens), dtype=np.int32)

    def prefill(self, tokens):
        return tokens / self.generate(self.made_up(1, tokens), 1)[1]

    def decode(self, context, generate):
        return generate / self.generate(self.made_up(1, context), generate + 1)[2]

    def together(self, sequences, prompt, generate):
        return sequences * generate / self.generate(self.made_up(sequences, prompt), generate + 1)[2]

    def answer(self, text, generate):
        ids = np.array([self.tokenizer.encode(text)], dtype=np.int32)
        generator = self.generate(ids, generate, may_stop=True)[0]
        return self.tokenizer.decode(generator.get_sequence(0)[ids.shape[1]:])


serve(lambda: Model(sys.argv[1], int(sys.argv[2])))
