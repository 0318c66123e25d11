#!/usr/bin/env python3
"""Draws docs/divergence.svg from the tables of docs/results.md: KL divergence over bits per weight, one line per encoder.

Reads every table that has the columns `type`, `bits per weight` and `KL, ggml`; rows without a number of bits (mixtures of types) are
left out. Every type is a mark; a line joins the types of an encoder that none of its smaller types beats, but not over a gap. Encoders differ by the shape
of their marks and by a label at their line, so that the picture can be read without colours; light and dark follow the reader's
scheme. Needs nothing but Python.

    scripts/draw_divergence.py [--check]

--check draws nothing and fails if the file is not what the tables give.
"""

import argparse
import math
import sys
from dataclasses import dataclass
from pathlib import Path
from xml.sax.saxutils import escape

ROOT = Path(__file__).resolve().parent.parent
RESULTS, PICTURE = ROOT / "docs" / "results.md", ROOT / "docs" / "divergence.svg"

WIDTH, HEIGHT = 640, 460
LEFT, RIGHT, TOP, BOTTOM = 70, 14, 62, 60  # around the axes
BITS = (1.3, 6.9)
DIVERGENCE = (0.00025, 0.45)
MARK = 6  # half of a mark's width
GAP = 1.5  # bits between neighbours that are not joined: a type between them was not measured
STYLE = """
text { font: 17px sans-serif; fill: #1f2328 } .small { font-size: 15px; fill: #59636e } .title { font-weight: bold; font-size: 19px }
.back { fill: #ffffff } .grid { stroke: #d1d9e0 } .axis { stroke: #59636e; fill: none }
.line { fill: none; stroke-width: 2.5 } .mark { stroke: #ffffff; stroke-width: 1.5 } .name { font-weight: bold; paint-order: stroke; stroke: #ffffff; stroke-width: 5px }
.line.s0 { stroke: #59636e } .line.s1 { stroke: #0969da; stroke-dasharray: 9 4 } .line.s2 { stroke: #bc4c00 }
.mark.s0, .name.s0 { fill: #59636e } .mark.s1, .name.s1 { fill: #0969da } .mark.s2, .name.s2 { fill: #bc4c00 }
"""
DARK = """
text { fill: #f0f6fc } .small { fill: #9198a1 } .back { fill: #0d1117 } .grid { stroke: #30363d } .axis { stroke: #9198a1 }
.mark, .name { stroke: #0d1117 } .line.s0 { stroke: #b1bac4 } .line.s1 { stroke: #58a6ff } .line.s2 { stroke: #f0883e }
.mark.s0, .name.s0 { fill: #b1bac4 } .mark.s1, .name.s1 { fill: #58a6ff } .mark.s2, .name.s2 { fill: #f0883e }
"""


@dataclass(frozen=True)
class Series:
    """An encoder: its column in the tables, what the picture calls it, where that stands, the shape of its marks."""

    column: str
    name: str
    label: tuple
    shape: str


