"""python benchmarks/search_quick.py: search=quick against search=report, by seconds and by what they find.

Both searches run to their end, one after the other, with the same images and workers=auto. The best setting
of each is then trained again by train.py, in full and without a second attempt (fit.rescue=false, as in a
search), with three seeds that neither search has used. What is asked for: the mean validation AUROC of
quick's setting is at least 98% of that of report's, in at most a quarter of the seconds of the whole command.
The mean of three seeds has a standard error of about .006.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import mean

import yaml
from hydra import compose, initialize_config_dir
from rows import Row, end
from runs import ROOT, surroundings, trained

from pneumo.data.dataset import load_dataset
from pneumo.runs import config

AT_LEAST_OF_AUROC, AT_MOST_OF_SECONDS = 0.98, 0.25
FRESH_SEEDS = (1000, 1001, 1002)


def searched(folder: Path, *overrides: str) -> tuple[float, list[str]]:
    """Seconds of a search, and the overrides of its best trial."""
    folder.mkdir()
    began = time.perf_counter()
    command = [sys.executable, str(ROOT / "sweep.py"), "-m", *overrides]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True)
    seconds = time.perf_counter() - began
    print(done.stdout, flush=True)
    if done.returncode:
        sys.exit(done.stderr[-4000:])
    (found,) = folder.glob("outputs/studies/*/result.yaml")
    return seconds, yaml.safe_load(found.read_text())["best_overrides"]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--images", type=int, default=1400)
    parser.add_argument("--trials", type=int, default=20, help="of search=report")
    parser.add_argument("--seed", type=int, default=0, help="of both samplers")
    parser.add_argument("overrides", nargs="*", help="of both searches and of the trainings")
    options = parser.parse_args()
    images = [f"data.n_images={options.images}", *options.overrides]
    with tempfile.TemporaryDirectory() as temporary:
        kept = surroundings(PNEUMO_STORES=f"{temporary}/stores")
        os.environ.clear()
        os.environ.update(kept)
        with initialize_config_dir(str(ROOT / "conf")):
            load_dataset(config.load(compose("sweep", images)).data, lambda done, total: None)
        seconds, aurocs, settings = {}, {}, {}
        for search, given in (("quick", []), ("report", [f"n_trials={options.trials}"])):
            words = [f"search={search}", f"hydra.sweeper.sampler.seed={options.seed}", *given]
            seconds[search], settings[search] = searched(Path(temporary, search), *words, *images)
            runs = [
                trained(
                    Path(temporary, f"{search}-{seed}"),
                    *settings[search],
                    f"seed={seed}",
                    "fit.rescue=false",
                    *images,
                )[1]
                for seed in FRESH_SEEDS
            ]
            aurocs[search] = [metrics["best/val_auroc"] for metrics in runs]
    for search, values in aurocs.items():
        print(f"{search}: {' '.join(settings[search])}: {', '.join(f'{value:.3f}' for value in values)}")
    quick, report = mean(aurocs["quick"]), mean(aurocs["report"])
    part = seconds["quick"] / seconds["report"]
    end(
        [
            Row(
                "seconds",
                f"{seconds['quick']:.0f}",
                f"{seconds['report']:.0f}, search=report",
                part,
                at_most=AT_MOST_OF_SECONDS,
            ),
            Row(
                f"val AUROC, {len(FRESH_SEEDS)} fresh seeds",
                f"{quick:.3f}",
                f"{report:.3f}",
                quick / report,
                digits=3,
                at_least=AT_LEAST_OF_AUROC,
            ),
        ]
    )


if __name__ == "__main__":
    main()
