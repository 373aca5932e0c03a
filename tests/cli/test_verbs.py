"""The command line: help, misspellings, exit codes, options in the old spelling, and JSON."""

import importlib
import inspect
import json
import os
import signal
import subprocess
import sys
from typing import get_args

import numpy as np
import pandas as pd
import pytest
import typer
from conftest import SMALL, Named

from pneumo.cli import app
from pneumo.display.format import signed_decimal
from pneumo.errors import InputError
from pneumo.inference.dataset_predictions import SPLITS
from pneumo.runs import query
from pneumo.runs.run import run
from pneumo.training.predict import TTA

VERBS = [
    "runs",
    "evaluate",
    "compare",
    "score",
    "predict",
    "promote",
    "reproduce",
    "study",
    "confirm",
    "report",
]
EVERY_VERB = [*([verb] for verb in VERBS), ["data", "check"], ["data", "export"]]


def pneumo(*words, **options):
    """The command in a process of its own."""
    command = [sys.executable, "-c", "from pneumo.cli.app import main; main()", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, **options)


def help_of(capsys, *words):
    assert app.invoke([*words, "--help"]) == 0
    return capsys.readouterr().out


def json_of(capsys, *words):
    capsys.readouterr()
    app.invoke([*words, "--json"])
    return json.loads(capsys.readouterr().out)


@pytest.mark.parametrize("words", [[], ["help"], ["--help"], ["-h"]])
def test_the_overview_names_every_verb_under_its_purpose(words, capsys):
    assert app.invoke(words) == 0
    text = capsys.readouterr().out
    panels = (app.TRAIN, app.EVALUATE, app.USE, app.STUDIES, app.DATA)
    places = [text.index(f"─ {panel} ─") for panel in panels]
    assert places == sorted(places)
    for verb in VERBS:
        assert f"│ {verb} " in text


@pytest.mark.parametrize("words", EVERY_VERB, ids=" ".join)
def test_the_help_of_a_verb_names_all_its_options_and_an_example(words, capsys):
    command = typer.main.get_command(app.app)
    for word in words:
        command = command.commands[word]
    text = help_of(capsys, *words)
    for parameter in command.params:
        if parameter.param_type_name == "option":
            assert f" {parameter.opts[0]} " in text
            is_flag = getattr(parameter, "is_flag", False)
            assert is_flag or parameter.default is not None or isinstance(parameter.show_default, str)
    assert f"Example: pneumo {' '.join(words)} " in text


def test_every_verb_that_prints_metrics_has_json():
    for name in app.VERBS:
        verb = getattr(importlib.import_module(f"pneumo.cli.{name}"), name)
        assert ("as_json" in inspect.signature(verb).parameters) == (name != "promote"), name


def test_the_choices_in_the_help_are_those_of_the_evaluation():
    assert get_args(app.Tta) == tuple(TTA)
    assert get_args(app.Split) == SPLITS


