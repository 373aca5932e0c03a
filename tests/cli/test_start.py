"""What a command does not need is not imported, so that help and refusals come at once."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from hydra._internal.utils import get_args_parser

from pneumo.runs.setting_names import OPTIONS

HEAVY = "torch torchvision mlflow optuna pandas sklearn scipy matplotlib pydicom PIL"
REPORTED = f"""
import atexit, sys
atexit.register(lambda: print("IMPORTED", *[name for name in {HEAVY!r}.split() if name in sys.modules]))
sys.argv[0] = "pneumo"
"""
TRAIN = "from pneumo.cli.train import main; main()"
SWEEP = "from pneumo.cli.sweep import main; main()"
VERB = "from pneumo.cli.app import main; main()"


def ended(folder: Path, start: str, *words: str) -> subprocess.CompletedProcess[str]:
    """A Python process that has run `start` and says at its end what it had imported."""
    code = REPORTED + start
    return subprocess.run(
        [sys.executable, "-c", code, *words],
        cwd=folder,
        env={name: value for name, value in os.environ.items() if name != "MLFLOW_TRACKING_URI"},
        capture_output=True,
        text=True,
    )


@pytest.mark.parametrize(
    ("start", "words", "code", "said"),
    [
        (TRAIN, ["--help"], 0, "optimizer: adamw, sgd"),
        (TRAIN, ["loss=bcee"], 1, "loss=bcee is not a choice"),
        (TRAIN, ["fit.epoch=2"], 1, "Did you mean fit.epochs?"),
        (TRAIN, ["fit.epochs=0"], 1, "fit.epochs must be at least 1, got 0"),
        (TRAIN, ["fit.epochs", "2"], 1, "'fit.epochs' has no value: write fit.epochs=VALUE"),
        (TRAIN, ["--fit.epochs=2"], 2, "--fit.epochs=2 is no option: write fit.epochs=2, without dashes"),
        (TRAIN, ["--epochs", "2"], 2, "--epochs is no option: write epochs=VALUE, without dashes"),
        (TRAIN, ["--multi", "--hel"], 0, "optimizer: adamw, sgd"),
        (TRAIN, ["tracking.also=[csw]"], 1, "tracking.also must name some of tensorboard, csv, wandb"),
        (VERB, ["data", "check", "loss=bce"], 1, "pneumo data check takes data=... and data.KEY=..."),
        (TRAIN, ["seed=-1"], 1, "seed must be from 0 to 4294967295, got -1"),
        (VERB, ["--help"], 0, "Train pneumothorax detectors"),
        (VERB, ["evaluate", "--help"], 0, "--hard-negatives"),
        (VERB, ["evaluate", "nosuchrun"], 1, "There is no mlflow.db in "),
        (VERB, ["predict", "nosuchrun", "x.png"], 1, "so the run 'nosuchrun' cannot be found"),
        (VERB, ["promote", "best"], 1, "so the run 'best' cannot be found"),
        (VERB, ["runs"], 1, "so there are no runs to list"),
    ],
)
def test_help_and_refusals_import_no_heavy_library(
    tmp_path: Path, start: str, words: list[str], code: int, said: str
) -> None:
    process = ended(tmp_path, start, *words)
    assert process.returncode == code
    assert said in process.stdout + process.stderr
    assert process.stdout.splitlines()[-1] == "IMPORTED"


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("n_trials=0", "n_trials must be at least 1, got 0"),
        ("n_trials=10,20", "n_trials=10,20: one study has one n_trials"),
        ("workers=1,2", "workers=1,2: one study has one workers"),
        ("pool=local,ray", "pool=local,ray: one study has one pool"),
        ("pool.processes=1,2", "pool.processes=1,2: one study has one pool.processes"),
        ("pool.processes=two", "pool.processes must be a whole number, got 'two'"),
        ("optimizer.lr=interval(2,1)", "optimizer.lr=interval(2,1): "),
        ("search.enqueue=[{optimizer.lrr: 1}]", "search.enqueue sets optimizer.lrr, which is not searched"),
        ("search.enqueue=5", "search.enqueue must be a list of trials"),
        ("optimizer.momentum=interval(0,0.9)", "optimizer.momentum exists only where optimizer is sgd"),
        ("hydra.sweeper.n_trials=50", "hydra.sweeper.n_trials is a setting of Hydra's own Optuna sweeper: "),
        ("+hydra.sweeper.study_name=x", "Optuna sweeper: write study=x"),
        ("hydra.sweeper.direction=minimize", "Optuna sweeper: write objective=METRIC"),
        (
            "++hydra.sweeper.how=x",
            "hydra.sweeper.how is no setting of a study, which reads hydra.sweeper.sampler",
        ),
        ("storage=sqlite://", "storage=sqlite:// is a study in memory"),
        ("storage=sqlite:///nowhere/study.db", "the folder nowhere does not exist"),
    ],
)
def test_wrong_settings_of_a_study_are_refused_before_torch_and_mlflow(
    tmp_path: Path, word: str, said: str
) -> None:
    process = ended(tmp_path, SWEEP, "-m", word)
    assert process.returncode == 1
    assert said in process.stderr
    assert process.stdout.splitlines()[-1] == "IMPORTED optuna"
    assert list(tmp_path.iterdir()) == []


def test_a_typed_n_trials_of_a_design_is_refused_before_torch_and_mlflow(tmp_path: Path) -> None:
    process = ended(tmp_path, SWEEP, "-m", "search=conclusions", "n_trials=10")
    assert process.returncode == 1
    assert "n_trials=10: a design has the trials of its arms and seeds; leave n_trials out" in process.stderr
    assert process.stdout.splitlines()[-1] == "IMPORTED optuna"


def test_a_data_set_and_files_that_are_not_there_are_refused_before_torch_and_mlflow(tmp_path: Path) -> None:
    words = ["data", "check", "data=table", "data.root=nowhere", "data.table=t.csv"]
    process = ended(tmp_path, VERB, *words)
    assert (process.returncode, process.stderr) == (1, "data.root: nowhere is not there\n")
    assert process.stdout.splitlines()[-1] == "IMPORTED pandas"
    (tmp_path / "mlflow.db").touch()
    process = ended(tmp_path, VERB, "predict", "latest", "nosuch.png")
    assert (process.returncode, process.stderr) == (1, "nosuch.png is not there\n")
    assert process.stdout.splitlines()[-1] == "IMPORTED"


def test_the_options_that_a_word_may_be_are_those_of_hydra() -> None:
    options = (option for action in get_args_parser()._actions for option in action.option_strings)
    assert sorted(OPTIONS) == sorted(option[2:] for option in options if option.startswith("--"))


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("data.n_images=3", "data.n_images must be at least 20"),
        ("optimizer.lr=-1", "optimizer.lr must be above 0, got -1"),
        ("schedule.warmup_share=1", "schedule.warmup_share must be at least 0 and below 1"),
    ],
)
def test_wrong_values_of_data_optimizer_and_schedule_are_refused_before_torch(
    tmp_path: Path, word: str, said: str
) -> None:
    process = ended(tmp_path, TRAIN, word)
    assert process.returncode == 1
    assert said in process.stderr
    assert process.stdout.splitlines()[-1] == "IMPORTED pandas"
