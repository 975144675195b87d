# SPDX-License-Identifier: Apache-2.0
"""Installs the pinned peers into a cache folder, each in an environment of its own, and prepares their models there."""
import hashlib
import os
import pathlib
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent
REPOSITORY = HERE.parents[1]
LLAMA_CPP_VERSION = "0.3.36"  # of llama-cpp-python, whose source package holds it
OPENVINO = ["openvino-genai==2026.4.1.0", "openvino==2026.4.1", "openvino-tokenizers==2026.4.1.0", "numpy==2.4.6"]
ONNXRUNTIME = ["onnxruntime-genai==0.18.0", "onnxruntime==1.32.0", "onnx==1.23.2", "onnx-ir==1.1.0", "numpy==2.4.6"]
# The converter's; taken from the environment of `./check --full` where there is one, since they weigh 6 GB.
CONVERTER = (REPOSITORY / "tests/models/requirements.txt")


class PeerFailure(Exception):
    """A peer cannot be installed, prepared or run; the others go on."""


def say(text):
    print(f"bench: {text}", file=sys.stderr, flush=True)


def run(*command, environment=None):
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True, errors="replace",
                          env=os.environ | (environment or {}))
    if done.returncode != 0:
        said = (done.stderr.strip() or done.stdout.strip())[-600:]
        raise PeerFailure(f"`{' '.join(map(str, command))[:200]}` exited with {done.returncode}: {said}")
    return done.stdout


def environment_with(folder, requirements):
    """The Python of a virtual environment that holds exactly these."""
    stamp = folder / "girih-requirements.txt"
    wanted = "\n".join(requirements) + "\n"
    if not stamp.exists() or stamp.read_text() != wanted:
        say(f"installing {requirements[0]} into {folder}")
        run(sys.executable, "-m", "venv", folder)
        run(folder / "bin/pip", "install", "-q", "--disable-pip-version-check", *requirements)
        stamp.write_text(wanted)
    return folder / "bin/python"


def llama_cpp(cache, isa):
    """The folder of its programs, built for the instruction set."""
    say(f"llama.cpp for {isa} (builds for some minutes the first time)")
    tree = run(HERE / "build_llama_cpp", cache, isa).strip().splitlines()[-1]
    return pathlib.Path(tree) / ("build" if isa == "native" else f"build-{isa}") / "bin"


def openvino(cache):
    return environment_with(cache / "openvino", OPENVINO)


def onnxruntime(cache, gguf):
    """(its Python, the folder of the converted model)"""
    python = environment_with(cache / "onnxruntime", ONNXRUNTIME)
    with open(gguf, "rb") as file:
        key = hashlib.file_digest(file, "sha256").hexdigest()[:16]
    folder = cache / f"onnxruntime-int4-{key}"
    if not (folder / "genai_config.json").exists():
        judges = sorted(judge_folder().glob("lib/python3*/site-packages"))
        if not judges:
            say("installing torch and transformers to convert for ONNX Runtime (6 GB)")
            run(cache / "onnxruntime/bin/pip", "install", "-q", "-r", CONVERTER)
        say("converting for ONNX Runtime GenAI")
        run(python, HERE / "convert_for_onnxruntime.py", gguf, folder, *judges[:1])
    return python, folder


def judge_folder():
    """Of the environment that `./check --full` makes, or the one that GIRIH_JUDGE_PYTHON names."""
    named = os.environ.get("GIRIH_JUDGE_PYTHON")
    cache = pathlib.Path(os.environ.get("XDG_CACHE_HOME", pathlib.Path.home() / ".cache"))
    return pathlib.Path(named).parent.parent if named else cache / "girih" / "judges"
