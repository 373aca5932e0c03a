"""python benchmarks/gpu.py: what only a GPU can show; without one nothing is measured.

ResNet-50 at 224 px in bf16 and channels_last with the pixels on the GPU: images a second compared with the
bare loop of step.py, and with 3,000. Input: the share of time that 512 px pixels, augmented and cropped to
224 as the report does, add to steps on one batch that never changes (an upper bound of the GPU's waiting,
since it includes the augmentation's own arithmetic). The report's run: train.py experiment=report_normalised,
50 epochs without ImageNet weights, on 12,047 synthetic radiographs of 512 px, from start to end with the
store built, compared with the 117,413 s that the report took. --small runs the same on any device, too small
for a result."""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from pipeline import REPORT
from rows import Row, end
from runs import trained
from step import ROUNDS, bare, bare_step, compared, drawn, ours
from timing import taking_turns

from pneumo.components.augment import Augment
from pneumo.components.models import ModelConfig, Tiny, Torchvision
from pneumo.training.device import Accelerator

REPORT_SECONDS = 117_413


def steady(model: ModelConfig, labels: np.ndarray, side: int, batch: int) -> Callable[[], None]:
    """As many steps as an epoch has, all on one batch that lies ready."""
    accelerator = Accelerator.chosen("auto", "auto")
    torch.manual_seed(0)
    network = model(1).to(accelerator.device, memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(network.parameters(), 3e-3)
    x = torch.randn(batch, 1, side, side, device=accelerator.device).contiguous(
        memory_format=torch.channels_last
    )
    targets = torch.from_numpy(labels[:batch]).float().to(accelerator.device)

    def epoch() -> None:
        network.train()
        for _ in range(len(labels) // batch):
            bare_step(network, optimizer, x, targets, accelerator)
        if accelerator.device.type == "cuda":
            torch.cuda.synchronize()

    return epoch


def steps(name: str, model: ModelConfig, side: int, batch: int, n: int) -> list[Row]:
    pixels, labels = drawn(n, side)
    took = taking_turns(
        {
            "bare": bare(model, pixels, labels, batch),
            "ours": ours(model, pixels, labels, batch, Augment()),
            "steady": steady(model, labels, side, batch),
        },
        ROUNDS,
    )
    large, _ = drawn(n, round(side / REPORT.crop))
    (augmented,) = taking_turns({"ours": ours(model, large, labels, batch, REPORT)}, ROUNDS).values()
    what = f"{name} at {side} px, batch {batch}, images/s"
    rate, input_share = n / took["ours"], 1 - took["steady"] / augmented
    return [
        compared(what, n, took["ours"], "bare loop", took["bare"], at_least=0.95),
        Row("the same", f"{rate:,.0f}", "3,000", rate / 3000, at_least=1),
        Row(
            f"with the report's augmentation from {large.shape[1]} px, images/s",
            f"{n / augmented:,.0f}",
            f"one batch again and again {n / took['steady']:,.0f}",
            100 * input_share,
            "% for input",
            digits=1,
            at_most=3,
        ),
    ]


def report(*settings: str) -> list[Row]:
    """The phantom drawn, and the report's run on it."""
    command = ["experiment=report_normalised", "model.pretrained=null", "fit.pictures=false", *settings]
    with tempfile.TemporaryDirectory() as temporary:
        began = time.perf_counter()
        trained(Path(temporary, "store"), *command, "fit.epochs=1", "fit.few_images=2", "fit.test=false")
        stored = time.perf_counter() - began
        seconds, _ = trained(Path(temporary, "run"), *command)
    return [
        Row("its phantom generated and stored, s", f"{stored:,.0f}"),
        Row(
            "the report's run, s",
            f"{seconds:,.0f}",
            f"the report {REPORT_SECONDS:,}",
            REPORT_SECONDS / seconds,
            digits=0,
            at_least=1,
        ),
    ]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--small", action="store_true")
    if parser.parse_args().small:
        few = ["data.n_images=160", "data.image_side_px=64", "model=tiny", "fit.epochs=2"]
        end([*steps("tiny", Tiny(width=4), 28, 8, 64), *report(*few)], "too small to say anything")
    if not torch.cuda.is_available():
        end([Row("on a GPU: ResNet-50, input, the report's run")], "there is none here")
    torch.backends.cudnn.benchmark = False
    rows = steps("ResNet-50", Torchvision(arch="resnet50"), 224, 256, 8192)
    rows += report("data.n_images=12047", "data.image_side_px=512")
    end(rows, torch.cuda.get_device_name())


if __name__ == "__main__":
    main()
