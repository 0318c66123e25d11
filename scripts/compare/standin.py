"""A stand-in for convert_hf_to_gguf.py: the same tensors by gguf-py and numpy, without torch, transformers and tokenizers;
metadata are copied from a GGUF that has them. It does less than the real one: a lower bound of its time and memory."""

import json
import struct


def convert(folder, template, target):
    """Writes `folder`, a synthetic Llama checkpoint in bf16, as the GGUF `target`; metadata are those of `template`."""
    import gguf  # noqa: PLC0415: needs the packages
    import numpy as np  # noqa: PLC0415

    import importance  # noqa: PLC0415

    config = json.loads((folder / "config.json").read_text())
    heads = {"attn_q": config["num_attention_heads"], "attn_k": config["num_key_value_heads"]}
    checkpoint = folder / "model.safetensors"
    with open(checkpoint, "rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        header = json.loads(file.read(length))
    bits = np.memmap(checkpoint, "<u2", "r", offset=8 + length)
    writer = gguf.GGUFWriter(target, "llama", use_temp_file=False)
    copy_metadata(gguf, writer, template)
    named = {importance.gguf_name(name): tensor for name, tensor in header.items()}
    for name, tensor in named.items():
        matrix = len(tensor["shape"]) > 1
        kind = gguf.GGMLQuantizationType.BF16 if matrix else gguf.GGMLQuantizationType.F32
        count = (tensor["data_offsets"][1] - tensor["data_offsets"][0]) // 2
        writer.add_tensor_info(name, tensor["shape"], np.dtype("<f4"), count * (2 if matrix else 4), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for name, tensor in named.items():
        start, end = (offset // 2 for offset in tensor["data_offsets"])
        weights, role = bits[start:end].reshape(tensor["shape"]), name.split(".")[-2]
        if role in heads:
            weights = interleave(weights, heads[role])
        writer.write_tensor_data(weights if weights.ndim > 1 else (weights.astype("<u4") << 16).view("<f4"))
    writer.close()


def copy_metadata(gguf, writer, template):
    """All keys of a GGUF but the one that the writer has."""
    for field in gguf.GGUFReader(template).fields.values():
        if field.name != "general.architecture" and not field.name.startswith("GGUF."):
            kind = field.types[0]
            inner = field.types[-1] if kind == gguf.GGUFValueType.ARRAY else None
            writer.add_key_value(field.name, field.contents(), kind, sub_type=inner)


def interleave(weights, heads):
    """Rows of q or k: from two halves per head, as Hugging Face rotates, to pairs, as GGUF's `llama` does."""
    rows, columns = weights.shape
    return weights.reshape(heads, 2, rows // heads // 2, columns).swapaxes(1, 2).reshape(rows, columns)
