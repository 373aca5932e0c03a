"""What a further logger is told of a run, beside MLflow."""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Parameter = str | int | float | bool | None


@dataclass(frozen=True)
class LoggedRun:
    """The run that is logged, as MLflow knows it too."""

    run_id: str
    name: str
    experiment: str
    folder: Path  # the run's own output folder, which it keeps when it is resumed
    parameters: Mapping[str, Parameter]  # the configuration, and what follows from it
    history: Sequence[Mapping[str, float]]  # of the epochs before it was resumed
    study: str | None = None  # the name of the study of which it is a trial


class Logger(ABC):
    """Writes one run. It is made when the run starts or is resumed; of a resumed run, it must log no epoch of
    `history` twice. What a method raises ends this logger, never the run."""

    where: str  # how to find what it writes, for the terminal

    @abstractmethod
    def __init__(self, run: LoggedRun) -> None:
        """Starts to log; imports the package that it needs."""

    @abstractmethod
    def log_epoch(self, epoch: int, metrics: Mapping[str, float]) -> None:
        """Logs the metrics of an epoch, numbered from 1."""

    def log_picture(self, path: str, figure: "Figure") -> None:  # noqa: B027, not every logger keeps pictures
        """Logs a plot under its path among the run's artifacts in MLflow."""

    @abstractmethod
    def log_results(self, metrics: Mapping[str, float]) -> None:
        """Logs the metrics of the finished run."""

    def close(self) -> None:  # noqa: B027, not every logger has something to close
        """Ends the logging, of a finished as of a stopped run."""


def shown(path: Path) -> str:
    """The path for the terminal: relative to the working directory where it is in there."""
    return str(path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path)
