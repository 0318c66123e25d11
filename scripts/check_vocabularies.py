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
import json
import sys
import tempfile
from pathlib import Path

import tokenizers

import stock
from program import DATA, Kquant, Tally, hard_strings
from synthetic import Llama

ACROSS = DATA / "tokenizers" / "across-words"
PROBES = Path(__file__).resolve().parent.parent / "src" / "vocab" / "pre_tokenizer" / "probes.json"
LONGEST = 2000  # characters of a hard string: some expressions take time that grows with the square of a run of digits

MARKS = ("it has stand-ins for the classes of upper and lower case, in which combining marks (\\p{M}) end a word",
         "probe 9, probe 10, string 46, string 47, string 50")  # fmt: skip
NUMBERS = "it does not cut before a number, so that spaces in front of one are cut otherwise"
# Name -> why llama.cpp cuts some texts otherwise than the model's own tokenizer, and which.
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
    """Writes a model of `vocab` embedding rows, without a tokenizer."""
    Llama(hidden=64, ffn=64, layers=1, heads=2, kv_heads=2, vocab=vocab, context=64, tied=True).write(folder)
    for path in folder.glob("*token*"):
        path.unlink()


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
    ways = {f"kquant, {source.name}": kquant.tokens(source, paths, "--special") for source in (folder, gguf)}
    listed = {text for _, names in DIFFERENCES.get(name, []) for text in names.split(", ")}
    words = [tally.check(f"{name}, {way}", problem(set(), set(difference(cases, ids, actual)))) for way, actual in ways.items()]
    stocks = [peer.tokens(text, True) for text in cases.values()]
    words.append(tally.check(f"{name}, llama.cpp", problem(listed, set(difference(cases, ids, stocks)))))
    print(f"{name:<24} {' '.join(f'{word:<10}' for word in words)} {sum(map(len, ids))} tokens, {len(listed)} differ", flush=True)
    for reason, names in DIFFERENCES.get(name, []):
        print(f"    llama.cpp differs in {names}: {reason}")


def main():
    """Checks all vocabularies."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kquant", required=True, type=Path, help="the program")
    kquant, tally = Kquant(parser.parse_args().kquant), Tally()
    print(f"{'':<24} {'folder':<10} {'GGUF':<10} {'llama.cpp':<10}")
    with tempfile.TemporaryDirectory(prefix="kquant-vocabularies-") as folder:
        scratch, model = Path(folder), Path(folder) / "model"
        for definition in json.loads((ACROSS / "published.json").read_text()):
            tokenizer, count = across_words(definition)
            if not model.exists():
                model.mkdir()
                checkpoint(model, count)
            (model / "tokenizer.json").write_text(json.dumps(tokenizer))
            check(kquant, definition["name"], model, scratch, tally)
    return tally.close()


if __name__ == "__main__":
    sys.exit(main())
