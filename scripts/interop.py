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
Then for each model: llama.cpp loads what `kquant split` makes of one file, with the same logits, and `kquant merge` gives the tensors
back; token ids of kquant, from the folder's vocabulary and from the GGUF's, and of the `tokenizers` package
against those of llama.cpp, on corpora and on hard strings; and for each reference folder (a checkpoint with recorded logits),
logits of llama.cpp against the recorded ones.
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
from program import DATA, Kquant, Tally, difference, hard_strings

FILE_TYPES = "F32 BF16 Q8_0 Q6_K Q5_K_M Q4_K_M Q4_0 Q3_K_S Q2_K IQ4_XS".split()
FLOATS = ("F32", "F16", "BF16")  # an importance matrix changes nothing
COLUMNS = "tensors hash keys bytes decode logits text".split()
PROMPT_TOKENS, GENERATED = 120, 32
LOGIT_TOLERANCE = 1e-5  # the bytes are equal, so the logits should be; leaves room for threads that sum in another order
# Of the largest logit. llama.cpp is not exact (GELU from a table of f16); a wrong permutation or key costs tens of percent.
EMBEDDING_COSINE = 0.9999  # with the recorded embedding
REFERENCE_TOLERANCE = 0.01
# Why llama.cpp computes something else, for folders whose record does not say it.
DIFFERENT = {"bitnet": "llama.cpp has SiLU where the model has the square of ReLU"}
# Folders whose records say that llama.cpp computes something else of its own converter's file, and not of kquant's.
CORRECTED = {"bamba"}
# Keys that llama.cpp's converter, and kquant like it, makes of a reference folder and that do not suit a model so small.
REPAIRS = {
    "phi": ("phi2.feed_forward_length=int:128", "as the converter takes four times the hidden width for granted"),
    "phi3": ("general.name=str:Small", "as llama.cpp wants Phi 3's own tokens of a model that is called so"),
    "deepseek_v3": ("deepseek2.expert_gating_func=int:2", "as transformers 5 no longer writes the scoring function"),
}
TEXT = """It was a bright morning in late spring when the two brothers set out for the coast. They had packed bread, a
wheel of cheese and 3 bottles of water; nothing else. "We shall be there by noon," said the elder, who had walked this
road before (in 1897, to be exact) and did not expect to find it changed. The younger was not so sure. He looked at the
clouds, which were gathering over the hills, and thought of the long way back.

    def area(width, height):
        return width * height  # in square metres
"""


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


def split_problem(kquant, folder, text, scratch):
    """A model in several files, the first without tensors, as stock llama.cpp sees it, and merged again."""
    whole, merged = scratch / "whole.gguf", scratch / "merged.gguf"
    kquant.quantize(folder, whole, "Q8_0")
    options = ["--max-tensors", "5", "--no-tensor-first-split"]
    files = json.loads(kquant.run("split", whole, "-o", scratch / "part", *options, "--force", "--json"))
    kquant.run("merge", files[-1]["path"], "-o", merged, "--force", "--quiet")
    back = difference(stock.File(whole).tensors(), stock.File(merged).tensors())
    problem, _, _ = run_problems(whole, Path(files[0]["path"]), text)
    return back or problem


def written_strings(scratch):
    """The hard strings, a file for each."""
    paths = []
    for number, text in enumerate(hard_strings()):
        paths.append(scratch / f"{number}.txt")
        paths[-1].write_text(text, newline="")
    return paths


def ids_problem(paths, expected, actual):
    """Counts the texts that two tokenizers cut differently."""
    wrong = []
    for path, one, two in zip(paths, expected, actual, strict=True):
        if one != two:
            at = next((i for i, (a, b) in enumerate(zip(one, two)) if a != b), min(len(one), len(two)))
            wrong.append(f"{read(path)[:20]!r} from token {at}: {one[at : at + 3]} / {two[at : at + 3]}")
    return f"{len(wrong)} texts: {'; '.join(wrong[:3])}" if wrong else ""


def read(path):
    """The text, its line ends as they are."""
    return path.read_bytes().decode()


