#!/usr/bin/env python3
"""Makes runs of every writing command fail from outside, and checks what they leave.

Each command first runs to its end; that gives its time and its bytes. Then it is

- killed with SIGKILL at random moments; the next run into the same output must give the same bytes and leave nothing else. Of several
  outputs a kill may leave some, each of them whole, which the next run replaces with --force,
- stopped with SIGINT and SIGTERM at random moments: it must end by itself, with all outputs or without any; `ladder` keeps the sizes that
  it has finished,
- started three times at once into one output: at least one must come to its end, and the output must be whole,
- given inputs that are cut off, a full disk (a small tmpfs, where the user may mount one), a folder that cannot be written to, a standard
  output that nobody reads, and /dev/full.

Whatever happens, a run ends with exit code 0 or 2, without a panic, and under its name there is the whole output or nothing.
Needs nothing but Python, on Linux.

    scripts/faults.py --kquant target/release/kquant [--kills 200] [--seed 0]
"""

import argparse
import contextlib
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from program import DATA, Kquant, Tally

TEXT = DATA / "corpora" / "calibration-small.txt"
MODEL = DATA / "tiny-llama"
NOBODY = 65534
CUTS = (0.0, 0.3, 0.9, 0.99)
# Seconds after which a run counts as one that never ends.
PATIENCE = 300


class Job:
    """A command that writes one output, or several into a folder or under a prefix."""

    def __init__(self, name, args, inputs=(), resume=False, out="out.gguf", stepwise=False):
        self.name = name
        self.args = [str(arg) for arg in args]
        # Positions in `args` of the files that are cut off.
        self.inputs = inputs
        self.resume = resume
        # What `-o` names in the folder of the outputs.
        self.out = out
        self.seconds = 0.0
        # Whether outputs get their names one after the other, each when it is finished.
        self.stepwise = stepwise
        # Bytes of the outputs by their paths in that folder.
        self.whole = {}

    def command(self, kquant, folder, *more):
        return [str(kquant.path), *self.args, "-o", str(folder.path) + os.sep + self.out, *more]


