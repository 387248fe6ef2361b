#!/bin/bash
# One student of an ablation per array task: task i of benchmarks/ablation.py GRID --list. The teacher comes first:
#   python benchmarks/ablation.py GRID --work WORK --teacher
#SBATCH --job-name=ablation
#SBATCH --partition=gpu-a100
#SBATCH --time=08:00:00
#SBATCH --array=0-61%4
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

GRID=${GRID:-benchmarks/ablations/mined_20k.json}
OUTPUT_DIR=${OUTPUT_DIR:-build/grid20k} # the folder of its runs; results are stored next to the grid

require_data GRID
prepare_environment

run_and_requeue python benchmarks/ablation.py "$GRID" --work "$OUTPUT_DIR" --task "${SLURM_ARRAY_TASK_ID:-0}"
