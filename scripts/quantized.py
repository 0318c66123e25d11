"""Checkpoints whose weights are quantized, in the layouts of GPTQ, AWQ, compressed-tensors and the like, made with numpy.

Each layout rounds a weight to codes, packs them, and says what the codes stand for by the layout's formula in f64 or exactly in
f32, from the codes and not from what was packed.
"""

import json

import numpy as np

DTYPES = {"F32": np.float32, "F16": np.float16, "I8": np.int8, "U8": np.uint8, "I32": np.int32, "I64": np.int64}


def read(path):
    """Name -> F32 array of a safetensors file in BF16, F16 or F32."""
    data = path.read_bytes()
    size = int.from_bytes(data[:8], "little")
    tensors = {}
    for name, entry in json.loads(data[8 : 8 + size]).items():
        if name == "__metadata__":
            continue
        raw = data[8 + size :][slice(*entry["data_offsets"])]
        if entry["dtype"] == "BF16":
            values = (np.frombuffer(raw, np.uint16).astype(np.uint32) << 16).view(np.float32)
        else:
            values = np.frombuffer(raw, DTYPES[entry["dtype"]]).astype(np.float32)
        tensors[name] = values.reshape(entry["shape"])
    return tensors


def write(path, tensors):
    """Writes name -> array, or (type, array of bytes) for types that numpy lacks."""
    header, parts, offset = {}, [], 0
    for name, value in tensors.items():
        if isinstance(value, tuple):
            kind, value = value
        else:
            kind = next(k for k, t in DTYPES.items() if t == value.dtype)
        data = np.ascontiguousarray(value).tobytes()
        header[name] = {"dtype": kind, "shape": list(value.shape), "data_offsets": [offset, offset + len(data)]}
        parts.append(data)
        offset += len(data)
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + b"".join(parts))


