"""What the scripts share: running kquant, counting what passed, the texts of the tests."""

import json
import subprocess
from pathlib import Path

DATA = Path(__file__).resolve().parent.parent / "tests" / "data"


class Kquant:
    """The binary under test."""

    def __init__(self, path):
        self.path = Path(path).resolve()
        if not self.path.is_file():
            raise SystemExit(f"{path}: no such program; build it with `cargo build --release`")

    def run(self, *args, code=0):
        """Runs kquant with `args`; returns standard output. Raises RuntimeError unless the exit code is `code`."""
        done = subprocess.run([self.path, *map(str, args)], capture_output=True, text=True, stdin=subprocess.DEVNULL)
        if done.returncode != code:
            command = " ".join(["kquant", *map(str, args)])
            raise RuntimeError(f"{command}: exit code {done.returncode}, not {code}: {done.stderr.strip()}")
        return done.stdout

    def quantize(self, model, out, file_type, *more):
        """Writes `out`, replacing it; returns the report's list of files. Without a file type, `more` says how types are chosen."""
        types = ["--type", file_type] if file_type else []
        args = ["quantize", model, "-o", out, *types, "--force", "--quiet", "--json", *more]
        return json.loads(self.run(*args))["files"]

    def tensors(self, gguf):
        """Name -> (type, SHA-256) of every tensor, as `kquant hash` sees the file."""
        return tensors_of(json.loads(self.run("hash", gguf, "--json")))


    def tokens(self, model, paths, *more):
        """Token ids of the texts in the files, a list for each."""
        texts = [word for path in paths for word in ("--text", path)]
        return [json.loads(line) for line in self.run("tokenize", model, *texts, *more).splitlines()]


def hard_strings():
    """The texts of tests/data/tokens/strings.json, in which {"repeat": [TEXT, COUNT]} is a long one."""
    entries = json.loads((DATA / "tokens" / "strings.json").read_text())
    return [e if isinstance(e, str) else e["repeat"][0] * e["repeat"][1] for e in entries]


def tensors_of(files):
    """Name -> (type, SHA-256) from kquant's list of files."""
    return {t["name"]: (t["type"], t["sha256"]) for f in files for t in f["tensors"]}


def difference(expected, actual):
    """What differs between two mappings, in one line; empty when nothing does."""
    parts = []
    for what, keys in [("missing", expected.keys() - actual.keys()), ("extra", actual.keys() - expected.keys())]:
        if keys:
            parts.append(f"{what}: {_some(sorted(keys))}")
    both = expected.keys() & actual.keys()
    changed = [f"{k} ({_short(expected[k])} / {_short(actual[k])})" for k in sorted(both) if expected[k] != actual[k]]
    if changed:
        parts.append(f"differ: {_some(changed)}")
    return "; ".join(parts)


def _short(value, width=60):
    text = str(value)
    return text if len(text) <= width else text[:width] + "..."


def _some(items, shown=3):
    more = f" and {len(items) - shown} more" if len(items) > shown else ""
    return ", ".join(items[:shown]) + more


class Tally:
    """Counts checks. Failures are kept and told again at the end."""

    def __init__(self):
        self.passed = 0
        self.failures = []

    def check(self, name, problem):
        """Counts one check, which passed if `problem` is empty; returns the word for a table."""
        if not problem:
            self.passed += 1
            return "ok"
        self.failures.append(f"{name}: {problem}")
        return "FAILED"

    def row(self, name, problem_of, *args):
        """Counts and prints the check `problem_of(*args)`; a run that fails is a failed check."""
        try:
            problem = problem_of(*args)
        except RuntimeError as error:
            problem = str(error)
        print(f"{name:<40} {self.check(name, problem)}", flush=True)

    def close(self):
        """Prints the failures and the closing line; returns the exit code."""
        for failure in self.failures:
            print(f"FAILED {failure}")
        print(f"{self.passed} passed, {len(self.failures)} failed")
        return 1 if self.failures or not self.passed else 0
