"""python benchmarks/advice.py: whether what a collapsed run advises makes it learn.

Runs of the panel's tuning half are made to fail in different ways, without a second attempt. Each that is
collapsed at its end names overrides to try. With them it should lift off (panel.py), that is, reach a
validation AUROC of .9 after some epoch, at which it is stopped; otherwise the table says whether it is still
collapsed. At least 90% of the collapsed runs have to lift off. Runs that become the same training by the
advice are trained once.

The ways are: a crop that loses the lesion, a frozen random network, learning rates that are too high or too
low, the default of version 0.1 on styles on which it does not learn, and few images."""

import argparse
import multiprocessing
import os
import sys
import tempfile
from collections.abc import Mapping
from contextlib import redirect_stdout
from dataclasses import dataclass, replace
from pathlib import Path

import rows
from panel import BEFORE, LIFTED, PANEL, prepare, wilson

REQUIRED = 0.9
SHORT = ["fit.epochs=5"]  # enough to fail, and to be told
REPORT = ["model=tiny", "model.pretrained=null", "fit.epochs=8"]  # no weights are downloaded
DEFAULT, FAINT, TINY, _portable, _dark, FEW = PANEL["tuning"]
CASES = [
    (DEFAULT, ["experiment=report_raw", *REPORT]),
    (DEFAULT, ["model.freeze=backbone", *SHORT]),
    (DEFAULT, ["optimizer.lr=1e-6", *SHORT]),
    (FAINT, BEFORE),
    (FAINT, ["optimizer.lr=1", *SHORT]),
    (FAINT, ["augment=report", *SHORT]),
    (TINY, BEFORE),
    (TINY, ["optimizer=sgd", "optimizer.lr=1e-4", *SHORT]),
    (TINY, ["experiment=report_plateau", *REPORT]),
    (TINY, ["optimizer.lr=0.3", *SHORT]),
    (FEW, ["experiment=report_finetune", *REPORT]),
    (FEW, [*BEFORE, "fit.epochs=18"]),  # the later of two values counts
]


@dataclass(frozen=True)
class Outcome:
    """One run. `best`: its highest validation AUROC; `reason`: why it collapsed, "" if it did not."""

    best: float
    reason: str

    @property
    def lifted(self) -> bool:
        return self.best >= LIFTED

    @property
    def remedy(self) -> str:
        """The overrides to try."""
        return self.reason.partition("; try ")[2].removesuffix(".")

    def __str__(self) -> str:
        ended = "lifts off" if self.lifted else "collapsed" if self.reason else "not collapsed"
        return f"{self.best:.3f}, {ended}"


def trained(options: list[str]) -> Outcome:
    """Trains until the run lifts off, or to its end."""
    import torch

    from pneumo.display.console import Terminal
    from pneumo.errors import PrunedError
    from pneumo.runs import config, query
    from pneumo.runs.callback import RunCallback
    from pneumo.runs.planner import planned
    from pneumo.runs.run import run

    class UntilLifted(RunCallback):
        best = 0.0

        def on_epoch_end(self, epoch: int, metrics: Mapping[str, float], is_last: bool) -> None:
            self.best = max(self.best, metrics["val/auroc"])
            if self.best >= LIFTED:
                raise PrunedError("it has lifted off")

    torch.set_num_threads(1)
    callback = UntilLifted()
    with (
        Path(os.devnull).open("w") as nowhere,
        redirect_stdout(nowhere),
        config.composed_as_by_train(options) as (composed, folder),
    ):
        experiment = planned(composed, options, Terminal(quiet=True))
        try:
            run(replace(experiment, overrides=options), folder, callback)
        except PrunedError:
            return Outcome(callback.best, "")
    assert callback.run_id
    return Outcome(callback.best, query.find_run(callback.run_id).data.tags.get("collapse_reason", ""))


def remedied(options: list[str], remedy: str) -> list[str]:
    """The overrides after the advice was taken."""
    added, _, left_out = remedy.partition(" without ")
    return [*(one for one in options if one not in left_out.split()), *added.split()]


def identity(options: list[str]) -> str:
    """Equal for overrides that give the same training."""
    from pneumo.display.console import Terminal
    from pneumo.runs import config
    from pneumo.runs.planner import planned

    with config.composed_as_by_train(options) as (composed, _):
        return str(planned(composed, options, Terminal(quiet=True)).identity)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cases", type=int, nargs="+", help="positions in CASES; default: all")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args()
    cases = [CASES[number] for number in options.cases or range(len(CASES))]
    common = [f"seed={options.seed}", "fit.rescue=false", "fit.pictures=false"]
    runs = [[*cell.overrides, *common, *overrides] for cell, overrides in cases]
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with tempfile.TemporaryDirectory() as temporary:
        os.environ["PANEL_FOLDER"] = temporary
        os.environ.setdefault("PNEUMO_STORES", f"{temporary}/stores")
        with multiprocessing.get_context("spawn").Pool(options.processes, initializer=prepare) as pool:
            firsts = []
            for first in pool.imap(trained, runs):
                firsts.append(first)
                print(*runs[len(firsts) - 1], "|", first, "|", first.reason, flush=True)
            advised = [remedied(run, first.remedy) for run, first in zip(runs, firsts, strict=True)]
            names = pool.map(identity, advised)
            trainings = {
                name: run for name, run, first in zip(names, advised, firsts, strict=True) if first.remedy
            }
            seconds = {}
            for name, second in zip(trainings, pool.imap(trained, trainings.values()), strict=True):
                seconds[name] = second
                print(*trainings[name], "|", second, flush=True)
    lines, repaired = [("data", "run", "val AUROC", "cause; advice", "val AUROC with it")], []
    for (cell, overrides), name, first in zip(cases, names, firsts, strict=True):
        advised_run = seconds.get(name) if first.remedy else None
        lines.append((cell.name, " ".join(overrides), str(first), first.reason, str(advised_run or "")))
        if first.reason:
            repaired.append(advised_run is not None and advised_run.lifted)
    print("\n" + rows.table(lines))
    if not repaired:
        sys.exit("no run collapsed, so no advice was tried")
    share, (low, high) = sum(repaired) / len(repaired), wilson(sum(repaired), len(repaired))
    what = f"{sum(repaired)} of {len(repaired)} collapsed runs lift off with the advice"
    print(f"\n{what}: {share:.2f} ({low:.2f}, {high:.2f}), in {len(trainings)} different trainings")
    sys.exit(f"missed: at least {REQUIRED:.0%} have to" if share < REQUIRED else 0)


if __name__ == "__main__":
    main()