NAMED = ["IQ1_S", "IQ2_XXS", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K"]
SERIES = [
    Series("KL, ggml", "llama.cpp, with importance", (2.9, 0.15), "M-{0} 0A{0} {0} 0 1 0 {0} 0A{0} {0} 0 1 0 -{0} 0Z"),
    Series("good", "kquant, good", (1.42, 0.0095), "M-{0} -{0}H{0}V{0}H-{0}Z"),
    Series("best", "kquant, best", (1.95, 0.0026), "M0 -{0}L{0} {0}H-{0}Z"),
]


def tables(text):
    """Every table of a Markdown text as a list of rows, a list of cells each; the first row is the head."""
    found, rows = [], []
    for line in [*text.splitlines(), ""]:
        if line.startswith("|"):
            rows.append([cell.strip().strip("`") for cell in line.strip("|").split("|")])
        elif rows:
            found.append([rows[0], *rows[2:]])
            rows = []
    return found


def measured(text):
    """For each series, bits per weight and divergence by type."""
    values = {series.column: {} for series in SERIES}
    for head, *rows in tables(text):
        if head[:2] != ["type", "bits per weight"]:
            continue
        for row in rows:
            if not row[1].replace(".", "", 1).isdigit():
                continue
            for series in SERIES:
                if series.column in head:
                    # The first column of that name: others are perplexities and other texts.
                    values[series.column][row[0]] = (float(row[1]), float(row[head.index(series.column)]))
    if not all(values.values()):
        raise SystemExit(f"{RESULTS}: no table has the columns {', '.join(series.column for series in SERIES)}")
    return values


def unbeaten(points):
    """Points with less divergence than all that are as small or smaller."""
    kept = []
    for bits, divergence in sorted(points):
        if not kept or divergence < kept[-1][1]:
            kept.append((bits, divergence))
    return kept


def x_of(bits):
    """Pixels of a number of bits per weight."""
    return round(LEFT + (bits - BITS[0]) / (BITS[1] - BITS[0]) * (WIDTH - LEFT - RIGHT), 1)


def y_of(divergence):
    """Pixels of a divergence."""
    low, high = map(math.log, DIVERGENCE)
    return round(HEIGHT - BOTTOM - (math.log(divergence) - low) / (high - low) * (HEIGHT - BOTTOM - TOP), 1)


def axes():
    """The grid, its numbers, what they are."""
    right, bottom = WIDTH - RIGHT, HEIGHT - BOTTOM
    yield f'<text class="title" x="{LEFT}" y="26">What quantization loses, by size (lower is better)</text>'
    yield f'<text class="small" x="{LEFT}" y="{TOP - 10}">KL divergence from the original, nats per token</text>'
    for power in range(-3, 0):
        for step in (1, 3):
            value = step * 10.0**power
            yield f'<path class="grid" d="M{LEFT} {y_of(value)}H{right}"/>'
            yield f'<text x="{LEFT - 8}" y="{y_of(value) + 6}" text-anchor="end">{value:g}</text>'
    for bits in range(2, 7):
        yield f'<path class="grid" d="M{x_of(bits)} {TOP}V{bottom}"/>'
        yield f'<text x="{x_of(bits)}" y="{bottom + 22}" text-anchor="middle">{bits}</text>'
    yield f'<path class="axis" d="M{LEFT} {TOP}V{bottom}H{right}"/>'
    yield f'<text x="{(LEFT + right) / 2}" y="{bottom + 48}" text-anchor="middle">bits per weight of the linear layers</text>'


def type_names(points):
    """Names of some types above the marks of the first series, those of one size together."""
    for named in NAMED:
        bits = points[named][0]
        alike = sorted((name for name in points if points[name][0] == bits), key=lambda name: -points[name][1])
        x, y = x_of(bits), y_of(points[alike[0]][1]) - 11
        end = x > WIDTH - RIGHT - 40
        place = f'x="{WIDTH - RIGHT}" text-anchor="end"' if end else f'x="{x + 2}"'
        yield f'<text class="small" {place} y="{y}">{", ".join(alike)}</text>'


def series_parts(number, series, points):
    """A line, its marks and its name."""
    line = unbeaten(points)
    joined = ["L" if bits - before <= GAP else "M" for (before, _), (bits, _) in zip(line, line[1:])]
    path = "".join(f"{how}{x_of(bits)} {y_of(divergence)}" for how, (bits, divergence) in zip(["M", *joined], line))
    yield f'<path class="line s{number}" d="{path}"/>'
    for bits, divergence in sorted(points):
        shape = series.shape.format(MARK)
        yield f'<path class="mark s{number}" transform="translate({x_of(bits)} {y_of(divergence)})" d="{shape}"/>'
    x, y = x_of(series.label[0]), y_of(series.label[1])
    yield f'<path class="mark s{number}" transform="translate({x} {y - 6})" d="{series.shape.format(MARK)}"/>'
    yield f'<text class="name s{number}" x="{x + 14}" y="{y}">{escape(series.name)}</text>'


def drawing(text):
    """The picture of the tables in `text`."""
    values = measured(text)
    parts = [*axes(), *type_names(values[SERIES[0].column])]
    for number, series in enumerate(SERIES):
        parts += series_parts(number, series, list(values[series.column].values()))
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" width="{WIDTH}" height="{HEIGHT}" role="img">'
    title = "<title>KL divergence over bits per weight: llama.cpp with importance, kquant good, kquant best</title>"
    style = f"<style>{STYLE}@media (prefers-color-scheme: dark) {{{DARK}}}\n</style>"
    return "\n".join([head, title, style, f'<rect class="back" width="{WIDTH}" height="{HEIGHT}"/>', *parts, "</svg>\n"])


def main():
    """Draws, or checks; the exit code says whether the file is as it should be."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="only compare the file with what the tables give")
    args = parser.parse_args()
    svg = drawing(RESULTS.read_text(encoding="utf-8"))
    if not args.check:
        PICTURE.write_text(svg, encoding="utf-8")
    elif PICTURE.read_text(encoding="utf-8") != svg:
        print(f"{PICTURE} is not what {RESULTS} gives: run scripts/draw_divergence.py")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
