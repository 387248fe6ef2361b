# shellcheck shell=bash
# Shared by the job scripts of this folder: they enter the repository root, then source this file.

# DelftBlue. For another cluster, or when its software stack changes ("module avail"), change this line, and the
# partition in the #SBATCH lines of the scripts: gpu-a100 here, gpu-v100 and gpu-a100-small besides ("sinfo -s").
CLUSTER_MODULES="2024r1 cuda python"

REQUEUE_EXIT_CODE=85 # utils/signals.py: "checkpoint written, start me again"

fail() {
    echo "error: $*" >&2
    exit 2
}

# Modules, virtual environment, caches. Everything can be set from outside; see README.md.
prepare_environment() {
    local scratch=${SCRATCH:-/scratch/$(id -un)} cache=$HOME/.cache
    [[ -d $scratch && -w $scratch ]] && cache=$scratch/.cache
    export HF_HOME=${HF_HOME:-$cache/huggingface}
    export DISTIL_CACHE=${DISTIL_CACHE:-$cache/assertion-distillation}
    export HF_HUB_OFFLINE=${HF_HUB_OFFLINE:-1} # compute nodes download nothing
    export TOKENIZERS_PARALLELISM=false PYTHONUNBUFFERED=1
    export OMP_NUM_THREADS=${OMP_NUM_THREADS:-${SLURM_CPUS_PER_TASK:-1}}

    local name modules=${MODULES-$CLUSTER_MODULES} venv=${VENV-.venv}
    if command -v module >/dev/null; then
        set +u # module functions read variables that may be unset
        for name in $modules; do
            module load "$name" || fail "module '$name' cannot be loaded; 'module avail' lists them, MODULES=\"...\" chooses others"
        done
        set -u
    fi
    if [[ -n $venv ]]; then
        [[ -r $venv/bin/activate ]] ||
            fail "no virtual environment in '$venv'; make one as slurm_scripts/README.md shows, or set VENV"
        # shellcheck source=/dev/null
        source "$venv/bin/activate"
    fi
    python -c 'import sys, importlib.util as u; sys.exit(not all(map(u.find_spec, ("torch", "transformers", "accelerate"))))' ||
        fail "'$(command -v python || echo python)' lacks torch, transformers or accelerate; pip install -r requirements.txt in the environment that VENV names"
}

# require_data VARIABLE: the file that the variable names must exist.
require_data() {
    [[ -s ${!1} ]] || fail "$1: no data in '${!1}'; submit with $1=path/to/file.jsonl (the repository's README says how to make one)"
}

# require_gpus N
require_gpus() {
    [[ $DEVICE == cpu ]] && return
    local found
    found=$(nvidia-smi --list-gpus 2>/dev/null | grep -c '^GPU') || true
    ((found >= $1)) ||
        fail "$found GPU(s) on $(hostname), $1 needed; choose a GPU partition (sbatch --partition=...), or DEVICE=cpu to run without"
}

# option VARIABLE --flag: add the flag to OPTIONS if the variable is set.
option() {
    [[ -z ${!1:-} ]] || OPTIONS+=("$2" "${!1}")
}

# Fill OPTIONS with what every training takes from the environment.
common_options() {
    OPTIONS=(
        --train_data_path "$TRAIN_DATA" --val_data_path "$VAL_DATA"
        --output_dir "$OUTPUT_DIR" --resume auto --device "$DEVICE"
    )
    option MODEL_NAME --model_name
    option EPOCHS --epochs
    option BATCH_SIZE --batch_size
    option GRADIENT_ACCUMULATION_STEPS --gradient_accumulation_steps
    option LR --learning_rate
    option NUM_WORKERS --num_workers
    option SEED --seed
}

# Run "$@" as a child that Slurm may interrupt.
#   USR1 (time limit near, #SBATCH --signal): passed on; the child checkpoints, and the job is requeued.
#   TERM (preempted, requeued by hand or cancelled): passed on; what comes next is Slurm's decision.
run_and_requeue() {
    local status=0 interrupted=yes ending=no
    echo "$(date '+%F %T') job ${SLURM_JOB_ID:-none} start $((${SLURM_RESTART_COUNT:-0} + 1)) on $(hostname): $*"
    "$@" &
    local child=$!
    trap 'interrupted=yes; echo "time limit near: asking for a checkpoint"; kill -USR1 "$child" || true' USR1
    trap 'interrupted=yes; ending=yes; kill -TERM "$child" || true' TERM
    while [[ $interrupted == yes ]]; do # a trapped signal ends wait early
        interrupted=no
        wait "$child" && status=0 || status=$?
    done
    trap - USR1 TERM
    # 138 = 128 + USR1: the signal came before the handler was set, so nothing new was there to save.
    if [[ $ending == no ]] && ((status == REQUEUE_EXIT_CODE || status == 138)); then
        requeue "$status"
    fi
    echo "$(date '+%F %T') ended with $status"
    exit "$status"
}

# requeue STATUS: the program itself says whether it could write a checkpoint.
requeue() {
    local how="stopped before it could save anything" again="submit it again with OUTPUT_DIR=$OUTPUT_DIR to continue"
    (($1 == REQUEUE_EXIT_CODE)) && how="stopped as asked"
    [[ -n ${SLURM_JOB_ID:-} ]] || fail "interrupted outside Slurm; $again"
    ((${SLURM_RESTART_COUNT:-0} < ${MAX_RESTARTS:-20})) || fail "started ${MAX_RESTARTS:-20} times without finishing; $again"
    echo "$(date '+%F %T') $how; requeueing job $SLURM_JOB_ID"
    scontrol requeue "$SLURM_JOB_ID" || fail "job $SLURM_JOB_ID could not be requeued; $again"
    exit 0
}
