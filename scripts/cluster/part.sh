#!/usr/bin/env bash
# One part of a model, whichever scheduler starts it: `part.sh I N`, or I and N from the variables that the scheduler sets.
#
# MODEL     the model, a folder or a file that all machines see
# PARTS     a folder that all machines see, where the parts go
# OPTIONS   how to quantize, for instance "--type Q4_K_M --imatrix imatrix.gguf"
# KQUANT    the program (default: kquant)
# COUNT     how many parts there are, where the scheduler does not say so
#
# Exit codes are kquant's: 0 the part is there, 2 input, options or storage are wrong. Killed runs may be started again as they were.
set -euo pipefail

: "${MODEL:?set MODEL to the model}" "${PARTS:?set PARTS to a folder for the parts}" "${OPTIONS:?set OPTIONS, such as --type Q4_K_M}"
if [ $# -eq 2 ]; then
    part=$1 count=$2
elif [ -n "${SLURM_ARRAY_TASK_ID:-}" ]; then
    part=$((SLURM_ARRAY_TASK_ID - SLURM_ARRAY_TASK_MIN + 1)) count=$SLURM_ARRAY_TASK_COUNT
elif [ -n "${JOB_COMPLETION_INDEX:-}" ]; then
    part=$((JOB_COMPLETION_INDEX + 1)) count=${COUNT:?set COUNT to the completions of the job}
elif [ -n "${HQ_TASK_ID:-}" ]; then
    part=$HQ_TASK_ID count=${COUNT:?set COUNT to the number of tasks}
else
    echo "part.sh: give I and N, or start it as a task of a Slurm array, an indexed Kubernetes job or HyperQueue" >&2
    exit 2
fi
mkdir -p "$PARTS"
# Options are words, divided by spaces.
# shellcheck disable=SC2086
exec "${KQUANT:-kquant}" quantize "$MODEL" -o "$PARTS" $OPTIONS --part "$part/$count" ${KQUANT_ARGS:-}
