"""What happens around the training of a run, in processes that record nothing. `run_recorder` records it."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from torch import Tensor

from pneumo.data.dataset import Dataset, first_images, load_dataset
from pneumo.display.console import Advance, Terminal
from pneumo.runs.experiment import Experiment
from pneumo.runs.results import SplitResult
from pneumo.training.state import EpochReport, TrainState
from pneumo.training.trainer import Trainer


class Recorder:
    """The recorder of the processes after the first, which records nothing."""

    def __init__(self, experiment: Experiment):
        self.experiment = experiment
        self.terminal = Terminal(quiet=True)

    @property
    def resumes_second_attempt(self) -> bool:
        """Whether the run is resumed from a checkpoint of its second attempt."""
        return False

    def load_dataset(self) -> Dataset:
        """Loads the data of the experiment."""
        dataset = load_dataset(self.experiment.data, lambda done, total: None)
        return first_images(dataset, self.experiment.fit.few_images)

    def resume(self, train_state: TrainState, n_processes: int) -> None:
        """Loads the checkpoint that the run resumes from, if there is one. InputError: another number of
        processes trained it."""

    @contextmanager
    def recording(self, dataset: Dataset, trainer: Trainer, train_state: TrainState) -> Iterator[None]:
        """Inside the block, the run is recorded."""
        yield

    @contextmanager
    def training(self) -> Iterator[Advance]:
        """Inside the block, epochs run. Yields a function (done, total) to call after each batch."""
        yield lambda done, total: None

    def save(self, train_state: TrainState) -> None:
        """Saves a checkpoint within an epoch."""

    def on_fewer_threads(self, threads: int, most: int) -> None:
        """Says that the training leaves cores to other processes."""

    def on_epoch_end(self, report: EpochReport) -> None:
        """Saves, logs and prints an epoch. PrunedError: the callback stopped the run."""

    def has_to_begin_again(self) -> bool:
        """Whether the training, which is on a plateau, has to begin again."""
        return False

    def on_second_attempt(self, trainer: Trainer, train_state: TrainState) -> None:
        """From now on this trainer and this state are recorded."""

    def best_weights(self) -> Mapping[str, Tensor] | None:
        """The weights of the best epoch; None in processes after the first."""
        return None

    def finish(self, results: Mapping[str, SplitResult]) -> dict[str, float]:
        """Prints and logs the results by split, and returns the metrics of the run by name."""
        return {}
