"""Speed and memory of `kquant perplexity` and `kquant calibrate` beside llama.cpp's forward pass.

kquant's time is that of the whole program: reading, tokenizing, decoding weights, the layers, the scores. llama.cpp's is
that of llama_decode alone, with the model loaded and warm, n_batch 2048, n_ubatch 512, four chunks at a time, f16 KV cache,
with the logits of all tokens, as llama-perplexity needs them and as llama-imatrix asks for them (without, llama.cpp would
leave out the last layer's feed-forward network, whose statistics are wanted). Neither tool is in llama-cpp-python; what they
do besides, scores and sums of squares, is not counted. On a busy machine compare the tokens per CPU second; waiting
threads of llama.cpp spin, so its CPU time is too long then: compare with --threads 1. kquant runs twice, with --products
f32 and bf16. About 3 GB of disk.
"""

import json

import synthetic
from compare import models
from compare.decode import TEXT
from compare.runs import Runs, note, table

TYPES = ("F16", "Q4_K_M")
PRODUCTS = ("f32", "bf16")
COLUMNS = ["task", "program", "tokens/s", "tokens per CPU second", "ratio", "ratio by CPU", "peak MB", "of it anonymous"]


def row(runs, task, tokens, beside):
    """A line of the table; the ratios are those to the runs `beside`."""
    cells = [task, runs.program, f"{tokens / runs.time():.1f}", f"{tokens / runs.cpu_time():.1f}"]
    ratios = beside.time() / runs.time(), beside.cpu_time() / runs.cpu_time()
    cells += ["", ""] if beside is runs else [f"{ratio:.2f}" for ratio in ratios]
    return cells + runs.peaks()


def measure(kquant, file, task, args, itself):
    """Runs one task alternately; returns llama.cpp's runs, kquant's, and llama.cpp's words on the system."""
    peer, ours = Runs("llama.cpp"), {products: Runs(f"kquant, {products}") for products in PRODUCTS}
    common = ["--text", TEXT, "--chunks", args.chunks, "--threads", args.threads, "--quiet", *args.more]
    command = [kquant.path, task, file, *common]
    if task == "calibrate":
        command += ["-o", file.parent / "calibrated.gguf", "--force"]
    decode = [*itself, "decode", file, args.chunks, args.threads]
    for run in range(args.runs):
        decoded = synthetic.watched(decode)
        result = json.loads(decoded.stdout)
        peer.add(result["seconds"], result["cpu"], decoded.peaks["VmHWM"], decoded.anonymous())
        note(f"{task} {file.name} {run + 1}/{args.runs}: llama.cpp {result['seconds']:.1f} s (and {result['load']:.1f} s to load)")
        for products, runs in ours.items():
            done = synthetic.watched([*command, "--products", products])
            runs.add_watched(done)
            note(f"    kquant, {products}: {done.seconds:.1f} s")
    return peer, list(ours.values()), result["system"]


def compare(kquant, folder, args, itself):
    """Makes the models, measures everything, prints the table."""
    files = models.main(kquant, folder, args.quick)
    tokens, rows = args.chunks * files.model.context, []
    for file_type in TYPES:
        file = files.gguf(file_type)
        for task in ("perplexity", "calibrate"):
            peer, ours, system = measure(kquant, file, task, args, itself)
            rows += [row(runs, f"{task}, {file_type}", tokens, peer) for runs in [peer, *ours]]
    print(f"{files.parameters() / 1e6:.0f} M parameters, {args.chunks} chunks of {files.model.context}, {args.threads} threads, "
          f"medians of {args.runs}\n")  # fmt: skip
    table(COLUMNS, rows)
    print(f"llama.cpp: {system}")
