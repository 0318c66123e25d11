#!/usr/bin/env python3
"""Trains the small vocabularies of tests/data/tokenizers anew: across-words/merges.txt, unigram and unigram-bytes.

Needs the PyPI packages tokenizers, sentencepiece and protobuf. The texts are the probes, the hard strings and the beginning of
calibration-small.txt. The definitions in across-words/*.json are written by hand, from the files of published models.
"""

import base64
import json
import random
import tempfile
import unicodedata
from pathlib import Path

import sentencepiece
import tokenizers
from sentencepiece import sentencepiece_model_pb2

from program import DATA

PROBES = Path(__file__).resolve().parent.parent / "src" / "vocab" / "pre_tokenizer" / "probes.json"
SPACE = "\u2581"
CONFIG = {
    "tokenizer_class": "LlamaTokenizer", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>",
    "add_bos_token": True, "add_eos_token": False,
}  # fmt: skip


def hard_texts():
    """Probes and hard strings, the short ones."""
    strings = json.loads((DATA / "tokens" / "strings.json").read_text())
    return [s for s in strings if isinstance(s, str)], json.loads(PROBES.read_text())


def across_words():
    """Byte-level merges that reach over spaces, digits, line ends and scripts: nothing cuts the texts in training."""
    # llama.cpp takes any token of this text for a control token.
    strings, probes = ([text.replace("</s>", "<x>") for text in texts] for texts in hard_texts())
    lines = (DATA / "corpora" / "calibration-small.txt").read_text()[:90000].split("\n")
    chunks = ["\n".join(lines[i : i + 3]) + "\n" for i in range(0, len(lines), 3)]
    rnd = random.Random(7)
    numbers = [" ".join(str(rnd.randrange(10 ** rnd.randrange(1, 9))) for _ in range(6)) for _ in range(120)]
    data = chunks + (strings + probes) * 12 + numbers + [text.replace(" ", "") for text in numbers]
    tokenizer = tokenizers.Tokenizer(tokenizers.models.BPE())
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=1800, special_tokens=["<|endoftext|>"], max_token_length=12, show_progress=False,
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
    )  # fmt: skip
    tokenizer.train_from_iterator(data, trainer)
    merges = json.loads(tokenizer.to_str())["model"]["merges"]
    (DATA / "tokenizers" / "across-words" / "merges.txt").write_text("".join(f"{one} {two}\n" for one, two in merges))


def rules():
    """Replacements of characters: fewer than NFKC has, of all its kinds."""
    found = [(c, " ") for c in "\t\n\r\u00a0\u2003\u3000\u2028\u0085\u000b\u000c"]
    found += [(c, "") for c in "\u200b\u200d\ufeff\u00ad\u0001\u0002\u007f\u001b"]
    found += [(chr(i), chr(i - 0xFEE0)) for i in range(0xFF01, 0xFF5F)]
    pairs = [a + mark for a in "aeiouAEIOUnc" for mark in "\u0301\u0300\u0302\u0308\u0303\u0327"]
    found += [(pair, joined) for pair in pairs if len(joined := unicodedata.normalize("NFC", pair)) == 1]
    found += [(c, unicodedata.normalize("NFKC", c)) for c in "ﬁﬀﬃ™½¼²³①②③Ⅷǅĳ"]
    line = lambda pair: "\t".join(" ".join(f"{ord(c):X}" for c in text) for text in pair)  # noqa: E731
    return "".join(f"{line(pair)}\n" for pair in found)


def normalizer(model, byte_fallback):
    """What transformers makes of a model's treatment of spaces, and of characters."""
    if byte_fallback:
        replace = {"type": "Replace", "pattern": {"String": " "}, "content": SPACE}
        return [{"type": "Prepend", "prepend": SPACE}, replace], None
    charsmap = base64.b64encode(model.normalizer_spec.precompiled_charsmap).decode()
    steps = [{"type": "Precompiled", "precompiled_charsmap": charsmap}]
    steps.append({"type": "Strip", "strip_left": False, "strip_right": True})
    steps.append({"type": "Replace", "pattern": {"Regex": " {2,}"}, "content": SPACE})
    return steps, {"type": "Metaspace", "replacement": SPACE, "prepend_scheme": "always", "split": True}


def unigram(name, scratch, byte_fallback, **options):
    """tokenizer.model, and the tokenizer.json that transformers makes of it."""
    strings, probes = hard_texts()
    lines = [" ".join(text.replace("\0", "").split()) for text in probes * 3]
    corpus, folder = scratch / "corpus.txt", DATA / "tokenizers" / name
    corpus.write_text("\n".join([(DATA / "corpora" / "calibration-small.txt").read_text()[:120000], *lines, ""]))
    sentencepiece.SentencePieceTrainer.train(
        input=str(corpus), model_prefix=str(scratch / name), model_type="unigram", vocab_size=700, num_threads=1,
        character_coverage=0.998, byte_fallback=byte_fallback, minloglevel=2, **options,
    )  # fmt: skip
    model = sentencepiece_model_pb2.ModelProto()
    model.ParseFromString((scratch / f"{name}.model").read_bytes())
    steps, pre_tokenizer = normalizer(model, byte_fallback)
    flags = {"single_word": False, "lstrip": False, "rstrip": False, "normalized": False}
    kinds = sentencepiece_model_pb2.ModelProto.SentencePiece
    marks = {kinds.UNKNOWN: True, kinds.CONTROL: True, kinds.USER_DEFINED: False}
    added = [{"id": i, "content": p.piece, **flags, "special": marks[p.type]} for i, p in enumerate(model.pieces) if p.type in marks]
    tokenizer = {
        "version": "1.0", "truncation": None, "padding": None, "added_tokens": added,
        "normalizer": {"type": "Sequence", "normalizers": steps}, "pre_tokenizer": pre_tokenizer, "post_processor": None,
        "decoder": {"type": "Metaspace", "replacement": SPACE, "prepend_scheme": "always", "split": True},
        "model": {"type": "Unigram", "unk_id": 0, "vocab": [[p.piece, p.score] for p in model.pieces],
                  "byte_fallback": byte_fallback},
    }  # fmt: skip
    model.trainer_spec.ClearField("input")  # paths of this machine
    model.trainer_spec.ClearField("model_prefix")
    model.normalizer_spec.ClearField("normalization_rule_tsv")
    folder.mkdir(exist_ok=True)
    (folder / "tokenizer.model").write_bytes(model.SerializeToString())
    (folder / "tokenizer.json").write_text(json.dumps(tokenizer, separators=(",", ":")) + "\n")
    (folder / "tokenizer_config.json").write_text(json.dumps(CONFIG) + "\n")
    (folder / "config.json").write_text('{"vocab_size": 700}\n')


def main():
    """All vocabularies."""
    across_words()
    with tempfile.TemporaryDirectory(prefix="kquant-vocabularies-") as folder:
        scratch = Path(folder)
        (scratch / "rules.tsv").write_text(rules())
        unigram("unigram", scratch, False, normalization_rule_tsv=str(scratch / "rules.tsv"), pad_id=3,
                user_defined_symbols=["<sep>", "<|im_end|>"])  # fmt: skip
        unigram("unigram-bytes", scratch, True, normalization_rule_name="identity", remove_extra_whitespaces=False,
                user_defined_symbols=["<sep>"])  # fmt: skip


if __name__ == "__main__":
    main()
