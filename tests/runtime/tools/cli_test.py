# SPDX-License-Identifier: Apache-2.0
"""The command line from outside: exit statuses, where errors go, help that teaches, and the cache of compiled checkpoints."""
import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import unittest

BUILD = pathlib.Path(os.environ["GIRIH_BUILD"])
GIRIH = BUILD / "bin" / "girih"
COMMANDS = ["run", "chat", "serve", "score", "bench", "inspect", "verify", "machine"]


def girih(*arguments, binary=GIRIH, **options):
    return subprocess.run([str(binary), *map(str, arguments)], capture_output=True, text=True, timeout=120, **options)


class ExitStatuses(unittest.TestCase):
    def test_help_is_on_stdout_and_teaches(self):
        top = girih("--help")
        self.assertEqual(top.returncode, 0)
        for command in [*COMMANDS, "compile"]:
            self.assertIn(f"  {command}", top.stdout)
        for command in COMMANDS:
            told = girih(command, "--help")
            self.assertEqual((told.returncode, told.stderr), (0, ""), command)
            self.assertIn("Examples:", told.stdout, command)
            self.assertIn(f"girih {command}", told.stdout, command)

    def test_wrong_usage_is_2_on_stderr(self):
        for arguments in [[], ["fly"], ["run"], ["run", "x"], ["run", "x", "--prompt", "a", "--tokens", "1"], ["score", "x"],
                          ["bench", "x", "--sequences", "0"], ["serve", "x", "--port", "70000"],
                          ["serve"], ["serve", "x", "--models", "y"], ["machine", "extra"]]:
            done = girih(*arguments)
            self.assertEqual((done.returncode, done.stdout), (2, ""), arguments)
            self.assertTrue(done.stderr, arguments)

    def test_failure_is_1_and_names_what_was_seen(self):
        with tempfile.TemporaryDirectory() as folder:
            foreign = pathlib.Path(folder) / "foreign.girih"
            foreign.write_bytes(b"not a program" * 100)
            for command, extra in [("run", ["--tokens", "1"]), ("inspect", []), ("verify", []), ("bench", []), ("serve", [])]:
                done = girih(command, pathlib.Path(folder) / "absent.girih", *extra)
                self.assertEqual((done.returncode, done.stdout), (1, ""), command)
                self.assertIn("absent.girih", done.stderr)
                done = girih(command, foreign, *extra)
                self.assertEqual((done.returncode, done.stdout), (1, ""), command)
                self.assertIn("foreign.girih", done.stderr)
            done = girih("run", folder, "--tokens", "1")
            self.assertEqual(done.returncode, 1)
            self.assertIn("config.json", done.stderr)

    def test_absent_default_model_says_how_to_get_it(self):
        with tempfile.TemporaryDirectory() as folder:
            done = girih("inspect", "smollm2", env={**os.environ, "XDG_CACHE_HOME": folder, "GIRIH_CACHE": folder})
            self.assertEqual(done.returncode, 1)
            self.assertIn("./quickstart", done.stderr)

    def test_machine_lists_devices(self):
        listed = girih("machine", "--list")
        self.assertEqual(listed.returncode, 0, listed.stderr)
        self.assertRegex(listed.stdout, r"cpu +0  .*GiB of the host's, \d+ threads; runs elf-")
        absent = girih("machine", "--backend", "/no/such/lib.so")
        self.assertEqual(absent.returncode, 1)
        self.assertIn("cannot load the backend", absent.stderr)

    def test_machine_fits_the_schema(self):
        schema = json.loads((pathlib.Path(__file__).resolve().parents[3] / "dialects/machine/machine.schema.json").read_text())
        machine = json.loads(girih("machine", "--json").stdout)
        figures = [value for key, value in machine.items() if schema["properties"].get(key) == {"$ref": "#/$defs/figure"}]
        self.assertEqual(set(schema["required"]) - set(machine), set())
        for kind in ("levels", "units"):
            shape = schema["properties"][kind]["items"]
            for entry in machine[kind]:
                self.assertEqual(set(shape["required"]) - set(entry), set())
                self.assertEqual(set(entry) - set(shape["properties"]), set())
                self.assertTrue(entry["source"])
                figures += [value for key, value in entry.items() if "$ref" in shape["properties"][key]]
        self.assertTrue(all(isinstance(value, int) and 1 <= value <= 2**48 for value in figures), figures)

    def test_machine_is_json(self):
        machine = json.loads(girih("machine").stdout)
        self.assertTrue(machine["levels"] and machine["units"] and machine["features"])

    def test_needs_no_llvm(self):
        libraries = subprocess.run(["ldd", str(GIRIH)], capture_output=True, text=True).stdout
        self.assertNotRegex(libraries, "LLVM|MLIR")


