"""Importance matrices of pseudo-random values, the same in every run, in both formats of llama-imatrix."""

import random
import struct

import gguf
import numpy as np

COUNT, CALLS = 4096, 16  # powers of two: means are exact in both formats
NAMES = {
    "input_layernorm": "attn_norm", "post_attention_layernorm": "ffn_norm", "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k", "self_attn.v_proj": "attn_v", "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate", "mlp.up_proj": "ffn_up", "mlp.down_proj": "ffn_down",
}  # fmt: skip
OUTSIDE = {"model.embed_tokens": "token_embd", "model.norm": "output_norm", "lm_head": "output"}


def gguf_name(name):
    """model.layers.0.mlp.up_proj.weight -> blk.0.ffn_up.weight"""
    stem = name.removesuffix(".weight")
    if stem in OUTSIDE:
        return f"{OUTSIDE[stem]}.weight"
    _, _, layer, inner = stem.split(".", 3)
    return f"blk.{layer}.{NAMES[inner]}.weight"


def matrices(shapes):
    """GGUF name -> [rows, columns] of the tensors that llama-imatrix measures, of a checkpoint's name -> shape."""
    named = {gguf_name(name): shape for name, shape in shapes.items()}
    return {name: shape for name, shape in named.items() if name.startswith("blk.") and len(shape) == 2}


def pseudo_random(shapes):
    """Name -> mean of squared activations, one per column; spread over 2^-6 to 2^6 with a few large columns."""
    found = {}
    for name, shape in sorted(shapes.items()):
        source = random.Random(f"importance of {name}")
        found[name] = np.array([2 ** source.uniform(-6, 2 + 4 * source.random() ** 4) for _ in range(shape[1])], "<f4")
    return found


def write(path, means):
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


def write_legacy(path, means):
    """The same values in the format of before."""
    text = lambda s: struct.pack("<i", len(s)) + s.encode()  # noqa: E731
    with open(path, "wb") as file:
        file.write(struct.pack("<i", len(means)))
        for name, mean in means.items():
            file.write(text(name) + struct.pack("<ii", CALLS, len(mean)) + (mean * np.float32(CALLS)).tobytes())
        file.write(struct.pack("<i", CALLS) + text("pseudo-random"))
