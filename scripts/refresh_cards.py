#!/usr/bin/env python3
"""Writes tests/data/cards/*/expected.json: the keys that gguf-py makes of each model card.

A case is a folder with `case.json` (the model's folder name and number of weights; maybe `_name_or_path`, generation_config.json,
and the file of --metadata) and maybe README.md. Needs gguf and pyyaml: the environment that scripts/converter.sh makes, with
PYTHONPATH=FOLDER/gguf-py.
"""

import json
import tempfile
from pathlib import Path

import gguf
from program import DATA


def expected(case):
    """Keys in the file's order, without those that do not depend on the card."""
    facts = json.loads((case / "case.json").read_text())
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch) / facts["folder"]
        folder.mkdir()
        if (case / "README.md").exists():
            (folder / "README.md").write_bytes((case / "README.md").read_bytes())
        name = facts.get("_name_or_path")
        (folder / "config.json").write_text(json.dumps({"_name_or_path": name} if name else {}))
        if "generation" in facts:
            (folder / "generation_config.json").write_text(json.dumps(facts["generation"]))
        overrides = None
        if "metadata" in facts:
            overrides = Path(scratch) / "metadata.json"
            overrides.write_text(json.dumps(facts["metadata"]))
        metadata = gguf.Metadata.load(overrides, folder, None, facts["parameters"])
    if metadata.size_label is None:
        metadata.size_label = gguf.size_label(facts["parameters"], facts["parameters"], 0, 0)
    writer = gguf.GGUFWriter(None, "llama")
    metadata.set_gguf_meta_model(writer)
    # The writer cannot store empty lists.
    keys = {key: value.value for key, value in writer.kv_data[0].items() if value.value != []}
    keys.pop("general.architecture")
    return keys


def main():
    for case in sorted((DATA / "cards").iterdir()):
        text = json.dumps(expected(case), indent=1, ensure_ascii=False)
        (case / "expected.json").write_text(text + "\n")
        print(case.name)


if __name__ == "__main__":
    main()