def pack(codes, bits, axis, dense=True):
    """Codes along `axis` packed into words of 32 bits from the lowest on; `dense` ones cross the ends of words."""
    codes = np.moveaxis(codes.astype(np.uint64), axis, -1)
    count = codes.shape[-1]
    if dense:
        places = np.arange(count) * bits
        length = -(-count * bits // 32)
    else:
        per_word = 32 // bits
        places = np.arange(count) // per_word * 32 + np.arange(count) % per_word * bits
        length = -(-count // per_word)
    words = np.zeros((*codes.shape[:-1], length + 1), np.uint64)
    for i, place in enumerate(places):
        shifted = codes[..., i] << np.uint64(place % 32)
        words[..., place // 32] |= shifted & np.uint64(0xFFFFFFFF)
        words[..., place // 32 + 1] |= shifted >> np.uint64(32)
    return np.moveaxis(words[..., :length].astype(np.uint32).view(np.int32), -1, axis)


def integers(weight, bits, group, symmetric, rng):
    """Codes from 0 on (`[rows][columns]`), scales in F16 and zero points (`[rows][groups]`)."""
    rows, columns = weight.shape
    parts = weight.reshape(rows, columns // group, group)
    top = 2**bits - 1
    low, high = parts.min(-1), parts.max(-1)
    if symmetric:
        scale, zero = np.maximum(abs(low), abs(high)) / (2 ** (bits - 1)), np.full(low.shape, 2 ** (bits - 1))
    else:
        scale = (high - low) / top
        zero = np.clip(np.round(-low / scale) + rng.integers(0, 2, low.shape), 1, top)
    scale = scale.astype(np.float16)
    codes = np.clip(np.round(parts / scale[..., None].astype(np.float32)) + zero[..., None], 0, top)
    return codes.reshape(rows, columns).astype(np.int64), scale, zero.astype(np.int64)


def decode(codes, scale, zero, groups):
    """`(code - zero) * scale`, with the group of each column."""
    return (codes - zero[:, groups]).astype(np.float32) * scale.astype(np.float32)[:, groups]


class Layout:
    """One way to quantize: `config` is the configuration, `tensors` makes the parts of one weight and its values."""

    def __init__(self, name, config, tensors, converter=True, group=None):
        self.name, self.config, self.tensors, self.converter, self.group = name, config, tensors, converter, group

    def takes(self, weight):
        """Whether groups and words are whole."""
        return weight.shape[0] % 32 == 0 and weight.shape[1] % max(self.group or 1, 32) == 0


def gptq(bits, group, ordered=False, v2=False):
    """GPTQ: inputs are rows; zero points are stored less one in the first version."""

    def tensors(base, weight, rng):
        columns = weight.shape[1]
        size = columns if group == -1 else group
        order = rng.permutation(columns) if ordered else np.arange(columns)
        codes, scale, zero = integers(weight[:, order], bits, size, False, rng)
        groups = np.empty(columns, np.int64)
        groups[order] = np.arange(columns) // size
        own = np.empty_like(codes)
        own[:, order] = codes
        parts = {
            "qweight": pack(own.T, bits, 0),
            "qzeros": pack(zero.T - (0 if v2 else 1), bits, 1),
            "scales": scale.T,
            "g_idx": groups.astype(np.int32),
        }
        return {f"{base}.{end}": part for end, part in parts.items()}, decode(own, scale, zero, groups)

    config = {"quant_method": "gptq", "bits": bits, "group_size": group, "desc_act": ordered, "sym": False}
    config |= {"checkpoint_format": "gptq_v2"} if v2 else {}
    name = f"gptq, {bits} bits, group {group}" + (", act order" if ordered else "") + (", v2" if v2 else "")
    return Layout(name, config, tensors, bits != 3, group)


def awq(group):
    """AWQ, version gemm: inputs are rows, outputs in words, the even ones first."""

    def tensors(base, weight, rng):
        codes, scale, zero = integers(weight, 4, group, False, rng)
        order = np.array([0, 2, 4, 6, 1, 3, 5, 7])
        turned = lambda m: pack(m.T.reshape(m.shape[1], -1, 8)[..., order].reshape(m.shape[1], -1), 4, 1)
        parts = {"qweight": turned(codes), "qzeros": turned(zero), "scales": scale.T}
        groups = np.arange(weight.shape[1]) // group
        return {f"{base}.{end}": part for end, part in parts.items()}, decode(codes, scale, zero, groups)

    config = {"quant_method": "awq", "bits": 4, "group_size": group, "zero_point": True, "version": "gemm"}
    return Layout(f"awq, group {group}", config, tensors, False, group)


def compressed(form, weights, **more):
    """A configuration of compressed-tensors with one group."""
    group = {"targets": ["Linear"], "weights": {"type": "int", "symmetric": True, "strategy": "group", **weights}}
    return {
        "quant_method": "compressed-tensors",
        "format": form,
        "config_groups": {"group_0": group},
        "ignore": ["lm_head"],
        "quantization_status": "compressed",
        **more,
    }


def packed(bits, group, symmetric=True, strategy="group", ordered=False):
    """compressed-tensors' pack-quantized: as many codes in a word as fit whole."""

    def tensors(base, weight, rng):
        rows, columns = weight.shape
        size = group or columns
        order = rng.permutation(columns) if ordered else np.arange(columns)
        codes, scale, zero = integers(weight[:, order], bits, size, symmetric, rng)
        if strategy == "tensor":
            one = np.abs(weight).max() / 2 ** (bits - 1)
            scale = np.full((1, 1), one, np.float16)
            codes = np.clip(np.round(weight / scale.astype(np.float32)) + 2 ** (bits - 1), 0, 2**bits - 1).astype(np.int64)
            value = (codes - 2 ** (bits - 1)).astype(np.float32) * scale.astype(np.float32)
            scale = scale.reshape(1)
        else:
            groups = np.empty(columns, np.int64)
            groups[order] = np.arange(columns) // size
            own = np.empty_like(codes)
            own[:, order] = codes
            codes, value = own, decode(own, scale, zero, groups)
        parts = {
            "weight_packed": pack(codes, bits, 1, dense=False),
            "weight_scale": scale,
            "weight_shape": np.array([rows, columns], np.int64),
        }
        if not symmetric:
            parts["weight_zero_point"] = pack(zero, bits, 0, dense=False)
        if ordered:
            parts["weight_g_idx"] = groups.astype(np.int32)
        return {f"{base}.{end}": part for end, part in parts.items()}, value

    weights = {"num_bits": bits, "group_size": group, "symmetric": symmetric, "strategy": strategy}
    name = f"pack-quantized, {bits} bits, {f'group {group}' if group else strategy}"
    name += ("" if symmetric else ", zero points") + (", act order" if ordered else "")
    known = strategy == "group" and not ordered and 32 % bits == 0
    return Layout(name, compressed("pack-quantized", weights), tensors, known, group)


def int8(strategy, symmetric=True, group=None):
    """compressed-tensors' int-quantized: a byte for each weight."""

    def tensors(base, weight, rng):
        columns = weight.shape[1]
        size = group or columns
        codes, scale, zero = integers(weight, 8, size, symmetric, rng)
        parts = {"weight": (codes - 128).astype(np.int8), "weight_scale": scale.astype(np.float32)}
        if not symmetric:
            parts["weight_zero_point"] = (zero - 128).astype(np.int8)
        groups = np.arange(columns) // size
        return {f"{base}.{end}": part for end, part in parts.items()}, decode(codes, scale, zero, groups)

    weights = {"num_bits": 8, "strategy": strategy, "symmetric": symmetric, "group_size": group}
    name = f"int-quantized, {strategy}" + ("" if symmetric else ", zero points")
    known = strategy == "channel" and symmetric
    return Layout(name, compressed("int-quantized", weights), tensors, known, group)


def e4m3():
    """The value of each code of F8_E4M3."""
    code = np.arange(128)
    exponent, mantissa = code >> 3, code & 7
    value = np.where(exponent == 0, mantissa / 8 * 2.0**-6, (1 + mantissa / 8) * 2.0 ** (exponent - 7.0))
    value[127] = np.nan
    return np.concatenate([value, -value]).astype(np.float32)


def to_float8(values):
    """The nearest code of each value."""
    levels = e4m3()[:127]
    at = np.clip(np.searchsorted(levels, np.abs(values)), 1, 126)
    nearer = np.abs(values) - levels[at - 1] < levels[at] - np.abs(values)
    return (at - nearer + 128 * (values < 0)).astype(np.uint8)


def float8(config, strategy, end="weight_scale", block=None):
    """8-bit floats with a scale per tensor, row or block."""

    def tensors(base, weight, _rng):
        rows, columns = weight.shape
        if strategy == "tensor":
            scale = np.full(1, np.abs(weight).max() / 448, np.float32)
            each = scale[0]
        elif strategy == "channel":
            scale = (np.abs(weight).max(1, keepdims=True) / 448).astype(np.float32)
            each = scale
        else:
            grid = (-(-rows // block[0]), -(-columns // block[1]))
            padded = np.zeros((grid[0] * block[0], grid[1] * block[1]), np.float32)
            padded[:rows, :columns] = weight
            top = np.abs(padded).reshape(grid[0], block[0], grid[1], block[1]).max((1, 3))
            scale = (top / 448).astype(np.float32)
            each = np.repeat(np.repeat(scale, block[0], 0), block[1], 1)[:rows, :columns]
        codes = to_float8(weight / each)
        return {f"{base}.weight": ("F8_E4M3", codes), f"{base}.{end}": scale}, e4m3()[codes] * each

    known = strategy != "tensor" if config["quant_method"] == "compressed-tensors" else end != "weight_scale"
    known = known or config["quant_method"] == "modelopt"
    return Layout(f"{config['quant_method']}, float8 per {strategy}", config, tensors, converter=known)


def fp4(form):
    """4-bit floats, two to a byte: 16 share an F8_E4M3 scale, which is divided (compressed-tensors) or multiplied (modelopt) by one
    for all, or 32 share a power of two (MXFP4)."""
    levels = np.array([0, 0.5, 1, 1.5, 2, 3, 4, 6], np.float32)
    size = 32 if form == "mxfp4-pack-quantized" else 16

    def scales(top, largest):
        """Scales of the groups, which are at most `top`, their parts by name, and the type of the codes."""
        if size == 32:
            exponent = np.clip(np.floor(np.log2(top)) - 2 + 127, 0, 254).astype(np.uint8)
            return np.exp2(exponent.astype(np.float32) - 127), {"weight_scale": exponent}
        if form == "modelopt":
            overall = np.float32(largest / (448 * 6))
            codes = to_float8(top / 6 / overall)
            return e4m3()[codes] * overall, {"weight_scale": ("F8_E4M3", codes), "weight_scale_2": np.array(overall)}
        overall = np.float32(448 * 6 / largest)
        codes = to_float8(top / 6 * overall)
        named = {"weight_scale": ("F8_E4M3", codes), "weight_global_scale": overall.reshape(1)}
        return e4m3()[codes] / overall, named | {"input_global_scale": np.ones(1, np.float32)}

    def tensors(base, weight, _rng):
        rows, columns = weight.shape
        parts = weight.reshape(rows, columns // size, size)
        each, named = scales(np.abs(parts).max(-1), np.abs(weight).max())
        at = np.abs(np.abs(parts / each[..., None])[..., None] - levels).argmin(-1)
        codes = (at + 8 * (parts < 0)).astype(np.uint8)
        value = (levels[at] * np.where(parts < 0, -1, 1).astype(np.float32) * each[..., None]).reshape(rows, columns)
        codes = codes.reshape(rows, columns)
        named["weight" if form == "modelopt" else "weight_packed"] = codes[:, ::2] | codes[:, 1::2] << 4
        return {f"{base}.{end}": part for end, part in named.items()}, value

    if form == "modelopt":
        return Layout("modelopt, NVFP4", {"quant_method": "modelopt", "quant_algo": "NVFP4"}, tensors, False)
    weights = {"num_bits": 4, "type": "float", "group_size": size, "strategy": "tensor_group"}
    return Layout(form, compressed(form, weights), tensors, False)


LAYOUTS = [
    *(gptq(bits, 64) for bits in (2, 3, 4, 8)),
    gptq(4, 32, v2=True),
    gptq(4, 64, ordered=True),
    gptq(3, 32, ordered=True),
    gptq(4, -1),
    awq(64),
    awq(128),
    packed(4, 64),
    packed(4, 64, symmetric=False),
    packed(4, 32, symmetric=False, ordered=True),
    packed(8, 64),
    packed(8, 128, symmetric=False),
    packed(3, 64, symmetric=False),
    packed(6, 64),
    packed(4, None, strategy="channel"),
    packed(8, None, strategy="channel", symmetric=False),
    packed(4, None, strategy="tensor"),
    int8("channel"),
    int8("channel", symmetric=False),
    int8("group", group=64),
    float8(compressed("float-quantized", {"num_bits": 8, "type": "float", "strategy": "channel"}), "channel"),
    float8(compressed("float-quantized", {"num_bits": 8, "type": "float", "strategy": "tensor"}), "tensor"),
    float8(
        compressed(
            "float-quantized", {"num_bits": 8, "type": "float", "strategy": "block", "block_structure": [128, 128]}
        ),
        "block",
        block=(128, 128),
    ),
    float8({"quant_method": "fp8", "weight_block_size": [128, 128]}, "block", "weight_scale_inv", (128, 128)),
    float8({"quant_method": "fp8", "activation_scheme": "static"}, "tensor"),
    float8({"quant_method": "fbgemm_fp8"}, "channel"),
    float8({"quant_method": "modelopt", "quant_algo": "FP8"}, "tensor"),
    fp4("nvfp4-pack-quantized"),
    fp4("mxfp4-pack-quantized"),
    fp4("modelopt"),
]


def is_linear(name, weight):
    """Whether the weight is one of those that such programs quantize: linear layers, but for routers and the last."""
    others = ("embed", "norm", "lm_head", "wte", "wpe", "router", "mlp.gate.weight", "block_sparse_moe.gate.")
    return name.endswith(".weight") and weight.ndim == 2 and not any(part in name for part in others)


def make(source, layout, quantized, plain, skipped=()):
    """Writes the checkpoint `source` quantized, and its values in F32; weights in `skipped` are left as they are."""
    config = json.loads((source / "config.json").read_text())
    own, values = {}, {}
    for number, (name, weight) in enumerate(read(source / "model.safetensors").items()):
        values[name] = weight
        if is_linear(name, weight) and layout.takes(weight) and not any(part in name for part in skipped):
            parts, values[name] = layout.tensors(name.removesuffix(".weight"), weight, np.random.default_rng(number))
            own |= parts
        else:
            own[name] = weight
    settings = dict(layout.config)
    if skipped:
        key = "ignore" if settings["quant_method"] == "compressed-tensors" else "modules_to_not_convert"
        settings[key] = list(skipped)
    for folder, tensors, config_of in [
        (quantized, own, config | {"quantization_config": settings}),
        (plain, values, config | {"torch_dtype": "float32"}),
    ]:
        folder.mkdir()
        for file in source.iterdir():
            if file.suffix != ".safetensors" and file.name != "config.json":
                (folder / file.name).write_bytes(file.read_bytes())
        (folder / "config.json").write_text(json.dumps(config_of, indent=1))
        write(folder / "model.safetensors", tensors)
