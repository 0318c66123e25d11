#!/usr/bin/env python3
"""Makes folders of tests/data/archs-without-weights again: families whose checkpoints need only a table of tensors and keys here.

For each family a checkpoint with small random weights goes through llama.cpp's converter; what stays is the configuration in both layouts, the shapes of the checkpoint's
tensors, and the keys and tensors of the GGUF. CONVERTER is the folder that scripts/converter.sh makes; run this with its Python:

    CONVERTER/venv/bin/python scripts/refresh_families.py --converter CONVERTER [--families NAME...]
"""

import argparse
import hashlib
import json
import sys
import tempfile
from pathlib import Path

from program import DATA
from random_checkpoint import write

LAYERS, HIDDEN, HEADS, KEY_HEADS, INNER, VOCAB, CONTEXT = 2, 64, 4, 2, 96, 320, 128
HEAD = HIDDEN // HEADS
PLAIN = {
    "bos_token_id": 1,
    "eos_token_id": 2,
    "hidden_act": "silu",
    "hidden_size": HIDDEN,
    "intermediate_size": INNER,
    "max_position_embeddings": CONTEXT,
    "num_attention_heads": HEADS,
    "num_hidden_layers": LAYERS,
    "num_key_value_heads": KEY_HEADS,
    "rms_norm_eps": 1e-6,
    "rope_theta": 10000.0,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
    "vocab_size": VOCAB,
}
OUTSIDE = {"model.embed_tokens.weight": [VOCAB, HIDDEN], "model.norm.weight": [HIDDEN]}
HEAD_OF_ITS_OWN = {"lm_head.weight": [VOCAB, HIDDEN]}
NORMS = {"input_layernorm.weight": [HIDDEN], "post_attention_layernorm.weight": [HIDDEN]}
ATTENTION = {
    "self_attn.q_proj.weight": [HEADS * HEAD, HIDDEN],
    "self_attn.k_proj.weight": [KEY_HEADS * HEAD, HIDDEN],
    "self_attn.v_proj.weight": [KEY_HEADS * HEAD, HIDDEN],
    "self_attn.o_proj.weight": [HIDDEN, HEADS * HEAD],
}
QUERY_KEY_VALUE_BIASES = {
    "self_attn.q_proj.bias": [HEADS * HEAD],
    "self_attn.k_proj.bias": [KEY_HEADS * HEAD],
    "self_attn.v_proj.bias": [KEY_HEADS * HEAD],
}
HEAD_NORMS = {"self_attn.q_norm.weight": [HEAD], "self_attn.k_norm.weight": [HEAD]}
GATED = {"mlp.gate_proj.weight": [INNER, HIDDEN], "mlp.up_proj.weight": [INNER, HIDDEN], "mlp.down_proj.weight": [HIDDEN, INNER]}
LLAMA = NORMS | ATTENTION | GATED
EXPERTS, USED, EXPERT_INNER = 4, 2, 32


def layers(tensors, start="model.layers."):
    """The tensors of all layers from those of one."""
    return {f"{start}{layer}.{name}": shape for layer in range(LAYERS) for name, shape in tensors.items()}


def moved(tensors, before, after):
    """The tensors with another start of their names."""
    return {after + name.removeprefix(before): shape for name, shape in tensors.items()}


def orion():
    """Orion: Llama with layer norms."""
    biases = {name.replace("weight", "bias"): shape for name, shape in NORMS.items()}
    return PLAIN, OUTSIDE | {"model.norm.bias": [HIDDEN]} | HEAD_OF_ITS_OWN | layers(LLAMA | biases)


def vision(config, text_type):
    """The configuration of a model that sees, around that of its language model."""
    text = {key: value for key, value in config.items() if key not in ("torch_dtype", "tie_word_embeddings")}
    return {"text_config": text | {"model_type": text_type}, "torch_dtype": "bfloat16", "tie_word_embeddings": False, "vision_config": {"depth": 1}}


