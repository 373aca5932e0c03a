"""python benchmarks/memory.py: the host memory that training on 12,047 images of 512 px takes.

A store of that size (noise, about 3.2 GB in a temporary folder) is read whole, in random order, through
batches, augmentation and a tiny network, and compared with the same on 64 images. Only anonymous memory
counts (RssAnon), since the system can reclaim the pages of the store."""

import tempfile
from pathlib import Path

import numpy as np
import torch
from rows import Row, end

from pneumo.components.augment import Augment
from pneumo.components.losses import Bce
from pneumo.components.models import Tiny
from pneumo.components.optimizers import AdamW
from pneumo.components.schedules import Constant
from pneumo.data.batches import Batches
from pneumo.data.normalise import FIXED
from pneumo.data.split import Split
from pneumo.data.store import Store
from pneumo.display.format import decimal
from pneumo.training.device import Accelerator
from pneumo.training.settings import TrainerSettings
from pneumo.training.state import TrainState
from pneumo.training.trainer import Trainer

N, SIDE_PX = 12047, 512


def anonymous_gib() -> float:
    lines = Path("/proc/self/status").read_text().splitlines()
    (kb,) = (line.split()[1] for line in lines if line.startswith("RssAnon"))
    return int(kb) / 2**20


def trained(pixels: np.ndarray) -> float:
    """GiB at the most, looked at after every step of one epoch."""
    n, rows = len(pixels), np.arange(len(pixels))
    labels = rows % 2
    store = Store(
        pixels, np.full(n, -1), pixels[:0], np.zeros((n, 2), int), key="", folder=Path(), build_seconds=None
    )
    accelerator = Accelerator.chosen("auto", "auto")
    trainer = Trainer(
        settings=TrainerSettings(epochs=1, batch_size=16),
        accelerator=accelerator,
        loss=Bce(),
        augment=Augment(rotation_degrees=15, flip=0.5, crop=224 / 512),
        normalise=FIXED["half"],
        batches=Batches(store, labels, accelerator.device, num_workers=0),
        split=Split(rows, rows, rows, "", None, (), 0.5, {}),
        image_ids=rows.astype(str),
        seed=0,
    )
    torch.manual_seed(0)
    network = Tiny(width=4)(1).to(accelerator.device).to(memory_format=trainer.memory_format)
    optimizer = AdamW()(network, 16)
    train_state = TrainState(network, optimizer, Constant()(optimizer, 1), accelerator.scaler(), 16)
    most = 0.0

    def look(done: int, total: int) -> None:
        nonlocal most
        most = max(most, anonymous_gib())

    trainer.train_epoch(train_state, 1, look, lambda state: None)
    return most


def main() -> None:
    few = np.zeros((64, SIDE_PX, SIDE_PX), np.uint8)
    small = trained(few)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "pixels.npy")
        pixels = np.lib.format.open_memmap(path, "w+", np.uint8, (N, SIDE_PX, SIDE_PX))
        block = np.random.default_rng(0).integers(0, 256, (64, SIDE_PX, SIDE_PX), np.uint8)
        for start in range(0, N, 64):
            pixels[start : start + 64] = block[: N - start]
        pixels.flush()
        large = trained(np.load(path, mmap_mode="r"))
    end(
        [
            Row(
                f"own host memory while training on {N:,} images of {SIDE_PX} px, GiB",
                decimal(large, 2),
                f"64 images {decimal(small, 2)}",
                large - small,
                " GiB more",
                at_most=2,
            )
        ]
    )


if __name__ == "__main__":
    main()
