#!/usr/bin/env bash
# Makes a folder with llama.cpp's convert_hf_to_gguf.py and a virtual environment to run it in, for `compare_llamacpp.py
# --converter FOLDER`. Script and versions are those in the sdist of llama-cpp-python; torch comes from the index that pip is
# configured with: PyPI's has CUDA, 5 GB in all.
#     scripts/converter.sh FOLDER
set -euo pipefail
folder=${1:?"usage: scripts/converter.sh FOLDER"}
pinned=$(grep '^llama-cpp-python==' "$(dirname "$0")/requirements.txt")
mkdir -p "$folder"
python3 -m venv "$folder/venv"
pip=("$folder/venv/bin/pip" --disable-pip-version-check --no-input)
sdist=$(mktemp -d)
trap 'rm -rf "$sdist"' EXIT
"${pip[@]}" download --quiet --no-deps --no-binary llama-cpp-python --dest "$sdist" "$pinned"
tar -xzf "$sdist"/*.tar.gz -C "$folder" --strip-components=3 --wildcards '*/vendor/llama.cpp/convert_hf_to_gguf.py' \
    '*/vendor/llama.cpp/conversion/*' '*/vendor/llama.cpp/gguf-py/*' '*/vendor/llama.cpp/requirements/*'
# Without the lines that name an index or another file.
cat "$folder"/requirements/requirements-convert_{hf_to_gguf,legacy_llama}.txt | grep -v '^-' >"$sdist/requirements.txt"
"${pip[@]}" install --quiet -r "$sdist/requirements.txt" pyyaml
"$folder/venv/bin/python" "$folder/convert_hf_to_gguf.py" --help >/dev/null
echo "$folder"
