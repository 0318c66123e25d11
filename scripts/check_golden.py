#!/usr/bin/env python3
"""Compares whole runs of kquant with recorded results of llama-quantize, tensor by tensor.

SHARED holds `models/NAME/` (Hugging Face folders) and `golden/models/`: per file type the type and SHA-256 of every
tensor that llama-quantize writes, importance matrices, and lines of gguf-hash. Needs nothing but Python.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path

from program import Kquant, Tally, difference, tensors_of

MODELS = ["llama-5m", "gpt2-4m"]


def tensors_in(golden):
    """Name -> (type, SHA-256) of one file type's record."""
    return {name: (kind, digest) for name, (kind, digest) in golden["tensors"].items()}


def file_type_problem(kquant, folder, file_type, more, golden, out):
    """Converts and quantizes in one step: the tensors are llama-quantize's, and the report tells what is in the file."""
    reported = tensors_of(kquant.quantize(folder, out, file_type, "--encoder", "ggml", *more))
    written = kquant.tensors(out)
    return difference(tensors_in(golden), written) or difference(written, reported)


def check_file_types(kquant, folder, golden, importance, out, tally):
    """Every file type of one section of a golden file."""
    suffix, more = (" with importance", ["--imatrix", importance]) if importance else ("", [])
    for kind, expected in golden.items():
        tally.row(f"{folder.name} {kind}{suffix}", file_type_problem, kquant, folder, kind, more, expected, out)


def legacy_problem(kquant, folder, golden, importance, out):
    """The legacy form of an importance matrix is read and used: the types are the same, no tensor is as without."""
    kquant.quantize(folder, out, "Q4_K_M", "--encoder", "ggml", "--imatrix", importance)
    made, plain = kquant.tensors(out), tensors_in(golden["quantize"]["Q4_K_M"])
    expected = tensors_in(golden["quantize_imatrix"]["Q4_K_M"])
    unused = [n for n, (t, _) in plain.items() if n.startswith("blk.") and t != "F32" and plain[n] == made.get(n)]
    if unused:
        return f"not weighted: {', '.join(unused)}"
    return difference({n: t for n, (t, _) in expected.items()}, {n: t for n, (t, _) in made.items()})


def hash_lines(text):
    """The sha256 lines of gguf-hash: tensor name, or nothing for the model -> hash."""
    lines = (line.split(maxsplit=2) for line in text.splitlines() if line.startswith("sha256 "))
    return {name.partition(":")[2]: digest for _, digest, name in lines}


def hash_problem(kquant, folder, recorded, out):
    """`kquant hash` prints what gguf-hash prints."""
    kquant.quantize(folder, out, "Q4_K_M", "--encoder", "ggml")
    return difference(hash_lines(recorded.read_text()), hash_lines(kquant.run("hash", out)))


def verify_problem(kquant, folder, recorded, file_type, code, out):
    """`kquant verify` with the lines of gguf-hash ends with `code`."""
    kquant.quantize(folder, out, file_type, "--encoder", "ggml")
    kquant.run("verify", out, "--manifest", recorded, code=code)


def check_model(kquant, shared, name, out, tally):
    """All checks of one model."""
    folder, records = shared / "models" / name, shared / "golden" / "models"
    golden = json.loads((records / f"{name}.json").read_text())
    check_file_types(kquant, folder, golden["quantize"], None, out, tally)
    check_file_types(kquant, folder, golden["quantize_imatrix"], records / f"{name}.imatrix.gguf", out, tally)
    legacy = records / f"{name}.imatrix.dat"
    tally.row(f"{name} Q4_K_M with legacy importance", legacy_problem, kquant, folder, golden, legacy, out)
    recorded = records / f"{name}.Q4_K_M.gguf-hash.txt"
    tally.row(f"{name} lines of gguf-hash", hash_problem, kquant, folder, recorded, out)
    for kind, code in [("Q4_K_M", 0), ("Q4_K_S", 1)]:
        tally.row(f"{name} verify {kind} ends with {code}", verify_problem, kquant, folder, recorded, kind, code, out)


def main():
    """Parses the arguments, runs everything."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kquant", required=True, type=Path, help="the program")
    parser.add_argument("--shared", required=True, type=Path, help="folder with models/ and golden/models/")
    args = parser.parse_args()
    kquant, tally = Kquant(args.kquant), Tally()
    with tempfile.TemporaryDirectory(prefix="kquant-golden-") as scratch:
        for name in MODELS:
            check_model(kquant, args.shared, name, Path(scratch) / "out.gguf", tally)
    return tally.close()


if __name__ == "__main__":
    sys.exit(main())
