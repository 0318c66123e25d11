#!/usr/bin/env python3
"""Runs a model in parts as each scheduler of scripts/cluster does, and compares the assembled files with that of one run.

Slurm is played by a program that sets the variables of an array's tasks, Kubernetes by the command and the variables of its job, whose
description is held against the schema of Kubernetes. HyperQueue is real: a server and two workers, killed in the middle with all that they
run, and started again. The model is a synthetic Llama. Needs requirements-cluster.txt; Linux only. Ends with `N passed, M failed`.
"""

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import kubernetes_validate
import synthetic
import yaml
from program import Kquant, Tally

CLUSTER = Path(__file__).resolve().parent / "cluster"
OPTIONS = "--type Q4_K_M --encoder search"
PARTS = 8

# What plays sbatch: runs the tasks of an array, each with its variables, or the command of --wrap.
SBATCH = """#!/usr/bin/env bash
set -euo pipefail
wrap='' array='' script=''
while [ $# -gt 0 ]; do
    case $1 in
    --wrap) wrap=$2; shift ;;
    --array=*) array=${1#*=} ;;
    --*) ;;
    *) script=$1 ;;
    esac
    shift
done
if [ -n "$wrap" ]; then exec bash -c "$wrap"; fi
first=${array%-*} last=${array#*-}
for task in $(seq "$first" "$last"); do
    SLURM_ARRAY_TASK_ID=$task SLURM_ARRAY_TASK_MIN=$first SLURM_ARRAY_TASK_COUNT=$((last - first + 1)) "$script" >&2
done
echo 4711
"""


class Cluster:
    """A model, its file of one run, and what all schedulers get."""

    def __init__(self, kquant, scratch):
        self.kquant, self.scratch = kquant, scratch
        self.model = scratch / "model"
        self.model.mkdir()
        synthetic.Llama(hidden=768, ffn=2048, layers=8, heads=12, kv_heads=12, vocab=2048, context=512, tied=False).write(self.model)
        whole = kquant.run("quantize", self.model, "-o", scratch / "whole.gguf", *OPTIONS.split(), "--quiet", "--json")
        self.expected = yaml.safe_load(whole)["files"][0]["sha256"]

    def variables(self, name):
        """The environment of a run whose parts go to the folder `name`."""
        return {**os.environ, "MODEL": str(self.model), "PARTS": str(self.scratch / name), "OPTIONS": OPTIONS, "KQUANT": str(self.kquant.path), "KQUANT_ARGS": "--quiet"}

    def difference(self, out):
        """What differs from the file of one run; empty if nothing does."""
        found = yaml.safe_load(self.kquant.run("hash", out, "--json"))[0]["sha256"]
        return "" if found == self.expected else f"{found} is not {self.expected}"

    def assembled(self, name):
        """Assembles the parts of the folder `name` and compares the file."""
        out = self.scratch / f"{name}.gguf"
        self.kquant.run("assemble", self.scratch / name, "-o", out, "--quiet")
        return self.difference(out)


def slurm(cluster, tally):
    """slurm.sh, with the program above for sbatch."""
    player = cluster.scratch / "bin" / "sbatch"
    player.parent.mkdir()
    player.write_text(SBATCH)
    player.chmod(0o755)
    out = cluster.scratch / "slurm.gguf"
    env = {**cluster.variables("slurm"), "OUT": str(out), "PATH": f"{player.parent}:{os.environ['PATH']}"}
    subprocess.run([CLUSTER / "slurm.sh", str(PARTS)], env=env, check=True, stdout=subprocess.DEVNULL)
    tally.check("slurm.sh", cluster.difference(out))


def kubernetes(cluster, tally):
    """The job's schema; its command with its variables; its exit code for what can never be."""
    job = yaml.safe_load((CLUSTER / "kubernetes.yaml").read_text())
    try:
        kubernetes_validate.validate(job, "1.33", strict=True)
        fault = ""
    except kubernetes_validate.ValidationError as error:
        fault = str(error)
    tally.check("kubernetes.yaml has the schema of 1.33", fault)
    container, spec = job["spec"]["template"]["spec"]["containers"][0], job["spec"]
    said = {entry["name"]: entry["value"] for entry in container["env"]}
    tally.check("as many parts as completions", "" if said["COUNT"] == str(spec["completions"]) else said["COUNT"])
    here = {**said, **cluster.variables("kubernetes")}
    command = [CLUSTER / Path(container["command"][0]).name]
    for index in range(spec["completions"]):
        subprocess.run(command, env={**here, "JOB_COMPLETION_INDEX": str(index)}, check=True, stdout=subprocess.DEVNULL)
    tally.check("kubernetes: indices 0 to 31", cluster.assembled("kubernetes"))
    never = {**here, "JOB_COMPLETION_INDEX": "0", "OPTIONS": "--type Q4_K_X"}
    code = subprocess.run(command, env=never, check=False, capture_output=True).returncode
    codes = spec["podFailurePolicy"]["rules"][0]["onExitCodes"]["values"]
    tally.check("a wrong option fails its index", "" if code in codes else f"exit code {code}, not in {codes}")


def started_by(folder):
    """The processes that a scheduler has started for the parts in `folder`."""
    for entry in Path("/proc").iterdir():
        try:
            command = (entry / "cmdline").read_bytes().split(b"\0")
        except (NotADirectoryError, FileNotFoundError, ProcessLookupError):
            continue
        if entry.name.isdigit() and str(folder).encode() in command:
            yield int(entry.name)


def hyperqueue(cluster, tally):
    """A server and two workers, killed when some parts are there, and started again."""
    folder, out = cluster.scratch / "hyperqueue", cluster.scratch / "hyperqueue.gguf"
    command = [sys.executable, CLUSTER / "hq.py", "--parts", str(PARTS), "--out", out, "--local", "2"]
    process = subprocess.Popen(command, env=cluster.variables("hyperqueue"), start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    while len(list(folder.glob("part-*.json"))) < 2 and process.poll() is None:
        time.sleep(0.01)
    process.kill()
    process.wait()
    for task in started_by(folder):
        os.kill(task, signal.SIGKILL)
    before = {path.name: path.stat().st_mtime_ns for path in folder.glob("part-*.gguf")}
    tally.check("killed in the middle", "" if 2 <= len(before) < PARTS else f"{len(before)} of {PARTS} parts were there")
    again = subprocess.run(command, env=cluster.variables("hyperqueue"), check=False, capture_output=True, text=True)
    tally.check("started again", "" if again.returncode == 0 else again.stderr[-500:])
    kept = [name for name, made in before.items() if (folder / name).stat().st_mtime_ns == made]
    tally.check("complete parts were left", "" if len(kept) >= 2 else f"only {kept}")
    tally.check("hyperqueue, killed and started again", cluster.difference(out) if out.exists() else "no file")


def main():
    """Parses the arguments, runs everything."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kquant", required=True, type=Path, help="the program")
    args = parser.parse_args()
    tally = Tally()
    with tempfile.TemporaryDirectory(prefix="kquant-cluster-") as scratch:
        cluster = Cluster(Kquant(args.kquant), Path(scratch))
        slurm(cluster, tally)
        kubernetes(cluster, tally)
        hyperqueue(cluster, tally)
    return tally.close()


if __name__ == "__main__":
    sys.exit(main())
