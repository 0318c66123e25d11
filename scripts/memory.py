#!/usr/bin/env python3
"""Measures peak memory of kquant on a synthetic Llama checkpoint of more than 2 GB with one tensor of 600 MB, and on a mixture
whose experts make three tensors of 134 MB each.

The anonymous memory (pages of mapped files aside) must stay under `--memory` plus 200 MB, and the result must be the
same for every budget. With 128M nothing but the budget may grow with the model: all resident memory, pages of mapped files
included, must stay under 300 MB, also when a GGUF is read. Linux only: it samples /proc/PID/status. Needs about 5 GB of disk, and nothing but Python.
"""

import argparse
import json
import shutil
import sys
import tempfile
from pathlib import Path

import synthetic
from program import Kquant, Tally

# The embedding is 604 MB in bf16.
MODEL = synthetic.Llama(hidden=2048, ffn=8192, layers=12, heads=32, kv_heads=32, vocab=147_456, context=2048, tied=True)
MIXTURE = synthetic.Llama(
    hidden=2048, ffn=4096, layers=1, heads=32, kv_heads=8, vocab=8192, context=2048, tied=True, experts=8
)
MIB, MB = 1 << 20, 1_000_000
ALLOWANCE = 200 * MB
RESIDENT = 300 * MB


# How a run is made, and what its peaks must stay under: (--memory, anonymous, resident), in bytes where limited.
FOLDER_RUNS = [
    ("256M", 256 * MIB + ALLOWANCE, None),
    ("64M", 64 * MIB + ALLOWANCE, None),
    ("128M", RESIDENT, RESIDENT),
    (None, None, None),
]
# As f32 the experts of one tensor would be 268 MB.
MIXTURE_RUNS = [("16M", 16 * MIB + ALLOWANCE, None), (None, None, None)]
GGUF_RUNS = [("128M", RESIDENT, RESIDENT), (None, None, None)]


def measure(kquant, model, out, memory):
    """One run; returns how it went, and size and SHA-256 of the output, or raises RuntimeError."""
    args = [kquant.path, "quantize", model, "-o", out, "--type", "Q4_K_M", "--json", "--quiet"]
    run = synthetic.watched(args + (["--memory", memory] if memory else []))
    (file,) = json.loads(run.stdout)["files"]
    out.unlink()
    return run, file["bytes"], file["sha256"]


def check(kquant, model, runs, out, tally):
    """All runs over one model, which must agree; prints the table and a line on the output."""
    print(f"{'--memory':>9} {'peak anonymous':>15} {'allowed':>9} {'peak total':>11} {'allowed':>9} {'of it files':>12} {'samples':>8} {'seconds':>8}")
    hashes = {}
    for memory, *limits in runs:
        name = f"--memory {memory or 'default'}"
        run, size, hashes[name] = measure(kquant, model, out, memory)
        peaks = {"anonymous": run.anonymous(), "resident": run.peaks["VmHWM"]}
        show = [f"{x / MB:.0f} MB" if x else "-" for x in (peaks["anonymous"], limits[0], peaks["resident"], limits[1], run.peaks["RssFile"])]
        print(f"{memory or 'default':>9} {show[0]:>15} {show[1]:>9} {show[2]:>11} {show[3]:>9} {show[4]:>12} {run.samples:>8} {run.seconds:>8.1f}", flush=True)
        for (what, peak), limit in zip(peaks.items(), limits):
            if limit:
                problem = "" if 0 < peak < limit else f"{peak / MB:.0f} MB, {limit / MB:.0f} MB allowed"
                tally.check(f"{model.name}: peak of {what} memory with {name}", problem)
    last, expected = hashes.popitem()
    print(f"output of {model.name}: {size / MB:.0f} MB, sha256 {expected}")
    for name, value in hashes.items():
        tally.check(f"{model.name}: {name} as {last}", "" if value == expected else value)


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
        check(kquant, model, FOLDER_RUNS, Path(scratch) / "out.gguf", tally)
        gguf = Path(scratch) / "bf16.gguf"
        kquant.quantize(model, gguf, "BF16")
        shutil.rmtree(model)
        check(kquant, gguf, GGUF_RUNS, Path(scratch) / "out.gguf", tally)
    with tempfile.TemporaryDirectory(prefix="kquant-memory-", dir=args.dir) as scratch:
        model = Path(scratch) / "mixture"
        model.mkdir()
        size, stacked = MIXTURE.write(model), 2 * MIXTURE.experts * MIXTURE.ffn * MIXTURE.hidden
        print(f"mixture: {size / MB:.0f} MB, {MIXTURE.experts} experts, together {stacked / MB:.0f} MB a tensor")
        check(kquant, model, MIXTURE_RUNS, Path(scratch) / "out.gguf", tally)
    return tally.close()


if __name__ == "__main__":
    sys.exit(main())
