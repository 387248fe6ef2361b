"""Command lines: errors of one line that name the nearest right flag, and a help that can be read."""

from __future__ import annotations

import argparse
import difflib
import shutil
import sys
from collections.abc import Sequence
from typing import Any, NoReturn

from utils.errors import UserError


def nearest(word: str, known: Sequence[str]) -> str:
    """``; did you mean X?`` where something known is close, else an empty string."""
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    return f"; did you mean {close[0]}?" if close else ""


class OneLineErrors(argparse.ArgumentParser):
    """What is wrong with a command line becomes a UserError; a misspelt flag is told with the nearest right one."""

    _words: Sequence[str] = ()

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        self._words = [str(word) for word in (sys.argv[1:] if args is None else args)]
        return super().parse_known_args(args, namespace)

    def error(self, message: str) -> NoReturn:
        flags = [option for action in self._actions for option in action.option_strings]
        given = [word.split("=")[0] for word in self._words if word.startswith("--")]
        wrong = next((flag for flag in given if flag not in flags), None)
        # A misspelt flag also goes missing under its right name: the misspelling is what to tell.
        if wrong and ("required" in message or message.startswith("unrecognized arguments: ")):
            raise UserError(f"unknown argument {wrong}{nearest(wrong, flags)} (see --help)")
        raise UserError(message.removeprefix("argument "))


class ArgumentParser(OneLineErrors):
    """The parser of the small scripts; ``description`` is the module's docstring, its layout kept by default."""

    def __init__(self, description: str | None, *, defaults: bool = False, **more: Any) -> None:
        """``defaults``: show the default of each flag, and fill the lines of the description anew."""
        formatter = argparse.ArgumentDefaultsHelpFormatter if defaults else argparse.RawDescriptionHelpFormatter
        super().__init__(description=description, formatter_class=formatter, allow_abbrev=False, **more)


class HelpFormatter(argparse.ArgumentDefaultsHelpFormatter):
    """One spelling a flag, what kind of value it takes, its default: a hundred flags have to be read by somebody."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=38, width=min(120, shutil.get_terminal_size((120, 24)).columns))

    def _format_action_invocation(self, action: argparse.Action) -> str:
        spellings = [option for option in action.option_strings if "-" not in option[2:]]
        if not spellings:
            return super()._format_action_invocation(action)
        value = self._format_args(action, self._get_default_metavar_for_optional(action)) if action.nargs != "?" else ""
        return ", ".join(spellings) + (f" {value}" if value and action.nargs != 0 else "")

    def _get_default_metavar_for_optional(self, action: argparse.Action) -> str:
        if action.dest.endswith(("_path", "_dir", "config", "resume")):
            return "PATH"
        return "N" if action.type is int else "X" if action.type is float else "TEXT"

    def _get_help_string(self, action: argparse.Action) -> str | None:
        if isinstance(action, argparse._StoreFalseAction):
            return f"switch --{action.dest} off"
        if action.default is None:
            return action.help  # which says what happens then
        return super()._get_help_string(action)
