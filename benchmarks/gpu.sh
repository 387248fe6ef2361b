#!/bin/bash
# Everything there is to know about this product on a GPU, in one run: checks, the table of steps, generation, loading.
#
#     bash benchmarks/gpu.sh [--output DIR] [--limit SECONDS] [--toy]
#
# Each part has a share of the limit (default 480 s) and stores what it has as it goes. Needs no network. --toy: on a
# CPU, tiny sizes. Exit code 1 where a check failed or a part stored nothing.
set -uo pipefail
cd "$(dirname "$0")/.."
output=build/gpu limit=480 toy=()
while (($#)); do
    case $1 in
        --output) output=$2; shift 2 ;;
        --limit) limit=$2; shift 2 ;;
        --toy) toy=(--toy); shift ;;
        *) echo "error: gpu.sh: unknown argument $1; allowed: --output DIR, --limit SECONDS, --toy" >&2; exit 2 ;;
    esac
done
mkdir -p "$output"
export CUBLAS_WORKSPACE_CONFIG=:4096:8 PYTHONUNBUFFERED=1 TOKENIZERS_PARALLELISM=false
# So that a cold start is measured, and nothing of it stays in the home folder.
export DISTIL_CACHE=${DISTIL_CACHE:-$(mktemp -d)}
python=${PYTHON:-$([[ -x .venv/bin/python ]] && echo .venv/bin/python || echo python3)}

$python - <<'PY' | tee "$output/machine.txt"
from importlib.metadata import PackageNotFoundError, version
import platform, re
print("python", platform.python_version())
for line in open("requirements.txt"):
    if name := re.match(r"[\w-]+", line):
        try:
            print(name[0], version(name[0]))
        except PackageNotFoundError:
            print(name[0], "MISSING: what needs it is left out")
PY
[[ ${#toy[@]} -gt 0 ]] || nvidia-smi --query-gpu=name,driver_version,memory.total,clocks.sm --format=csv >>"$output/machine.txt" 2>&1

status=0
part() { # share of the limit in percent, name, command: the result is NAME.json, what is printed NAME.log
    local seconds=$((limit * $1 / 100)) name=$2 began=$SECONDS
    shift 2
    echo "== $name: at most $seconds s"
    # A case that has begun may go on a little beyond the budget.
    timeout --kill-after=5 $((seconds + 5)) $python "$@" "${toy[@]}" --budget $((seconds * 85 / 100)) \
        --output "$output/$name.json" >"$output/$name.log" 2>&1
    local code=$?
    grep -E '^\|' "$output/$name.log"
    grep -vE '^\||^\{' "$output/$name.log" | tail -n 8
    [[ $code -eq 0 && -s $output/$name.json ]] || status=1
    echo "== $name: exit code $code after $((SECONDS - began)) s"
}

checks=(fp32 "fp32, SDPA, no graphs" bf16 "bf16 once more" "bf16, SDPA" fp16 "bf16, ce kl pans" "bf16, accumulated"
    "bf16, recording fails" "bf16, checkpointing" "half weights")
part 19 checks benchmarks/gpu_checks.py --checks "${checks[@]}"
part 40 step_220m benchmarks/gpu_step.py --shape 220m --cases "bare, bf16 autocast" bf16 "Seq2SeqTrainer, bf16" \
    "bf16, not deterministic" "bf16, cross-entropy alone" "bf16, Trident" "bf16, SDPA" "bf16, plain norms" \
    "bf16, autocast" "bf16, no graphs" fp16 "bare, fp16 autocast" tf32 fp32 "bare, fp32"
part 8 step_48m benchmarks/gpu_step.py --shape 48m --cases "bare, bf16 autocast" bf16 fp16
part 10 generation benchmarks/gpu_generation.py
part 13 compiled benchmarks/gpu_checks.py --checks "compiled, 220M" "compiled, bf16"
part 10 step_770m benchmarks/gpu_step.py --shape 770m --cases "bare, bf16 autocast" bf16 "Seq2SeqTrainer, bf16"
# Eight files in all.
cat "$output"/*.log >"$output/log.txt"
rm -f "$output"/*.log
exit $status
