"""How far a model is from another one, in stock llama.cpp: KL divergence of every scored token of a text."""

import os
from concurrent.futures import ThreadPoolExecutor

import numpy as np

import stock


class Models:
    """A model loaded once per core, each with one thread, so that chunks run side by side and threads never wait."""

    def __init__(self, path, context):
        self.models = [stock.Model(path, context=context, exact_cache=True, threads=1) for _ in range(os.cpu_count())]

    def chunks(self, path, most):
        """The text of the file, as llama-perplexity cuts it."""
        found = self.models[0].chunks(path.read_bytes().decode(), most)
        if not found:
            raise SystemExit(f"{path}: shorter than one chunk")
        return found

    def map(self, work, chunks):
        """`work(logits, number, chunk)` of all chunks, in their order."""

        def one(part):
            model, numbers = part
            return [(i, work(model.logits(chunks[i]), i, chunks[i])) for i in numbers]

        count = len(self.models)
        parts = [(model, range(i, len(chunks), count)) for i, model in enumerate(self.models)]
        with ThreadPoolExecutor(count) as pool:
            results = [result for part in pool.map(one, parts) for result in part]
        return [result for _, result in sorted(results, key=lambda pair: pair[0])]


class Exact:
    """Logits of the F32 model on one text: what the files are compared with."""

    def __init__(self, path, models, most, scratch):
        self.name, self.chunks = path.name, models.chunks(path, most)
        context = len(self.chunks[0])
        self.first = context // 2
        shape = (len(self.chunks), context - 1 - self.first, models.models[0].llama.n_vocab())
        # In a file: 400 MB for 200 chunks and a small vocabulary.
        self.logits = np.memmap(scratch / f"{path.name}.logits", np.float32, "w+", shape=shape)
        self.losses = np.concatenate(models.map(self._keep, self.chunks))

    def _keep(self, logits, number, chunk):
        self.logits[number] = logits[self.first : -1]
        return self._losses(log_softmax(self.logits[number]), chunk)

    def _losses(self, logarithms, chunk):
        """Negative log-likelihoods; row i of [scored tokens][vocabulary] predicts token first + 1 + i of the chunk."""
        return -logarithms[np.arange(len(logarithms)), chunk[self.first + 1 :]]

    def scores(self, models):
        """Of all scored tokens: KL divergences, negative log-likelihoods, whether the likeliest token is the same."""
        return [np.concatenate(part) for part in zip(*models.map(self._score, self.chunks))]

    def _score(self, logits, number, chunk):
        exact, ours = self.logits[number], logits[self.first : -1]
        same = exact.argmax(1) == ours.argmax(1)
        exact, ours = log_softmax(exact), log_softmax(ours)
        divergences = np.sum(np.exp(exact) * (exact - ours), 1)
        return divergences, self._losses(ours, chunk), same


def log_softmax(logits):
    """Of each row, in f64."""
    shifted = logits.astype(np.float64)
    shifted -= shifted.max(1, keepdims=True)
    return shifted - np.log(np.exp(shifted).sum(1, keepdims=True))


def perplexity_and_error(losses):
    """The perplexity and its standard error."""
    loss, error = mean_and_error(losses)
    return float(np.exp(loss)), float(np.exp(loss)) * error


def mean_and_error(values):
    """The mean and its standard error."""
    return float(values.mean()), float(values.std(ddof=1) / np.sqrt(len(values)))
