"""The page of an evaluation, used as a person would, in a browser."""

import json
import sys

import numpy as np
import pandas as pd
import pytest
from conftest import ROOT
from scipy.special import expit
from sklearn.metrics import precision_score, recall_score

from pneumo.display import pages
from pneumo.evaluation import page, report
from pneumo.evaluation.platt import PlattScaling
from pneumo.evaluation.results import Evaluation, LogOddsPredictions
from pneumo.evaluation.subgroups import subgroups

sys.path.insert(0, str(ROOT / "docs"))
RANDOM = np.random.default_rng(0)
N = 1500
CURVE, DOT = 1, 2  # traces
WIDER = (
    "[...document.querySelectorAll('.chart')]"
    ".filter(chart => chart.querySelector('.main-svg').clientWidth > chart.clientWidth + 1)"
)
NARROWER = WIDER.replace("> chart.clientWidth + 1", "< chart.clientWidth - 1")
LINES = (
    "names => names.map(name => [...name.querySelectorAll('tspan')].map(line => line.textContent).join(' ')"
    " || name.textContent)"
)
NAMES = ["<b>AP</b> & more", "a view with a long name, which is broken into lines"]


@pytest.fixture(scope="module")
def evaluation():
    labels = (RANDOM.random(N) < 0.25).astype(int)
    log_odds = RANDOM.normal(-1.5, 2, N) + 3 * labels
    return Evaluation.of(
        LogOddsPredictions(labels, log_odds, np.arange(N) // 2, 0.123, PlattScaling(0.7, 0.1)), draws=50
    )


@pytest.fixture(scope="module")
def written(evaluation, tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "evaluation.html"
    table = pd.DataFrame({"view": RANDOM.choice([*NAMES, None], N), "sex": RANDOM.choice(["F", "M"], N)})
    groups = subgroups(evaluation.predictions, table, draws=50)
    text = report.sections(evaluation, groups, "A title", [])
    path.write_text(pages.html(page.sections(text, evaluation, groups)))
    return path


@pytest.fixture(scope="module")
def opened(written):
    """(page, messages, requests) of a browser that shows it."""
    import screenshots

    if screenshots.browser() is None:
        pytest.skip("no chromium here: apt-get install chromium")
    with screenshots.a_page() as browser:
        messages, requests = [], []
        browser.on("console", lambda message: messages.append(message.text))
        browser.on("pageerror", lambda error: messages.append(str(error)))
        browser.on("request", lambda request: requests.append(request.url))
        browser.goto(written.as_uri())
        yield browser, messages, requests


@pytest.fixture
def browser(opened):
    """With both sliders where they are at first."""
    page = opened[0]
    points = content(page)
    moved(page, "threshold", points["start"])
    moved(page, "prevalence", points["own_prevalence"])
    return page


def content(browser):
    """What the script of the page reads."""
    return json.loads(browser.locator("#operating-points").text_content())


def fitted(browser, width):
    """Once every chart has the width of its place."""
    browser.set_viewport_size({"width": width, "height": 900})
    browser.wait_for_function(f"{WIDER}.length + {NARROWER}.length === 0")


def moved(browser, slider, place):
    browser.locator(f"#{slider}").evaluate(
        "(input, place) => { input.value = place; input.dispatchEvent(new Event('input')); }", place
    )


def shown(browser, *names):
    return [browser.locator(f"#{name}").inner_text() for name in names]


def trace(browser, chart, number, axis):
    """Values of a curve as they are drawn; plotly has those of Python as typed arrays."""
    return browser.evaluate(f"Array.from(document.getElementById('{chart}')._fullData[{number}].{axis})")


def test_the_numbers_at_first_are_those_of_the_table(browser, evaluation):
    metrics = evaluation.metrics
    rows = {row[0]: row[1] for row in report.rows_of(evaluation, "threshold")}
    assert shown(browser, "shown-threshold") == [f"{expit(0.123):.3f}".lstrip("0")]
    first = shown(browser, "sensitivity", "specificity", "ppv")
    assert first == [rows["sensitivity"], rows["specificity"], rows["precision (PPV in these images)"]]
    for chart, x, y in (
        ("roc", 1 - metrics["specificity"], metrics["recall"]),
        ("precision-recall", metrics["recall"], metrics["precision"]),
    ):
        assert trace(browser, chart, DOT, "x") == pytest.approx([x])
        assert trace(browser, chart, DOT, "y") == pytest.approx([y])


@pytest.mark.parametrize("share", [0.0, 0.2, 0.7, 1.0])
def test_after_a_move_the_numbers_are_scikit_learn_s_at_the_shown_threshold(browser, evaluation, share):
    labels, p = evaluation.predictions.labels, expit(evaluation.predictions.log_odds)
    place = round(share * (len(content(browser)["thresholds"]) - 1))
    moved(browser, "threshold", place)
    called = p >= float(shown(browser, "shown-threshold")[0])
    found = recall_score(labels, called), recall_score(1 - labels, ~called)
    precision = precision_score(labels, called, zero_division=np.nan)
    seen = [float(value) for value in shown(browser, "sensitivity", "specificity")]
    assert seen == pytest.approx(found, abs=5.1e-4)
    (ppv,) = shown(browser, "ppv")
    assert ppv == "-" if np.isnan(precision) else float(ppv) == pytest.approx(precision, abs=5.1e-4)
    assert float(shown(browser, "called")[0]) == pytest.approx(1000 * called.mean(), abs=0.51)
    assert trace(browser, "roc", DOT, "x") == pytest.approx([1 - found[1]])
    assert trace(browser, "roc", DOT, "y") == pytest.approx([found[0]])
    if not np.isnan(precision):
        assert trace(browser, "precision-recall", DOT, "y") == pytest.approx([precision])
    if 0 < share < 1:
        line = browser.evaluate("document.getElementById('scores').layout.shapes[0].x0")
        assert expit(line) == pytest.approx(content(browser)["thresholds"][place])


def test_ppv_and_npv_follow_bayes_theorem_at_the_chosen_prevalence(browser, evaluation):
    shares = content(browser)["prevalences"]
    place = int(np.abs(np.array(shares) - 0.05).argmin())
    moved(browser, "prevalence", place)
    p, sensitivity, specificity = (
        shares[place],
        evaluation.metrics["recall"],
        evaluation.metrics["specificity"],
    )
    ill, healthy = 1000 * p, 1000 * (1 - p)
    hits, alarms = sensitivity * ill, (1 - specificity) * healthy
    seen = [float(value) for value in shown(browser, "ppv", "npv", "called", "alarms", "missed")]
    cleared = healthy - alarms
    assert seen[:2] == pytest.approx([hits / (hits + alarms), cleared / (cleared + ill - hits)], abs=5.1e-4)
    assert seen[2:] == pytest.approx([hits + alarms, alarms, ill - hits], abs=0.51)
    assert trace(browser, "precision-recall", DOT, "y") == pytest.approx([hits / (hits + alarms)])
    assert trace(browser, "precision-recall", 0, "y") == pytest.approx([p, p])
    assert trace(browser, "precision-recall", CURVE, "y")[0] == pytest.approx(p), "all are called positive"


def test_an_arrow_key_moves_the_threshold_and_a_screen_reader_hears_the_numbers(browser):
    points = content(browser)
    browser.get_by_label("called positive: P at or above").focus()
    browser.keyboard.press("ArrowRight")
    place = points["start"] + 1
    assert shown(browser, "shown-threshold") == [points["shown"][place]]
    spoken = browser.locator("#threshold").get_attribute("aria-valuetext")
    assert spoken.startswith(f"{points['shown'][place]}: sensitivity {shown(browser, 'sensitivity')[0]}")


@pytest.mark.parametrize("width", [360, 1400])
def test_the_page_fits_its_window_and_every_chart_is_drawn(opened, written, width):
    browser, messages, requests = opened
    fitted(browser, width)
    assert browser.evaluate("document.documentElement.scrollWidth") == width
    charts = browser.locator(".chart")
    assert charts.count() == 5
    for number in range(5):
        assert charts.nth(number).locator(".trace").count() >= 1
        assert charts.nth(number).get_attribute("aria-label")
    assert messages == []
    assert all(url.startswith(("file:", "data:")) for url in requests)
    assert written.stat().st_size < 6e6


@pytest.mark.parametrize("width", [360, 1400])
def test_the_names_of_subgroups_are_wholly_visible_as_they_stand(opened, width):
    browser = opened[0]
    fitted(browser, width)
    chart = browser.locator(".chart").last
    labels = chart.locator(".ytick text")
    said = [" ".join(name.split()) for name in labels.evaluate_all(LINES)]
    assert said == [f"view: {NAMES[0]}", f"view: {NAMES[1]}", "sex: F", "sex: M"]
    left = chart.bounding_box()["x"]
    lefts = labels.evaluate_all("names => names.map(name => name.getBoundingClientRect().left)")
    assert min(lefts) >= left


def test_tables_are_folded_and_have_headers(opened):
    browser = opened[0]
    folded = browser.locator("details summary").all_inner_texts()
    assert folded == ["Ranking", "At the threshold", "Calibration", "Subgroups"]
    assert browser.locator("table").count() == browser.locator("details table").count() == 4
    assert browser.locator("th[scope=col]").count() >= 4 * 3


def test_on_paper_every_table_is_open_and_no_chart_is_cut_off(opened):
    browser = opened[0]
    fitted(browser, 1400)
    browser.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert browser.locator("details:not([open])").count() == 0
    browser.emulate_media(media="print")
    browser.evaluate(
        "document.body.style.width = '686px'"
    )  # A4, while the charts are as wide as on the screen
    assert browser.evaluate(f"{WIDER}.length") == 0
    boxes = browser.evaluate(
        "[...document.querySelectorAll('.chart .main-svg:first-child')].map(svg => svg.viewBox.baseVal.width)"
    )
    assert all(boxes)
    browser.emulate_media(media="screen")
    browser.evaluate("document.body.style.width = ''")
    browser.evaluate("dispatchEvent(new Event('afterprint'))")
    assert browser.locator(".main-svg[viewBox]").count() == 0


def test_a_tie_of_three_digits_is_rounded_as_in_the_table(opened, tmp_path):
    """13 of 16 is .8125, which Python prints as .812. It leaves the page of the other tests."""
    labels = np.repeat([1, 0], [16, 16])
    log_odds = np.r_[np.linspace(1, 2, 13), [-1, -1.1, -1.2], np.linspace(-2, -1, 13), [1.1, 1.2, 1.3]]
    one = Evaluation.of(LogOddsPredictions(labels, log_odds, np.arange(32), 0.0), draws=5)
    path = tmp_path / "tie.html"
    path.write_text(pages.html(page.sections([pages.Section("t")], one, [])))
    browser = opened[0]
    before = browser.url
    browser.goto(path.as_uri())
    assert shown(browser, "sensitivity", "specificity", "ppv", "npv") == [".812"] * 4
    browser.goto(before)
