#!/usr/bin/env python3
"""Compares kquant's encoders where it counts: files of the same types, run by stock llama.cpp.

For each model folder, type and encoder, kquant makes a file and llama.cpp scores it on each text: mean KL divergence from
the F32 GGUF of the same model with its standard error, perplexity, how often the likeliest token is the same. Chunks, BOS
and scored positions (the second half of each chunk) are llama-perplexity's; f32 KV cache, no flash attention; softmax
and sums in f64. The ratio is that to the first encoder; its error is that of the paired difference.

Q4_K_S, Q2_K_L and the like are file types with their mixture and own embedding types, as is any name after mix: (mix:IQ3_S);
all others are pure, with embeddings and output in Q8_0 (of tensors in IQ2_S the file type is IQ2_M). An encoder is one of those known here, or NAME=ARGUMENTS of `kquant quantize`, in which
{calibration} is the text, {imatrix} the importance matrix that `kquant calibrate` makes of it, {statistics} the same with Hessians and Fisher matrices, {chunks} and
{context} the part of it that is used; {bytes} is the size of the first encoder's file, for files whose types kquant chooses by what tensors cost. For instance
    --encoders ggml 'wide=--encoder gptq --calibrate {calibration} --chunks {chunks} --context {context}'

A check names rows as TYPE/ENCODER, or MODEL/TEXT/TYPE/ENCODER for fewer of them; * stands for any name. Needs the packages
of requirements.txt. Exit code 1 if a file cannot be made or a check fails.
"""

import argparse
import dataclasses
import json
import re
import shlex
import sys
import tempfile
import time
from pathlib import Path, PurePosixPath

import numpy as np

from divergence import Exact, Models, mean_and_error, perplexity_and_error
from program import DATA, Kquant, Tally

TYPES = "Q4_K IQ4_XS Q4_0 Q5_K Q3_K Q2_K Q6_K Q4_K_S Q3_K_S Q2_K_S Q4_K_M Q3_K_M".split()
MIXTURE = re.compile("^mix:|K_[SML]$")
PURE = ["--pure", "--output-tensor-type", "Q8_0", "--token-embedding-type", "Q8_0"]
ENCODERS = {
    "ggml": "--encoder ggml --imatrix {imatrix}",
    "guarded": "--encoder guarded --imatrix {imatrix}",
    "search": "--encoder search --imatrix {imatrix}",
    "gptq": "--encoder gptq --calibrate {calibration} --chunks {chunks} --context {context}",
    "best": "--quality best --calibrate {calibration} --chunks {chunks} --context {context}",
    "half": "--encoder gptq --calibrate {calibration} --own-text 50% --chunks {chunks} --context {context}",
    "own": "--encoder gptq --own-text 100% --chunks {chunks} --context {context}",
    "best-half": "--quality best --calibrate {calibration} --own-text 50% --chunks {chunks} --context {context}",
    "best-own": "--quality best --own-text 100% --chunks {chunks} --context {context}",
    "size": "--size {bytes} --statistics {statistics} --encoder ggml",
    "size-good": "--size {bytes} --quality good --calibrate {calibration} --chunks {chunks} --context {context}",
    "size-best": "--size {bytes} --quality best --calibrate {calibration} --chunks {chunks} --context {context}",
}
DEFAULT = ["ggml", "search", "gptq"]
EXPECTED_WITHIN = 0.01  # of the expected number


@dataclasses.dataclass
class Row:
    """What was measured of one file on one text."""

    model: str
    text: str
    type: str
    encoder: str
    kl: float
    kl_stderr: float
    ratio: float
    ratio_stderr: float
    perplexity: float
    perplexity_stderr: float
    same_top: float
    bytes: int
    seconds: float  # to make the file, calibration aside where it is shared

    HEAD = "| model | text | type | encoder | KL | ± | ratio | ± | perplexity | same top | bytes | s |"

    def name(self):
        """For checks."""
        return PurePosixPath(self.model, self.text, self.type, self.encoder)

    def line(self):
        """For the table."""
        cells = [self.model, self.text, self.type, self.encoder, f"{self.kl:.6f}", f"{self.kl_stderr:.6f}"]
        cells += [f"{self.ratio:.3f}" if self.ratio else "", f"{self.ratio_stderr:.3f}" if self.ratio_stderr else ""]
        cells += [f"{self.perplexity:.4f}", f"{100 * self.same_top:.2f} %", str(self.bytes), f"{self.seconds:.1f}"]
        return f"| {' | '.join(cells)} |"


