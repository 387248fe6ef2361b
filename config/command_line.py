"""From flags to a checked configuration: defaults, --preset, --config FILE, --resume, flags."""

from __future__ import annotations

import argparse
import json
import os
import re
import shutil
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import Field, fields, replace
from functools import partial
from pathlib import Path
from typing import TypeVar

from config.checks import check_together, check_value, kind_of
from config.defaults import Flag, RunConfig, Value, categories, former_defaults, parameters
from config.presets import PRESETS
from utils.arguments import OneLineErrors, nearest
from utils.errors import UserError

# Before transformers is imported: its advice about padding and tokenizers is no news to users of a finished script.
os.environ.setdefault("TRANSFORMERS_NO_ADVISORY_WARNINGS", "1")

Config = TypeVar("Config", bound=RunConfig)
Values = dict[str, Value]
TYPES = {"int": int, "float": float, "str": str}
METAVARS = {"int": "N", "float": "X", "str": "TEXT", "bool": "BOOL"}


def _true_or_false(text: str) -> bool:
    if text.lower() in ("true", "t", "yes", "y", "1"):
        return True
    if text.lower() in ("false", "f", "no", "n", "0"):
        return False
    raise argparse.ArgumentTypeError(f"{text!r} is not true or false")


def _add_flag(add_argument: Callable[..., object], parameter: Field, flag: Flag, default: Value) -> None:
    """One parameter as a flag; a switch that is on by default gets its --no_ twin as well."""
    kind, many = kind_of(parameter)
    name = parameter.name
    text = flag.help.replace("%", "%%")
    if default is not None:  # else the help says what happens without the flag
        text += f" (default: {' '.join(map(str, default)) if isinstance(default, list) else default})"
    path = name.endswith(("_path", "_dir")) or name in ("config", "resume")
    add = partial(add_argument, f"--{name}", *flag.aliases, dest=name, help=text)
    if kind == "bool":
        add(type=_true_or_false, nargs="?", const=True, metavar=METAVARS[kind])
    elif flag.choices:
        add(type=TYPES[kind], choices=flag.choices)
    else:
        add(type=TYPES[kind], nargs="+" if many else None, metavar="PATH" if path else METAVARS[kind])
    if kind == "bool" and default is True:
        add_argument(f"--no_{name}", dest=name, action="store_const", const=False, help=f"switch --{name} off")


def build_parser(defaults: RunConfig, description: str) -> OneLineErrors:
    """A parser whose result holds the flags that were given, and no others."""
    width = min(120, shutil.get_terminal_size((120, 24)).columns)
    parser = OneLineErrors(
        description=description,
        usage="%(prog)s [--flag value ...]",
        allow_abbrev=False,
        argument_default=argparse.SUPPRESS,
        formatter_class=partial(argparse.HelpFormatter, max_help_position=38, width=width),
    )
    groups = {name: parser.add_argument_group(name.replace("_", " ")) for name in categories(defaults)}
    for category, parameter, flag in parameters(defaults):
        _add_flag(groups[category].add_argument, parameter, flag, getattr(getattr(defaults, category), parameter.name))
    return parser


def _with_underscores(words: Iterable[str]) -> list[str]:
    """``--batch-size`` is another spelling of ``--batch_size``."""
    return [re.sub(r"^--[^=]*", lambda flag: "--" + flag.group()[2:].replace("-", "_"), word) for word in words]


