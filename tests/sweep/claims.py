"""A study in a file, and trials that are claimed from it."""

import optuna
import pytest

from pneumo.sweep.storage import open_study


@pytest.fixture
def storage(tmp_path):
    return open_study(f"sqlite:///{tmp_path}/study.db", "s", ["maximize"], heartbeat_seconds=1, retries=2)


def make_sampler(n_existing):
    return optuna.samplers.RandomSampler(seed=n_existing)


def claim(storage, n_trials=10, **options):
    trial = storage.claim_trial(n_trials, make_sampler, **options)
    if trial is not None:
        trial.suggest_float("x", 0, 1)
    return trial


def states(storage):
    return [trial.state.name for trial in storage.trials()]
