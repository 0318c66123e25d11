"""Large Llama checkpoints out of nothing, and the memory of the programs that read them. Needs nothing but Python."""

import dataclasses
import json
import random
import resource
import shutil
import struct
import subprocess
import tempfile
import time
from pathlib import Path

from program import DATA

SAMPLE_EVERY = 0.003  # seconds
PATTERN_WEIGHTS = 1_000_003  # a prime, so that no two rows begin alike
TOKENIZER = DATA / "tiny-llama"


@dataclasses.dataclass(frozen=True)
class Llama:
    """The shape of a model in bf16; tokens that the tokenizer lacks are padding."""

    hidden: int
    ffn: int
    layers: int
    heads: int
    kv_heads: int
    vocab: int
    context: int
    tied: bool
    experts: int = 0  # more than none: Mixtral

    def tensors(self):
        """Name -> shape of every tensor."""
        kv = self.hidden // self.heads * self.kv_heads
        found = {"model.embed_tokens.weight": [self.vocab, self.hidden], "model.norm.weight": [self.hidden]}
        if not self.tied:
            found["lm_head.weight"] = [self.vocab, self.hidden]
        for layer in range(self.layers):
            prefix = f"model.layers.{layer}."
            found |= {f"{prefix}self_attn.{p}_proj.weight": [self.hidden, self.hidden] for p in "qo"}
            found |= {f"{prefix}self_attn.{p}_proj.weight": [kv, self.hidden] for p in "kv"}
            found |= self.feed_forward(prefix)
            found |= {f"{prefix}{p}_layernorm.weight": [self.hidden] for p in ("input", "post_attention")}
        return found

    def feed_forward(self, prefix):
        """Name -> shape of the tensors of a layer's feed-forward network, or of its experts."""
        if not self.experts:
            wide = {f"{prefix}mlp.{p}_proj.weight": [self.ffn, self.hidden] for p in ("gate", "up")}
            return wide | {f"{prefix}mlp.down_proj.weight": [self.hidden, self.ffn]}
        found = {f"{prefix}block_sparse_moe.gate.weight": [self.experts, self.hidden]}
        for expert in range(self.experts):
            name = f"{prefix}block_sparse_moe.experts.{expert}"
            found |= {f"{name}.{p}.weight": [self.ffn, self.hidden] for p in ("w1", "w3")}
            found[f"{name}.w2.weight"] = [self.hidden, self.ffn]
        return found

    def config(self):
        """config.json."""
        mixture = {"num_local_experts": self.experts, "num_experts_per_tok": 2} if self.experts else {}
        kind = ("MixtralForCausalLM", "mixtral") if self.experts else ("LlamaForCausalLM", "llama")
        return mixture | {
            "architectures": [kind[0]], "model_type": kind[1], "torch_dtype": "bfloat16", "hidden_act": "silu",
            "hidden_size": self.hidden, "intermediate_size": self.ffn, "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads, "num_key_value_heads": self.kv_heads, "vocab_size": self.vocab,
            "max_position_embeddings": self.context, "tie_word_embeddings": self.tied, "rms_norm_eps": 1e-5,
            "rope_theta": 10000.0, "bos_token_id": 1, "eos_token_id": 2,
        }  # fmt: skip

    def write(self, folder, tokenizer=True):
        """Writes config.json, a tokenizer and model.safetensors; returns the size of the latter."""
        (folder / "config.json").write_text(json.dumps(self.config()))
        for name in ("tokenizer.json", "tokenizer.model", "tokenizer_config.json") if tokenizer else ():
            shutil.copyfile(TOKENIZER / name, folder / name)
        header, end = {}, 0
        for name, shape in self.tensors().items():
            header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [end, end := end + 2 * weights(shape)]}
        text = json.dumps(header).encode()
        text += b" " * (-len(text) % 8)
        data, ones = pattern(), struct.pack("<H", 0x3F80) * self.hidden
        with open(folder / "model.safetensors", "wb") as file:
            file.write(struct.pack("<Q", len(text)) + text)
            for shape in self.tensors().values():
                write_repeated(file, ones if len(shape) == 1 else data, 2 * weights(shape))
            return file.tell()


def weights(shape):
    """Number of weights of a shape."""
    return shape[0] * (shape[1] if len(shape) > 1 else 1)


def pattern():
    """Pseudo-random bf16 weights, normal with a deviation of 0.02 as those of trained layers, as little-endian bytes."""
    source = random.Random(1)
    values = struct.pack(f"<{PATTERN_WEIGHTS}f", *(source.gauss(0, 0.02) for _ in range(PATTERN_WEIGHTS)))
    data = bytearray(2 * PATTERN_WEIGHTS)
    data[0::2], data[1::2] = values[2::4], values[3::4]
    return bytes(data)


def write_repeated(file, data, length):
    """Writes `length` bytes of `data`, over and over."""
    while length:
        part = data[:length]
        file.write(part)
        length -= len(part)


@dataclasses.dataclass(frozen=True)
class Watched:
    """A program that has run: memory field of /proc/PID/status -> its highest value in bytes, and the rest."""

    peaks: dict
    samples: int
    seconds: float
    cpu: float  # seconds of all threads
    stdout: str

    def anonymous(self):
        """Peak of the memory that is not pages of mapped files, in bytes."""
        return self.peaks["RssAnon"] + self.peaks["RssShmem"]


def watched(args):
    """Runs a program to its end; raises RuntimeError if it fails. Linux only."""
    start, cpu = time.monotonic(), _cpu_of_children()
    # Into files: nobody reads a pipe while the memory is watched, and a full pipe would stop the program.
    with tempfile.TemporaryFile("w+") as stdout, tempfile.TemporaryFile("w+") as stderr:
        process = subprocess.Popen([str(a) for a in args], stdout=stdout, stderr=stderr, stdin=subprocess.DEVNULL)
        peaks, samples = _follow(process)
        seconds, cpu = time.monotonic() - start, _cpu_of_children() - cpu
        stdout.seek(0), stderr.seek(0)
        if process.returncode:
            raise RuntimeError(f"{args[0]} ended with {process.returncode}: {stderr.read().strip()}")
        return Watched(peaks, samples, seconds, cpu, stdout.read())


def _cpu_of_children():
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def _follow(process):
    peaks, samples = {}, 0
    while process.poll() is None:
        for name, value in _memory_of(process.pid).items():
            peaks[name] = max(peaks.get(name, 0), value)
        samples += 1
        time.sleep(SAMPLE_EVERY)
    return peaks, samples


def _memory_of(pid):
    """Field -> bytes of the memory lines of /proc/PID/status; empty once the process has ended."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return {}
    pairs = (line.split() for line in lines if line.startswith(("Rss", "VmHWM")))
    return {name.rstrip(":"): int(kib) * 1024 for name, kib, _ in pairs}
