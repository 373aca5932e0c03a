"""Notes for optuna-dashboard, as its own server shows them."""

import json

from optuna_dashboard import wsgi
from werkzeug.test import Client

from pneumo.sweep import attributes
from pneumo.sweep.pages.dashboard import name_objectives, write_notes
from pneumo.sweep.storage import open_study


def studied(tmp_path):
    """Two complete trials with runs, one that is running."""
    storage = open_study(f"sqlite:///{tmp_path}/study.db", "s", ["maximize"])
    storage.study.set_user_attr(attributes.OBJECTIVE, ["val/auroc"])
    name_objectives(storage.study, ["val/auroc"])
    for value in (0.7, 0.9, None):
        trial = storage.study.ask()
        trial.suggest_float("optimizer.lr", 1e-4, 1e-1, log=True)
        trial.set_user_attr(attributes.RUN_ID, f"run{trial.number}")
        trial.set_user_attr(attributes.OVERRIDES, ["optimizer.lr=0.003"])
        if value is not None:
            storage.study.tell(trial, value)
    return storage


def address(run_id):
    return f"http://127.0.0.1:5000/#/runs/{run_id}"


def shown(storage):
    """The study as the dashboard's server tells it to its page."""
    return json.loads(Client(wsgi(storage.rdb)).get("/api/studies/1?after=0").data)


def test_the_dashboard_shows_the_best_setting_and_a_link_from_each_ended_trial_to_its_run(tmp_path):
    storage = studied(tmp_path)
    write_notes(storage, address)
    page = shown(storage)
    assert page["objective_names"] == ["val/auroc"]
    assert "val/auroc .900" in page["note"]["body"]
    assert "pneumo train optimizer.lr=0.003" in page["note"]["body"]
    assert f"[#1 in MLflow]({address('run1')})" in page["note"]["body"]
    notes = [trial["note"]["body"] for trial in page["trials"]]
    assert f"[#0 in MLflow]({address('run0')})" in notes[0]
    assert f"[#1 in MLflow]({address('run1')})" in notes[1]
    assert notes[2] == ""


def test_notes_that_say_the_same_already_are_not_written_again(tmp_path):
    storage = studied(tmp_path)
    write_notes(storage, address)
    before = shown(storage)
    write_notes(storage, address)
    assert shown(storage) == before  # each note counts its versions
