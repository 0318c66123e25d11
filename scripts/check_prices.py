#!/usr/bin/env python3
"""Holds the prices of tensors against what these tensors really cost: the KL divergence of the model with one tensor encoded and all others as they are.

For each model: a statistics file of CALIBRATION, a price list of it (`kquant prices`), and for each tensor and type a file that is quantized and scored on TEXT. Prints per type the rank
correlation over the tensors and the ratio of the sums; then files of several sizes (`kquant quantize --size`): the predicted sum beside the KL divergence of the whole file.
Ends with `N passed, M failed`."""

import argparse
import json
import re
import subprocess
import sys
import tempfile
from pathlib import Path

SIZES = [0.02, 0.1, 0.2, 0.3, 0.4, 0.55, 0.7, 0.9]
ENDS = re.compile(r"range from ([0-9.]+) to ([0-9.]+) bits per weight")


def run(*command):
    """Runs a command and returns what it prints; ends the script when it fails."""
    done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    if done.returncode:
        sys.exit(f"{' '.join(map(str, command))}\n{done.stderr[-800:]}")
    return done.stdout


def ranks(values):
    order = sorted(range(len(values)), key=values.__getitem__)
    ranked = [0.0] * len(values)
    for rank, i in enumerate(order):
        ranked[i] = float(rank)
    return ranked


def correlation(a, b):
    """Spearman's rank correlation of two lists without ties."""
    a, b = ranks(a), ranks(b)
    n = len(a)
    return 1 - 6 * sum((x - y) ** 2 for x, y in zip(a, b)) / (n * (n * n - 1))


class Model:
    """One model with its statistics and prices in a scratch folder."""

    def __init__(self, args, path, scratch):
        self.args, self.path = args, path
        self.stats, self.prices, self.out = (scratch / name for name in ("stats.gguf", "prices.json", "out.gguf"))
        self.result = scratch / "result.json"
        context = ["--context", args.context]
        run(args.kquant, "calibrate", path, "--text", args.calibration, "-o", self.stats, *context, "--chunks", 256, "--fisher",
            "--output-tensor", "--force", "-q")
        self.how = ["--statistics", self.stats, "--encoder", args.encoder]
        menu = ["--menu", ",".join(args.types)]
        run(args.kquant, "prices", path, *self.how, *menu, "-o", self.prices, "--force", "-q")
        self.list = json.loads(self.prices.read_text())

    def divergence(self, *types):
        """Mean KL divergence of the file that is quantized with the options `types`."""
        run(self.args.kquant, "quantize", self.path, "-o", self.out, *self.how, *types, "--force", "-q")
        run(self.args.kquant, "perplexity", self.out, "--text", self.args.text, "--base", self.path, "--context", self.args.context,
            "--chunks", self.args.chunks, "--json", self.result, "--force", "-q")
        return json.loads(self.result.read_text())["kl"]["mean"]

    def ends(self, menu):
        """Bits per weight of the smallest and of the largest file, which the refusal of an impossible one names."""
        command = [self.args.kquant, "quantize", self.path, "-o", self.out, *self.how, "--bpw", 0.01, "--prices", self.prices, *menu, "--force", "-q"]
        done = subprocess.run([str(part) for part in command], capture_output=True, text=True)
        return [float(end) for end in ENDS.search(done.stderr).groups()]

    def tensors(self):
        """(tensor, type) -> (price, real divergence)."""
        pairs = {}
        for tensor in self.list["tensors"]:
            for price in tensor["prices"]:
                if price["type"] in self.args.types and price["cost"] is not None:
                    option = f"^{re.escape(tensor['name'])}$={price['type']}"
                    real = self.divergence("--type", "F32", "--tensor-type", option)
                    pairs[tensor["name"], price["type"]] = price["cost"], real
        return pairs


def check(name, ok, verdicts):
    verdicts.append(ok)
    print(f"{'ok  ' if ok else 'FAIL'} {name}", flush=True)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kquant", required=True)
    parser.add_argument("--models", nargs="+", type=Path, required=True)
    parser.add_argument("--calibration", required=True)
    parser.add_argument("--text", required=True)
    parser.add_argument("--context", type=int, default=256)
    parser.add_argument("--chunks", type=int, default=48)
    parser.add_argument("--encoder", default="ggml")
    parser.add_argument("--types", nargs="+", default=["Q2_K", "Q3_K", "IQ4_XS", "Q4_K", "Q5_K", "Q6_K"])
    parser.add_argument("--sizes", nargs="*", type=float, default=SIZES, help="of whole files, between the smallest (0) and the largest (1)")
    parser.add_argument("--no-tensors", action="store_true", help="only the whole files")
    parser.add_argument("--dump", type=Path, help="write every pair of price and divergence as JSON")
    args = parser.parse_args()
    verdicts, dumped = [], {}
    for path in args.models:
        with tempfile.TemporaryDirectory() as scratch:
            model = Model(args, path, Path(scratch))
            pairs = {} if args.no_tensors else model.tensors()
            dumped[path.name] = [[tensor, kind, *pair] for (tensor, kind), pair in pairs.items()]
            for kind in args.types if pairs else []:
                priced, real = zip(*(pair for (_, k), pair in pairs.items() if k == kind))
                rho, ratio = correlation(priced, real), sum(priced) / sum(real)
                check(f"{path.name} {kind}: rank correlation {rho:.3f} over {len(real)} tensors, sum of prices / sum of divergences {ratio:.3f}",
                      rho >= 0.9, verdicts)
            menu = ["--menu", ",".join(args.types)]
            least, most = model.ends(menu)
            for size in args.sizes:
                bits = round(least + (most - least) * size, 3)
                real = model.divergence("--bpw", bits, "--prices", model.prices, *menu)
                keys = json.loads(run(args.kquant, "inspect", model.out, "--json"))["metadata"]
                predicted = float(keys["kquant.types.predicted_kl"]["value"])
                check(f"{path.name} {bits} bits per weight: predicted {predicted:.5f}, measured {real:.5f}, ratio {predicted / real:.3f}",
                      abs(predicted / real - 1) <= 0.25, verdicts)
    if args.dump:
        args.dump.write_text(json.dumps(dumped))
    print(f"{sum(verdicts)} passed, {len(verdicts) - sum(verdicts)} failed")
    sys.exit(0 if all(verdicts) else 1)


if __name__ == "__main__":
    main()
