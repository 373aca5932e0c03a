"""Sections as Markdown, as a self-contained HTML page, and on the terminal."""

import base64
import html
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from matplotlib.figure import Figure

from pneumo.display.console import Terminal

MARKED = {  # first word -> colour
    **dict.fromkeys(("helps", "saves"), "helps"),
    **dict.fromkeys(("hurts", "costs", "collapsed"), "hurts"),
}
MARKS = re.compile(
    r"[\\`*<|$\[\]]|^>|(?<!\w)_|_(?!\w)|&(?=[\w#]+;)"
)  # what Markdown would take for something else
INTERVAL = re.compile(r"\([-+,. \d]+\)")  # is not broken into two lines
STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #1c2430; max-width: 76rem; margin: 2rem auto;
  padding: 0 1rem }
h1 { font-size: 1.5rem } h2 { font-size: 1.15rem; margin-top: 2.2rem } p { max-width: 52rem; color: #445 }
.wide { overflow-x: auto; margin: .8rem 0 }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .92rem }
th, td { text-align: left; padding: .3rem 1.1rem .3rem 0 }
th { color: #667; font-weight: 500; border-bottom: 1px solid #ccd }
td { border-bottom: 1px solid #eef; vertical-align: top }
td.helps { color: #14713d; font-weight: 600 } td.hurts { color: #a3261d; font-weight: 600 }
.unfinished { color: #a35a00; font-weight: 600 } img { max-width: 100% } figure { margin: 1.2rem 0 }
figure.row { display: flex; flex-wrap: wrap; gap: .6rem; align-items: flex-start }
figure.row img { width: 23rem } figcaption { flex-basis: 100%; color: #445 }
a { color: #1d5fa8 } a, .whole { white-space: nowrap }
@media (max-width: 40rem) { body { margin: 1rem auto; overflow-wrap: break-word }
  .wide table { width: max-content } th, td { padding-right: .8rem; max-width: 11rem }
  .wide img { max-width: none; width: 40rem } }
@media (prefers-color-scheme: dark) { body { background: #15181d; color: #dde }
  p, th, figcaption { color: #aab } a { color: #8fc1ff } td, th { border-color: #333a44 }
  td.helps { color: #6fd39b } td.hurts { color: #ff9a90 } img { background: #fff } }
"""


@dataclass(frozen=True)
class Link:
    """A cell that leads somewhere."""

    text: str
    address: str

    def __str__(self) -> str:
        return self.text


Cell = str | Link


@dataclass(frozen=True)
class Section:
    """A heading, paragraphs, a table, and pictures: several to a caption, beside each other where there is
    room."""

    title: str
    text: Sequence[str] = ()
    columns: Sequence[str] = ()
    rows: Sequence[Sequence[Cell]] = field(default=())
    pictures: Mapping[str, Sequence[Figure]] = field(default_factory=dict)


def markdown(sections: Sequence[Section]) -> str:
    blocks = []
    for number, section in enumerate(sections):
        blocks.append(f"{'#' if number == 0 else '##'} {escaped(section.title)}")
        blocks += map(escaped, section.text)
        if section.rows:
            lines = [section.columns, ["---"] * len(section.columns), *section.rows]
            blocks.append("\n".join(f"| {' | '.join(map(markdown_cell, line))} |" for line in lines))
        blocks += [f"*In the HTML page: {escaped(caption)}*" for caption in section.pictures]
    return "\n\n".join(blocks) + "\n"


def markdown_cell(cell: Cell) -> str:
    if isinstance(cell, str):
        return escaped(cell)
    return f"[{escaped(cell.text)}]({cell.address})"


def escaped(text: str) -> str:
    """As it stands, in Markdown: an id may have a bar, a bracket, a backtick or a line break in it."""
    return MARKS.sub(r"\\\g<0>", " ".join(text.splitlines()))


def page(sections: Sequence[Section], figures: Mapping[str, Figure]) -> str:
    """One file that needs nothing else; `figures` by caption, after all sections."""
    body = []
    for number, section in enumerate(sections):
        level = "h1" if number == 0 else "h2"
        body.append(f"<{level}>{html.escape(section.title)}</{level}>")
        body += [paragraph(text) for text in section.text]
        if section.rows:
            head = "".join(f"<th>{html.escape(column)}</th>" for column in section.columns)
            rows = "".join(f"<tr>{''.join(map(data_cell, row))}</tr>" for row in section.rows)
            table = f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"
            body.append(f"<div class='wide'>{table}</div>")
        for caption, row in section.pictures.items():
            shown = "".join(picture(figure, caption) for figure in row)
            kind = "row" if len(row) > 1 else "wide"
            said = f"<figcaption>{html.escape(caption)}</figcaption>"
            body.append(f"<figure class='{kind}'>{said}{shown}</figure>")
    for caption, figure in figures.items():
        body.append(f"<h2>{html.escape(caption)}</h2><figure>{picture(figure, caption)}</figure>")
    title = html.escape(sections[0].title)
    return (
        f"<!doctype html><html lang='en'><head><meta charset='utf-8'><title>{title}</title>"
        f"<meta name='viewport' content='width=device-width'><style>{STYLE}</style></head>"
        f"<body>{''.join(body)}</body></html>\n"
    )


def picture(figure: Figure, caption: str) -> str:
    return f"<img alt='{html.escape(caption)}' src='data:image/png;base64,{encoded(figure)}'>"


def paragraph(text: str) -> str:
    marked = " class='unfinished'" if text.startswith("UNFINISHED") else ""
    return f"<p{marked}>{html.escape(text)}</p>"


def data_cell(cell: Cell) -> str:
    if isinstance(cell, Link):
        return f"<td><a href='{html.escape(cell.address)}'>{html.escape(cell.text)}</a></td>"
    word = MARKED.get(cell.split(" ")[0].rstrip(":"))
    marked = f" class='{word}'" if word else ""
    text = INTERVAL.sub(r"<span class='whole'>\g<0></span>", html.escape(cell))
    return f"<td{marked}>{text}</td>"


def encoded(figure: Figure) -> str:
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110, bbox_inches="tight")
    return base64.b64encode(buffer.getvalue()).decode()


def say(sections: Sequence[Section], terminal: Terminal) -> None:
    for section in sections:
        terminal.line(section.title)
        for text in section.text:
            terminal.line(f"  {text}")
        if section.rows:
            terminal.table(section.columns, [list(map(str, row)) for row in section.rows])
        terminal.line()
