"""Sections of text, tables and plots, written as Markdown, as one HTML page (see templates) or printed to the
terminal."""

import base64
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape
from matplotlib.figure import Figure

from pneumo.display.console import Terminal

VERDICTS = {  # first word of a cell -> CSS class
    **dict.fromkeys(("helps", "saves"), "helps"),
    **dict.fromkeys(("hurts", "costs", "collapsed"), "hurts"),
}
MARKDOWN_SYNTAX = re.compile(r"[\\`*<|$\[\]]|^>|(?<!\w)_|_(?!\w)|&(?=[\w#]+;)")
INTERVAL = re.compile(r"\([-+,. \d]+\)")


@dataclass(frozen=True)
class Link:
    """A table cell that is a hyperlink."""

    text: str
    address: str

    def __str__(self) -> str:
        return self.text


Cell = str | Link


@dataclass(frozen=True)
class Section:
    """A heading, paragraphs, one table, and plots by caption: several plots of a caption stand side by side
    where the screen is wide enough."""

    title: str
    text: Sequence[str] = ()
    columns: Sequence[str] = ()
    rows: Sequence[Sequence[Cell]] = field(default=())
    plots: Mapping[str, Sequence[Figure]] = field(default_factory=dict)


def markdown(sections: Sequence[Section]) -> str:
    """Markdown, the first section's title as the top heading; of plots only the captions."""
    blocks = []
    for number, section in enumerate(sections):
        blocks.append(f"{'#' if number == 0 else '##'} {_escaped(section.title)}")
        blocks += map(_escaped, section.text)
        if section.rows:
            lines = [section.columns, ["---"] * len(section.columns), *section.rows]
            blocks.append("\n".join(f"| {' | '.join(map(_markdown_cell, line))} |" for line in lines))
        blocks += [f"*In the HTML page: {_escaped(caption)}*" for caption in section.plots]
    return "\n\n".join(blocks) + "\n"


def html(sections: Sequence[Section], plots: Mapping[str, Figure | bytes]) -> str:
    """One HTML page that loads no other file: style and images are inside. `plots`, or their PNG
    files, follow the sections with their captions. Text is escaped."""
    environment = Environment(
        loader=PackageLoader("pneumo.display"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    environment.filters |= {"base64": _base64, "verdict": _verdict, "unbroken_intervals": _unbroken_intervals}
    return environment.get_template("page.html").render(sections=sections, plots=plots)


def print_sections(sections: Sequence[Section], terminal: Terminal) -> None:
    """Titles, text and tables; plots are left out."""
    for section in sections:
        terminal.line(section.title)
        for text in section.text:
            terminal.line(f"  {text}")
        if section.rows:
            terminal.table(section.columns, [list(map(str, row)) for row in section.rows])
        terminal.line()


def _markdown_cell(cell: Cell) -> str:
    return _escaped(cell) if isinstance(cell, str) else f"[{_escaped(cell.text)}]({cell.address})"


def _escaped(text: str) -> str:
    """Text that Markdown shows as it stands: an id may have a bar, a bracket or a line break in it."""
    return MARKDOWN_SYNTAX.sub(r"\\\g<0>", " ".join(text.splitlines()))


def png(plot: Figure) -> bytes:
    """The plot as a PNG file."""
    buffer = io.BytesIO()
    plot.savefig(buffer, format="png", dpi=110, pil_kwargs={"compress_level": 3})  # 6 takes thrice as long
    return buffer.getvalue()


def _base64(plot: Figure | bytes) -> str:
    """A plot, or its PNG file, in base64."""
    return base64.b64encode(plot if isinstance(plot, bytes) else png(plot)).decode()


def _verdict(cell: str) -> str:
    """The CSS class of a cell that begins with a verdict, else the empty string."""
    return VERDICTS.get(cell.split(" ")[0].rstrip(":"), "")


def _unbroken_intervals(cell: str) -> Markup:
    """A cell whose intervals are not broken into two lines."""
    return Markup(INTERVAL.sub(r'<span class="whole">\g<0></span>', str(escape(cell))))
