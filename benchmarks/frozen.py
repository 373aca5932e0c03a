"""python benchmarks/frozen.py: 20 epochs of a frozen backbone, with its features kept and without.

The same run of train.py twice, each in a folder of its own with the store built: seconds of the whole run
between its first line and its end, and the validation AUROC it comes to."""

import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import mlflow
from rich.console import Console
from rich.table import Table
from stubbed import ROOT, surroundings

AT_LEAST, APART = 10.0, 0.005
RUN = ["model=resnet18", "model.freeze=backbone", "augment=none", "fit.pictures=false"]


def seconds(folder: Path, environment: dict[str, str], *overrides: str) -> tuple[float, float]:
    """Of training and judging, and the best val AUROC."""
    folder.mkdir()
    began = time.perf_counter()
    command = [sys.executable, str(ROOT / "train.py"), *RUN, *overrides]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stdout[-2000:] + done.stderr[-4000:])
    took = time.perf_counter() - began
    client = mlflow.MlflowClient(f"sqlite:///{folder / 'mlflow.db'}")
    (run,) = client.search_runs([found.experiment_id for found in client.search_experiments()])
    return took, run.data.metrics["best/val_auroc"]


def main() -> None:
    table = Table("20 epochs, resnet18 at 128 px", "s", "val AUROC", box=None, padding=(0, 3, 0, 0))
    with tempfile.TemporaryDirectory() as temporary:
        environment = surroundings(PNEUMO_STORES=f"{temporary}/stores", PYTHONPATH=str(ROOT))
        for number in range(2):  # the first builds the store
            short = ("fit.epochs=1", "fit.few_images=2", "fit.cache_features=null")
            nothing, _ = seconds(Path(temporary, str(number)), environment, *short)
        sides = {}
        for name, cache in (("from images", "null"), ("from features", "auto")):
            took, auroc = seconds(
                Path(temporary, cache), environment, "fit.epochs=20", f"fit.cache_features={cache}"
            )
            sides[name] = took - nothing, auroc
            table.add_row(name, f"{took - nothing:.1f}", f"{auroc:.4f}")
    console = Console(highlight=False)
    console.print(table)
    (images, before), (features, after) = sides.values()
    ratio = images / features
    console.print(
        f"ratio {ratio:.1f}, on {os.cpu_count()} cores; start of the process ({nothing:.1f} s) taken off"
    )
    good = ratio >= AT_LEAST and abs(before - after) <= APART
    sys.exit(0 if good else f"at least {AT_LEAST:g} and at most {APART:g} apart are asked for")


if __name__ == "__main__":
    main()
