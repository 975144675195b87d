# SPDX-License-Identifier: Apache-2.0
"""The same weights for ONNX Runtime GenAI: the GGUF dequantised, then its own builder's int4 (asymmetric, groups of 32).

Run by the peer's Python; torch and transformers come from SITE, another environment's site-packages, when given.

    convert_for_onnxruntime.py GGUF FOLDER [SITE]
"""
import contextlib
import pathlib
import runpy
import shutil
import site
import sys
import tempfile

if len(sys.argv) > 3:
    site.addsitedir(sys.argv[3])
import onnxruntime_genai.models
import torch
import transformers


def dequantise(gguf, folder):
    loaded = transformers.AutoModelForCausalLM.from_pretrained(gguf.parent, gguf_file=gguf.name, dtype=torch.float32)
    # One that knows of no quantisation: transformers refuses to write the other.
    del loaded.config.quantization_config
    plain = type(loaded)(loaded.config)
    plain.load_state_dict(loaded.state_dict())
    plain.save_pretrained(folder)
    transformers.AutoTokenizer.from_pretrained(gguf.parent, gguf_file=gguf.name).save_pretrained(folder)


def build(source, target, cache):
    models = onnxruntime_genai.models.__path__[0]
    sys.path.insert(0, models)
    # accuracy_level 4: int8 activations, its fastest; rtn_last: the head in int8, as the GGUF's Q8_0 is.
    sys.argv = ["builder.py", "-i", source, "-o", target, "-p", "int4", "-e", "cpu", "-c", cache, "--extra_options",
                "is_symmetric=false", "algo_config=rtn_last", "accuracy_level=4", "block_size=32", "hf_token=false"]
    runpy.run_path(models + "/builder.py", run_name="__main__")


gguf, folder = pathlib.Path(sys.argv[1]).resolve(), pathlib.Path(sys.argv[2])
with tempfile.TemporaryDirectory() as scratch, contextlib.redirect_stdout(sys.stderr):
    dequantise(gguf, scratch + "/plain")
    build(scratch + "/plain", scratch + "/built", scratch + "/cache")
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(scratch + "/built", folder)
