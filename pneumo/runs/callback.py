"""Hooks of a run: the trial of a study follows and may stop a run through them."""

from collections.abc import Mapping, Sequence

from pneumo.data.dataset import Dataset, load_dataset
from pneumo.data.sources.base import Source
from pneumo.display.console import Advance, Terminal


class RunCallback:
    """The callback of a run that is no trial: it loads the data and does nothing else. Subclasses override
    hooks and set attributes."""

    terminal: Terminal
    run_id: str | None = None  # of an unfinished MLflow run to continue
    run_name: str | None = None
    parent: str | None = None  # id of the parent run in MLflow
    study_id: str | None = None
    tags: Mapping[str, object] = {}
    objectives: Sequence[str] = ()  # metrics of an epoch whose best values rank the runs of a study
    began: float | None = None  # of the command, as of time.time(); None: the run begins with its recorder

    def __init__(self) -> None:
        self.terminal = Terminal()

    def dataset(self, source: Source, advance: Advance) -> Dataset:
        """Loads the data of the run; `advance` is called with (done, total)."""
        return load_dataset(source, advance)

    def on_start(self, run_id: str, split_hash: str, history: Sequence[Mapping[str, float]]) -> None:
        """Called when the run exists in MLflow, with the metrics of the epochs before it was resumed.
        InputError: the run must not continue."""
        self.run_id = run_id

    def on_epoch_end(self, epoch: int, metrics: Mapping[str, float], is_last: bool) -> None:
        """Called after each epoch, numbered from 1. PrunedError: the run stops."""

    def ensure_owned(self) -> None:
        """Called before each write. SupersededError: another process has taken over the run."""