# Class, model type, and what makes configuration and shapes.
CASES = {
    "cohere": (
        "CohereForCausalLM", "cohere",
        lambda: (
            {key: value for key, value in PLAIN.items() if key != "rms_norm_eps"}
            | {"layer_norm_eps": 1e-5, "logit_scale": 0.0625, "use_qk_norm": False, "tie_word_embeddings": True, "attention_bias": False},
            OUTSIDE | layers({"input_layernorm.weight": [HIDDEN]} | ATTENTION | GATED),
        ),
    ),
    "minicpm": (
        "MiniCPMForCausalLM", "minicpm",
        lambda: (PLAIN | {"scale_emb": 12, "scale_depth": 1.4, "dim_model_base": 32, "tie_word_embeddings": True}, OUTSIDE | layers(LLAMA)),
    ),
    "internlm3": (
        "InternLM3ForCausalLM", "internlm3",
        lambda: (
            PLAIN | {"head_dim": HEAD, "qkv_bias": False, "bias": False, "rope_scaling": {"factor": 6.0, "rope_type": "dynamic"}},
            OUTSIDE | HEAD_OF_ITS_OWN | layers(LLAMA),
        ),
    ),
    "orion": ("OrionForCausalLM", "orion", orion),
    "xverse": ("XverseForCausalLM", "xverse", lambda: (PLAIN | {"num_key_value_heads": HEADS}, OUTSIDE | HEAD_OF_ITS_OWN | layers(
        LLAMA | {"self_attn.k_proj.weight": [HIDDEN, HIDDEN], "self_attn.v_proj.weight": [HIDDEN, HIDDEN]}))),
    "maincoder": ("MaincoderForCausalLM", "maincoder", lambda: (PLAIN | {"head_dim": HEAD}, OUTSIDE | HEAD_OF_ITS_OWN | layers(LLAMA | HEAD_NORMS))),
    "pangu": (
        "PanguEmbeddedForCausalLM", "PanguEmbedded",
        lambda: (PLAIN | {"bias": True}, OUTSIDE | HEAD_OF_ITS_OWN | layers(LLAMA | QUERY_KEY_VALUE_BIASES | {"self_attn.o_proj.bias": [HIDDEN]})),
    ),
    "qwen2_5_vl": (
        "Qwen2_5_VLForConditionalGeneration", "qwen2_5_vl",
        lambda: (
            PLAIN | {"rope_scaling": {"type": "mrope", "mrope_section": [2, 3, 3]}, "use_sliding_window": False, "vision_config": {"depth": 1}},
            OUTSIDE | HEAD_OF_ITS_OWN | layers(LLAMA | QUERY_KEY_VALUE_BIASES) | {"visual.merger.ln_q.weight": [HIDDEN]},
        ),
    ),
    "qwen3_vl": (
        "Qwen3VLForConditionalGeneration", "qwen3_vl",
        lambda: (
            vision(PLAIN | {"head_dim": HEAD, "rope_scaling": {"rope_type": "default", "mrope_interleaved": True, "mrope_section": [3, 3, 2]}}, "qwen3_vl_text")
            | {"vision_config": {"depth": 1, "deepstack_visual_indexes": [0]}},
            moved(OUTSIDE | layers(LLAMA | HEAD_NORMS), "model.", "model.language_model.") | HEAD_OF_ITS_OWN | {"model.visual.merger.norm.weight": [HIDDEN]},
        ),
    ),
    "qwen3_vl_moe": (
        "Qwen3VLMoeForConditionalGeneration", "qwen3_vl_moe",
        lambda: (
            vision(PLAIN | {
                "head_dim": HEAD, "num_experts": EXPERTS, "num_experts_per_tok": USED, "moe_intermediate_size": EXPERT_INNER, "norm_topk_prob": True, "decoder_sparse_step": 1, "mlp_only_layers": [],
                "rope_scaling": {"rope_type": "default", "mrope_interleaved": True, "mrope_section": [3, 3, 2]},
            }, "qwen3_vl_moe_text")
            | {"vision_config": {"depth": 1, "deepstack_visual_indexes": [0]}},
            moved(OUTSIDE | layers(NORMS | ATTENTION | HEAD_NORMS | {
                "mlp.gate.weight": [EXPERTS, HIDDEN],
                "mlp.experts.gate_up_proj": [EXPERTS, HIDDEN, 2 * EXPERT_INNER],
                "mlp.experts.down_proj": [EXPERTS, EXPERT_INNER, HIDDEN],
            }), "model.", "model.language_model.") | HEAD_OF_ITS_OWN | {"model.visual.merger.norm.weight": [HIDDEN]},
        ),
    ),
    "smolvlm": (
        "SmolVLMForConditionalGeneration", "smolvlm",
        lambda: (
            (config := vision(PLAIN | {"head_dim": HEAD, "architectures": ["VLlama3ForCausalLM"]}, "llama"))
            | {"text_config": config["text_config"], "vision_config": {"model_type": "smolvlm_vision", "hidden_size": 32}},
            moved(OUTSIDE | layers(LLAMA), "model.", "model.text_model.") | HEAD_OF_ITS_OWN
            | {"model.connector.modality_projection.proj.weight": [HIDDEN, 128], "model.vision_model.post_layernorm.weight": [32]},
        ),
    ),
    "llava": (
        "LlavaForConditionalGeneration", "llava",
        lambda: (
            vision(PLAIN | {"head_dim": HEAD}, "llama") | {"vision_config": {"model_type": "clip_vision_model", "hidden_size": 32}},
            moved(OUTSIDE | layers(LLAMA), "model.", "language_model.model.") | {"language_model.lm_head.weight": [VOCAB, HIDDEN]}
            | {"multi_modal_projector.linear_1.weight": [HIDDEN, 32]},
        ),
    ),
}  # fmt: skip


