"""`pneumo report` on runs of its own, read as a person would: in a browser and as text."""

import io
import re
import sys

import mlflow
import numpy as np
import optuna
import pandas as pd
import pytest
import torch
from conftest import ROOT, SMALL
from hydra import compose, initialize_config_dir
from matplotlib.path import Path
from postgres import free_port
from sklearn import metrics
from test_conclusions import studied

from pneumo.cli.app import invoke, main
from pneumo.components.augment import Augment
from pneumo.display import pages
from pneumo.display.console import Terminal
from pneumo.display.pages import Link, Section
from pneumo.errors import AwayError, InputError
from pneumo.report2024 import page
from pneumo.report2024.checklist import ITEMS
from pneumo.report2024.collect import collect_runs
from pneumo.report2024.comparison_charts import confusion_section, counts_at, overview
from pneumo.report2024.crop_picture import frames_of
from pneumo.report2024.decoded import decode_tables
from pneumo.report2024.rescored import rescore
from pneumo.runs import config, query, tracking
from pneumo.runs.callback import RunCallback
from pneumo.runs.run import run

sys.path.insert(0, str(ROOT / "docs"))
PAIR = "experiment=report_normalised"


class Named(RunCallback):
    terminal = Terminal(quiet=True)

    def __init__(self):
        pass

    def on_start(self, run_id, split_hash, history):
        self.run_id = run_id


def trained(folder, augment, *typed):
    """A run as train.py would have made it."""
    callback = Named()
    with initialize_config_dir(str(ROOT / "conf")):
        experiment = config.load(compose("train", [*typed, *SMALL, "model.width=4", "fit.epochs=2"]))
    run(experiment, folder / "out" / "-".join(typed), callback)
    tracking.tag_run(
        callback.run_id, overrides=" ".join(typed), augment=augment, data="phantom", model="tiny"
    )


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """A folder with a pair of runs and a recommended one."""
    folder = tmp_path_factory.mktemp("runs")
    tiny = ("model=tiny", "model.pretrained=null")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        trained(folder, "report", PAIR, *tiny)
        trained(folder, "safe", PAIR, *tiny, "augment=safe")
        trained(folder, "safe", "experiment=recommended")
    return folder


@pytest.fixture
def runs(store, monkeypatch):
    monkeypatch.chdir(store)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    tracking.connect()
    return query.runs_of_experiments()


def test_an_empty_store_gives_the_printed_side_and_the_commands(workdir, capsys):
    invoke(["report"])
    assert "0 of 17 in mlflow.db" in capsys.readouterr().out
    text = (workdir / "report.md").read_text()
    assert "| last layer alone, 20 epochs | 0.7511 | 0.3491 | 0.1598 | 0.2192 | 0.5382 |" in text
    assert "| train, 8,440 images | 1,846 | 295 | 550 |" in text
    assert "| python train.py experiment=report_tta augment=safe |" in text
    assert "not known" in text
    assert '<p class="unfinished">UNFINISHED: ' in (workdir / "report.html").read_text()


def test_every_run_that_is_there_is_linked_and_every_other_has_its_command(runs, store, capsys):
    invoke(["report"])
    printed = capsys.readouterr().out
    for text in ((store / "report.md").read_text(), (store / "report.html").read_text()):
        for one in runs:
            assert one.address in text
        assert "report_enhanced" in text
    assert "3 of 17" in printed
    assert "experiment=report_raw model=tiny model.pretrained=null augment=safe" in printed


def test_answers_are_counted_at_one_half_as_scikit_learn_counts_them(runs):
    for one in runs:
        table = pd.read_csv(io.StringIO(query.read_text(one.run_id, "predictions.csv")))
        test = table[table["split"] == "test"]
        predicted = test["score"] >= 0.5
        found = rescore(one)
        assert found.metrics["recall"][0] == pytest.approx(metrics.recall_score(test["label"], predicted))
        assert found.metrics["accuracy"][0] == pytest.approx(metrics.accuracy_score(test["label"], predicted))
        assert found.metrics["hard_auroc"][0] == pytest.approx(
            metrics.roc_auc_score(test["label"], predicted)
        )
        assert found.metrics["auroc"][0] == one.metrics["test/auroc"]
        ends = [one.metrics.get(f"test/auroc_{end}", np.nan) for end in ("low", "high")]
        assert np.array_equal(found.metrics["auroc"][1], ends, equal_nan=True)


