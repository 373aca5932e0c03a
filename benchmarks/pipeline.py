"""python benchmarks/pipeline.py: input, pixel store and bootstrap compared with their plain implementations,
and the phantom.

Input: one training image as the report prepared it (Pillow: decode a PNG of 1024 px, resize to 512, rotate,
flip, jitter, crop to 224, convert to grey, normalise; from colour and from grey images) compared with pneumo
(a memory-mapped store of 512 px, augmented a batch at a time), with one thread each. Store: images a second
of a whole build, compared with the decoding and resizing of one core times the cores, and with as many
processes that only decode. Phantom: two threads compared with one. Bootstrap: seconds for
2,000 draws of 6,171 patients with 12,047 images, for all metrics of a run."""

import os
import tempfile
from collections import deque
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from itertools import count
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from PIL import Image
from rows import Row, end
from timing import taking_turns
from torchvision.transforms import v2

from pneumo.components.augment import Augment
from pneumo.data.cohort import Cohort
from pneumo.data.decode.images import FilePixels, ImageFile
from pneumo.data.normalise import FIXED
from pneumo.data.phantom import draw, studies
from pneumo.data.store import open_store
from pneumo.evaluation import metrics

N_FILES, SIDE_PX, BATCH, ROUNDS = 48, 512, 32, 5
N_PHANTOM_PIXELS = 640 * 128**2
TIMES = 8  # a store of so many times the files: its beginning and end would count too much
REPORT = Augment(rotation_degrees=15, flip=0.5, brightness=0.5, contrast=0.5, crop=224 / 512)


def quiet(done: int, total: int) -> None:
    pass


def files_of_radiographs(folder: Path) -> FilePixels:
    """Drawn ones, 1024 px, as 8-bit PNG."""
    number = 0
    for pixels, _ in draw(studies(N_FILES, 0), 1024, 0):
        for image in pixels:
            Image.fromarray(image).save(folder / f"{number}.png")
            number += 1
    return FilePixels(folder, [ImageFile(f"{i}.png") for i in range(number)])


def theirs(files: FilePixels, mode: str) -> Callable[[], None]:
    chain = v2.Compose(
        [
            v2.Resize(SIDE_PX),
            v2.RandomRotation(15),
            v2.RandomHorizontalFlip(),
            v2.ColorJitter(brightness=0.5, contrast=0.5),
            v2.RandomCrop(224),
            v2.Grayscale(),
            v2.ToImage(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize([0.5], [0.5]),
        ]
    )

    def prepare() -> None:
        for row in files.images:
            chain(Image.open(files.root / row.image).convert(mode))

    return prepare


def ours(pixels: np.ndarray) -> Callable[[], None]:
    generator = torch.Generator().manual_seed(0)

    def prepare() -> None:
        order = np.random.default_rng(0).permutation(len(pixels))
        for start in range(0, len(order), BATCH):
            rows = order[start : start + BATCH]
            images = torch.from_numpy(pixels[rows])[:, None]
            FIXED["half"](REPORT(images, REPORT.draw(len(rows), generator)))

    return prepare


def phantom_on(threads: int, side_px: int) -> Callable[[], None]:
    table = studies(N_PHANTOM_PIXELS // side_px**2, 0)

    def draw_all() -> None:
        before = torch.get_num_threads()
        torch.set_num_threads(threads)
        deque(draw(table, side_px, 0), maxlen=0)
        torch.set_num_threads(before)

    return draw_all


def cohort_of(files: FilePixels) -> Cohort:
    n = len(files.images)
    columns = {"image_id": [str(i) for i in range(n)], "where": [f"row {i}" for i in range(n)]}
    unknown = dict.fromkeys(("patient_id", "view", "age", "sex"), None)
    return Cohort("files", pd.DataFrame({**columns, "label": np.arange(n) % 2, **unknown}), files)


def building(files: FilePixels, folder: Path) -> Callable[[], object]:
    cohort, number = cohort_of(files), count()
    return lambda: open_store(cohort, SIDE_PX, folder / f"store{next(number)}", "raise", quiet)


def decoding(files: FilePixels) -> Callable[[], object]:
    return lambda: decoded(files)


def decoded(files: FilePixels) -> int:
    return len([files._decoded(row, SIDE_PX) for row in files.images])


def decoding_apart(files: FilePixels, pool: ProcessPoolExecutor, cores: int) -> Callable[[], object]:
    parts = [FilePixels(files.root, files.images[first::cores]) for first in range(cores)]
    return lambda: list(pool.map(decoded, parts))


def bootstrapping() -> Callable[[], object]:
    random = np.random.default_rng(0)
    patients = np.concatenate([np.arange(6171), random.integers(0, 6171, 12047 - 6171)])
    labels = (random.random(12047) < 0.2215).astype(int)
    scores = random.random(12047) + 0.5 * labels
    return lambda: metrics.bootstrap_intervals(labels, scores, patients, 0.5)


def main() -> None:
    cores = os.cpu_count() or 1
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        files = files_of_radiographs(folder)
        n = len(files.images)
        _, store = open_store(cohort_of(files), SIDE_PX, folder / "once", "raise", quiet)
        torch.set_num_threads(1)
        sides = {"ours": ours(store.pixels), "colour": theirs(files, "RGB"), "grey": theirs(files, "L")}
        took = taking_turns(sides, ROUNDS)
        torch.set_num_threads(cores)
        often = FilePixels(folder, [*files.images] * TIMES)
        with ProcessPoolExecutor(cores, mp_context=get_context("spawn")) as pool:
            stored = taking_turns(
                {
                    "core": decoding(often),
                    "cores": decoding_apart(often, pool, cores),
                    "build": building(often, folder),
                },
                ROUNDS,
            )
    core, apart, build = (TIMES * n / stored[side] for side in ("core", "cores", "build"))
    drawing = {
        side_px: taking_turns({"one": phantom_on(1, side_px), "two": phantom_on(2, side_px)}, ROUNDS)
        for side_px in (128, 512)
    }
    draws = taking_turns({"ours": bootstrapping()}, ROUNDS)["ours"]
    end(
        [
            *(
                Row(
                    f"input, 512 to 224 px, images/s a core, {kind} images",
                    f"{n / took['ours']:,.0f}",
                    f"the report's chain {n / took[kind]:,.0f}",
                    took[kind] / took["ours"],
                    digits=1,
                    at_least=8,
                )
                for kind in ("colour", "grey")
            ),
            Row(
                "pixel store, images/s",
                f"{build:,.0f}",
                f"{cores} cores x {core:,.0f} decoded and resized",
                build / (cores * core),
                at_least=0.85,
            ),
            Row(
                "the same",
                f"{build:,.0f}",
                f"{cores} processes that only decode {apart:,.0f}",
                build / apart,
            ),
            *(
                Row(
                    f"phantom, {side_px} px, 2 threads, ms an image",
                    f"{took['two'] / (N_PHANTOM_PIXELS // side_px**2) * 1000:.1f}",
                    f"1 thread {took['one'] / (N_PHANTOM_PIXELS // side_px**2) * 1000:.1f}",
                    took["two"] / took["one"],
                )
                for side_px, took in drawing.items()
            ),
            Row(
                "bootstrap, 2,000 draws over 12,047 images, s",
                f"{draws:.2f}",
                "5",
                draws / 5,
                at_most=1,
            ),
        ],
        f"on {cores} cores; medians of {ROUNDS}",
    )


if __name__ == "__main__":
    main()
