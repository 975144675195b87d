# SPDX-License-Identifier: Apache-2.0
"""bench/peers with contestants whose figures are known: turns, medians, ratios, roofs, failures, table and picture."""
import argparse
import importlib.machinery
import importlib.util
import pathlib
import struct
import sys
import tempfile
import unittest
import xml.dom.minidom

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPOSITORY / "bench/peers"))
sys.dont_write_bytecode = True
import gguf_facts  # noqa: E402
import install  # noqa: E402
import picture  # noqa: E402
import table  # noqa: E402
import workloads  # noqa: E402



def script(name):
    loader = importlib.machinery.SourceFileLoader(f"peers_{name}", str(REPOSITORY / "bench/peers" / name))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader(loader.name, loader))
    loader.exec_module(module)
    return module


run, serving = script("run"), script("serving")

PEAKS = {"read_gigabytes_per_second": 50.0, "gigaops_per_second": {"f32": 400.0, "int8_vnni": 1600.0}}


class Known:
    """Gives its figures one after the other, and writes down when it was asked."""
    version, weights, held = "1", "all", "nothing"

    def __init__(self, name, figures, log):
        self.name, self.figures, self.log = name, list(figures), log
        self.roofline = {"read_bytes_per_second": 50e9, "decode_step_bytes": 100e6} if name == "girih" else None

    def decode(self, context, generate, threads):
        self.log.append(self.name)
        figure = self.figures.pop(0)
        if figure is None:
            raise install.PeerFailure("no such luck")
        return figure

    def start(self, threads):
        return self.decode(0, 0, threads)


def small_gguf(path):
    """Two layers of 64 x 64, a head of 64 x 100, four heads; and a list of texts, which must be skipped."""
    def text(value):
        return struct.pack("<Q", len(value)) + value.encode()
    values = [("general.architecture", 8, text("toy")), ("toy.block_count", 4, struct.pack("<I", 2)),
              ("toy.embedding_length", 4, struct.pack("<I", 64)), ("toy.attention.head_count", 4, struct.pack("<I", 4)),
              ("tokenizer.ggml.tokens", 9, struct.pack("<IQ", 8, 2) + text("a") + text("bc")),
              ("tokenizer.ggml.scores", 9, struct.pack("<IQ", 6, 3) + bytes(12))]
    tensors = [("blk.0.w", (64, 64)), ("blk.1.w", (64, 64)), ("blk.1.norm", (64,)), ("token_embd.weight", (64, 100))]
    blob = b"GGUF" + struct.pack("<IQQ", 3, len(tensors), len(values))
    blob += b"".join(text(name) + struct.pack("<I", kind) + value for name, kind, value in values)
    blob += b"".join(text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, 0, 0) for name, shape in tensors)
    path.write_bytes(blob)


