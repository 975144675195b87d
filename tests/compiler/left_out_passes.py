# SPDX-License-Identifier: Apache-2.0
"""`girih compile --without`: a program lacks speed without any pass that may be left out, and never its answer; every
other pass is refused by name."""
import pathlib
import re
import subprocess
import sys
import tempfile
import unittest

REPOSITORY = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPOSITORY / "tests" / "models"))
import girih_cli  # noqa: E402

GENERATOR = REPOSITORY / "bench" / "models" / "make_random_llama.py"
SHAPES = ["--layers", "2", "--hidden", "64", "--intermediate", "64", "--heads", "4", "--kv-heads", "2", "--vocabulary",
          "64", "--head-format", "Q8_0"]
PROMPT = [1, 5, 9, 60, 33]


class LeftOutPasses(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.folder = pathlib.Path(tempfile.mkdtemp())
        cls.addClassCleanup(lambda: subprocess.run(["rm", "-r", cls.folder], check=True))
        cls.checkpoint = cls.folder / "model.gguf"
        subprocess.run([sys.executable, GENERATOR, cls.checkpoint, *SHAPES], check=True)

    def compile(self, *flags):
        program = self.folder / "program.girih"
        girih_cli.girih("compile", self.checkpoint, "-o", program, "--numerics", "exact", "--target", "cpu:avx2",
                        "--no-golden", "--quiet", *flags)
        return program

    def refusal(self, passes):
        with self.assertRaises(girih_cli.Failure) as failure:
            self.compile("--without", passes)
        return str(failure.exception)

    def logits(self, program):
        return girih_cli.run_tokens(program, PROMPT, 12, self.folder)[1]

    def test_every_optional_pass_alone_and_all_together(self):
        optional = re.findall(r"girih-[a-z-]+", self.refusal("girih-no-such-pass").split("can be left out is")[1])
        self.assertGreater(len(optional), 5)
        whole = self.logits(self.compile())
        for left_out in [*optional, ",".join(optional)]:
            program = self.compile("--without", left_out)
            for _ in range(4):  # a race would not show every time
                with self.subTest(left_out=left_out):
                    self.assertLess(abs(self.logits(program) - whole).max() / abs(whole).max(), 1e-5)

    def test_what_others_rely_on_is_refused(self):
        for passes in ("girih-insert-kv-cache", "girih-plan-memory", "girih-split-attention,girih-bind-memory", "dce"):
            refusal = self.refusal(passes)
            self.assertIn(f'--without names "{passes.split(",")[-1]}"', refusal)
            self.assertIn("girih-fuse-elementwise", refusal)


if __name__ == "__main__":
    unittest.main()
