"""Ids, names and columns may hold anything: they are drawn, written and printed as they stand."""

import html
import io

import numpy as np
import optuna
import pytest
from markdown_it import MarkdownIt
from matplotlib.figure import Figure
from optuna.distributions import CategoricalDistribution
from optuna.trial import create_trial

from pneumo.display import pages
from pneumo.display.console import Terminal
from pneumo.display.format import probability
from pneumo.display.pages import Link, Section
from pneumo.evaluation import pictures, plots
from pneumo.evaluation.pictures import Tiles
from pneumo.sweep import labels
from pneumo.sweep.pages import charts, static_plots
from pneumo.sweep.summary import summary

NAMES = [
    "x$\\bad$z",
    "a$b$c",
    "\\$x$",
    "$",
    "a|b`c`<i>d</i>",
    "[bold]x[/]",
    "_y_ *z*",
    "[/x]",
    ":smile:",
    "&lt;",
]
RANDOM = np.random.default_rng(0)
LABELS, SCORES = np.arange(40) % 2, RANDOM.random(40)
IMAGES = RANDOM.random((2, 8, 8))


def drawn(figure):
    buffer = io.BytesIO()
    figure.savefig(buffer, format="rgba", dpi=60)
    return buffer.getvalue()


def study_with(name):
    study = optuna.create_study(direction="maximize", study_name=name)
    study.set_user_attr("objective", ["val/auroc"])
    axes = {name: CategoricalDistribution([name, "other"]), "b": CategoricalDistribution([name, "other"])}
    for number in range(6):
        values = {name: [name, "other"][number % 2], "b": [name, "other"][number // 3]}
        study.add_trial(create_trial(params=values, distributions=axes, value=number / 10))
    return study


def plots_with(name):
    masks = np.zeros((2, 8, 8), np.uint8)
    tiles = Tiles(name, IMAGES, masks, IMAGES, [(name, name)] * 2, [True, False])
    return {
        "labelled": pictures.labelled(IMAGES, masks, LABELS[:2], [name, name]),
        "mapped": pictures.saliency_grid(name, [tiles]),
        "ranking": plots.ranking(LABELS, SCORES, 0.5, name),
        "confusion": plots.confusion(LABELS, SCORES, 0.5, name),
        "reliability": plots.reliability(LABELS, {name: SCORES, "other": SCORES}, name),
        "forest": plots.forest([(name, 0.5, (0.4, 0.6))], 0.5, name, "AUROC"),
    }


@pytest.mark.parametrize("name", [*NAMES, "two\nlines\x00"])
def test_every_picture_is_drawn_whatever_a_name_holds(name):
    for kind, figure in plots_with(name).items():
        assert drawn(figure), kind


@pytest.mark.parametrize("name", [*NAMES, "two\nlines\x00"])
def test_every_picture_of_a_study_is_drawn_whatever_a_name_holds(name):
    study = study_with(name)
    assert len(dict(static_plots.of_study(study))) == 4
    drawn = [chart for section in charts.of_study(study) for row in section.plots.values() for chart in row]
    assert len(drawn) == 5
    assert all(chart.html for chart in drawn)


@pytest.mark.parametrize("name", NAMES)
def test_an_interactive_chart_says_the_name_and_not_what_it_would_be_as_html(name):
    (slices,) = [section for section in charts.of_study(study_with(name)) if section.title == "Slices"]
    titles = [chart.figure.layout.xaxis.title.text for chart in slices.plots[""]]
    assert html.escape(labels.name(name)) in titles


@pytest.mark.parametrize("name", NAMES[:4])
def test_a_name_with_dollar_signs_is_drawn_as_it_stands(name):
    ours, plain = Figure(figsize=(3, 1)), Figure(figsize=(3, 1))
    ours.suptitle(plots.plain(name))
    plain.suptitle(name, parse_math=False)
    assert drawn(ours) == drawn(plain)


@pytest.mark.parametrize("name", NAMES)
def test_markdown_read_by_a_parser_of_its_own_says_the_name(name):
    sections = [Section(name, [f"of {name}."], [name], [[name], [Link(name, "http://at/x")]], {name: []})]
    text = MarkdownIt("commonmark").enable("table").render(pages.markdown(sections))
    shown = html.escape(name).replace("&#x27;", "'")
    assert f"<h1>{shown}</h1>" in text
    assert f"<p>of {shown}.</p>" in text
    assert f"<th>{shown}</th>" in text
    assert f"<td>{shown}</td>" in text
    assert f'<td><a href="http://at/x">{shown}</a></td>' in text
    assert f"<em>In the HTML page: {shown}</em>" in text


def test_a_line_break_in_a_name_ends_no_row_of_a_table():
    text = pages.markdown([Section("t", [], ["id", "b"], [["one\ntwo\r\n\nthree", "x"]])])
    assert MarkdownIt("commonmark").enable("table").render(text).count("<tr>") == 2


@pytest.mark.parametrize("name", NAMES)
def test_an_html_page_says_the_name(name):
    text = pages.html([Section(name, [name], [name], [[name], [Link(name, "http://at/x")]])])
    assert text.count(html.escape(name)) == 7  # title, heading, paragraph, table, column, cell, link


@pytest.mark.parametrize("name", NAMES)
def test_the_terminal_prints_the_name(name, capsys):
    terminal = Terminal()
    terminal.say("data", name)
    terminal.warn(name)
    terminal.table([name], [[name]])
    pages.print_sections(summary(study_with(name), 6)[:1], terminal)
    assert capsys.readouterr().out.count(name) == 5


@pytest.mark.parametrize(
    ("value", "text"), [(0.87, ".87"), (0.0003, "3e-4"), (0.9997, ".9997"), (0.0, ".00"), (1.0, "1.00")]
)
def test_a_probability_is_never_rounded_to_0_or_1(value: float, text: str) -> None:
    assert probability(value, 2) == text
