"""pneumo in Python: `train`, `load` and `compare`, which do what the commands of the same name do, and `Run`.
The names are there as `pneumo.train` and so on; `pneumo.runs`, the table of the runs, is in
`pneumo/runs/`."""

import io
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, field, fields
from functools import cached_property
from os import PathLike, fspath
from typing import Any, Literal

import pandas as pd
from matplotlib.figure import Figure

from pneumo.cli.actions import evaluate
from pneumo.data.files import image_files
from pneumo.display.address import forget_folder, refuse_passwords
from pneumo.display.console import Terminal
from pneumo.errors import InputError
from pneumo.inference.dataset_predictions import EvalRequest, predict_dataset
from pneumo.inference.evaluation_count import record_test_evaluation
from pneumo.inference.file_predictions import FilePrediction, predict_files
from pneumo.inference.model import LoadedModel, cautions, decision_of, load_model
from pneumo.runs import config, query, tracking
from pneumo.runs.callback import RunCallback
from pneumo.runs.named_run import named_run
from pneumo.runs.planner import planned
from pneumo.runs.run import run
from pneumo.runs.run_name import check_run_name
from pneumo.training.predict import tta_transforms

IDS = ("image_id", "patient_id")  # columns that are text, such as 007 and NA
NUMBERS = ("score", "threshold", "probability")  # columns of predictions that are numbers
Path = str | PathLike[str]


@dataclass(frozen=True)
class Run:
    """A trained run. `metrics` has the last value of each, by its name in MLflow, such as
    `best/val_auroc`. `cautions` are sentences on what its scores may not be trusted for: that it collapsed,
    that its splits share patients, or that it is not shown to rank better than chance."""

    run_id: str
    name: str
    metrics: Mapping[str, float] = field(repr=False)
    cautions: tuple[str, ...] = ()

    @cached_property
    def model(self) -> LoadedModel:
        """The network of the best epoch, with all that it needs to predict. InputError: its checkpoint is
        gone, broken or of another model."""
        tracking.connect()
        return load_model(self.run_id)

    def predict(self, paths: Path | Sequence[Path], tta: str | None = None) -> pd.DataFrame:
        """A row for each PNG, JPEG or DICOM file of `paths`, which may be folders, with the columns of
        `pneumo predict`. `tta` names a test-time augmentation; None is that of the run. InputError: no such
        path or augmentation, or the run's predictions of its validation split are gone."""
        given = [paths] if isinstance(paths, str | PathLike) else paths
        files, _ = image_files([fspath(path) for path in given])
        transforms = tta_transforms(tta or self.model.experiment.tta)
        predicted = predict_files(self.model, decision_of(self.model), files, transforms, None)
        table = pd.DataFrame(map(astuple, predicted), columns=[each.name for each in fields(FilePrediction)])
        return table.assign(**{name: pd.to_numeric(table[name]) for name in NUMBERS})

    def predictions(self, split: Literal["val", "test"] = "test") -> pd.DataFrame:
        """A row for each image of the run's own split, as the run predicted it: image_id and patient_id as
        text, label, score, split, and `called`, 1 where the score reaches the run's threshold. InputError:
        they are gone, or there is no such split."""
        if split not in ("val", "test"):
            raise InputError(f"split must be val or test, got {split!r}")
        tracking.connect()
        text = io.StringIO(query.read_text(self.run_id, "predictions.csv"))
        table = pd.read_csv(text, dtype=dict.fromkeys(IDS, str), keep_default_na=False, na_values=[""])
        called = (table["score"] >= self.metrics["threshold"]).astype(int)
        return table.assign(called=called)[table["split"] == split].reset_index(drop=True)

    def gallery(self, split: Literal["val", "test"] = "val") -> dict[str, Figure]:
        """Plots of the images of the run's own split that it gets most wrong and most right, with what it
        looks at, by their caption. That of the test split counts as an evaluation of it. InputError: the data
        have changed since it was trained."""
        tracking.connect()
        terminal = Terminal(quiet=True)
        evaluated = predict_dataset([self.model], EvalRequest(split=split), terminal)
        record_test_evaluation([self.model], evaluated.n_in_test)  # before anyone sees it
        return evaluate.saliency(self.model, evaluated, terminal)[1]


def connect_for(*names: str) -> None:
    """Connects to the MLflow of this folder. InputError: there is none, or what is to be a name cannot be
    one."""
    forget_folder()
    for name in names:
        check_run_name(name)
    tracking.connect()


def load(run: str) -> Run:
    """The run of a name: an id or its first digits, a name, `latest`, `best` or `best@NAME`, as
    docs/runs.md has it. Each of its cautions is a warning. InputError: no run or several have it, or its
    model cannot be loaded."""
    connect_for(run)
    loaded = described(named_run(run))
    _ = loaded.model  # what is wrong with it is said now
    for caution in loaded.cautions:
        warnings.warn(f"run {loaded.name}: {caution}", stacklevel=2)
    return loaded


def described(record: query.RunRecord) -> Run:
    """The run of a record."""
    return Run(record.run_id, record.name, query.metrics_of(record.run_id), tuple(cautions(record.tags)))


def train(overrides: Sequence[str] = ()) -> Run:
    """Trains as `python train.py OVERRIDE ...` does in this folder. InputError: an override or the data are
    not valid. Other errors are those of `pneumo.errors`."""
    if isinstance(overrides, str):
        raise InputError(f"train takes a list of overrides, got the text {overrides!r}")
    refuse_passwords(overrides)
    forget_folder()
    callback = RunCallback()
    with config.composed_as_by_train(overrides) as (composed, output_dir):
        run(planned(composed, list(overrides), callback.terminal), output_dir, callback)
    return described(named_run(str(callback.run_id)))


def compare(first: str, second: str, split: str = "test") -> dict[str, Any]:
    """The difference in AUROC of two runs on the same images, as `pneumo compare` prints and logs it, by the
    names of its `--json`. InputError: both are the same run, or their images or labels differ."""
    connect_for(first, second)
    return evaluate.compare(first, second, EvalRequest(split=split))
