"""From the dataclasses of config/defaults.py to a checked configuration: presets, --config FILE, flags."""

from __future__ import annotations

import argparse
import copy
import importlib.util
import json
import math
import os
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from config.defaults import LOSS_COMPONENTS, parameters
from config.presets import PRESETS
from utils.arguments import HelpFormatter, OneLineErrors, nearest
from utils.errors import UserError


def _argument_parser() -> Any:
    """transformers.HfArgumentParser from its own file: it needs nothing of the package, which takes a second."""
    package = importlib.util.find_spec("transformers")
    assert package is not None and package.submodule_search_locations
    file = Path(package.submodule_search_locations[0]) / "hf_argparser.py"
    spec = importlib.util.spec_from_file_location("hf_argparser", file)
    assert spec is not None and spec.loader is not None
    module = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module.HfArgumentParser


os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")
if TYPE_CHECKING:
    from transformers import HfArgumentParser
else:
    HfArgumentParser = _argument_parser()


class Parser(OneLineErrors, HfArgumentParser):
    """Grouped flags with their defaults."""

    @staticmethod
    def _parse_dataclass_field(parser: Any, field: Any) -> None:
        field = copy.copy(field)
        field.metadata = {k: v for k, v in field.metadata.items() if k not in ("low", "high", "above")}
        HfArgumentParser._parse_dataclass_field(parser, field)


@dataclass
class Config:
    """One object per category (``config.loss.focal_gamma``), and which parameters the user named."""

    categories: dict[str, Any]
    given: frozenset[str] = field(default_factory=frozenset)

    def __getattr__(self, name: str) -> Any:
        try:
            return self.__dict__["categories"][name]
        except KeyError:
            raise AttributeError(name) from None

    def flat(self) -> dict[str, Any]:
        """Every parameter under its own name, ready for JSON."""
        return {name: value for part in self.categories.values() for name, value in asdict(part).items()}


def _read_config_file(path: str | Path, known: dict[str, Any], flag: str = "--config") -> dict[str, Any]:
    try:
        values = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{flag} {path}: {error.strerror}") from None
    except ValueError as error:
        raise UserError(f"{flag} {path}: not valid JSON ({error})") from None
    if isinstance(values, dict) and isinstance(values.get("config"), dict):
        values = values["config"]  # a run_config.json
    if not isinstance(values, dict):
        raise UserError(f"{flag} {path}: expected one JSON object of parameter: value")
    names = {alias.lstrip("-"): name for name, f in known.items() for alias in f.metadata.get("aliases", ())}
    values = {names.get(name, name): value for name, value in values.items()}
    for name in values:
        if name not in known:
            raise UserError(f"{flag} {path}: unknown parameter {name}{nearest(name, list(known))}")
    # What belongs to one invocation is not taken over from the run that is repeated.
    return {k: v for k, v in values.items() if k not in ("config", "resume", "overwrite", "dry_run", "print_config")}


def _stored_flags(resume: str | None, known: dict[str, Any]) -> dict[str, Any]:
    """The parameters of the run that ``--resume FOLDER`` continues; none for a new run and for auto."""
    if resume is None or resume == "auto":
        return {}
    path = Path(resume)
    file = (path.parent if path.name.startswith("checkpoint-") else path) / "run_config.json"
    if not file.is_file():
        if path.name.startswith("checkpoint-") and path.is_dir():
            return {}
        raise UserError(f"--resume {resume}: no run there (it has no run_config.json); name its folder, or auto")
    stored = _read_config_file(file, known, "--resume")
    return {name: value for name, value in stored.items() if name not in ("output_dir", "preset")}


def _kind(annotation: str) -> tuple[Any, str, bool]:
    """What a parameter's annotation (``int | None``, ``list[str]``) allows, in words, and whether it is a list."""
    kinds = {
        "bool": (bool, "true or false"),
        "int": (int, "a whole number"),
        "float": ((int, float), "a number"),
        "str": (str, "a text"),
    }
    inner = annotation.removesuffix(" | None")
    many = inner.startswith("list[")
    return *kinds[inner.removeprefix("list[").removesuffix("]")], many


def _check_value(name: str, value: Any, default: Any, annotation: str, metadata: Any, where: str) -> None:
    """Type and range of one value, for flags and files alike."""
    if value is None:
        if default is not None and not metadata.get("optional"):
            raise UserError(f"{where}: --{name} needs a value")
        return
    wanted, what, many = _kind(annotation)
    for one in value if many and isinstance(value, list) else [value]:
        right = isinstance(one, wanted) and (wanted is bool or not isinstance(one, bool))
        if not right or (many and not isinstance(value, list)):
            raise UserError(f"{where}: --{name} {value!r} is not {'a list, each ' * many}{what}")
        if isinstance(one, float) and not math.isfinite(one):
            raise UserError(f"{where}: --{name} {one} is not a finite number")
    low, high, above, choices = (metadata.get(key) for key in ("low", "high", "above", "choices"))
    if low is not None and value < low:
        raise UserError(f"{where}: --{name} {value} is too small; allowed: at least {low}")
    if above is not None and value <= above:
        raise UserError(f"{where}: --{name} {value} is too small; allowed: more than {above}")
    if high is not None and value > high:
        raise UserError(f"{where}: --{name} {value} is too large; allowed: at most {high}")
    if choices and value not in choices:
        hint = nearest(str(value), [str(choice) for choice in choices])
        raise UserError(f"{where}: --{name} {value} is unknown{hint}; allowed: {', '.join(map(str, choices))}")


