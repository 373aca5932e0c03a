"""Hooks of a run under way: a study's trial reports its metrics and stops it, a plain run does nothing."""

from collections.abc import Mapping, Sequence

from pneumo.data.dataset import Dataset, load_dataset
from pneumo.data.sources.base import Source
from pneumo.display.console import Advance, Terminal


class RunCallback:
    """Does nothing; subclasses override the hooks that they need and set what the run shall be called."""

    terminal: Terminal
    run_id: str | None = None  # an MLflow run that was begun before and not finished
    run_name: str | None = None
    parent: str | None = None  # the MLflow run above this one
    study_id: str | None = None  # of the study that the run is of
    tags: Mapping[str, object] = {}

    def __init__(self) -> None:
        self.terminal = Terminal()

    def dataset(self, source: Source, advance: Advance) -> Dataset:
        """The run's data, ready."""
        return load_dataset(source, advance)

    def on_start(self, run_id: str, split_hash: str, history: Sequence[Mapping[str, float]]) -> None:
        """The run exists; `history` holds the epochs it is resumed after. InputError: it must not go on."""
        self.run_id = run_id

    def on_epoch_end(self, epoch: int, metrics: Mapping[str, float], is_last: bool) -> None:
        """An epoch is done. PrunedError: the run shall stop."""

    def ensure_owned(self) -> None:
        """Called before anything is written of the run. SupersededError: another process goes on with it."""
