"""python benchmarks/step.py: a training step of pneumo compared with a bare PyTorch loop.

Both sides have the same network, weights, images, batch, precision and memory format, and take turns; the
ratio is that of the medians of their epochs. The bare loop is written by hand; it gathers, normalises and
steps, and evaluates nothing. The tiny network is that of model=tiny with model.stem_width=null, so its
stem has 16 channels, not the 8 of the default, and with no mask head. ResNet-50 as it is configured by
default is compared with the same loop in plain fp32 and NCHW; a ratio of 1.8 is required where the CPU
multiplies bfloat16."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from rows import Row, end
from timing import taking_turns
from torch import Tensor, nn

from pneumo.components.augment import Augment
from pneumo.components.losses import Bce
from pneumo.components.models import ModelConfig, Tiny, Torchvision
from pneumo.components.optimizers import AdamW
from pneumo.components.schedules import Constant
from pneumo.data.batches import Batches
from pneumo.data.normalise import FIXED
from pneumo.data.split import Split
from pneumo.data.store import Store
from pneumo.training.device import Accelerator, fastest_dtype
from pneumo.training.settings import TrainerSettings
from pneumo.training.state import TrainState
from pneumo.training.trainer import Trainer

ROUNDS, ROUNDS_OF_RESNET50 = 8, 3
SAFE = Augment(rotation_degrees=10, shift=0.05, scale=0.1, flip=0.5, brightness=0.2, contrast=0.2, gamma=0.2)
CASES: list[tuple[str, ModelConfig, int, int, int]] = [  # name, model, side, batch, images an epoch
    ("tiny, 128 px, batch 16", Tiny(), 128, 16, 640),
    ("resnet18, 128 px, batch 16", Torchvision(arch="resnet18"), 128, 16, 160),
]


def ours(
    model: ModelConfig,
    pixels: np.ndarray,
    labels: np.ndarray,
    batch: int,
    augment: Augment,
    precision: str = "auto",
) -> Callable[[], object]:
    n = len(labels)
    none = np.full(n, -1)
    store = Store(
        pixels, none, pixels[:0], np.zeros((len(pixels), 2), int), key="", folder=Path(), build_seconds=None
    )
    settings = TrainerSettings(epochs=1, batch_size=batch)
    accelerator = Accelerator.chosen("auto", precision)
    rows = np.arange(n)
    split = Split(rows, rows, rows, "", None, (), 0.5, {})
    trainer = Trainer(
        settings=settings,
        accelerator=accelerator,
        loss=Bce(),
        augment=augment,
        normalise=FIXED["half"],
        batches=Batches(store, labels, accelerator.device, num_workers=0),
        split=split,
        image_ids=rows.astype(str),
        seed=0,
    )
    torch.manual_seed(0)
    network = model(1).to(accelerator.device).to(memory_format=trainer.memory_format)
    optimizer = AdamW()(network, batch)
    train_state = TrainState(network, optimizer, Constant()(optimizer, 1), accelerator.scaler(), batch)
    return lambda: trainer.train_epoch(train_state, 1, lambda done, total: None, lambda state: None)


def bare(
    model: ModelConfig,
    pixels: np.ndarray,
    labels: np.ndarray,
    batch: int,
    precision: str = "auto",
    layout: torch.memory_format = torch.channels_last,
) -> Callable[[], None]:
    accelerator = Accelerator.chosen("auto", precision)
    torch.manual_seed(0)
    network = model(1).to(accelerator.device).to(memory_format=layout)
    optimizer = torch.optim.AdamW(network.parameters(), 3e-3)
    images = torch.from_numpy(pixels)[:, None].to(accelerator.device)
    targets = torch.from_numpy(labels).float().to(accelerator.device)

    def epoch() -> None:
        network.train()
        for rows in torch.randperm(len(targets)).to(accelerator.device).split(batch):  # type: ignore[no-untyped-call]
            x = ((images[rows].float() / 255 - 0.5) / 0.5).contiguous(memory_format=layout)
            bare_step(network, optimizer, x, targets[rows], accelerator)
        if accelerator.device.type == "cuda":
            torch.cuda.synchronize()

    return epoch


def bare_step(
    network: nn.Module, optimizer: torch.optim.Optimizer, x: Tensor, targets: Tensor, accelerator: Accelerator
) -> None:
    with accelerator.precision():
        logits = network(x)
    loss = F.binary_cross_entropy_with_logits(logits.float().squeeze(1), targets)
    optimizer.zero_grad(set_to_none=True)
    loss.backward()  # type: ignore[no-untyped-call]
    optimizer.step()


def drawn(n: int, side: int) -> tuple[np.ndarray, np.ndarray]:
    """Noise and labels."""
    random = np.random.default_rng(0)
    return random.integers(0, 256, (n, side, side), np.uint8), (random.random(n) < 0.22).astype(np.int64)


def rows() -> Iterator[Row]:
    for name, model, side, batch, n in CASES:
        pixels, labels = drawn(n, side)
        took = taking_turns(
            {
                "bare": bare(model, pixels, labels, batch),
                "ours": ours(model, pixels, labels, batch, Augment()),
                "safe": ours(model, pixels, labels, batch, SAFE),
            },
            ROUNDS,
        )
        yield compared(f"training step, {name}, images/s", n, took["ours"], "bare loop", took["bare"], 0.95)
        yield compared("the same with augment=safe", n, took["safe"], "bare loop", took["bare"])
    n, side, batch = 32, 224, 8
    pixels, labels = drawn(n, side)
    model = Torchvision(arch="resnet50")
    took = taking_turns(
        {
            "plain": bare(model, pixels, labels, batch, "fp32", torch.contiguous_format),
            "ours": ours(model, pixels, labels, batch, Augment()),
        },
        ROUNDS_OF_RESNET50,
    )
    what = f"resnet50, {side} px, batch {batch}, images/s"
    yield compared(what, n, took["ours"], "plain fp32, NCHW", took["plain"], 1.8 if has_bf16() else None)


def compared(what: str, n: int, ours: float, other: str, theirs: float, at_least: float | None = None) -> Row:
    """From the seconds of both sides for so many images."""
    mine, rate = n / ours, n / theirs
    return Row(what, images(mine), f"{other} {images(rate)}", mine / rate, at_least=at_least)


def images(rate: float) -> str:
    return f"{rate:,.1f}" if rate < 100 else f"{rate:,.0f}"


def has_bf16() -> bool:
    return fastest_dtype(torch.device("cpu")) == torch.bfloat16


def main() -> None:
    accelerator = Accelerator.chosen("auto", "auto")
    end(
        list(rows()),
        f"{accelerator.device}, {accelerator.dtype}, {torch.get_num_threads()} threads; "
        f"medians of {ROUNDS} epochs, of resnet50 of {ROUNDS_OF_RESNET50}",
    )


if __name__ == "__main__":
    main()
