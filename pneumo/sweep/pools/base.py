"""What every pool of workers can do, and what it is told of a study."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import ClassVar

from pneumo.display.address import shown
from pneumo.errors import InputError, check_settings


@dataclass(frozen=True, kw_only=True)
class StudyNeeds:
    """What a worker must be able to reach wherever it runs."""

    storage: str  # addresses
    tracking: str
    data_root: str | None
    launcher: str  # the choice of hydra/launcher
    device: str  # fit.device

    @property
    def files(self) -> list[str]:
        """The addresses that are files of one machine, each with its setting."""
        settings = {"PNEUMO_STORAGE": self.storage, "MLFLOW_TRACKING_URI": self.tracking}
        return [f"{name}={shown(url)}" for name, url in settings.items() if is_file(url)]

    @property
    def sees_data(self) -> bool:
        """Whether the data set can be loaded here. The jobs of a cluster's launcher, which check it as well,
        may have its folder where this process has not."""
        return self.launcher == "basic" or self.data_root is None or Path(self.data_root).exists()

    def refuse_launcher(self, pool: str) -> None:
        """InputError: trials would be launched by the workers, as jobs of yet another kind."""
        if self.launcher != "basic":
            raise InputError(f"pool={pool} trains in its workers: leave out hydra/launcher={self.launcher}")


def is_file(address: str) -> bool:
    """Whether a database or MLflow's store lies in a file or folder."""
    is_path = "://" not in address and not address.startswith("databricks")
    return is_path or address.startswith(("sqlite:", "file:"))


@dataclass(frozen=True, kw_only=True)
class Work:
    """A study that is to be trained by `n_workers` processes, seen from the process of the command."""

    study: str
    n_workers: int
    words: list[str]  # of the command, without `workers`
    began: float  # Unix time, from which `hours` counts
    train: Callable[[], str]  # takes trials in this process; returns why it stopped, empty if all are done
    show: Callable[[], None]  # prints the trials that have ended since the last call
    is_over: Callable[[], bool]  # no trial is running and none is to be
    why_stopped: Callable[[], str]
    say: Callable[[str], None]


@dataclass(kw_only=True)
class Pool(ABC):
    """Starts the workers of a study. It does not give them trials: they take these from the database.
    `processes` is how many train a trial of a worker; InputError: a setting is not valid."""

    processes: int = field(metadata={"at_least": 1})
    trains_here: ClassVar = False  # whether the process of the command is a worker itself

    def __post_init__(self) -> None:
        check_settings("pool", self)

    def _refuse_few_gpus(self, gpus: float) -> None:
        """InputError: a worker has GPUs, and fewer than processes."""
        if 0 < gpus < self.processes > 1:
            raise InputError(f"pool.processes={self.processes} needs as many GPUs for a worker, got {gpus:g}")

    def check_workers(self, n_workers: int) -> None:  # noqa: B027, not every pool starts them here
        """InputError: so many workers cannot be started."""

    @contextmanager
    def ready(self, needs: StudyNeeds) -> Iterator[None]:
        """Inside the block, workers can be started. InputError: they could not train the study."""
        yield

    @abstractmethod
    def auto(self, n_trials: int, launches_here: bool, memory_each: int) -> int:
        """What workers=auto is: at most `n_trials`. `launches_here`: whether a worker itself trains its
        trials; `memory_each` is in bytes, for pools that do not set it."""

    @abstractmethod
    def run(self, work: Work) -> str | None:
        """Trains; returns why it stopped, empty if all trials are done, None if others go on with it."""
