# SPDX-License-Identifier: Apache-2.0
"""Code is made once for models that differ in weights alone, and a cache that is damaged or closed does no harm."""
import os
import pathlib
import subprocess
import sys
import tempfile
import unittest

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
GENERATOR = REPOSITORY / "bench" / "models" / "make_random_llama.py"
COMPILER = pathlib.Path(os.environ["GIRIH_BUILD"]) / "bin" / "girih-compile"
SHAPES = ["--layers", "2", "--hidden", "64", "--intermediate", "64", "--heads", "4", "--kv-heads", "2", "--vocabulary",
          "64", "--head-format", "Q8_0"]
REUSED = "taking the code for avx2 from the cache"


class CodeCache(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        self.cache = self.folder / "cache"

    def checkpoint(self, seed, *shapes):
        path = self.folder / f"model-{seed}.gguf"
        subprocess.run([sys.executable, GENERATOR, path, *SHAPES, *shapes, "--seed", str(seed)], check=True)
        return path

    def compile(self, checkpoint, *flags):
        """(the program's bytes, whether its code came from the cache)."""
        program = self.folder / "out.girih"
        done = subprocess.run([COMPILER, checkpoint, "-o", program, "--target", "cpu:avx2", f"--code-cache={self.cache}",
                               *flags], check=True, stderr=subprocess.PIPE, text=True)
        return program.read_bytes(), REUSED in done.stderr

    def test_other_weights_share_their_code(self):
        one, other = self.checkpoint(1), self.checkpoint(2)
        alone, _ = self.compile(other)
        for file in self.cache.iterdir():
            file.unlink()
        self.assertFalse(self.compile(one)[1])
        program, is_reused = self.compile(other)
        self.assertTrue(is_reused)
        self.assertEqual(program, alone)

    def test_other_shapes_and_numerics_do_not(self):
        self.compile(self.checkpoint(1))
        self.assertFalse(self.compile(self.checkpoint(2, "--layers", "3"))[1])
        self.assertFalse(self.compile(self.checkpoint(1), "--numerics", "exact")[1])
        self.assertFalse(self.compile(self.checkpoint(1), "--max-tokens-per-step", "64")[1])

    def test_a_damaged_file_counts_as_absent(self):
        checkpoint = self.checkpoint(1)
        program, _ = self.compile(checkpoint)
        (file,) = self.cache.iterdir()
        whole = file.read_bytes()
        flipped = bytearray(whole)
        flipped[len(flipped) // 2] ^= 1
        for damaged in (b"", whole[:40], whole[:-1], whole + b"0", bytes(flipped)):
            file.write_bytes(damaged)
            self.assertEqual(self.compile(checkpoint), (program, False))
            self.assertEqual(file.read_bytes(), whole)

    def test_a_folder_that_cannot_be_made_keeps_nothing(self):
        self.cache.write_text("a file stands there")
        self.assertFalse(self.compile(self.checkpoint(1))[1])
        self.assertFalse(self.compile(self.checkpoint(1))[1])


if __name__ == "__main__":
    unittest.main()
