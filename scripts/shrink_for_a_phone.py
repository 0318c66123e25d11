#!/usr/bin/env python3
"""What each step of docs/shrinking-for-a-phone.md costs and gives: a model as it is, with fewer tokens, with fewer channels, and trained by the original again, each quantized to the same numbers of bytes.

Every file is made by the commands of that page, which are printed, and compared with the original on a text that nothing was chosen by: mean KL divergence, and how often the likeliest token is the same.
Seconds are the processors', not the clock's, so that what else runs on the machine counts little.

--svg draws the divergences against the bytes. Exit code 1 if a command fails, or if a file is larger than it was asked to be.
"""

import argparse
import dataclasses
import json
import os
import shlex
import sys
import tempfile
from pathlib import Path

from compare.plot import Line, Panel, drawing
from program import Kquant, Tally

WAYS = {"whole": "as it is", "tokens": "fewer tokens", "trained": "fewer tokens, trained", "channels": "fewer tokens and channels, trained"}
MIB = 1 << 20


@dataclasses.dataclass
class Row:
    """What was measured of one file."""

    way: str
    size: int  # that was asked for, in bytes; 0 before quantizing
    bytes: int
    kl: float
    same_top: float  # percent of the positions
    seconds: float  # of processors, for the last step

    def line(self):
        """For the table."""
        asked = f"{self.size // MIB} MiB" if self.size else "not quantized"
        cells = [WAYS[self.way], asked, f"{self.bytes / 1e6:.1f} MB", f"{self.kl:.4f}", f"{self.same_top:.1f} %", f"{self.seconds:.0f}"]
        return f"| {' | '.join(cells)} |"


