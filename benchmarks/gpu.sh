#!/bin/bash
# Everything there is to know about this product on a GPU, in one run: checks, the table of steps, generation, loading.
#
#     bash benchmarks/gpu.sh [--output DIR] [--limit SECONDS] [--toy]
#
# All ends within the limit (default 480 s): each part has a share of it, with what those before it left over, and
# stores what it has as it goes. Needs no network. --toy: on a CPU, tiny sizes. Exit code 1 where a check or a case
# failed, or no time was left for it.
set -uo pipefail
cd "$(dirname "$0")/.." || exit
. benchmarks/gpu_common.sh || exit
output=build/gpu limit=480 toy=()
while (($#)); do
    case $1 in
        --output | --limit)
            (($# > 1)) || refuse "$1 needs a value"
            printf -v "${1#--}" %s "$2"; shift 2 ;;
        --toy) toy=(--toy); shift ;;
        *) refuse "unknown argument $1; allowed: --output DIR, --limit SECONDS, --toy" ;;
    esac
done
check_limit "$limit"
mkdir -p "$output" || refuse "--output $output: no such folder can be made"
log=$output/log.txt
: >"$log" || refuse "--output $output: cannot be written to"
# Nothing computed before is used, and nothing stays in the home folder.
DISTIL_CACHE=$(mktemp -d) && export DISTIL_CACHE
trap 'rm -rf "$DISTIL_CACHE"' EXIT

{ timeout 10 "$python" - <<'PY'
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
[[ ${#toy[@]} -gt 0 ]] || timeout 10 nvidia-smi --query-gpu=name,driver_version,memory.total,clocks.sm --format=csv
} 2>&1 | tee "$output/machine.txt"

status=0 due=0
part() { # share of the limit in percent, name, command: the result is NAME.json
    ((due += $1))
    local name=$2 began=$SECONDS printed
    local seconds=$((limit * due / 100 - SECONDS - 2)) # and two to be killed in
    shift 2
    printed=$(wc -l <"$log")
    rm -f "$output/$name.json"
    echo "== $name: at most $seconds s" | tee -a "$log"
    # A case that has begun may go on beyond the budget, for an eighth of the time.
    timeout --kill-after=2 $((seconds > 0 ? seconds : 1)) "$python" "$@" "${toy[@]}" --budget $((seconds * 7 / 8)) \
        --output "$output/$name.json" >>"$log" 2>&1
    local code=$?
    tail -n +$((printed + 2)) "$log" | grep -E '^\|'
    tail -n +$((printed + 2)) "$log" | grep -vE '^\||^\{' | tail -n 8
    [[ $code -eq 0 && -s $output/$name.json ]] || status=1
    echo "== $name: exit code $code after $((SECONDS - began)) s"
}

checks=(fp32 "fp32, SDPA, no graphs" bf16 "bf16 once more" "bf16, SDPA" fp16 "bf16, Trident, contrastive"
    "bf16, ce kl pans" "bf16, accumulated" "bf16, recording fails" "bf16, checkpointing" "half weights")
part 18 checks benchmarks/gpu_checks.py --checks "${checks[@]}"
part 28 step_220m benchmarks/gpu_step.py --shape 220m --cases "bare, bf16 autocast" bf16 "Seq2SeqTrainer, bf16" \
    "bf16, not deterministic" "bf16, cross-entropy alone" "bf16, Trident" "bf16, SDPA" "bf16, plain norms" \
    "bf16, all kept for backward" "bf16, autocast" "bf16, no graphs" fp16 "bare, fp16 autocast" tf32 fp32 "bare, fp32"
part 7 step_48m benchmarks/gpu_step.py --shape 48m --cases "bare, bf16 autocast" bf16 fp16
part 10 generation benchmarks/gpu_generation.py
part 9 step_770m benchmarks/gpu_step.py --shape 770m --cases "bare, bf16 autocast" bf16 "Seq2SeqTrainer, bf16"
# A minute for the first compiled step, the same start again, and two imports of torch. Last, since what the others
# leave over is needed here: compiling the tiny model, with dropout and without, takes as long once more.
part 25 compiled benchmarks/gpu_checks.py --checks "compiled, 220M" "compiled, 220M, second start" "compiled, bf16"
# Eight files in all.
exit $status
