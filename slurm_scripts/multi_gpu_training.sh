#!/bin/bash
# Extended student training on two GPUs of one node; sbatch --nodes=N takes more nodes. SCRIPT=train_codet5_assertions.py
# trains a teacher the same way. Everything below can be overridden: slurm_scripts/README.md.
#SBATCH --job-name=multi-gpu
#SBATCH --partition=gpu-a100
#SBATCH --time=16:00:00
#SBATCH --nodes=1
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=8
#SBATCH --gpus-per-node=2
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

SCRIPT=${SCRIPT:-knowledge_distillation.py}
TRAIN_DATA=${TRAIN_DATA:-data/codet5p-focal-methods/distillation_data_training.jsonl}
VAL_DATA=${VAL_DATA:-data/codet5p-focal-methods/distillation_data_validation.jsonl}
OUTPUT_DIR=${OUTPUT_DIR:-results/${SLURM_JOB_NAME:-multi-gpu}-${SLURM_JOB_ID:-local}}
DEVICE=${DEVICE:-cuda} # cpu: gloo instead of nccl
EPOCHS=${EPOCHS:-10}
RECIPE=${RECIPE-"--loss_function multi_component --loss_components focal jsd semantic --enable_dynamic_weighting
    --enable_token_weighting --critical_token_weight 2.5 --use_enhanced_metrics"}
PROCESSES=${PROCESSES:-${SLURM_GPUS_ON_NODE:-2}} # on each node
NODES=${SLURM_JOB_NUM_NODES:-1}
CPUS=${SLURM_CPUS_PER_TASK:-$PROCESSES}

require_data TRAIN_DATA
require_data VAL_DATA
require_gpus "$PROCESSES"
NUM_WORKERS=${NUM_WORKERS:-$((CPUS / PROCESSES))}
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-$((CPUS / PROCESSES))}
prepare_environment

LAUNCH=(python slurm_scripts/torchrun.py --nnodes="$NODES" --nproc_per_node="$PROCESSES" --rdzv_backend=c10d)
if ((NODES == 1)); then
    export GLOO_SOCKET_IFNAME=${GLOO_SOCKET_IFNAME:-lo}
    LAUNCH+=(--rdzv_endpoint=127.0.0.1:0 --local_addr=127.0.0.1)
else
    HEAD=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | sed -n 1p)
    # The start is part of the id, so that a restarted job never joins what is left of the one before.
    LAUNCH+=(--rdzv_endpoint="$HEAD:$((20000 + SLURM_JOB_ID % 10000))" --rdzv_id="$SLURM_JOB_ID.${SLURM_RESTART_COUNT:-0}")
fi
# Outside Slurm (a workstation) there is no srun; inside, it starts one launcher a node and hands it our signals.
[[ -z ${SLURM_JOB_ID:-} ]] || LAUNCH=(srun --kill-on-bad-exit=1 --cpus-per-task="$CPUS" "${LAUNCH[@]}")

common_options
option TEACHER_MODEL --teacher_model
# shellcheck disable=SC2086 # both hold several words
run_and_requeue "${LAUNCH[@]}" "$SCRIPT" "${OPTIONS[@]}" $RECIPE ${EXTRA_ARGS:-}
