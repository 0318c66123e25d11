#!/usr/bin/env python3
"""Holds kquant against stock llama.cpp: one step of kquant, and llama.cpp's own two steps, must give one model.

For each model folder and file type, kquant makes one.gguf from the folder; kquant's 16- or 32-bit GGUF and stock
llama_model_quantize make two.gguf. Columns of the table:
  tensors  types and SHA-256 of all tensors are equal, in the eyes of the gguf package
  hash     `kquant hash` sees what the gguf package sees
  keys     all metadata are equal, types included
  bytes    the files are equal
  decode   the numpy decoders of the gguf package give the weights that kquant decodes, exactly
  logits   llama.cpp loads both; logits of a text are finite and equal
  text     llama.cpp goes on with the same 32 tokens
Then for each model: token ids of llama.cpp and of the `tokenizers` package on real text and on odd lines; and for each
reference folder (a checkpoint with recorded logits), logits of llama.cpp against the recorded ones.
Needs the packages of requirements.txt.
"""

import argparse
import json
import struct
import sys
import tempfile
from pathlib import Path

import numpy as np
import tokenizers

import stock
from program import Kquant, Tally, difference

ROOT = Path(__file__).resolve().parent.parent
FILE_TYPES = "F32 BF16 Q8_0 Q6_K Q5_K_M Q4_K_M Q4_0 Q3_K_S Q2_K IQ4_XS".split()
FLOATS = ("F32", "F16", "BF16")  # an importance matrix changes nothing
COLUMNS = "tensors hash keys bytes decode logits text".split()
PROMPT_TOKENS, GENERATED = 120, 32
PIECE = 3000  # characters
LOGIT_TOLERANCE = 1e-5  # the bytes are equal, so the logits should be; leaves room for threads that sum in another order
# Of the largest logit. Recorded logits are not exact (rotary frequencies were rounded to bf16 with the weights), nor is
# llama.cpp (GELU from a table of f16); a wrong permutation or key costs tens of percent.
REFERENCE_TOLERANCE = 0.01
TEXT = """It was a bright morning in late spring when the two brothers set out for the coast. They had packed bread, a
wheel of cheese and 3 bottles of water; nothing else. "We shall be there by noon," said the elder, who had walked this
road before (in 1897, to be exact) and did not expect to find it changed. The younger was not so sure. He looked at the
clouds, which were gathering over the hills, and thought of the long way back.

    def area(width, height):
        return width * height  # in square metres
"""
ODD_LINES = [
    "", " ", "  ", "a", " a", "a ", "   three spaces", "tab\tand\ttab", "line\nfeed\n\n\nand\r\nmore\r",
    "naïve café, Ærøskøbing, straße, ŽLUŤOUČKÝ kůň", "Привет, мир! Ελληνικά. עברית العربية", "東京は日本の首都です。 한국어",
    "🙂🙃 👩‍👩‍👧 🇫🇷 e\u0301", "don't I'll WE'VE it's I'M", "12345678901234567890 1,000.50 3.14159e-10", "x" * 300,
    "snake_case camelCase kebab-case a/b\\c ==> !!! ??? ... ---", "\u00a0no-break\u2003em\u200bzero\ufeffbom", "\u2581 and ▁▁",
]  # fmt: skip


def source_type(folder):
    """The file type that keeps the folder's weights as they are, by the first matrix of its first safetensors file."""
    with open(sorted(folder.glob("*.safetensors"))[0], "rb") as file:
        header = json.loads(file.read(struct.unpack("<Q", file.read(8))[0]))
    return next(t["dtype"] for name, t in header.items() if name != "__metadata__" and len(t["shape"]) > 1)


def hash_problem(kquant, path, file):
    """kquant's hashes against those of the gguf package's view."""
    return difference(file.tensors(), kquant.tensors(path))


def bytes_problem(one, two):
    """Says where two files part."""
    one, two = np.memmap(one, np.uint8, "r"), np.memmap(two, np.uint8, "r")
    if len(one) != len(two):
        return f"{len(one)} and {len(two)} bytes"
    places = np.flatnonzero(one != two)
    return f"{len(places)} bytes differ, the first at {places[0]}" if len(places) else ""


def decode_problem(kquant, path, file, scratch):
    """kquant's decoders against numpy's."""
    back = scratch / "back.gguf"
    kquant.quantize(path, back, "F32", "--allow-requantize")
    decoded = {name: values for name, _, values in stock.File(back).decoded()}
    for name, kind, values in file.decoded():
        if not np.array_equal(values, decoded[name]):
            return f"{name} ({kind}): weights differ by up to {np.abs(values - decoded[name]).max():g}"
    return ""


def logits_problem(one, two):
    """[tokens][vocabulary] of both models."""
    if not (np.isfinite(one).all() and np.isfinite(two).all()):
        return "not finite"
    largest = float(np.abs(one - two).max())
    return f"differ by {largest:g}" if largest > LOGIT_TOLERANCE else ""


def run_problems(one, two, text):
    """Problems of the logits and of the generated text, and that text."""
    first, second = stock.Model(one), stock.Model(two)
    prompt = first.tokens(text)[:PROMPT_TOKENS]
    logits = logits_problem(first.logits(prompt), second.logits(prompt))
    texts = [model.text(model.greedy(prompt, GENERATED)) for model in (first, second)]
    return logits, "" if texts[0] == texts[1] else f"{texts[0]!r} / {texts[1]!r}", texts[0]


