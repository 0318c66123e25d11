#!/usr/bin/env bash
# Runs the tests of kernels/ and formats/ as 64-bit Arm programs, in qemu, with what aarch64.sh installs. Arguments go to `cargo test`, after them those to the tests:
#     scripts/test_aarch64.sh -p kquant-kernels --test it -- q4_k
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/aarch64.sh

arm_environment
packages=(-p kquant-kernels -p kquant-formats)
for argument in "$@"; do
    case $argument in
        -p | --package | --package=*) packages=() ;;
        --) break ;;
    esac
done
start=$SECONDS
cargo test --release --locked --target "$arm" --lib --tests "${packages[@]}" "$@"
printf 'on %s, in %d s\n' "$arm" "$((SECONDS - start))"
