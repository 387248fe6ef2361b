"""What becomes of bad rows: they are left out, counted and listed, and where there are too many the run ends."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path

from utils.atomic_io import atomic_writer
from utils.errors import UserError


class RejectedRows:
    """Counts the bad rows of the file ``source`` by reason, and ends the run where there are too many.

    rows: how many rows the file has. max_rate: the largest share that may be bad. strict: end at the first one.
    path: a list of bad rows, each once, to which several processes may write, each what it met; None: no list.
    tidy: whether this process first removes the lines of the list that were cut off.
    """

    def __init__(
        self, path: Path | None, source: Path, rows: int, max_rate: float, strict: bool = False, tidy: bool = True
    ) -> None:
        self.path = path
        self.source, self.rows = source, rows
        self.max_rate, self.strict = max_rate, strict
        self.reasons: dict[int, str] = {}
        # The bad rows met since this start of the run: only they compare with the rows that were read since then.
        self.met: set[int] = set()
        if path is not None and path.exists():
            others = self._read_list(path)
            if tidy:
                with atomic_writer(path) as handle:
                    handle.writelines([*(line + "\n" for line in others), *map(self._line, self.reasons)])

    def _read_list(self, path: Path) -> list[str]:
        """Take over the reasons that an earlier start listed; returns the lines about other files."""
        others = []
        for line in path.read_text(encoding="utf-8").splitlines():
            try:
                entry = json.loads(line)
                if entry["file"] == str(self.source):
                    self.reasons[entry["row"]] = entry["reason"]
                else:
                    others.append(line)
            except (ValueError, KeyError, TypeError):
                continue  # a line that a killed run left half written
        return others

    def _line(self, row: int) -> str:
        return json.dumps({"file": str(self.source), "row": row, "reason": self.reasons[row]}) + "\n"

    def add(self, rejected: list[tuple[int, str]], seen_rows: int) -> None:
        """Take in what a batch reports; ``seen_rows`` rows were read so far. Raises UserError where it is too much."""
        if not rejected:
            return
        new = {row: reason for row, reason in rejected if row not in self.reasons}
        self.reasons.update(new)
        self.met.update(row for row, _ in rejected)
        if self.path is not None and new:
            with open(self.path, "a", encoding="utf-8") as handle:
                handle.writelines(map(self._line, new))
        if self.strict:
            row, reason = rejected[0]
            raise UserError(f"{self.source} row {row + 1}: {reason} (--strict ends the run at the first bad row)")
        if len(self.met) > self.max_rate * max(min(200, self.rows), min(seen_rows, self.rows)):
            raise UserError(
                f"{self.source}: {len(self.met)} bad rows among the first {seen_rows} ({self.summary()}), more than"
                f" --max_reject_rate {self.max_rate:g}; fix the file or raise the rate"
            )

    def summary(self) -> str:
        """The three most frequent reasons with their counts."""
        return ", ".join(f"{count} x {reason}" for reason, count in Counter(self.reasons.values()).most_common(3))
