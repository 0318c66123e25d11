"""Stock llama.cpp, through the PyPI packages llama-cpp-python (the library itself) and gguf (a reader in numpy)."""

import collections
import ctypes
import hashlib
import struct
from pathlib import Path

import gguf
import llama_cpp
import numpy as np

_log = collections.deque(maxlen=8)


@llama_cpp.llama_log_callback
def _keep(_level, text, _data):
    _log.append(text.decode("utf-8", "replace").strip())


def _failure(what):
    return RuntimeError(f"{what}: {' | '.join(line for line in _log if line)}")


FILE_TYPES = {
    name.removeprefix("LLAMA_FTYPE_MOSTLY_").removeprefix("LLAMA_FTYPE_ALL_"): value
    for name, value in vars(llama_cpp).items()
    if name.startswith("LLAMA_FTYPE_")
}


class Importance:
    """An importance matrix as llama-quantize reads it, with the keys that it records."""

    def __init__(self, path):
        self.path, self.entries, self.dataset, self.chunks = str(path), {}, None, 0
        with open(path, "rb") as file:
            legacy = file.read(4) != b"GGUF"
        self._read_legacy() if legacy else self._read_gguf()

    def _read_gguf(self):
        reader = gguf.GGUFReader(self.path)
        tensors = {t.name: t.data for t in reader.tensors}
        for name, sums in tensors.items():
            if name.endswith(".in_sum2"):
                name = name.removesuffix(".in_sum2")
                counts = np.round(tensors[f"{name}.counts"].astype(np.float32)).reshape(-1, 1)
                sums = sums.reshape(len(counts), -1)
                mean = np.where(counts > 0, sums / np.maximum(counts, np.float32(1)), np.float32(1))
                self.entries[name] = mean.astype(np.float32).reshape(-1)
        self.dataset = next(iter(reader.fields["imatrix.datasets"].contents()), None)
        self.chunks = reader.fields["imatrix.chunk_count"].contents()

    def _read_legacy(self):
        with open(self.path, "rb") as file:
            integer = lambda: struct.unpack("<i", file.read(4))[0]  # noqa: E731
            for _ in range(integer()):
                name = file.read(integer()).decode()
                calls, count = integer(), integer()
                values = np.frombuffer(file.read(4 * count), "<f4")
                self.entries[name] = values / np.float32(calls) if calls > 0 else values
            self.chunks = integer()
            self.dataset = file.read(integer()).decode()

    def keys(self):
        """The metadata that llama-quantize adds."""
        found = {"quantize.imatrix.file": self.path, "quantize.imatrix.dataset": self.dataset}
        found |= {"quantize.imatrix.entries_count": len(self.entries), "quantize.imatrix.chunks_count": self.chunks}
        return {key: value for key, value in found.items() if value}


def _importance_array(entries):
    array = (llama_cpp.llama_model_imatrix_data * (len(entries) + 1))()
    for slot, (name, values) in zip(array, entries.items()):
        data = np.ascontiguousarray(values, np.float32)
        slot.name, slot.size = name.encode(), data.size
        slot.data = data.ctypes.data_as(ctypes.POINTER(ctypes.c_float))
        entries[name] = data  # keeps it alive for as long as the array
    return array


def _override_array(keys):
    array = (llama_cpp.llama_model_kv_override * (len(keys) + 1))()
    for slot, (key, value) in zip(array, keys.items()):
        slot.key = key.encode()
        if isinstance(value, str):
            slot.tag, slot.value.val_str = llama_cpp.LLAMA_KV_OVERRIDE_TYPE_STR, value.encode()[:127]
        else:
            slot.tag, slot.value.val_i64 = llama_cpp.LLAMA_KV_OVERRIDE_TYPE_INT, value
    return array


def quantize(source, target, file_type, importance=None, threads=0, pure=False, ends=None):
    """What llama-quantize does: `source` (a GGUF) becomes `target`, on all cores unless told how many threads, with
    --pure or without, embedding and output in the type `ends` if there is one. Raises RuntimeError with llama.cpp's last words."""
    llama_cpp.llama_log_set(_keep, None)
    params = llama_cpp.llama_model_quantize_default_params()
    params.ftype, params.nthread, params.pure = FILE_TYPES[file_type], threads, pure
    if ends:
        params.token_embedding_type = params.output_tensor_type = int(gguf.GGMLQuantizationType[ends])
    if importance:
        matrix, overrides = _importance_array(importance.entries), _override_array(importance.keys())
        params.imatrix = ctypes.cast(matrix, ctypes.POINTER(llama_cpp.llama_model_imatrix_data))
        params.kv_overrides = ctypes.cast(overrides, ctypes.POINTER(llama_cpp.llama_model_kv_override))
    if llama_cpp.llama_model_quantize(str(source).encode(), str(target).encode(), ctypes.byref(params)):
        raise _failure(f"llama_model_quantize to {file_type}")


def _ggml_base():
    """ggml's own reader of GGUF, with the signatures of what is used of it."""
    library = ctypes.CDLL(str(Path(llama_cpp.__file__).parent / "lib" / "libggml-base.so"))
    pointer, text, size, index = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_size_t, ctypes.c_int64

    class InitParams(ctypes.Structure):
        _fields_ = [("no_alloc", ctypes.c_bool), ("ctx", pointer)]

    signatures = {
        "gguf_init_from_file": (pointer, [text, InitParams]), "gguf_free": (None, [pointer]),
        "gguf_get_n_tensors": (index, [pointer]), "gguf_get_data_offset": (size, [pointer]),
        "gguf_get_tensor_name": (text, [pointer, index]), "gguf_get_tensor_type": (ctypes.c_int, [pointer, index]),
        "gguf_get_tensor_offset": (size, [pointer, index]), "gguf_get_tensor_size": (size, [pointer, index]),
        "ggml_type_name": (text, [ctypes.c_int]),
    }  # fmt: skip
    for name, (result, arguments) in signatures.items():
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library, InitParams(True, None)


