#!/usr/bin/env python3
"""Holds pruned Hugging Face folders (`kquant prune -o FOLDER/`) against transformers.

Of each model folder, kquant makes a folder with fewer tokens and, where the model has no experts, of that one with fewer channels.
Checks of each result:
  loads   transformers loads it and finds every tensor, in its shape, and none too many
  ids     transformers' tokenizer and kquant cut texts into the same tokens: the corpora, code, emoji, Chinese
  logits  log-probabilities of a text, by transformers in f32 and by `kquant perplexity --save-logits`
Needs torch, transformers and numpy.
"""

import argparse
import json
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch
import transformers
from logits_file import recorded, within_range
from program import DATA, Kquant, Tally

CHUNKS = 2
# Half a step of a code is 0.00012 nats; the rest is for sums in another order. Another row of a matrix costs whole nats.
TOLERANCE = 5e-4
TEXTS = {
    "code": "for (int i = 0; i < n; ++i) { sum += a[i] * b[i]; }  // dot product\n\tif (!ok) return -1;\n",
    "emoji": "So \U0001f600\U0001f389 far, so good \U0001f44d\U0001f3fd! \u2708\ufe0f",
    "chinese": "\u4f60\u597d\uff0c\u4e16\u754c\u3002\u4eca\u5929\u5929\u6c14\u5f88\u597d\u3002",
}


class Folder:
    """A pruned folder and the same model in transformers."""

    def __init__(self, kquant, path, scratch):
        self.kquant, self.path, self.scratch = kquant, path, scratch
        self.model = self.tokenizer = None
        config = json.loads((path / "config.json").read_text())
        self.context = min(256, config.get("max_position_embeddings") or config["n_positions"])

    def loads(self):
        """Loads the folder."""
        load = transformers.AutoModelForCausalLM.from_pretrained
        options = {"dtype": torch.float32, "output_loading_info": True, "attn_implementation": "eager"}
        try:
            self.model, info = load(self.path, **options)
            self.tokenizer = transformers.AutoTokenizer.from_pretrained(self.path)
        except (OSError, ValueError, KeyError) as error:
            raise RuntimeError(f"transformers: {error}") from error
        self.model.eval()
        wrong = {key: found for key, found in info.items() if found}
        return f"{wrong}" if wrong else ""

    def ids(self):
        """Tokens of texts."""
        paths = sorted(DATA.glob("corpora/*.txt"))
        for name, text in TEXTS.items():
            paths.append(self.scratch / f"{name}.txt")
            paths[-1].write_text(text, newline="")
        ours = self.kquant.tokens(self.path, paths)
        for path, tokens in zip(paths, ours, strict=True):
            text = path.read_bytes().decode()
            theirs = self.tokenizer(text, add_special_tokens=False)["input_ids"]
            if theirs != tokens:
                at = next((i for i, pair in enumerate(zip(theirs, tokens)) if pair[0] != pair[1]), min(len(theirs), len(tokens)))
                return f"{path.name}: token {at}: {theirs[at:at + 4]} by transformers, {tokens[at:at + 4]}"
        print(f"{self.path.name}: {len(paths)} texts, {sum(map(len, ours))} tokens")
        return ""

    def logits(self):
        """Log-probabilities of both."""
        out = self.scratch / f"{self.path.name}.logits"
        cut = ["--context", self.context, "--chunks", CHUNKS, "--quiet", "--force"]
        self.kquant.run("perplexity", self.path, "--text", DATA / "corpora" / "eval-small.txt", "--save-logits", out, *cut)
        tokens, ours = recorded(out)
        tokens = np.array(tokens)
        if self.tokenizer("a")["input_ids"][0] == self.tokenizer.bos_token_id is not None:
            tokens[:, 0] = self.tokenizer.bos_token_id
        with torch.no_grad():
            logits = self.model(torch.tensor(tokens, dtype=torch.long)).logits
        theirs = torch.log_softmax(logits.double(), -1).numpy()[:, self.context // 2 : -1]
        theirs = within_range(theirs)
        error = float(np.abs(ours - theirs).max())
        print(f"{self.path.name}: largest difference of a log-probability {error:.2g}, largest {np.abs(theirs).max():.3g}")
        return "" if error <= TOLERANCE else f"a log-probability differs by {error:g}"


def pruned(kquant, model, scratch):
    """Folders made of `model`."""
    config = json.loads((model / "config.json").read_text())
    vocabulary = config["vocab_size"]
    # Most tokens of the smallest vocabularies are bytes, which must be kept.
    fewer = vocabulary // 2 if vocabulary > 1000 else vocabulary * 9 // 10
    text = ["--text", DATA / "corpora" / "calibration-small.txt", "--context", 64, "--chunks", 32, "--quiet"]
    trimmed, narrow = scratch / f"{model.name}-trimmed", scratch / f"{model.name}-narrow"
    kquant.run("prune", model, "-o", f"{trimmed}/", "--vocab", fewer, *text)
    yield trimmed
    if not any(key in config for key in ("num_local_experts", "num_experts", "n_routed_experts")):
        kquant.run("prune", trimmed, "-o", f"{narrow}/", "--ffn", "50%", *text)
        yield narrow


def main():
    """Checks all models."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kquant", required=True, type=Path, help="the program")
    parser.add_argument("--models", nargs="+", type=Path, default=[DATA / "tiny-llama"], metavar="DIR",
                        help="Hugging Face folders (default: tests/data/tiny-llama)")  # fmt: skip
    args = parser.parse_args()
    transformers.utils.logging.disable_progress_bar()
    transformers.utils.logging.set_verbosity_error()
    kquant, tally = Kquant(args.kquant), Tally()
    for model in args.models:
        with tempfile.TemporaryDirectory(prefix="kquant-folder-") as scratch:
            for path in pruned(kquant, model, Path(scratch)):
                folder = Folder(kquant, path, Path(scratch))
                tally.row(f"{path.name}: loads", folder.loads)
                for name in ("ids", "logits") if folder.tokenizer else ():
                    tally.row(f"{path.name}: {name}", getattr(folder, name))
    return tally.close()


if __name__ == "__main__":
    sys.exit(main())
