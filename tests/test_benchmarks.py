"""Benchmarks go on fitting the code that they measure; types are checked by `make check`."""

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


def test_the_overhead_of_a_trial_is_divided_into_functions_that_exist(parts):
    missing = [
        f"{getattr(owner, '__name__', owner)}.{name}"
        for _part, owner, names in parts
        for name in names
        if not hasattr(owner, name)
    ]
    assert missing == []


def test_a_stubbed_study_is_carried_out(tmp_path):
    words = ["-m", "workers=1", "n_trials=2", "data.n_images=80", "data.image_side_px=64", "model.width=4"]
    command = [sys.executable, str(BENCHMARKS / "stubbed.py"), *words, "fit.epochs=1"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "2 complete" in done.stdout
