#!/bin/bash
# What distillation brings at real size, for whoever has one GPU for eight minutes: a teacher of 48M parameters,
# pre-trained on masked statements; two students of 8M, one from gold labels and one from the teacher; their predictions.
#
#     bash benchmarks/gpu_evidence.sh --pack MINED --source CORPUS [--data FILE] [--rows N]     # where the data lie
#     bash benchmarks/gpu_evidence.sh [--data FILE] [--output DIR] [--limit SECONDS] [--toy]    # where the GPU is
#
# --pack takes rows from a folder of mined data and writes FILE (default build/evidence.tar.xz), at most 40 MB. The
# second line needs no network. Each stage has a share of the limit (default 480 s), with what those before it left over;
# one that is stopped keeps a checkpoint, from which the next goes on. What the models wrote is run afterwards where
# there is a JDK: evaluation/evaluate_assertions.py --predictions. --toy: on a CPU, tiny models, a few steps.
set -uo pipefail
cd "$(dirname "$0")/.." || exit
. benchmarks/gpu_common.sh || exit
pack='' source='' data=build/evidence.tar.xz rows=80000 output=build/evidence limit=480 toy=''
while (($#)); do
    case $1 in
        --pack | --source | --data | --rows | --output | --limit)
            (($# > 1)) || refuse "$1 needs a value"
            printf -v "${1#--}" %s "$2"; shift 2 ;;
        --toy) toy=1; shift ;;
        *) refuse "unknown argument $1; the first lines of the script tell what there is" ;;
    esac
done
check_limit "$limit"
[[ $rows =~ ^[1-9][0-9]{1,6}$ ]] || refuse "--rows $rows: must be a whole number, from 10 to 9999999"
held_out=(libcommons-codec-java libcommons-collections4-java)
work=$(mktemp -d) || exit
trap 'rm -rf "$work"' EXIT

if [[ $pack ]]; then
    for name in raw_training raw_validation raw_test raw_held_out; do
        [[ -s $pack/$name.jsonl ]] || refuse "--pack $pack: holds no $name.jsonl; docs/data.md tells how to mine it"
    done
    [[ -d $pack/tokenizer && -d $source ]] || refuse "--pack needs $pack/tokenizer, and --source the mined projects"
    head -n "$rows" "$pack/raw_training.jsonl" >"$work/training.jsonl"
    head -n 200 "$pack/raw_validation.jsonl" >"$work/validation.jsonl"
    cp -r "$pack/tokenizer" "$work/tokenizer"
    # The tasks of docs/results.md: one of each held-out class, and some of each class of the held-out libraries.
    "$python" - "$pack" "$work/tasks.jsonl" "${held_out[@]}" <<'PY' || exit
import sys
sys.path.insert(0, ".")
from evaluation.tasks import limit_classes, read_samples
folder, output, *libraries = sys.argv[1:]
wanted = [("raw_test", None, 1, 350), ("raw_held_out", libraries[0], 4, None), ("raw_held_out", libraries[1], 1, None)]
with open(output, "w", encoding="utf-8") as out:
    for name, project, most, limit in wanted:
        path = f"{folder}/{name}.jsonl"
        lines = open(path, encoding="utf-8").read().split("\n")
        tasks = read_samples(path, "--pack", 0.0)
        asked = [i for i, one in enumerate(tasks.samples) if project in (None, one.source.get("project"))]
        for row in limit_classes(tasks.take(asked), most).first(limit).rows:
            print(lines[row], file=out)
PY
    "$python" benchmarks/masked_statements.py --source "$source" --rows "$rows" \
        --hold_out_projects "${held_out[@]}" --output "$work/statements.jsonl" || exit
    mkdir -p "$(dirname "$data")" && XZ_OPT=-6 tar -C "$work" -cJf "$data" . || exit
    size=$(stat -c %s "$data")
    ((size <= 40000000)) || refuse "$data: $size bytes, more than 40 MB; take fewer --rows"
    echo "$data: $size bytes"
    exit
fi

[[ -s $data ]] || refuse "--data $data: no such file; make it with --pack where the mined data lie"
mkdir -p "$output" || refuse "--output $output: no such folder can be made"
tar -C "$work" -xJf "$data" || refuse "--data $data: cannot be unpacked"
log=$output/log.txt
: >"$log"
export DISTIL_CACHE=$work/cache
workers=$(($(nproc) > 3 ? $(nproc) - 2 : 1))
shared=(--max_input_len 384 --max_output_len 64 --gradient_accumulation_steps 1 --dropout_rate 0 --embedding_model none
    --validation_frequency 0 --no_final_evaluation --no_run_report --report_to none
    --save_steps 0 --logging_steps 100 --num_workers "$workers" --resume auto)
if [[ $toy ]]; then
    shared+=(--batch_size 4 --device cpu --max_train_samples 16 --max_val_samples 4)
    large=scratch:small small=scratch:tiny device=cpu distilled=16 judged=(--student_limit 6 --teacher_limit 6)
else
    shared+=(--batch_size 64 --bf16 --no_deterministic --device cuda)
    large=scratch:base small=scratch:deep device=cuda distilled=40000 judged=()
fi
mined=(--train_data_path "$work/training.jsonl" --val_data_path "$work/validation.jsonl")

status=0 due=0
stage() { # share of the limit in percent, name, command
    ((due += $1))
    local name=$2 began=$SECONDS seconds=$((limit * due / 100 - SECONDS - 6)) # and six to write a checkpoint in
    shift 2
    echo "== $name: at most $seconds s" | tee -a "$log"
    timeout --kill-after=6 $((seconds > 0 ? seconds : 1)) "$python" "$@" >>"$log" 2>&1
    local code=$?
    echo "== $name: exit code $code after $((SECONDS - began)) s" | tee -a "$log"
    return $code
}
model() { # what a stage has left: its model, or where it was stopped the newest checkpoint
    ls -d "$work/$1/final_model" "$work/$1"/checkpoint-* 2>/dev/null | sort -r | head -n 1
}
stage 22 pretraining train_codet5_assertions.py --model_name "$large" --tokenizer_name "$work/tokenizer" --epochs 1 \
    --train_data_path "$work/statements.jsonl" --val_data_path "$work/validation.jsonl" --context none --lr 5e-4 \
    --no_create_distillation_dataset --output_dir "$work/pretraining" "${shared[@]}" || status=1
begun=$(model pretraining)
start=(--model_name "${begun:-$large}")
[[ $begun ]] || start+=(--tokenizer_name "$work/tokenizer")
stage 24 teacher train_codet5_assertions.py "${start[@]}" "${mined[@]}" --context all --allow_other_context --epochs 1 \
    --lr 5e-4 --no_create_distillation_dataset --output_dir "$work/teacher" "${shared[@]}" || status=1
teacher=$(model teacher)
[[ $teacher ]] || { echo "error: ${0##*/}: the teacher was not trained; see $log" >&2; exit 1; }
# One step at a rate that changes nothing, then the distillation data.
stage 18 knowledge train_codet5_assertions.py --model_name "$teacher" "${mined[@]}" --epochs 1 --max_steps 1 --lr 1e-9 \
    --max_distill_samples "$distilled" --output_dir "$work/knowledge" "${shared[@]}" || status=1
known=(--train_data_path "$work/knowledge/distillation_data_training.jsonl" --epochs 2 --lr 1e-3
    --val_data_path "$work/knowledge/distillation_data_validation.jsonl" --model_name "$small")
stage 12 gold knowledge_distillation.py "${known[@]}" --loss_components ce --loss_weights 1 \
    --output_dir "$work/gold" "${shared[@]}" || status=1
stage 14 student knowledge_distillation.py "${known[@]}" --loss_components ce kl --enable_dynamic_weighting \
    --output_dir "$work/student" "${shared[@]}" || status=1
gold=$(model gold) student=$(model student)
stage 10 predictions evaluation/evaluate_assertions.py --teacher_data "$work/tasks.jsonl" --teacher_model "$teacher" \
    --student_model_path "$student" --baseline_model_path "$gold" --train_data "$work/training.jsonl" \
    --max_input_len 384 --max_output_len 96 --batch_size 128 --embedding_model none --latency_samples 0 \
    --device "$device" --output_dir "$work/judged" "${judged[@]}" || status=1

# Five files, each far below 16 MiB.
for name in pretraining teacher gold student; do
    [[ -s $work/$name/step_metrics.csv ]] && tail -n 1 "$work/$name/step_metrics.csv" | sed "s/^/$name,/"
done >"$output/last_steps.csv"
for name in metrics_summary_final.json report.html; do
    cp "$work/judged/$name" "$output/" || status=1
done
xz -6 -c "$work/judged/predictions_final.jsonl" >"$output/predictions_final.jsonl.xz" || status=1
xz -6 -f "$log"
exit $status