def check_tokens(kquant, folder, corpora, scratch, tally):
    """kquant's ids, from the folder and from the GGUF, against llama.cpp's; and where control tokens are read as such, those
    of the tokenizers package, which always does."""
    full, strings = scratch / "full.gguf", written_strings(scratch)
    kquant.quantize(folder, full, "F32")
    peer = stock.Model(full, vocabulary_only=True)
    library = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    for special, paths in [(False, [*corpora, *strings]), (True, strings)]:
        texts, more = [read(path) for path in paths], ["--special"] if special else []
        ways = {f"kquant, {source.name}": kquant.tokens(source, paths, *more) for source in (folder, full)}
        if special:
            ways["tokenizers"] = [library.encode(text, add_special_tokens=False).ids for text in texts]
        expected = [peer.tokens(text, special) for text in texts]
        for way, actual in ways.items():
            name = f"{folder.name} tokens{' +special' if special else ''}: {way}"
            word = tally.check(name, ids_problem(paths, expected, actual))
            print(f"{name:<60} {len(texts)} texts, {sum(map(len, expected))} tokens {word}", flush=True)


def pending():
    """Names of the folders of checkpoints that kquant does not convert yet."""
    lines = (DATA / "archs-pending.txt").read_text().splitlines()
    return {line.split(": ")[0] for line in lines if not line.startswith("#")}


def embedding_problem(kquant, folder, scratch):
    """llama.cpp's embedding by the converted checkpoint against that recorded beside it."""
    path, record = scratch / "reference.gguf", json.loads((folder / "expected.json").read_text())
    kquant.quantize(folder, path, "F32")
    cosine = float(stock.embedding(path, record["tokens"]) @ np.fromfile(folder / "embedding.f32", "<f4"))
    print(f"{folder.name}: cosine of the embedding {cosine:.7f}")
    return "" if cosine >= EMBEDDING_COSINE else f"cosine {cosine:g}"


def reference_problem(kquant, folder, scratch):
    """llama.cpp's logits of the converted checkpoint against those recorded beside it; no comparison where llama.cpp is known
    to compute something else, as `llama_cpp_note` says."""
    path, record = scratch / "reference.gguf", json.loads((folder / "expected.json").read_text())
    note = record.get("llama_cpp_note", DIFFERENT.get(folder.name))
    if note and folder.name not in CORRECTED:
        print(f"{folder.name}: not compared, {note}")
        return ""
    key, reason = REPAIRS.get(folder.name, (None, None))
    if reason:
        print(f"{folder.name}: with {key}, {reason}")
    kquant.quantize(folder, path, "F32", *(["--override-kv", key] if key else []))
    expected = np.fromfile(folder / "logits.f32", "<f4").reshape(record["shape"])
    actual = stock.Model(path, context=len(record["tokens"]), exact_cache=True).logits(record["tokens"])
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
    parser.add_argument("--models", nargs="+", type=Path, default=[DATA / "tiny-llama"], metavar="DIR",
                        help="Hugging Face folders (default: tests/data/tiny-llama)")  # fmt: skip
    parser.add_argument("--types", nargs="+", default=FILE_TYPES, metavar="TYPE", help="default: " + " ".join(FILE_TYPES))
    parser.add_argument("--imatrix", nargs="+", default=[], type=importance_of, metavar="NAME=FILE",
                        help="importance matrix of the model folder NAME")  # fmt: skip
    parser.add_argument("--text", type=Path, help="text to go on with (default: a paragraph)")
    parser.add_argument("--corpora", nargs="+", type=Path, default=sorted(DATA.glob("corpora/*.txt")), metavar="FILE",
                        help="texts to tokenize (default: those of tests/data)")  # fmt: skip
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
            tally.row(f"{model.name} split", split_problem, kquant, model, text, scratch)
        for model in args.models:
            check_tokens(kquant, model, args.corpora, scratch, tally)
        without = pending()
        for model in args.references:
            if model.name in without:
                print(f"{model.name}: not compared, kquant does not convert it yet")
                continue
            if (model / "logits.f32").exists():
                tally.row(f"{model.name} logits", reference_problem, kquant, model, scratch)
            else:
                tally.row(f"{model.name} embedding", embedding_problem, kquant, model, scratch)
    return tally.close()


if __name__ == "__main__":
    sys.exit(main())