def test_the_help_loads_neither_torch_nor_mlflow_nor_hydra():
    program = (
        "import sys; from pneumo.cli.app import invoke; invoke(['evaluate', '--help']);"
        "sys.exit(', '.join({'torch', 'mlflow', 'hydra', 'optuna', 'pandas'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stderr == "\n"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["evalute", "best"], "No such command 'evalute'. Did you mean 'evaluate'?"),
        (["data", "chek"], "No such command 'chek'. Did you mean 'check'?"),
        (["data"], "Missing command."),
        (["evaluate", "best", "--splt", "val"], "No such option: --splt. Did you mean --split?"),
        (
            ["evaluate", "best", "--split", "tset"],
            "Invalid value for '--split': 'tset' is not one of",
        ),
        (["evaluate", "best", "--tta", "vflip"], "Invalid value for '--tta': 'vflip' is not one of 'none'"),
        (["evaluate"], "Missing argument 'RUN [data=...]'"),
        (["evaluate", "data=nih"], "Missing argument 'RUN': a name, an id or its first digits"),
        (["evaluate", "best", "loss=bce"], "loss=bce: only data=NAME, data.KEY=VALUE and study=NAME can be"),
        (["compare", "best"], "pneumo compare needs two runs, got 1"),
        (
            ["predict", "a/images"],
            "Missing argument 'PATH'. The first word is RUN: a name, an id or its first",
        ),
        (["data", "export", "data.n_images=30"], "Missing argument 'FOLDER': data.n_images=30 is a setting"),
        (["data", "check", "--data.root=x"], "--data.root=x is no option: write data.root=x, without dashes"),
        (["data", "check", "--data", "nih"], "--data is no option: write data=VALUE, without dashes"),
        (["evaluate", "best", "--study=s"], "--study=s is no option: write study=s, without dashes"),
        (["confirm", "s", "--top", "0"], "Invalid value for '--top': Input should be greater than or equal"),
        (["study", "s", "loss=bce"], "Got unexpected extra argument"),
        (["evaluate", "best", "split=test"], "split=test: this is an option now: --split test"),
        (
            ["compare", "a", "b", "hard_negatives=tube"],
            "this is an option now: --hard-negatives tube",
        ),
        (["score", "a.csv", "data.patients_csv=b.csv"], "this is an option now: --patients-csv b.csv"),
        (["predict", "best", "x.png", "out=y.csv"], "out=y.csv: this is an option now: --out y.csv"),
        (["confirm", "s", "top=5"], "top=5: this is an option now: --top 5"),
        (["data", "check", "data=nih", "verify=true"], "verify=true: this is an option now: --verify"),
    ],
    ids=lambda words: " ".join(words) if isinstance(words, list) else "",
)
def test_a_wrong_command_is_one_line_and_exit_code_2(words, message, workdir, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["pneumo", *words])
    with pytest.raises(SystemExit) as ended:
        app.main()
    assert ended.value.code == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith(message) or message in printed.err
    assert printed.err.count("\n") == 1
    assert not list(workdir.iterdir())


def test_after_two_dashes_a_file_may_have_the_name_of_an_option(there):
    with pytest.raises(InputError, match="out=y is not there"):
        app.invoke(["predict", there, "--", "out=y"])


def test_exit_codes_of_the_command(workdir):
    assert pneumo("--help").returncode == 0
    missing = pneumo("study", "s")
    assert missing.returncode == 1
    assert missing.stderr.startswith("There is no study.db in ")
    assert missing.stderr.count("\n") == 1
    misspelt = pneumo("evaluate", "best", "--splt", "val")
    assert (misspelt.returncode, misspelt.stdout) == (2, "")
    assert "Traceback" not in misspelt.stderr


