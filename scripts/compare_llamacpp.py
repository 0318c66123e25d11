#!/usr/bin/env python3
"""Speed and memory of kquant's inference loop beside llama.cpp's, on a synthetic Llama of 0.65 B parameters.

kquant's time is that of the whole program: reading, tokenizing, decoding weights, the layers, the scores. llama.cpp's is
that of llama_decode alone, with the model loaded and warm, n_batch 2048, n_ubatch 512, four chunks at a time, f16 KV cache:
with the logits of all tokens beside `kquant perplexity`, with none beside `kquant calibrate` (llama-imatrix is not in
llama-cpp-python; besides the same pass it sums squares). Both have the same number of threads and take turns; the table has
medians. On a busy machine compare the tokens per CPU second; waiting threads of llama.cpp spin, so its CPU time is too
long then: compare with --threads 1. kquant runs twice, with --products f32 and bf16. Linux only; about 3 GB of disk.
"""

import argparse
import ctypes
import json
import statistics
import sys
import tempfile
import time
from pathlib import Path

import synthetic
from program import DATA, Kquant

MODEL = synthetic.Llama(hidden=1536, ffn=4096, layers=22, heads=12, kv_heads=4, vocab=32000, context=512, tied=False)
TEXT = DATA / "corpora" / "calibration-small.txt"
TYPES = ("F16", "Q4_K_M")
PRODUCTS = ("f32", "bf16")
CHUNKS_AT_ONCE = 4
MB = 1_000_000


def decode(path, chunks, threads, all_logits):
    """Runs inside a process of its own: decodes TEXT with llama.cpp and prints seconds as JSON."""
    import llama_cpp  # noqa: PLC0415: kquant's side of the script runs without

    llama_cpp.llama_log_set(_silent := llama_cpp.llama_log_callback(lambda *_: None), None)
    start = time.monotonic()
    params = llama_cpp.llama_model_default_params()
    params.n_gpu_layers = 0
    model = llama_cpp.llama_model_load_from_file(str(path).encode(), params)
    size = MODEL.context * CHUNKS_AT_ONCE
    params = llama_cpp.llama_context_default_params()
    params.n_ctx = params.n_batch = size
    params.n_ubatch, params.n_seq_max = 512, CHUNKS_AT_ONCE
    params.n_threads = params.n_threads_batch = threads
    context = llama_cpp.llama_init_from_model(model, params)
    if not context:
        raise SystemExit(f"{path}: llama.cpp cannot load it")
    text = TEXT.read_bytes()
    tokens = (llama_cpp.llama_token * len(text))()
    vocabulary = llama_cpp.llama_model_get_vocab(model)
    count = llama_cpp.llama_tokenize(vocabulary, text, len(text), tokens, len(tokens), True, False)
    if count < chunks * MODEL.context:
        raise SystemExit(f"{TEXT}: {count} tokens are no {chunks} chunks")
    batch = llama_cpp.llama_batch_init(size, 0, 1)
    _fill(batch, tokens[:1], False)
    _run(llama_cpp, context, batch)
    loaded, seconds, cpu = time.monotonic() - start, 0.0, 0.0
    for first in range(0, chunks, CHUNKS_AT_ONCE):
        last = min(first + CHUNKS_AT_ONCE, chunks)
        _fill(batch, tokens[first * MODEL.context : last * MODEL.context], all_logits)
        start, cpu_start = time.monotonic(), time.process_time()
        _run(llama_cpp, context, batch)
        seconds, cpu = seconds + time.monotonic() - start, cpu + time.process_time() - cpu_start
    system = llama_cpp.llama_print_system_info().decode()
    print(json.dumps({"load": loaded, "seconds": seconds, "cpu": cpu, "system": system}))


def _fill(batch, tokens, all_logits):
    batch.n_tokens = len(tokens)
    for i, token in enumerate(tokens):
        batch.token[i], batch.pos[i] = token, i % MODEL.context
        batch.n_seq_id[i], batch.seq_id[i][0] = 1, i // MODEL.context
        batch.logits[i] = all_logits or i + 1 == len(tokens)


def _run(llama_cpp, context, batch):
    llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(context), True)
    if llama_cpp.llama_decode(context, batch):
        raise SystemExit("llama_decode failed")
    llama_cpp.llama_synchronize(context)
    assert ctypes.cast(llama_cpp.llama_get_logits(context), ctypes.c_void_p)


