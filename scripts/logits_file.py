"""Logits files, which `kquant perplexity --save-logits` and llama-perplexity write."""

import numpy as np


def read_logits(path):
    """The tokens [chunks][context] and the log-probabilities [chunks][scored][vocabulary] of a logits file."""
    data = path.read_bytes()
    context, vocabulary, chunks = map(int, np.frombuffer(data, "<i4", 3, 8))
    tokens = np.frombuffer(data, "<i4", chunks * context, 20).reshape(chunks, context)
    row = np.dtype([("scale", "<f4"), ("min", "<f4"), ("codes", "<u2", vocabulary + vocabulary % 2)])
    rows = np.frombuffer(data, row, -1, 20 + 4 * chunks * context)
    values = rows["scale"][:, None].astype(np.float64) * rows["codes"][:, :vocabulary] + rows["min"][:, None]
    return tokens, values.reshape(chunks, -1, vocabulary)
