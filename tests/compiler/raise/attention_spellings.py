# SPDX-License-Identifier: Apache-2.0
"""One causal attention layer in many spellings: each is raised, given its cache, and computes the same.

    attention_spellings.py [--count N] [--seed S] [--print SPELLING_SEED]

A spelling is a random choice of: where the scale stands, how the mask is made and applied, how softmax is written,
how K is transposed, how kv heads are shared, the layout, a window, a soft cap, a batch of one. For each, girih-opt
must find one `girih.attention` with the right attributes and cache it, and girih-reference must give the logits of
the uncached spelling from the raised graph, from the cached one, and from every prefix of the tokens alone.
"""
import argparse
import math
import os
import pathlib
import random
import struct
import subprocess
import sys
import tempfile

BUILD = pathlib.Path(os.environ.get("GIRIH_BUILD", "build"))
GIRIH_OPT = BUILD / "bin" / "girih-opt"
GIRIH_REFERENCE = BUILD / "bin" / "girih-reference"
NUM_CHANNELS, HIDDEN_SIZE, VOCAB_SIZE = 8, 16, 11
TOKENS = [3, 1, 4, 1, 5, 9, 2]
NEGATIVE_INFINITY = "0xFF800000"


class Graph:
    """Writes MLIR text. A value is (name, shape, element); a shape holds numbers and "?"."""

    def __init__(self, rng):
        self.rng, self.lines, self.count = rng, [], 0

    def fresh(self):
        self.count += 1
        return f"%v{self.count}"

    def emit(self, text):
        self.lines.append("  " + text)

    @staticmethod
    def type_of(shape, element="f32"):
        return "tensor<" + "".join(f"{extent}x" for extent in shape) + element + ">"

    def empty(self, shape, element="f32"):
        name = self.fresh()
        sizes = ", ".join("%t" for extent in shape if extent == "?")
        self.emit(f"{name} = tensor.empty({sizes}) : {self.type_of(shape, element)}")
        return name

    def fill(self, shape, number):
        empty, constant, name = self.empty(shape), self.scalar(number), self.fresh()
        type_ = self.type_of(shape)
        self.emit(f"{name} = linalg.fill ins({constant} : f32) outs({empty} : {type_}) -> {type_}")
        return name

    def scalar(self, number, element="f32"):
        name = self.fresh()
        text = number if isinstance(number, str) else (f"{number:.12e}" if element[0] == "f" else str(number))
        self.emit(f"{name} = arith.constant {text} : {element}")
        return name

    def generic(self, inputs, shape, body, *, loops=None, maps=None, init=None, reductions=(), element="f32"):
        """inputs: (value, dims) with dims the loops that index it; body: name list -> (lines, result)."""
        loops = loops or len(shape)
        out_dims = maps if maps is not None else list(range(len(shape)))
        out = init or self.empty(shape, element)
        name = self.fresh()
        dims = ", ".join(f"d{i}" for i in range(loops))
        all_maps = ", ".join(
            f"affine_map<({dims}) -> ({', '.join(f'd{i}' for i in which)})>"
            for which in [d for _, d in inputs] + [out_dims])
        kinds = ", ".join('"reduction"' if i in reductions else '"parallel"' for i in range(loops))
        out_type = self.type_of(shape, element)
        ins = ""
        if inputs:
            ins = (f"ins({', '.join(v[0] for v, _ in inputs)} : "
                   f"{', '.join(self.type_of(v[1], v[2]) for v, _ in inputs)}) ")
        arguments = [self.fresh() for _ in inputs] + [self.fresh()]
        lines, result = body(arguments)
        elements = [v[2].split(",")[0] for v, _ in inputs] + [element]
        self.emit(f"{name} = linalg.generic {{indexing_maps = [{all_maps}], iterator_types = [{kinds}]}} "
                  f"{ins}outs({out} : {out_type}) {{")
        self.emit(f"^bb0({', '.join(f'{a}: {e}' for a, e in zip(arguments, elements))}):")
        for line in lines:
            self.emit("  " + line)
        self.emit(f"  linalg.yield {result} : {element}")
        self.emit(f"}} -> {out_type}")
        return (name, shape, element)

    def map(self, inputs, shape, *operations):
        """Elementwise: each operation is a format string over {0}, {1}, ... (inputs) and {last}."""
        def body(arguments):
            lines, last = [], arguments[0]
            for text in operations:
                name = self.fresh()
                lines.append(f"{name} = " + text.format(*arguments, last=last))
                last = name
            return lines, last
        return self.generic(inputs, shape, body)

    def contract(self, a, a_dims, b, b_dims, shape, out_dims, loops):
        reductions = [loop for loop in range(loops) if loop not in out_dims]
        product, total = self.fresh(), self.fresh()
        return self.generic(
            [(a, a_dims), (b, b_dims)], shape,
            lambda v: ([f"{product} = arith.mulf {v[0]}, {v[1]} : f32", f"{total} = arith.addf {v[2]}, {product} : f32"],
                       total),
            loops=loops, maps=out_dims, init=self.fill(shape, 0), reductions=reductions)

    def transpose(self, value, permutation):
        name, shape, element = value
        result_shape = [shape[i] for i in permutation]
        if self.rng.random() < 0.5:
            inverse = [permutation.index(i) for i in range(len(permutation))]
            return self.generic([(value, inverse)], result_shape, lambda v: ([], v[0]))
        empty, result = self.empty(result_shape), self.fresh()
        self.emit(f"{result} = linalg.transpose ins({name} : {self.type_of(shape)}) "
                  f"outs({empty} : {self.type_of(result_shape)}) permutation = {list(permutation)}")
        return (result, result_shape, element)

    def reshape(self, value, shape, groups):
        name, old, element = value
        result = self.fresh()
        kind = "expand_shape" if len(shape) > len(old) else "collapse_shape"
        sizes = ""
        if kind == "expand_shape":
            sizes = " output_shape [" + ", ".join("%t" if extent == "?" else str(extent) for extent in shape) + "]"
        self.emit(f"{result} = tensor.{kind} {name} {groups}{sizes} : {self.type_of(old)} into {self.type_of(shape)}")
        return (result, shape, element)


