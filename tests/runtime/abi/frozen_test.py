# SPDX-License-Identifier: Apache-2.0
"""The backend ABI only grows: every frozen header is a prefix of today's, declaration by declaration.

Stricter than a comparison of layouts: the fields of each frozen struct must stand at the beginning of the same struct
today with the same types and names, each function pointer with the same parameters, each macro with the same value. And
as layouts are what is compiled in, both headers' sizes and offsets are printed by the C compiler and compared as well.

    frozen_test.py [CC]
    frozen_test.py --self-test    shows that each kind of change is found
"""
import pathlib
import re
import subprocess
import sys
import tempfile

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[2]
CURRENT = ROOT / "runtime/abi/backend.h"
FROZEN = sorted((HERE / "frozen").glob("backend_*.h"))
# What is allowed to differ.
VERSIONS = {"GIRIH_BACKEND_ABI_MINOR", "GIRIH_RUNTIME_ABI_BACKEND_H"}


def declarations(text):
    """Structs as lists of normalized fields, macros and function types as texts."""
    text = re.sub(r"/\*.*?\*/", " ", text, flags=re.DOTALL)
    macros = dict(re.findall(r"^#define[ \t]+(\w+)[ \t]*(.*?)[ \t]*$", text, re.MULTILINE))
    structs = {}
    for name, body in re.findall(r"typedef struct (\w+) \{(.*?)\}\s*\1;", text, re.DOTALL):
        structs[name] = [" ".join(field.split()) for field in body.split(";") if field.strip()]
    functions = {name: " ".join(whole.split())
                 for whole, name in re.findall(r"(typedef [^;{]*\(\*(\w+)\)[^;]*;)", text)}
    return structs, macros, functions


def complaints(frozen, current, name="frozen"):
    (old, old_macros, old_functions), (new, new_macros, new_functions) = declarations(frozen), declarations(current)
    for struct, fields in old.items():
        for index, field in enumerate(fields):
            found = new.get(struct, [])[index:index + 1]
            if found != [field]:
                yield f"{name}: field {index} of {struct} was `{field}`, is `{found[0] if found else 'gone'}`; append instead"
    for macro, value in old_macros.items():
        if macro not in VERSIONS and new_macros.get(macro) != value:
            yield f"{name}: {macro} was `{value}`, is `{new_macros.get(macro)}`"
    for function, text in old_functions.items():
        if new_functions.get(function) != text:
            yield f"{name}: {function} is no longer `{text}`"
    if not old:
        yield f"{name}: no struct was found"


def layout(header, structs, compiler, folder):
    """offset of every field as the compiler sees it: {struct: {field: offset}}."""
    lines = ["#include <stddef.h>", "#include <stdio.h>", f'#include "{header}"', "int main(void) {"]
    for struct, fields in structs.items():
        for field in fields:
            match = re.search(r"\(\*(\w+)\)", field) or re.search(r"(\w+)$", field.split(",")[-1])
            lines.append(f'printf("{struct}.{match.group(1)} %zu\\n", offsetof({struct}, {match.group(1)}));')
    lines += ["return 0;", "}"]
    source, binary = folder / "layout.c", folder / "layout"
    source.write_text("\n".join(lines))
    subprocess.run([compiler, "-std=c99", f"-I{ROOT}", str(source), "-o", str(binary)], check=True)
    return subprocess.run([str(binary)], capture_output=True, text=True, check=True).stdout


def self_test():
    text = CURRENT.read_text()
    first = re.search(r"  uint64_t flags;[^\n]*\n", text).group(0)
    changes = {
        "a field is gone": text.replace(first, ""),
        "a field has another type": text.replace("uint64_t flags;", "uint32_t flags;"),
        "fields are swapped": text.replace("const char *name;      /* \"cpu\"", "uint64_t more; const char *name; /*"),
        "a function has another parameter": text.replace("(*wait)(girih_device *device, uint64_t ticket", "(*wait)(girih_device *device, uint32_t ticket"),
        "a macro has another value": text.replace("GIRIH_LEVEL_C99 2", "GIRIH_LEVEL_C99 7"),
        "the query is another": text.replace("(*girih_backend_query_fn)(const girih_host *host)", "(*girih_backend_query_fn)(void)"),
    }
    missed = [what for what, changed in changes.items() if changed == text or not list(complaints(text, changed))]
    grown = text.replace("} girih_device_info;", "  uint64_t later;\n} girih_device_info;")
    wrong = list(complaints(text, grown))
    print("\n".join([f"not caught: {what}" for what in missed] + [f"wrongly reported: {what}" for what in wrong]))
    print(f"{len(changes) - len(missed)} of {len(changes)} changes caught")
    return 1 if missed or wrong else 0


def main(arguments):
    if arguments == ["--self-test"]:
        return self_test()
    compiler, found = (arguments or ["cc"])[0], []
    for frozen in FROZEN:
        found += complaints(frozen.read_text(), CURRENT.read_text(), frozen.name)
        structs = declarations(frozen.read_text())[0]
        with tempfile.TemporaryDirectory() as folder:
            layouts = [layout(header, structs, compiler, pathlib.Path(folder)) for header in (frozen, CURRENT)]
        if layouts[0] != layouts[1]:
            found.append(f"{frozen.name}: offsets differ")
    print("\n".join(found))
    print(f"{len(found)} changes that are no growth, in {len(FROZEN)} frozen headers")
    return 1 if found or not FROZEN else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