def tensors(path):
    """Name -> (type, SHA-256), by ggml's reader: for types that the gguf package does not know."""
    ggml, params = _ggml_base()
    file = ggml.gguf_init_from_file(str(path).encode(), params)
    if not file:
        raise RuntimeError(f"{path}: ggml cannot read it")
    data, start, found = np.memmap(path, np.uint8, "r"), ggml.gguf_get_data_offset(file), {}
    for i in range(ggml.gguf_get_n_tensors(file)):
        offset = start + ggml.gguf_get_tensor_offset(file, i)
        kind = ggml.ggml_type_name(ggml.gguf_get_tensor_type(file, i)).decode().upper()
        digest = hashlib.sha256(data[offset : offset + ggml.gguf_get_tensor_size(file, i)]).hexdigest()
        found[ggml.gguf_get_tensor_name(file, i).decode()] = (kind, digest)
    ggml.gguf_free(file)
    return found


class File:
    """A GGUF as the gguf package reads it."""

    def __init__(self, path):
        self.reader = gguf.GGUFReader(path)

    def tensors(self):
        """Name -> (type, SHA-256)."""
        return {t.name: (t.tensor_type.name, hashlib.sha256(t.data).hexdigest()) for t in self.reader.tensors}

    def keys(self):
        """Key -> (types, value) of all metadata."""
        fields = self.reader.fields.values()
        return {f.name: (tuple(t.name for t in f.types), f.contents()) for f in fields}

    def decoded(self):
        """Yields name, type and decoded weights, as the numpy decoders of the gguf package have them."""
        for t in self.reader.tensors:
            yield t.name, t.tensor_type.name, gguf.quants.dequantize(t.data, t.tensor_type)


def embeddings(path, texts, context):
    """The embeddings of `texts`, lists of at most `context` tokens, by the model at `path`, pooled as the file says, of length 1."""
    llama_cpp.llama_log_set(_keep, None)
    options = {"n_ctx": context, "n_batch": context, "n_ubatch": context, "n_gpu_layers": 0, "verbose": False}
    llama = llama_cpp.Llama(str(path), embedding=True, type_k=llama_cpp.GGML_TYPE_F32, type_v=llama_cpp.GGML_TYPE_F32, **options)
    found = []
    for tokens in texts:
        llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(llama._ctx.ctx), True)
        llama._batch.reset()
        llama._batch.add_sequence(tokens, 0, True)
        llama._ctx.decode(llama._batch)
        values = np.array(llama_cpp.llama_get_embeddings_seq(llama._ctx.ctx, 0)[: llama.n_embd()], np.float32)
        found.append(values / np.linalg.norm(values))
    return np.array(found)


def embedding(path, tokens):
    """The embedding of one text, `tokens`."""
    return embeddings(path, [tokens], len(tokens))[0]


class Model:
    """A model that llama.cpp has loaded; on the CPU, alone with its text."""

    def __init__(self, path, vocabulary_only=False, context=256, exact_cache=False, threads=2):
        """`exact_cache` keeps keys and values in f32, not f16."""
        llama_cpp.llama_log_set(_keep, None)
        options = {"n_ctx": context, "n_batch": context, "logits_all": True, "n_gpu_layers": 0, "verbose": False}
        options |= {"n_threads": threads, "n_threads_batch": threads}
        if exact_cache:
            options |= {"type_k": llama_cpp.GGML_TYPE_F32, "type_v": llama_cpp.GGML_TYPE_F32}
        try:
            self.llama = llama_cpp.Llama(str(path), vocab_only=vocabulary_only, **options)
        except ValueError as error:
            raise _failure(str(error)) from error

    def tokens(self, text, special=False):
        """Ids of `text`, nothing added; texts of control tokens become these tokens with `special`."""
        return self.llama.tokenize(text.encode(), add_bos=False, special=special) if text else []

    def chunks(self, text, most):
        """At most `most` lists of as many tokens as the context holds, as llama-perplexity cuts a text: with a BOS at the
        start and, later, in place of each chunk's first token, where the vocabulary wants one."""
        vocabulary, size = llama_cpp.llama_model_get_vocab(self.llama.model), self.llama.n_ctx()
        bos = [llama_cpp.llama_vocab_bos(vocabulary)] if llama_cpp.llama_vocab_get_add_bos(vocabulary) else []
        tokens = bos + self.tokens(text)
        starts = range(0, min(len(tokens) // size, most) * size, size)
        return [bos + tokens[start + len(bos) : start + size] for start in starts]

    def text(self, tokens):
        """The reverse."""
        return self.llama.detokenize(tokens).decode("utf-8", "replace")

    def logits(self, tokens):
        """[len(tokens)][vocabulary] f32."""
        self.llama.reset()
        self.llama.eval(tokens)
        return np.array(self.llama.scores[: len(tokens)], np.float32)

    def greedy(self, tokens, count):
        """The `count` tokens that follow, the most likely one each time."""
        row, found = self.logits(tokens)[-1], []
        for _ in range(count):
            found.append(int(np.argmax(row)))
            self.llama.eval(found[-1:])
            row = self.llama.scores[self.llama.n_tokens - 1]
        return found