class Spelling:
    """The choices of one spelling, and the graph that they give."""

    def __init__(self, seed, mutation=None):
        rng = self.rng = random.Random(seed)
        self.mutation = mutation
        self.num_kv_heads = rng.choice([1, 2, 4])
        self.group = rng.choice([1, 2, 3])
        self.num_heads = self.num_kv_heads * self.group
        self.window = rng.choice([None, None, 1, 3])
        self.cap = rng.choice([None, None, 5.0])
        self.scale_at = rng.choice(["q", "k", "scores", "divided", "both"])
        self.mask = rng.choice(["select", "select_hidden", "add", "add_bool", "add_lowest", "i1_tensor", "constant"])
        self.compare = rng.choice(["u<=t", "t>=u", "not u>t", "t-u>=0", "i32", "f32"])
        self.softmax = rng.choice(["op", "steps", "one_body", "no_max", "reciprocal"])
        self.layout = rng.choice(["heads_first", "tokens_first"])
        self.k_transposed = rng.choice([True, False])
        self.sharing = rng.choice(["broadcast", "repeat", "reshape"]) if self.group > 1 else "none"
        self.batch = rng.choice([False, True])
        self.entry = rng.choice(["sequence", "batch"])
        self.scale = 1 / math.sqrt(NUM_CHANNELS)

    def __str__(self):
        keys = ("num_kv_heads", "group", "window", "cap", "scale_at", "mask", "compare", "softmax", "layout",
                "k_transposed", "sharing", "batch", "entry", "mutation")
        return " ".join(f"{key}={getattr(self, key)}" for key in keys)

    # ---- the parts ----

    def seen(self, query_dim, key_dim):
        """Lines that give %seen: key u is seen by query t."""
        lines = [f"%t_at = linalg.index {query_dim} : index", f"%u_at = linalg.index {key_dim} : index"]
        if self.mutation == "future":
            lines.append("%seen_a = arith.cmpi sge, %u_at, %t_at : index")
        elif self.mutation == "off_by_one":
            lines += ["%one = arith.constant 1 : index", "%u_before = arith.subi %u_at, %one : index",
                      "%seen_a = arith.cmpi sle, %u_before, %t_at : index"]
        elif self.compare == "u<=t":
            lines.append("%seen_a = arith.cmpi sle, %u_at, %t_at : index")
        elif self.compare == "t>=u":
            lines.append("%seen_a = arith.cmpi sge, %t_at, %u_at : index")
        elif self.compare == "not u>t":
            lines += ["%later = arith.cmpi sgt, %u_at, %t_at : index", "%true = arith.constant true",
                      "%seen_a = arith.xori %later, %true : i1"]
        elif self.compare == "t-u>=0":
            lines += ["%ago = arith.subi %t_at, %u_at : index", "%zero_at = arith.constant 0 : index",
                      "%seen_a = arith.cmpi sge, %ago, %zero_at : index"]
        elif self.compare == "i32":
            lines += ["%t_i = arith.index_cast %t_at : index to i32", "%u_i = arith.index_cast %u_at : index to i32",
                      "%seen_a = arith.cmpi sle, %u_i, %t_i : i32"]
        else:
            lines += ["%t_i = arith.index_cast %t_at : index to i32", "%u_i = arith.index_cast %u_at : index to i32",
                      "%t_f = arith.sitofp %t_i : i32 to f32", "%u_f = arith.sitofp %u_i : i32 to f32",
                      "%seen_a = arith.cmpf ole, %u_f, %t_f : f32"]
        if self.window is None:
            return [line.replace("%seen_a", "%seen") for line in lines]
        lines += [f"%width = arith.constant {self.window} : index", "%distance = arith.subi %t_at, %u_at : index",
                  "%near = arith.cmpi slt, %distance, %width : index", "%seen = arith.andi %seen_a, %near : i1"]
        return lines

    def mask_scores(self, g, scores, query_dim, key_dim):
        """Hides later keys; the scores' dimensions of queries and keys are given."""
        shape, dims = scores[1], list(range(len(scores[1])))
        hidden = g.scalar(NEGATIVE_INFINITY)
        if self.mutation == "no_mask":
            return scores
        if self.mask in ("select", "select_hidden"):
            if self.mask == "select":
                last = [f"%kept = arith.select %seen, {{0}}, {hidden} : f32"]
            else:
                last = ["%yes = arith.constant true", "%hide = arith.xori %seen, %yes : i1",
                        f"%kept = arith.select %hide, {hidden}, {{0}} : f32"]
            return g.generic([(scores, dims)], shape,
                             lambda v: (self.seen(query_dim, key_dim) + [line.format(v[0]) for line in last], "%kept"))
        if self.mask == "i1_tensor":
            truth = g.generic([], ["?", "?"], lambda v: (self.seen(0, 1), "%seen"), element="i1")
            return g.generic([(truth, [query_dim, key_dim]), (scores, dims)], shape,
                             lambda v: ([f"%kept = arith.select {v[0]}, {v[1]}, {hidden} : f32"], "%kept"))
        zero = g.scalar(0)
        if self.mask == "add":
            bias = g.generic([], ["?", "?"],
                             lambda v: (self.seen(0, 1) + [f"%bias = arith.select %seen, {zero}, {hidden} : f32"], "%bias"))
        elif self.mask == "add_bool":
            lowest = g.scalar(-1e30)
            bias = g.generic([], ["?", "?"], lambda v: (
                self.seen(0, 1) + ["%number = arith.uitofp %seen : i1 to f32", "%unit = arith.constant 1.0 : f32",
                                   "%is_hidden = arith.subf %unit, %number : f32",
                                   f"%bias = arith.mulf %is_hidden, {lowest} : f32"], "%bias"))
        elif self.mask == "add_lowest":
            lowest = g.scalar(-3.0e38)
            bias = g.generic([], ["?", "?"],
                             lambda v: (self.seen(0, 1) + [f"%bias = arith.select %seen, {zero}, {lowest} : f32"], "%bias"))
        else:
            bias = self.constant_mask(g)
        return g.map([(scores, dims), (bias, [query_dim, key_dim])], shape, "arith.addf {0}, {1} : f32")

    def constant_mask(self, g):
        """A table of a fixed extent, of which the step's part is sliced."""
        extent = 32
        def number(t, u):
            seen = {"future": u >= t, "off_by_one": u - 1 <= t}.get(self.mutation, u <= t)
            return "0.0" if seen and (self.window is None or t - u < self.window) else "-1.0e30"
        rows = ", ".join("[" + ", ".join(number(t, u) for u in range(extent)) + "]" for t in range(extent))
        table, name = g.fresh(), g.fresh()
        g.emit(f"{table} = arith.constant dense<[{rows}]> : tensor<{extent}x{extent}xf32>")
        g.emit(f"{name} = tensor.extract_slice {table}[0, 0] [%t, %t] [1, 1] : tensor<{extent}x{extent}xf32> to tensor<?x?xf32>")
        return (name, ["?", "?"], "f32")

    def soften(self, g, scores):
        """Softmax over the last dimension."""
        name, shape, _ = scores
        rank = len(shape)
        dims, outer = list(range(rank)), list(range(rank - 1))
        axis = rank - 1
        if self.mutation == "wrong_axis":
            axis, outer = rank - 2, [*range(rank - 2), rank - 1]
        outer_shape = [shape[i] for i in outer]
        if self.softmax == "op":
            empty, result = g.empty(shape), g.fresh()
            g.emit(f"{result} = linalg.softmax dimension({axis}) ins({name} : {g.type_of(shape)}) "
                   f"outs({empty} : {g.type_of(shape)}) -> {g.type_of(shape)}")
            return (result, shape, "f32")
        if self.softmax == "no_max":
            powers = g.map([(scores, dims)], shape, "math.exp {0} : f32")
        else:
            highest = g.generic([(scores, dims)], outer_shape,
                                lambda v: ([f"%high = arith.maximumf {v[1]}, {v[0]} : f32"], "%high"),
                                loops=rank, maps=outer, init=g.fill(outer_shape, NEGATIVE_INFINITY), reductions=[axis])
            if self.softmax == "one_body":
                powers = g.map([(scores, dims), (highest, outer)], shape, "arith.subf {0}, {1} : f32",
                               "math.exp {last} : f32")
            else:
                shifted = g.map([(scores, dims), (highest, outer)], shape, "arith.subf {0}, {1} : f32")
                powers = g.map([(shifted, dims)], shape, "math.exp {0} : f32")
        total = g.generic([(powers, dims)], outer_shape,
                          lambda v: ([f"%sum = arith.addf {v[0]}, {v[1]} : f32"], "%sum"),
                          loops=rank, maps=outer, init=g.fill(outer_shape, 0), reductions=[axis])
        if self.softmax == "reciprocal":
            one = g.scalar(1)
            inverse = g.map([(total, list(range(rank - 1)))], outer_shape, f"arith.divf {one}, {{0}} : f32")
            return g.map([(powers, dims), (inverse, outer)], shape, "arith.mulf {0}, {1} : f32")
        return g.map([(powers, dims), (total, outer)], shape, "arith.divf {0}, {1} : f32")

    def scaled(self, g, value, factor):
        constant = g.scalar(factor)
        return g.map([(value, list(range(len(value[1]))))], value[1], f"arith.mulf {{0}}, {constant} : f32")

    def adjust_scores(self, g, scores):
        if self.scale_at == "scores":
            scores = self.scaled(g, scores, self.scale)
        elif self.scale_at == "divided":
            root, four = g.fresh(), g.scalar(NUM_CHANNELS)
            g.emit(f"{root} = math.sqrt {four} : f32")
            scores = g.map([(scores, list(range(len(scores[1]))))], scores[1], f"arith.divf {{0}}, {root} : f32")
        if self.cap is not None:
            cap = g.scalar(self.cap)
            scores = g.map([(scores, list(range(len(scores[1]))))], scores[1], f"arith.divf {{0}}, {cap} : f32",
                           "math.tanh {last} : f32", f"arith.mulf {{last}}, {cap} : f32")
        return scores

    def repeat(self, g, value, head_dim):
        """[.., G, ..] -> [.., H, ..] with each kv head beside itself."""
        if self.group == 1:
            return value
        shape = value[1]
        wide = shape[:head_dim + 1] + [self.group] + shape[head_dim + 1:]
        kept = [i for i in range(len(wide)) if i != head_dim + 1]
        if self.sharing == "repeat":
            unit = shape[:head_dim + 1] + [1] + shape[head_dim + 1:]
            groups = [[i] for i in range(head_dim)] + [[head_dim, head_dim + 1]] + \
                     [[i + 1] for i in range(head_dim + 1, len(shape))]
            single, name = g.reshape(value, unit, groups), g.fresh()
            copies = ", ".join([single[0]] * self.group)
            types = ", ".join([g.type_of(unit)] * self.group)
            g.emit(f"{name} = tensor.concat dim({head_dim + 1}) {copies} : ({types}) -> {g.type_of(wide)}")
            repeated = (name, wide, "f32")
        else:
            repeated = g.generic([(value, kept)], wide, lambda v: ([], v[0]))
        merged = shape[:head_dim] + [self.num_heads] + shape[head_dim + 1:]
        groups = [[i] for i in range(head_dim)] + [[head_dim, head_dim + 1]] + \
                 [[i + 1] for i in range(head_dim + 1, len(shape))]
        return g.reshape(repeated, merged, groups)

    def attend(self, g, q, k, v):
        """q [T, H, D], k and v [T, G, D] -> [T, H * D]."""
        if self.scale_at == "both":
            q, k = self.scaled(g, q, math.sqrt(self.scale)), self.scaled(g, k, math.sqrt(self.scale))
        elif self.scale_at == "q":
            q = self.scaled(g, q, self.scale)
        elif self.scale_at == "k":
            k = self.scaled(g, k, self.scale)
        if self.sharing == "reshape":
            return self.attend_grouped(g, q, k, v)
        k, v = self.repeat(g, k, 1), self.repeat(g, v, 1)
        if self.mutation == "shifted_values":
            v = self.shift(g, v)
        if self.layout == "tokens_first":
            mixed = self.attend_tokens_first(g, q, k, v)
        else:
            mixed = self.attend_heads_first(g, q, k, v)
        return g.reshape(mixed, ["?", self.num_heads * NUM_CHANNELS], [[0], [1, 2]])

    def shift(self, g, v):
        """Values of the token before: a convolution over tokens."""
        _, h, d = v[1]
        name, _, _ = v
        def body(arguments):
            return ([f"%at = linalg.index 0 : index", "%h_at = linalg.index 1 : index", "%d_at = linalg.index 2 : index",
                     "%one_s = arith.constant 1 : index", "%zero_s = arith.constant 0 : index",
                     "%before = arith.subi %at, %one_s : index", "%row = arith.maxsi %before, %zero_s : index",
                     f"%read = tensor.extract {name}[%row, %h_at, %d_at] : {g.type_of(v[1])}"], "%read")
        return g.generic([], v[1], body)

    def attend_tokens_first(self, g, q, k, v):
        """Contractions over [T, H, D] as it lies; scores [H, T, T]."""
        h = self.num_heads
        scores = g.contract(q, [1, 0, 3], k, [2, 0, 3], [h, "?", "?"], [0, 1, 2], 4)
        weights = self.soften(g, self.mask_scores(g, self.adjust_scores(g, scores), 1, 2))
        self.weights = weights
        return g.contract(weights, [1, 0, 3], v, [3, 1, 2], ["?", h, NUM_CHANNELS], [0, 1, 2], 4)

    def attend_heads_first(self, g, q, k, v):
        """Batched matmuls over [H, T, D], or [1, H, T, D]."""
        h, d = self.num_heads, NUM_CHANNELS
        q, k, v = (g.transpose(x, [1, 0, 2]) for x in (q, k, v))
        lead = []
        if self.batch:
            q, k, v = (g.reshape(x, [1, *x[1]], [[0, 1], [2], [3]]) for x in (q, k, v))
            lead = [1]
        n = len(lead)
        head = list(range(n + 1))
        if self.k_transposed:
            k = g.transpose(k, [*head, n + 2, n + 1])
            k_dims = [*head, n + 3, n + 2]
        else:
            k_dims = [*head, n + 2, n + 3]
        shape = [*lead, h, "?", "?"]
        if self.k_transposed and not self.batch and self.rng.random() < 0.5:
            init, name = g.fill(shape, 0), g.fresh()
            g.emit(f"{name} = linalg.batch_matmul ins({q[0]}, {k[0]} : {g.type_of(q[1])}, {g.type_of(k[1])}) "
                   f"outs({init} : {g.type_of(shape)}) -> {g.type_of(shape)}")
            scores = (name, shape, "f32")
        else:
            scores = g.contract(q, [*head, n + 1, n + 3], k, k_dims, shape, [*head, n + 1, n + 2], n + 4)
        weights = self.soften(g, self.mask_scores(g, self.adjust_scores(g, scores), n + 1, n + 2))
        self.weights = weights
        out = [*lead, h, "?", d]
        # loops: lead, head, t, d, u
        mixed = g.contract(weights, [*head, n + 1, n + 3], v, [*head, n + 3, n + 2], out, [*head, n + 1, n + 2], n + 4)
        mixed = g.transpose(mixed, [*range(n), n + 1, n, n + 2])
        return g.reshape(mixed, ["?", h, d], [[0, 1], [2], [3]]) if self.batch else mixed

    def attend_grouped(self, g, q, k, v):
        """Queries as [T, G, R, D]: kv heads are never repeated."""
        n, r, d = self.num_kv_heads, self.group, NUM_CHANNELS
        q = g.reshape(q, ["?", n, r, d], [[0], [1, 2], [3]])
        if self.mutation == "shifted_values":
            v = self.shift(g, v)
        # loops: g, r, t, u, d
        scores = g.contract(q, [2, 0, 1, 4], k, [3, 0, 4], [n, r, "?", "?"], [0, 1, 2, 3], 5)
        weights = self.soften(g, self.mask_scores(g, self.adjust_scores(g, scores), 2, 3))
        self.weights = weights
        # loops: t, g, r, d, u
        mixed = g.contract(weights, [1, 2, 0, 4], v, [4, 1, 3], ["?", n, r, d], [0, 1, 2, 3], 5)
        return g.reshape(mixed, ["?", n * r * d], [[0], [1, 2, 3]])

    # ---- the model around it ----

    def weights_of_model(self):
        rng = random.Random(7)
        sizes = {"embed": (VOCAB_SIZE, HIDDEN_SIZE), "q": (self.num_heads * NUM_CHANNELS, HIDDEN_SIZE),
                 "k": (self.num_kv_heads * NUM_CHANNELS, HIDDEN_SIZE), "v": (self.num_kv_heads * NUM_CHANNELS, HIDDEN_SIZE),
                 "o": (HIDDEN_SIZE, self.num_heads * NUM_CHANNELS), "head": (VOCAB_SIZE, HIDDEN_SIZE)}
        return {name: (shape, [rng.gauss(0, 0.7) for _ in range(shape[0] * shape[1])]) for name, shape in sizes.items()}

    def text(self, entry="sequence"):
        """The whole graph; with the entry "batch", of i64 tokens [B, S] that it flattens itself."""
        g = Graph(random.Random(str(self)))
        stored = '#girih.storage<"f32">'
        weights = self.weights_of_model()
        for name, (shape, _) in weights.items():
            g.emit(f'%w_{name} = girih.weight "{name}" : tensor<{shape[0]}x{shape[1]}xf32, {stored}>')
        def project(x, name):
            n, k = weights[name][0]
            return g.contract(x, [0, 2], (f"%w_{name}", [n, k], f"f32, {stored}"), [1, 2], ["?", n], [0, 1], 3)
        tokens = ("%tokens", ["?"], "i32")
        x = g.generic([(tokens, [0])], ["?", HIDDEN_SIZE], lambda v: (
            [f"%row_at = arith.index_cast {v[0]} : i32 to index", "%column_at = linalg.index 1 : index",
             f"%looked_up = tensor.extract %w_embed[%row_at, %column_at] : tensor<{VOCAB_SIZE}x{HIDDEN_SIZE}xf32, {stored}>"],
            "%looked_up"))
        heads = [[0], [1, 2]]
        q = g.reshape(project(x, "q"), ["?", self.num_heads, NUM_CHANNELS], heads)
        k = g.reshape(project(x, "k"), ["?", self.num_kv_heads, NUM_CHANNELS], heads)
        v = g.reshape(project(x, "v"), ["?", self.num_kv_heads, NUM_CHANNELS], heads)
        mixed = project(self.attend(g, q, k, v), "o")
        if self.mutation == "running_sum":
            mixed = self.running_sum(g, mixed)
        y = g.map([(x, [0, 1]), (mixed, [0, 1])], ["?", HIDDEN_SIZE], "arith.addf {0}, {1} : f32")
        logits = project(y, "head")
        results, types = logits[0], f"tensor<?x{VOCAB_SIZE}xf32>"
        if self.mutation == "used_twice":
            results += f", {self.weights[0]}"
            types = f"({types}, {g.type_of(self.weights[1])})"
        body = "\n".join(g.lines)
        if entry == "batch":
            wide = f"tensor<?x?x{VOCAB_SIZE}xf32>"
            return (f"func.func @main(%batch: tensor<?x?xi64>, %batch_positions: tensor<?x?xi64>) -> {wide} {{\n"
                    "  %c0 = arith.constant 0 : index\n  %c1 = arith.constant 1 : index\n"
                    "  %b = tensor.dim %batch, %c0 : tensor<?x?xi64>\n  %s = tensor.dim %batch, %c1 : tensor<?x?xi64>\n"
                    "  %ids = tensor.collapse_shape %batch [[0, 1]] : tensor<?x?xi64> into tensor<?xi64>\n"
                    "  %tokens = arith.trunci %ids : tensor<?xi64> to tensor<?xi32>\n"
                    "  %t = tensor.dim %ids, %c0 : tensor<?xi64>\n"
                    f"{body}\n"
                    f"  %wide = tensor.expand_shape {results} [[0, 1], [2]] output_shape [%b, %s, {VOCAB_SIZE}] : "
                    f"{types} into {wide}\n  return %wide : {wide}\n}}\n")
        return (f"func.func @main(%tokens: tensor<?xi32>, %positions: tensor<?xi32>) -> {types} {{\n"
                f"  %c0 = arith.constant 0 : index\n  %t = tensor.dim %tokens, %c0 : tensor<?xi32>\n{body}\n"
                f"  return {results} : {types.strip('()')}\n}}\n")

    def running_sum(self, g, x):
        """y[t] = sum over u <= t of x[u]."""
        width = x[1][1]
        return g.generic([(x, [2, 1])], ["?", width], lambda v: (
            ["%at_t = linalg.index 0 : index", "%at_u = linalg.index 2 : index",
             "%past = arith.cmpi sle, %at_u, %at_t : index", "%nothing = arith.constant 0.0 : f32",
             f"%part = arith.select %past, {v[0]}, %nothing : f32", f"%summed = arith.addf {v[1]}, %part : f32"], "%summed"),
            loops=3, maps=[0, 1], init=g.fill(["?", width], 0), reductions=[2])


