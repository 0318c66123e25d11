#!/usr/bin/env python3
"""Writes tests/data/evaluate/statistics.json: perplexity and KL divergence of two made-up models.

`llama_perplexity` holds what llama.cpp's own code prints (recorded from commit 0c1e57098) and the hash of the logits file
that it writes; `exact` the same statistics computed here from the logits in double precision, without that file.
Needs g++ and llama.cpp's source. Usage: scripts/refresh_evaluate.py LLAMA_CPP_SOURCE
"""

import array
import hashlib
import json
import math
import re
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
CONTEXT, CHUNKS, VOCABULARY, BOS = 32, 20, 51, 1
FIRST = CONTEXT // 2
KL = {"max": "Maximum", "p99_9": "99.9%", "p99": "99.0%", "p95": "95.0%", "p90": "90.0%", "median": "Median",
      "p10": "10.0%", "p5": " 5.0%", "p1": " 1.0%", "p0_1": " 0.1%", "min": "Minimum"}
DELTA_P = KL | {"p75": "75.0%", "p25": "25.0%"}
FRACTIONS = {"max": 1, "p99_9": 0.999, "p99": 0.99, "p95": 0.95, "p90": 0.9, "p75": 0.75, "median": 0.5, "p25": 0.25,
             "p10": 0.1, "p5": 0.05, "p1": 0.01, "p0_1": 0.001, "min": 0}


def made_up():
    """Tokens and the logits of both models; every number is exact in f32. The test has the same generator."""
    state = 2026

    def bits():
        nonlocal state
        state = (state * 6364136223846793005 + 1442695040888963407) % 2**64
        return (state >> 48) - 32768

    tokens = [(bits() + 32768) % VOCABULARY for _ in range(CONTEXT * CHUNKS)]
    targets = [tokens[c * CONTEXT + p + 1] for c in range(CHUNKS) for p in range(FIRST, CONTEXT - 1)]
    base, model = [], []
    for target in targets:
        for token in range(VOCABULARY):
            base.append(bits() * 3 / 8192 + (8 if token == target else 0))
            model.append(base[-1] + bits() / 32768)
    return tokens, base, model


def peer(source, tokens, base, model):
    """Runs llama.cpp's code: returns the hash of its logits file and the text that it prints."""
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        program = folder / "peer"
        include = [f"-I{source / d}" for d in ("", "common", "include", "ggml/include", "vendor")]
        subprocess.run(["g++", "-O2", "-std=c++17", *include, str(ROOT / "scripts/evaluate_peer.cpp"), "-o", str(program),
                        "-no-pie", "-Wl,--unresolved-symbols=ignore-all", "-pthread"], check=True)
        (folder / "tokens").write_bytes(array.array("i", tokens).tobytes())
        (folder / "base").write_bytes(array.array("f", base).tobytes())
        (folder / "model").write_bytes(array.array("f", model).tobytes())

        def run(mode, logits):
            command = [program, mode, folder / "logits", folder / logits, CONTEXT, VOCABULARY, folder / "tokens"]
            return subprocess.run([str(c) for c in command], check=True, capture_output=True, text=True).stdout

        saved = run("save", "base")
        return hashlib.sha256((folder / "logits").read_bytes()).hexdigest(), saved, run("compare", "model")


def printed(text):
    """The final statistics that llama-perplexity prints, under the keys of kquant's report."""
    number = r"\s*(-?[0-9.]+)"

    def one(label):
        return float(re.search(rf"^{re.escape(label)}\s*:{number}", text, re.M)[1])

    def pair(label, value="value"):
        found = re.search(rf"^{re.escape(label)}\s*:{number} ±{number}", text, re.M)
        return {value: float(found[1]), "stderr": float(found[2])}

    def quantiles(unit, labels):
        return {key: float(re.search(rf"^{re.escape(label)}\s+{unit}:{number}", text, re.M)[1]) for key, label in labels.items()}

    rms, top = pair("RMS Δp"), pair("Same top p")
    return {
        "perplexity": pair("Mean PPL(Q)"),
        "base": {"perplexity": pair("Mean PPL(base)")},
        "ln_ratio": pair("Mean ln(PPL(Q)/PPL(base))", "mean"),
        "ratio": pair("Mean PPL(Q)/PPL(base)"),
        "difference": pair("Mean PPL(Q)-PPL(base)"),
        "correlation": one("Cor(ln(PPL(Q)), ln(PPL(base)))") / 100,
        "kl": pair("Mean    KLD", "mean") | quantiles("KLD", KL),
        "delta_p": pair("Mean    Δp", "mean") | quantiles("Δp", DELTA_P) | {"rms": rms["value"], "rms_stderr": rms["stderr"]},
        "same_top": top["value"],
        "same_top_stderr": top["stderr"],
    }


