#!/usr/bin/env python3
"""Time and memory of a calibrated quantization beside the calibration's forward pass of the same text.

The model is a synthetic Llama of one layer, by default with the sizes of a 7B model's, and a small vocabulary. `kquant
calibrate` is the forward pass (and sums of squares); `kquant quantize --calibrate` does all of it: forward passes,
Hessians, rounding, writing. Both have the same text, context and threads. FLOP/s of the forward pass are those of the linear
layers over the time of the whole program. `kquant prices` comes last, of twelve types by a statistics file of the same text, its ratio is that to the
calibrated quantization; the peak is that of multiply-adds in registers, measured with a C compiler
where there is one. Lines of quantize's output that tell FLOP/s are repeated; arguments after -- are passed on to it, for
instance
    scripts/bench_gptq.sh --quick -- --encoder guarded
On a busy machine compare the CPU seconds. Linux only; the default needs about 1 GB of disk.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import synthetic
from program import DATA, Kquant

TEXT = DATA / "corpora" / "calibration-small.txt"
HEAD, VOCABULARY = 128, 4096
QUICK = {"hidden": 512, "ffn": 1376, "tokens": 4096, "context": 512}
MB = 1_000_000
PRICED = "IQ3_XXS IQ3_S Q2_K Q3_K IQ4_XS IQ4_NL Q4_0 Q4_1 Q4_K Q5_K Q6_K Q8_0".split()


def peak(scratch):
    """FLOP/s of one core; None without a C compiler."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if not compiler:
        return None
    program = scratch / "peak"
    source = Path(__file__).resolve().parent / "peak.c"
    subprocess.run([compiler, "-O3", "-march=native", "-ffp-contract=fast", source, "-o", program], check=True)
    return max(float(subprocess.check_output([program])) for _ in range(3))


