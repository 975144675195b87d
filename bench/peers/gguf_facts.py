# SPDX-License-Identifier: Apache-2.0
"""What a GGUF file says of the work: multiplications a token, from its tensor table and its metadata."""
import os
import struct

SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
TEXT, ARRAY = 8, 9


class Facts:
    def __init__(self, path):
        self.file_bytes = os.path.getsize(path)
        with open(path, "rb") as file:
            self.blob = file.read(64 << 20)  # more than any header
        self.at = 8
        num_tensors, num_pairs = self.take("Q"), self.take("Q")
        values = {self.text(): self.value(self.take("I")) for _ in range(num_pairs)}
        architecture = values["general.architecture"]
        self.layers = values[f"{architecture}.block_count"]
        heads = values[f"{architecture}.attention.head_count"]
        self.query_width = values.get(f"{architecture}.attention.key_length",
                                      values[f"{architecture}.embedding_length"] // heads) * heads
        weights = {}
        for _ in range(num_tensors):
            name = self.text()
            extents = [self.take("Q") for _ in range(self.take("I"))]
            self.at += 12  # type and offset
            if len(extents) == 2:
                weights[name] = extents[0] * extents[1]
        self.layer_weights = sum(count for name, count in weights.items() if name.startswith("blk."))
        self.head_weights = weights.get("output.weight", weights.get("token_embd.weight", 0))

    def take(self, kind):
        (value,) = struct.unpack_from("<" + kind, self.blob, self.at)
        self.at += struct.calcsize("<" + kind)
        return value

    def text(self):
        length = self.take("Q")
        self.at += length
        return self.blob[self.at - length:self.at].decode(errors="replace")

    def value(self, kind):
        if kind == TEXT:
            return self.text()
        if kind != ARRAY:
            return self.take(SCALARS[kind])
        item, count = self.take("I"), self.take("Q")
        if item in SCALARS:
            self.at += count * struct.calcsize("<" + SCALARS[item])
            return None
        for _ in range(count):
            self.value(item)
        return None

    def prefill_operations(self, tokens):
        """Multiplies and adds of one prompt: layers for every token, causal attention, the head once."""
        attention = 4 * self.query_width * self.layers * tokens * (tokens + 1) / 2
        return 2 * self.layer_weights * tokens + attention + 2 * self.head_weights

    def decode_operations(self, sequences):
        return 2 * (self.layer_weights + self.head_weights) * sequences
