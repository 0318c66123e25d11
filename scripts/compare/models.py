"""The synthetic checkpoints of the comparison, and files made of them that stay in a folder until it is removed."""

import synthetic

# 0.65 B parameters.
COMPARED = synthetic.Llama(hidden=1536, ffn=4096, layers=22, heads=12, kv_heads=4, vocab=32000, context=512, tied=False)
# 0.03 B parameters: shows that everything runs, not how fast.
QUICK = synthetic.Llama(hidden=512, ffn=1536, layers=8, heads=8, kv_heads=2, vocab=8192, context=512, tied=False)
GROWTH = {
    "0.1B": synthetic.Llama(hidden=768, ffn=2048, layers=8, heads=12, kv_heads=4, vocab=32000, context=512, tied=False),
    "0.3B": synthetic.Llama(hidden=1024, ffn=2816, layers=21, heads=16, kv_heads=4, vocab=32000, context=512, tied=False),
    "1B": synthetic.Llama(hidden=2048, ffn=5632, layers=19, heads=32, kv_heads=8, vocab=32000, context=512, tied=False),
    "3B": synthetic.Llama(hidden=3072, ffn=8192, layers=28, heads=24, kv_heads=8, vocab=32000, context=512, tied=False),
}


def main(kquant, folder, quick, small=False):
    """Files of the model that most is measured with, or of a smaller one."""
    if small and not quick:
        return Files(kquant, folder, "growth-0.1B", GROWTH["0.1B"])
    return Files(kquant, folder, *(("quick", QUICK) if quick else ("compared", COMPARED)))


class Files:
    """What is made of one model, each file once."""

    def __init__(self, kquant, folder, name, model):
        """Files lie in `folder`/`name`."""
        self.kquant, self.model, self.folder = kquant, model, folder / name
        self.folder.mkdir(exist_ok=True)

    def parameters(self):
        """Number of weights."""
        return sum(map(synthetic.weights, self.model.tensors().values()))

    def checkpoint(self):
        """The folder with safetensors."""
        return self._once("model", self._write)

    def gguf(self, file_type):
        """A GGUF made by kquant."""
        return self._once(f"{file_type}.gguf", lambda path: self.kquant.quantize(self.checkpoint(), path, file_type))

    def importance(self):
        """An importance matrix of pseudo-random values."""
        import importance  # noqa: PLC0415: needs numpy

        matrices = importance.matrices(self.model.tensors())
        return self._once("imatrix.gguf", lambda path: importance.write(path, importance.pseudo_random(matrices)))

    def _write(self, folder):
        folder.mkdir()
        self.model.write(folder)

    def _once(self, name, make):
        """Made under another name, so that an unfinished one is never found."""
        path, partial = self.folder / name, self.folder / f"made.{name}"
        if not path.exists():
            make(partial)
            partial.rename(path)
        return path
