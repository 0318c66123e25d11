#!/usr/bin/env python3
"""Writes tests/data/tokens/NAME.json: the token ids that llama.cpp gives to texts that are hard to get right.

Needs the PyPI package llama-cpp-python. Usage: scripts/refresh_tokens.py NAME=MODEL.gguf ..., with models that
`kquant quantize --type F32` made from tests/data/tiny-llama, tests/data/archs/gpt2 and, with any weights,
tests/data/tokenizers/gpt2-4m. The texts are those of tests/data/corpora and tests/data/tokens/strings.json. Ids of control
tokens in the text: "plain" without, "special" with.
"""

import hashlib
import json
import struct
import sys

import llama_cpp

from program import DATA, hard_strings

MOST_IDS = 64


def tokenize(vocab, text, special):
    ids = (llama_cpp.llama_token * (len(text) + 8))()
    count = llama_cpp.llama_tokenize(vocab, text, len(text), ids, len(ids), False, special)
    assert count >= 0, count
    return ids[:count]


def digest(ids):
    return {"count": len(ids), "sha256": hashlib.sha256(struct.pack(f"<{len(ids)}I", *ids)).hexdigest()}


def compact(ids):
    return digest(ids) if len(ids) > MOST_IDS else ids


def record(vocab):
    both = {"plain": False, "special": True}
    corpora = {}
    for path in sorted((DATA / "corpora").glob("*.txt")):
        corpora[path.name] = {name: digest(tokenize(vocab, path.read_bytes(), flag)) for name, flag in both.items()}
    strings = []
    for text in map(str.encode, hard_strings()):
        strings.append({name: compact(tokenize(vocab, text, flag)) for name, flag in both.items()})
    roles = {
        "bos": llama_cpp.llama_vocab_bos(vocab), "eos": llama_cpp.llama_vocab_eos(vocab),
        "add_bos": bool(llama_cpp.llama_vocab_get_add_bos(vocab)), "tokens": llama_cpp.llama_vocab_n_tokens(vocab),
        "ends": [i for i in range(llama_cpp.llama_vocab_n_tokens(vocab)) if llama_cpp.llama_vocab_is_eog(vocab, i)],
    }
    return {"roles": roles, "corpora": corpora, "strings": strings}


def main():
    llama_cpp.llama_backend_init()
    for argument in sys.argv[1:]:
        name, path = argument.split("=", 1)
        params = llama_cpp.llama_model_default_params()
        params.vocab_only = True
        model = llama_cpp.llama_model_load_from_file(path.encode(), params)
        assert model, path
        out = record(llama_cpp.llama_model_get_vocab(model))
        strings = ",\n".join("    " + json.dumps(entry) for entry in out.pop("strings"))
        head = json.dumps(out, indent=2)[:-2]
        (DATA / "tokens" / f"{name}.json").write_text(f'{head},\n  "strings": [\n{strings}\n  ]\n}}\n')
        llama_cpp.llama_model_free(model)


if __name__ == "__main__":
    main()