def row_of(names, scores, base, size, seconds):
    """The row of a file's scores; `base` are the KL divergences of the first encoder."""
    divergences, losses, same = scores
    kl, kl_stderr = mean_and_error(divergences)
    ratio = kl / base.mean()
    _, ratio_stderr = mean_and_error((divergences - ratio * base) / base.mean())
    return Row(*names, kl, kl_stderr, float(ratio), ratio_stderr, *perplexity_and_error(losses), float(same.mean()), size, seconds)


class Maker:
    """Makes the files of one model."""

    def __init__(self, kquant, folder, args, scratch):
        self.kquant, self.folder, self.scratch = kquant, folder, scratch
        self.part = ["--chunks", args.calibration_chunks, "--context", args.context]
        self.texts = {"{calibration}": args.calibration, "{chunks}": args.calibration_chunks, "{context}": args.context}

    def exact(self):
        """The F32 GGUF."""
        path = self.scratch / "exact.gguf"
        self.kquant.quantize(self.folder, path, "F32")
        return path

    def arguments(self, template):
        """`template` in words, its names replaced; the importance matrix and the statistics are made when first asked for."""
        for name, more in {"{imatrix}": [], "{statistics}": ["--fisher", "--output-tensor"]}.items():
            if name in template and name not in self.texts:
                path = self.scratch / f"{name[1:-1]}.gguf"
                text = self.texts["{calibration}"]
                self.kquant.run("calibrate", self.folder, "--text", text, "-o", path, *self.part, *more, "--force", "--quiet")
                self.texts[name] = path
        words = shlex.split(template)
        for name, value in self.texts.items():
            words = [word.replace(name, str(value)) for word in words]
        return words

    def make(self, kind, template, size):
        """Path, size and seconds of the file; `size` is that of the first encoder's."""
        self.texts["{bytes}"] = size
        path, more = self.scratch / "out.gguf", self.arguments(template)
        start = time.monotonic()
        if "{bytes}" in template:
            files = self.kquant.quantize(self.folder, path, None, *more)
        else:
            files = self.kquant.quantize(self.folder, path, kind.removeprefix("mix:"), *more, *([] if MIXTURE.search(kind) else PURE))
        return path, sum(file["bytes"] for file in files), time.monotonic() - start


def compare(kquant, folder, args, scratch, tally):
    """Yields the rows of one model, first those of its F32 GGUF. A file that cannot be made counts as a failed check; without the first encoder's, the
    type has no more rows."""
    maker = Maker(kquant, folder, args, scratch)
    path = maker.exact()
    models, size, exacts = Models(path, args.context), path.stat().st_size, []
    for text in args.texts:
        exacts.append(exact := Exact(text, models, args.chunks, scratch))
        yield Row(folder.name, exact.name, "F32", "", 0, 0, 0, 0, *perplexity_and_error(exact.losses), 1, size, 0)
    for kind in args.types:
        bases, first_size = {}, 0
        for encoder, template in args.encoders:
            try:
                path, size, seconds = maker.make(kind, template, first_size)
                first_size = first_size or size
                models = Models(path, args.context)
            except RuntimeError as error:
                tally.check(f"{folder.name}/{kind}/{encoder}", str(error))
                if encoder == args.encoders[0][0]:
                    break  # nothing to compare with
                continue
            for exact in exacts:
                scores = exact.scores(models)
                base = bases.setdefault(exact.name, scores[0])
                row = row_of((folder.name, exact.name, kind, encoder), scores, base, size, seconds)
                problem = "" if np.isfinite([row.kl, row.perplexity]).all() else "not finite"
                tally.check(f"{row.name()}", problem)
                yield row


