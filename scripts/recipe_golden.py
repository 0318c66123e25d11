#!/usr/bin/env python3
"""Writes tests/data/recipes/*.json: the tensor types that llama.cpp chooses for made-up models.

Needs the PyPI packages llama-cpp-python and gguf. Usage: scripts/recipe_golden.py OUT_DIR [MODELS_DIR], where
MODELS_DIR holds recorded runs of llama-quantize on trained models (`NAME.json`), which are only repacked.
"""

import ctypes
import json
import re
import sys
import tempfile
from pathlib import Path

FILE_TYPES = {
    "F32": 0, "F16": 1, "Q4_0": 2, "Q4_1": 3, "Q8_0": 7, "Q5_0": 8, "Q5_1": 9, "Q2_K": 10, "Q3_K_S": 11, "Q3_K_M": 12,
    "Q3_K_L": 13, "Q4_K_S": 14, "Q4_K_M": 15, "Q5_K_S": 16, "Q5_K_M": 17, "Q6_K": 18, "IQ2_XXS": 19, "IQ2_XS": 20,
    "Q2_K_S": 21, "IQ3_XS": 22, "IQ3_XXS": 23, "IQ1_S": 24, "IQ4_NL": 25, "IQ3_S": 26, "IQ3_M": 27, "IQ2_S": 28,
    "IQ2_M": 29, "IQ4_XS": 30, "IQ1_M": 31, "BF16": 32, "TQ1_0": 36, "TQ2_0": 37, "MXFP4_MOE": 38, "Q1_0": 40,
    "Q2_0": 41,
}

