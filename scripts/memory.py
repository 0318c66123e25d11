#!/usr/bin/env python3
"""Measures peak memory of kquant on a synthetic Llama checkpoint of more than 2 GB with one tensor of 600 MB.

The anonymous memory (pages of mapped files aside) must stay under `--memory` plus 200 MB, and the result must be the
same for every budget. Linux only: it samples /proc/PID/status. Needs about 3 GB of disk, and nothing but Python.
"""

import argparse
import json
import random
import shutil
import struct
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from program import Kquant, Tally

HIDDEN, FFN, HEADS, LAYERS = 2048, 8192, 32, 12
VOCAB = 147_456  # x HIDDEN in bf16: 604 MB
MIB, MB = 1 << 20, 1_000_000
ALLOWANCE = 200 * MB
SAMPLE_EVERY = 0.003  # seconds
PATTERN_WEIGHTS = 1_000_003  # a prime, so that no two rows begin alike


def shapes():
    """Name -> shape of every tensor; embeddings are tied."""
    tensors = {"model.embed_tokens.weight": [VOCAB, HIDDEN], "model.norm.weight": [HIDDEN]}
    for layer in range(LAYERS):
        prefix = f"model.layers.{layer}."
        tensors |= {f"{prefix}self_attn.{p}_proj.weight": [HIDDEN, HIDDEN] for p in "qkvo"}
        tensors |= {f"{prefix}mlp.{p}_proj.weight": [FFN, HIDDEN] for p in ("gate", "up")}
        tensors[f"{prefix}mlp.down_proj.weight"] = [HIDDEN, FFN]
        tensors |= {f"{prefix}{p}_layernorm.weight": [HIDDEN] for p in ("input", "post_attention")}
    return tensors


def weights(shape):
    """Number of weights of a shape."""
    return shape[0] * (shape[1] if len(shape) > 1 else 1)


def pattern():
    """Pseudo-random bf16 weights, magnitudes from 2^-11 to 2^-5, as little-endian bytes."""
    source = random.Random(1)
    high = bytes((b & 0x80) | (0x3A + b % 3) for b in range(256))
    data = bytearray(2 * PATTERN_WEIGHTS)
    data[0::2] = source.randbytes(PATTERN_WEIGHTS)
    data[1::2] = source.randbytes(PATTERN_WEIGHTS).translate(high)
    return bytes(data)


def write_repeated(file, data, length):
    """Writes `length` bytes of `data`, over and over."""
    while length:
        part = data[:length]
        file.write(part)
        length -= len(part)


