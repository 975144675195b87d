# SPDX-License-Identifier: Apache-2.0
"""The results as one SVG: for each workload a bar a contestant, the best of them as long as the row."""
from xml.sax.saxutils import escape

import table

COLOURS = ["#1b6e5a", "#c2702f", "#5166a8", "#a8517f", "#8a8a3c", "#777777"]
LEFT, BAR, RIGHT, LINE, GAP, TOP = 300, 420, 130, 17, 14, 74


def speed(row, name):
    """Longer is better, in every row."""
    median = row["figures"][name]["median"]
    return 1 / median if row["is_less_better"] else median


def text(x, y, words, **attributes):
    given = "".join(f' {key.replace("_", "-")}="{value}"' for key, value in attributes.items())
    return f'<text x="{x}" y="{y}"{given}>{escape(words)}</text>'


def bars(row, names, top):
    shown = [name for name in names if name in row["figures"]]
    best = max((speed(row, name) for name in shown), default=1)
    yield text(LEFT - 10, top + LINE * len(shown) / 2 + 4, f"{row['title']}, {row['unit']}", text_anchor="end")
    for index, name in enumerate(shown):
        y, width = top + index * LINE, max(1.0, BAR * speed(row, name) / best)
        colour = COLOURS[names.index(name) % len(COLOURS)]
        yield f'<rect x="{LEFT}" y="{y}" width="{width:.1f}" height="{LINE - 3}" fill="{colour}"/>'
        said = table.figure(row["figures"][name]["median"], row["unit"])
        if name == "girih" and "ratio" in row:
            said += f"  ({row['ratio']:.2f}x the best peer)"
        yield text(LEFT + width + 6, y + LINE - 6, said, font_weight="bold" if name == "girih" else "normal")


def svg(results):
    names = [c["name"] for c in results["contestants"]]
    rows = [row for row in results["workloads"] if row["figures"]]
    parts, y = [], TOP
    for row in rows:
        parts += bars(row, names, y)
        y += LINE * len(row["figures"]) + GAP
    legend, x = [], LEFT
    for index, name in enumerate(names):
        legend += [f'<rect x="{x}" y="48" width="11" height="11" fill="{COLOURS[index % len(COLOURS)]}"/>', text(x + 16, 58, name)]
        x += 40 + 8 * len(name)
    machine = results["machine"]
    title = [text(16, 24, f"{results['model']['file']}, {results['threads']} threads, {results['isa']}: longer bars are better", font_size="16"),
             text(16, 42, f"{machine['name']}; girih {results['commit']}; medians of {results['rounds']} interleaved rounds", fill="#555")]
    width = LEFT + BAR + RIGHT + 60
    return "\n".join([f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{y + 10}" viewBox="0 0 {width} {y + 10}" '
                      'font-family="sans-serif" font-size="12" fill="#222">', f'<rect width="{width}" height="{y + 10}" fill="white"/>',
                      *title, *legend, *parts, "</svg>"]) + "\n"
