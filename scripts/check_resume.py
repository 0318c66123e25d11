#!/usr/bin/env python3
"""Kills a calibrated run again and again, goes on with --resume, and compares bytes and time with a run that was not killed.

The model is a synthetic Llama, by default two layers of the shape of a 7B model. Kills come at even intervals of the time that the undisturbed run
took, each after the journal was written once more, so that every run gets on. What a kill costs is the time of all runs together beyond
the undisturbed one, less what the journal cannot save: the layer at hand. Time is that of the processors, in seconds of all threads, so that
what else the machine does is not counted. Needs nothing but Python, on Linux.

    scripts/check_resume.py --kquant target/release/kquant --text calibration.txt [--kills 10] [--quality good]
"""

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import synthetic
from program import Kquant, Tally


def of_children():
    """Seconds of the processors that programs which have ended took."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def of_running(process):
    """Seconds of the processors that a running program has taken."""
    fields = Path(f"/proc/{process.pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def finish(command):
    """Runs to the end; returns the seconds."""
    start = of_children()
    subprocess.run(command, check=True, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    return of_children() - start


def written(journal):
    """When the journal was last written."""
    try:
        return (journal / "state.gguf").stat().st_mtime_ns
    except FileNotFoundError:
        return None


def kill_after(command, journal, least):
    """Kills the run when `least` seconds have gone by and its journal was written. Returns its seconds, and those since the journal was written;
    None in the place of the latter if it came to its end."""
    before, start = written(journal), of_children()
    process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL)
    seen = None
    while process.poll() is None:
        now = of_running(process)
        if written(journal) != before:
            before, seen = written(journal), now
        if seen is not None and now >= least:
            process.kill()
            process.wait()
            return now, now - seen
        time.sleep(0.01)
    if process.returncode:
        raise SystemExit(f"exit code {process.returncode}")
    return of_children() - start, None


def main():
    """Parses the arguments, makes the model, runs everything."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kquant", required=True, type=Path, help="the program")
    parser.add_argument("--text", required=True, type=Path, help="calibration text")
    parser.add_argument("--kills", type=int, default=10, help="runs that are killed (default: %(default)s)")
    parser.add_argument("--quality", default="good", help="good or best (default: %(default)s)")
    parser.add_argument("--chunks", default="32", help="chunks of 512 tokens (default: %(default)s)")
    parser.add_argument("--shape", nargs=3, type=int, default=[2, 4096, 11008], metavar=("LAYERS", "HIDDEN", "FFN"), help="of the model (default: %(default)s)")
    parser.add_argument("--memory", default="8G", help="of each run (default: %(default)s)")
    parser.add_argument("--dir", type=Path, help="where to put the files (default: the system's temporary folder)")
    args = parser.parse_args()
    layers, hidden, ffn = args.shape
    shape = synthetic.Llama(hidden=hidden, ffn=ffn, layers=layers, heads=hidden // 128, kv_heads=hidden // 128, vocab=2048, context=512, tied=False)
    kquant, tally = Kquant(args.kquant), Tally()
    with tempfile.TemporaryDirectory(prefix="kquant-resume-", dir=args.dir) as scratch:
        model, whole, resumed = (Path(scratch) / name for name in ("model", "whole.gguf", "resumed.gguf"))
        model.mkdir()
        size = shape.write(model)
        common = [kquant.path, "quantize", model, "--type", "Q3_K_S", "--calibrate", args.text, "--chunks", args.chunks, "-c", "512"]
        common += ["--quality", args.quality, "--memory", args.memory, "--quiet"]
        undisturbed = finish([*common, "-o", whole])
        print(f"{size / 1e6:.0f} MB in bf16, {layers} layers of {hidden} x {ffn}: {undisturbed:.1f} s of the processors undisturbed", flush=True)
        journal, total, since, kills = Path(f"{resumed}.kquant-journal"), 0.0, 0.0, 0
        command = [*common, "-o", resumed]
        while kills < args.kills:
            seconds, lost = kill_after(command, journal, undisturbed / (args.kills + 1))
            total += seconds
            if lost is None:
                break
            since, kills = since + lost, kills + 1
            command = [*common, "-o", resumed, "--resume"]
        else:
            total += finish(command)
        first, second = (json.loads(kquant.run("hash", path, "--json"))[0]["sha256"] for path in (whole, resumed))
        tally.check("the same bytes", "" if first == second else f"{first} and {second}")
        tally.check("runs were killed", "" if kills else "none")
        beyond = total - undisturbed - since
        print(f"{kills} kills: {total:.1f} s altogether, {since:.1f} s of them after the last writing of the journal; beyond that {beyond:.1f} s, "
              f"{100 * beyond / undisturbed / max(kills, 1):.1f} % of the undisturbed time for each kill")
        return tally.close()


if __name__ == "__main__":
    sys.exit(main())