def _read_config_file(path: str | Path, known: dict[str, Flag], flag: str = "--config") -> Values:
    try:
        values = json.loads(Path(path).read_text(encoding="utf-8-sig"))  # Windows' editors write a byte-order mark
    except OSError as error:
        raise UserError(f"{flag} {path}: {error.strerror}") from None
    except ValueError as error:
        raise UserError(f"{flag} {path}: not valid JSON ({error})") from None
    if isinstance(values, dict) and isinstance(values.get("config"), dict):
        values = former_defaults(known.items()) | values["config"]  # a run_config.json, perhaps of an earlier version
    if not isinstance(values, dict):
        raise UserError(f"{flag} {path}: expected one JSON object of parameter: value")
    names = {alias.lstrip("-"): name for name, facts in known.items() for alias in facts.aliases}
    values = {
        names.get(name, name): os.path.expanduser(value) if isinstance(value, str) else value
        for name, value in values.items()
    }
    for name in values:
        if name not in known:
            raise UserError(f"{flag} {path}: unknown parameter {name}{nearest(name, list(known))}")
    # What belongs to one start is not taken over, but a file may choose the folder and the preset.
    return {name: value for name, value in values.items() if not known[name].once or name in ("output_dir", "preset")}


def _stored_flags(resume: str | None, output_dir: str | None, known: dict[str, Flag]) -> Values:
    """The parameters of the run that ``--resume FOLDER`` continues; of auto's run the defaults that have changed since.

    For auto the command is the same as at the start, so it says the rest once more.
    """
    if resume is None:
        return {}
    if resume == "auto":
        folder = Path(output_dir or "")
        if not output_dir or not any(path.is_dir() for path in folder.glob("checkpoint-*")):
            return {}
        try:
            stored = json.loads((folder / "run_config.json").read_text(encoding="utf-8"))["config"]
        except (OSError, ValueError, KeyError, TypeError):
            return {}  # its checkpoint says later what does not fit
        former = former_defaults(known.items()).items() if isinstance(stored, dict) else ()
        return {name: value for name, value in former if stored.get(name, value) == value}
    path = Path(resume)
    file = (path.parent if path.name.startswith("checkpoint-") else path) / "run_config.json"
    if not file.is_file():
        if path.name.startswith("checkpoint-") and path.is_dir():
            return {}
        raise UserError(f"--resume {resume}: no run there (it has no run_config.json); name its folder, or auto")
    stored = _read_config_file(file, known, "--resume")
    return {name: value for name, value in stored.items() if not known[name].once}


def _preset(name: Value, known: Iterable[str]) -> Values:
    if name is None:
        return {}
    if not isinstance(name, str) or name not in PRESETS:
        hint = nearest(str(name), list(PRESETS))
        raise UserError(f"--preset {name} is unknown{hint}; allowed: {', '.join(PRESETS)}")
    return {key: value for key, value in PRESETS[name].items() if key in known}


def parse_config(kind: type[Config], argv: Sequence[str] | None = None, *, description: str = "") -> Config:
    """The configuration of a script: defaults < the run that --resume names < preset < --config FILE < flags.

    It is checked before anything is loaded. Raises UserError naming the flag, the value and what is allowed.
    ``--print_config`` prints it and exits with 0.
    """
    defaults = kind()
    known = {parameter.name: flag for _, parameter, flag in parameters(defaults)}
    words = _with_underscores(sys.argv[1:] if argv is None else argv)
    flags: Values = vars(build_parser(defaults, description).parse_args(words))
    from_file = _read_config_file(str(flags["config"]), known) if flags.get("config") else {}
    resume = flags.get("resume")
    output_dir = flags.get("output_dir") or from_file.get("output_dir")
    stored = _stored_flags(str(resume) if resume else None, str(output_dir) if output_dir else None, known)
    preset = _preset(flags.get("preset") or from_file.get("preset"), known)
    base = defaults.flat()
    values = base | stored | preset | from_file | flags
    for _, parameter, flag in parameters(defaults):
        name = parameter.name
        where = "command line" if name in flags else f"--config {flags['config']}" if name in from_file else "default"
        check_value(parameter, flag, values[name], base[name], where)
    sections = {
        category: replace(section, **{f.name: values[f.name] for f in fields(section)})
        for category, section in ((category, getattr(defaults, category)) for category in categories(defaults))
    }
    config = replace(defaults, **sections, given=frozenset(flags) | frozenset(from_file))  # type: ignore[type-var]
    check_together(config)
    if config.output.print_config:
        print(json.dumps(config.flat(), indent=2))
        raise SystemExit(0)
    return config
