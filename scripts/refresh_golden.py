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
import random
import struct
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

import gguf
import numpy as np
import safetensors

import stock
from program import Kquant, difference

ROOT = Path(__file__).resolve().parent.parent
MODEL, GOLDEN = ROOT / "tests/data/tiny-llama", ROOT / "tests/data/golden"
FLOATS = ["F32", "F16", "BF16"]
FILE_TYPES = """Q4_0 Q4_1 Q5_0 Q5_1 Q8_0 Q2_K Q3_K_S Q3_K_M Q3_K_L Q4_K_S Q4_K_M Q5_K_S Q5_K_M Q6_K IQ4_NL IQ4_XS
TQ1_0 TQ2_0 MXFP4_MOE Q1_0 Q2_0""".split()
NEEDS_IMPORTANCE = ["Q2_K_S"]
COUNT, CALLS = 4096, 16  # powers of two: means are exact in both formats
NAMES = {
    "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm", "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
}  # fmt: skip


def gguf_name(name):
    """model.layers.0.mlp.up_proj.weight -> blk.0.ffn_up.weight"""
    if name == "model.embed_tokens.weight":
        return "token_embd.weight"
    if name == "model.norm.weight":
        return "output_norm.weight"
    _, _, layer, inner = name.removesuffix(".weight").split(".", 3)
    return f"blk.{layer}.{NAMES[inner]}.weight"


def interleave(weights, heads):
    """Rows of q or k: from two halves per head, as Hugging Face rotates, to pairs, as GGUF's `llama` does."""
    rows, columns = weights.shape
    return weights.reshape(heads, 2, rows // heads // 2, columns).swapaxes(1, 2).reshape(rows, columns)


def converted():
    """Name -> (type, SHA-256) of the checkpoint as a 16-bit GGUF must hold it."""
    config = json.loads((MODEL / "config.json").read_text())
    heads = {"attn_q": config["num_attention_heads"], "attn_k": config["num_key_value_heads"]}
    found = {}
    for name, tensor in safetensors.deserialize((MODEL / "model.safetensors").read_bytes()):
        name, bits = gguf_name(name), np.frombuffer(tensor["data"], "<u2").reshape(tensor["shape"])
        role = name.split(".")[-2]
        if role in heads:
            bits = interleave(bits, heads[role])
        matrix = bits.ndim > 1
        data = bits if matrix else bits.astype("<u4") << 16  # norms are f32 in every GGUF
        found[name] = ("BF16" if matrix else "F32", hashlib.sha256(data.tobytes()).hexdigest())
    return found


def importance():
    """Name -> mean of squared activations, one per column; spread over 2^-6 to 2^6 with a few large columns."""
    found = {}
    for name, shape in sorted(matrices().items()):
        source = random.Random(f"importance of {name}")
        found[name] = np.array([2 ** source.uniform(-6, 2 + 4 * source.random() ** 4) for _ in range(shape[1])], "<f4")
    return found


def matrices():
    """Name -> [rows, columns] of the tensors that llama-imatrix measures: the matrices of the layers."""
    tensors = safetensors.deserialize((MODEL / "model.safetensors").read_bytes())
    named = {gguf_name(name): tensor["shape"] for name, tensor in tensors}
    return {name: shape for name, shape in named.items() if name.startswith("blk.") and len(shape) == 2}


def write_importance(path, means):
    """The format that llama-imatrix writes today."""
    writer = gguf.GGUFWriter(path, "imatrix")
    writer.kv_data[0].clear()  # such a file has a type and no architecture
    writer.add_string("general.type", "imatrix")
    writer.add_array("imatrix.datasets", ["pseudo-random"])
    writer.add_uint32("imatrix.chunk_count", CALLS)
    writer.add_uint32("imatrix.chunk_size", COUNT // CALLS)
    for name, mean in means.items():
        writer.add_tensor(f"{name}.counts", np.full((1, 1), COUNT, np.float32))
        writer.add_tensor(f"{name}.in_sum2", (mean * np.float32(COUNT)).reshape(1, -1))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def write_legacy_importance(path, means):
    """The same values in the format of before."""
    text = lambda s: struct.pack("<i", len(s)) + s.encode()  # noqa: E731
    with open(path, "wb") as file:
        file.write(struct.pack("<i", len(means)))
        for name, mean in means.items():
            file.write(text(name) + struct.pack("<ii", CALLS, len(mean)) + (mean * np.float32(CALLS)).tobytes())
        file.write(struct.pack("<i", CALLS) + text("pseudo-random"))


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
    means, path = importance(), args.out / "tiny-llama.imatrix.gguf"
    write_importance(path, means)
    write_legacy_importance(path.with_suffix(".dat"), means)
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
