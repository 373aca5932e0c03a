"""python benchmarks/ablation.py: what each ingredient of a recipe gives, alone and together.

Every variant is trained with the same seeds (first weights, order) on drawn radiographs, and judged on
others, drawn from another seed, that nothing was chosen by: AUROC over all, and of small lesions (under
.5% of the image) against all negatives. Differences are paired by seed, with 95% t intervals. Views and
ensembles need no training of their own.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path

import mlflow
import numpy as np
import torch
from rich.console import Console
from rich.table import Table
from runs import ROOT, surroundings

from pneumo.data.batches import Batches
from pneumo.data.dataset import Dataset, load_dataset
from pneumo.evaluation import metrics
from pneumo.inference.model import LoadedModel, load_model
from pneumo.runs import config, tracking
from pneumo.sweep.paired_effects import paired
from pneumo.training.predict import tta_transforms

VARIANTS = {
    "the defaults": [],
    "masks teach where": ["model.mask_head=true"],
    "positives .8 -> .22": ["fit.positive_share=0.8"],
    "masks + positives": ["model.mask_head=true", "fit.positive_share=0.8"],
    "EMA of weights": ["fit.ema_decay=0.998"],
    "stronger augmentation": ["augment=strong"],
    "192 px instead of 128": ["data.image_side_px=192"],
    "twice as long": ["fit.epochs=18"],
    "192 px, twice as long": ["data.image_side_px=192", "fit.epochs=18"],
    "masks, 192 px, twice as long": ["model.mask_head=true", "data.image_side_px=192", "fit.epochs=18"],
    "masks + positives, twice as long": ["model.mask_head=true", "fit.positive_share=0.8", "fit.epochs=18"],
}
BASE, TOGETHER = "the defaults", "masks + positives, twice as long"
JUDGES_SEED, SMALL = 1, 0.005  # of the drawn images; share of the image
Scores = dict[str, np.ndarray]


def train(folder: Path, seed: int, overrides: list[str]) -> tuple[str, float]:
    """The run's id and its seconds."""
    command = [sys.executable, str(ROOT / "train.py"), f"seed={seed}", "fit.test=false", "fit.pictures=false"]
    began = time.time()
    done = subprocess.run([*command, *overrides], cwd=folder, capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stdout[-2000:] + done.stderr[-4000:])
    (run,) = mlflow.search_runs(search_all_experiments=True, max_results=1, output_format="list")
    return run.info.run_id, time.time() - began


def judged(model: LoadedModel, n_images: int, transforms: str) -> np.ndarray:
    """Log odds of the judging images, (N,)."""
    judges = judging(model.side_px, n_images)
    batches = Batches(judges.store, judges.labels, model.accelerator.device, 0)
    logits = model.logits(batches, np.arange(len(judges.labels)), tta_transforms(transforms))
    return torch.logit(model.loss.probability(logits), eps=1e-9).numpy()


def judging(side_px: int, n_images: int) -> Dataset:
    overrides = [f"data.image_side_px={side_px}", f"data.n_images={n_images}", f"data.seed={JUDGES_SEED}"]
    return load_dataset(config.load(config.compose_train(overrides)).data, lambda done, total: None)


def aurocs(log_odds: np.ndarray, judges: Dataset) -> tuple[float, float]:
    """AUROC over all, and of small lesions against all negatives."""
    labels, store = judges.labels, judges.store
    share = np.zeros(len(labels))
    share[store.has_mask] = store.lesions[store.mask_of[store.has_mask]].mean(axis=(1, 2)) / 255
    small = (labels == 0) | (share < SMALL)
    return (
        float(metrics.auroc(metrics.Ranking.of(labels, log_odds))[0]),
        float(metrics.auroc(metrics.Ranking.of(labels[small], log_odds[small]))[0]),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--judges", type=int, default=3000, help="images that nothing was trained on")
    parser.add_argument("--variants", nargs="+", default=list(VARIANTS), choices=list(VARIANTS))
    parser.add_argument("--out", type=Path, help="JSON of every figure, written as they come")
    parser.add_argument("overrides", nargs="*", help="of all variants")
    options = parser.parse_args()
    found: dict[str, list[tuple[float, float]]] = defaultdict(list)
    seconds: dict[str, list[float]] = defaultdict(list)
    log_odds: dict[str, list[np.ndarray]] = defaultdict(list)
    console = Console(highlight=False, width=150)
    with tempfile.TemporaryDirectory() as temporary:
        os.environ.update(surroundings(PNEUMO_STORES=f"{temporary}/stores"))
        os.chdir(temporary)
        tracking.connect()
        judges = judging(128, options.judges)
        for seed in range(options.seeds):
            for name in options.variants:
                run_id, spent = train(Path(temporary), seed, [*VARIANTS[name], *options.overrides])
                seconds[name].append(spent)
                model = load_model(run_id)
                for transforms in ("none", "hflip") if name in (BASE, TOGETHER) else ("none",):
                    title = name if transforms == "none" else f"{name}; mirrored view"
                    log_odds[title].append(judged(model, options.judges, transforms))
                    found[title].append(aurocs(log_odds[title][-1], judges))
                    whole, small = found[title][-1]
                    console.print(f"seed {seed}  {title}: {whole:.4f} {small:.4f}")
                if options.out:
                    options.out.write_text(json.dumps({"found": found, "seconds": seconds}))
        for title in [title for title in found if title.startswith((BASE, TOGETHER))]:
            whole, small = aurocs(np.mean(log_odds[title], axis=0), judges)
            console.print(f"ensemble of {options.seeds} seeds of {title}: {whole:.4f} {small:.4f}")
        console.print(table(found, seconds))


def table(found: dict[str, list[tuple[float, float]]], seconds: dict[str, list[float]]) -> Table:
    versus = "against the defaults"
    drawn = Table("variant", "AUROC", versus, "small lesions", versus, "seconds", box=None)
    base = np.array(found[BASE])
    for title, pairs in found.items():
        own = np.array(pairs)
        cells = []
        for column in (0, 1):
            cells.append(f"{own[:, column].mean():.4f}")
            change = paired(base[: len(own), column].tolist(), own[:, column].tolist())
            cells.append(
                "" if title == BASE else f"{change.mean:+.4f} ({change.low:+.4f}, {change.high:+.4f})"
            )
        drawn.add_row(title, *cells, f"{np.mean(seconds[title]):.0f}" if title in seconds else "")
    return drawn


if __name__ == "__main__":
    main()
