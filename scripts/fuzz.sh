#!/usr/bin/env bash
# Runs every target of fuzz/ under libFuzzer and AddressSanitizer for so many seconds, then says what each did. Needs cargo-fuzz
# and the stable toolchain, whose sanitizer RUSTC_BOOTSTRAP lets be used. A crash ends the run with the file that makes it; put its bytes into a test.
#
#     scripts/fuzz.sh SECONDS [TARGET...]       the readers
#     scripts/fuzz.sh asan                      the tests of the kernels under AddressSanitizer
#
# Compiled files go to CARGO_TARGET_DIR or fuzz/target, inputs that reach new code to KQUANT_CORPUS or fuzz/corpus.
set -euo pipefail
cd "$(dirname "$0")/.."
export RUSTC_BOOTSTRAP=1
triple=x86_64-unknown-linux-gnu

if [ "${1:-}" = asan ]; then
    # In folders of its own, as other flags make other files.
    CARGO_TARGET_DIR=${CARGO_TARGET_DIR:-fuzz/target}/asan RUSTFLAGS=-Zsanitizer=address \
        cargo test --locked -p kquant-kernels --lib --tests --target "$triple"
    exit
fi

case ${1:-} in
'' | *[!0-9]*)
    echo "usage: scripts/fuzz.sh SECONDS [TARGET...] | asan" >&2
    exit 2
    ;;
esac
seconds=$1
shift
target_dir=$(realpath -m "${CARGO_TARGET_DIR:-fuzz/target}")
corpus=${KQUANT_CORPUS:-fuzz/corpus}
cargo fuzz build --target-dir "$target_dir" --target "$triple"
targets=("$@")
[ $# -gt 0 ] || mapfile -t targets < <(cargo fuzz list)

# Files of each execution belong into memory.
[ ! -w /dev/shm ] || export TMPDIR=/dev/shm
failed=0
for target in "${targets[@]}"; do
    mkdir -p "$corpus/$target"
    log=$corpus/$target.log code=0
    KQUANT_SEEDS=$corpus/$target "$target_dir/$triple/release/$target" "$corpus/$target" \
        -max_total_time="$seconds" -timeout=20 -rss_limit_mb=4096 -max_len=65536 -print_final_stats=1 \
        -artifact_prefix="$corpus/$target-" >"$log" 2>&1 || code=$?
    runs=$(awk '/^stat::number_of_executed_units/ { print $2 }' "$log")
    printf '%-26s %10s executions, exit code %d\n' "$target" "${runs:-?}" "$code"
    if [ "$code" -ne 0 ]; then
        failed=$((failed + 1))
        grep -m 3 -E 'panicked|ERROR|SUMMARY|Test unit written' "$log" || tail -n 5 "$log"
    fi
done
echo "$((${#targets[@]} - failed)) passed, $failed failed"
[ "$failed" -eq 0 ]