def write_gguf(path, tensors):
    """The smallest GGUF file that holds f32 tensors."""
    def text(s):
        return struct.pack("<Q", len(s)) + s.encode()
    infos, blob = b"", b""
    for name, (shape, values) in tensors.items():
        infos += text(name) + struct.pack("<I", 2) + struct.pack("<QQ", shape[1], shape[0]) + struct.pack("<IQ", 0, len(blob))
        data = struct.pack(f"<{len(values)}f", *values)
        blob += data + b"\0" * (-len(data) % 32)
    key = text("general.architecture") + struct.pack("<I", 8) + text("spelling")
    head = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), 1) + key + infos
    path.write_bytes(head + b"\0" * (-len(head) % 32) + blob)


def run(*command):
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, timeout=60)
    return done.returncode, done.stdout, done.stderr


def logits_of(folder, graph, tokens):
    out = folder / "logits.npy"
    code, _, errors = run(GIRIH_REFERENCE, folder / "weights.gguf", "--graph", graph, "--tokens",
                          ",".join(map(str, tokens)), "--dump-logits", out, "--f64")
    if code:
        raise AssertionError(f"girih-reference: {errors}")
    data = out.read_bytes()
    start = 10 + struct.unpack("<H", data[8:10])[0]
    flat = struct.unpack(f"<{(len(data) - start) // 8}d", data[start:])
    return [flat[i:i + VOCAB_SIZE] for i in range(0, len(flat), VOCAB_SIZE)]


