#!/bin/bash
# Fine-tune the teacher on one GPU and write the distillation data. Everything below can be overridden:
# slurm_scripts/README.md.
#SBATCH --job-name=teacher
#SBATCH --partition=gpu-a100
#SBATCH --time=12:00:00
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=8
#SBATCH --gpus-per-node=1
#SBATCH --mem-per-cpu=8G
#SBATCH --output=logs/slurm-%j.out
#SBATCH --open-mode=append
#SBATCH --requeue
#SBATCH --signal=B:USR1@120
set -euo pipefail
cd "${PROJECT_DIR:-${SLURM_SUBMIT_DIR:-.}}"
source slurm_scripts/common.sh || {
    echo "error: submit from the repository root, or set PROJECT_DIR to it" >&2
    exit 2
}

TRAIN_DATA=${TRAIN_DATA:-data/training.jsonl}
VAL_DATA=${VAL_DATA:-data/validation.jsonl}
OUTPUT_DIR=${OUTPUT_DIR:-teacher_models/${SLURM_JOB_NAME:-teacher}-${SLURM_JOB_ID:-local}}
DEVICE=${DEVICE:-cuda}

require_data TRAIN_DATA
require_data VAL_DATA
require_gpus 1
prepare_environment

common_options
option MAX_DISTILL_SAMPLES --max_distill_samples
option CROSS_FIT --cross_fit
[[ -z ${SLURM_ARRAY_TASK_ID:-} ]] || OPTIONS+=(--fold "$SLURM_ARRAY_TASK_ID") # an array trains one fold a task
# shellcheck disable=SC2086 # holds several words
run_and_requeue python train_codet5_assertions.py "${OPTIONS[@]}" ${EXTRA_ARGS:-}