def test_ctrl_c_ends_with_130_and_without_a_traceback():
    program = (
        "import time; from pneumo.cli import app; from pneumo.cli.actions import study\n"
        "study.show_study = lambda *given: print('running', flush=True) or time.sleep(60)\n"
        "app.main()"
    )
    command = [sys.executable, "-c", program, "study", "s", "--storage", "sqlite:///study.db"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "running\n"
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in errors


def test_the_shell_completes_verbs_and_options(workdir):
    def completed(words):
        place = str(len(words.split()) - 1)
        completion = {"_PNEUMO_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": place}
        return pneumo(env={**os.environ, **completion}).stdout.split()

    assert completed("pneumo ev") == ["evaluate"]
    assert completed("pneumo evaluate --sp") == ["--split"]


# ---- JSON


def test_json_of_an_evaluation_equals_the_logged_metrics_and_a_run_is_not_compared_with_itself(there, capsys):
    found = json_of(capsys, "evaluate", there, "--split", "val")
    logged = query.metrics_of(there)
    assert (found["run_id"], found["split"], found["tta"]) == (there, "val", "none")
    assert found["metrics"]["auroc"] == logged["eval/val/auroc"]
    assert found["intervals"]["auroc"] == [None, None]  # of so few patients
    assert "eval/val/auroc_low" not in logged
    for same in (["latest", "latest"], [there, there], ["latest", there]):
        with pytest.raises(InputError, match=f"^compare needs two different runs, both are {there}$"):
            app.invoke(["compare", *same])


def test_json_of_a_comparison_has_the_printed_difference(there, one_run, composed, tmp_path, capsys):
    callback = Named()
    run(composed(*SMALL, "model.width=4", "fit.epochs=1", "seed=1"), tmp_path / "out", callback)
    found = json_of(capsys, "compare", there, callback.run_id, "--split", "val")
    assert found["runs"] == [there, callback.run_id]
    difference = found["aurocs"][1] - found["aurocs"][0]
    assert found["by_delong"]["value"] == pytest.approx(difference)
    assert found["by_patients"] == [None, None]  # of so few patients
    page = query.read_text(callback.run_id, f"evaluation/phantom-val-none/against-{there}.md")
    assert f"| {signed_decimal(difference)} |" in page
    assert "No intervals: fewer than 5 patients of a class" in page


def test_json_of_predictions_counts_the_rows_of_the_csv(there, tmp_path, capsys):
    from test_predict import png

    png(tmp_path / "films" / "a.png")
    (tmp_path / "films" / "b.png").write_bytes(b"broken")
    out = tmp_path / "out.csv"
    found = json_of(capsys, "predict", there, str(tmp_path / "films"), "--out", str(out))
    decisions = pd.read_csv(out)["decision"].value_counts()
    assert {name: found[name] for name in ("positive", "negative")} == {
        name: decisions.get(name, 0) for name in ("positive", "negative")
    }
    assert (found["files"], found["unreadable"], found["out"]) == (2, 1, str(out))


def test_json_of_a_score_is_that_of_its_file_and_what_is_unknown_is_null(workdir, capsys):
    random = np.random.default_rng(0)
    labels = np.arange(60) % 2
    pd.DataFrame({"label": labels, "score": random.random(60) / 3 + labels * 2 / 3}).to_csv("p.csv")
    found = json_of(capsys, "score", "p.csv")
    assert found.pop("file") == "p.csv"
    assert found == json.loads((workdir / "p.evaluation.json").read_text())
    assert found["metrics"]["slope"] is None  # a threshold separates the classes


def test_json_of_a_data_check_counts_the_data_and_its_messages_go_to_stderr(workdir, capsys):
    words = ["data", "check", "data.n_images=80", "data.image_side_px=64", "--json"]
    assert app.invoke(words) == 0
    printed = capsys.readouterr()
    found = json.loads(printed.out)
    splits = [found["counts"][name] for name in ("train", "val", "test")]
    for number in ("images", "patients", "positive", "AP", "PA", "F", "M"):
        assert sum(split[number] for split in splits) == found["counts"]["all"][number]
    assert found["counts"]["all"]["images"] == 80
    assert set(found["lost_lesions"]) == {"none", "flip", "report", "safe", "strong"}
    assert "all 80 can be read" in printed.err


def test_json_of_a_report_has_its_headline(workdir, capsys):
    found = json_of(capsys, "report")
    assert found["runs"] == []
    assert len(found["missing"]) == 17
    assert found["headline"][1] in (workdir / "report.md").read_text()


def test_json_of_a_check_is_printed_though_some_rows_cannot_be_used(workdir, monkeypatch, capsys):
    from pneumo.cli.actions import data_check

    monkeypatch.setattr(data_check, "check", lambda *given: {"root": "siim", "unusable": ["row 3: no file"]})
    with pytest.raises(InputError, match="siim: 1 rows cannot be used:\n  row 3: no file"):
        app.invoke(["data", "check", "--json"])
    assert json.loads(capsys.readouterr().out)["unusable"] == ["row 3: no file"]
