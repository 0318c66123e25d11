"""A drawing of lines over logarithmic axes, as SVG text. Light and dark follow the reader's colour scheme."""

import math
from dataclasses import dataclass
from xml.sax.saxutils import escape

WIDTH, HEIGHT = 400, 300  # of a panel's axes
LEFT, RIGHT, TOP, BOTTOM = 62, 16, 76, 52  # around them
COLOURS = 2
APART = 30  # pixels between the middles of two numbers below the axis
STYLE = """
text { font: 13px sans-serif; fill: #24292f }
.title { font-weight: bold; font-size: 14px }
.back { fill: #ffffff } .grid { stroke: #d0d7de; stroke-width: 1 } .axis { stroke: #57606a; fill: none }
.guide { stroke: #8c959f; stroke-dasharray: 2 4; fill: none }
.line { fill: none; stroke-width: 2.5 } .dashed { stroke-dasharray: 7 4 }
.c0 { stroke: #0969da } .c1 { stroke: #bc4c00 } .p0 { fill: #0969da } .p1 { fill: #bc4c00 }
@media (prefers-color-scheme: dark) {
text { fill: #e6edf3 } .back { fill: #0d1117 } .grid { stroke: #30363d } .axis { stroke: #8d96a0 } .guide { stroke: #6e7681 }
.c0 { stroke: #58a6ff } .c1 { stroke: #f0883e } .p0 { fill: #58a6ff } .p1 { fill: #f0883e }
}
"""


@dataclass(frozen=True)
class Line:
    """Points (x, y), all above zero. `colour` counts from 0; a `guide` is thin and has no points."""

    name: str
    points: list
    colour: int = 0
    dashed: bool = False
    guide: bool = False


@dataclass(frozen=True)
class Panel:
    """One pair of axes."""

    title: str
    x: str
    y: str
    lines: list
    digits: int = 1  # of the numbers below the axis


class Axis:
    """Where a value lies: `low` at `start`, `high` at `end`, its logarithm in between."""

    def __init__(self, values, start, end):
        self.low, self.high, self.start, self.end = min(values) / 1.25, max(values) * 1.25, start, end

    def at(self, value):
        """Pixels of a value."""
        share = math.log(value / self.low) / math.log(self.high / self.low)
        return round(self.start + share * (self.end - self.start), 1)

    def ticks(self):
        """Round values in the range: 1, 2, 5 and 10 times a power of ten, or fewer where the range is wide."""
        steps = (1, 2, 5) if self.high / self.low < 200 else (1,)
        powers = range(math.floor(math.log10(self.low)), math.ceil(math.log10(self.high)) + 1)
        values = [step * 10.0**power for power in powers for step in steps]
        return [value for value in values if self.low <= value <= self.high]


def number(value):
    """0.5, 20, 1000 without needless digits."""
    return f"{value:.10g}"


def panel_parts(panel, left):
    """Elements of one panel whose axes begin at `left`."""
    points = [point for line in panel.lines for point in line.points]
    x = Axis([p[0] for p in points], left, left + WIDTH)
    y = Axis([p[1] for p in points], TOP + HEIGHT, TOP)
    yield f'<text class="title" x="{left}" y="{TOP - 52}">{escape(panel.title)}</text>'
    for value in y.ticks():
        yield f'<path class="grid" d="M{left} {y.at(value)}H{left + WIDTH}"/>'
        yield f'<text x="{left - 7}" y="{y.at(value) + 4}" text-anchor="end">{number(value)}</text>'
    free = left  # pixels from which on a number has room
    for value in sorted({p[0] for p in points}):
        yield f'<path class="grid" d="M{x.at(value)} {TOP}V{TOP + HEIGHT}"/>'
        if x.at(value) >= free:
            free = x.at(value) + APART
            yield f'<text x="{x.at(value)}" y="{TOP + HEIGHT + 18}" text-anchor="middle">{value:.{panel.digits}g}</text>'
    yield f'<path class="axis" d="M{left} {TOP}V{TOP + HEIGHT}H{left + WIDTH}"/>'
    yield f'<text x="{left + WIDTH / 2}" y="{TOP + HEIGHT + 40}" text-anchor="middle">{escape(panel.x)}</text>'
    yield f'<text x="{left - 7}" y="{TOP - 8}" text-anchor="end">{escape(panel.y)}</text>'
    for number_of, line in enumerate(panel.lines):
        yield from line_parts(line, x, y)
        yield from key_parts(line, left + number_of % 2 * 200, TOP - 34 + number_of // 2 * 18)


def line_class(line):
    """CSS classes of a line."""
    return "guide" if line.guide else f"line c{line.colour % COLOURS}{' dashed' if line.dashed else ''}"


def line_parts(line, x, y):
    """The line itself, and its points."""
    places = [(x.at(px), y.at(py)) for px, py in line.points]
    yield f'<path class="{line_class(line)}" d="M{"L".join(f"{px} {py}" for px, py in places)}"/>'
    if not line.guide:
        yield from (f'<circle class="p{line.colour % COLOURS}" cx="{px}" cy="{py}" r="3.5"/>' for px, py in places)


def key_parts(line, left, top):
    """A line's entry in the key."""
    yield f'<path class="{line_class(line)}" d="M{left} {top}h26"/>'
    yield f'<text x="{left + 32}" y="{top + 4}">{escape(line.name)}</text>'


def drawing(panels):
    """The SVG of panels side by side."""
    step = LEFT + WIDTH + RIGHT
    width, height = step * len(panels), TOP + HEIGHT + BOTTOM
    parts = [part for place, panel in enumerate(panels) for part in panel_parts(panel, place * step + LEFT)]
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}">'
    return "\n".join([head, f"<style>{STYLE}</style>", f'<rect class="back" width="{width}" height="{height}"/>', *parts, "</svg>\n"])
