#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Compares ids with the .inp/.out cases beside llama.cpp's embedded vocabularies, and the bytes that they decode to.

The cases are in the source package of llama-cpp-python 0.3.36 and are not ours to keep: GIRIH_VOCABULARIES names the
folder that holds the `ggml-vocab-*.gguf` files, else pip fetches the package into GIRIH_BUILD (77 MB, checksummed).
"""
import hashlib
import os
import pathlib
import subprocess
import sys
import tarfile
import unicodedata

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import hostile_lines
from tokenizer_judge import compare, decoded_bytes, own_ids

PACKAGE = "llama-cpp-python==0.3.36"
SHA256 = "832db0699007f1be95a7e41ef12e88926b02ba836461e36a36372db2760c1a2e"
SEPARATOR = "\n__ggml_vocab_test__\n"
NEEDED = {"gpt-2", "llama-bpe", "qwen2", "starcoder", "deepseek-llm", "deepseek-coder", "falcon", "command-r", "phi-3",
          "llama-spm", "bert-bge", "refact", "mpt"}
NORMALISES = {"qwen2", "command-r"}


def fetch(folder):
    """The folder with the vocabularies, fetched and unpacked once."""
    folder.mkdir(parents=True, exist_ok=True)
    archive = folder / "llama_cpp_python-0.3.36.tar.gz"
    if not archive.exists():
        requirements = folder / "requirements.txt"
        requirements.write_text(f"{PACKAGE} --hash=sha256:{SHA256}\n")
        command = [sys.executable, "-m", "pip", "download", "-q", "--disable-pip-version-check", "--no-deps", "--no-binary",
                   "llama-cpp-python", "--require-hashes", "-r", requirements, "-d", folder]
        if subprocess.run(command).returncode or not archive.exists():
            print(f"skipped: pip could not fetch {PACKAGE}; set GIRIH_VOCABULARIES to a folder that has the files")
            sys.exit(77)
    if hashlib.sha256(archive.read_bytes()).hexdigest() != SHA256:
        sys.exit(f"{archive}: the checksum is not {SHA256}; delete it and try again")
    with tarfile.open(archive) as tar:
        for member in tar:
            name = pathlib.PurePosixPath(member.name).name
            if name.startswith("ggml-vocab-") and member.isfile():
                (folder / name).write_bytes(tar.extractfile(member).read())
    return folder


def cases(file):
    expected = [[int(i) for i in line.split()] for line in (file.parent / (file.name + ".out")).read_text().splitlines()]
    with open(file.parent / (file.name + ".inp"), encoding="utf-8", newline="") as source:
        texts = source.read().split(SEPARATOR)[:len(expected)]
    return [text.encode() for text in texts], expected


def decodes_back(file, texts, options):
    """How many texts do not come back byte for byte."""
    back = decoded_bytes(file, texts, *options)
    different = [i for i, text in enumerate(texts) if back[i] != text]
    for i in different[:5]:
        print(f"  {texts[i]!r} came back as {back[i]!r}")
    return len(different)


def is_nfc(text):
    try:
        return unicodedata.normalize("NFC", text.decode()) == text.decode()
    except UnicodeDecodeError:
        return False


def main():
    named = os.environ.get("GIRIH_VOCABULARIES")
    folder = pathlib.Path(named) if named else fetch(pathlib.Path(os.environ["GIRIH_BUILD"]) / "vocabularies")
    failed, seen = 0, set()
    for file in sorted(folder.glob("ggml-vocab-*.gguf")):
        kind = file.name.removeprefix("ggml-vocab-").removesuffix(".gguf")
        if not (folder / (file.name + ".inp")).exists():
            continue
        seen.add(kind)
        texts, expected = cases(file)
        failed += compare(kind, texts, own_ids(file, texts), expected)
        if kind == "bert-bge":
            continue  # lower case and white space are gone for good
        if kind in NORMALISES:
            texts = [text for text in texts if is_nfc(text)]
        different = decodes_back(file, texts, [])
        if kind in ("gpt-2", "llama-bpe"):  # every byte has a token: also what is no UTF-8 comes back
            different += decodes_back(file, hostile_lines.lines(3000), ["--keep"])
        print(f"{kind}: {different} texts do not come back")
        failed += different
    if missing := NEEDED - seen:
        print("no cases for " + ", ".join(sorted(missing)))
    return 1 if failed or missing else 0


if __name__ == "__main__":
    sys.exit(main())
