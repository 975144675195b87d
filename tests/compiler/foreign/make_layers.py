# SPDX-License-Identifier: Apache-2.0
"""Writes attention layers as ONNX graphs and has another importer turn them into linalg.

    python3 -m venv judge && judge/bin/pip install iree-base-compiler[onnx]==3.13.0 onnx==1.23.2
    judge/bin/python make_layers.py [--keep FOLDER]       # rewrites *.mlir beside this script

The graphs are ours, spelled as exporters of PyTorch spell them; `iree-import-onnx` and `iree-compile
--compile-to=preprocessing` decide what linalg comes of them. What is stripped afterwards is that tool's frame, see
strip_frame.py. The test decode_layers.py needs neither tool.
"""
import argparse
import math
import pathlib
import subprocess
import sys
import tempfile

import numpy as np
import onnx
from onnx import TensorProto, helper

import strip_frame

HERE = pathlib.Path(__file__).resolve().parent
VOCAB_SIZE, HIDDEN_SIZE, HEAD_DIM, NUM_HEADS, MAX_POSITIONS = 11, 16, 8, 4, 64


class Builder:
    """Collects nodes; every method gives the name of what it adds."""

    def __init__(self):
        self.nodes, self.initializers, self.count = [], [], 0

    def add(self, op, *inputs, **attributes):
        self.count += 1
        name = f"v{self.count}"
        self.nodes.append(helper.make_node(op, list(inputs), [name], name=f"{op}_{self.count}", **attributes))
        return name

    def constant(self, values, dtype):
        array = np.asarray(values, dtype=dtype)
        return self.add("Constant", value=onnx.numpy_helper.from_array(array))

    def weight(self, name, shape):
        # The values stay outside of the graph; zeros are what the file holds of them.
        self.initializers.append(onnx.numpy_helper.from_array(np.zeros(shape, np.float32), name))
        return name

    def linear(self, x, name, width, depth=HIDDEN_SIZE):
        """x times the transpose of a weight [width, depth], as a linear layer of PyTorch is exported."""
        return self.add("MatMul", x, self.add("Transpose", self.weight(name, (width, depth)), perm=[1, 0]))


def split_heads(g, x, num_heads):
    """[B, S, N * D] -> [B, N, S, D]"""
    wide = g.add("Reshape", x, g.constant([0, 0, num_heads, HEAD_DIM], np.int64))
    return g.add("Transpose", wide, perm=[0, 2, 1, 3])


