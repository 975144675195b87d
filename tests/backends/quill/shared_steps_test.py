# SPDX-License-Identifier: Apache-2.0
"""A backend that takes a part of a model gets that part: quill with an operation less, and the rest by the first backend built in.

In `exact` tokens are transformers', and logits within the bound of the families' test; every copy between the two devices is
counted, as `girih inspect` foretold. Whole models of the suite pass, and a backend that is left nothing is refused.

    shared_steps_test.py
"""
import json
import pathlib
import sys
import tempfile

sys.path[:0] = [str(pathlib.Path(__file__).resolve().parents[1] / "conformance"), str(pathlib.Path(__file__).resolve().parents[2] / "models")]
import families_test as families
import girih_cli
import models_test as models
import sdk_test as sdk
import tiny_checkpoints as tiny

ALL = ("matmul", "rms_norm", "kv_append", "attention")
# What quill declines, whether the rest then has the cache, the checkpoint. In a GGUF file Llama's heads are
# adjacent pairs: half of what rope gives is copied to its slot by every second element.
DECLINED = (
    (("attention",), True, "llama_3", "model.gguf"),
    (("attention",), True, "gemma2_1", "hf"),
    (("matmul",), False, "qwen2_1", "hf"),
    (("rms_norm",), False, "qwen3_2", "hf"),
    (("matmul", "rms_norm"), False, "mistral_2", "hf"),
)


def declining(names, folder):
    """The library of a quill that says no to `names`."""
    source = folder / "quill/compile_table.cpp"
    original = source.read_text()
    declines = " || ".join(f'std::string_view(ops[index].name) == "{name}"' for name in names)
    changed = original.replace("bool isKnown = ", f"bool isKnown = !({declines}) && ")
    assert changed != original
    source.write_text(changed)
    sdk.run("cmake", "--build", folder / "quill-build")
    library = folder / f"without_{'_'.join(names)}.so"
    library.write_bytes((folder / "quill-build/libgirih_quill.so").read_bytes())
    source.write_text(original)
    return library


def sharing_of(program):
    return [variant["shared"] for variant in json.loads(girih_cli.girih("inspect", program, "--format", "json"))["variants"]]


def judge_copies(program, library):
    """None, or what is wrong: a prompt of 3 tokens and 2 more must copy as often as inspect says of each step's entry."""
    entries = {entry["entry"]: entry for entry in sharing_of(program)[0]["entries"]}
    answer = json.loads(girih_cli.girih("run", program, "--backend", library, "--tokens", "1,2,3", "--max-tokens", 3, "--temperature", 0,
                                        "--no-template", "--format", "json"))
    prompt, one = entries["step_t8"], entries["step_t1"]
    wanted = {"copies": prompt["copies"] + 2 * one["copies"], "bytes": 2 * one["bytes"]}
    got = answer["between_devices"]
    # Of the prompt's bytes some are of its tokens, some of its one row of logits: 3 of 8 at most.
    fits = wanted["bytes"] < got["bytes"] <= wanted["bytes"] + prompt["bytes"] * 3 // 8
    return None if got["copies"] == wanted["copies"] and fits else f"{got}, inspect says {wanted} and at most {prompt['bytes'] * 3 // 8} more"


def main():
    report = girih_cli.Reporter()
    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(temporary)
        prefix = folder / "sdk"
        sdk.run("cmake", "--install", sdk.BUILD, "--prefix", prefix, "--component", "sdk")
        sdk.build("quill", folder, prefix)
        programs = folder / "programs"
        programs.mkdir()
        for names, rest_has_cache, name, file in DECLINED:
            what = f"{name} without {' and '.join(names)}"
            library = declining(names, folder)
            tiny.write_checkpoint(name, folder / name)
            checkpoint = folder / name / file
            problem = families.judge(name, checkpoint, folder, run_options={"backend": library}, backend=library, no_golden=True)
            report(f"{what}{': ' + problem if problem else ''}", not problem)
            program = girih_cli.compile_model(checkpoint, programs / "shared.girih", backend=library)
            shared = sharing_of(program)
            report(f"{what}: the cache is with {'the rest' if rest_has_cache else 'quill'}",
                   all(each["rest_has_cache"] == rest_has_cache for each in shared))
            problem = judge_copies(program, library)
            report(f"{what}: copies are counted{': ' + problem if problem else ''}", not problem)
            models.judge(report, library, programs)
        program = girih_cli.compile_model(checkpoint, folder / "fast.girih", numerics="fast", backend=library, no_golden=True)
        report("fast is shared, too", len(sharing_of(program)) == 1)
        try:
            girih_cli.compile_model(checkpoint, folder / "none.girih", backend=declining(ALL, folder), no_golden=True)
            report("a backend that declines all is refused", False)
        except girih_cli.Failure as failure:
            report(f"a backend that declines all is refused: {str(failure)[-120:]}", "declines all that was asked of it" in str(failure))
    return 1 if report.failed else 0


if __name__ == "__main__":
    sys.exit(main())
