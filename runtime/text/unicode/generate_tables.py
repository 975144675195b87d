#!/usr/bin/env python3
# SPDX-License-Identifier: Apache-2.0
"""Writes the Unicode tables beside it by asking the `tokenizers` package, character by character.

Hugging Face's pipelines mix four Unicode versions (Oniguruma's, Rust's and two crates'), so the judge itself is the only
source from which all of them agree with it. Usage: pip install tokenizers==0.23.3; python3 generate_tables.py
"""
import pathlib
import unicodedata

from tokenizers import Regex, normalizers, pre_tokenizers

HERE = pathlib.Path(__file__).parent
SCALARS = [c for c in range(0x110000) if not 0xD800 <= c < 0xE000]
HEAD = """// SPDX-License-Identifier: Apache-2.0
// Written by generate_tables.py; do not edit. {}
"""


def matching(pattern):
    """The characters that an Oniguruma class matches."""
    text = "".join(map(chr, SCALARS))
    marker = chr(0xE000) if not pattern.startswith("\ue000") else "x"
    out = normalizers.Replace(Regex(pattern), marker).normalize_str(text)
    assert len(out) == len(text)
    return {c for c, o in zip(SCALARS, out) if o == marker and c != 0xE000}


def bert(**only):
    flags = dict(clean_text=False, handle_chinese_chars=False, strip_accents=False, lowercase=False)
    return normalizers.BertNormalizer(**{**flags, **only})


def classes():
    digits = pre_tokenizers.Digits(individual_digits=True)
    punctuation = pre_tokenizers.Punctuation("isolated")
    clean, strip = bert(clean_text=True), bert(strip_accents=True)
    cleaned = {c: clean.normalize_str(chr(c)) for c in SCALARS}
    return [
        ("Letter", matching(r"\p{L}")),
        ("Number", matching(r"\p{N}")),
        ("Space", matching(r"\s")),
        ("Punctuation", matching(r"\p{P}")),
        ("UpperOrCaseless", matching(r"[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]")),
        ("LowerOrCaseless", matching(r"[\p{Ll}\p{Lm}\p{Lo}\p{M}]")),
        ("Mark", matching(r"\p{M}")),
        ("Digit", {c for c in SCALARS if len(digits.pre_tokenize_str("a" + chr(c) + "a")) == 3}),
        ("SplitPunctuation", {c for c in SCALARS if len(punctuation.pre_tokenize_str("a" + chr(c) + "a")) == 3}),
        ("BertRemoved", {c for c, text in cleaned.items() if text == ""}),
        ("BertSpace", {c for c, text in cleaned.items() if text == " "}),
        ("BertAccent", {c for c in SCALARS if strip.normalize_str(chr(c)) == ""}),
    ]


def write_classes():
    named = classes()
    masks = [0] * 0x110000
    for bit, (_, members) in enumerate(named):
        for c in members:
            masks[c] |= 1 << bit
    ranges, previous = [], None
    for c, mask in enumerate(masks):
        if mask != previous:
            ranges.append((c, mask))
            previous = mask
    # The range that holds the first character of each block of 256: where a look-up starts.
    blocks, at = [], 0
    for block in range(0x1100 + 1):
        while at + 1 < len(ranges) and ranges[at + 1][0] <= min(block << 8, 0x10FFFF):
            at += 1
        blocks.append(at)
    lines = [HEAD.format("Character classes as ranges, and the range each block of 256 starts in.")]
    lines.append("// clang-format off\n")
    lines.append("constexpr ClassRange kClassRanges[] = {\n" + rows(f"{{0x{c:x},0x{m:x}}}" for c, m in ranges) + "};\n")
    lines.append("constexpr uint16_t kClassBlocks[] = {\n" + rows(map(str, blocks)) + "};\n// clang-format on\n")
    (HERE / "classes.inc").write_text("".join(lines))
    names = [f"constexpr uint16_t k{name} = 1u << {bit};\n" for bit, (name, _) in enumerate(named)]
    ascii_row = "constexpr uint16_t kAsciiClasses[128] = {\n" + rows(f"0x{m:x}" for m in masks[:128]) + "};\n"
    (HERE / "class_names.inc").write_text(
        HEAD.format("The bits of a character's classes, and those of ASCII.") + "".join(names) + ascii_row)


def rows(items):
    out, line = [], ""
    for item in items:
        if len(line) + len(item) > 180:
            out.append(line)
            line = ""
        line += item + ","
    return "\n".join(out + [line]) + "\n"


def canonical_decompositions():
    nfd = normalizers.NFD()
    table = {}
    for c in SCALARS:
        if 0xAC00 <= c < 0xAC00 + 11172:
            continue  # Hangul is arithmetic
        text = nfd.normalize_str(chr(c))
        if text != chr(c):
            table[c] = text
    return table


def compositions(decompositions):
    """(first, second) -> composite, for every composite that NFC keeps."""
    nfc = normalizers.NFC()
    pairs = []
    for c, text in decompositions.items():
        if len(text) < 2 or nfc.normalize_str(text) != chr(c):
            continue
        first = nfc.normalize_str(text[:-1])
        assert len(first) == 1, hex(c)
        pairs.append((ord(first), ord(text[-1]), c))
    return sorted(pairs)


def combining_classes():
    """unicodedata's, for the marks that the judge reorders too (it knows an older Unicode)."""
    nfd = normalizers.NFD()
    runs = []
    for c in SCALARS:
        k = unicodedata.combining(chr(c))
        if not k:
            continue
        low, high = chr(0x334), chr(0x345)  # classes 1 and 240
        moved = nfd.normalize_str("a" + chr(c) + low) != "a" + chr(c) + low if k > 1 else (
            nfd.normalize_str("a" + high + chr(c)) != "a" + high + chr(c))
        decomposes = nfd.normalize_str(chr(c)) != chr(c)
        if not moved and not decomposes:
            continue
        if runs and runs[-1][1] == c - 1 and runs[-1][2] == k:
            runs[-1][1] = c
        else:
            runs.append([c, c, k])
    return runs


def write_normalization():
    decompositions = canonical_decompositions()
    lower = bert(lowercase=True)
    folds = {c: lower.normalize_str(chr(c)) for c in SCALARS if c > 0x7F and lower.normalize_str(chr(c)) != chr(c)}
    pool = []

    def mapping(name, table):
        entries = []
        for c, text in sorted(table.items()):
            entries.append(f"{{0x{c:x},{len(pool)},{len(text)}}}")
            pool.extend(map(ord, text))
        return f"constexpr Mapping {name}[] = {{\n{rows(entries)}}};\n"

    lines = [HEAD.format("Canonical decompositions and compositions, combining classes, lower case."), "// clang-format off\n"]
    lines.append(mapping("kDecompositions", decompositions))
    lines.append(mapping("kLowerCase", folds))
    lines.append("constexpr char32_t kMappedText[] = {\n" + rows(f"0x{c:x}" for c in pool) + "};\n")
    lines.append("constexpr Composition kCompositions[] = {\n"
                 + rows(f"{{0x{a:x},0x{b:x},0x{c:x}}}" for a, b, c in compositions(decompositions)) + "};\n")
    lines.append("constexpr CombiningRange kCombiningRanges[] = {\n"
                 + rows(f"{{0x{a:x},0x{b:x},{k}}}" for a, b, k in combining_classes()) + "};\n// clang-format on\n")
    (HERE / "normalization.inc").write_text("".join(lines))


if __name__ == "__main__":
    write_classes()
    write_normalization()
