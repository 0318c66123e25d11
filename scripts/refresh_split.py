#!/usr/bin/env python3
"""Writes tests/data/split.json: hashes of the files that llama.cpp's llama-gguf-split splits a made-up GGUF into, of their merger,
and of that merger split again.

Recorded with the source in llama-cpp-python 0.3.36. Needs g++ and llama.cpp's source. Usage: scripts/refresh_split.py LLAMA_CPP_SOURCE
"""

import hashlib
import json
import re
import struct
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
U8, I8, U16, I16, U32, I32, F32, BOOL, STRING, ARRAY, U64, I64, F64 = range(13)
PACKED = {U8: "B", I8: "b", U16: "H", I16: "h", U32: "I", I32: "i", F32: "f", BOOL: "?", U64: "Q", I64: "q", F64: "d"}
# Keys of every type; tests/it/split.rs has the same ones.
KEYS = [("general.architecture", STRING, "llama"), ("general.alignment", U32, 32), ("split.count", U16, 0), ("k.u8", U8, 200),
        ("k.i8", I8, -100), ("k.i16", I16, -30000), ("k.i32", I32, -2000000000), ("k.f32", F32, 0.5), ("k.bool", BOOL, True),
        ("k.u64", U64, 1 << 63), ("k.i64", I64, -(1 << 62)), ("k.f64", F64, 0.1), ("k.text", STRING, "näïve\n"),
        ("k.strings", ARRAY, (STRING, ["a", "", "▁b"])), ("k.floats", ARRAY, (F32, [1.5, -2.0])),
        ("k.bools", ARRAY, (BOOL, [True, False, True])), ("k.none", ARRAY, (I32, []))]
# Name, dimensions, ggml's type and bytes.
TENSORS = [("few", [3], 1, 6), ("q8", [64, 9001], 8, 612068), ("f32", [256, 1000], 0, 1024000), ("ints", [7, 11, 2], 26, 616),
           ("q4", [256, 5000], 12, 720000), ("bf16", [100, 33, 3, 5], 30, 99000), ("last", [1], 0, 4)]
CASES = [["--split-max-tensors", "1"], ["--split-max-tensors", "3"], ["--split-max-tensors", "100"],
         ["--no-tensor-first-split", "--split-max-tensors", "2"], ["--split-max-size", "1M"], ["--split-max-size", "2M"],
         ["--no-tensor-first-split", "--split-max-size", "1M"]]


def text(value):
    value = value.encode()
    return struct.pack("<Q", len(value)) + value


def value(kind, content):
    if kind == STRING:
        return text(content)
    if kind == ARRAY:
        kind, items = content
        return struct.pack("<IQ", kind, len(items)) + b"".join(value(kind, item) for item in items)
    return struct.pack("<" + PACKED[kind], content)


def made_up():
    """The GGUF that is split."""
    header = struct.pack("<4sIQQ", b"GGUF", 3, len(TENSORS), len(KEYS))
    header += b"".join(text(key) + struct.pack("<I", kind) + value(kind, content) for key, kind, content in KEYS)
    data = b""
    for number, (name, shape, kind, size) in enumerate(TENSORS):
        header += text(name) + struct.pack(f"<I{len(shape)}QIQ", len(shape), *shape, kind, len(data))
        data += bytes((i * 7 + i // 251 + 31 * number) % 256 for i in range(size))
        data += bytes(-len(data) % 32)
    return header + bytes(-len(header) % 32) + data


def build(source, folder):
    """Compiles llama-gguf-split with the two functions of llama.cpp that it calls, and returns the program's path."""
    names = (source / "src/llama.cpp").read_text()
    functions = [re.search(rf"^int32_t llama_split_{name}\(.*?^}}", names, re.M | re.S)[0] for name in ("path", "prefix")]
    (folder / "names.cpp").write_text('#include "llama.h"\n#include <cstdio>\n#include <string>\n' + "\n".join(functions))
    (folder / "ggml-version.h").write_text('#define GGML_VERSION ""\n#define GGML_COMMIT ""\n')
    include = [f"-I{folder}"] + [f"-I{source / d}" for d in ("ggml/include", "ggml/src", "include", "common", "vendor")]
    objects = []
    for name in ("ggml.c", "ggml-quants.c", "ggml.cpp", "gguf.cpp", "ggml-threading.cpp"):
        compiler = ["gcc"] if name.endswith(".c") else ["g++", "-std=c++17"]
        objects.append(str(folder / f"{name}.o"))
        subprocess.run([*compiler, "-O1", "-D_GNU_SOURCE", *include, "-c", str(source / "ggml/src" / name), "-o", objects[-1]], check=True)
    program = str(folder / "llama-gguf-split")
    subprocess.run(["g++", "-O1", "-std=c++17", *include, str(folder / "names.cpp"), str(source / "tools/gguf-split/gguf-split.cpp"),
                    *objects, "-o", program, "-no-pie", "-Wl,--unresolved-symbols=ignore-all", "-pthread"], check=True)
    return program


def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def case(program, options, model, folder):
    """Splits `model`, merges the files, and splits the merger by two tensors."""
    folder.mkdir()

    def run(*arguments):
        subprocess.run([program, *arguments], check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)

    run("--split", *options, str(model), str(folder / "part"))
    files = sorted(folder.glob("part-*"))
    run("--merge", str(files[0]), str(folder / "whole.gguf"))
    run("--split", "--split-max-tensors", "2", str(folder / "whole.gguf"), str(folder / "again"))
    return {"options": options, "files": {f.name: sha256(f) for f in files}, "merged": sha256(folder / "whole.gguf"),
            "again": {f.name: sha256(f) for f in sorted(folder.glob("again-*"))}}


def main():
    source = Path(sys.argv[1])
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        program, model = build(source, folder), folder / "model.gguf"
        model.write_bytes(made_up())
        cases = [case(program, options, model, folder / str(i)) for i, options in enumerate(CASES)]
        result = {"model": sha256(model), "cases": cases}
    (ROOT / "tests/data/split.json").write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