def jobs(kquant, folder):
    """All writing commands, on small models and texts."""
    shard = folder / "shard-00001-of-00002.gguf"
    gguf, hessians, importance = folder / "f16.gguf", folder / "hessians.gguf", folder / "importance.gguf"
    kquant.quantize(MODEL, gguf, "F16")
    kquant.run("split", gguf, "-o", folder / "shard", "--max-tensors", len(kquant.tensors(gguf)) // 2 + 1)
    text = ["--text", TEXT, "--chunks", "8", "-c", "64"]
    kquant.run("calibrate", MODEL, *text, "--fisher", "-o", hessians)
    kquant.run("calibrate", MODEL, *text, "-o", importance)
    parts = folder / "parts"
    for part in range(1, 4):
        kquant.run("quantize", MODEL, "-o", parts, "--type", "Q8_0", "--part", f"{part}/3", "--quiet")
    student = folder / "student.gguf"
    kquant.run("prune", MODEL, "-o", student, "--ffn", "50%", *text, "--quiet")
    long = ["--calibrate", TEXT, "--chunks", "24", "-c", "64"]
    return [
        Job("quantize a folder", ["quantize", MODEL, "--type", "Q4_K_M"]),
        Job("quantize a GGUF", ["quantize", gguf, "--type", "IQ4_XS"], [1]),
        Job("quantize by importance", ["quantize", MODEL, "--type", "IQ2_S", "--imatrix", importance], [5]),
        Job("quantize by statistics", ["quantize", MODEL, "--type", "Q3_K_S", "--statistics", hessians], [5], resume=True),
        Job("quantize by a text", ["quantize", MODEL, "--type", "Q3_K_S", *long], resume=True),
        Job("quantize to a size", ["quantize", MODEL, "--size", "1M", *long, "--quality", "fast"]),
        Job("calibrate", ["calibrate", MODEL, *text]),
        Job("calibrate --fisher", ["calibrate", gguf, *text, "--fisher"], [1]),
        Job("imatrix merge", ["imatrix", "merge", hessians], [2]),
        Job("merge", ["merge", shard]),
        Job("split", ["split", gguf, "--max-tensors", len(kquant.tensors(gguf)) // 2 + 1], [1], out="out"),
        Job("assemble", ["assemble", parts]),
        Job("prices", ["prices", MODEL, "--statistics", hessians, "--menu", "phone"], [3]),
        Job("ladder", ["ladder", MODEL, "--sizes", "1M,2M", *long, "--quality", "fast"], out="ladder/", stepwise=True),
        Job("compare", ["compare", MODEL, gguf, *text, "--samples", "0"], [2], out="page.html"),
        Job("prune --vocab", ["prune", MODEL, "--vocab", "1024", *text]),
        Job("prune --ffn", ["prune", gguf, "--ffn", "50%", *text], [1]),
        Job("teach", ["teach", MODEL, *text]),
        Job("distill", ["distill", student, "--teacher", MODEL, "--text", TEXT, "--chunks", "80", "-c", "64", "--tokens", "512", "--batch", "4"], [1]),
    ]


class Folder:
    """A folder for outputs that is empty but for them."""

    def __init__(self, parent, name):
        self.path = parent / name
        self.path.mkdir()

    def files(self):
        """Bytes of all files by their paths, without the journals that runs may go on from."""
        found = ((p.relative_to(self.path), p) for p in self.path.rglob("*") if not p.is_dir())
        return {str(name): p.read_bytes() for name, p in found if not name.parts[0].endswith(".kquant-journal")}

    def clear(self):
        for path in self.path.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def run(command, **more):
    """Exit code and what was said on stderr."""
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, timeout=PATIENCE, **more)
    return done.returncode, done.stderr.decode(errors="replace")


def stopped(command, after, how):
    """Sends `how` after so many seconds; exit code and stderr."""
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    try:
        _, told = process.communicate(timeout=after)
    except subprocess.TimeoutExpired:
        process.send_signal(how)
        _, told = process.communicate(timeout=PATIENCE)
    return process.returncode, told.decode(errors="replace")


def of_outputs(job, folder, some=False):
    """What is wrong with what lies in the folder, if anything: there must be all outputs or none, or some where `some` is true."""
    found = folder.files()
    left = sorted(found.keys() - job.whole.keys())
    if left:
        return f"left {left}"
    wrong = [name for name, held in found.items() if held != job.whole[name]]
    if wrong:
        return f"not as of an undisturbed run: {wrong}"
    return "" if some or len(found) in (0, len(job.whole)) else f"only {sorted(found)}"


def of_end(code, told):
    """What is wrong with how a run ended, if anything."""
    if "panicked" in told or code not in (0, 2):
        return f"exit code {code}: {told[-300:]}"
    return ""


def killed(kquant, job, folder, moment):
    """Kills a run and makes another."""
    stopped(job.command(kquant, folder), moment * job.seconds, signal.SIGKILL)
    # The next run removes what is unfinished.
    there = {name: held for name, held in folder.files().items() if name in job.whole}
    problem = next((f"not as of an undisturbed run: {name}" for name, held in there.items() if held != job.whole[name]), "")
    if not problem and len(there) < len(job.whole):
        more = [*(["--resume"] if job.resume else []), *(["--force"] if there else [])]
        code, told = run(job.command(kquant, folder, *more))
        problem = f"the next run: exit code {code}: {told[-300:]}" if code else ""
        problem = problem or ("" if folder.files().keys() >= job.whole.keys() else "the next run made nothing")
    if job.resume:
        run([str(kquant.path), "clean", str(folder.path / job.out)])
    return problem or of_outputs(job, folder)


def signalled(kquant, job, folder, moment, how):
    """Stops a run in the way of a terminal or of a system that shuts down."""
    code, told = stopped(job.command(kquant, folder), moment * job.seconds, how)
    # Before the handler is set, the signal ends the process, which has written nothing then.
    return ("" if code == -how and not folder.files() else of_end(code, told)) or of_outputs(job, folder, some=job.stepwise)


def at_once(kquant, job, folder):
    """Three runs into one output."""
    command = job.command(kquant, folder)
    runs = [subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) for _ in range(3)]
    ends = [(process.communicate(timeout=PATIENCE)[1].decode(errors="replace"), process.returncode) for process in runs]
    problems = [of_end(code, told) for told, code in ends]
    if not any(code == 0 for _, code in ends):
        problems.append(f"no run came to its end: {ends}")
    return next(filter(None, problems), "") or of_outputs(job, folder)


def cut_off(kquant, job, folder, place, share):
    """A run over an input of which only the beginning is there."""
    whole = Path(job.args[place]).read_bytes()
    part = folder.path / "cut.gguf"
    part.write_bytes(whole[: int(share * len(whole))])
    command = job.command(kquant, folder)
    command[1 + place] = str(part)
    code, told = run(command)
    part.unlink()
    if code != 2 or folder.files():
        return f"exit code {code}, left {sorted(folder.files())}: {told[-300:]}"
    return of_end(code, told)


def refused(kquant, job, folder, **more):
    """A run whose output cannot be written."""
    code, told = run(job.command(kquant, folder), **more)
    return of_end(code, told) or ("" if code == 2 else "it was written") or of_outputs(job, folder)


def unread(kquant, job, folder, target):
    """A run whose standard output nobody reads, or that cannot be written."""
    with contextlib.ExitStack() as stack:
        if target == "closed pipe":
            reader, writer = os.pipe()
            os.close(reader)
            stdout = stack.enter_context(os.fdopen(writer, "wb"))
        else:
            stdout = stack.enter_context(open(target, "wb"))
        process = subprocess.run(job.command(kquant, folder), stdin=subprocess.DEVNULL, stdout=stdout, stderr=subprocess.PIPE, timeout=PATIENCE)
    return of_end(process.returncode, process.stderr.decode(errors="replace")) or of_outputs(job, folder)


@contextlib.contextmanager
def full_disk(parent):
    """A folder with room for less than any output; None where there can be none."""
    path = parent / "full"
    path.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4k", "tmpfs", path], capture_output=True).returncode == 0
    try:
        yield path if mounted else None
    finally:
        if mounted:
            subprocess.run(["umount", path], check=True)


class Run:
    """All checks of all jobs."""

    def __init__(self, kquant, scratch, seed):
        self.kquant, self.scratch = kquant, scratch
        self.random, self.tally = random.Random(seed), Tally()
        self.folder = Folder(scratch, "outputs")

    def undisturbed(self, job):
        start = time.monotonic()
        code, told = run(job.command(self.kquant, self.folder))
        job.seconds = time.monotonic() - start
        if code:
            raise SystemExit(f"{job.name}: {told}")
        job.whole = self.folder.files()
        self.folder.clear()

    def check(self, kind, job, problem_of, *args, **more):
        try:
            problem = problem_of(self.kquant, job, self.folder, *args, **more)
        except subprocess.TimeoutExpired:
            problem = f"no end within {PATIENCE} s"
        self.tally.check(f"{job.name}, {kind}", problem)
        self.folder.clear()

    def moments(self, count):
        """Shares of the time of an undisturbed run, from its beginning to shortly after its end."""
        return [self.random.uniform(0, 1.05) for _ in range(count)]

    def disturb(self, job, kills):
        for moment in self.moments(kills):
            self.check("killed", job, killed, moment)
        for how in (signal.SIGINT, signal.SIGTERM):
            for moment in self.moments(max(1, kills // 4)):
                self.check(how.name, job, signalled, moment, how)
        self.check("three at once", job, at_once)
        for place in job.inputs:
            for share in CUTS:
                self.check(f"input {place} cut at {share}", job, cut_off, place, share)
        for target in ("closed pipe", "/dev/full"):
            self.check(target, job, unread, target)

    def full(self, all_jobs):
        with full_disk(self.scratch) as path:
            if path is None:
                print("not covered: a full disk, as no tmpfs can be mounted")
                return
            own = self.folder
            self.folder = Folder(path, "outputs")
            for job in all_jobs:
                self.check("full disk", job, refused)
            self.folder = own

    def read_only(self, all_jobs):
        if os.getuid() != 0:
            self.folder.path.chmod(0o555)
            more = {}
        else:
            # The superuser may write everywhere, so that another user runs.
            more = {"user": NOBODY, "group": NOBODY, "extra_groups": []}
            if run([str(self.kquant.path), "--version"], **more)[0] != 0:
                print("not covered: folders that cannot be written to, as no other user can run the program")
                return
        for job in all_jobs:
            self.check("read-only folder", job, refused, **more)
        self.folder.path.chmod(0o755)


def main():
    """Parses the arguments and makes all runs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kquant", required=True, type=Path, help="the program")
    parser.add_argument("--kills", type=int, default=200, help="runs that are killed, all jobs together (default: %(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="what moments are drawn by (default: %(default)s)")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="kquant-faults-") as scratch:
        scratch = Path(scratch)
        scratch.chmod(0o755)
        checks = Run(Kquant(args.kquant), scratch, args.seed)
        all_jobs = jobs(checks.kquant, scratch)
        for job in all_jobs:
            checks.undisturbed(job)
            before = checks.tally.passed, len(checks.tally.failures)
            checks.disturb(job, -(-args.kills // len(all_jobs)))
            passed, failed = checks.tally.passed - before[0], len(checks.tally.failures) - before[1]
            print(f"{job.name:<26} {job.seconds:6.2f} s undisturbed, {passed} passed, {failed} failed", flush=True)
        checks.full(all_jobs)
        checks.read_only(all_jobs)
        return checks.tally.close()


if __name__ == "__main__":
    sys.exit(main())