class Phone:
    """The original, the models that come of it, and what was measured of them."""

    def __init__(self, args, scratch):
        self.args, self.scratch, self.kquant, self.rows = args, scratch, Kquant(args.kquant), []
        self.pass_over = ["--chunks", args.chunks, "--context", args.context, "--products", "bf16"]
        self.tally = Tally()

    def run(self, *args):
        """Runs and prints a command; returns the processors' seconds."""
        print("$ kquant " + shlex.join(str(a).replace(f"{self.scratch}/", "") for a in args), flush=True)
        before = os.times()
        self.kquant.run(*args, "--quiet")
        after = os.times()
        return after.children_user + after.children_system - before.children_user - before.children_system

    def measure(self, way, path, size, seconds):
        """Keeps and prints the row of a file."""
        report = self.scratch / "report.json"
        self.kquant.run("perplexity", path, "--base", self.args.model, "--text", self.args.text, "--context", self.args.context,
                        "--chunks", self.args.text_chunks, "--products", "bf16", "--json", report, "--force", "--quiet")  # fmt: skip
        found, written = json.loads(report.read_text()), path.stat().st_size
        row = Row(way, size, written, found["kl"]["mean"], found["same_top"], seconds)
        self.rows.append(row)
        print(row.line(), flush=True)
        if size:
            self.tally.check(f"{way} in {size} bytes", "" if written <= size else f"has {written}")

    def quantize(self, way, source):
        """Files of all sizes; of a size that is too small for the model, the message."""
        statistics, out = self.scratch / f"{way}-statistics.gguf", self.scratch / f"{way}.gguf"
        seconds = self.run("calibrate", source, "--text", self.args.calibration, "-o", statistics, "--fisher", "--output-tensor", *self.pass_over)
        print(f"{WAYS[way]}: statistics for all sizes, {seconds:.0f} s", flush=True)
        for size in self.args.sizes:
            try:
                seconds = self.run("quantize", source, "-o", out, "--size", size, "--quality", "best", "--statistics", statistics, "--menu", "phone", "--force")
            except RuntimeError as error:
                print(f"{WAYS[way]}, {size} bytes: {str(error).splitlines()[-1]}", flush=True)
                continue
            self.measure(way, out, size, seconds)

    def prune(self, source, name, *what):
        """The pruned model and the seconds that it took."""
        out = self.scratch / f"{name}-pruned.gguf"
        seconds = self.run("prune", source, "-o", out, *what, "--text", self.args.calibration, *self.pass_over, "--type", "F32")
        return out, seconds

    def distill(self, student, name):
        """The trained student, and the seconds that it took."""
        out = self.scratch / f"{name}-trained.gguf"
        seconds = self.run("distill", student, "--teacher", self.args.model, "--text", self.args.calibration, "-o", out, "--tokens", self.args.tokens,
                           "--optimizer", "adamw", "--rate", self.args.rate, *self.pass_over)  # fmt: skip
        return out, seconds

    def all(self):
        """Every way that was asked for."""
        if "whole" in self.args.ways:
            self.quantize("whole", self.args.model)
        if self.args.ways == ["whole"]:
            return
        fewer, seconds = self.prune(self.args.model, "tokens", "--vocab", self.args.vocab)
        self.measure("tokens", fewer, 0, seconds)
        if "tokens" in self.args.ways:
            self.quantize("tokens", fewer)
        if "trained" in self.args.ways:
            trained, seconds = self.distill(fewer, "trained")
            self.measure("trained", trained, 0, seconds)
            self.quantize("trained", trained)
        if "channels" in self.args.ways:
            narrow, seconds = self.prune(fewer, "channels", "--ffn", self.args.ffn)
            self.measure("channels", narrow, 0, seconds)
            trained, seconds = self.distill(narrow, "channels")
            self.measure("channels", trained, 0, seconds)
            self.quantize("channels", trained)

    def panel(self):
        """A line for each way over the sizes that could be made."""
        lines = []
        for number, way in enumerate(self.args.ways):
            points = [(r.bytes / 1e6, r.kl) for r in self.rows if r.way == way and r.size]
            if points:
                lines.append(Line(WAYS[way], points, colour=number // 2, dashed=number % 2 == 1))
        return Panel("What a file of a size loses (lower is better)", "megabytes", "KL", lines, digits=3)


def size_in_bytes(text):
    """Bytes, or as `kquant quantize --size` has them: 120M."""
    return int(text[:-1]) * MIB if text.endswith("M") else int(text)


def main():
    """Prints the commands and the table row by row."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kquant", required=True, type=Path, help="the program")
    parser.add_argument("--model", required=True, type=Path, help="a GGUF, for instance of off_grid.py")
    parser.add_argument("--calibration", required=True, type=Path, metavar="TEXT", help="text to choose and to train by")
    parser.add_argument("--text", required=True, type=Path, help="text to compare on")
    parser.add_argument("--sizes", nargs="+", required=True, type=size_in_bytes, metavar="BYTES", help="such as 120M")
    parser.add_argument("--vocab", type=int, default=65536, metavar="N", help="tokens to keep (default: 65536)")
    parser.add_argument("--ffn", default="12.5%", metavar="WIDTH", help="channels to keep, or the share to cut (default: 12.5%%)")
    parser.add_argument("--tokens", default="64k", help="to train on (default: 64k)")
    parser.add_argument("--rate", default="5e-5", help="of training (default: 5e-5)")
    parser.add_argument("--ways", nargs="+", choices=WAYS, default=[*WAYS])
    parser.add_argument("--chunks", type=int, default=64, metavar="N", help="of the calibration text (default: 64)")
    parser.add_argument("--text-chunks", type=int, default=16, metavar="N", help="of the other text (default: 16)")
    parser.add_argument("--context", type=int, default=512, metavar="N", help="tokens of a chunk (default: 512)")
    parser.add_argument("--svg", type=Path, metavar="FILE")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="kquant-phone-", dir=args.model.parent) as scratch:
        phone = Phone(args, Path(scratch))
        print("| model | asked for | size | KL | same top | seconds |\n|---|--:|--:|--:|--:|--:|", flush=True)
        phone.all()
    if args.svg:
        args.svg.write_text(drawing([phone.panel()]))
    return phone.tally.close()


if __name__ == "__main__":
    sys.exit(main())
