"""Logits files, as llama-perplexity and `kquant perplexity --save-logits` write them."""

import numpy as np

RANGE = 16  # nats below the likeliest token, the end of the codes


def recorded(path):
    """The tokens of a logits file, [chunks][context], and its log-probabilities, [chunks][scored][vocabulary]."""
    data = path.read_bytes()
    context, vocabulary, chunks = np.frombuffer(data, "<i4", 3, 8)
    tokens = np.frombuffer(data, "<i4", chunks * context, 20).reshape(chunks, context)
    row = np.dtype([("scale", "<f4"), ("min", "<f4"), ("codes", "<u2", vocabulary + vocabulary % 2)])
    rows = np.frombuffer(data, row, -1, 20 + 4 * chunks * context)
    values = rows["scale"][:, None].astype(np.float64) * rows["codes"][:, :vocabulary] + rows["min"][:, None]
    return tokens.tolist(), values.reshape(chunks, -1, vocabulary)


def within_range(logarithms):
    """Log-probabilities as far as codes reach."""
    return np.maximum(logarithms, logarithms.max(-1, keepdims=True) - RANGE)
