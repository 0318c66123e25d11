#!/usr/bin/env python3
"""Holds the token ids of many vocabularies against stock llama.cpp and the `tokenizers` package.

A small checkpoint of random weights gets the tokenizer files of each vocabulary: one byte-level vocabulary, whose tokens reach
over the ends of words, under each pre-tokenizer of tests/data/tokenizers/across-words/published.json. kquant converts it;
then ids of the probes, of the hard strings and of a text are compared: kquant's from the folder and from the GGUF, and
llama.cpp's, with those of `tokenizers`. Where llama.cpp cuts otherwise than the model's own tokenizer, DIFFERENCES names the
texts and says why; a difference that is not listed fails, and so does a listed one that is gone.
Needs the packages of requirements.txt.
"""

import argparse
import functools
import json
import shutil
import sys
import tempfile
from pathlib import Path

import tokenizers

import stock
from program import DATA, Kquant, Tally, hard_strings
from synthetic import Llama

ACROSS = DATA / "tokenizers" / "across-words"
PROBES = Path(__file__).resolve().parent.parent / "src" / "vocab" / "pre_tokenizer" / "probes.json"
UNIGRAM = "unigram", "unigram-bytes"
LONGEST = 2000  # characters of a hard string: some expressions take time that grows with the square of a run of digits

MARKS = ("it has stand-ins for the classes of upper and lower case, in which combining marks (\\p{M}) end a word",
         "probe 9, probe 10, string 46, string 47, string 50")  # fmt: skip
NUMBERS = "it does not cut before a number, so that spaces in front of one are cut otherwise"
# Name -> why llama.cpp cuts some texts otherwise than `tokenizers`, and which.
DIFFERENCES = {
    "tekken": [MARKS],
    "gpt-4o": [MARKS],
    "kimi-k2": [MARKS],
    "falcon": [("it leaves out the step that cuts out numbers among the letters that stand for bytes (\u00b2 \u00b3 \u00b9 \u00bc \u00bd "
                "\u00be are such letters); a vocabulary trained with this step has no token that would show it",
                "eval-small.txt, probe 1, probe 2, probe 9, probe 10, probe 11, probe 12, probe 13, probe 14, probe 20, probe 22, "
                "probe 24, probe 44, probe 45, string 37, string 38, string 40, string 41, string 43, string 44, string 47, "
                "string 49, string 55, string 59")],
    "deepseek-llm": [("it takes runs of digits where the model has each digit by itself; a vocabulary trained so has no such token",
                      "eval-small.txt, probe 1, probe 2, probe 12, probe 21, probe 22, probe 24, probe 44, string 52, string 58, "
                      "string 59, string 68, string 100, string 101, string 120")],
    "tiny_aya": [(f"{NUMBERS}; and it counts in threes where a letter follows, too", "eval-small.txt, probe 2, probe 44")],
    "afmoe": [(NUMBERS, "eval-small.txt, probe 44")],
    "unigram-bytes": [
        ("its Unigram tokenizer has no bytes: what is no token is <unk>",
         "eval-small.txt, probe 2, probe 4, probe 5, probe 6, probe 8, probe 12, probe 13, probe 14, probe 18, "
         "probe 19, probe 20, probe 24, probe 27, probe 28, probe 29, probe 30, probe 31, probe 38, probe 39, "
         "probe 40, string 4, string 5, string 6, string 7, string 8, string 21, string 22, string 23, string "
         "24, string 25, string 26, string 27, string 28, string 29, string 30, string 31, string 32, string "
         "33, string 34, string 35, string 36, string 37, string 38, string 39, string 40, string 41, string "
         "42, string 48, string 49, string 51, string 52, string 53, string 54, string 55, string 77, string "
         "88, string 106, string 117, string 118, string 119, string 123"),
        ("it puts no space before a text of nothing but spaces", "string 1, string 2, string 3, string 86, string 89, string 90, string 105, string 114"),
    ],
}  # fmt: skip
# The same where kquant and llama.cpp agree with SentencePiece, and `tokenizers` does not.
LIBRARY = {
    "unigram": [("it maps characters by graphemes and drops what follows the first match in one", "probe 9, string 50"),
                ("it takes a visible space in the text for one that it put there", "string 70, string 71, string 74")],
    "unigram-bytes": [("it finds the names of byte tokens in the text", "probe 21, string 99, string 100, string 101")],
}  # fmt: skip


def texts():
    """Name -> text."""
    found = {f"probe {i}": text for i, text in enumerate(json.loads(PROBES.read_text()))}
    found |= {f"string {i}": text[:LONGEST] for i, text in enumerate(hard_strings())}
    return found | {"eval-small.txt": (DATA / "corpora" / "eval-small.txt").read_bytes().decode()}


