"""The first of llama.cpp's two steps from a checkpoint: conversion to a 16-bit GGUF."""

from compare.runs import Runs, quiet_run

SCRIPT = "convert_hf_to_gguf.py"


class Converter:
    """convert_hf_to_gguf.py, or the stand-in where there is none."""

    def __init__(self, files, args, itself):
        self.checkpoint, self.output = files.checkpoint(), files.folder / "converted.gguf"
        if args.converter:
            python = args.converter / "venv" / "bin" / "python"
            script = args.converter / SCRIPT
            for path in (python, script):
                if not path.exists():
                    raise SystemExit(f"{path} is missing; scripts/converter.sh makes such a folder")
            self.name, self.remark = SCRIPT, ""
            self.command = [python, script, self.checkpoint, "--outfile", self.output, "--outtype", "bf16"]
        else:
            self.name = f"stand-in for {SCRIPT}"
            self.remark = "The stand-in writes the same tensors by numpy without torch: less work than the real conversion."
            self.command = [*itself, "convert", self.checkpoint, files.gguf("BF16"), self.output]
        self.runs = Runs(self.name)

    def run(self):
        """Converts; returns the GGUF."""
        self.output.unlink(missing_ok=True)
        self.runs.add_watched(quiet_run(self.command))
        return self.output
