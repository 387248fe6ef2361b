#!/bin/bash
# Train every variant of a list with every seed, one array task each: task i takes variant i / seeds and seed i % seeds.
# A variant is a line "name: flags" of VARIANTS. Everything below can be overridden: slurm_scripts/README.md.
#SBATCH --job-name=array
#SBATCH --partition=gpu-a100
#SBATCH --time=08:00:00
#SBATCH --array=0-11%4
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=8
#SBATCH --gpus-per-node=1
#SBATCH --mem-per-cpu=4G
#SBATCH --output=logs/slurm-%A_%a.out
#SBATCH --open-mode=append
#SBATCH --requeue
#SBATCH --signal=B:USR1@120
set -euo pipefail
cd "${PROJECT_DIR:-${SLURM_SUBMIT_DIR:-.}}"
source slurm_scripts/common.sh || {
    echo "error: submit from the repository root, or set PROJECT_DIR to it" >&2
    exit 2
}

TRAIN_DATA=${TRAIN_DATA:-data/codet5p-focal-methods/distillation_data_training.jsonl}
VAL_DATA=${VAL_DATA:-data/codet5p-focal-methods/distillation_data_validation.jsonl}
OUTPUT_DIR=${OUTPUT_DIR:-results/${SLURM_JOB_NAME:-array}-${SLURM_ARRAY_JOB_ID:-local}} # the folder of all its runs
DEVICE=${DEVICE:-cuda}
VARIANTS=${VARIANTS:-slurm_scripts/variants.txt}
read -ra SEEDS <<<"${SEEDS:-42 43 44}"

require_data VARIANTS
mapfile -t LINES < <(grep -v -E '^[[:space:]]*(#|$)' "$VARIANTS")
TASK=${SLURM_ARRAY_TASK_ID:-0}
TASKS=$((${#LINES[@]} * ${#SEEDS[@]}))
((TASK < TASKS)) ||
    fail "task $TASK of ${#LINES[@]} variants x ${#SEEDS[@]} seeds does not exist; submit with sbatch --array=0-$((TASKS - 1))"
LINE=${LINES[TASK / ${#SEEDS[@]}]}
[[ $LINE == *:* ]] || fail "$VARIANTS: '$LINE' is not 'name: flags'"
SEED=${SEEDS[TASK % ${#SEEDS[@]}]}
OUTPUT_DIR=$OUTPUT_DIR/${LINE%%:*}-seed$SEED

require_data TRAIN_DATA
require_data VAL_DATA
require_gpus 1
prepare_environment

common_options
option TEACHER_MODEL --teacher_model
# shellcheck disable=SC2086 # both hold several words
run_and_requeue python knowledge_distillation.py "${OPTIONS[@]}" ${LINE#*:} ${EXTRA_ARGS:-}
