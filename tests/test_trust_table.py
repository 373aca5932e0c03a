"""The table in docs/trust.md, cell by cell: the world is changed between two commands, and the second is the
same, is refused, or says so."""

import io
import os
import re
import shutil
import sqlite3
import subprocess
import sys
from contextlib import chdir
from dataclasses import replace
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
from changing import World
from conftest import ROOT, Named
from hydra import compose, initialize_config_dir
from logged_runs import let_small_runs_compete
from PIL import Image

from pneumo.cli.app import invoke
from pneumo.errors import InputError
from pneumo.report2024.collect import collect_runs
from pneumo.runs import config, query
from pneumo.runs.best import best_run
from pneumo.runs.run import run

SWEEP = [
    sys.executable,
    str(ROOT / "sweep.py"),
    "-m",
    "study=s",
    "workers=1",
    "optimizer.lr=choice(0.001,0.003)",
]
DATABASES = ("mlflow.db", "study.db")


class Base:
    """A folder with a world, runs on it and a study; `restore` makes it what it was."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.overrides: list[str] = []  # of every training after the change
        self.root_override: list[str] = []  # of verbs: where the data are now
        self.world = World(folder / "data")
        self.a, self.b = self.train("seed=0", of_report=True), self.train("seed=1")
        self.frozen()
        self.unfinished = self.train("seed=2")
        mlflow.MlflowClient().set_terminated(self.unfinished, "KILLED")
        self.sweep("n_trials=2")
        self.best = self.val_auroc_of_best()
        self.films = folder / "films"
        shutil.copytree(self.world.root / "png", self.films, ignore=shutil.ignore_patterns("0[1-9]*", "*_*"))
        self.scores = self.predicted()
        self.table = self.world.table.copy()
        self.kept = folder.with_name(f"{folder.name}-kept")
        shutil.copytree(folder, self.kept)

    def restore(self) -> None:
        for path in self.folder.iterdir():
            if path.is_dir():
                shutil.rmtree(path)
        for path in self.kept.iterdir():
            if path.is_dir():
                shutil.copytree(path, self.folder / path.name)
        for name in DATABASES:  # into the same files, which are open
            with sqlite3.connect(self.kept / name) as kept, sqlite3.connect(self.folder / name) as now:
                kept.backup(now)
        self.world.root, self.world.table = self.folder / "data", self.table.copy()
        self.overrides, self.root_override = [], []

    def train(self, *overrides: str, of_report: bool = False) -> str:
        named = ["experiment=report_bce", "model=tiny", "model.pretrained=null"] if of_report else []
        own = self.world.overrides()
        words = [*named, *own, *self.overrides, *overrides]
        callback = Named()
        with initialize_config_dir(str(ROOT / "conf")):
            experiment = config.load(compose("train", words))
        augment = "report" if of_report else "safe"
        experiment = replace(experiment, overrides=words, choices={**experiment.choices, "augment": augment})
        folder = self.folder / f"out-{len(list(self.folder.glob('out-*')))}"
        run(experiment, folder, callback)
        return callback.run_id

    def frozen(self, *overrides: str) -> dict[str, float]:
        return query.metrics_of(
            self.train("model.freeze=backbone", "augment=none", "fit.epochs=2", *overrides)
        )

    def sweep(self, *overrides: str) -> str:
        words = [*self.world.overrides(), *self.overrides]
        done = subprocess.run([*SWEEP, *words, *overrides], capture_output=True, text=True, timeout=300)
        if done.returncode:
            assert "Traceback" not in done.stderr
            raise InputError(done.stderr)
        return done.stdout + done.stderr

    def val_auroc_of_best(self) -> float:
        with pytest.MonkeyPatch.context() as patch:
            let_small_runs_compete(patch)
            return best_run().metrics["best/val_auroc"]

    def predicted(self) -> pd.Series:
        invoke(["predict", self.a, str(self.films), "--out", "p.csv"])
        return pd.read_csv("p.csv")["score"]


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trust")
    os.environ.pop("MLFLOW_TRACKING_URI", None)
    with chdir(folder):
        yield Base(folder)


@pytest.fixture
def restored(base, monkeypatch):
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    monkeypatch.chdir(base.folder)
    base.restore()
    return base


# ---- what is changed; each returns what must be named where something is refused


def labels(base):
    positive = base.world.table.index[base.world.table["label"] == 1][:4]
    base.world.table.loc[positive, ["label", "mask"]] = [0, ""]
    base.world.write()
    return "labels of 4 images differ|has been trained on|labels, the split differ"


def rows_added(base):
    new = base.world.table.iloc[:20].assign(
        image=[f"png/new-{k}.png" for k in range(20)],
        patient=[f"new {k}" for k in range(20)],
        mask="",
        label=0,
    )
    for k, name in enumerate(new["image"]):
        Image.fromarray(np.full((64, 64), 10 * k, np.uint8)).save(base.world.root / name)
    base.world.table = pd.concat([base.world.table, new], ignore_index=True)
    base.world.write()
    return "20 images are new|has been trained on|images differ"


def row_order(base):
    base.world.table = base.world.table.iloc[::-1]
    base.world.write()
    return "images are in another split|has been trained on|the split differ"


def pixels(base):
    """Of five files, whose size and time of change stay."""
    for name in base.world.table["image"].iloc[40:45]:
        path = base.world.root / name
        before = path.stat()
        Image.fromarray(255 - np.asarray(Image.open(path))).save(path, compress_level=0)
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
        assert path.stat().st_size == before.st_size
    return "pixels of 5 images differ|began with: pixels differ"


def patients(base):
    base.world.table.loc[base.world.table.index[:3], "patient"] = "somebody else"
    base.world.write()
    return "patients of 3 images differ|has been trained on|patients, the split differ"


def split(base):
    """Another one is chosen for what is trained from now on."""
    base.overrides = ["data.split_seed=7"]
    return "images are in another split|data.split_seed: then 0, now 7|has been trained on"


def folder_moved(base):
    moved = base.folder / "data-moved"
    base.world.root.rename(moved)
    base.world.root = moved
    base.root_override = [f"data.root={moved}"]
    return "data.root"


def time_of_change(base):
    for path in base.world.root.rglob("*"):
        os.utime(path, (1, 1))
    return "nothing"


def classes_moved(base):
    """The module that a stored configuration names is not there any more."""
    for path in base.folder.rglob("config.yaml"):
        path.write_text(path.read_text().replace("pneumo.components.losses.", "pneumo.of_before.losses."))
    return "nothing"


def debug_run(base):
    base.train("debug=overfit", "fit.epochs=2")
    return "nothing"


def study_begun_again(base):
    """Under its name, in another database: what it then confirms is its own."""
    (base.folder / "study.db").unlink()
    base.sweep("n_trials=2")
    return "nothing"


CHANGES = [
    *(labels, rows_added, row_order, pixels, patients, split, folder_moved),
    *(time_of_change, classes_moved, debug_run, study_begun_again),
]

# ---- what reuses; each returns "same" or "said", or raises InputError


def store(base):
    """Figures of a training on it are those of one that decodes all anew."""
    here, fresh = base.train("seed=7"), base.train("seed=7", "data.store_dir=fresh")
    assert query.metrics_of(here)["last/val_loss"] == query.metrics_of(fresh)["last/val_loss"]
    return "same"


def features(base):
    assert base.frozen()["last/train_loss"] == base.frozen("data.store_dir=fresh")["last/train_loss"]
    return "same"


def resume(base):
    assert base.train("seed=2", f"resume={base.unfinished}") == base.unfinished
    return "same"


def warm_start(base):
    tags = query.find_run(base.train("seed=5", f"model.pretrained={base.a}")).data.tags
    return "said" if "changed_since_pretraining" in tags else "same"


def evaluate(base):
    before = csv_of(base.a, "predictions.csv").query("split == 'test'").set_index("image_id")["score"]
    invoke(["evaluate", base.a, *base.root_override])
    now = csv_of(base.a, "evaluation/table-test-none/predictions.csv").set_index("image_id")["score"]
    assert now[before.index].to_numpy() == pytest.approx(before.to_numpy(), abs=1e-5)
    return "same"


def compare(base):
    invoke(["compare", base.a, base.b, *base.root_override])
    return "same"


def ensemble(base):
    invoke(["evaluate", base.a, base.b, *base.root_override])
    return "same"


def predict(base):
    assert base.predicted().equals(base.scores)
    return "same"


def best(base):
    assert base.val_auroc_of_best() == base.best
    return "same"


def reproduce(base):
    invoke(["reproduce", base.a])
    return "same"


def report(base):
    """The report's page takes runs of one data set."""
    own = next(
        p.unchanged for p in collect_runs(query.runs_of_experiments()).pairs if p.experiment == "report_bce"
    )
    return "same" if own and own.run_id == base.a else "said"


