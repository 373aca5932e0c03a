"""Logs a run to Weights & Biases, in the folder wandb of its output folder.

Without a login nothing leaves the machine: the mode is the one in WANDB_MODE, else online where wandb has a
key (WANDB_API_KEY, or ~/.netrc as `wandb login` writes it), else offline, for `wandb sync` later."""

import io
import netrc
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import numpy as np

from pneumo.runs.loggers.base import LoggedRun, Logger, shown

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MODE, KEY, SERVER = "WANDB_MODE", "WANDB_API_KEY", "WANDB_BASE_URL"
INIT_SECONDS = 20  # that a server is waited for


class WandbLogger(Logger):
    """The run has MLflow's id, by which a resumed one continues; an offline one does so in a second folder
    of the same id. A file beside these holds the last epoch that was logged."""

    def __init__(self, run: LoggedRun) -> None:
        mode = os.environ.get(MODE) or ("online" if is_logged_in() else "offline")
        if mode != "online":
            os.environ.setdefault("WANDB_ERROR_REPORTING", "false")  # read when wandb is imported
        import wandb

        folder = run.folder / "wandb"
        folder.mkdir(parents=True, exist_ok=True)
        self._logged = folder / "last-epoch"
        self._last = int(self._logged.read_text()) if run.history and self._logged.exists() else 0
        self._image = wandb.Image
        self._run = wandb.init(
            project=run.experiment,
            name=run.name,
            id=run.run_id,
            group=run.study,
            dir=run.folder,
            config=dict(run.parameters),
            resume="allow" if mode == "online" else None,
            reinit="create_new",
            settings=wandb.Settings(
                mode=mode,  # type: ignore[arg-type]
                silent=True,
                console="off",
                save_code=False,
                disable_git=True,
                x_disable_stats=True,
                init_timeout=INIT_SECONDS,
            ),
        )
        how = self._run.url if mode == "online" else f"{mode}, wandb sync {shown(Path(self._run.dir).parent)}"
        self.where = f"wandb: {how}"
        for epoch, metrics in enumerate(run.history, start=1):
            self.log_epoch(epoch, metrics)

    def log_epoch(self, epoch: int, metrics: Mapping[str, float]) -> None:
        if epoch <= self._last:
            return
        self._run.log(dict(metrics), step=epoch)
        self._last = epoch
        self._logged.write_text(str(epoch))

    def log_picture(self, path: str, figure: "Figure") -> None:
        drawn = io.BytesIO()  # wandb itself draws figures only where pyplot is imported
        figure.savefig(drawn, format="rgba", dpi=figure.dpi)
        width, height = figure.canvas.get_width_height()
        pixels = np.frombuffer(drawn.getvalue(), np.uint8).reshape(height, width, 4)
        self._run.log({path.removesuffix(".png"): self._image(pixels)}, step=self._last)

    def log_results(self, metrics: Mapping[str, float]) -> None:
        self._run.summary.update(dict(metrics))

    def close(self) -> None:
        self._run.finish()


def is_logged_in() -> bool:
    """Whether wandb has a key for its server, in the environment or in the file of `wandb login`."""
    if os.environ.get(KEY):
        return True
    host = urlsplit(os.environ.get(SERVER) or "https://api.wandb.ai").hostname
    try:
        return netrc.netrc(os.environ.get("NETRC")).authenticators(host or "") is not None
    except (OSError, netrc.NetrcParseError):
        return False
