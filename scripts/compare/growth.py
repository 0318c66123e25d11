"""How time and memory grow with the model: bf16 safetensors to Q4_K_M at 0.1, 0.3, 1 and 3 B parameters.

kquant goes the whole way in one step, with `--memory` as given here; llama_model_quantize starts from a BF16 GGUF, so that its
conversion is not counted. Medians of alternating runs, the highest memory; as in `quantize`. Prints a table, and
draws it with --svg. About 20 GB of disk for the largest model; each model's files go before the next, unless there is
--models.
"""

import shutil

from compare import models
from compare.plot import Line, Panel, drawing
from compare.quantization import Comparison, Task
from compare.runs import MB, Runs, into_cache, note, table

COLUMNS = ["model", "M parameters", "llama.cpp s", "kquant s", "ratio", "llama.cpp MB", "anonymous", "kquant MB", "anonymous", "tensors"]
QUICK = ("0.1B", "0.3B")


def measure(kquant, folder, name, args, itself):
    """One size: number of parameters, runs of llama.cpp and of kquant, the word on their tensors, what was not equal."""
    files = models.Files(kquant, folder, f"growth-{name}", models.GROWTH[name])
    comparison, peer, ours = Comparison(kquant, files, args, itself), Runs("llama.cpp"), Runs("kquant")
    checkpoint, full = files.checkpoint(), files.gguf("BF16")
    task = Task(checkpoint, "Q4_K_M", False)
    for run in range(args.runs):
        into_cache(full)
        comparison.peer(task, full, peer)
        into_cache(checkpoint / "model.safetensors")
        comparison.ours(task, ours, comparison.outputs[1], "--memory", args.memory)
        note(f"{name} {run + 1}/{args.runs}: llama.cpp {peer.seconds[-1]:.2f} s, kquant {ours.seconds[-1]:.2f} s")
    word = comparison.equal(name, comparison.outputs[1:2])
    for output in comparison.outputs:
        output.unlink(missing_ok=True)
    if not args.models:
        shutil.rmtree(files.folder)
    return files.parameters(), peer, ours, word, comparison.failures


def panels(sizes, memory):
    """The drawing's: time, and memory, over billions of parameters."""
    def points(of):
        return [(parameters / 1e9, of(peer, ours)) for parameters, peer, ours, *_ in sizes]

    times = points(lambda peer, ours: ours.time())
    (x, y), last = times[-1], times[0][0]
    label = "billions of parameters"
    return [
        Panel("Time, bf16 safetensors to Q4_K_M", label, "s", [
            Line("kquant", times),
            Line("llama-quantize (from GGUF)", points(lambda peer, ours: peer.time()), colour=1),
            Line("proportional", [(last, y * last / x), (x, y)], guide=True),
        ]),
        Panel("Peak memory", label, "MB", [
            Line(f"kquant --memory {memory}", points(lambda peer, ours: max(ours.resident) / MB)),
            Line("llama-quantize", points(lambda peer, ours: max(peer.resident) / MB), colour=1),
            Line("anonymous pages", points(lambda peer, ours: max(ours.anonymous) / MB), dashed=True),
            Line("anonymous pages", points(lambda peer, ours: max(peer.anonymous) / MB), colour=1, dashed=True),
        ]),
    ]  # fmt: skip


def compare(kquant, folder, args, itself):
    """Measures every size, prints the table, draws; returns what was not equal."""
    names = args.sizes or (QUICK if args.quick else tuple(models.GROWTH))
    sizes = [measure(kquant, folder, name, args, itself) for name in names]
    print(f"bf16 to Q4_K_M, {args.threads} threads, kquant with --memory {args.memory}, medians of {args.runs}\n")
    rows = []
    for name, (parameters, peer, ours, word, _) in zip(names, sizes, strict=True):
        cells = [f"{peer.time():.2f}", f"{ours.time():.2f}", f"{peer.time() / ours.time():.2f}", *peer.peaks(), *ours.peaks()]
        rows.append([name, f"{parameters / 1e6:.0f}", *cells, word])
    table(COLUMNS, rows)
    if args.svg:
        args.svg.write_text(drawing(panels(sizes, args.memory)))
        note(f"{args.svg} is drawn")
    return [failure for *_, failures in sizes for failure in failures]
