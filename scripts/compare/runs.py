"""What was measured of programs that take turns, and tables of it."""

import os
import statistics
import sys

import synthetic

MB = 1_000_000


class Runs:
    """What was measured of one program at one task."""

    def __init__(self, program):
        self.program, self.seconds, self.cpu, self.resident, self.anonymous = program, [], [], [], []

    def add(self, seconds, cpu, resident, anonymous):
        """Adds one run: seconds, CPU seconds of all threads, peaks of all and of anonymous memory in bytes."""
        self.seconds.append(seconds)
        self.cpu.append(cpu)
        self.resident.append(resident)
        self.anonymous.append(anonymous)

    def add_watched(self, run):
        """Adds a program's whole run."""
        self.add(run.seconds, run.cpu, run.peaks["VmHWM"], run.anonymous())

    def time(self):
        """Median of the seconds."""
        return statistics.median(self.seconds)

    def cpu_time(self):
        """Median of the CPU seconds."""
        return statistics.median(self.cpu)

    def peaks(self):
        """Cells: the highest memory, all and anonymous, in MB."""
        return [f"{max(values) / MB:.0f}" for values in (self.resident, self.anonymous)]


def quiet_run(args):
    """Runs a program when nothing is left to be written of what ran before it."""
    os.sync()
    return synthetic.watched(args)


def into_cache(path):
    """Reads a file, so that the first to be measured finds it in the page cache as the others do."""
    with open(path, "rb", buffering=0) as file:
        while file.read(1 << 24):
            pass


def table(columns, rows):
    """Prints a Markdown table; the first column holds words, the others numbers."""
    print(f"| {' | '.join(columns)} |")
    print(f"|---|{'--:|' * (len(columns) - 1)}")
    for row in rows:
        print(f"| {' | '.join(row)} |")
    print(flush=True)


def note(text):
    """Tells how far the script is."""
    print(text, file=sys.stderr, flush=True)
