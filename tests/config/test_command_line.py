"""Flags: one source, checked before anything is loaded, and one clear line for what is wrong."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

import knowledge_distillation
import train_codet5_assertions
from config.checks import without_effect
from config.command_line import parse_config
from config.defaults import StudentConfig, TeacherConfig, categories, fill_defaults, parameters
from config.presets import PRESETS
from tests.helpers.commands import make_rows, run_script, student_words, write_rows
from utils.errors import UserError


def student(*words: str):
    return parse_config(StudentConfig, list(words))


def test_thirteen_categories_and_a_hundred_parameters() -> None:
    assert len({*categories(StudentConfig), *categories(TeacherConfig)}) == 13
    flags = {f.name: flag for kind in (StudentConfig, TeacherConfig) for _, f, flag in parameters(kind())}
    assert len(flags) >= 100 and all(flag.help for flag in flags.values())


def test_defaults_are_those_of_the_specification() -> None:
    config = student()
    assert (config.model.model_name, config.data.max_input_len, config.data.max_output_len) == (
        "Salesforce/codet5p-220m",
        512,
        128,
    )
    optim = config.optimization
    assert (optim.batch_size, optim.gradient_accumulation_steps, optim.epochs) == (4, 4, 5)
    assert (optim.lr, optim.weight_decay, optim.max_grad_norm, optim.warmup_ratio) == (5e-5, 0.01, 1.0, 0.15)
    assert (config.distillation.alpha, config.distillation.temperature, config.distillation.temperature_final) == (
        0.5,
        4.0,
        1.5,
    )
    assert config.loss.loss_components == ["focal", "jsd", "semantic"]
    assert (config.hardware.seed, config.loading.sampling_seed) == (42, 42)
    words = ["--data_path", "x.jsonl"]
    teacher = parse_config(TeacherConfig, words)
    assert teacher.model.model_name == "Salesforce/codet5p-770m"


SPEC_COMMANDS = [
    "--max_train_samples 1000 --max_val_samples 200 --device auto",
    "--enable_epoch_sampling --max_train_samples 100 --seed 42 --sampling_seed 42",
    "--loss_function multi_component --loss_components focal jsd semantic --enable_dynamic_weighting"
    " --enable_token_weighting --critical_token_weight 2.5 --use_enhanced_metrics --batch_size 4"
    " --gradient_accumulation_steps 8 --epochs 10 --fp16",
    "--lr 5e-05 --warmup_steps 275 --weight_decay 0.01 --alpha 0.5 --temperature 4.0 --dropout_rate 0.1"
    " --output_dir results/extended_trident_7h",
    "--loss_components ce kl pans ast --enable_dynamic_weighting",
    "--loss_components focal jsd semantic contrastive --semantic_loss_scale 5.0",
    "--device cpu --num_workers 2 --batch_size 2 --epochs 3",
    "--warmup_ratio 0.1 --validation_frequency 2 --early_stopping_patience 4 --early_stopping_min_delta 0.01"
    " --preset high_quality --bf16 --save_steps 10 --save_total_limit 3 --resume auto --student_encoder_layers 3"
    " --student_decoder_layers 2 --teacher_model x --dry_run --pans_weight 0.2 --ast_weight 0.1",
]


@pytest.mark.parametrize("words", SPEC_COMMANDS)
def test_commands_of_the_specification_parse(words: str) -> None:
    config = student(*words.split())
    assert config.given


def test_flags_win_over_a_file_and_a_file_over_a_preset(tmp_path: Path) -> None:
    path = tmp_path / "c.json"
    path.write_text(json.dumps({"epochs": 7, "batch_size": 3}))
    config = student("--preset", "high_quality", "--config", str(path), "--batch_size", "5")
    assert (config.optimization.batch_size, config.optimization.epochs) == (5, 7)
    assert config.loss.enable_dynamic_weighting  # of the preset


def test_a_printed_configuration_is_the_same_configuration(tmp_path: Path, capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit):
        student("--lr", "1e-4", "--loss_components", "ce", "kl", "--print_config")
    path = tmp_path / "c.json"
    path.write_text(capsys.readouterr().out)
    again = student("--config", str(path)).flat()
    first = student("--lr", "1e-4", "--loss_components", "ce", "kl").flat()
    assert {k: v for k, v in again.items() if k != "config"} == {k: v for k, v in first.items() if k != "config"}


@pytest.mark.parametrize("name", PRESETS)
def test_presets_name_known_parameters_with_allowed_values(name: str) -> None:
    assert set(PRESETS[name]) <= set(StudentConfig().flat())
    student("--preset", name)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--temprature 3", "unknown argument --temprature; did you mean --temperature"),
        ("--preset quik_start", "--preset quik_start is unknown; did you mean quick_start"),
        ("--loss_components focal jds", "jds is unknown; did you mean jsd"),
        ("--context sibling", "--context sibling is unknown; did you mean siblings"),
        ("--context none doc", "--context none doc: none stands alone"),
        ("--loss_weights 1 2", "2 values for 3 components"),
        ("--loss_weights 1 -2 3", "weights are >= 0"),
        ("--temperature 0", "--temperature 0.0 is too small; allowed: more than 0"),
        ("--alpha 1.5", "--alpha 1.5 is too large; allowed: at most 1"),
        ("--lr nan", "--lr nan is not a finite number"),
        ("--semantic_loss_scale inf", "--semantic_loss_scale inf is not a finite number"),
        ("--loss_weights 1 inf 1", "inf is not a finite number"),
        ("--seed 99999999999999999999", "--seed 99999999999999999999 is too large"),
        ("--batch_size x", "invalid int value"),
        ("--enable_epoch_sampling", "needs --max_train_samples"),
        ("--fp16 --bf16", "exclude each other"),
        (
            "--loss_components ce contrastive --no_contrastive_batch_negatives --contrastive_queue_size 0",
            "there are no negatives",
        ),
        ("--config nowhere.json", "--config nowhere.json: No such file"),
    ],
)
def test_a_wrong_flag_gets_one_clear_line(words: str, message: str) -> None:
    with pytest.raises(UserError, match=re.escape(message)) as caught:
        student(*words.split())
    assert "\n" not in str(caught.value)


def test_a_config_file_is_checked_like_flags(tmp_path: Path) -> None:
    for content, message in (
        ("{", "not valid JSON"),
        ('{"temprature": 3}', "did you mean temperature"),
        ('{"epochs": "many"}', "is not a whole number"),
        ('{"loss_weights": 5}', "is not a list, each a number"),
        ('{"loss_weights": ["a", 1, 1]}', "is not a list, each a number"),
        ('{"loss_components": 5}', "is not a list, each a text"),
        ('{"preset": ["quick_start"]}', "quick_start.* is unknown"),
        ('{"max_train_samples": 10.5}', "is not a whole number"),
        ('{"warmup_steps": 2.5}', "is not a whole number"),
        ('{"output_dir": 5}', "is not a text"),
        ('{"strict": 3}', "is not true or false"),
        ('{"epochs": 2.5}', "is not a whole number"),
    ):
        (tmp_path / "c.json").write_text(content)
        with pytest.raises(UserError, match=message):
            student("--config", str(tmp_path / "c.json"))


def test_a_config_file_may_use_the_other_names(tmp_path: Path) -> None:
    (tmp_path / "c.json").write_text('{"learning_rate": 1, "max_src_length": 64}')
    config = student("--config", str(tmp_path / "c.json"))
    assert (config.optimization.lr, config.data.max_input_len) == (1, 64)


@pytest.mark.parametrize(
    ("words", "names"),
    [
        ("", []),
        ("--alpha 0.5", []),  # the default, though named
        ("--alpha 0.7 --focal_gamma 3", ["alpha"]),
        (
            "--loss_function traditional --loss_components focal jsd --pans_weight 9 --focal_gamma 3 --alpha 0.7",
            ["loss_components", "pans_weight", "focal_gamma"],
        ),
        ("--loss_function ast_enhanced --pans_weight 9 --ast_weight 3", []),
        ("--loss_components kl jsd --enable_token_weighting", ["enable_token_weighting"]),
        ("--critical_token_weight 4 --critical_token_categories logical", ["critical_token_weight"]),
        ("--loss_weights 1 1 1 --enable_dynamic_weighting", ["enable_dynamic_weighting"]),
        ("--loss_function enhanced --enable_dynamic_weighting", []),
        (
            "--loss_function enhanced --enable_dynamic_weighting --alpha_min 0.1 --validation_frequency 0",
            ["enable_dynamic_weighting", "alpha_min"],
        ),
        ("--loss_components ce --temperature 2 --bridge_fit_steps 9", ["temperature", "bridge_fit_steps"]),
        ("--loss_components ce contrastive --bridge_fit_steps 9", []),
        ("--validation_frequency 0 --early_stopping_patience 9", ["early_stopping_patience"]),
        ("--validation_frequency 0 --eval_steps 5 --early_stopping_patience 9", []),
        ("--sampling_seed 3 --num_workers 0 --prefetch_factor 2", ["sampling_seed", "prefetch_factor"]),
        ("--warmup_steps 3 --warmup_ratio 0.2 --no_length_grouping", ["warmup_ratio"]),
        ("--model_name some/model --tokenizer_name other", ["tokenizer_name"]),
    ],
)
def test_what_has_no_effect_is_said(words: str, names: list[str]) -> None:
    said = [sentence.split()[0].removeprefix("--") for sentence in without_effect(student(*words.split()))]
    assert set(names) <= set(said) and bool(names) == bool(said)


def test_what_a_teacher_does_not_read_is_said() -> None:
    words = ["--data_path", "x.jsonl", "--no_create_distillation_dataset", "--topk", "9", "--epochs", "3"]
    said = without_effect(parse_config(TeacherConfig, words))
    assert said == ["--topk has no effect: no distillation data are written"]


def student_error(*words: object) -> str:
    with pytest.raises(UserError) as caught:
        knowledge_distillation.main([str(word) for word in words])
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_missing_empty_and_equal_data_files(tmp_path: Path) -> None:
    data = write_rows(tmp_path / "d.jsonl", make_rows(3, 1))
    (tmp_path / "empty.jsonl").touch()
    assert "does not exist; make one" in student_error()
    assert "is empty" in student_error("--train_data_path", tmp_path / "empty.jsonl", "--val_data_path", data)
    assert "training data too" in student_error("--train_data_path", data, "--val_data_path", data)


def test_a_model_that_is_nowhere_and_a_loss_that_lacks_its_teacher(raw_data: tuple[Path, Path], tmp_path: Path) -> None:
    paths = [
        "--train_data_path",
        raw_data[0],
        "--val_data_path",
        raw_data[1],
        "--output_dir",
        tmp_path / "run",
        "--device",
        "cpu",
        "--embedding_model",
        "embedded:minilm",
    ]
    assert "no such folder" in student_error(*paths, "--model_name", "./nothing")
    assert "give --tokenizer_name" in student_error(*paths, "--model_name", "scratch:tiny", "--overwrite")
    assert "unknown size" in student_error(*paths, "--model_name", "scratch:giant", "--overwrite")


def test_cuda_that_is_not_there_is_said(raw_data: tuple[Path, Path], tmp_path: Path) -> None:
    import torch

    if torch.cuda.is_available():
        pytest.skip("this machine has CUDA")
    words = ["--train_data_path", raw_data[0], "--val_data_path", raw_data[1], "--output_dir", tmp_path / "r"]
    assert "--device cuda: no usable CUDA" in student_error(*words, "--device", "cuda")
    assert "--device gpu: unknown" in student_error(*words, "--device", "gpu")


def test_a_folder_that_holds_a_run_is_refused(teacher_run: Path, raw_data: tuple[Path, Path]) -> None:
    words = ["--train_data_path", str(raw_data[0]), "--val_data_path", str(raw_data[1])]
    words += ["--output_dir", str(teacher_run)]
    with pytest.raises(UserError, match="holds a run already; give --resume auto, --overwrite"):
        train_codet5_assertions.main(words)


def test_resuming_what_is_no_run_is_said_first(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="no run there"):
        parse_config(StudentConfig, ["--resume", str(tmp_path)])


def test_a_run_is_not_continued_as_another_one(teacher_run: Path, raw_data: tuple[Path, Path]) -> None:
    words = [
        "--train_data_path",
        str(raw_data[0]),
        "--val_data_path",
        str(raw_data[1]),
        "--output_dir",
        str(teacher_run),
        "--resume",
        "auto",
        "--device",
        "cpu",
        "--lr",
        "0.5",
    ]
    with pytest.raises(UserError, match="started with --"):
        train_codet5_assertions.main(words)


def test_a_dry_run_shows_the_first_screen_and_leaves_nothing(teacher_run: Path, tmp_path: Path) -> None:
    words = student_words(teacher_run, tmp_path / "run", "--dry_run", "--enable_token_weighting", "--num_beams", "2")
    done = run_script(*words)
    for label in ("data", "lengths", "student", "teacher", "batch", "steps", "learning rate", "losses", "device"):
        assert re.search(f"^{label} ", done.stdout, re.M), label
    assert "data workers" in done.stdout
    assert "critical tokens do not map" in done.stderr  # a vocabulary of 400
    assert done.stdout.splitlines()[-1].startswith("dry run: everything fits together")
    assert not (tmp_path / "run").exists() and "it/s" not in done.stderr


@pytest.mark.parametrize(
    ("words", "right"),
    [
        ("evaluation/evaluate_assertions.py --teacher_dta x", "--teacher_data"),
        ("scripts/analyse_loss_scaling.py --traning_dir x", "--training_dir"),
        ("scripts/compare_runs.py --metrics f1 results", "--metric"),
        ("scripts/mine_assertions.py --sorce x --output y", "--source"),
        ("data/sample_corpus.py --outptu x", "--output"),
    ],
)
def test_every_script_names_the_nearest_flag(words: str, right: str) -> None:
    done = run_script(*words.split(), check=False)
    assert done.returncode == 2 and done.stderr.count("\n") == 1
    assert done.stderr.startswith("error: unknown argument --") and f"did you mean {right}?" in done.stderr


def test_help_lists_every_category_and_default() -> None:
    shown = run_script("knowledge_distillation.py", "--help", COLUMNS="100").stdout
    assert len(shown.splitlines()) < 240 and "--batch-size" not in shown and "--batch_size N" in shown
    for category in categories(StudentConfig):
        assert f"{category.replace('_', ' ')}:" in shown
    assert "(default: 5e-05)" in shown


def test_lack_of_memory_is_one_line_that_says_what_to_lower(capsys: pytest.CaptureFixture) -> None:
    import torch

    from utils.errors import run_main

    def on_the_gpu() -> None:
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB. GPU 0 has")

    for main, where in (
        (on_the_gpu, "the GPU"),
        (lambda: torch.empty(10**16), "this machine"),
        (lambda: bytearray(10**17), "this machine"),
    ):
        with pytest.raises(SystemExit) as ended:
            run_main(main)
        said = capsys.readouterr().err
        assert ended.value.code == 2 and said.count("\n") == 1
        assert said.startswith(f"error: out of memory on {where}; lower --batch_size")
    with pytest.raises(RuntimeError, match="another"):
        run_main(lambda: (_ for _ in ()).throw(RuntimeError("another")))


def test_an_error_is_one_line_and_exit_code_2() -> None:
    done = run_script("knowledge_distillation.py", "--epochs", "0", check=False)
    assert done.returncode == 2
    assert done.stderr.strip().splitlines() == ["error: command line: --epochs 0 is too small; allowed: at least 1"]


def test_parameters_that_came_after_a_run_have_their_defaults() -> None:
    stored = StudentConfig().flat()
    del stored["contrastive_batch_negatives"]
    assert fill_defaults(stored) == StudentConfig().flat()
    stored = TeacherConfig().flat() | {"lr": 0.5}
    del stored["topk"]
    assert fill_defaults(stored) == TeacherConfig().flat() | {"lr": 0.5}
    assert fill_defaults({}) == {}


@pytest.fixture
def older_run(tmp_path: Path) -> Path:
    """The folder of a run that began when Trident's pull had no limit, and no flag for one."""
    config = StudentConfig().flat()
    del config["semantic_gradient_share"]
    (tmp_path / "checkpoint-5").mkdir()
    (tmp_path / "run_config.json").write_text(json.dumps({"script": "knowledge_distillation.py", "config": config}))
    return tmp_path


