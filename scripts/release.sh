#!/usr/bin/env bash
# Builds what a release has: the program for x86-64 and for 64-bit Arm (Linux), the wheel, manual and completions, and their SHA-256 sums, in
# target/dist. The Arm program is run in qemu, and must make the bytes that the other one makes. Needs what test_aarch64.sh needs.
#     scripts/release.sh
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/aarch64.sh

version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -n 1)
build=${CARGO_TARGET_DIR:-target}
dist=$build/dist
rm -rf "$dist"
mkdir -p "$dist"

# archive PROGRAM ARCHITECTURE: program, licences, manual and completions as one file, the same bytes each time.
archive() {
    local name=kquant-$version-$2-linux
    local folder=$dist/$name
    mkdir -p "$folder/completions"
    cp "$1" README.md LICENSE NOTICE CHANGELOG.md "$folder"
    "$build/release/kquant" man -o "$folder/man"
    local shell
    for shell in bash zsh fish; do
        "$build/release/kquant" completions "$shell" >"$folder/completions/kquant.$shell"
    done
    tar -C "$dist" --sort=name --owner=0 --group=0 --numeric-owner --mtime="@${SOURCE_DATE_EPOCH:-0}" -czf "$dist/$name.tar.gz" "$name"
    rm -r "$folder"
}

cargo build --release --locked
(
    arm_environment
    cargo build --release --locked --target "$arm"
)
program=$build/aarch64/$arm/release/kquant
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
"$build/release/kquant" quantize tests/data/tiny-llama -o "$scratch/x86-64.gguf" --type Q4_K_M --quiet
qemu-aarch64-static -L / "$program" quantize tests/data/tiny-llama -o "$scratch/aarch64.gguf" --type Q4_K_M --quiet
cmp "$scratch/x86-64.gguf" "$scratch/aarch64.gguf"
archive "$build/release/kquant" x86-64
archive "$program" aarch64
scripts/wheel.sh
cp target/wheels/kquant-*.whl "$dist"
(cd "$dist" && sha256sum ./* >SHA256SUMS && cat SHA256SUMS)
