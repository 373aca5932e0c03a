"""Logs a run to CSV files in its output folder: metrics.csv has a row an epoch, parameters.csv and
results.csv have a row a value."""

import csv
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from pneumo.runs.loggers.base import LoggedRun, Logger, shown


class CsvLogger(Logger):
    """Pictures are left to MLflow. metrics.csv of a resumed run is written anew from the checkpoint."""

    def __init__(self, run: LoggedRun) -> None:
        self._folder, self._columns = run.folder, list[str]()
        self._metrics = run.folder / "metrics.csv"
        self.where = f"csv: {shown(self._metrics)}"
        run.folder.mkdir(parents=True, exist_ok=True)
        self._metrics.unlink(missing_ok=True)
        write(self._folder / "parameters.csv", [("name", "value"), *run.parameters.items()])
        for epoch, metrics in enumerate(run.history, start=1):
            self.log_epoch(epoch, metrics)

    def log_epoch(self, epoch: int, metrics: Mapping[str, float]) -> None:
        if not self._columns:
            self._columns = list(metrics)
            write(self._metrics, [("epoch", *self._columns)])
        write(self._metrics, [(epoch, *(metrics.get(name, "") for name in self._columns))], mode="a")

    def log_results(self, metrics: Mapping[str, float]) -> None:
        write(self._folder / "results.csv", [("name", "value"), *metrics.items()])


def write(path: Path, rows: Iterable[Sequence[object]], mode: str = "w") -> None:
    """Writes rows to a CSV file, or appends them to it."""
    with path.open(mode, newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)
