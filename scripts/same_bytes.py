#!/usr/bin/env python3
"""Shows that two builds of kquant write the same files, byte for byte: for changes that must not change any output.

    git worktree add /tmp/before COMMIT && (cd /tmp/before && cargo build --release)
    scripts/same_bytes.py --before /tmp/before/target/release/kquant --after target/release/kquant

Quantizes the models of tests/data with every file type, with and without importance, with feedback from a text over columns
and over both sides, and one model of each architecture; compares the SHA-256 of whole files. Needs nothing but Python.
"""

import argparse
import hashlib
import json
import sys
import tempfile
from pathlib import Path

from program import DATA, Kquant, Tally

TINY = DATA / "tiny-llama"
IMPORTANCE = DATA / "golden" / "tiny-llama.imatrix.gguf"
TEXT = DATA / "corpora" / "calibration-small.txt"
CALIBRATION = ["--calibrate", TEXT, "--context", "128", "--chunks", "16"]


def runs():
    """Name of each run -> model, file type, more arguments."""
    golden = json.loads((DATA / "golden" / "tiny-llama.json").read_text())
    for kind in golden["quantize"]:
        yield f"{kind}", TINY, kind, []
    for kind in golden["quantize_imatrix"]:
        yield f"{kind}, importance", TINY, kind, ["--imatrix", IMPORTANCE]
    for kind in ("Q4_K_M", "Q3_K_S", "Q2_K", "Q4_0", "IQ4_XS", "IQ2_XS"):
        for quality in ("good", "best"):
            yield f"{kind}, {quality}", TINY, kind, [*CALIBRATION, "--quality", quality]
    for folder in sorted((DATA / "archs").iterdir()):
        yield f"{folder.name}, F16", folder, "F16", []
        yield f"{folder.name}, Q8_0", folder, "Q8_0", []


def digest(kquant, model, kind, more, out):
    """SHA-256 of what `kquant` makes of `model`."""
    kquant.quantize(model, out, kind, *more)
    return hashlib.sha256(out.read_bytes()).hexdigest()


def problem(before, after, run, folder):
    """Why the two programs' files differ; empty if they do not."""
    first, second = (digest(program, *run, folder / "out.gguf") for program in (before, after))
    return "" if first == second else f"{first[:16]} before, {second[:16]} after"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--before", required=True, help="the program before the change")
    parser.add_argument("--after", required=True, help="the program after it")
    args = parser.parse_args()
    before, after = Kquant(args.before), Kquant(args.after)
    tally = Tally()
    with tempfile.TemporaryDirectory() as scratch:
        for name, *run in runs():
            tally.row(name, problem, before, after, run, Path(scratch))
    return tally.close()


if __name__ == "__main__":
    sys.exit(main())