def across_words(definition):
    """The tokenizer.json of the vocabulary with this pre-tokenizer."""
    merges = (ACROSS / "merges.txt").read_text().splitlines()
    letters = sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    vocab = {}
    for text in ["<|endoftext|>", *letters, *(merge.replace(" ", "") for merge in merges)]:
        vocab.setdefault(text, len(vocab))
    token = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False, "special": True}
    model = {"type": "BPE", "ignore_merges": definition["ignore_merges"], "vocab": vocab, "merges": merges}
    decoder = {"type": "ByteLevel", "add_prefix_space": True, "trim_offsets": True, "use_regex": True}
    added = [{"id": 0, "content": "<|endoftext|>", **token}]
    return {"added_tokens": added, "pre_tokenizer": definition["pre_tokenizer"], "decoder": decoder, "model": model}, len(vocab)


def checkpoint(folder, vocab):
    """Writes a model of `vocab` embedding rows next to the tokenizer."""
    Llama(hidden=64, ffn=64, layers=1, heads=2, kv_heads=2, vocab=vocab, context=64, tied=True).write(folder, tokenizer=False)


def vocabularies():
    """Yields names, and functions that write the tokenizer files into a folder and return the number of tokens."""

    def byte_level(definition, folder):
        tokenizer, count = across_words(definition)
        (folder / "tokenizer.json").write_text(json.dumps(tokenizer))
        return count

    def copy(source, names, folder):
        for name in names:
            shutil.copyfile(source / name, folder / name)
        return tokenizers.Tokenizer.from_file(str(source / "tokenizer.json")).get_vocab_size()

    for definition in json.loads((ACROSS / "published.json").read_text()):
        yield definition["name"], functools.partial(byte_level, definition)
    for name in UNIGRAM:
        files = ["tokenizer.json", "tokenizer_config.json"]
        yield f"{name}, json", functools.partial(copy, DATA / "tokenizers" / name, files)
        yield f"{name}, model", functools.partial(copy, DATA / "tokenizers" / name, [*files, "tokenizer.model"])


def difference(cases, expected, actual):
    """Names of the texts that are cut differently."""
    return [name for name, one, two in zip(cases, expected, actual, strict=True) if one != two]


def problem(expected, found):
    """What of `found` was not expected, and the other way round."""
    parts = [(f"differ: {', '.join(sorted(found - expected))}", found - expected)]
    parts.append((f"listed, but equal: {', '.join(sorted(expected - found))}", expected - found))
    return "; ".join(text for text, names in parts if names)


def check(kquant, name, folder, scratch, tally):
    """One vocabulary."""
    gguf, cases, paths = scratch / "vocabulary.gguf", texts(), []
    for text in cases.values():
        paths.append(scratch / f"{len(paths)}.txt")
        paths[-1].write_text(text, newline="")
    kquant.quantize(folder, gguf, "F32")
    library = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    peer = stock.Model(gguf, vocabulary_only=True)
    ids = [library.encode(text, add_special_tokens=False).ids for text in cases.values()]
    words = []
    ways = {f"kquant, {source.name}": kquant.tokens(source, paths, "--special") for source in (folder, gguf)}
    common, peers = listed(LIBRARY, name), listed(DIFFERENCES, name)
    for way, actual in ways.items():
        words.append(tally.check(f"{name}, {way}", problem(common, set(difference(cases, ids, actual)))))
    stocks = [peer.tokens(text, True) for text in cases.values()]
    words.append(tally.check(f"{name}, llama.cpp", problem(common | peers, set(difference(cases, ids, stocks)))))
    counts = f"{sum(map(len, ids))} tokens, {len(peers)} and {len(common)} texts differ"
    print(f"{name:<24} {' '.join(f'{word:<10}' for word in words)} {counts}", flush=True)


def listed(table, name):
    """The texts of a vocabulary that `table` names."""
    return {text for _, names in table.get(name.split(", ")[0], []) for text in names.split(", ")}


def print_reasons():
    """What the table's counts stand for."""
    for who, table in ("llama.cpp", DIFFERENCES), ("tokenizers", LIBRARY):
        for name, entries in table.items():
            for reason, names in entries:
                print(f"{name}: {who} alone differs in {names}: {reason}")


def main():
    """Checks all vocabularies."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kquant", required=True, type=Path, help="the program")
    kquant, tally = Kquant(parser.parse_args().kquant), Tally()
    print(f"{'':<24} {'folder':<10} {'GGUF':<10} {'llama.cpp':<10}")
    with tempfile.TemporaryDirectory(prefix="kquant-vocabularies-") as folder:
        scratch = Path(folder)
        for name, write in vocabularies():
            model = scratch / "model"
            model.mkdir()
            checkpoint(model, write(model))
            check(kquant, name, model, scratch, tally)
            shutil.rmtree(model)
    print_reasons()
    return tally.close()


if __name__ == "__main__":
    sys.exit(main())
