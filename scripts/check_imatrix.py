#!/usr/bin/env python3
"""Compares the importance matrices of `kquant calibrate` with those of llama-imatrix, column by column.

Usage: scripts/check_imatrix.py --kquant PATH --shared DIR [--limit FRACTION] [--products f32|bf16]

DIR holds models/NAME (checkpoints), corpora/calibration-small.txt and golden/models/NAME.imatrix.{gguf,dat}, which
llama-imatrix made from it: chunks of 256 tokens, 100 of them in the GGUF, 20 in the legacy file. Exit code 1 if an
entry is missing or extra, or if a column's mean square differs by more than the limit.
"""

import argparse
import math
import struct
import sys
import tempfile
from pathlib import Path

from program import Kquant, Tally

CONTEXT = 256
CHUNKS = {"gguf": 100, "dat": 20}


class Reader:
    """Little-endian numbers and strings, one after the other."""

    def __init__(self, data):
        self.data, self.at = data, 0

    def take(self, code, count=1):
        values = struct.unpack_from(f"<{count}{code}", self.data, self.at)
        self.at += struct.calcsize(f"<{count}{code}")
        return values if count > 1 else values[0]

    def text(self, length):
        self.at += length
        return self.data[self.at - length:self.at].decode()

    def value(self, kind):
        """A metadata value of one of the kinds that importance matrices have: u32, string, array of strings."""
        if kind == 4:
            return self.take("I")
        if kind == 8:
            return self.text(self.take("Q"))
        if kind == 9:
            kind = self.take("I")
            return [self.value(kind) for _ in range(self.take("Q"))]
        raise ValueError(f"metadata of unexpected kind {kind}")


def read_gguf(data):
    """Chunk count and mean squares by entry."""
    r = Reader(data)
    r.take("I", 2)
    tensors, keys = r.take("Q", 2)
    metadata = {}
    for _ in range(keys):
        key = r.text(r.take("Q"))
        metadata[key] = r.value(r.take("I"))
    places = {}
    for _ in range(tensors):
        name = r.text(r.take("Q"))
        size = 1
        for _ in range(r.take("I")):
            size *= r.take("Q")
        kind, offset = r.take("I"), r.take("Q")
        assert kind == 0, f"{name}: not F32"
        places[name] = (size, offset)
    start = (r.at + 31) // 32 * 32
    values = {n: struct.unpack_from(f"<{size}f", data, start + offset) for n, (size, offset) in places.items()}
    means = {}
    for name, counts in values.items():
        if name.endswith(".counts"):
            entry = name.removesuffix(".counts")
            sums = values[entry + ".in_sum2"]
            columns = len(sums) // len(counts)
            means[entry] = [s / counts[i // columns] if counts[i // columns] else 1.0 for i, s in enumerate(sums)]
    return metadata["imatrix.chunk_count"], means


def read_dat(data):
    """As `read_gguf`, for the legacy form."""
    r = Reader(data)
    means = {}
    for _ in range(r.take("i")):
        name = r.text(r.take("i"))
        calls, length = r.take("i", 2)
        means[name] = [v / calls for v in r.take("f", length)]
    return r.take("i"), means


def compare(ours, golden, limit):
    """Prints the worst column of the worst entry; returns what is wrong."""
    (our_chunks, ours), (chunks, golden) = ours, golden
    problems = []
    if our_chunks != chunks:
        problems.append(f"{our_chunks} chunks, llama-imatrix has {chunks}")
    for name in sorted(ours.keys() ^ golden.keys()):
        problems.append(f"{name}: {'extra' if name in ours else 'missing'}")
    worst = (0.0, "no column differs")
    for name in sorted(ours.keys() & golden.keys()):
        if len(ours[name]) != len(golden[name]):
            problems.append(f"{name}: {len(ours[name])} columns, llama-imatrix has {len(golden[name])}")
            continue
        for column, (a, b) in enumerate(zip(ours[name], golden[name])):
            difference = abs(a - b) / b if b else (math.inf if a else 0.0)
            if math.isnan(difference):
                difference = math.inf
            worst = max(worst, (difference, f"{name}, column {column}: {a:.8g}, llama-imatrix has {b:.8g}"))
    told = f"largest relative difference {worst[0]:.2e} (limit {limit:.0e}): {worst[1]}"
    print(f"    {told}")
    if worst[0] > limit:
        problems.append(told)
    return "; ".join(problems)


def problem(kquant, reference, out, args):
    """Collects what `reference` has, and compares."""
    name, form = reference.name.split(".imatrix.")
    shared = args.shared
    text = shared / "corpora/calibration-small.txt"
    cut = ["--context", CONTEXT, "--chunks", CHUNKS[form]]
    kquant.run("calibrate", shared / "models" / name, "--text", text, "-o", out, *cut, "--products", args.products,
               "--quiet")
    read = {"gguf": read_gguf, "dat": read_dat}[form]
    return compare(read(out.read_bytes()), read(reference.read_bytes()), args.limit)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kquant", required=True, type=Path, help="the program")
    parser.add_argument("--shared", required=True, type=Path, help="folder with models, corpora and golden data")
    parser.add_argument("--limit", type=float, default=1e-3, help="largest relative difference of a column")
    parser.add_argument("--products", default="f32", help="what kquant multiplies in")
    args = parser.parse_args()
    kquant, tally = Kquant(args.kquant), Tally()
    with tempfile.TemporaryDirectory(prefix="kquant-imatrix-") as folder:
        for reference in sorted((args.shared / "golden/models").glob("*.imatrix.*")):
            out = Path(folder) / reference.name
            tally.row(reference.name, problem, kquant, reference, out, args)
    return tally.close()


if __name__ == "__main__":
    sys.exit(main())
