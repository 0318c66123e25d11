#!/usr/bin/env python3
"""Holds models without some layers, heads or experts (`kquant prune`) against stock llama.cpp.

Of each model folder, kquant makes GGUFs without a run of layers, without half of the key-value heads, and without a quarter of the
experts. Each must load in llama.cpp and give the log-probabilities that `kquant perplexity --save-logits` records; a family that cannot
lose a part must be refused by its name. Needs the packages of requirements.txt.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path

import numpy as np

import stock
from divergence import log_softmax
from logits_file import recorded, within_range
from program import DATA, Kquant, Tally

TEXT = DATA / "corpora" / "calibration-small.txt"
CONTEXT, CHUNKS = 128, 4  # the small models have no longer context
CUT = ["--context", CONTEXT, "--chunks", CHUNKS, "--quiet", "--force"]
# Half a step of a code is 0.00012 nats; the rest is for sums in another order.
TOLERANCE = 5e-4
# Of what the whole model differs by: llama.cpp takes GELU from a table of f16, and some families differ more where a router decides
# otherwise. Another head or expert costs whole nats.
OF_WHOLE = 3
MOST = 0.1  # a whole model that differs more says nothing about its parts
# Families of which one layer cannot go, and how many can.
PERIODS = {"gemma2": 2, "gemma3": 6, "gpt_oss": 2, "smollm3": 4}
# Families whose heads are as many as the keys say.
HEADS = {"gemma2", "gemma3", "gpt_oss", "granite", "llama", "llama-tied-rope3", "mistral", "mixtral", "qwen3", "qwen3_moe", "smollm3"}
EXPERTS = {"gpt_oss", "mixtral", "qwen3_moe"}


class Part:
    """A model, and what is left of it without a part."""

    def __init__(self, kquant, folder, scratch):
        self.kquant, self.folder, self.scratch, self.made = kquant, folder, scratch, 0
        config = json.loads((folder / "config.json").read_text())
        self.layers = config.get("num_hidden_layers") or config["n_layer"]
        whole = scratch / "whole.gguf"
        kquant.quantize(folder, whole, "F32")
        error = self.difference("whole", whole)
        if error > MOST:
            raise RuntimeError(f"a log-probability of the whole model differs by {error:g}")
        self.tolerance = max(TOLERANCE, OF_WHOLE * error)

    def prune(self, more, code=0):
        """Makes a smaller model."""
        self.made += 1
        out = self.scratch / f"{self.made}.gguf"
        self.kquant.run("prune", self.folder, "-o", out, "--type", "F32", "--text", TEXT, *CUT, *more, code=code)
        return out

    def difference(self, what, path):
        """The largest difference between both programs' log-probabilities of a GGUF."""
        return difference(self.kquant, f"{self.folder.name}: {what}", path, self.scratch)

    def agrees(self, more):
        """The smaller model by both."""
        error = self.difference(" ".join(map(str, more)), self.prune(more))
        return "" if error <= self.tolerance else f"a log-probability differs by {error:g}, more than {self.tolerance:g}"

    def refused(self, more):
        """The family cannot lose the part."""
        return "a file is left" if self.prune(more, code=2).exists() else ""


def difference(kquant, what, path, scratch):
    """The largest difference between the log-probabilities of kquant and of stock llama.cpp for the GGUF `path`."""
    logits = scratch / "logits"
    kquant.run("perplexity", path, "--text", TEXT, "--save-logits", logits, *CUT)
    chunks, ours = recorded(logits)
    peer = stock.Model(path, context=256, exact_cache=True)
    if stock_begins(peer):
        begin = peer.chunks(TEXT.read_text()[:2000], 1)[0][:1]
        chunks = [begin + chunk[1:] for chunk in chunks]
    theirs = within_range(np.array([log_softmax(peer.logits(chunk)[CONTEXT // 2 : -1]) for chunk in chunks]))
    error = float(np.abs(ours - theirs).max())
    print(f"{what}: largest difference {error:.2g}, largest {np.abs(theirs).max():.3g}")
    return error


def stock_begins(peer):
    """Whether the vocabulary wants a token at the start."""
    vocabulary = stock.llama_cpp.llama_model_get_vocab(peer.llama.model)
    return stock.llama_cpp.llama_vocab_get_add_bos(vocabulary)


def main():
    """Checks all models."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kquant", required=True, type=Path, help="the program")
    parser.add_argument("--models", nargs="+", type=Path, required=True, metavar="DIR", help="folders of small models, by their family's name")
    args = parser.parse_args()
    kquant, tally = Kquant(args.kquant), Tally()
    for folder in args.models:
        name = folder.name
        with tempfile.TemporaryDirectory(prefix="kquant-part-") as scratch:
            try:
                part = Part(kquant, folder, Path(scratch))
            except RuntimeError as error:
                print(f"not covered: {name}: stock llama.cpp does not run the whole model as kquant does: {error}")
                continue
            if name in PERIODS:
                tally.row(f"{name}: one layer", part.refused, ["--drop-layers", 0])
            period = PERIODS.get(name, 1)
            if period < part.layers:
                run = ",".join(map(str, range(period)))
                tally.row(f"{name}: layers", part.agrees, ["--drop-layers", run])
                tally.row(f"{name}: layers by text", part.agrees, ["--layers", period])
            tally.row(f"{name}: heads", part.agrees if name in HEADS else part.refused, ["--heads", 1])
            tally.row(f"{name}: experts", part.agrees if name in EXPERTS else part.refused, ["--experts", "25%"])
    return tally.close()


if __name__ == "__main__":
    sys.exit(main())
