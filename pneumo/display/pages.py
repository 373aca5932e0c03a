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

from pneumo.display import charts
from pneumo.display.charts import Chart
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
Plot = Figure | Chart | bytes  # bytes: a PNG file


@dataclass(frozen=True)
class Section:
    """A heading, paragraphs, plots by caption, and one table, in this order: several plots of a caption stand
    side by side where the screen is wide enough. A folded section opens on a click. `controls` is HTML of
    one's own between the paragraphs and the plots; it is not escaped."""

    title: str
    text: Sequence[str] = ()
    columns: Sequence[str] = ()
    rows: Sequence[Sequence[Cell]] = field(default=())
    plots: Mapping[str, Sequence[Plot]] = field(default_factory=dict)
    folded: bool = False
    controls: Markup = field(default_factory=Markup)
    command: str = ""  # after the paragraphs, to be copied


def markdown(sections: Sequence[Section]) -> str:
    """Markdown, the first section's title as the top heading; of plots only the captions."""
    blocks = []
    for number, section in enumerate(sections):
        blocks.append(f"{'#' if number == 0 else '##'} {_escaped(section.title)}")
        blocks += map(_escaped, section.text)
        if section.command:
            blocks.append(f"    {section.command}")  # a block of code
        if section.rows:
            lines = [section.columns, ["---"] * len(section.columns), *section.rows]
            blocks.append("\n".join(f"| {' | '.join(map(_markdown_cell, line))} |" for line in lines))
        blocks += [f"*In the HTML page: {_escaped(caption or section.title)}*" for caption in section.plots]
    return "\n\n".join(blocks) + "\n"


def html(sections: Sequence[Section]) -> str:
    """One HTML page that loads no other file: style, scripts and images are inside. The 5 MB of plotly.js are
    there once, and only with a chart. Text is escaped."""
    environment = Environment(
        loader=PackageLoader("pneumo.display"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    environment.filters |= {"base64": _base64, "verdict": _verdict, "unbroken_intervals": _unbroken_intervals}
    environment.tests["chart"] = lambda plot: isinstance(plot, Chart)
    plots = [plot for section in sections for row in section.plots.values() for plot in row]
    script = charts.script() if any(isinstance(plot, Chart) for plot in plots) else ""
    return environment.get_template("page.html").render(sections=sections, plotly=Markup(script))


def plot_sections(plots: Mapping[str, Plot]) -> list[Section]:
    """A section for each plot, with its name as the title."""
    return [Section(title, plots={"": [plot]}) for title, plot in plots.items()]


def print_sections(sections: Sequence[Section], terminal: Terminal) -> None:
    """Titles, text and tables; plots are left out."""
    for section in sections:
        terminal.line(section.title)
        for text in section.text:
            terminal.line(f"  {text}")
        if section.command:
            terminal.line(f"  {section.command}")
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
    plot.savefig(buffer, format="png", dpi=110)
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
