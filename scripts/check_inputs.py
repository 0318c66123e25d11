#!/usr/bin/env python3
"""Checks that quantized checkpoints are read as they are defined: GPTQ, AWQ, compressed-tensors, fp8 and the like.

For each layout a checkpoint is made of each model, and a plain one of the values that its codes stand for (quantized.py). kquant must
write the same F32 tensors from both. With --converter FOLDER (scripts/converter.sh makes one) the tensors must also be those
that llama.cpp's convert_hf_to_gguf.py writes, for the layouts that it reads. Needs numpy.

    scripts/check_inputs.py --kquant target/release/kquant [--converter FOLDER] [--models tests/data/tiny-llama ...]
"""

import argparse
import itertools
import subprocess
import sys
import tempfile
from pathlib import Path

import quantized
from program import DATA, Kquant, Tally, difference, tensors_of


def made(layout, model, folder):
    """The two checkpoints."""
    paths = folder / "quantized", folder / "plain"
    quantized.make(model, layout, *paths, skipped=["layers.0.self_attn.v_proj", "layers.1.mlp.up_proj"])
    return paths


def problem(kquant, layout, model):
    """What differs from the plain checkpoint's tensors, with plenty of memory and with little."""
    with tempfile.TemporaryDirectory() as folder:
        own, plain = made(layout, model, Path(folder))
        expected = tensors_of(kquant.quantize(plain, Path(folder) / "plain.gguf", "F32"))
        for memory in ("2G", "64K"):
            out = Path(folder) / "own.gguf"
            found = difference(expected, tensors_of(kquant.quantize(own, out, "F32", "--memory", memory)))
            if found:
                return f"with --memory {memory}: {found}"
    return ""


def converter_problem(kquant, layout, model, converter):
    """What differs from the tensors that the converter writes."""
    with tempfile.TemporaryDirectory() as folder:
        own, _ = made(layout, model, Path(folder))
        theirs = Path(folder) / "theirs.gguf"
        python, script = converter / "venv" / "bin" / "python", converter / "convert_hf_to_gguf.py"
        done = subprocess.run(
            [python, script, own, "--outfile", theirs, "--outtype", "f32"], capture_output=True, text=True
        )
        if done.returncode:
            return done.stderr.strip().splitlines()[-1]
        ours = tensors_of(kquant.quantize(own, Path(folder) / "own.gguf", "F32"))
        return difference(kquant.tensors(theirs), ours)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kquant", required=True)
    parser.add_argument("--models", type=Path, nargs="+", default=[DATA / "tiny-llama"])
    parser.add_argument("--converter", type=Path)
    args = parser.parse_args()
    kquant, tally = Kquant(args.kquant), Tally()
    for model, layout in itertools.product(args.models, quantized.LAYOUTS):
        name = f"{model.name}: {layout.name}"
        tally.row(name, problem, kquant, layout, model)
        if args.converter and layout.converter:
            tally.row(f"{name}, converter", converter_problem, kquant, layout, model, args.converter)
    return tally.close()


if __name__ == "__main__":
    sys.exit(main())
