"""llama.cpp's part of a measurement: processes that do one thing and print what it took as JSON."""

import json
import time
from pathlib import Path

from compare.decode import decode
from compare.standin import convert


def quantize(source, target, file_type, threads, pure, ends, importance):
    """llama_model_quantize. Memory is that before the call: Python's and the libraries', which llama-quantize has not."""
    import stock  # noqa: PLC0415: needs the packages

    matrix = stock.Importance(importance) if importance else None
    resident, anonymous = memory()
    start, cpu = time.monotonic(), time.process_time()
    stock.quantize(source, target, file_type, matrix, threads=threads, pure=pure, ends=ends)
    seconds, cpu = time.monotonic() - start, time.process_time() - cpu
    system = stock.llama_cpp.llama_print_system_info().decode()
    print(json.dumps({"seconds": seconds, "cpu": cpu, "resident": resident, "anonymous": anonymous, "system": system}))


def memory():
    """Bytes that this process holds: all, and anonymous."""
    lines = (line.split() for line in Path("/proc/self/status").read_text().splitlines())
    found = {words[0]: int(words[1]) * 1024 for words in lines if words and words[0] in ("VmRSS:", "RssAnon:")}
    return found["VmRSS:"], found["RssAnon:"]


def main(args):
    """Runs what the words of the command line say."""
    match args:
        case ["decode", path, chunks, threads]:
            decode(path, int(chunks), int(threads))
        case ["quantize", source, target, file_type, threads, pure, ends, importance]:
            quantize(source, target, file_type, int(threads), pure == "pure", ends, importance)
        case ["convert", folder, template, target]:
            convert(Path(folder), template, target)
        case _:
            raise SystemExit(f"peer: {args}")