def test_a_run_whose_files_are_gone_keeps_what_mlflow_logged(runs, store, monkeypatch):
    def gone(run_id, path):
        raise InputError(f"Run {run_id} has no {path}")

    monkeypatch.setattr(query, "read_text", gone)
    invoke(["report", "--out", "gone"])
    text = (store / "gone.md").read_text()
    assert "its predictions are gone" in text
    assert "not known: Run" in text
    assert rescore(runs[0]).formatted("auroc") in text
    assert rescore(runs[0]).formatted("recall") == "-"


def test_a_study_s_conclusions_stand_on_the_page(runs, store):
    study, url = studied(), f"sqlite:///{store}/study.db"
    parent = tracking.create_parent_run("pneumo", "conclusions", {})
    study.set_user_attr("parent_run", parent)
    optuna.copy_study(
        from_study_name="conclusions",
        from_storage=study._storage,
        to_storage=url,
        to_study_name="conclusions",
    )
    invoke(["report", "--study", "conclusions", "--out", "with"])
    text = (store / "with.md").read_text()
    assert "| 5 larger batch | 6 → 48 | report | the same | .700 → .500 | -.200 (-.204, -.196) |" in text
    assert f"runs/{parent}" in text
    with pytest.raises(InputError, match="has no study other; pneumo study lists"):
        invoke(["report", "--study", "other"])


def test_mlflow_that_cannot_be_reached_is_one_line_and_exit_code_one(workdir, monkeypatch, capsys):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{free_port()}")
    monkeypatch.setattr(sys, "argv", ["pneumo", "report"])
    with pytest.raises(SystemExit) as ended:
        main()
    assert isinstance(ended.value.code, str), "which the shell sees as 1"
    assert re.fullmatch(r"MLflow at http://127.0.0.1:\d+ cannot be used: .*", ended.value.code)
    assert not list(workdir.glob("report*"))


def test_mlflow_that_goes_away_leaves_the_page_before_as_it_was(runs, store, monkeypatch):
    (store / "old.html").write_text("before")

    def away(*_):
        raise mlflow.MlflowException("connection refused")

    monkeypatch.setattr(page, "rescore", away)
    with pytest.raises(AwayError, match="connection refused"):
        invoke(["report", "--out", "old"])
    assert (store / "old.html").read_text() == "before"
    assert not list(store.glob(".old*"))


def test_a_folder_that_is_not_there_is_reported_before_anything_is_read(workdir):
    with pytest.raises(InputError, match="there is no folder nowhere"):
        invoke(["report", "--out", "nowhere/report"])
    with pytest.raises(InputError, match="must be a file's name"):
        invoke(["report", "--out", f"{workdir}/"])
    assert not (workdir / "mlflow.db").exists()


@pytest.fixture
def browsed(runs, store):
    """(page, messages, requests) of a browser that shows it."""
    import screenshots

    if screenshots.browser() is None:
        pytest.skip("no chromium here: apt-get install chromium")
    invoke(["report"])
    with screenshots.a_page() as browser:
        messages, requests = [], []
        browser.on("console", lambda message: messages.append(message.text))
        browser.on("pageerror", lambda error: messages.append(str(error)))
        browser.on("request", lambda request: requests.append(request.url))
        browser.goto((store / "report.html").as_uri())
        yield browser, messages, requests


def test_the_page_is_readable_at_both_widths_and_requests_no_other_file(browsed, store):
    browser, messages, requests = browsed
    wider = (
        "[...document.querySelectorAll('.chart')]"
        ".filter(chart => chart.querySelector('.main-svg').clientWidth > chart.clientWidth + 1)"
    )
    for width in (360, 1400):
        browser.set_viewport_size({"width": width, "height": 900})
        browser.wait_for_function(f"{wider}.length === 0")
        assert browser.evaluate("document.documentElement.scrollWidth") == width
        shown = browser.evaluate("[...document.images].map(image => [image.naturalWidth, image.width])")
        assert len(shown) == 1, "of what the crop leaves"
        assert all(natural > 0 and drawn >= 300 for natural, drawn in shown)
        boxes = "[...document.querySelectorAll('.wide')].map(box => getComputedStyle(box).overflowX)"
        assert set(browser.evaluate(boxes)) == {"auto"}
        sizes = "[...document.querySelectorAll('td, p')].map(e => parseFloat(getComputedStyle(e).fontSize))"
        assert min(browser.evaluate(sizes)) >= 13
    charts = browser.locator(".chart")
    drawn = [charts.nth(number).locator(".trace, .hm").count() > 0 for number in range(charts.count())]
    assert drawn == [True] * (3 + 5 + 3 + 4), "overview, confusion matrices, one figure, model card"
    assert browser.locator("section table").count() == 0, "they are folded"
    assert messages == []
    assert [url for url in requests if not url.startswith("data:")] == [(store / "report.html").as_uri()]
    assert (store / "report.html").stat().st_size < 6e6
    links = browser.evaluate("[...document.links].map(link => link.href)")
    assert links
    assert all("/#/experiments/" in link for link in links)


