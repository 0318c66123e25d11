#!/usr/bin/env python3
"""Parts as tasks of HyperQueue, and their assembly behind them.

Variables are those of part.sh beside this file; --local starts a server and workers in this program, otherwise the server is the one in
HQ_SERVER_DIR. With HyperQueue's own program the same is

    hq submit --array 1-32 --cpus 8 --env MODEL=... --env PARTS=... --env OPTIONS=... --env COUNT=32 scripts/cluster/part.sh

Needs the package hyperqueue (requirements-cluster.txt).

    MODEL=... PARTS=parts OPTIONS="--type Q4_K_M" scripts/cluster/hq.py --parts 32 --out model.gguf
"""

import argparse
import contextlib
import os
import sys
from pathlib import Path

from hyperqueue import Client, Job, LocalCluster
from hyperqueue.cluster import WorkerConfig
from hyperqueue.ffi.protocol import ResourceRequest

PART = Path(__file__).resolve().parent / "part.sh"
NAMES = ["MODEL", "PARTS", "OPTIONS", "KQUANT", "KQUANT_ARGS", "PATH"]


@contextlib.contextmanager
def client_of(args):
    """A client of the server, which ends with it where it is our own."""
    if not args.local:
        yield Client()
        return
    with LocalCluster() as cluster:
        for _ in range(args.local):
            cluster.start_worker(WorkerConfig(cores=args.cpus))
        yield cluster.client()


def main():
    """Submits the tasks and waits for them."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", type=int, required=True, help="number of parts")
    parser.add_argument("--out", type=Path, required=True, help="the GGUF to write")
    parser.add_argument("--cpus", type=int, default=1, help="cores of each task (default: %(default)s)")
    parser.add_argument("--local", type=int, metavar="WORKERS", help="start a server and so many workers here")
    args = parser.parse_args()
    env = {name: os.environ[name] for name in NAMES if name in os.environ}
    job = Job()
    logs = Path(env["PARTS"]).resolve() / "logs"
    logs.mkdir(parents=True, exist_ok=True)
    common = {"env": env, "stdout": str(logs / "%{TASK_ID}.out"), "stderr": str(logs / "%{TASK_ID}.err")}
    needs = ResourceRequest(cpus=args.cpus)
    tasks = range(1, args.parts + 1)
    parts = [job.program([str(PART), str(part), str(args.parts)], resources=needs, **common) for part in tasks]
    assembly = [env.get("KQUANT", "kquant"), "assemble", env["PARTS"], "-o", str(args.out.resolve()), "--force"]
    job.program(assembly, deps=parts, **common)
    with client_of(args) as client:
        client.wait_for_jobs([client.submit(job)])


if __name__ == "__main__":
    sys.exit(main())