class Peers(unittest.TestCase):
    def measure(self, ours, theirs, names, isa="native"):
        log = []
        ready = [Known("girih", ours, log), Known("other", theirs, log)]
        chosen = [w for w in workloads.ALL if w.name in names]
        with tempfile.TemporaryDirectory() as folder:
            gguf = pathlib.Path(folder) / "toy.gguf"
            small_gguf(gguf)
            facts = gguf_facts.Facts(gguf)
            options = argparse.Namespace(chosen=chosen, rounds=3, threads=2, isa=isa, gguf=gguf)
            taken = run.Measurements()
            for workload in chosen:
                for _ in range(options.rounds):
                    for contestant in ready:
                        taken.take(workload, contestant, options.threads)
            results = table.collect(options, ready, {"absent": "was not there"}, taken, [PEAKS], facts)
        return log, results

    def test_turns_medians_and_ratio(self):
        log, results = self.measure([300, 500, 400], [100, 90, 200], ["decode"])
        self.assertEqual(log, ["girih", "other"] * 3)
        row = results["workloads"][0]
        self.assertEqual((row["figures"]["girih"]["median"], row["figures"]["other"]["most"], row["ratio"]), (400, 200, 4.0))
        text = table.markdown(results)
        self.assertIn("| 400 (300 to 500) | 100 (90.0 to 200) | **4.00x** | 80 % of 500 (reading 100 MB at 50.0 GB/s) |", text)
        self.assertIn("absent stayed out: was not there", text)

    def test_less_is_better_of_a_start(self):
        _, results = self.measure([0.02, 0.02, 0.03], [0.1, 0.1, 0.1], ["start"])
        self.assertAlmostEqual(results["workloads"][0]["ratio"], 5.0)

    def test_a_peer_that_fails_is_told_and_not_asked_again(self):
        log, results = self.measure([1, 2, 3], [None], ["decode"])
        self.assertEqual(log.count("other"), 1)
        text = table.markdown(results)
        self.assertIn("| 2.0 (1.0 to 3.0) | failed | – |", text)
        self.assertIn("other failed: PeerFailure: no such luck", text)
        xml.dom.minidom.parseString(picture.svg(results))

    def test_what_a_contestant_lacks_is_a_dash(self):
        _, results = self.measure([1, 1, 1], [1, 1, 1], ["resident"])
        self.assertEqual(results["workloads"][0]["figures"], {})
        self.assertIn("| – | – | – |", table.markdown(results))

    def test_picture_names_everyone_and_every_figure(self):
        _, results = self.measure([300, 500, 400], [100, 90, 200], ["decode"])
        drawn = picture.svg(results)
        document = xml.dom.minidom.parseString(drawn)
        rectangles = document.getElementsByTagName("rect")
        widths = [float(r.getAttribute("width")) for r in rectangles if r.getAttribute("height") == str(picture.LINE - 3)]
        self.assertEqual(widths, [picture.BAR, picture.BAR / 4])
        for words in ("girih", "other", "400  (4.00x the best peer)"):
            self.assertIn(words, drawn)

    def test_facts_count_multiplications(self):
        with tempfile.TemporaryDirectory() as folder:
            path = pathlib.Path(folder) / "toy.gguf"
            small_gguf(path)
            facts = gguf_facts.Facts(path)
        self.assertEqual((facts.layers, facts.layer_weights, facts.head_weights, facts.query_width), (2, 8192, 6400, 64))
        # Two tokens: layers twice, attention over 1 and 2 positions, the head once.
        self.assertEqual(facts.prefill_operations(2), 2 * 8192 * 2 + 4 * 64 * 2 * 3 + 2 * 6400)


class Serving(unittest.TestCase):
    """Its table of known samples; what is measured again replaces what was there, round by round."""

    def test_medians_ratios_and_rounds(self):
        results = {"girih 8": [{"tokens_per_second": 1.0, "first_text_seconds": 9.0, "step_share": 0.1}]}
        for number, (ours, theirs) in enumerate([(600, 100), (700, 110), (500, 90)]):
            serving.keep(results, number, "girih 8", {"tokens_per_second": ours, "first_text_seconds": 0.1, "step_share": 0.97})
            serving.keep(results, number, "llama-server 8", {"tokens_per_second": theirs, "first_text_seconds": 2.0})
        serving.keep(results, 0, "girih 128", {"tokens_per_second": 650, "first_text_seconds": 1.5, "step_share": 0.9})
        serving.keep(results, 0, "long-prompts", {"p50_alone_seconds": 0.007, "p50_seconds": 0.014, "p99_seconds": 0.021})
        self.assertEqual([len(results[name]) for name in ("girih 8", "llama-server 8")], [3, 3])
        lines = serving.table(results).splitlines()
        self.assertEqual(lines[2], "| 8 | 600 | 100 | 6.00x | 100 ms | 2000 ms | 0.05x | 97 % |")
        self.assertEqual(lines[3], "| 128 | 650 |  |  | 1500 ms |  |  | 90 % |")
        self.assertIn("7.0 ms", lines[-1])
        self.assertIn("3.0x the median without them", lines[-1])


if __name__ == "__main__":
    unittest.main()