def write_checkpoint(folder, tokenizer):
    """Writes config.json, the tokenizer and model.safetensors; returns the size of the latter."""
    config = {
        "architectures": ["LlamaForCausalLM"], "model_type": "llama", "torch_dtype": "bfloat16", "hidden_act": "silu",
        "hidden_size": HIDDEN, "intermediate_size": FFN, "num_hidden_layers": LAYERS, "vocab_size": VOCAB,
        "num_attention_heads": HEADS, "num_key_value_heads": HEADS, "max_position_embeddings": 2048,
        "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "tie_word_embeddings": True, "bos_token_id": 1, "eos_token_id": 2,
    }  # fmt: skip
    (folder / "config.json").write_text(json.dumps(config))
    for name in ("tokenizer.json", "tokenizer.model", "tokenizer_config.json"):
        shutil.copyfile(tokenizer / name, folder / name)
    header, end = {}, 0
    for name, shape in shapes().items():
        header[name] = {"dtype": "BF16", "shape": shape, "data_offsets": [end, end := end + 2 * weights(shape)]}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    data = pattern()
    with open(folder / "model.safetensors", "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for shape in shapes().values():
            write_repeated(file, data, 2 * weights(shape))
        return file.tell()


def memory_of(pid):
    """Field -> bytes of the memory lines of /proc/PID/status; empty once the process has ended."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except (FileNotFoundError, ProcessLookupError):
        return {}
    pairs = (line.split() for line in lines if line.startswith(("Rss", "VmHWM")))
    return {name.rstrip(":"): int(kib) * 1024 for name, kib, _ in pairs}


def watch(process):
    """Follows a process to its end; returns the highest value of each memory field, and the number of samples."""
    peaks, samples = {}, 0
    while process.poll() is None:
        for name, value in memory_of(process.pid).items():
            peaks[name] = max(peaks.get(name, 0), value)
        samples += 1
        time.sleep(SAMPLE_EVERY)
    return peaks, samples


def measure(kquant, model, out, memory):
    """One run; returns peaks, samples, seconds, size and SHA-256 of the output, or raises RuntimeError."""
    args = [kquant.path, "quantize", model, "-o", out, "--type", "Q4_K_M", "--json", "--quiet"]
    args += ["--memory", memory] if memory else []
    start = time.monotonic()
    # Into files: nobody reads a pipe while the memory is watched, and a full pipe would stop the program.
    with tempfile.TemporaryFile("w+") as stdout, tempfile.TemporaryFile("w+") as stderr:
        process = subprocess.Popen(args, stdout=stdout, stderr=stderr, stdin=subprocess.DEVNULL)
        peaks, samples = watch(process)
        seconds = time.monotonic() - start
        stdout.seek(0), stderr.seek(0)
        if process.returncode:
            raise RuntimeError(f"kquant ended with {process.returncode}: {stderr.read().strip()}")
        (file,) = json.load(stdout)["files"]
    out.unlink()
    return peaks, samples, seconds, file["bytes"], file["sha256"]


def in_bytes(text):
    """256M -> bytes."""
    units = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30}
    return int(text[:-1]) * units[text[-1]]


def check(kquant, model, out, tally):
    """All runs: the budgets under test, then the default; prints the table."""
    print(f"{'--memory':>9} {'peak anonymous':>15} {'allowed':>9} {'peak total':>11} {'of it files':>12} {'samples':>8} {'seconds':>8}")
    hashes = {}
    for memory in ("256M", "64M", None):
        peaks, samples, seconds, size, hashes[memory] = measure(kquant, model, out, memory)
        anonymous = peaks["RssAnon"] + peaks["RssShmem"]
        allowed = in_bytes(memory) + ALLOWANCE if memory else None
        show = [f"{x / MB:.0f} MB" if x else "-" for x in (anonymous, allowed, peaks["VmHWM"], peaks["RssFile"])]
        print(f"{memory or 'default':>9} {show[0]:>15} {show[1]:>9} {show[2]:>11} {show[3]:>12} {samples:>8} {seconds:>8.1f}", flush=True)
        if allowed:
            problem = "" if 0 < anonymous < allowed else f"{show[0]} of anonymous memory, {show[1]} allowed"
            tally.check(f"peak with --memory {memory}", problem)
    print(f"output: {size / MB:.0f} MB, sha256 {hashes[None]}")
    for memory in ("256M", "64M"):
        tally.check(f"--memory {memory} as the default", "" if hashes[memory] == hashes[None] else hashes[memory])


def main():
    """Parses the arguments, makes the checkpoint, runs everything, removes the files."""
    root = Path(__file__).resolve().parent.parent
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kquant", required=True, type=Path, help="the program")
    parser.add_argument("--dir", type=Path, help="where to put the files (default: the system's temporary folder)")
    args = parser.parse_args()
    kquant, tally = Kquant(args.kquant), Tally()
    with tempfile.TemporaryDirectory(prefix="kquant-memory-", dir=args.dir) as scratch:
        model = Path(scratch) / "model"
        model.mkdir()
        size = write_checkpoint(model, root / "tests" / "data" / "tiny-llama")
        largest = max(2 * weights(s) for s in shapes().values())
        print(f"checkpoint: {size / MB:.0f} MB, {len(shapes())} tensors, the largest {largest / MB:.0f} MB")
        tally.check("checkpoint", "" if size >= 2 << 30 and largest >= 600 * MB else "smaller than promised")
        check(kquant, model, Path(scratch) / "out.gguf", tally)
    return tally.close()


if __name__ == "__main__":
    sys.exit(main())
