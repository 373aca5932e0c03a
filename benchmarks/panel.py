"""python benchmarks/panel.py: whether a recipe learns on data that it has never met.

A panel of phantoms of different styles, numbers of images and resolutions: recipes are chosen on its cells
named `tuning`, and reported on those named `unseen`, whose styles nothing was chosen by. Every recipe trains
in every cell with the same seeds (first weights, order), in this process's pool, as train.py does, without
plots.

A run lifts off when its validation AUROC reaches .9 after some epoch. The table gives, for each recipe, the
share of runs that lift off with Wilson's 95% interval, the training images seen until then (median of those
that do), the test AUROC of the epoch that the run keeps, its mean in the worst cell, the difference from the
first recipe over pairs of the same cell and seed with Student's 95% interval, and seconds of training. Both
intervals are for other seeds in these cells, not for other data: the seeds of a cell share its data, and
count as independent nevertheless.
"""

import argparse
import contextlib
import json
import multiprocessing
import os
import tempfile
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path

import numpy as np
from rich.console import Console
from rich.table import Table

LIFTED = 0.9


@dataclass(frozen=True)
class Cell:
    style: str
    n_images: int
    side_px: int

    @property
    def name(self) -> str:
        return f"{self.style} {self.n_images} x {self.side_px} px"

    @property
    def overrides(self) -> list[str]:
        size = [f"data.n_images={self.n_images}", f"data.image_side_px={self.side_px}"]
        return [f"data.style={self.style}", *size]


PANEL = {
    "tuning": [
        Cell("default", 1600, 128),
        Cell("faint", 1600, 128),
        Cell("tiny", 1600, 128),
        Cell("portable", 1600, 128),
        Cell("dark", 2800, 96),
        Cell("portable", 400, 128),
    ],
    "unseen": [
        Cell("crisp", 1600, 128),
        Cell("soft", 1600, 128),
        Cell("mimics", 1600, 128),
        Cell("coarse", 2800, 96),
        Cell("distant", 1600, 192),
        Cell("[crisp,distant,soft,coarse,mimics]", 2800, 128),
        Cell("soft", 400, 128),
    ],
}
BEFORE = [
    *("augment=safe", "model.mask_head=false", "model.stem_width=null"),
    *("fit.epochs=9", "fit.positive_share=null"),
]
ALONE = "fit.rescue=false"  # an earlier recipe as it was
RECIPES = {
    "default": [],
    "default without masks": ["model.mask_head=false", ALONE],
    "recommended": ["experiment=recommended"],
    "auto": ["experiment=auto"],
    "earlier default": [*BEFORE, ALONE],
    "earlier default, begun again": BEFORE,
    "earlier default + masks": [*BEFORE, ALONE, "model.mask_head=true"],
    "earlier default + positives": [*BEFORE, ALONE, "fit.positive_share=0.8"],
    "earlier default + augment=flip": [*BEFORE, ALONE, "augment=flip"],
    "default + augment=safe": ["augment=safe"],
    "default, positives .5": ["fit.positive_share=0.5"],
    "default, natural share": ["fit.positive_share=null"],
    "default, full stem": ["model.stem_width=null", "fit.epochs=9"],
    "default, twice as long": ["fit.epochs=24"],
}
Result = dict[str, object]


@dataclass(frozen=True)
class Job:
    cell: Cell
    seed: int
    recipe: str
    overrides: list[str]


@dataclass(frozen=True)
class Outcome:
    """One run. `val`: its validation AUROC after each epoch."""

    recipe: str
    cell: str
    seed: int
    train_images: int
    val: list[float]
    test: float
    seconds: float

    @property
    def lifted_after(self) -> float:
        """Training images seen until it lifted off; infinity if it never did."""
        epochs = [number for number, auroc in enumerate(self.val, start=1) if auroc >= LIFTED]
        return epochs[0] * self.train_images if epochs else np.inf


def prepare() -> None:
    """A folder and a database of its own for each process of the pool."""
    folder = tempfile.mkdtemp(dir=os.environ["PANEL_FOLDER"])
    os.chdir(folder)
    for name in ("MLFLOW_TRACKING_URI", "MLFLOW_EXPERIMENT_ID"):
        os.environ.pop(name, None)


def store(cell: Cell) -> str:
    """Draws the images of a cell."""
    from pneumo.data.dataset import load_dataset
    from pneumo.runs import config

    load_dataset(config.load(config.compose_train(cell.overrides)).data, lambda done, total: None)
    return cell.name


