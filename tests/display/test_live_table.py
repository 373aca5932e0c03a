"""A table that is kept up to date in a terminal, below what is printed meanwhile."""

from io import StringIO

import pytest
from rich.console import Console

from pneumo.display.console import Terminal

COLUMNS = ("trial", "epoch")


@pytest.fixture
def terminal(monkeypatch):
    """Whether there is a person -> a Terminal and what it has printed so far."""

    def make(is_terminal):
        made = Terminal()
        made._console = Console(
            force_terminal=is_terminal, width=60, file=(file := StringIO()), highlight=False, markup=False
        )
        return made, file.getvalue

    monkeypatch.setenv("TERM", "xterm")
    return make


def test_the_table_is_asked_for_anew_and_leaves_no_trace(terminal):
    made, printed = terminal(is_terminal=True)
    epochs = iter(range(1, 100))
    with made.live_table(COLUMNS, lambda: ([["#7", f"{next(epochs)}/9"]], "1 of 2 done")):
        made.line("printed meanwhile")
        during = printed()
    assert "printed meanwhile" in during
    assert "#7" in printed()
    assert "1 of 2 done" in printed()
    assert printed().endswith("\x1b[1A\x1b[2K"), "the last lines are cleared"


def test_a_file_gets_the_lines_alone(terminal):
    made, printed = terminal(is_terminal=False)
    with made.live_table(COLUMNS, lambda: pytest.fail("nobody looks")):
        made.line("printed meanwhile")
    assert printed() == "printed meanwhile\n"
