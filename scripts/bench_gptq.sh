#!/usr/bin/env bash
# Builds kquant, then times a calibrated quantization beside its forward pass; for options see bench_gptq.py --help.
set -euo pipefail
cd "$(dirname "$0")/.."
cargo build --release --locked --quiet
exec python3 scripts/bench_gptq.py --kquant "${CARGO_TARGET_DIR:-target}/release/kquant" "$@"