def check(rows, what, bounds, problem_of, tally):
    """Holds `what` of the rows that each bound names against it; a bound that names none has failed."""
    for pattern, bound in bounds:
        found = [row for row in rows if row.name().match(pattern)]
        if not found:
            tally.check(f"{what} of {pattern}", "no row of this name")
        for row in found:
            value = getattr(row, what)
            problem = problem_of(value, bound)
            tally.check(f"{what} of {row.name()}", problem and f"{value:.6f} is {problem} {bound}")


def bound(text):
    """NAME=NUMBER."""
    name, _, number = text.rpartition("=")
    if not name:
        raise ValueError(text)
    return name, float(number)


def encoder(text):
    """NAME or NAME=ARGUMENTS."""
    name, given, template = text.partition("=")
    if not given and name not in ENCODERS:
        raise ValueError(name)
    return name, template if given else ENCODERS[name]


def arguments():
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kquant", required=True, type=Path, help="the program")
    parser.add_argument("--models", nargs="+", type=Path, default=[DATA / "tiny-llama"], metavar="DIR",
                        help="Hugging Face folders (default: tests/data/tiny-llama)")  # fmt: skip
    parser.add_argument("--types", nargs="+", default=TYPES, metavar="TYPE", help="default: " + " ".join(TYPES))
    parser.add_argument("--encoders", nargs="+", type=encoder, default=[*map(encoder, DEFAULT)], metavar="ENCODER",
                        help=f"default: {' '.join(DEFAULT)}; known are {' '.join(ENCODERS)}")  # fmt: skip
    parser.add_argument("--calibration", type=Path, default=DATA / "corpora/calibration-small.txt", metavar="TEXT")
    parser.add_argument("--calibration-chunks", type=int, default=512, metavar="N", help="default: 512")
    parser.add_argument("--texts", nargs="+", type=Path, default=[DATA / "corpora/eval-small.txt"], metavar="TEXT",
                        help="texts to score")  # fmt: skip
    parser.add_argument("--chunks", type=int, default=200, metavar="N", help="of each text (default: 200)")
    parser.add_argument("--context", type=int, default=256, metavar="N", help="tokens of a chunk (default: 256)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the rows")
    parser.add_argument("--limit", action="append", default=[], type=bound, metavar="NAME=RATIO", help="largest ratio allowed")
    parser.add_argument("--max-kl", action="append", default=[], type=bound, metavar="NAME=KL", help="largest KL allowed")
    parser.add_argument("--expect", action="append", default=[], type=bound, metavar="NAME=KL", help="KL known from elsewhere")
    args = parser.parse_args()
    for name, values in [("models", args.models), ("texts", args.texts)]:
        if len({path.name for path in values}) < len(values):
            parser.error(f"--{name}: two have the same name")
    return args


def main():
    """Prints the table row by row, then the checks."""
    args, tally, rows = arguments(), Tally(), []
    kquant = Kquant(args.kquant)
    print(f"{Row.HEAD}\n|---|---|---|---|--:|--:|--:|--:|--:|--:|--:|--:|", flush=True)
    for folder in args.models:
        with tempfile.TemporaryDirectory(prefix="kquant-encoders-") as scratch:
            for row in compare(kquant, folder, args, Path(scratch), tally):
                print(row.line(), flush=True)
                rows.append(row)
    if args.json:
        args.json.write_text(json.dumps([dataclasses.asdict(row) for row in rows], indent=1) + "\n")
    above = lambda value, most: "" if value <= most else "more than"  # noqa: E731: NaN is too much as well
    apart = lambda value, known: "" if abs(value - known) <= EXPECTED_WITHIN * known else "not"  # noqa: E731
    check(rows, "ratio", args.limit, above, tally)
    check(rows, "kl", args.max_kl, above, tally)
    check(rows, "kl", args.expect, apart, tally)
    return tally.close()


if __name__ == "__main__":
    sys.exit(main())