def text_of(kquant, model, tokens, scratch):
    """A file with at least `tokens` tokens."""
    text, path = TEXT.read_text(), scratch / "text.txt"
    count = len(kquant.tokens(model, [TEXT])[0])
    path.write_text(text * -(-tokens // count))
    return path


def row(name, run, beside, flops=None):
    """Prints a line of the table; the ratios are those to the run `beside`."""
    cells = [name, f"{run.seconds:.1f}", f"{run.cpu:.1f}"]
    cells += [f"{run.seconds / beside.seconds:.2f}", f"{run.cpu / beside.cpu:.2f}"] if beside else ["1", "1"]
    cells += [f"{run.peaks['VmHWM'] / MB:.0f}", f"{run.anonymous() / MB:.0f}"]
    cells += [f"{flops / run.seconds / 1e9:.1f}", f"{flops / run.cpu / 1e9:.1f}"] if flops else ["", ""]
    print(f"| {' | '.join(cells)} |", flush=True)


def bench(kquant, args, scratch):
    """Makes model and text, runs the programs; returns the ratios of the times of quantize to calibrate and of prices to quantize."""
    model = synthetic.Llama(args.hidden, args.ffn, 1, args.hidden // HEAD, args.hidden // HEAD, VOCABULARY, args.context, True)
    folder = scratch / "model"
    folder.mkdir()
    model.write(folder)
    text = text_of(kquant, folder, args.tokens, scratch)
    common = ["--context", args.context, "--chunks", args.tokens // args.context, "--threads", args.threads]
    linear = sum(synthetic.weights(shape) for name, shape in model.tensors().items() if "_proj" in name)
    flops = 2 * linear * args.tokens
    print(f"layer of {args.hidden} x {args.ffn}, {linear / 1e6:.0f} M weights, {args.tokens} tokens, context {args.context}, "
          f"{args.threads} threads, {flops / 1e12:.2f} TFLOP forward")  # fmt: skip
    core = peak(scratch)
    print(f"peak of a core: {core / 1e9:.1f} GFLOP/s\n" if core else "peak of a core: not measured, no C compiler\n")
    print("| command | s | CPU s | ratio | by CPU | peak MB | of it anonymous | forward GFLOP/s | per CPU s |")
    print("|---|--:|--:|--:|--:|--:|--:|--:|--:|", flush=True)
    forward = synthetic.watched(
        [kquant.path, "calibrate", folder, "--text", text, "-o", scratch / "imatrix.gguf", "--quiet", *common]
    )
    row("calibrate", forward, None, flops)
    command = [kquant.path, "quantize", folder, "-o", scratch / "out.gguf", "--calibrate", text, *common]
    wanted = [*command, "--type", args.type, *args.more]
    expected = json.loads(subprocess.check_output([*map(str, wanted), "--dry-run", "--json"]))["expected"]
    full = synthetic.watched(wanted)
    row(f"quantize --type {args.type} {' '.join(args.more)}", full, forward)
    lines = [line for line in full.stdout.splitlines() if "FLOP/s" in line]
    print("".join(f"\n{line}" for line in lines))
    steps = ", ".join(f"{name} {seconds:.1f}" for name, seconds in expected["steps"])
    print(f"--dry-run expected {expected['seconds']:.1f} s ({steps}), {expected['seconds'] / full.seconds:.2f} of the run's\n")
    statistics = scratch / "statistics.gguf"
    fisher = [kquant.path, "calibrate", folder, "--text", text, "-o", statistics, "--fisher", "--output-tensor", "--products", "bf16", "--quiet"]
    row("calibrate --fisher --products bf16", synthetic.watched([*fisher, *common]), forward)
    prices = [kquant.path, "prices", folder, "--statistics", statistics, "-o", scratch / "prices.json", "--menu", ",".join(PRICED)]
    priced = synthetic.watched([*prices, "--threads", args.threads, "--quiet"])
    row(f"prices of {len(PRICED)} types, beside quantize", priced, full)
    return full.seconds / forward.seconds, priced.seconds / full.seconds


def arguments():
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kquant", required=True, type=Path, help="the program")
    parser.add_argument("--hidden", type=int, default=4096, help=f"hidden size, a multiple of {HEAD} (default: 4096)")
    parser.add_argument("--ffn", type=int, default=11008, help="size between the linear layers (default: 11008)")
    parser.add_argument("--tokens", type=int, default=32768, help="tokens of the text (default: 32768)")
    parser.add_argument("--context", type=int, default=2048, help="tokens of a chunk (default: 2048)")
    parser.add_argument("--threads", type=int, default=2, help="threads (default: 2)")
    parser.add_argument("--type", default="Q4_K_S", help="file type (default: Q4_K_S)")
    parser.add_argument("--quick", action="store_true", help="hidden 512, ffn 1376, 4096 tokens in chunks of 512")
    parser.add_argument("--most", type=float, metavar="RATIO", help="exit with code 1 if quantize takes more times as long as calibrate")
    parser.add_argument("--most-prices", type=float, metavar="RATIO", help="exit with code 1 if prices take more of quantize's time")
    parser.add_argument("--dir", type=Path, help="where to put the files (default: the system's temporary folder)")
    parser.add_argument("more", nargs="*", help="arguments of quantize, after -- (default: --encoder gptq)")
    args = parser.parse_args()
    if args.quick:
        vars(args).update(QUICK)
    args.more = args.more or ["--encoder", "gptq"]
    return args


def main():
    """Runs it; the exit code says whether the ratio is within its limit."""
    args = arguments()
    with tempfile.TemporaryDirectory(prefix="kquant-gptq-", dir=args.dir) as scratch:
        try:
            ratios = bench(Kquant(args.kquant), args, Path(scratch))
        except RuntimeError as error:
            raise SystemExit(error) from error
    for name, ratio, most in zip(("quantize", "prices"), ratios, (args.most, args.most_prices)):
        if most is not None and not ratio <= most:
            print(f"FAILED: the ratio of the time of {name} is {ratio:.2f}, more than {most}")
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