def mean(values):
    return math.fsum(values) / len(values)


def covariance(x, y):
    """Of the means of x and y."""
    mx, my = mean(x), mean(y)
    return mean([(a - mx) * (b - my) for a, b in zip(x, y)]) / (len(x) - 1)


def error(values):
    return math.sqrt(covariance(values, values))


def distribution(values):
    ordered = sorted(values)

    def quantile(fraction):
        position = fraction * (len(ordered) - 1)
        below = int(position)
        weight = position - below
        return ordered[below] if weight == 0 else (1 - weight) * ordered[below] + weight * ordered[below + 1]

    return {"mean": mean(values), "stderr": error(values)} | {key: quantile(f) for key, f in FRACTIONS.items()}


def log_probs(logits):
    top = max(logits)
    total = math.log(math.fsum(math.exp(v - top) for v in logits))
    return [v - top - total for v in logits]


def exact(tokens, base, model):
    nll, base_nll, kl, delta, same = [], [], [], [], 0
    row = 0
    for chunk in range(CHUNKS):
        for position in range(FIRST, CONTEXT - 1):
            b, m = (logits[row * VOCABULARY:(row + 1) * VOCABULARY] for logits in (base, model))
            same += b.index(max(b)) == m.index(max(m))
            b, m = log_probs(b), log_probs(m)
            target = tokens[chunk * CONTEXT + position + 1]
            nll.append(-m[target])
            base_nll.append(-b[target])
            kl.append(math.fsum(math.exp(p) * (p - q) for p, q in zip(b, m)))
            delta.append(100 * (math.exp(m[target]) - math.exp(b[target])))
            row += 1
    ppl, base_ppl = math.exp(mean(nll)), math.exp(mean(base_nll))
    ln_ratio = [m - b for m, b in zip(nll, base_nll)]
    ratio = math.exp(mean(ln_ratio))
    scaled = [ppl * m - base_ppl * b for m, b in zip(nll, base_nll)]
    squares = [d * d for d in delta]
    rms, top = math.sqrt(mean(squares)), same / row
    return {
        "perplexity": {"value": ppl, "stderr": ppl * error(nll)},
        "base": {"perplexity": {"value": base_ppl, "stderr": base_ppl * error(base_nll)}},
        "ln_ratio": {"mean": mean(ln_ratio), "stderr": error(ln_ratio)},
        "ratio": {"value": ratio, "stderr": ratio * error(ln_ratio)},
        "difference": {"value": ppl - base_ppl, "stderr": error(scaled)},
        "correlation": covariance(nll, base_nll) / (error(nll) * error(base_nll)),
        "kl": distribution(kl),
        "delta_p": distribution(delta) | {"rms": rms, "rms_stderr": 0.5 / rms * error(squares)},
        "same_top": 100 * top,
        "same_top_stderr": 100 * math.sqrt(top * (1 - top) / (row - 1)),
    }


def main():
    logits = made_up()
    digest, saved, compared = peer(Path(sys.argv[1]), *logits)
    final = re.search(r"PPL = ([0-9.]+) \+/- ([0-9.]+)", saved)
    running = [float(v) for v in re.findall(r"\[\d+\]([0-9.]+),", saved)]
    data = {
        "context": CONTEXT, "chunks": CHUNKS, "vocabulary": VOCABULARY, "bos": BOS,
        "llama_perplexity": {
            "logits_sha256": digest,
            "base_running": running,
            "base_final": {"value": float(final[1]), "stderr": float(final[2])},
        } | printed(compared),
        "exact": exact(*logits),
    }
    out = ROOT / "tests/data/evaluate/statistics.json"
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps(data, indent=1) + "\n")


main()
