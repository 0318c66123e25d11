#!/usr/bin/env python3
"""Holds models of trimmed vocabularies (`kquant prune`) against stock llama.cpp.

Of each model folder, kquant makes a GGUF with half of the tokens, and llama.cpp loads it. Checks of each:
  ids         kquant cuts all texts into llama.cpp's tokens: the corpora, English, code, emoji, Chinese, the hard strings
  logits      log-probabilities of a text of all of these kinds, by `kquant perplexity --save-logits` and by llama.cpp
  alike       on the text that chose the tokens, llama.cpp gives kept tokens the logits that they had in the whole model
  divergence  on that text, the probability that llama.cpp gives lost tokens in the whole model is worth the divergence that
              `kquant prune` and `kquant perplexity --base` state
Needs the packages of requirements.txt.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path

import numpy as np

import stock
from divergence import log_softmax
from interop import TEXT, ids_problem, read, written_strings
from logits_file import recorded, within_range
from program import DATA, Kquant, Tally

CALIBRATION = DATA / "corpora" / "calibration-small.txt"
CONTEXT, CHUNKS = 256, 4  # llama.cpp has no contexts below 256
LETTERS = 6000  # enough for CHUNKS chunks
CUT = ["--context", CONTEXT, "--chunks", CHUNKS, "--quiet", "--force"]
# Half a step of a code is 0.00012 nats; the rest is for sums in another order. Another row of the embedding costs whole nats.
LOGIT_TOLERANCE = 5e-4
# llama.cpp takes GELU from a table of f16. gpt2-4m: 0.0034 nats of 20, and 0.0039 with all of its tokens.
GELU_TOLERANCE = 6e-3
ALIKE_TOLERANCE = 1e-5  # measured is 0; leaves room for products whose sums depend on the number of rows
# Sums in another order; measured are 6e-9 (tiny-llama) and 4e-8 (gpt2-4m).
DIVERGENCE_TOLERANCE = 1e-6
KINDS = {
    "english": TEXT,
    "code": "for (int i = 0; i < n; ++i) { sum += a[i] * b[i]; }  // dot product\n\tif (!ok) return -1;\n",
    "emoji": "So \U0001f600\U0001f389 far, so good \U0001f44d\U0001f3fd! \U0001f469\u200d\U0001f469\u200d\U0001f467 \u2708\ufe0f",
    "chinese": "\u4f60\u597d\uff0c\u4e16\u754c\u3002\u4eca\u5929\u5929\u6c14\u5f88\u597d\uff0c\u6211\u4eec\u53bb\u516c\u56ed\u3002",
}


class Trimmed:
    """A model before and after, and what kquant says of it."""

    def __init__(self, kquant, folder, scratch):
        self.kquant, self.folder, self.scratch = kquant, folder, scratch
        self.whole, self.path = scratch / "whole.gguf", scratch / "trimmed.gguf"
        config = json.loads((folder / "config.json").read_text())
        self.size = config["vocab_size"] // 2
        self.tolerance = GELU_TOLERANCE if config.get("activation_function", "").startswith("gelu") else LOGIT_TOLERANCE
        kquant.quantize(folder, self.whole, "F32")
        # The tokens of the whole text are kept before others, so that the text must be short.
        self.calibration = scratch / "calibration.txt"
        self.calibration.write_text(CALIBRATION.read_text()[:LETTERS])
        args = ["prune", folder, "-o", self.path, "--vocab", self.size, "--text", self.calibration, "--type", "F32", "--json"]
        self.report = json.loads(kquant.run(*args, *CUT))
        self.peers = [stock.Model(path, context=CONTEXT, exact_cache=True) for path in (self.whole, self.path)]
        lists = [stock.File(path).keys()["tokenizer.ggml.tokens"][1] for path in (self.whole, self.path)]
        self.kept = [place for place, text in enumerate(lists[0]) if text in set(lists[1])]
        assert [lists[0][place] for place in self.kept] == lists[1], "tokens are renumbered in their order"

    def ids(self):
        """Ids of kquant and of llama.cpp."""
        paths = [*sorted(DATA.glob("corpora/*.txt")), *written_strings(self.scratch)]
        for name, text in KINDS.items():
            paths.append(self.scratch / f"{name}.txt")
            paths[-1].write_text(text, newline="")
        expected = [self.peers[1].tokens(read(path)) for path in paths]
        print(f"{self.folder.name}: {len(paths)} texts, {sum(map(len, expected))} tokens")
        return ids_problem(paths, expected, self.kquant.tokens(self.path, paths))

    def logits(self):
        """Log-probabilities of both on a text for which tokens are lacking."""
        text, out = self.scratch / "text.txt", self.scratch / "logits"
        text.write_text("\n".join(KINDS.values()) * 4, newline="")
        self.kquant.run("perplexity", self.path, "--text", text, "--save-logits", out, *CUT)
        _, ours = recorded(out)
        chunks = self.peers[1].chunks(read(text), CHUNKS)
        if (len(chunks), self.size) != (len(ours), ours.shape[2]):
            return f"{len(ours)} chunks of {ours.shape[2]} tokens, {len(chunks)} of llama.cpp"
        theirs = within_range(np.array([log_softmax(self.peers[1].logits(chunk)[CONTEXT // 2 : -1]) for chunk in chunks]))
        return self.far("log-probability", ours, theirs, self.tolerance)

    def alike(self):
        """llama.cpp with both models on the text that chose the tokens."""
        (whole, trimmed), kept = self.chosen(), np.array(self.kept)
        for one, two in zip(whole, trimmed, strict=True):
            if one != kept[two].tolist():
                return "the text is cut otherwise"
        pairs = [(self.peers[0].logits(one)[:, kept], self.peers[1].logits(two)) for one, two in zip(whole, trimmed)]
        return self.far("logit", *map(np.array, zip(*pairs)), ALIKE_TOLERANCE)

    def divergence(self):
        """-ln of the probability of kept tokens in the whole model, and what kquant says."""
        lost = []
        for chunk in self.chosen()[0]:
            logarithms = log_softmax(self.peers[0].logits(chunk)[CONTEXT // 2 : -1])
            lost.append(-np.log(np.exp(logarithms[:, self.kept]).sum(1)))
        args = ["perplexity", self.path, "--base", self.folder, "--text", self.calibration, "--json", "-", *CUT]
        compared = json.loads(self.kquant.run(*args))["kl"]["mean"]
        stated = np.array([self.report["kl"], compared])
        return self.far("divergence", stated, np.mean(lost), DIVERGENCE_TOLERANCE)

    def chosen(self):
        """The chunks of the text that chose the tokens, by both models."""
        return [peer.chunks(read(self.calibration), CHUNKS) for peer in self.peers]

    def far(self, what, ours, theirs, tolerance):
        """Prints the largest difference, and says if it is too large."""
        error = float(np.abs(ours - theirs).max())
        print(f"{self.folder.name}: largest difference of a {what} {error:.2g}, largest {np.abs(theirs).max():.3g}")
        return "" if error <= tolerance else f"a {what} differs by {error:g}"


def main():
    """Checks all models."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kquant", required=True, type=Path, help="the program")
    parser.add_argument("--models", nargs="+", type=Path, default=[DATA / "tiny-llama"], metavar="DIR",
                        help="Hugging Face folders (default: tests/data/tiny-llama)")  # fmt: skip
    args = parser.parse_args()
    kquant, tally = Kquant(args.kquant), Tally()
    for folder in args.models:
        with tempfile.TemporaryDirectory(prefix="kquant-pruned-") as scratch:
            model = Trimmed(kquant, folder, Path(scratch))
            for name in "ids", "logits", "alike", "divergence":
                tally.row(f"{folder.name}: {name}", getattr(model, name))
    return tally.close()


if __name__ == "__main__":
    sys.exit(main())
