#!/usr/bin/env python3
"""Measures peak memory of kquant on a synthetic Llama checkpoint of more than 2 GB with one tensor of 600 MB.

The anonymous memory (pages of mapped files aside) must stay under `--memory` plus 200 MB, and the result must be the
same for every budget. Linux only: it samples /proc/PID/status. Needs about 3 GB of disk, and nothing but Python.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path

import synthetic
from program import Kquant, Tally

# The embedding is 604 MB in bf16.
MODEL = synthetic.Llama(hidden=2048, ffn=8192, layers=12, heads=32, kv_heads=32, vocab=147_456, context=2048, tied=True)
MIB, MB = 1 << 20, 1_000_000
ALLOWANCE = 200 * MB


def measure(kquant, model, out, memory):
    """One run; returns how it went, and size and SHA-256 of the output, or raises RuntimeError."""
    args = [kquant.path, "quantize", model, "-o", out, "--type", "Q4_K_M", "--json", "--quiet"]
    run = synthetic.watched(args + (["--memory", memory] if memory else []))
    (file,) = json.loads(run.stdout)["files"]
    out.unlink()
    return run, file["bytes"], file["sha256"]


def in_bytes(text):
    """256M -> bytes."""
    units = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
    return int(text[:-1]) * units[text[-1]]


def check(kquant, model, out, tally):
    """All runs: the budgets under test, then the default; prints the table."""
    print(f"{'--memory':>9} {'peak anonymous':>15} {'allowed':>9} {'peak total':>11} {'of it files':>12} {'samples':>8} {'seconds':>8}")
    hashes = {}
    for memory in ("256M", "64M", None):
        run, size, hashes[memory] = measure(kquant, model, out, memory)
        anonymous = run.anonymous()
        allowed = in_bytes(memory) + ALLOWANCE if memory else None
        show = [f"{x / MB:.0f} MB" if x else "-" for x in (anonymous, allowed, run.peaks["VmHWM"], run.peaks["RssFile"])]
        print(f"{memory or 'default':>9} {show[0]:>15} {show[1]:>9} {show[2]:>11} {show[3]:>12} {run.samples:>8} {run.seconds:>8.1f}", flush=True)
        if allowed:
            problem = "" if 0 < anonymous < allowed else f"{show[0]} of anonymous memory, {show[1]} allowed"
            tally.check(f"peak with --memory {memory}", problem)
    print(f"output: {size / MB:.0f} MB, sha256 {hashes[None]}")
    for memory in ("256M", "64M"):
        tally.check(f"--memory {memory} as the default", "" if hashes[memory] == hashes[None] else hashes[memory])


def main():
    """Parses the arguments, makes the checkpoint, runs everything, removes the files."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kquant", required=True, type=Path, help="the program")
    parser.add_argument("--dir", type=Path, help="where to put the files (default: the system's temporary folder)")
    args = parser.parse_args()
    kquant, tally = Kquant(args.kquant), Tally()
    with tempfile.TemporaryDirectory(prefix="kquant-memory-", dir=args.dir) as scratch:
        model = Path(scratch) / "model"
        model.mkdir()
        size = MODEL.write(model)
        largest = max(2 * synthetic.weights(s) for s in MODEL.tensors().values())
        print(f"checkpoint: {size / MB:.0f} MB, {len(MODEL.tensors())} tensors, the largest {largest / MB:.0f} MB")
        tally.check("checkpoint", "" if size >= 2 << 30 and largest >= 600 * MB else "smaller than promised")
        check(kquant, model, Path(scratch) / "out.gguf", tally)
    return tally.close()


if __name__ == "__main__":
    sys.exit(main())
