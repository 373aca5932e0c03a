"""Sections as Markdown, as a self-contained HTML page, and on the terminal."""

import base64
import html
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from matplotlib.figure import Figure

from pneumo.console import Terminal

MARKED = {"helps": "helps", "saves": "helps", "hurts": "hurts", "costs": "hurts"}  # first word -> colour
STYLE = """
body { font: 15px/1.5 system-ui, sans-serif; color: #1c2430; max-width: 76rem; margin: 2rem auto;
  padding: 0 1rem }
h1 { font-size: 1.5rem } h2 { font-size: 1.15rem; margin-top: 2.2rem } p { max-width: 52rem; color: #445 }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .92rem }
th, td { text-align: left; padding: .3rem 1.1rem .3rem 0 }
th { color: #667; font-weight: 500; border-bottom: 1px solid #ccd }
td { border-bottom: 1px solid #eef; vertical-align: top }
td.helps { color: #14713d; font-weight: 600 } td.hurts { color: #a3261d; font-weight: 600 }
.unfinished { color: #a35a00; font-weight: 600 } figure { margin: 1.2rem 0 } img { max-width: 100% }
@media (prefers-color-scheme: dark) { body { background: #15181d; color: #dde } p, th { color: #aab }
  td, th { border-color: #333a44 } td.helps { color: #6fd39b } td.hurts { color: #ff9a90 }
  img { background: #fff } }
"""


@dataclass(frozen=True)
class Section:
    """A heading, paragraphs and a table."""

    title: str
    text: Sequence[str] = ()
    columns: Sequence[str] = ()
    rows: Sequence[Sequence[str]] = field(default=())


def markdown(sections: Sequence[Section]) -> str:
    blocks = []
    for number, section in enumerate(sections):
        blocks.append(f"{'#' if number == 0 else '##'} {section.title}")
        blocks += section.text
        if section.rows:
            lines = [section.columns, ["---"] * len(section.columns), *section.rows]
            blocks.append("\n".join(f"| {' | '.join(barred(text) for text in line)} |" for line in lines))
    return "\n\n".join(blocks) + "\n"


def barred(text: str) -> str:
    return text.replace("|", "\\|")


def page(sections: Sequence[Section], figures: Mapping[str, Figure]) -> str:
    """One file that needs nothing else; `figures` by caption."""
    body = []
    for number, section in enumerate(sections):
        level = "h1" if number == 0 else "h2"
        body.append(f"<{level}>{html.escape(section.title)}</{level}>")
        body += [paragraph(text) for text in section.text]
        if section.rows:
            head = "".join(f"<th>{html.escape(column)}</th>" for column in section.columns)
            rows = "".join(f"<tr>{''.join(map(data_cell, row))}</tr>" for row in section.rows)
            body.append(f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>")
    for caption, figure in figures.items():
        body.append(
            f"<h2>{html.escape(caption)}</h2><figure><img alt='{html.escape(caption)}' "
            f"src='data:image/png;base64,{encoded(figure)}'></figure>"
        )
    title = html.escape(sections[0].title)
    return (
        f"<!doctype html><html lang='en'><head><meta charset='utf-8'><title>{title}</title>"
        f"<meta name='viewport' content='width=device-width'><style>{STYLE}</style></head>"
        f"<body>{''.join(body)}</body></html>\n"
    )


def paragraph(text: str) -> str:
    marked = " class='unfinished'" if text.startswith("UNFINISHED") else ""
    return f"<p{marked}>{html.escape(text)}</p>"


def data_cell(text: str) -> str:
    word = MARKED.get(text.split(" ")[0])
    marked = f" class='{word}'" if word else ""
    return f"<td{marked}>{html.escape(text)}</td>"


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
            terminal.table(section.columns, section.rows)
        terminal.line()