def test_an_older_run_goes_on_with_the_defaults_of_its_time(older_run: Path) -> None:
    def share(*words: str | Path) -> float:
        return parse_config(StudentConfig, [str(word) for word in words]).semantic.semantic_gradient_share

    auto = ("--resume", "auto", "--output_dir", older_run)
    assert share() == share("--output_dir", older_run) == share(*auto[:3], older_run / "another") == 0.3
    assert share("--resume", older_run) == share("--resume", older_run / "checkpoint-5") == 0
    assert share("--config", older_run / "run_config.json") == share(*auto) == 0
    assert share(*auto, "--semantic_gradient_share", "0.2") == 0.2

    record = older_run / "run_config.json"
    for stored, found in ((0.0, 0.0), (0.3, 0.3), (0.5, 0.3)):  # 0.5 was given then, so it must be given again
        record.write_text(json.dumps({"config": StudentConfig().flat() | {"semantic_gradient_share": stored}}))
        assert share(*auto) == found
    record.write_text("{")
    assert share(*auto) == 0.3
    (older_run / "checkpoint-5").rmdir()  # without a checkpoint auto starts a new run
    record.write_text(json.dumps({"config": StudentConfig().flat() | {"semantic_gradient_share": 0.0}}))
    assert share(*auto) == 0.3


def test_the_defaults_of_an_older_run_are_no_parameters_without_effect(older_run: Path) -> None:
    path = older_run / "run_config.json"
    record = json.loads(path.read_text())
    record["config"]["loss_components"] = ["ce", "kl"]
    path.write_text(json.dumps(record))
    config = parse_config(StudentConfig, ["--config", str(path)])
    assert not [line for line in without_effect(config) if "semantic_gradient_share" in line]
