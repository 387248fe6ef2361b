"""Command lines: errors of one line that name the nearest known flag, and a help that is easy to read."""

from __future__ import annotations

import argparse
import difflib
import os
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn

from utils.errors import UserError


def nearest(word: str, known: Sequence[str]) -> str:
    """``; did you mean X?`` where ``known`` holds a word similar to ``word``, else an empty string."""
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    return f"; did you mean {close[0]}?" if close else ""


def _expand_home(word: str) -> str:
    """``--output_dir=~/run`` with the home folder; the shell expands only a ~ that begins a word."""
    flag, sign, value = word.partition("=")
    if word.startswith("--") and sign:
        return f"{flag}={os.path.expanduser(value)}"
    return os.path.expanduser(word)


class OneLineErrors(argparse.ArgumentParser):
    """Raises a UserError for a wrong command line; for a misspelt flag the message names the nearest known one.

    ``flags`` lists every flag that was added to the parser or to one of its groups.
    """

    def __init__(self, *args: Any, **settings: Any) -> None:
        self.flags: list[str] = []
        self._words: list[str] = []
        super().__init__(*args, **settings)

    def add_argument(self, *names: str, **settings: Any) -> argparse.Action:
        return self._note(super().add_argument)(*names, **settings)

    def add_argument_group(self, *args: Any, **settings: Any) -> Any:
        group = super().add_argument_group(*args, **settings)
        group.add_argument = self._note(group.add_argument)  # type: ignore[method-assign]
        return group

    def add_mutually_exclusive_group(self, **settings: Any) -> Any:
        group = super().add_mutually_exclusive_group(**settings)
        group.add_argument = self._note(group.add_argument)  # type: ignore[method-assign]
        return group

    def _note(self, add: Callable[..., argparse.Action]) -> Callable[..., argparse.Action]:
        """``add``, which then also puts the flags that it adds on the list."""

        def add_and_note(*names: str, **settings: Any) -> argparse.Action:
            action = add(*names, **settings)
            self.flags += action.option_strings
            return action

        return add_and_note

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        self._words = [_expand_home(str(word)) for word in (sys.argv[1:] if args is None else args)]
        return super().parse_known_args(self._words, namespace)

    def error(self, message: str) -> NoReturn:
        given = [word.split("=")[0] for word in self._words if word.startswith("--")]
        wrong = next((flag for flag in given if flag not in self.flags), None)
        # argparse also reports a misspelt required flag as missing; the spelling is what the user has to correct.
        if wrong and ("required" in message or message.startswith("unrecognized arguments: ")):
            raise UserError(f"unknown argument {wrong}{nearest(wrong, self.flags)} (see --help)")
        raise UserError(message.removeprefix("argument "))


class ArgumentParser(OneLineErrors):
    """The parser of the small scripts; ``description`` is the module's docstring, printed as it is laid out there."""

    def __init__(self, description: str | None, *, defaults: bool = False, **settings: Any) -> None:
        """``defaults``: show the default of each flag, and wrap the description."""
        formatter = argparse.ArgumentDefaultsHelpFormatter if defaults else argparse.RawDescriptionHelpFormatter
        super().__init__(description=description, formatter_class=formatter, allow_abbrev=False, **settings)
