"""Logs a run to TensorBoard, in the folder tensorboard of its output folder."""

import shutil
from collections.abc import Mapping
from typing import TYPE_CHECKING

from pneumo.runs.loggers.base import LoggedRun, Logger, shown

if TYPE_CHECKING:
    from matplotlib.figure import Figure

HERE = "."  # as the name of a run: the scalars of the parameters' table join those of the epochs


class TensorboardLogger(Logger):
    """Event files cannot be changed, so that those of a resumed run are written anew from the checkpoint."""

    def __init__(self, run: LoggedRun) -> None:
        from torch.utils.tensorboard import SummaryWriter  # takes a second

        folder = run.folder / "tensorboard"
        shutil.rmtree(folder, ignore_errors=True)
        self._writer = SummaryWriter(str(folder))
        self._parameters, self._epoch = run.parameters, len(run.history)
        self.where = f"tensorboard --logdir {shown(folder)}"
        rows = "\n".join(f"| {name} | {value} |" for name, value in run.parameters.items())
        self._writer.add_text("parameters", f"| parameter | value |\n|---|---|\n{rows}")
        for epoch, metrics in enumerate(run.history, start=1):
            self.log_epoch(epoch, metrics)

    def log_epoch(self, epoch: int, metrics: Mapping[str, float]) -> None:
        self._epoch = epoch
        for name, value in metrics.items():
            self._writer.add_scalar(name, value, epoch)
        self._writer.flush()

    def log_picture(self, path: str, figure: "Figure") -> None:
        name = path.removesuffix(".png")
        self._writer.add_figure(name, figure, self._epoch, close=False)

    def log_results(self, metrics: Mapping[str, float]) -> None:
        """Adds the run to the table of hyperparameters, which compares runs by these metrics."""
        parameters = {name: "none" if value is None else value for name, value in self._parameters.items()}
        self._writer.add_hparams(parameters, dict(metrics), run_name=HERE, global_step=self._epoch)

    def close(self) -> None:
        self._writer.close()
