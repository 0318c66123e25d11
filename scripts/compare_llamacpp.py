#!/usr/bin/env python3
"""kquant beside llama.cpp (llama-cpp-python), on synthetic Llamas that the script makes; prints Markdown tables.

    scripts/compare_llamacpp.py quantize --kquant target/release/kquant
    scripts/compare_llamacpp.py inference --kquant target/release/kquant
    scripts/compare_llamacpp.py growth --kquant target/release/kquant --svg docs/growth.svg

`compare_llamacpp.py SECTION --help` says what each measures. The exit code is 1 if any output differs from llama.cpp's. Build
llama-cpp-python for the machine at hand (its default; not the environment of .ci/run), and leave the machine alone
meanwhile. Linux only. Needs the packages of requirements.txt.
"""

import argparse
import sys
import tempfile
from pathlib import Path

from compare import growth, inference, peer, quantization
from program import Kquant

SECTIONS = {"quantize": quantization, "inference": inference, "growth": growth}
RUNS = {"quantize": 5, "inference": 3, "growth": 3}
# What a process of llama.cpp is started with.
PEER, ITSELF = "peer", [sys.executable, Path(__file__).resolve(), "peer"]


def arguments():
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    sections = parser.add_subparsers(dest="section", required=True, metavar="SECTION")
    found = {}
    for name, module in SECTIONS.items():
        found[name] = sections.add_parser(
            name, help=module.__doc__.splitlines()[0], description=module.__doc__,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )  # fmt: skip
        common(found[name], RUNS[name])
    found["inference"].add_argument("--chunks", type=int, default=8, help="chunks of 512 tokens (default: 8)")
    types = sorted({*quantization.PLAIN, *quantization.CODEBOOKS, "Q4_K_M"})
    found["quantize"].add_argument("--types", nargs="+", metavar="TYPE", choices=types, help=f"only these of {', '.join(types)}; "
                                   "Q4_K_M is the way from safetensors")  # fmt: skip
    found["quantize"].add_argument("--small", action="store_true", help="a model of 0.1 B parameters, for types that take long")
    found["quantize"].add_argument("--converter", type=Path, metavar="FOLDER", help="with convert_hf_to_gguf.py and venv/; "
                                   "see scripts/converter.sh")  # fmt: skip
    found["growth"].add_argument("--svg", type=Path, help="draw it here")
    found["growth"].add_argument("--memory", default=quantization.SMALL, help="of kquant (default: %(default)s)")
    found["growth"].add_argument("--sizes", nargs="+", metavar="SIZE", choices=growth.models.GROWTH, help="only these of "
                                 f"{', '.join(growth.models.GROWTH)}")  # fmt: skip
    args = parser.parse_args()
    if args.quick:
        args.runs, args.chunks = 1, 4
    return args


def common(parser, runs):
    """Arguments of all sections."""
    parser.add_argument("--kquant", required=True, type=Path, help="the program")
    parser.add_argument("--runs", type=int, default=runs, help=f"runs of each program at each task (default: {runs})")
    parser.add_argument("--threads", type=int, default=2, help="threads of both (default: 2)")
    parser.add_argument("--quick", action="store_true", help="one run each, of less: shows that it works, not how fast it is")
    parser.add_argument("--dir", type=Path, help="where to put the files (default: the system's temporary folder)")
    parser.add_argument("--models", type=Path, help="an existing folder to leave the models in, and to find them in again")
    parser.add_argument("more", nargs="*", help="arguments of kquant, after --: for instance -- --isa avx2")


def run(args, folder):
    """Runs the section; the exit code."""
    try:
        failures = SECTIONS[args.section].compare(Kquant(args.kquant), folder, args, ITSELF)
    except RuntimeError as error:
        raise SystemExit(error) from error
    for failure in failures or []:
        print(f"FAILED {failure}")
    return 1 if failures else 0


def main():
    """One mode for people, one for the processes that llama.cpp runs in."""
    if sys.argv[1:2] == [PEER]:
        peer.main(sys.argv[2:])
        return 0
    args = arguments()
    if args.models:
        return run(args, args.models)
    with tempfile.TemporaryDirectory(prefix="kquant-compare-", dir=args.dir) as scratch:
        return run(args, Path(scratch))


if __name__ == "__main__":
    sys.exit(main())
