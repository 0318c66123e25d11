#!/usr/bin/env python3
"""Writes tests/data/golden: what stock llama.cpp makes of tests/data/tiny-llama, for every file type that kquant writes.

The 16-bit GGUF that llama.cpp starts from is made by kquant, and then compared with the checkpoint, tensor by tensor, by
a conversion in numpy that stands here; so the results rest on llama.cpp and numpy alone. Also writes the importance
matrix that half of the results are made with, in both formats: positive pseudo-random values, the same in every run.
Needs the packages of requirements.txt.
"""

import argparse
import hashlib
import json
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

import numpy as np
import safetensors

import importance
import stock
from compare import standin
from program import Kquant, difference

ROOT = Path(__file__).resolve().parent.parent
MODEL, GOLDEN = ROOT / "tests/data/tiny-llama", ROOT / "tests/data/golden"
FLOATS = ["F32", "F16", "BF16"]
FILE_TYPES = """Q4_0 Q4_1 Q5_0 Q5_1 Q8_0 Q2_K Q3_K_S Q3_K_M Q3_K_L Q4_K_S Q4_K_M Q5_K_S Q5_K_M Q6_K IQ4_NL IQ4_XS
TQ1_0 TQ2_0 MXFP4_MOE Q1_0 Q2_0""".split()
NEEDS_IMPORTANCE = ["Q2_K_S"]


def converted():
    """Name -> (type, SHA-256) of the checkpoint as a 16-bit GGUF must hold it."""
    config = json.loads((MODEL / "config.json").read_text())
    heads = {"attn_q": config["num_attention_heads"], "attn_k": config["num_key_value_heads"]}
    found = {}
    for name, tensor in safetensors.deserialize((MODEL / "model.safetensors").read_bytes()):
        name, bits = importance.gguf_name(name), np.frombuffer(tensor["data"], "<u2").reshape(tensor["shape"])
        role = name.split(".")[-2]
        if role in heads:
            bits = standin.interleave(bits, heads[role])
        matrix = bits.ndim > 1
        data = bits if matrix else bits.astype("<u4") << 16  # norms are f32 in every GGUF
        found[name] = ("BF16" if matrix else "F32", hashlib.sha256(data.tobytes()).hexdigest())
    return found


def same(one, two):
    """Whether two importance matrices have the same values."""
    return one.keys() == two.keys() and all(np.array_equal(one[name], two[name]) for name in one)


def results(full, kinds, matrix, scratch):
    """File type -> name -> (type, SHA-256), by stock llama.cpp."""
    found = {}
    for kind in kinds:
        out = scratch / "out.gguf"
        stock.quantize(full, out, kind, matrix)
        found[kind] = stock.tensors(out)
    return found


def as_json(record):
    """JSON with one line per file type."""
    sections = {
        key: "{\n" + ",\n".join(f"  {json.dumps(k)}: {json.dumps(v, separators=(',', ':'))}" for k, v in value.items()) + "\n }"
        if isinstance(value, dict) else json.dumps(value)
        for key, value in record.items()
    }  # fmt: skip
    return "{\n" + ",\n".join(f" {json.dumps(key)}: {text}" for key, text in sections.items()) + "\n}\n"


def main():
    """Makes the importance matrix, checks the conversion, records the results."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kquant", required=True, type=Path, help="the program")
    parser.add_argument("--out", type=Path, default=GOLDEN, help="folder to write to (default: tests/data/golden)")
    args = parser.parse_args()
    kquant = Kquant(args.kquant)
    args.out.mkdir(exist_ok=True)
    shapes = {name: tensor["shape"] for name, tensor in safetensors.deserialize((MODEL / "model.safetensors").read_bytes())}
    means, path = importance.pseudo_random(importance.matrices(shapes)), args.out / "tiny-llama.imatrix.gguf"
    importance.write(path, means)
    importance.write_legacy(path.with_suffix(".dat"), means)
    matrix, legacy = stock.Importance(path), stock.Importance(path.with_suffix(".dat"))
    if not (same(means, matrix.entries) and same(means, legacy.entries)):
        raise SystemExit("the importance matrix does not read back as it was written")
    with tempfile.TemporaryDirectory(prefix="kquant-golden-") as folder:
        full = Path(folder) / "full.gguf"
        kquant.quantize(MODEL, full, "BF16")
        if problem := difference(converted(), stock.tensors(full)):
            raise SystemExit(f"kquant's BF16 is not the checkpoint (numpy / kquant): {problem}")
        record = {
            "source": f"llama_model_quantize of llama-cpp-python {version('llama-cpp-python')}, x86-64, from BF16",
            "quantize": results(full, FLOATS + FILE_TYPES, None, Path(folder)),
            "quantize_imatrix": results(full, FILE_TYPES + NEEDS_IMPORTANCE, matrix, Path(folder)),
        }
    (args.out / "tiny-llama.json").write_text(as_json(record))
    print(f"{len(record['quantize'])} file types, {len(record['quantize_imatrix'])} with importance")


if __name__ == "__main__":
    sys.exit(main())
