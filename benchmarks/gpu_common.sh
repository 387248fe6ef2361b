# What gpu.sh and gpu_evidence.sh share. They source it in the project's folder.
refuse() { echo "error: ${0##*/}: $1" >&2; exit 2; }
check_limit() {
    [[ $1 =~ ^[1-9][0-9]{2,4}$ ]] || refuse "--limit $1: must be a whole number of seconds, from 100 to 99999"
}
export CUBLAS_WORKSPACE_CONFIG=:4096:8 PYTHONUNBUFFERED=1 TOKENIZERS_PARALLELISM=false HF_HUB_OFFLINE=1
python=${PYTHON:-$([[ -x .venv/bin/python ]] && echo .venv/bin/python || echo python3)}
