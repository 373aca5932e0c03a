"""The terminal: short lines, progress bars where there is a person, plain lines where there is a file."""

import os
import sys
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from pneumo.interrupts import interrupt_main_thread

SECONDS_BETWEEN_PLAIN_LINES = 15
WIDTH_OF_A_FILE = 200

Advance = Callable[[int, int], None]


class PipeConsole(Console):
    """A console whose reader may go away, as in `pneumo train | head`: the command then ends quietly, like
    one that is interrupted."""

    def on_broken_pipe(self) -> None:
        silence_stdout()
        self.quiet = True
        if threading.current_thread() is threading.main_thread():
            raise KeyboardInterrupt
        interrupt_main_thread()


def silence_stdout() -> None:
    """From now on, what is printed goes nowhere, also what Python prints as it ends."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


class Terminal:
    def __init__(self, quiet: bool = False, progress_bars: bool = True) -> None:
        """quiet: nothing stays on the screen; progress passes over it where there is a person, unless
        `progress_bars` is false."""
        plain = False if "ipykernel" in sys.modules else None  # a notebook would keep each step of a bar
        self._console = PipeConsole(
            highlight=False, markup=False, emoji=False, force_jupyter=False, force_terminal=plain
        )  # text is data
        if not self._console.is_terminal:
            self._console.width = WIDTH_OF_A_FILE
        self._quiet = quiet
        self._progress_bars = progress_bars

    def say(self, topic: str, text: str) -> None:
        """A line under a topic: `split     1,960 / 420 / 420`."""
        self._print(f"{topic:<10}{text}")

    def line(self, text: str = "") -> None:
        self._print(text)

    def warn(self, text: str) -> None:
        """What must not be overlooked."""
        if self._quiet:
            return
        self._console.print(text, style="bold yellow", soft_wrap=True)

    @property
    def width(self) -> int:
        """How many characters a line has."""
        return self._console.width

    def table(
        self, columns: Sequence[str], rows: Sequence[Sequence[str]], title: str = "", gap: int = 3
    ) -> None:
        """`gap`: characters between two columns."""
        if self._quiet:
            return
        if title:
            self.line(title)
        table = Table(box=None, pad_edge=False, padding=(0, gap, 0, 0), header_style="dim")
        for column in columns:
            table.add_column(column)
        for row in rows:
            table.add_row(*row)
        self._console.print(table)

    def waiting(self, text: str) -> AbstractContextManager[object]:
        """Shows that something is under way whose end cannot be told."""
        return self._console.status(text) if self._console.is_terminal else nullcontext()

    @contextmanager
    def progress(self, topic: str) -> Iterator[Advance]:
        """A function (done, total) that shows how far something is, and leaves no trace of it."""
        if self._console.is_terminal and self._progress_bars:
            bar = Progress(
                TextColumn("{task.description:<9}"),
                BarColumn(40),
                TextColumn("{task.completed:,.0f} of {task.total:,.0f}"),
                TimeRemainingColumn(compact=True),
                console=self._console,
                transient=True,
            )
            with bar:
                task = bar.add_task(topic, total=None, visible=False)
                yield lambda done, total: bar.update(task, completed=done, total=total, visible=True)
        else:
            yield self._plain_progress(topic)

    @contextmanager
    def live_table(
        self, columns: Sequence[str], rows: Callable[[], tuple[Sequence[Sequence[str]], str]]
    ) -> Iterator[None]:
        """Where there is a person, a table below what is printed meanwhile. `rows` is asked every second, in
        another thread, for the rows and a last line. It leaves no trace."""
        if not self._console.is_terminal or self._quiet:
            yield
            return

        def table() -> Group:
            found, last_line = rows()
            shown = Table(box=None, padding=(0, 2, 0, 1), header_style="dim")
            for column in columns:
                shown.add_column(column, no_wrap=True, overflow="ellipsis")
            for row in found:
                shown.add_row(*row)
            return Group(Text(), shown, Text(f" {last_line}", style="dim"))

        with Live(get_renderable=table, console=self._console, refresh_per_second=1, transient=True):
            yield

    def _plain_progress(self, topic: str) -> Advance:
        last = time.monotonic()

        def advance(done: int, total: int) -> None:
            nonlocal last
            if time.monotonic() - last >= SECONDS_BETWEEN_PLAIN_LINES:
                last = time.monotonic()
                self.say(topic, f"{done:,} of {total:,}")

        return advance

    def _print(self, text: str) -> None:
        if not self._quiet:
            self._console.print(text, soft_wrap=True)
