#!/usr/bin/env python3
"""Compares the perplexities and KL divergences of `kquant perplexity` with those of llama-perplexity.

SHARED holds models/NAME (checkpoints), corpora/eval.txt and golden/models/NAME.json, where `perplexity` and `kl` are what
llama-perplexity prints for the files of llama-quantize: 200 chunks of 256 tokens. The files are made here by kquant with
ggml's rounding, so that their weights are the same, and run with activations rounded as llama.cpp rounds them. Needs
nothing but Python. Exit code 1 if a number is beyond its limit.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path

from program import Kquant, Tally

MODELS = ["llama-5m", "gpt2-4m"]
IMPORTANCE = "-im"  # ends the names of files made with the importance matrix
QUICK = ["Q8_0", "Q4_K_M", "Q4_K_M-im", "Q2_K", "Q2_K-im"]
TEXT = ["--context", 256, "--chunks", 200]

# Largest relative differences of a perplexity, of the checkpoint and of quantized files; of a KL divergence, with the
# difference that is allowed anyway.
CHECKPOINT, QUANTIZED = 2e-4, 5e-3
DIVERGENCE, SMALL_DIVERGENCE = 0.05, 2e-4


class Comparison:
    """A table of recorded and own numbers, counted."""

    def __init__(self, tally):
        self.tally = tally
        print(f"{'':<24} {'':<10} {'llama.cpp':>11} {'kquant':>11} {'difference':>11} {'limit':>9}")

    def row(self, name, what, golden, ours, limit):
        """One number: `limit` is absolute; shown is the difference in percent."""
        difference = ours - golden
        problem = "" if abs(difference) <= limit else f"{what} is {ours:.6f}, llama.cpp has {golden:.6f}"
        word = self.tally.check(name, problem)  # NaN fails too
        share, allowed = (f"{100 * x / golden:.3f} %" if golden else "" for x in (difference, limit))
        print(f"{name:<24} {what:<10} {golden:>11.6f} {ours:>11.6f} {share:>11} {allowed:>9} {word}", flush=True)


def evaluate(kquant, model, text, *more):
    """The report of one run."""
    return json.loads(kquant.run("perplexity", model, "--text", text, *TEXT, "--quiet", "--json", "-", *more))


def check_model(kquant, shared, name, quick, scratch, comparison):
    """The checkpoint and all files made of it, which are compared with its recorded logits, as llama-perplexity does."""
    out, logits = scratch / "out.gguf", scratch / "base.logits"
    folder, text = shared / "models" / name, shared / "corpora/eval.txt"
    golden = json.loads((shared / "golden/models" / f"{name}.json").read_text())
    perplexities = golden["perplexity"]
    exact = next(value for kind, (value, _) in perplexities.items() if kind.startswith("F32"))
    ours = evaluate(kquant, folder, text, "--save-logits", logits, "--force")["perplexity"]["value"]
    comparison.row(f"{name} checkpoint", "perplexity", exact, ours, CHECKPOINT * exact)
    for kind in QUICK if quick else golden["kl"]:
        more = ["--imatrix", shared / "golden/models" / f"{name}.imatrix.gguf"] if kind.endswith(IMPORTANCE) else []
        kquant.quantize(folder, out, kind.removesuffix(IMPORTANCE), "--encoder", "ggml", *more)
        report = evaluate(kquant, out, text, "--base", logits, "--round-activations")
        perplexity, mean = perplexities[kind][0], golden["kl"][kind]["mean"]
        row = f"{name} {kind}"
        comparison.row(row, "perplexity", perplexity, report["perplexity"]["value"], QUANTIZED * perplexity)
        comparison.row(row, "KL", mean, report["kl"]["mean"], max(DIVERGENCE * mean, SMALL_DIVERGENCE))


def main():
    """Parses the arguments, runs everything."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kquant", required=True, type=Path, help="the program")
    parser.add_argument("--shared", required=True, type=Path, help="folder with models, corpora and golden data")
    parser.add_argument("--models", nargs="+", default=MODELS, metavar="NAME", help="models to compare")
    parser.add_argument("--quick", action="store_true", help=f"only {', '.join(QUICK)}, and the checkpoints")
    args = parser.parse_args()
    kquant, tally = Kquant(args.kquant), Tally()
    comparison = Comparison(tally)
    with tempfile.TemporaryDirectory(prefix="kquant-evaluation-") as scratch:
        for name in args.models:
            check_model(kquant, args.shared, name, args.quick, Path(scratch), comparison)
    return tally.close()


if __name__ == "__main__":
    sys.exit(main())
