"""Benchmarks fit the code that they measure and judge it rightly; types are checked by `make check`."""

import importlib
import subprocess
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"


@pytest.fixture
def parts(monkeypatch):
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    for name in ("runs", "stubbed", "sweep_overhead"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    from pneumo.training.trainer import Trainer

    monkeypatch.setattr(Trainer, "epochs", Trainer.epochs)  # stubbed.py replaces it
    import sweep_overhead

    return sweep_overhead.PARTS


@pytest.fixture
def imported(monkeypatch):
    """Imports a benchmark by its name."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    for name in ("rows", "runs", "panel"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    return importlib.import_module


def test_the_overhead_of_a_trial_is_divided_into_functions_that_exist(parts):
    missing = [
        f"{getattr(owner, '__name__', owner)}.{name}"
        for _part, owner, names in parts
        for name in names
        if not hasattr(owner, name)
    ]
    assert missing == []


def test_a_mean_with_a_lower_bound_among_its_ratios_is_one_itself_and_missed(imported):
    quality = imported("sweep_quality")
    reached, not_reached = quality.Ratio(0.2, False), quality.Ratio(0.4, True)
    sentence = "mean ratio to stock, one process: "
    assert quality.judged("one process", [reached, reached]) == (f"{sentence}0.20 over 2 seeds", False)
    assert quality.judged("one process", [reached, not_reached]) == (
        f"{sentence}at least 0.30 over 2 seeds",
        True,
    )
    slower = quality.Ratio(1.0, False)
    assert quality.judged("one process", [reached, slower]) == (f"{sentence}0.60 over 2 seeds", True)


def test_the_table_of_the_panel_has_recipes_given_as_overrides_last(imported):
    names = {"optimizer=sgd", "earlier default", "default", "loss=ce"}
    assert imported("panel").in_order(names) == ["default", "earlier default", "loss=ce", "optimizer=sgd"]


def test_a_command_that_ends_with_another_exit_code_than_it_should_is_not_timed(imported, tmp_path):
    start = imported("start")
    clock, _processor = start.took(["-c", "raise SystemExit(1)"], 1, tmp_path)
    assert clock > 0
    with pytest.raises(SystemExit, match=r"(?s)ended with 1, not 0:.*No module named 'nosuch'"):
        start.took(["-c", "import nosuch"], 0, tmp_path)


def test_a_stubbed_study_is_carried_out(tmp_path):
    words = ["-m", "workers=1", "n_trials=2", "data.n_images=80", "data.image_side_px=64", "model.width=4"]
    command = [sys.executable, str(BENCHMARKS / "stubbed.py"), *words, "fit.epochs=1"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "2 complete" in done.stdout
