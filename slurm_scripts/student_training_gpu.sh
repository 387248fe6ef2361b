#!/bin/bash
# Train the student on one GPU. Everything below can be overridden: slurm_scripts/README.md.
#SBATCH --job-name=student
#SBATCH --partition=gpu-a100
#SBATCH --time=08:00:00
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=8
#SBATCH --gpus-per-node=1
#SBATCH --mem-per-cpu=4G
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

TRAIN_DATA=${TRAIN_DATA:-data/codet5p-focal-methods/distillation_data_training.jsonl}
VAL_DATA=${VAL_DATA:-data/codet5p-focal-methods/distillation_data_validation.jsonl}
OUTPUT_DIR=${OUTPUT_DIR:-results/${SLURM_JOB_NAME:-student}-${SLURM_JOB_ID:-local}}
DEVICE=${DEVICE:-cuda}
RECIPE=${RECIPE-"--loss_function multi_component --loss_components focal jsd semantic --enable_dynamic_weighting"}

require_data TRAIN_DATA
require_data VAL_DATA
require_gpus 1
prepare_environment

common_options
option TEACHER_MODEL --teacher_model
# shellcheck disable=SC2086 # both hold several words
run_and_requeue python knowledge_distillation.py "${OPTIONS[@]}" $RECIPE ${EXTRA_ARGS:-}
