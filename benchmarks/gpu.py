"""python benchmarks/gpu.py: what only a GPU can show; without one nothing is measured.

ResNet-50 at 224 px in channels_last with the pixels on the GPU, in bf16 and in fp16: images a second compared
with the bare loop of step.py in the same precision, and with 3,000. Input: the share of time that 512 px
pixels, augmented and cropped to 224 as the report does, add to steps on one batch that never changes (an
upper bound of the GPU's waiting, since it includes the augmentation's own arithmetic). Two trainings of
model=tiny at once on the card, compared with one alone. The report's run: train.py
experiment=report_normalised without ImageNet weights on synthetic radiographs of 512 px, with the report's
batch of 6 and with one of 256. The seconds of its 50 epochs on 12,047 images follow from the start and the
end of a run of 3 epochs on 2,400 images, and from the median seconds of an epoch per image; they are compared
with the 117,413 s that the report took. --small runs the same on any device, too small for a result."""

import argparse
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from statistics import median

import mlflow
import numpy as np
import torch
from pipeline import REPORT
from rows import Row, end
from runs import trained
from step import bare, bare_step, compared, drawn, images, ours
from timing import taking_turns

from pneumo.components.augment import Augment
from pneumo.components.models import ModelConfig, Tiny, Torchvision
from pneumo.training.device import Accelerator

REPORT_SECONDS, REPORT_EPOCHS, REPORT_IMAGES = 117_413, 50, 12_047
ROUNDS = 3


def steady(model: ModelConfig, labels: np.ndarray, side: int, batch: int) -> Callable[[], None]:
    """As many steps as an epoch has, all on one batch that lies ready."""
    accelerator = Accelerator.chosen("auto", "auto")
    torch.manual_seed(0)
    network = model(1).to(accelerator.device).to(memory_format=torch.channels_last)
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


def steps(name: str, model: ModelConfig, side: int, batch: int, n: int, precisions: list[str]) -> list[Row]:
    pixels, labels = drawn(n, side)
    sides: dict[str, Callable[[], object]] = {"steady": steady(model, labels, side, batch)}
    for precision in precisions:
        sides[f"bare {precision}"] = bare(model, pixels, labels, batch, precision)
        sides[f"ours {precision}"] = ours(model, pixels, labels, batch, Augment(), precision)
    took = taking_turns(sides, ROUNDS)
    large, _ = drawn(n, round(side / REPORT.crop))
    (augmented,) = taking_turns({"ours": ours(model, large, labels, batch, REPORT)}, ROUNDS).values()
    rows = []
    for precision in precisions:
        what = f"{name} at {side} px, batch {batch}, {precision}, images/s"
        mine, theirs = took[f"ours {precision}"], took[f"bare {precision}"]
        rows.append(compared(what, n, mine, "bare loop", theirs, at_least=0.98))
        rows.append(Row("the same", images(n / mine), "3,000", n / mine / 3000, at_least=1))
    return [
        *rows,
        Row(
            f"with the report's augmentation from {large.shape[1]} px, images/s",
            f"{n / augmented:,.0f}",
            f"one batch again and again {n / took['steady']:,.0f}",
            100 * (1 - took["steady"] / augmented),
            "% for input",
            digits=1,
            at_most=3,
        ),
    ]


def two_at_once(n: int) -> Row:
    """Images a second of two processes that train together, compared with one alone."""
    rates = []
    for processes in (1, 2):
        command = [sys.executable, __file__, "--train-tiny", str(n)]
        running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(processes)]
        rates.append(sum(n / float(process.communicate()[0]) for process in running))
    what = "two trainings of tiny at once, 128 px, batch 16, images/s"
    return Row(what, images(rates[1]), f"one alone {images(rates[0])}", rates[1] / rates[0])


def train_tiny(n: int) -> float:
    """Median seconds of an epoch of the default network."""
    model = Tiny(stem_width=8, mask_head=True)
    return taking_turns({"ours": ours(model, *drawn(n, 128), 16, Augment(flip=0.5))}, ROUNDS)["ours"]


def report(n: int, batch: int, *settings: str) -> Row:
    """The report's run, from 3 of its epochs on n images."""
    command = ["experiment=report_normalised", "model.pretrained=null", "fit.pictures=false", *settings]
    command += [f"data.n_images={n}", f"fit.batch_size={batch}", "fit.epochs=3"]
    with tempfile.TemporaryDirectory() as temporary:
        drawing = ("fit.few_images=2", "fit.test=false")
        trained(Path(temporary, "store"), *command, *drawing)
        seconds, _ = trained(Path(temporary, "run"), *command)
        client = mlflow.MlflowClient(f"sqlite:///{temporary}/run/mlflow.db")
        (run,) = client.search_runs([found.experiment_id for found in client.search_experiments()])
        epochs = [metric.value for metric in client.get_metric_history(run.info.run_id, "epoch_seconds")]
    whole = seconds - sum(epochs) + REPORT_EPOCHS * median(epochs) * REPORT_IMAGES / n
    return Row(
        f"the report's run with batch {batch}, 50 epochs on 12,047 images, s (from 3 on {n:,})",
        f"{whole:,.0f}",
        f"the report {REPORT_SECONDS:,}",
        REPORT_SECONDS / whole,
        digits=0,
        at_least=REPORT_SECONDS // 180 if batch > 6 else None,
    )


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--small", action="store_true")
    parser.add_argument("--train-tiny", type=int, metavar="IMAGES", help="prints the seconds of an epoch")
    options = parser.parse_args()
    if options.train_tiny:
        print(train_tiny(options.train_tiny))
        return
    if options.small:
        few = ["data.image_side_px=64", "model=tiny", "model.mask_head=false"]
        rows = steps("tiny", Tiny(width=4), 28, 8, 64, ["bf16"])
        end([*rows, two_at_once(64), report(160, 8, *few)], "too small to say anything")
    if not torch.cuda.is_available():
        end([Row("on a GPU: ResNet-50, input, the report's run")], "there is none here")
    rows = steps("ResNet-50", Torchvision(arch="resnet50"), 224, 256, 4096, ["bf16", "fp16"])
    rows.append(two_at_once(1600))
    rows += [report(2400, batch, "data.image_side_px=512") for batch in (6, 256)]
    end(rows, torch.cuda.get_device_name())


if __name__ == "__main__":
    main()