def test_the_charts_show_the_values_of_the_tables(runs):
    collected, tables = collect_runs(runs), decode_tables()
    rescored = {each.run_id: rescore(each) for each in collected.runs}
    ((called, hard, ranked),) = overview(collected, rescored, tables).values()
    (pair,) = [pair for pair in collected.pairs if pair.unchanged]
    for chart, name in ((hard, "hard_auroc"), (ranked, "auroc")):
        points = {trace.name: trace for trace in chart.figure.data if trace.mode == "markers"}
        for who, one in (
            ("unchanged", pair.unchanged),
            ("augment=safe", pair.control),
            ("recommended", collected.recommended),
        ):
            assert list(points[who].x) == [rescored[one.run_id].metrics[name][0]]
    points = {trace.name: trace for trace in hard.figure.data if trace.mode == "markers"}
    assert list(points["the report"].x) == [0.5382, 0.5174, 0.5013, 0.5266, 0.5]
    points = {trace.name: trace for trace in called.figure.data if trace.mode == "markers"}
    assert points["the report"].x[2] == pytest.approx(5 / 8440)
    one = rescored[collected.recommended.run_id]
    assert list(points["recommended"].x) == [np.mean(one.scores >= 0.5)]


def test_the_confusion_matrices_are_scikit_learn_s(runs):
    collected, tables = collect_runs(runs), decode_tables()
    rescored = {each.run_id: rescore(each) for each in collected.runs}
    for one in rescored.values():
        expected = metrics.confusion_matrix(one.labels, one.scores >= 0.5)
        assert np.array_equal(counts_at(one, 0.5), expected)
    (charts,) = confusion_section(collected, rescored, tables).plots.values()
    normalised = charts[2].figure
    assert [heading.text for heading in normalised.layout.annotations] == [
        "the report,<br>train",
        "unchanged",
        "augment=safe",
    ]
    report_s = [text.split("<br>")[0] for row in normalised.data[0].text for text in row]
    assert report_s == ["6,594", "0", "1,841", "5"]


@pytest.mark.parametrize("side", [1.0, 0.4375])
def test_the_frame_of_the_crop_holds_what_the_model_sees(side):
    """Pixels of the mask whose centres lie in the frame, counted by matplotlib."""
    augment = Augment(rotation_degrees=15, flip=0.5, crop=side)
    masks = np.zeros((6, 128, 128), np.uint8)
    masks[:, 20:70, 30:90] = 255
    draws = augment.draw(6, torch.Generator().manual_seed(1))
    seen = augment.surviving(torch.from_numpy(masks)[:, None], draws)
    centres = np.argwhere(masks[0])[:, ::-1]
    inside = [Path(frame).contains_points(centres).mean() for frame in frames_of(augment, draws, 128)]
    assert seen.numpy() == pytest.approx(inside, abs=0.02)
    assert side == 1 or min(inside) < 0.5


def test_the_check_list_leaves_no_item_out():
    claim, tripod = ([part for row in ITEMS for part in re.findall(r"\d+", row[i])] for i in (1, 2))
    assert {int(item) for item in claim} == set(range(1, 45))
    assert {int(item) for item in tripod} == set(range(1, 28))


def test_a_link_in_a_table_survives_what_a_name_may_hold():
    link = Link("a|b]('<x>", "http://at/#/runs/1")
    sections = [Section("t", columns=["run"], rows=[[link]])]
    assert "| [a\\|b\\]('\\<x>](http://at/#/runs/1) |" in pages.markdown(sections)
    assert '<a href="http://at/#/runs/1">a|b](&#39;&lt;x&gt;</a>' in pages.html(sections)


def test_runs_on_a_server_are_linked_there_without_a_password(monkeypatch):
    page = "/experiments/1/runs/abc?workflowType=machine_learning"
    monkeypatch.setattr(mlflow, "get_tracking_uri", lambda: "https://me:secret@mlflow.lab/")
    assert tracking.run_url("1", "abc") == f"https://mlflow.lab/#{page}"
    monkeypatch.setattr(mlflow, "get_tracking_uri", lambda: "sqlite:////tmp/mlflow.db")
    assert tracking.run_url("1", "abc") == f"http://127.0.0.1:5000/#{page}"


def test_gathering_finds_the_pair_and_the_recommended_run(runs):
    found = collect_runs(runs)
    (pair,) = [pair for pair in found.pairs if pair.unchanged]
    assert pair.experiment == "report_normalised"
    assert pair.control is not None
    assert found.recommended is not None
