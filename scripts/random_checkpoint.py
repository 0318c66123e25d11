"""Checkpoints with small random weights, the same ones everywhere for the same shapes."""

import json

import numpy as np

SPREAD = 0.1


def write(shapes, path):
    """Writes tensors of these names and shapes in bfloat16 as the safetensors file `path`. Norms' weights are near one, as in a model that computes something."""
    random, header, data, offset = np.random.default_rng(1), {}, [], 0
    for name, shape in sorted(shapes.items()):
        values = (SPREAD * random.standard_normal(shape)).astype(np.float32) + np.float32("norm" in name and name.endswith("weight"))
        # The upper half of an f32 is a bfloat16.
        data.append((values.view(np.uint32) >> 16).astype(np.uint16).tobytes())
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [offset, offset + len(data[-1])]}
        offset += len(data[-1])
    text = json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + b"".join(data))
