#!/usr/bin/env bash
# Parts as the tasks of a Slurm array, and their assembly behind it. On the login machine, in this folder:
#
#   export MODEL=... PARTS=... OPTIONS="--type Q4_K_M" OUT=model.gguf
#   ./slurm.sh 32
#
# Slurm starts a task again whose machine was lost (--requeue). The assembly waits for all tasks; if one has failed, it names the
# missing part. See part.sh for the variables. SBATCH holds options for sbatch, such as "--partition long".
set -euo pipefail

count=${1:?how many parts?}
here=$(cd "$(dirname "$0")" && pwd)
: "${MODEL:?}" "${PARTS:?}" "${OPTIONS:?}" "${OUT:?set OUT to the GGUF to write}"
mkdir -p "$PARTS"
# shellcheck disable=SC2086
array=$(sbatch --parsable --requeue --export=ALL --array="1-$count" --cpus-per-task="${CPUS:-16}" --mem="${MEMORY:-8G}" ${SBATCH:-} "$here/part.sh")
# shellcheck disable=SC2086
sbatch --export=ALL --dependency="afterany:$array" --cpus-per-task=2 ${SBATCH:-} --wrap "'${KQUANT:-kquant}' assemble '$PARTS' -o '$OUT'"