def problems_of(kquant, folder, full, kind, importance, text, scratch):
    """Makes both files; column -> problem, and the generated text."""
    one, two = scratch / "one.gguf", scratch / "two.gguf"
    more = ["--imatrix", importance.path] if importance else []
    kquant.quantize(folder, one, kind, "--encoder", "ggml", *more)
    stock.quantize(full, two, kind, importance)
    first, second = stock.File(one), stock.File(two)
    found = {
        "tensors": difference(second.tensors(), first.tensors()),
        "hash": hash_problem(kquant, one, first) or hash_problem(kquant, two, second),
        "keys": difference(second.keys(), first.keys()),
        "bytes": bytes_problem(one, two),
        "decode": decode_problem(kquant, one, first, scratch),
    }
    found["logits"], found["text"], generated = run_problems(one, two, text)
    return found, generated


def check_file_types(kquant, folder, kinds, importance, text, scratch, tally):
    """The rows of one model, without importance and with it."""
    full = scratch / "full.gguf"
    kquant.quantize(folder, full, source_type(folder))
    for matrix in [None, importance] if importance else [None]:
        for kind in kinds:
            if matrix and kind in FLOATS:
                continue
            name = f"{folder.name} {kind}{' +importance' if matrix else ''}"
            try:
                found, generated = problems_of(kquant, folder, full, kind, matrix, text, scratch)
            except RuntimeError as error:
                print(f"{name:<32} {tally.check(name, str(error))}", flush=True)
                continue
            words = [tally.check(f"{name}: {column}", found[column]) for column in COLUMNS]
            print(f"{name:<32} {' '.join(f'{word:<7}' for word in words)} {generated[:30]!r}", flush=True)


def pieces(text):
    """The text in parts of some KB, and the odd lines."""
    return [text[i : i + PIECE] for i in range(0, len(text), PIECE)] + ODD_LINES


def tokens_problem(kquant, folder, text, scratch):
    """Counts the pieces that llama.cpp and the tokenizers package cut differently."""
    path = scratch / "vocabulary.gguf"
    kquant.quantize(folder, path, "Q8_0")
    model = stock.Model(path, vocabulary_only=True)
    reference = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    wrong, count = [], 0
    for piece in pieces(text):
        expected, actual = reference.encode(piece, add_special_tokens=False).ids, model.tokens(piece)
        count += len(expected)
        if expected != actual:
            at = next((i for i, (e, a) in enumerate(zip(expected, actual)) if e != a), min(len(expected), len(actual)))
            wrong.append(f"{piece[:20]!r} from token {at}: {expected[at : at + 3]} / {actual[at : at + 3]}")
    print(f"{folder.name}: {len(pieces(text))} pieces, {count} tokens, {len(wrong)} mismatches")
    return f"{len(wrong)} pieces: {'; '.join(wrong[:3])}" if wrong else ""


def reference_problem(kquant, folder, scratch):
    """llama.cpp's logits of the converted checkpoint against those recorded beside it."""
    path, record = scratch / "reference.gguf", json.loads((folder / "expected.json").read_text())
    kquant.quantize(folder, path, "F32")
    expected = np.fromfile(folder / "logits.f32", "<f4").reshape(record["shape"])
    actual = stock.Model(path, context=len(record["tokens"])).logits(record["tokens"])
    error, largest = np.abs(actual - expected).max(), np.abs(expected).max()
    print(f"{folder.name}: largest difference of a logit {error:.2g}, largest logit {largest:.2g}")
    return "" if error <= REFERENCE_TOLERANCE * largest else f"logits differ by {error:g}"


def importance_of(text):
    """NAME=FILE -> (name, matrix)."""
    name, separator, path = text.partition("=")
    if not separator:
        raise argparse.ArgumentTypeError("write NAME=FILE")
    return name, stock.Importance(path)


def arguments():
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kquant", required=True, type=Path, help="the program")
    parser.add_argument("--models", nargs="+", type=Path, default=[ROOT / "tests/data/tiny-llama"], metavar="DIR",
                        help="Hugging Face folders (default: tests/data/tiny-llama)")  # fmt: skip
    parser.add_argument("--types", nargs="+", default=FILE_TYPES, metavar="TYPE", help="default: " + " ".join(FILE_TYPES))
    parser.add_argument("--imatrix", nargs="+", default=[], type=importance_of, metavar="NAME=FILE",
                        help="importance matrix of the model folder NAME")  # fmt: skip
    parser.add_argument("--text", type=Path, help="text to tokenize and to go on with (default: a paragraph)")
    parser.add_argument("--references", nargs="+", default=[], type=Path, metavar="DIR",
                        help="model folders with expected.json (tokens) and logits.f32")  # fmt: skip
    return parser.parse_args()


def main():
    """Runs all checks of all models."""
    args = arguments()
    kquant, tally = Kquant(args.kquant), Tally()
    text = args.text.read_text() if args.text else TEXT
    with tempfile.TemporaryDirectory(prefix="kquant-interop-") as folder:
        scratch = Path(folder)
        print(f"{'':<32} {' '.join(f'{column:<7}' for column in COLUMNS)}")
        for model in args.models:
            matrix = dict(args.imatrix).get(model.name)
            check_file_types(kquant, model, args.types, matrix, text, scratch, tally)
        for model in args.models:
            tally.row(f"{model.name} tokens", tokens_problem, kquant, model, text, scratch)
        for model in args.references:
            tally.row(f"{model.name} logits", reference_problem, kquant, model, scratch)
    return tally.close()


if __name__ == "__main__":
    sys.exit(main())