def rotate(g, x, cos, sin):
    """x [B, N, S, D]; cos, sin [S, D]; the second half of a head is rotated against the first."""
    half = g.constant([HEAD_DIM // 2], np.int64)
    begin, end, axis = (g.constant([value], np.int64) for value in (0, HEAD_DIM, 3))
    first, second = g.add("Slice", x, begin, half, axis), g.add("Slice", x, half, end, axis)
    turned = g.add("Concat", g.add("Neg", second), first, axis=3)
    return g.add("Add", g.add("Mul", x, cos), g.add("Mul", turned, sin))


def repeat_heads(g, x, times):
    """[B, G, S, D] -> [B, G * times, S, D], each kv head beside itself."""
    shape = g.add("Shape", x)
    dims = [g.add("Gather", shape, g.constant([i], np.int64)) for i in range(4)]
    copies = g.constant([times], np.int64)
    unit = g.add("Unsqueeze", x, g.constant([2], np.int64))
    wide = g.add("Expand", unit, g.add("Concat", dims[0], dims[1], copies, dims[2], dims[3], axis=0))
    merged = g.add("Concat", dims[0], g.add("Mul", dims[1], copies), dims[2], dims[3], axis=0)
    return g.add("Reshape", wide, merged)


def positions_of(g, ids):
    """[S] i64: 0, 1, .. S-1"""
    length = g.add("Gather", g.add("Shape", ids), g.constant(1, np.int64))
    return g.add("Range", g.constant(0, np.int64), length, g.constant(1, np.int64))


def attend(g, q, k, v, hidden, scale_first):
    """hidden [S, S]: true where a key is not seen."""
    if scale_first:  # the square root of the scale on both, as fused attention is decomposed
        root = g.constant(HEAD_DIM ** -0.25, np.float32)
        q, k = g.add("Mul", q, root), g.add("Mul", k, root)
    scores = g.add("MatMul", q, g.add("Transpose", k, perm=[0, 1, 3, 2]))
    if scale_first:
        bias = g.add("Where", hidden, g.constant(-math.inf, np.float32), g.constant(0.0, np.float32))
        scores = g.add("Add", scores, bias)
    else:
        scores = g.add("Div", scores, g.constant(math.sqrt(HEAD_DIM), np.float32))
        scores = g.add("Where", hidden, g.constant(-3.4e38, np.float32), scores)
    mixed = g.add("MatMul", g.add("Softmax", scores, axis=-1), v)
    joined = g.add("Transpose", mixed, perm=[0, 2, 1, 3])
    return g.add("Reshape", joined, g.constant([0, 0, NUM_HEADS * HEAD_DIM], np.int64))


def layer(num_kv_heads, *, has_rope, window):
    g = Builder()
    x = g.add("Gather", g.weight("embed", (VOCAB_SIZE, HIDDEN_SIZE)), "ids", axis=0)
    q = split_heads(g, g.linear(x, "q", NUM_HEADS * HEAD_DIM), NUM_HEADS)
    k = split_heads(g, g.linear(x, "k", num_kv_heads * HEAD_DIM), num_kv_heads)
    v = split_heads(g, g.linear(x, "v", num_kv_heads * HEAD_DIM), num_kv_heads)
    at = positions_of(g, "ids")
    if has_rope:
        frequency = [10000.0 ** (-2.0 * (d % (HEAD_DIM // 2)) / HEAD_DIM) for d in range(HEAD_DIM)]
        column = g.add("Cast", g.add("Unsqueeze", at, g.constant([1], np.int64)), to=TensorProto.FLOAT)
        angles = g.add("Mul", column, g.constant([frequency], np.float32))
        cos, sin = g.add("Cos", angles), g.add("Sin", angles)
        q, k = rotate(g, q, cos, sin), rotate(g, k, cos, sin)
    if num_kv_heads < NUM_HEADS:
        k, v = (repeat_heads(g, t, NUM_HEADS // num_kv_heads) for t in (k, v))
    queries, keys = (g.add("Unsqueeze", at, g.constant([axis], np.int64)) for axis in (1, 0))
    hidden = g.add("Greater", keys, queries)
    if window:
        too_far = g.add("LessOrEqual", g.add("Add", keys, g.constant(window, np.int64)), queries)
        hidden = g.add("Or", hidden, too_far)
    mixed = g.linear(attend(g, q, k, v, hidden, scale_first=not has_rope), "o", HIDDEN_SIZE, NUM_HEADS * HEAD_DIM)
    g.nodes.append(helper.make_node("MatMul", [g.add("Add", x, mixed), g.add(
        "Transpose", g.weight("head", (VOCAB_SIZE, HIDDEN_SIZE)), perm=[1, 0])], ["logits"]))
    graph = helper.make_graph(
        g.nodes, "layer", [helper.make_tensor_value_info("ids", TensorProto.INT64, ["batch", "sequence"])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", "sequence", VOCAB_SIZE])], g.initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)])
    onnx.checker.check_model(model)
    return onnx.shape_inference.infer_shapes(model)


LAYERS = {
    "plain_heads": lambda: layer(NUM_HEADS, has_rope=False, window=None),
    "shared_heads_rope_window": lambda: layer(2, has_rope=True, window=5),
}


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--keep", type=pathlib.Path, help="leave what each tool wrote in this folder")
    options = parser.parse_args()
    tools = pathlib.Path(sys.executable).parent
    with tempfile.TemporaryDirectory() as temporary:
        folder = options.keep or pathlib.Path(temporary)
        for name, make in LAYERS.items():
            onnx.save(make(), folder / f"{name}.onnx")
            imported, lowered = folder / f"{name}.imported.mlir", folder / f"{name}.preprocessed.mlir"
            subprocess.run([tools / "iree-import-onnx", folder / f"{name}.onnx", "-o", imported, "--externalize-params",
                            "--num-elements-threshold=100", "--save-params-to", folder / f"{name}.irpa"], check=True)
            subprocess.run([tools / "iree-compile", imported, "--compile-to=preprocessing", "-o", lowered], check=True)
            (HERE / f"{name}.mlir").write_text(strip_frame.strip(lowered.read_text(), name))


if __name__ == "__main__":
    main()
