# SPDX-License-Identifier: Apache-2.0
"""Damaged checkpoints and full disks: compiling ends with an error that says what was seen, and leaves nothing behind."""
import pathlib
import shutil
import struct
import subprocess
import sys
import tempfile
import unittest

import girih_cli
import tiny_checkpoints as tiny

MODEL = "llama_2"
HUGE = struct.pack("<Q", 1 << 63)
IMPORT = girih_cli.BUILD / "bin" / "girih-import"  # the reader and the importer, without the rest of the compiler


class Checkpoints(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.scratch = pathlib.Path(tempfile.mkdtemp())
        cls.addClassCleanup(shutil.rmtree, cls.scratch)
        tiny.write_checkpoint(MODEL, cls.scratch)
        cls.whole = (cls.scratch / "model.gguf").read_bytes()

    def setUp(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(dir=self.scratch))

    def run_command(self, *command):
        return subprocess.run(list(map(str, command)), capture_output=True, text=True, timeout=300)

    def compile(self, checkpoint, *options):
        return self.run_command(girih_cli.GIRIH, "compile", checkpoint, "-o", self.folder / "out.girih", "--target", "cpu:avx2", *options)

    def refuse(self, checkpoint, *seen):
        before = sorted(self.folder.iterdir())
        done = self.compile(checkpoint)
        self.assertEqual(done.returncode, 1, done.stderr)
        self.assertIn(checkpoint.name, done.stderr)
        for words in seen:
            self.assertIn(words, done.stderr)
        self.assertEqual(sorted(self.folder.iterdir()), before)

    def write(self, content):
        path = self.folder / "bad.gguf"
        path.write_bytes(content)
        return path

    def test_gguf_cut_at_every_percent(self):
        for percent in range(100):
            with self.subTest(percent=percent):
                self.refuse(self.write(self.whole[:len(self.whole) * percent // 100]))

    def test_every_byte_of_the_header_flipped(self):
        for index in range(24):  # magic, version, number of tensors, number of metadata entries
            with self.subTest(index=index):
                self.refuse(self.write(self.flipped(index)))

    def flipped(self, index):
        return self.whole[:index] + bytes([self.whole[index] ^ 0xFF]) + self.whole[index + 1:]

    def test_bytes_of_metadata_and_directory_flipped(self):
        """A changed name or number may still be a model; whatever it is, the importer answers and does not crash."""
        end = len(self.whole) - sum(-(-4 * v.size // 32) * 32 for _, _, v in self.tensors())
        for index in range(24, end, 7):
            with self.subTest(index=index):
                done = self.run_command(IMPORT, self.write(self.flipped(index)))
                self.assertIn(done.returncode, (0, 1), done.stderr[-500:])
                if done.returncode == 1:
                    self.assertIn("bad.gguf", done.stderr)

    def tensors(self):
        description = tiny.load_description(MODEL)
        return tiny.gguf_tensors(description["config"], tiny.model_tensors(MODEL, description))

    def test_counts_and_offsets_of_two_to_the_63(self):
        name = b"token_embd.weight"
        extent = self.whole.index(name) + len(name) + 4
        offset = extent + 2 * 8 + 4
        for what, at in (("tensors", 8), ("metadata entries", 16), ("length of a key", 24), ("extent", extent), ("offset", offset)):
            with self.subTest(what=what):
                self.refuse(self.write(self.whole[:at] + HUGE + self.whole[at + 8:]))

    def test_an_unknown_architecture_is_named_beside_the_known_ones(self):
        self.refuse(self.write(self.whole.replace(b"llama", b"mamba")), '"mamba"', "gemma2", "llama", "qwen2", "qwen3")
        hf = self.folder / "hf"
        shutil.copytree(self.scratch / "hf", hf)
        config = hf / "config.json"
        config.write_text(config.read_text().replace("LlamaForCausalLM", "MambaForCausalLM").replace('"llama"', '"mamba"'))
        self.refuse(hf, "mamba", "gemma2", "llama", "qwen2", "qwen3")

    def test_damaged_folders(self):
        for name in ("config.json", "model.safetensors"):
            for content in (b"", b"{", b"\xff" * 100, HUGE + b"{}", b"[" * 100_000):
                with self.subTest(name=name, content=content[:10]):
                    hf = self.folder / "hf"
                    shutil.copytree(self.scratch / "hf", hf)
                    (hf / name).write_bytes(content)
                    self.refuse(hf, name)
                    shutil.rmtree(hf)

    def test_without_a_tokenizer_token_ids_still_work(self):
        done = self.compile(self.scratch / "model.gguf")
        self.assertEqual(done.returncode, 0, done.stderr)
        program = self.folder / "out.girih"
        run = self.run_command(girih_cli.GIRIH, "run", program, "--tokens", "1,2,3", "--max-tokens", "2", "--temperature", "0")
        self.assertEqual(run.returncode, 0, run.stderr)
        refused = self.run_command(girih_cli.GIRIH, "run", program, "--prompt", "x")
        self.assertEqual((refused.returncode, refused.stdout), (1, ""))
        self.assertIn("--tokens", refused.stderr)
        beyond = self.run_command(girih_cli.GIRIH, "run", program, "--tokens", ",".join(["1"] * 50_000))
        self.assertEqual((beyond.returncode, beyond.stdout), (1, ""))
        self.assertIn("50000", beyond.stderr)
        absent = self.run_command(girih_cli.GIRIH, "run", program, "--tokens", "1", "--isa", "avx512")
        self.assertEqual(absent.returncode, 1)
        self.assertIn("avx2", absent.stderr)

    def test_a_full_disk_while_compiling(self):
        """In a file system of 64 kB, for the output and for temporary files; a limit on file sizes where there can be none."""
        compiling = f"{girih_cli.GIRIH} compile {self.scratch}/model.gguf --target cpu:avx2 -o"
        (self.folder / "full").mkdir()
        for where, command in (("output", f"{compiling} full/out.girih"), ("temporary files", f"TMPDIR=$PWD/full {compiling} out.girih --code-cache="),
                               ("cache", f"GIRIH_CACHE=$PWD/full {girih_cli.GIRIH} run {self.scratch}/model.gguf --tokens 1")):
            with self.subTest(where=where):
                script = f"{command}; echo $?; find . -type f ! -name '*.lock'"
                if self.run_command("unshare", "-rm", "sh", "-c", f"mount -t tmpfs none {self.folder}/full").returncode == 0:
                    script = f"mount -t tmpfs -o size=64k none full && {script}"
                    done = subprocess.run(["unshare", "-rm", "sh", "-c", script], cwd=self.folder, capture_output=True, text=True, timeout=300)
                else:
                    done = subprocess.run(["bash", "-c", f"ulimit -f 64; {script}"], cwd=self.folder, capture_output=True, text=True, timeout=300)
                self.assertEqual(done.stdout, "1\n", done.stderr)
                self.assertRegex(done.stderr, "No space left|disk full|File too large")


if __name__ == "__main__":
    unittest.main()
