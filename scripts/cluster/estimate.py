#!/usr/bin/env python3
"""What a model needs in time, memory, disk and network when several machines share the work, from rates measured on one.

The rates per core are those of docs/results.md (two threads of an AMD EPYC with AVX-512); give those of your machines, or a factor.
Time is that of the slower of processors and storage. Prints the table of docs/clusters.md.

    scripts/cluster/estimate.py [--machines 1 8 32] [--cores 16] [--storage 1.0] [--factor 1.0]
"""

import argparse
import dataclasses

# Weights per second and core, and FLOP/s per core, of docs/results.md: half of what two threads did.
PLAIN = 652e6 / 3.95 / 2  # Q4_K from F16 with importance
FORWARD = 2 * 202e6 * 32768 / 70 / 2  # calibrate in f32
ROUNDED = 202e6 / (62 + 5) / 2  # feedback over columns by a statistics file
SEQUENTIAL = 202e6 / 266 / 2  # quantize --calibrate, good, all of it for 32,768 tokens

BITS = 4.85  # of a weight in Q4_K_M
TOKENS = 131_072


@dataclasses.dataclass
class Shape:
    """A model: weights, those that a token meets, and the widths of a layer's inputs with the number of such inputs."""

    name: str
    weights: float
    active: float
    layers: int
    widths: tuple  # (columns, how many inputs of this width in a layer)

    def statistics(self):
        """Bytes of a statistics file: two triangles in f64 for each input."""
        return 8 * self.layers * sum(count * columns * (columns + 1) for columns, count in self.widths)


MODELS = [
    Shape("70 B, dense (80 layers of 8192 x 28672)", 70.6e9, 70.6e9, 80, ((8192, 3), (28672, 1))),
    Shape("1 T, 384 experts (61 layers of 7168 x 2048)", 1.03e12, 32e9, 61, ((7168, 2), (8192, 1), (2048, 384))),
]


def clock(seconds):
    """Seconds, minutes or hours in words."""
    for unit, size in (("h", 3600), ("min", 60)):
        if seconds >= 1.5 * size:
            return f"{seconds / size:.{0 if seconds >= 10 * size else 1}f} {unit}"
    return f"{seconds:.0f} s"


def amount(size):
    """Bytes in words, in powers of 1000."""
    return f"{size / 1e12:.2f} TB" if size >= 1e12 else f"{size / 1e9:.0f} GB"


def rows(model, machines, args):
    """The lines of the table for one model on so many machines."""
    rate, cores = args.factor * args.cores * machines, args.storage * 1e9
    source, result = 2 * model.weights, model.weights * BITS / 8
    whole = source / cores  # every machine reads all of the model
    share = (source + result) / machines / cores
    yield "encode, importance (`quantize --part`)", max(model.weights / PLAIN / rate, share), source + result
    yield "assemble", 2 * result / cores, 2 * result
    flops = 2 * model.active * TOKENS
    yield f"importance of {TOKENS:,} tokens (`calibrate --part`)", max(flops / FORWARD / rate, whole), machines * source
    file = model.statistics()
    per_part = (source / machines + file / machines + result / machines) / cores
    yield "encode, feedback by statistics (`quantize --part --statistics`)", max(model.weights / ROUNDED / rate, per_part), source + file + result


def main():
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--machines", type=int, nargs="+", default=[1, 8, 32], help="how many (default: 1 8 32)")
    parser.add_argument("--cores", type=int, default=16, help="of each (default: %(default)s)")
    parser.add_argument("--storage", type=float, default=1.0, help="GB/s that each machine reads and writes (default: %(default)s)")
    parser.add_argument("--factor", type=float, default=1.0, help="speed of a core beside the measured one (default: %(default)s)")
    args = parser.parse_args()
    print(f"Machines of {args.cores} cores, storage {args.storage:g} GB/s for each.\n")
    for model in MODELS:
        print(f"{model.name}: {amount(2 * model.weights)} in bf16, {amount(model.weights * BITS / 8)} in Q4_K_M, "
              f"statistics with Hessians {amount(model.statistics())}\n")  # fmt: skip
        columns = [dict((name, (time, moved)) for name, time, moved in rows(model, n, args)) for n in args.machines]
        heads = [f"{n} machine{'s' if n > 1 else ''}" for n in args.machines]
        print(f"| step | {' | '.join(heads)} | moved, with {heads[-1]} |\n|---|{'--:|' * (len(heads) + 1)}")
        for name in columns[0]:
            print(f"| {name} | {' | '.join(clock(column[name][0]) for column in columns)} | {amount(columns[-1][name][1])} |")
        sequential = model.weights / SEQUENTIAL / (args.factor * args.cores)
        print(f"| `quantize --calibrate` in one piece, good, 32,768 tokens | {clock(sequential)} |{' |' * len(heads)}\n")


if __name__ == "__main__":
    main()