class Cache(unittest.TestCase):
    """A copy of the binary beside a made-up compiler shows when and how often that is started."""

    def setUp(self):
        self.folder = pathlib.Path(tempfile.mkdtemp())
        self.addCleanup(shutil.rmtree, self.folder)
        self.binary = self.folder / "girih"
        shutil.copy(GIRIH, self.binary)
        self.checkpoint = self.folder / "model.gguf"
        self.checkpoint.write_bytes(b"GGUF" + bytes(100))
        self.write_compiler('echo compiled >> "$(dirname "$0")/log"; echo noise; echo not a program > "$3"')

    def write_compiler(self, body):
        compiler = self.folder / "girih-compile"
        compiler.write_text(f"#!/bin/sh\n{body}\n")
        compiler.chmod(0o755)

    def inspect(self, name=None):
        return girih("inspect", name or self.checkpoint, binary=self.binary, env={**os.environ, "GIRIH_CACHE": str(self.folder / "cache")})

    def compilations(self):
        log = self.folder / "log"
        return len(log.read_text().split()) if log.exists() else 0

    def test_compiles_once_and_again_when_something_changed(self):
        first = self.inspect()
        self.assertEqual(first.stdout, "")  # what the compiler prints is progress
        self.assertIn("compiling", first.stderr)
        self.inspect()
        self.assertEqual(self.compilations(), 1)
        os.utime(self.checkpoint, ns=(1, 1))
        self.inspect()
        self.assertEqual(self.compilations(), 2)

    def test_folders_count_every_file(self):
        model = self.folder / "hf"
        model.mkdir()
        (model / "config.json").write_text("{}")
        self.inspect(model)
        self.inspect(model)
        self.assertEqual(self.compilations(), 1)
        (model / "tokenizer.json").write_text("{}")
        self.inspect(model)
        self.assertEqual(self.compilations(), 2)

    def test_failed_compilation_fails_and_is_tried_again(self):
        self.write_compiler('echo "no such architecture" >&2; exit 1')
        done = self.inspect()
        self.assertEqual(done.returncode, 1)
        self.assertIn("no such architecture", done.stderr)
        self.assertEqual(list((self.folder / "cache" / "programs").glob("*.girih")), [])

    def test_without_a_compiler_says_so(self):
        (self.folder / "girih-compile").unlink()
        for done in [self.inspect(), girih("compile", "x", binary=self.binary)]:
            self.assertEqual(done.returncode, 1)
            self.assertIn("GIRIH_COMPILER=OFF", done.stderr)

    def test_compile_passes_everything_on(self):
        self.write_compiler('echo "$@"; exit 7')
        done = girih("compile", "--help", "-o", "x y", "--code-cache=", binary=self.binary)
        self.assertEqual((done.returncode, done.stdout), (7, "--help -o x y --code-cache=\n"))
        done = girih("compile", "x", binary=self.binary, env={**os.environ, "GIRIH_CACHE": "/some/where"})
        self.assertEqual(done.stdout, "x --code-cache=/some/where/code\n")


if __name__ == "__main__":
    if not GIRIH.exists():
        print(f"skipped: {GIRIH} is not built")
        sys.exit(77)
    unittest.main()
