"""Loggers beside MLflow, to which every run goes: those that `tracking.also` names."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from pneumo.errors import InputError, one_line
from pneumo.runs.loggers.base import LoggedRun, Logger

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from pneumo.runs.callback import RunCallback
    from pneumo.runs.experiment import Experiment
    from pneumo.training.state import TrainState

KNOWN = {"tensorboard": "TensorboardLogger", "csv": "CsvLogger", "wandb": "WandbLogger"}
EXTRAS = ("tensorboard", "wandb")  # packages that are not always installed; the extra has the same name


def check(names: Sequence[str]) -> None:
    """Raises InputError if a name is not one of KNOWN, or needs a package that is not installed."""
    for name in names:
        if name not in KNOWN:
            raise InputError(f"tracking.also must name some of {', '.join(KNOWN)}, got {name!r}")
        if name in EXTRAS and find_spec(name) is None:
            raise InputError(f"tracking.also=[{name}] needs {name}: pip install 'pneumo[{name}]'")


class FurtherLoggers:
    """The loggers of one run. One that fails is closed and left out from then on, with a warning; the run
    goes on."""

    def __init__(self, names: Sequence[str], run: LoggedRun, warn: Callable[[str], None]):
        self._warn = warn
        self._loggers: dict[str, Logger] = {}
        for name in dict.fromkeys(names):
            with_class = import_module(f"{__name__}.{name}")
            try:
                self._loggers[name] = getattr(with_class, KNOWN[name])(run)
            except Exception as error:
                self._say(name, error)

    @classmethod
    def of(
        cls,
        experiment: "Experiment",
        callback: "RunCallback",
        run_id: str,
        name: str,
        folder: Path,
        constants: Mapping[str, float],
        train_state: "TrainState",
    ) -> "FurtherLoggers":
        """The loggers of `tracking.also` for a run that starts or is resumed; says where they write."""
        study = callback.tags.get("study")
        run = LoggedRun(
            run_id,
            name,
            experiment.mlflow_experiment,
            folder,
            {**experiment.choices, **experiment.parameters, **constants},
            train_state.all_epochs,
            None if study is None else str(study),
        )
        loggers = cls(experiment.also, run, callback.terminal.warn)
        if loggers.where:
            callback.terminal.say("also", " · ".join(loggers.where))
        return loggers

    @property
    def where(self) -> list[str]:
        """How to find what each logger writes."""
        return [logger.where for logger in self._loggers.values()]

    def log_epoch(self, epoch: int, metrics: Mapping[str, float]) -> None:
        self._each(lambda logger: logger.log_epoch(epoch, metrics))

    def log_picture(self, path: str, figure: "Figure") -> None:
        self._each(lambda logger: logger.log_picture(path, figure))

    def log_results(self, metrics: Mapping[str, float]) -> None:
        self._each(lambda logger: logger.log_results(metrics))

    def close(self) -> None:
        self._each(lambda logger: logger.close())

    def _each(self, call: Callable[[Logger], None]) -> None:
        for name, logger in list(self._loggers.items()):
            try:
                call(logger)
            except Exception as error:
                del self._loggers[name]
                self._say(name, error)
                with suppress(Exception):  # keeps what it has logged until then; said once is enough
                    logger.close()

    def _say(self, name: str, error: Exception) -> None:
        reason = one_line(str(error).partition("\n")[0]) or type(error).__name__
        self._warn(f"tracking.also: {name} has failed and is left out from now on: {reason}")