def _check_together(config: Config) -> None:
    """What one value alone cannot tell."""
    parts = config.categories
    if "loss" in parts:
        loss = config.loss
        for name in loss.loss_components:
            if name not in LOSS_COMPONENTS:
                hint = nearest(name, LOSS_COMPONENTS)
                raise UserError(f"--loss_components {name} is unknown{hint}; allowed: {', '.join(LOSS_COMPONENTS)}")
        if len(set(loss.loss_components)) != len(loss.loss_components):
            raise UserError(f"--loss_components {' '.join(loss.loss_components)}: a component is named twice")
        if not loss.loss_components:
            raise UserError("--loss_components: name at least one component")
        if loss.loss_weights is not None:
            if loss.loss_function != "multi_component":
                raise UserError(f"--loss_weights belongs to --loss_function multi_component, not {loss.loss_function}")
            if len(loss.loss_weights) != len(loss.loss_components):
                raise UserError(
                    f"--loss_weights has {len(loss.loss_weights)} values for {len(loss.loss_components)} components"
                    f" ({' '.join(loss.loss_components)})"
                )
            if any(not weight >= 0 for weight in loss.loss_weights) or not any(loss.loss_weights):
                raise UserError(f"--loss_weights {loss.loss_weights}: weights are >= 0 and not all 0")
        if config.token_weighting.critical_token_categories:
            from config.critical_tokens import CRITICAL_TOKENS

            for name in config.token_weighting.critical_token_categories:
                if name not in CRITICAL_TOKENS:
                    raise UserError(
                        f"--critical_token_categories {name} is unknown{nearest(name, list(CRITICAL_TOKENS))};"
                        f" allowed: {', '.join(CRITICAL_TOKENS)}"
                    )
    if config.loading.enable_epoch_sampling and config.data.max_train_samples is None:
        raise UserError("--enable_epoch_sampling needs --max_train_samples: how many rows to draw each epoch")
    if config.hardware.fp16 and config.hardware.bf16:
        raise UserError("--fp16 and --bf16 exclude each other")
    validation = config.validation
    if validation.validation_metric == "code_quality_score" and (
        not validation.use_enhanced_metrics or validation.embedding_model == "none"
    ):
        raise UserError(
            "--validation_metric code_quality_score needs --use_enhanced_metrics and an --embedding_model; it cannot be"
            " computed without them"
        )
    if config.output.overwrite and config.output.resume:
        raise UserError("--overwrite and --resume exclude each other")
    if "teacher_data" in parts:
        teacher = config.teacher_data
        if teacher.data_path and (config.data.train_data_path or config.data.val_data_path):
            raise UserError("--data_path excludes --train_data_path and --val_data_path")
        if not teacher.data_path and not (config.data.train_data_path and config.data.val_data_path):
            raise UserError("give --train_data_path and --val_data_path, or --data_path with --validation_split")
        if teacher.teacher_encoding == "hidden" and teacher.compression_bits not in (8, 16):
            raise UserError(f"--compression_bits {teacher.compression_bits}: hidden is stored with 8 or 16 bits")


def parse_config(
    categories: dict[str, type],
    argv: Sequence[str] | None = None,
    *,
    description: str,
    defaults: dict[str, Any] | None = None,
) -> Config:
    """Defaults < the run that --resume names < preset < --config FILE < flags, checked before anything is loaded.

    Raises UserError naming the flag, the value and what is allowed. ``--print_config`` prints and exits 0.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    known = {name: f for name, (_, f) in parameters(categories).items()}
    parser = Parser(
        [*categories.values()],  # type: ignore[list-item]
        description=description,
        allow_abbrev=False,
        formatter_class=HelpFormatter,
        usage="%(prog)s [--flag value ...]",
    )
    parser.set_defaults(**(defaults or {}))
    parser.parse_args(argv)  # --help, with the defaults, and errors
    base = vars(parser.parse_args([]))

    given_parser = copy.deepcopy(parser)
    for action in given_parser._actions:
        action.default = argparse.SUPPRESS
    given_parser._defaults.clear()
    flags = vars(given_parser.parse_args(argv))

    overlay: dict[str, Any] = {}
    preset = flags.get("preset")
    from_file = _read_config_file(flags["config"], known) if flags.get("config") else {}
    overlay |= _stored_flags(flags.get("resume"), known)
    preset = preset or from_file.get("preset")
    if preset is not None:
        if not isinstance(preset, str) or preset not in PRESETS:
            hint = nearest(str(preset), list(PRESETS))
            raise UserError(f"--preset {preset} is unknown{hint}; allowed: {', '.join(PRESETS)}")
        overlay |= {k: v for k, v in PRESETS[preset].items() if k in known}
    overlay |= from_file
    values = base | overlay | flags
    annotations = {name: text for kind in categories.values() for name, text in kind.__annotations__.items()}
    for name, parameter in known.items():
        where = f"--config {flags.get('config')}" if name in from_file else "default"
        where = "command line" if name in flags else where
        _check_value(name, values[name], base[name], annotations[name], parameter.metadata, where)
    built = {
        name: kind(**{f.name: values[f.name] for f in fields(kind)})  # type: ignore[arg-type]
        for name, kind in categories.items()
    }
    config = Config(built, frozenset(flags) | frozenset(from_file))
    _check_together(config)
    if config.output.print_config:
        print(json.dumps(config.flat(), indent=2))
        raise SystemExit(0)
    return config
