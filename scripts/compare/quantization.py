"""Time and memory of `kquant quantize` beside llama_model_quantize.

F16 GGUF to each type (--pure), with an importance matrix too, on request to the i-quants below 4 bits (--types
IQ2_XS ..., of a smaller model with --small), and bf16 safetensors to Q4_K_M in one step beside conversion and
llama-quantize. Both programs have the same number of threads and take turns; the tables have medians, and the highest
memory. kquant's time is that of the whole program, llama.cpp's that of llama_model_quantize alone, and its memory is what
that adds to Python's. Before each run dirty pages are written out; the input is in the page cache. Tensors of both outputs must
be equal, and those of another run of kquant with --memory 128M, whose memory the last columns have.
Conversion is convert_hf_to_gguf.py where --converter names its folder (scripts/converter.sh makes one), its whole time and
memory; else a stand-in in numpy that does less. About 5 GB of disk.
"""

import json
from dataclasses import dataclass

from compare import models
from compare.convert import Converter
from compare.runs import MB, Runs, into_cache, note, quiet_run, table
from program import difference

SMALL = "128M"
WEIGHTED = ("Q4_K", "Q5_K", "Q2_K")
PLAIN = (*WEIGHTED, "Q6_K", "Q3_K", "IQ4_XS", "Q8_0", "Q4_0")
# Only when asked for: llama.cpp takes minutes. With importance alone, which most of them need.
CODEBOOKS = ("IQ1_S", "IQ1_M", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ3_XXS", "IQ3_S")
COPIED = ("Q8_0", "Q4_0")  # so quick that they are held against cp
FILE_TYPES = {"Q4_K": "Q4_K_S", "Q5_K": "Q5_K_S", "Q3_K": "Q3_K_S", "IQ2_S": "IQ2_M"}  # what llama.cpp calls a file of that type alone
TIMES = ["llama.cpp s", "kquant s", "ratio", "llama.cpp CPU s", "kquant CPU s", "ratio", "kquant M weights/s"]
MEMORY = ["llama.cpp MB", "anonymous", "kquant MB", "anonymous", f"MB, {SMALL}", "anonymous"]
COLUMNS = ["task", *TIMES, *MEMORY, "tensors"]


@dataclass(frozen=True)
class Task:
    """One line of the table."""

    source: object  # of both
    file_type: str
    pure: bool
    importance: object = None
    ends: str = ""  # type of embedding and output, if another


class Comparison:
    """Both programs on one model."""

    def __init__(self, kquant, files, args, itself):
        self.kquant, self.files, self.args, self.itself = kquant, files, args, itself
        self.outputs = [files.folder / f"out.{name}.gguf" for name in ("llama.cpp", "kquant", "small")]
        self.failures, self.system = [], ""

    def peer(self, task, source, runs):
        """One run of llama_model_quantize."""
        output = self.outputs[0]
        output.unlink(missing_ok=True)
        pure = "pure" if task.pure else "mixed"
        words = [source, output, task.file_type, self.args.threads, pure, task.ends, task.importance or ""]
        run = quiet_run([*self.itself, "quantize", *words])
        told = json.loads(run.stdout)
        self.system = told["system"]
        peaks = run.peaks["VmHWM"] - told["resident"], run.anonymous() - told["anonymous"]
        runs.add(told["seconds"], told["cpu"], *peaks)

    def ours(self, task, runs, output, *more):
        """One run of kquant."""
        output.unlink(missing_ok=True)
        command = [self.kquant.path, "quantize", task.source, "-o", output, "--type", task.file_type, "--encoder", "ggml"]
        command += ["--pure"] * task.pure + (["--imatrix", task.importance] if task.importance else [])
        command += ["--output-tensor-type", task.ends, "--token-embedding-type", task.ends] if task.ends else []
        run = quiet_run([*command, "--threads", self.args.threads, "--quiet", *self.args.more, *more])
        runs.add_watched(run)

    def line(self, name, task, convert=None):
        """Runs both programs alternately; returns the table's line and the runs. `convert` makes llama.cpp's source."""
        peer, ours, small = Runs("llama.cpp"), Runs("kquant"), Runs(SMALL)
        if task.source.is_file():
            into_cache(task.source)
        for run in range(self.args.runs):
            self.peer(task, convert() if convert else task.source, peer)
            self.ours(task, ours, self.outputs[1])
            note(f"{name} {run + 1}/{self.args.runs}: llama.cpp {peer.seconds[-1]:.2f} s, kquant {ours.seconds[-1]:.2f} s")
        self.ours(task, small, self.outputs[2], "--memory", SMALL)
        cells = [f"{peer.time():.2f}", f"{ours.time():.2f}", f"{peer.time() / ours.time():.2f}"]
        cells += [f"{peer.cpu_time():.2f}", f"{ours.cpu_time():.2f}", f"{peer.cpu_time() / ours.cpu_time():.2f}"]
        cells += [f"{self.files.parameters() / ours.time() / 1e6:.1f}", *peer.peaks(), *ours.peaks(), *small.peaks()]
        return [name, *cells, self.equal(name, self.outputs[1:])], peer, ours

    def equal(self, name, ours):
        """A word for the table: whether kquant's files have the tensors of llama.cpp's, by type and SHA-256."""
        import stock  # noqa: PLC0415: needs the packages

        peer = stock.tensors(self.outputs[0])
        problem = "; ".join(filter(None, (difference(peer, stock.tensors(path)) for path in ours)))
        if problem:
            self.failures.append(f"{name}: {problem}")
        return "DIFFER" if problem else "equal"

    def quantized(self):
        """The tables of the types; prints them."""
        source, rows, copies = self.files.gguf("F16"), [], []
        for importance in (None, self.files.importance()):
            kinds = (*WEIGHTED, *CODEBOOKS) if importance else PLAIN
            for kind in kinds:
                if kind not in (self.args.types or (*WEIGHTED, *PLAIN)):
                    continue
                name = f"F16 to {kind}{', importance' if importance else ''}"
                ends = "Q8_0" if kind in CODEBOOKS else ""  # importance of them is seldom known, and these types need it
                task = Task(source, FILE_TYPES.get(kind, kind), True, importance, ends)
                row, peer, ours = self.line(name, task)
                rows.append(row)
                if kind in COPIED:
                    copies.append(self.copied(kind, source, peer, ours))
        table(COLUMNS, rows)
        if copies:
            copied = ["cp s", "cp, sync s", "llama.cpp s", "kquant s", "kquant's speed / cp's", "/ cp, sync"]
            table(["input plus output", *copied], copies)

    def copied(self, kind, source, peer, ours):
        """A line of the table of copies: both files, one after the other."""
        plain, synced = Runs("cp"), Runs("cp, sync")
        target = self.files.folder / "copy.gguf"
        for _ in range(self.args.runs):
            for runs, end in ((plain, ""), (synced, ' && sync "$3"')):
                # cp of the input, then of the output, each to a new file.
                copy = f'rm -f "$3" && cp "$1" "$3"{end} && rm "$3" && cp "$2" "$3"{end}'
                target.unlink(missing_ok=True)
                runs.add_watched(quiet_run(["sh", "-c", copy, "copy", source, self.outputs[1], target]))
        target.unlink()
        size = (source.stat().st_size + self.outputs[1].stat().st_size) / MB
        cells = [f"{runs.time():.2f}" for runs in (plain, synced, peer, ours)]
        return [f"{kind}, {size:.0f} MB", *cells, *(f"{runs.time() / ours.time():.2f}" for runs in (plain, synced))]

    def converted(self):
        """The table of the way from a checkpoint; prints it."""
        source = self.files.checkpoint()
        into_cache(source / "model.safetensors")
        converter = Converter(self.files, self.args, self.itself)
        row, peer, ours = self.line("bf16 safetensors to Q4_K_M", Task(source, "Q4_K_M", False), converter.run)
        size = converter.output.stat().st_size / MB
        steps = [(converter.name, converter.runs), ("llama_model_quantize", peer), ("kquant, one step", ours)]
        whole = converter.runs.time() + peer.time()
        rows = [[name, f"{r.time():.2f}", f"{r.cpu_time():.2f}", *r.peaks(), f"{whole / r.time():.2f}"] for name, r in steps]
        table(["bf16 safetensors to Q4_K_M", "s", "CPU s", "peak MB", "of it anonymous", "both steps / this"], rows)
        print(f"Tensors: {row[-1]}; peak of kquant with --memory {SMALL}: {row[-3]} MB, {row[-2]} MB of it anonymous. "
              f"The file between llama.cpp's steps has {size:.0f} MB. {converter.remark}\n")  # fmt: skip


def compare(kquant, folder, args, itself):
    """Makes the models, measures everything, prints the tables; returns what was not equal."""
    files = models.main(kquant, folder, args.quick, args.small)
    comparison = Comparison(kquant, files, args, itself)
    more = f", kquant with {' '.join(args.more)}" if args.more else ""
    print(f"{files.parameters() / 1e6:.0f} M parameters, {args.threads} threads, medians of {args.runs}{more}\n")
    comparison.quantized()
    if not args.types or "Q4_K_M" in args.types:
        comparison.converted()
    print(f"llama.cpp: {comparison.system}")
    for output in comparison.outputs:
        output.unlink(missing_ok=True)
    return comparison.failures
