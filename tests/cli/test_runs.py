"""`pneumo runs`: which runs are listed, in which order, and how they look."""

import csv
import io
import json

import pytest
from logged_runs import logged, other_run

from pneumo.cli.actions.runs import fitted, list_runs
from pneumo.cli.app import invoke
from pneumo.errors import InputError
from pneumo.runs import query


@pytest.fixture
def four(store):
    """Three trainings and a trial, and two runs that are none."""
    interval = {"test/auroc": 0.8, "test/auroc_low": 0.7, "test/auroc_high": 0.9}
    logged("calm-heron-412", 0.95, metrics=interval, parameters={"optimizer.lr": 0.001}, started_ms=10**12)
    logged("wise-rook-55", 0.97, loss="ce", collapsed="true", started_ms=2 * 10**12)
    logged("able-skunk-24", None, status="RUNNING", data="table", process="?:1:0", started_ms=3 * 10**12)
    logged("report-3", 0.9, study="report", trial=3)
    other_run("ensemble of 2")
    other_run("report", study="report")


def names(capsys, *words):
    capsys.readouterr()
    invoke(["runs", *words, "--json"])
    return [row["name"] for row in json.loads(capsys.readouterr().out)]


def test_trainings_are_listed_the_latest_first_without_trials_which_are_counted(four, capsys):
    latest_first = ["able-skunk-24", "wise-rook-55", "calm-heron-412"]
    assert names(capsys) == latest_first
    assert set(names(capsys, "--trials")) == {*latest_first, "report-3"}
    invoke(["runs"])
    heading, *lines = capsys.readouterr().out.splitlines()
    assert heading.split("  ")[0] == "name"
    assert [line.split()[0] for line in lines[:3]] == latest_first
    assert lines[-1] == "1 trial of studies left out: --trials, or study=NAME"
    assert ".800 (.700 - .900)" in lines[2]
    assert [line.rstrip().split("  ")[-1].strip() for line in lines[:3]] == [
        "running",
        "collapsed",
        "finished",
    ]


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["--sort", "val"], ["wise-rook-55", "calm-heron-412", "able-skunk-24"]),
        (["--sort", "test"], ["calm-heron-412", "able-skunk-24", "wise-rook-55"]),
        (["--sort", "name"], ["able-skunk-24", "calm-heron-412", "wise-rook-55"]),
        (["--limit", "1"], ["able-skunk-24"]),
        (["loss=ce"], ["wise-rook-55"]),
        (["loss=*ce", "state=finished"], ["wise-rook-55", "calm-heron-412"]),
        (["data=phantom", "loss=bce"], ["calm-heron-412"]),
        (["optimizer.lr=1e-3"], ["calm-heron-412"]),
        (["marks=collapsed"], ["wise-rook-55"]),
        (["study=report"], ["report-3"]),
        (["RE", "t-3"], ["report-3"]),
        (["heron"], ["calm-heron-412"]),
        (["w*55"], ["wise-rook-55"]),
        (["loss=focal"], []),
    ],
    ids=" ".join,
)
def test_filters_and_order(four, capsys, words, found):
    assert names(capsys, *words) == found


def test_a_key_that_no_run_has_is_refused_with_the_nearest(four):
    with pytest.raises(InputError, match=r"^los=bce: no run has los. Did you mean loss"):
        invoke(["runs", "los=bce"])


def test_csv_has_the_columns_of_json_and_an_empty_table_says_so(four, capsys):
    invoke(["runs", "heron", "--csv"])
    (row,) = csv.DictReader(io.StringIO(capsys.readouterr().out))
    invoke(["runs", "heron", "--json"])
    (same,) = json.loads(capsys.readouterr().out)
    assert {name: "" if value is None else str(value) for name, value in same.items()} == row
    invoke(["runs", "loss=focal"])
    assert capsys.readouterr().out == "There is no training run with loss=focal in mlflow.db\n"


def test_mlflow_is_searched_once(four, monkeypatch):
    searches, search = [], query.search
    monkeypatch.setattr(
        query, "search", lambda *given, **more: searches.append(given) or search(*given, **more)
    )
    list_runs(["loss=bce"], "val", False, None, "table")
    assert len(searches) == 1


def test_a_narrow_table_drops_id_loss_and_model_then_the_interval_and_shortens_names_last():
    row = {
        **{
            "name": "a" * 20,
            "id": "4c0ffee1",
            "when": "26 Nov 08:38",
            "data": "phantom",
            "model": "tiny",
            "loss": "bce",
        },
        **{"val": ".950", "test": ".800", "test AUROC (95%)": ".800 (.700 - .900)", "state": "finished"},
    }
    all_but_test = [name for name in row if name != "test"]
    for width, columns, name in (
        (200, all_but_test, "a" * 20),
        (100, [name for name in all_but_test if name != "id"], "a" * 20),
        (90, [name for name in all_but_test if name not in ("id", "loss")], "a" * 20),
        (80, ["name", "when", "data", "val", "test AUROC (95%)", "state"], "a" * 20),
        (72, ["name", "when", "data", "val", "test", "state"], "a" * 20),
        (60, ["name", "when", "data", "val", "test", "state"], "a" * 14 + "…"),
    ):
        shown, rows = fitted([row], width)
        assert (shown, rows[0][0]) == (columns, name)
        widths = [max(len(cell), len(heading)) for cell, heading in zip(rows[0], shown, strict=True)]
        assert sum(widths) + 2 * (len(widths) - 1) <= width