def study(base):
    """It goes on: one more trial, one that is asked for again is not trained again."""
    said = base.sweep("n_trials=3")
    return "same" if "2 of 3" in said else "said"


def confirm(base):
    invoke(["confirm", "s", "--top", "1", "--seeds", "1"])
    return "same"


REUSERS = [
    *(predict, best, evaluate, compare, ensemble, reproduce, report, confirm, study),
    *(resume, warm_start, store, features),
]


@pytest.mark.parametrize("change", CHANGES, ids=lambda change: change.__name__)
def test_every_cell_of_the_table_is_as_it_says(restored, change):
    named = change(restored)
    found = {}
    for reuser in REUSERS:
        try:
            found[reuser.__name__] = reuser(restored)
        except InputError as refused:
            is_named = re.search(named, str(refused))
            found[reuser.__name__] = "refused" if is_named else f"refused without its reason: {refused}"
    assert found == {name: cell for name, cell in row_of(change.__name__).items() if name in found}


def row_of(change):
    """Of the table in docs/trust.md."""
    lines = [line for line in (ROOT / "docs" / "trust.md").read_text().splitlines() if line.startswith("|")]
    cells = [[cell.strip().strip("`") for cell in line.strip("|").split("|")] for line in lines]
    head = next(row for row in cells if row[0] == "changed")
    (row,) = [row for row in cells if row[0] == change.replace("_", " ") and len(row) == len(head)]
    return {name.replace(" ", "_"): cell for name, cell in zip(head[1:], row[1:], strict=True)}


def csv_of(run_id, path):
    return pd.read_csv(io.StringIO(query.read_text(run_id, path)))
