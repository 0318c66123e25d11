#!/usr/bin/env bash
# Builds the wheel, installs it into a fresh virtual environment, and has the program that is found there quantize and verify a model.
# The wheel lies in target/wheels then. PROFILE is cargo's, release by default.
#     scripts/wheel.sh [PROFILE]
set -euo pipefail
cd "$(dirname "$0")/.."
profile=${1:-release}
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
python3 -m venv "$scratch/build"
"$scratch/build/bin/pip" install --quiet --disable-pip-version-check 'maturin>=1.9,<2'
rm -f target/wheels/kquant-*.whl
"$scratch/build/bin/maturin" build --quiet --profile "$profile" --out target/wheels
python3 -m venv "$scratch/fresh"
"$scratch/fresh/bin/pip" install --quiet --disable-pip-version-check --no-index target/wheels/kquant-*.whl
kquant=$scratch/fresh/bin/kquant
"$kquant" --version
"$kquant" quantize tests/data/tiny-llama -o "$scratch/q4.gguf" --type Q4_K_M --quiet
"$kquant" hash "$scratch/q4.gguf" >"$scratch/q4.sha256"
"$kquant" verify "$scratch/q4.gguf" --manifest "$scratch/q4.sha256"
ls -l target/wheels/kquant-*.whl