class Runs:
    """What was measured of one program at one task."""

    def __init__(self, program):
        self.program, self.seconds, self.cpu, self.resident, self.anonymous = program, [], [], [], []

    def add(self, seconds, cpu, watched):
        """Adds one run; CPU seconds as `seconds`."""
        self.seconds.append(seconds)
        self.cpu.append(cpu)
        self.resident.append(watched.peaks["VmHWM"])
        self.anonymous.append(watched.anonymous())

    def row(self, task, tokens, beside):
        """A line of the table; the ratios are those to the runs `beside`."""
        speed, cpu = self.rate(self.seconds, tokens), self.rate(self.cpu, tokens)
        cells = [task, self.program, f"{speed:.1f}", f"{cpu:.1f}"]
        for values, own in ((beside.seconds, speed), (beside.cpu, cpu)):
            cells.append("" if beside is self else f"{own / self.rate(values, tokens):.2f}")
        cells += [f"{max(self.resident) / MB:.0f}", f"{max(self.anonymous) / MB:.0f}"]
        return f"| {' | '.join(cells)} |"

    @staticmethod
    def rate(seconds, tokens):
        """Tokens per second, by the median."""
        return tokens / statistics.median(seconds)


def measure(kquant, file, task, args):
    """Runs one task alternately; returns llama.cpp's runs, kquant's, and llama.cpp's words on the system."""
    peer, ours = Runs("llama.cpp"), {products: Runs(f"kquant, {products}") for products in PRODUCTS}
    common = ["--text", TEXT, "--chunks", args.chunks, "--threads", args.threads, "--quiet"]
    command = [kquant.path, task, file, *common]
    if task == "calibrate":
        command += ["-o", file.parent / "imatrix.gguf", "--force"]
    itself = [sys.executable, __file__, "--decode", file, "--chunks", args.chunks, "--threads", args.threads]
    for run in range(args.runs):
        decoded = synthetic.watched(itself + (["--all-logits"] if task == "perplexity" else []))
        result = json.loads(decoded.stdout)
        peer.add(result["seconds"], result["cpu"], decoded)
        print(f"{task} {file.name} {run + 1}/{args.runs}: llama.cpp {result['seconds']:.1f} s (and {result['load']:.1f} s to load)",
              file=sys.stderr, flush=True)  # fmt: skip
        for products, runs in ours.items():
            done = synthetic.watched([*command, "--products", products])
            runs.add(done.seconds, done.cpu, done)
            print(f"    kquant, {products}: {done.seconds:.1f} s", file=sys.stderr, flush=True)
    return peer, list(ours.values()), result["system"]


def make(kquant, file, file_type):
    """Writes the model to `file`, under another name until it is complete."""
    source, partial = file.parent / "model", file.with_suffix(".made.gguf")
    if not source.exists():
        source.mkdir()
        MODEL.write(source)
    kquant.quantize(source, partial, file_type)
    partial.rename(file)


def compare(kquant, scratch, args):
    """Makes the models, measures everything, prints the table."""
    tokens = args.chunks * MODEL.context
    parameters = sum(map(synthetic.weights, MODEL.tensors().values()))
    rows = []
    for file_type in TYPES:
        file = scratch / f"{file_type}.gguf"
        if not file.exists():
            make(kquant, file, file_type)
        for task in ("perplexity", "calibrate"):
            peer, ours, system = measure(kquant, file, task, args)
            label = f"{task}, {file_type}"
            rows += [runs.row(label, tokens, peer) for runs in [peer, *ours]]
    print(f"{parameters / 1e6:.0f} M parameters, {args.chunks} chunks of {MODEL.context}, {args.threads} threads, "
          f"medians of {args.runs}\n")  # fmt: skip
    print("| task | program | tokens/s | tokens per CPU second | ratio | ratio by CPU | peak MB | of it anonymous |")
    print("|---|---|--:|--:|--:|--:|--:|--:|")
    print("\n".join(rows))
    print(f"\nllama.cpp: {system}")


def main():
    """Parses the arguments; one mode for people, one for the process that llama.cpp runs in."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kquant", type=Path, help="the program")
    parser.add_argument("--runs", type=int, default=3, help="runs of each program at each task")
    parser.add_argument("--chunks", type=int, default=8, help="chunks of 512 tokens")
    parser.add_argument("--threads", type=int, default=2, help="threads of both")
    parser.add_argument("--quick", action="store_true", help="one run over 4 chunks")
    parser.add_argument("--dir", type=Path, help="where to put the files (default: the system's temporary folder)")
    parser.add_argument("--models", type=Path, help="an existing folder to leave the models in, and to find them in again")
    parser.add_argument("--decode", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--all-logits", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.quick:
        args.runs, args.chunks = 1, 4
    if args.decode:
        decode(args.decode, args.chunks, args.threads, args.all_logits)
        return
    if not args.kquant:
        parser.error("--kquant PATH is needed")
    if args.models:
        compare(Kquant(args.kquant), args.models, args)
        return
    with tempfile.TemporaryDirectory(prefix="kquant-compare-", dir=args.dir) as scratch:
        compare(Kquant(args.kquant), Path(scratch), args)


if __name__ == "__main__":
    main()