def train(job: Job) -> Outcome:
    import torch

    from pneumo.display.console import Terminal
    from pneumo.runs import config, query
    from pneumo.runs.callback import RunCallback
    from pneumo.runs.planner import planned
    from pneumo.runs.run import run

    class History(RunCallback):
        def __init__(self) -> None:
            super().__init__()
            self.val: list[float] = []

        def on_epoch_end(self, epoch: int, metrics: Mapping[str, float], is_last: bool) -> None:
            self.val.append(metrics["val/auroc"])

    torch.set_num_threads(1)
    options = [*job.cell.overrides, *job.overrides, f"seed={job.seed}", "fit.pictures=false"]
    began = time.perf_counter()
    with Path(os.devnull).open("w") as nowhere, contextlib.redirect_stdout(nowhere):
        history = History()
        experiment = planned(config.compose_train(options), options, Terminal(quiet=True))
        run(experiment, Path.cwd(), history)
    assert history.run_id
    logged = query.metrics_of(history.run_id)
    return Outcome(
        recipe=job.recipe,
        cell=job.cell.name,
        seed=job.seed,
        train_images=int(logged["split/train_images"]),
        val=[round(auroc, 4) for auroc in history.val],
        test=logged["test/auroc"],
        seconds=time.perf_counter() - began,
    )


def outcomes(jobs: Sequence[Job], processes: int) -> Iterator[Outcome]:
    """As they finish."""
    spawn = multiprocessing.get_context("spawn")
    with spawn.Pool(processes, initializer=prepare) as pool:
        list(pool.imap_unordered(store, {job.cell for job in jobs}))
        yield from pool.imap_unordered(train, jobs)


def wilson(successes: int, n: int) -> tuple[float, float]:
    """The 95% interval of a share (Wilson 1927)."""
    z = 1.96
    share, width = successes / n, z**2 / n
    middle, half = share + width / 2, z * np.sqrt(share * (1 - share) / n + width / (4 * n))
    return float((middle - half) / (1 + width)), float((middle + half) / (1 + width))


def table(found: Sequence[Outcome], recipes: Sequence[str]) -> Table:
    from pneumo.sweep.design.paired_effects import paired

    of = {recipe: [outcome for outcome in found if outcome.recipe == recipe] for recipe in recipes}
    first = {(outcome.cell, outcome.seed): outcome.test for outcome in of[recipes[0]]}
    columns = ("recipe", "runs", "lift off", "after images", "test AUROC", "worst cell")
    drawn = Table(*columns, f"against {recipes[0]}", "s", box=None, pad_edge=False)
    for recipe, runs in of.items():
        lifted = [run.lifted_after for run in runs if np.isfinite(run.lifted_after)]
        low, high = wilson(len(lifted), len(runs))
        cells = {run.cell for run in runs}
        worst = min((np.mean([run.test for run in runs if run.cell == cell]), cell) for cell in cells)
        pairs = [(first[run.cell, run.seed], run.test) for run in runs if (run.cell, run.seed) in first]
        change = paired([before for before, _ in pairs], [after for _, after in pairs])
        drawn.add_row(
            recipe,
            str(len(runs)),
            f"{len(lifted) / len(runs):.2f} ({low:.2f}, {high:.2f})",
            f"{np.median(lifted):,.0f}" if lifted else "",
            f"{np.mean([run.test for run in runs]):.3f}",
            f"{worst[0]:.3f} {worst[1]}",
            "" if recipe == recipes[0] else f"{change.mean:+.3f} ({change.low:+.3f}, {change.high:+.3f})",
            f"{np.mean([run.seconds for run in runs]):.0f}",
        )
    return drawn


def in_order(recipes: Collection[str]) -> list[str]:
    """Those of RECIPES in its order, then those given as overrides."""
    return [*(name for name in RECIPES if name in recipes), *sorted(set(recipes) - RECIPES.keys())]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--half", choices=list(PANEL), default="tuning")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--recipes", nargs="+", default=["default", "recommended", "earlier default"])
    parser.add_argument("--cells", type=int, nargs="+", help="positions in the half; default: all")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--out", type=Path, help="JSON lines, one a run, added as they finish")
    parser.add_argument("--table", type=Path, nargs="+", help="only print the table of such files")
    options = parser.parse_args()
    console = Console(highlight=False, markup=False, width=170)
    if options.table:
        lines = [line for path in options.table for line in path.read_text().splitlines()]
        read = [Outcome(**json.loads(line)) for line in lines]
        console.print(table(read, in_order({outcome.recipe for outcome in read})))
        return
    cells = [PANEL[options.half][number] for number in options.cells or range(len(PANEL[options.half]))]
    jobs = [
        Job(cell, seed, recipe, RECIPES.get(recipe, recipe.split()))
        for seed, recipe, cell in product(range(options.seeds), options.recipes, cells)
    ]
    found = []
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with tempfile.TemporaryDirectory() as temporary:
        os.environ["PANEL_FOLDER"] = temporary
        os.environ.setdefault("PNEUMO_STORES", f"{temporary}/stores")
        for outcome in outcomes(jobs, options.processes):
            found.append(outcome)
            if options.out:
                with options.out.open("a") as file:
                    file.write(json.dumps(asdict(outcome)) + "\n")
            console.print(f"{outcome.recipe}, {outcome.cell}, seed {outcome.seed}: {outcome.test:.3f}")
    console.print(table(found, options.recipes))


if __name__ == "__main__":
    main()