def largest_difference(left, right):
    return max(abs(a - b) for x, y in zip(left, right) for a, b in zip(x, y))


def check_spelling(seed, folder):
    """What is wrong with a spelling's way up the ladder, or None."""
    spelling = Spelling(seed)
    source, raised, cached = folder / "source.mlir", folder / "raised.mlir", folder / "cached.mlir"
    source.write_text(spelling.text())
    entered = folder / "entered.mlir"
    entered.write_text(spelling.text(spelling.entry))
    code, _, errors = run(GIRIH_OPT, entered, "-girih-import", "-girih-raise", "-o", raised)
    if code or "not raised" in errors:
        return f"raise: {errors}"
    text = raised.read_text()
    if text.count("girih.attention") != 1:
        return f"found {text.count('girih.attention')} attentions"
    attributes = text.split("girih.attention")[1].split("}")[0]
    if (f"window = {spelling.window}" in attributes) != (spelling.window is not None):
        return f"window: {attributes}"
    if ("soft_cap" in attributes) != (spelling.cap is not None):
        return f"soft cap: {attributes}"
    if f"x{spelling.num_kv_heads}x{NUM_CHANNELS}xf32>" not in attributes:
        return f"kv heads: {attributes}"
    code, _, errors = run(GIRIH_OPT, raised, "-girih-insert-kv-cache=kv-element=f32", "-girih-assign-formats", "-o", cached)
    text = cached.read_text() if not code else ""
    if code or "girih.recompute" in text or text.count("girih.kv_append") != 1:
        return f"cache: {errors}"
    expected = logits_of(folder, source, TOKENS)
    for graph in (raised, cached):
        difference = largest_difference(logits_of(folder, graph, TOKENS), expected)
        if not difference < 1e-6:
            return f"{graph.stem} differs by {difference}"
    # A cached token was computed from its prefix alone: the last logits of each prefix are those of the whole.
    for length in (1, 4):
        difference = largest_difference(logits_of(folder, cached, TOKENS[:length]), expected[:length])
        if not difference < 1e-6:
            return f"a prefix of {length} differs by {difference}"
    return None


