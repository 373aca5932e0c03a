"""Which runs are the report's, from runs made by hand."""

from pneumo.report2024.collect import collect_runs
from pneumo.report2024.published import EXPERIMENTS
from pneumo.runs.query import RunRecord

DONE = {"threshold": 0.5}


def made(run_id, typed, augment="report", **changes):
    """A finished run; `changes` of its parameters and tags."""
    tags = {"overrides": typed, "augment": augment, "split_hash": "s", "data_key": "d"}
    parameters = {
        "seed": "0",
        "tta": "none",
        "optimizer.lr": "0.001",
        "augment": augment,
        "augment.crop": "x",
    }
    for name, value in changes.items():
        target = parameters if name in parameters or "." in name else tags
        target[name] = value
    return RunRecord(run_id, run_id, f"http://at/{run_id}", tags, parameters, DONE)


def raw(runs):
    """The pair of report_raw."""
    return next(pair for pair in collect_runs(runs).pairs if pair.experiment == "report_raw")


def test_the_latest_run_of_a_name_is_taken_and_the_latest_control():
    runs = [
        made("new control", "experiment=report_raw augment=safe", "safe"),
        made("new", "experiment=report_raw"),
        made("old control", "experiment=report_raw augment=safe", "safe"),
        made("old", "experiment=report_raw"),
        made("other", "experiment=report_bce"),
    ]
    assert (raw(runs).unchanged.run_id, raw(runs).control.run_id) == ("new", "new control")


def test_a_control_differs_in_the_augment_alone():
    own = made("own", "experiment=report_raw")
    safe = ("experiment=report_raw augment=safe", "safe")
    for name, value in {
        "seed": "1",
        "optimizer.lr": "0.01",
        "tta": "hflip",
        "split_hash": "t",
        "data_key": "e",
    }.items():
        assert raw([made("control", *safe, **{name: value}), own]).control is None, name
    beside = {"fit.pictures": "False", "data.store_dir": "elsewhere", "augment.crop": "y"}
    assert raw([made("control", *safe, **beside), own]).control.run_id == "control"


def test_runs_that_answer_something_else_are_none_of_the_report():
    assert raw([made("a", "experiment=report_raw augment.crop=.9")]).unchanged is None
    assert raw([made("a", "experiment=report_raw debug=fast")]).unchanged is None
    for tag in ("study", "confirms", "reproduces"):
        assert raw([made("a", "experiment=report_raw", **{tag: "x"})]).unchanged is None


def test_a_missing_control_s_command_is_its_run_s_and_the_augment():
    pair = raw([made("own", "experiment=report_raw model=tiny data.root='a")])
    assert pair.missing == [
        "python train.py experiment=report_raw model=tiny 'data.root='\"'\"'a' augment=safe"
    ]


def test_a_missing_run_s_command_is_like_those_that_are_there():
    found = collect_runs([made("own", "experiment=report_raw model=tiny data=nih seed=3")])
    assert "python train.py experiment=report_bce model=tiny data=nih seed=3" in found.missing
    assert "python train.py experiment=report_bce model=tiny data=nih seed=3 augment=safe" in found.missing
    assert found.recommended_command == "python train.py experiment=recommended data=nih"


def test_with_no_run_at_all_every_name_has_its_two_commands():
    found = collect_runs([])
    assert found.runs == []
    assert len(found.missing) == 2 * len(EXPERIMENTS) + 1
    for name in EXPERIMENTS:
        assert f"python train.py experiment={name}" in found.missing
        assert f"python train.py experiment={name} augment=safe" in found.missing


def test_a_run_of_the_recommended_recipe_is_found_with_any_augment():
    assert collect_runs([made("best", "experiment=recommended", "safe")]).recommended.run_id == "best"
