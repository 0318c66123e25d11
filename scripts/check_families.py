#!/usr/bin/env python3
"""Runs families without recorded logits (tests/data/archs-without-weights) in stock llama.cpp.

Each gets a checkpoint with random weights by its list of shapes, and a small vocabulary. Its F32 GGUF must load and give the log-probabilities that `kquant perplexity --save-logits` records.
Where refresh_families.py made the record with the same weights, every tensor's hash is also that of llama.cpp's converter. Needs the packages of requirements.txt.
"""

import argparse
import json
import shutil
import sys
import tempfile
from pathlib import Path

import random_checkpoint
from check_parts import TOLERANCE, difference
from program import DATA, Kquant, Tally
from program import difference as differing

FOLDERS = DATA / "archs-without-weights"
VOCABULARY = DATA / "archs" / "llama"
MAKER = "refresh_families.py"


def record(folder):
    """What llama.cpp's converter makes of the family, if this script can make the same weights."""
    found = json.loads((folder / "convert.json").read_text())
    return found if MAKER in found["source"] else None


def check(kquant, folder, scratch):
    """Returns what is wrong with the family's GGUF, or nothing."""
    checkpoint, gguf = scratch / folder.name, scratch / "whole.gguf"
    shutil.copytree(folder, checkpoint)
    random_checkpoint.write(json.loads((folder / "tensors.json").read_text()), checkpoint / "model.safetensors")
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(VOCABULARY / name, checkpoint)
    kquant.quantize(checkpoint, gguf, "F32")
    expected = {t["name"]: (t["type"], t["sha256"]) for t in record(folder)["tensors"]}
    if problem := differing(expected, kquant.tensors(gguf)):
        return problem
    error = difference(kquant, folder.name, gguf, scratch)
    return "" if error <= TOLERANCE else f"a log-probability differs by {error:g}"


def main():
    """Checks all families that refresh_families.py knows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kquant", required=True, type=Path, help="the program")
    args = parser.parse_args()
    kquant, tally = Kquant(args.kquant), Tally()
    for folder in sorted(folder for folder in FOLDERS.iterdir() if record(folder)):
        with tempfile.TemporaryDirectory(prefix="kquant-family-") as scratch:
            tally.row(folder.name, check, kquant, folder, Path(scratch))
    return tally.close()


if __name__ == "__main__":
    sys.exit(main())
