"""sweep.py with the training loop alone replaced: one epoch that takes `STUB_SECONDS` and comes to an AUROC
that depends on learning rate, effective batch and loss, so that the sampler has something to model.

`python benchmarks/stubbed.py -m ...` is what sweep_overhead.py and sweep_workers.py measure.
"""

import math
import os
import time
from collections.abc import Callable, Iterator

import hydra
import numpy as np
from omegaconf import DictConfig
from runs import ROOT

from pneumo.runs import config
from pneumo.sweep.job import job
from pneumo.training.predict import Predictions
from pneumo.training.state import EpochReport, TrainState
from pneumo.training.trainer import Trainer

SECONDS = "STUB_SECONDS"
SMALL = ["data.n_images=160", "data.image_side_px=64", "model.width=4", "fit.epochs=1"]
BY_LOSS = {"Bce": 0.02, "Focal": 0.01, "CrossEntropy": 0.0}


def one_epoch(
    trainer: Trainer,
    train_state: TrainState,
    on_batch: Callable[[int, int], None] = lambda done, total: None,
    keep: Callable[[TrainState], None] = lambda train_state: None,
) -> Iterator[EpochReport]:
    """In place of Trainer.epochs."""
    seconds = float(os.environ.get(SECONDS, "0"))
    time.sleep(seconds)
    lr = train_state.optimizer.param_groups[0]["lr"]
    batch = trainer.settings.effective_batch
    auroc = 0.95 - 0.03 * (math.log10(lr) + 3.5) ** 2 - 0.005 * (math.log2(batch) - 5) ** 2
    auroc += BY_LOSS.get(type(trainer.loss).__name__, -0.01)
    metrics = {"train/loss": 1 - auroc, "train/accuracy": auroc, "images_per_second": 0.0, "lr": lr}
    metrics |= {"val/auroc": auroc, "val/auprc": auroc, "val/accuracy": auroc, "val/loss": 1 - auroc}
    train_state.history.append({**metrics, "epoch_seconds": seconds})
    rows = trainer.split.val
    none = np.zeros(len(rows))
    yield EpochReport(
        1, train_state.history[-1], Predictions(rows, none, none[:, None], none, 0.0), is_best=True
    )


@hydra.main(config_path=str(ROOT / "conf"), config_name="sweep", execution_whitelist=config.trusted_targets())
def main(composed: DictConfig) -> float | list[float] | None:
    return job(composed)


Trainer.epochs = one_epoch  # type: ignore[assignment, method-assign]

if __name__ == "__main__":
    main()
