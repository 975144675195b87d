# SPDX-License-Identifier: Apache-2.0
"""Strips the frame of IREE's compiler off linalg at its phase `preprocessing`: what is left is a plain @main.

    python3 strip_frame.py preprocessed.mlir > graph.mlir

Buffer views become tensors, parameters become girih.weight by their names, fences and the blocking wrapper go. No
operation of the graph is touched; a line of the frame that is not known ends the script.
"""
import re
import sys

FRAME = re.compile(r"\b(util|hal|flow|stream)\.")


class StripError(Exception):
    """A line that this script has no rule for."""


def entry_lines(text):
    """The lines between the braces of the asynchronous entry, and the names of the parameters."""
    parameters = dict(re.findall(r'util\.global private @(\w+) = #\w+\.parameter\.named<"\w+"::"([^"]+)">', text))
    start = re.search(r"util\.func public @[\w$\"]+async\"?\(.*\{\n", text)
    if not start:
        raise StripError("no asynchronous entry point")
    body = text[start.end():]
    return body[:body.index("\n  }\n")].split("\n"), parameters


def strip(text, origin):
    lines, parameters = entry_lines(text)
    out, renamed, weights, ids, result = [], {}, {}, None, None
    for line in lines:
        line = re.sub(r"%[\w]+", lambda match: renamed.get(match[0], match[0]), line)
        name = (re.match(r"\s*(%\w+) =", line) or [None, None])[1]
        if match := re.search(r"hal\.buffer_view\.dim<%arg0[^>]*>\[(\d)\]", line):
            out.append(f"    {name} = tensor.dim %ids, %axis{match[1]} : IDS")
        elif match := re.search(r"hal\.tensor\.import .* -> (tensor<[^{]*>)\{", line):
            renamed[name], ids = "%ids", match[1]
        elif match := re.search(r"util\.global\.load @(\w+) : tensor<(\S+)>", line):
            weights[name] = f'tensor<{match[2]}, #girih.storage<"f32">>'
            out.append(f'    {name} = girih.weight "{parameters[match[1]]}" : {weights[name]}')
        elif match := re.search(r"hal\.tensor\.barrier join\((%\w+) : (tensor<\S+>)\)", line):
            renamed[name], result = match[1], match[2]
        elif re.search(r"hal\.tensor\.export", line):
            continue
        elif "util.return" in line:
            exported = next(value for value in renamed.values() if value != "%ids")
            out.append(f"    return {exported} : {result}")
        elif FRAME.search(line):
            raise StripError(f"no rule for: {line.strip()}")
        else:
            out.append(retype(line, weights))
    head = [f"// {origin}: made by make_layers.py from an ONNX graph of its own, through iree-import-onnx and iree-compile.",
            "// RUN: girih-opt %s -girih-import -girih-raise | FileCheck %s", "// CHECK: girih.attention",
            "// CHECK-NOT: math.exp",
            f"func.func @main(%ids: {ids}) -> {result} {{",
            "    %axis0 = arith.constant 0 : index", "    %axis1 = arith.constant 1 : index"]
    return "\n".join(head + out).replace("IDS", ids) + "\n}\n"


def retype(line, weights):
    """A weight's type says how it is stored; the line that reads it must say the same."""
    for weight, type_ in weights.items():
        if not re.search(re.escape(weight) + r"\b", line):
            continue
        plain = re.sub(r", #girih.*", ">", type_)
        read = re.compile(re.escape(weight) + r"((?:\[[^\]]*\])?) : " + re.escape(plain))
        if not read.search(line):
            raise StripError(f"weight {weight} is read in an unknown way: {line.strip()}")
        line = read.sub(lambda match: f"{weight}{match[1]} : {type_}", line)
    return line


if __name__ == "__main__":
    print(strip(open(sys.argv[1], encoding="utf-8").read(), sys.argv[1]), end="")