# What each near-miss is told, by raise or by insert_kv_cache.
NEAR_MISSES = {
    "no_mask": "not causal",
    "future": "mask",
    "off_by_one": "mask",
    "wrong_axis": "normalise",
    "used_twice": "also used",
    "shifted_values": "computed index",
    "running_sum": "combines each token",
}


def check_near_miss(seed, mutation, folder):
    spelling = Spelling(seed, mutation)
    if mutation == "future":
        spelling.window = None
    source = folder / "source.mlir"
    source.write_text(spelling.text())
    code, text, errors = run(GIRIH_OPT, source, "-girih-import", "-girih-raise", "-girih-insert-kv-cache")
    if code:
        return errors
    if "girih.kv_append" in text or "girih.recompute" not in text:
        return "was given a cache"
    if NEAR_MISSES[mutation] not in errors or "source.mlir:" not in errors:
        return f"said: {errors}"
    if "girih.notes" not in text:
        return "left no note"
    return None


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--count", type=int, default=40)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--print", type=int, dest="printed")
    parser.add_argument("--mutation", choices=list(NEAR_MISSES))
    options = parser.parse_args()
    if options.printed is not None:
        print(Spelling(options.printed, options.mutation).text())
        return 0
    if not GIRIH_OPT.exists() or not GIRIH_REFERENCE.exists():
        print(f"needs {GIRIH_OPT} and {GIRIH_REFERENCE}")
        return 77
    failures = 0
    with tempfile.TemporaryDirectory() as name:
        folder = pathlib.Path(name)
        for seed in range(options.seed, options.seed + options.count):
            write_gguf(folder / "weights.gguf", Spelling(seed).weights_of_model())
            problem = check_spelling(seed, folder)
            if problem:
                failures += 1
                print(f"spelling {seed}: {Spelling(seed)}\n  {problem}")
        for mutation in NEAR_MISSES:
            for seed in range(options.seed, options.seed + max(1, options.count // 10)):
                problem = check_near_miss(seed, mutation, folder)
                if problem:
                    failures += 1
                    print(f"near-miss {mutation} {seed}: {Spelling(seed, mutation)}\n  {problem}")
    print(f"{options.count} spellings and {len(NEAR_MISSES)} kinds of near-misses, {failures} failures")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
