"""Sections of text, tables and plots, written as Markdown, as one HTML page (see templates) or printed to the
terminal."""

import base64
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape
from matplotlib.figure import Figure
from PIL import Image

from pneumo.display import charts
from pneumo.display.charts import Chart
from pneumo.display.console import Terminal

VERDICTS = {  # first word of a cell -> CSS class
    **dict.fromkeys(("helps", "saves"), "helps"),
    **dict.fromkeys(("hurts", "costs", "collapsed"), "hurts"),
}
MARKDOWN_SYNTAX = re.compile(r"[\\`*<|$\[\]]|^>|(?<!\w)_|_(?!\w)|&(?=[\w#]+;)")
LARGE = 200_000  # bytes
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
    environment = _environment()
    environment.tests["chart"] = lambda plot: isinstance(plot, Chart)
    plots = [plot for section in sections for row in section.plots.values() for plot in row]
    script = charts.script() if any(isinstance(plot, Chart) for plot in plots) else ""
    return environment.get_template("page.html").render(sections=sections, plotly=Markup(script))


def fragment(template: str, **values: object) -> Markup:
    """A part of a page, of a file in templates, such as the `controls` of a section."""
    return Markup(_environment().get_template(template).render(values))


def pictures_first(sections: Sequence[Section]) -> list[Section]:
    """The same for a page that begins with what is taken in at once: the first section, those that have
    plots or controls, and below them every table, folded."""
    first, *rest = sections
    seen = [one for one in rest if one.plots or one.controls]
    return [first, *(replace(one, columns=(), rows=()) for one in seen), *filter(None, map(_folded, rest))]


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


def _folded(section: Section) -> Section | None:
    """The table of a section, with its text unless that stands by its plots; None without a table."""
    if not (section.plots or section.controls):
        return replace(section, folded=True)
    if not section.rows:
        return None
    return Section(f"{section.title}: the numbers", (), section.columns, section.rows, folded=True)


def _environment() -> Environment:
    environment = Environment(
        loader=PackageLoader("pneumo.display"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    environment.filters |= {
        "data_uri": _data_uri,
        "verdict": _verdict,
        "unbroken_intervals": _unbroken_intervals,
    }
    return environment


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


def _data_uri(plot: Figure | bytes) -> str:
    """A plot, or its PNG file, as an address that holds it: as WebP where the PNG is large, as one with
    photographs is."""
    image, kind = plot if isinstance(plot, bytes) else png(plot), "png"
    if len(image) > LARGE:
        smaller = io.BytesIO()
        Image.open(io.BytesIO(image)).convert("RGB").save(smaller, "webp", quality=85, method=2)
        image, kind = smaller.getvalue(), "webp"
    return f"data:image/{kind};base64,{base64.b64encode(image).decode()}"


def _verdict(cell: str) -> str:
    """The CSS class of a cell that begins with a verdict, else the empty string."""
    return VERDICTS.get(cell.split(" ")[0].rstrip(":"), "")


def _unbroken_intervals(cell: str) -> Markup:
    """A cell whose intervals are not broken into two lines."""
    return Markup(INTERVAL.sub(r'<span class="whole">\g<0></span>', str(escape(cell))))
