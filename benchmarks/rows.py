"""What a benchmark finds: rows of one table, the same in a terminal and on the page."""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NoReturn

from pneumo.display.format import decimal

HEADER = ("what", "pneumo", "compared with", "ratio", "required")
NOT_MEASURED = "not measured"


@dataclass(frozen=True)
class Row:
    """`figure` is ours against the other side, in `unit` or as a ratio; None: there is nothing to compare."""

    what: str
    ours: str = NOT_MEASURED
    other: str = ""
    figure: float | None = None
    unit: str = ""
    digits: int = 2
    at_least: float | None = None
    at_most: float | None = None

    @property
    def missed(self) -> bool:
        if self.figure is None:
            return False
        low = self.at_least is not None and not self.figure >= self.at_least
        return low or (self.at_most is not None and not self.figure <= self.at_most)

    def cells(self) -> list[str]:
        figure = "" if self.figure is None else f"{decimal(self.figure, self.digits)}{self.unit}"
        required = [f"at least {bound(self.at_least)}"] if self.at_least is not None else []
        required += [f"at most {bound(self.at_most)}"] if self.at_most is not None else []
        return [
            self.what,
            self.ours,
            self.other,
            figure + (" **missed**" if self.missed else ""),
            *(required or [""]),
        ]


def bound(value: float) -> str:
    return f"{value:g}".removeprefix("0") or "0"


def table(lines: Sequence[Sequence[str]]) -> str:
    """Markdown with its columns one under the other; the first line is the header."""
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    header, *rest = (
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |"
        for line in lines
    )
    return "\n".join([header, "|" + "|".join("-" * (width + 2) for width in widths) + "|", *rest])


def end(rows: Sequence[Row], about: str = "") -> NoReturn:
    """Prints them and ends the process, with what was missed."""
    print(table([HEADER, *(row.cells() for row in rows)]))
    if about:
        print(f"\n{about}")
    missed = [row.what for row in rows if row.missed]
    sys.exit(f"missed: {'; '.join(missed)}" if missed else 0)