def newer(config):
    """The configuration as transformers 5 writes it."""
    config = dict(config)
    if "text_config" in config:
        config["text_config"] = newer(config["text_config"])
    if "rope_theta" in config:
        given = dict(config.pop("rope_scaling", None) or {"rope_type": "default"})
        given.setdefault("rope_type", given.pop("type", "default"))
        config["rope_parameters"] = given | {"rope_theta": config.pop("rope_theta")}
    if "torch_dtype" in config:
        config["dtype"] = config.pop("torch_dtype")
    return dict(sorted(config.items()))


def converted(converter, folder, out):
    """Keys and tensors of the GGUF that llama.cpp's converter makes of the folder, without the vocabulary."""
    sys.path[:0] = [str(converter), str(converter / "gguf-py")]
    import gguf
    from conversion import ModelBase, ModelType, get_model_architecture, get_model_class

    config = ModelBase.load_hparams(folder, False)
    model = get_model_class(get_model_architecture(config, ModelType.TEXT))
    model.set_vocab = lambda self: None
    model(folder, gguf.LlamaFileType.ALL_F32, out).write()
    reader = gguf.GGUFReader(out)
    keys = {key: field.contents() for key, field in reader.fields.items() if not key.startswith("GGUF.")}
    tensors = [
        {"name": t.name, "shape": [int(n) for n in t.shape], "type": t.tensor_type.name, "sha256": hashlib.sha256(t.data.tobytes()).hexdigest()}
        for t in reader.tensors
    ]  # fmt: skip
    return keys, tensors


def refresh(converter, name, scratch):
    """Writes the folder of one family."""
    kind, model_type, make = CASES[name]
    config, shapes = make()
    config = {"architectures": [kind]} | config | {"model_type": model_type}
    generation = {"bos_token_id": 1, "eos_token_id": 2}
    checkpoint, out = scratch / name, DATA / "archs-without-weights" / name
    for folder in (checkpoint, out):
        folder.mkdir(exist_ok=True)
        (folder / "config.json").write_text(json.dumps(config, indent=1) + "\n")
        (folder / "generation_config.json").write_text(json.dumps(generation, indent=1) + "\n")
    (out / "config-v5.json").write_text(json.dumps(newer(config), indent=1) + "\n")
    (out / "tensors.json").write_text("{\n" + ",\n".join(f'"{tensor}": {shape}' for tensor, shape in sorted(shapes.items())) + "\n}\n")
    write(shapes, checkpoint / "model.safetensors")
    keys, tensors = converted(converter, checkpoint, scratch / f"{name}.gguf")
    source = f"scripts/{Path(__file__).name}: llama.cpp's conversion to f32; tokenizer keys left out"
    (out / "convert.json").write_text(json.dumps({"source": source, "kv": keys, "tensors": tensors}, indent=0) + "\n")


def main():
    """Writes the folders."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--converter", required=True, type=Path, metavar="FOLDER")
    parser.add_argument("--families", nargs="+", choices=CASES, default=[*CASES], metavar="NAME")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="kquant-families-") as scratch:
        for name in args.families:
            refresh(args.converter.resolve(), name, Path(scratch))
            print(name, flush=True)


if __name__ == "__main__":
    main()