DENSE = {f"blk.*.{n}.weight": [256, 2] for n in ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down")}
ATTENTION = {k: v for k, v in DENSE.items() if "attn" in k}
EXPERTS = {f"blk.*.ffn_{n}_exps.weight": [256, 2, 8] for n in ("gate", "up", "down")} | {
    "blk.*.ffn_gate_inp.weight": [256, 8]}
SHARED = {f"blk.*.ffn_{n}_shexp.weight": [256, 2] for n in ("gate", "up", "down")}
ENDS = {"token_embd.weight": [256, 4], "output.weight": [256, 4]}
TIED = {"token_embd.weight": [256, 4]}


def model(arch, layers, heads, heads_kv, tensors, experts=0, **keys):
    facts = {"arch": arch, "layers": layers, "heads": heads, "heads_kv": heads_kv, "experts": experts}
    return {"facts": facts, "tensors": tensors, "keys": keys}


def odd(columns):
    return {f"blk.*.{n}.weight": [columns, 2] for n in ("attn_q", "attn_v", "ffn_down")}


MODELS = {
    "grouped-32": model("llama", 32, 32, 8, ENDS | DENSE),
    "ungrouped-30-tied": model("llama", 30, 30, 30, TIED | DENSE),
    "llama-70b": model("llama", 80, 64, 8, ENDS | DENSE),
    "llama-65b": model("llama", 80, 64, 64, ENDS | DENSE),
    "qwen2-72b": model("qwen2", 80, 64, 64, ENDS | DENSE),
    "mixtral": model("llama", 32, 32, 8, ENDS | ATTENTION | EXPERTS, experts=8),
    "four-experts": model("llama", 16, 8, 8, ENDS | ATTENTION | EXPERTS, experts=4),
    "shared-experts": model("deepseek2", 27, 16, 16, ENDS | EXPERTS | SHARED | {
        "blk.*.attn_q.weight": [256, 2], "blk.*.attn_kv_a_mqa.weight": [256, 2], "blk.*.attn_k_b.weight": [256, 2, 4],
        "blk.*.attn_v_b.weight": [256, 2, 4], "blk.*.attn_kv_b.weight": [256, 2], "blk.*.attn_output.weight": [256, 2],
    }, experts=64),
    "falcon": model("falcon", 60, 71, 1, ENDS | {
        f"blk.*.{n}.weight": [256, 2] for n in ("attn_qkv", "attn_output", "ffn_up", "ffn_down")}),
    "falcon-tied-ungrouped": model("falcon", 20, 8, 8, TIED | {
        f"blk.*.{n}.weight": [256, 2] for n in ("attn_qkv", "attn_output", "ffn_up", "ffn_down")}),
    "rows-of-288": model("llama", 12, 4, 4, {"token_embd.weight": [288, 4], "output.weight": [288, 4]} | odd(288)),
    "rows-of-300": model("llama", 3, 4, 4, {"token_embd.weight": [300, 4], "output.weight": [300, 4]} | odd(300)),
    "rows-of-288-tied": model("llama", 3, 4, 4, {"token_embd.weight": [288, 4]} | odd(288)),
    "gemma3n": model("gemma3n", 10, 8, 2, TIED | DENSE | {
        "per_layer_token_embd.weight": [256, 4], "per_layer_model_proj.weight": [256, 4], "altup_proj.weight": [256, 2, 3],
        "blk.*.laurel_l.weight": [256, 2], "blk.*.inp_gate.weight": [256, 2], "blk.*.attn_norm.weight": [256]}),
    "bailingmoe3": model("bailingmoe3", 4, 8, 8, ENDS | EXPERTS | {
        "blk.*.attn_k_b.weight": [256, 2, 4], "blk.*.attn_output.weight": [256, 2]}, experts=16),
    "glm5-next": model("glm5-next", 4, 8, 8, ENDS | EXPERTS | {
        f"blk.*.{n}.weight": [256, 2] for n in (
            "attn_q_a", "attn_q_b", "nextn.eh_proj", "attn_kv_a_mqa", "attn_output", "ssm_f_a", "indexer.proj")},
        experts=16, **{"hyper_connection.count": 4, "indexer.kpool": 2}),
    "odds-and-ends": model("bert", 4, 4, 4, {
        "token_embd.weight": [256, 4], "position_embd.weight": [256, 4], "token_types.weight": [256, 2],
        "cls.weight": [256, 2], "cls.bias": [256, 2], "flat.weight": [256, 1], "blk.*.attn_q.weight": [256, 2],
        "blk.*.attn_rel_b.weight": [256, 2], "v.blk.0.attn_v.weight": [256, 2], "v.patch_embd.weight": [256, 2],
        "blk.*.ssm_conv1d.weight": [256, 2], "blk.*.time_mix_w1.weight": [256, 2], "one.weight": [1, 4]}),
}

OPTIONS = {
    "pure": {"pure": True},
    "pure-with-ends": {"pure": True, "output_tensor_type": "Q8_0", "token_embedding_type": "Q4_1"},
    "output-type": {"output_tensor_type": "Q5_1"},
    "embedding-type": {"token_embedding_type": "Q5_0"},
    "leave-output": {"leave_output_tensor": True, "output_tensor_type": "Q5_1"},
    "tensor-types": {"tensor_types": [["attn_v", "Q8_0"], ["blk\\.[01]\\.ffn_down", "Q5_1"], ["ffn_", "IQ4_NL"]]},
    "shifted": {"tensor_types": [["blk\\.0\\.(attn_v|ffn_down)", "Q4_K"]]},
    "pure-tensor-types": {"pure": True, "tensor_types": [["token_embd", "Q8_0"], ["attn_k", "F16"]]},
    "everything": {"token_embedding_type": "Q5_0", "output_tensor_type": "Q5_1", "tensor_types": [["t", "Q8_0"]]},
}


def expand(tensors, layers):
    for name, shape in tensors.items():
        for layer in range(layers if "*" in name else 1):
            yield name.replace("*", str(layer)), shape


def compress(types, tensors, layers, base):
    """Types per tensor, layer by layer in runs; tensors that are plainly of type `base` are left out."""
    out = {}
    for name, shape in tensors.items():
        runs = []
        for layer in range(layers if "*" in name else 1):
            t = types[name.replace("*", str(layer))]
            if runs and runs[-1][0] == t:
                runs[-1][1] += 1
            else:
                runs.append([t, 1])
        text = " ".join(t if n == 1 else f"{t}*{n}" for t, n in runs)
        if len(runs) > 1 or runs[0][0] != base:
            out[name] = runs[0][0] if len(runs) == 1 else text
    return out


class Peer:
    """llama.cpp's quantizer in dry-run mode."""

    def __init__(self):
        import gguf
        import llama_cpp

        self.gguf, self.lib, self.lines = gguf, llama_cpp, []
        self.callback = llama_cpp.llama_log_callback(lambda level, text, data: self.lines.append(text.decode()))
        llama_cpp.llama_log_set(self.callback, None)
        self.ids = {t.name: int(t) for t in gguf.GGMLQuantizationType} | {"Q1_0": 41, "Q2_0": 42}

    def write(self, path, spec, extra):
        import numpy

        facts = spec["facts"]
        arch = facts["arch"]
        writer = self.gguf.GGUFWriter(path, arch)
        keys = {"context_length": 64, "embedding_length": 256, "block_count": facts["layers"], "feed_forward_length": 256,
                "attention.head_count": facts["heads"], "attention.head_count_kv": facts["heads_kv"]}
        if facts["experts"]:
            keys |= {"expert_count": facts["experts"], "expert_used_count": 2}
        for key, value in (keys | spec["keys"] | extra).items():
            add = writer.add_float32 if isinstance(value, float) else writer.add_uint32
            add(f"{arch}.{key}", value)
        for name, shape in expand(spec["tensors"], facts["layers"]):
            writer.add_tensor(name, numpy.zeros(shape[::-1], dtype=numpy.float32))
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()

    def params(self, file_type, weighted, options):
        c = self.lib
        params = c.llama_model_quantize_default_params()
        params.ftype, params.dry_run, params.nthread = FILE_TYPES[file_type], True, 1
        params.pure = options.get("pure", False)
        params.quantize_output_tensor = not options.get("leave_output_tensor", False)
        for field in ("output_tensor_type", "token_embedding_type"):
            if field in options:
                setattr(params, field, self.ids[options[field]])
        if weighted:
            data = (ctypes.c_float * 1)(1.0)
            params.imatrix = (c.llama_model_imatrix_data * 2)((b"none", data, 1), (None, None, 0))
        if "tensor_types" in options:
            pairs = [(p.encode(), self.ids[t]) for p, t in options["tensor_types"]] + [(None, 0)]
            params.tt_overrides = (c.llama_model_tensor_override * len(pairs))(*pairs)
        return params

    def run(self, path, file_type, weighted, options):
        """Types by tensor, or the reason for a failure."""
        self.lines.clear()
        params = self.params(file_type, weighted, options)
        rc = self.lib.llama_model_quantize(str(path).encode(), str(path).encode() + b".out", ctypes.byref(params))
        log = "".join(self.lines)
        if rc:
            return log
        line = r"\[ *\d+/ *\d+\] +(\S+) +- \[[^]]*\], type = +(\S+), size = +\S+ MiB(?: -> +\S+ MiB \((\S+)\))?"
        return {name: (new or old).upper() for name, old, new in re.findall(line, log)}

    def fill_in(self, path, spec):
        """Writes the file, adding whatever keys the peer misses until it reads it."""
        extra = {}
        while True:
            self.write(path, spec, extra)
            result = self.run(path, "Q8_0", False, {})
            if isinstance(result, dict):
                return
            missing = re.search(r"key not found in model: [^.]+\.(\S+)", result)
            typed = re.search(r"key [^.\s]+\.(\S+) has wrong type u32 but expected type f32", result)
            if not (missing or typed):
                sys.exit(f"{spec['facts']}: {result[-500:]}")
            extra[typed[1] if typed else missing[1]] = -1.0 if typed else 2


def base_of(file_type):
    special = {"MXFP4_MOE": "MXFP4", "IQ3_XS": "IQ3_S", "IQ3_M": "IQ3_S", "IQ2_S": "IQ2_XS", "IQ2_M": "IQ2_S", "Q2_K_S": "Q2_K"}
    return special.get(file_type) or re.sub(r"_[SML]$", "", file_type) if "K_" in file_type else special.get(file_type, file_type)


def record(types, spec, file_type):
    return compress(types, spec["tensors"], spec["facts"]["layers"], base_of(file_type))


def made_up(peer, spec):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.gguf"
        peer.fill_in(path, spec)
        runs = []
        for file_type in FILE_TYPES:
            plain = peer.run(path, file_type, False, {})
            for weighted in (False, True):
                types = peer.run(path, file_type, weighted, {})
                if isinstance(types, dict) and not (weighted and types == plain):
                    runs.append({"file_type": file_type, "weighted": weighted, "types": record(types, spec, file_type)})
    return {"facts": spec["facts"], "source": "F32", "tensors": spec["tensors"], "runs": runs}


def with_options(peer, spec):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.gguf"
        peer.fill_in(path, spec)
        runs = []
        for options in OPTIONS.values():
            types = peer.run(path, "Q4_K_M", False, options)
            runs.append({"file_type": "Q4_K_M", "weighted": False, "options": options, "types": record(types, spec, "Q4_K_M")})
    return {"facts": spec["facts"], "source": "F32", "tensors": spec["tensors"], "runs": runs}


RECORDED = {
    "llama-5m": {"arch": "llama", "layers": 4, "heads": 4, "heads_kv": 2, "experts": 0},
    "gpt2-4m": {"arch": "gpt2", "layers": 4, "heads": 4, "heads_kv": 4, "experts": 0},
}


def recorded(folder, name):
    """Repacks a recorded run; matrices are 256 columns wide but for the rows of the down projection."""
    runs = json.loads((folder / f"{name}.json").read_text())
    wide = 768 if name == "llama-5m" else 1024
    first = runs["quantize"]["F32"]["tensors"]
    tensors = {}
    for tensor in first:
        matrix = not tensor.endswith(".bias") and "norm" not in tensor
        shape = ([wide, 256] if "ffn_down" in tensor else [256, 256]) if matrix else [256]
        tensors[re.sub(r"^blk\.\d+", "blk.*", tensor)] = shape
    spec = {"facts": RECORDED[name], "tensors": tensors}
    out = []
    for key, weighted in (("quantize", False), ("quantize_imatrix", True)):
        for file_type, run in runs[key].items():
            types = {tensor: t[0] for tensor, t in run["tensors"].items()}
            out.append({"file_type": file_type, "weighted": weighted, "types": record(types, spec, file_type)})
    source = "BF16" if name == "llama-5m" else "F32"
    return {"facts": spec["facts"], "source": source, "tensors": tensors, "order": list(first), "runs": out}


def save(out, name, data):
    lines = [f'"{k}": {json.dumps(v)}' for k, v in data.items() if k != "runs"]
    runs = ",\n  ".join(json.dumps(run) for run in data["runs"])
    (out / f"{name}.json").write_text("{\n " + ",\n ".join(lines) + ',\n "runs": [\n  ' + runs + "\n ]\n}\n")


def main():
    out = Path(sys.argv[1])
    peer = Peer()
    for name, spec in MODELS.items():
        save(out, name, made_up(peer, spec))
    for name in ("grouped-32", "ungrouped-30-tied", "gemma3n"):
        save(out, f"{name}-options", with_options(peer, MODELS[name]))
    for folder in sys.argv[2:]:
        for name in RECORDED:
            save(out, name, recorded(Path(folder), name))


if __name__ == "__main__":
    main()
