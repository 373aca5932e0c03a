"""python benchmarks/advice.py: whether what a collapsed run advises makes it learn.

Runs of the panel's tuning half are made to fail in different ways, without a second attempt. Each that is
collapsed at its end names overrides to try; the same run with these overrides should lift off (panel.py),
that is, reach a validation AUROC of .9 after some epoch, at which it is stopped. Where it does not, it is
said whether it is still collapsed. At least 90% of the collapsed runs have to lift off.

The ways are: a crop that loses the lesion, a frozen random network, learning rates that are too high or too
low, too few epochs, the default of version 0.1 on styles on which it does not learn, and few images."""

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
from panel import BEFORE, LIFTED, PANEL, Cell, prepare, wilson

REQUIRED = 0.9
REPORT = ["model=tiny", "model.pretrained=null"]  # no weights are downloaded
SHORT = ["fit.epochs=6"]  # enough to fail
DEFAULT, FAINT, TINY, PORTABLE, DARK, FEW = PANEL["tuning"]
CASES = [
    (DEFAULT, ["experiment=report_raw", *REPORT, *SHORT]),
    (FAINT, BEFORE),
    (DEFAULT, ["model.freeze=backbone", *SHORT]),
    (FAINT, ["optimizer.lr=1", *SHORT]),
    (TINY, ["optimizer=sgd", "optimizer.lr=1e-4", *SHORT]),
    (DARK, ["augment=report", *SHORT]),
    (TINY, BEFORE),
    (DEFAULT, ["optimizer.lr=1e-6", *SHORT]),
    (FAINT, ["fit.epochs=2"]),
    (FEW, BEFORE),
    (PORTABLE, ["experiment=report_finetune", *REPORT, *SHORT]),
    (TINY, ["optimizer=sgd", "optimizer.lr=3", *SHORT]),
    (TINY, ["experiment=report_plateau", *REPORT, *SHORT]),
    (FAINT, ["fit.batch_size=256", *SHORT]),
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
        return f"{self.best:.3f}, {'lifts off' if self.lifted else 'collapsed' if self.reason else 'learns'}"


@dataclass(frozen=True)
class Case:
    cell: Cell
    overrides: list[str]
    seed: int

    def remedied(self, remedy: str) -> list[str]:
        """The overrides after the advice was taken."""
        added, _, left_out = remedy.partition(" without ")
        return [*(one for one in self.overrides if one not in left_out.split()), *added.split()]


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
    with Path(os.devnull).open("w") as nowhere, redirect_stdout(nowhere):
        experiment = planned(config.compose_train(options), options, Terminal(quiet=True))
        try:
            run(replace(experiment, overrides=options), Path.cwd(), callback)
        except PrunedError:
            return Outcome(callback.best, "")
    assert callback.run_id
    return Outcome(callback.best, query.find_run(callback.run_id).data.tags.get("collapse_reason", ""))


def tried(case: Case) -> tuple[Case, Outcome, Outcome | None]:
    """The run of a case, and that with its advice; None if there is none or it is not collapsed."""
    common = [*case.cell.overrides, f"seed={case.seed}", "fit.rescue=false", "fit.pictures=false"]
    first = trained([*common, *case.overrides])
    return case, first, trained([*common, *case.remedied(first.remedy)]) if first.remedy else None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--cases", type=int, nargs="+", help="positions in CASES; default: all")
    parser.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    options = parser.parse_args()
    chosen = [CASES[number] for number in options.cases or range(len(CASES))]
    cases = [Case(cell, overrides, options.seed) for cell, overrides in chosen]
    lines, repaired = [("data", "run", "val AUROC", "advice", "val AUROC with it")], []
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    with tempfile.TemporaryDirectory() as temporary:
        os.environ["PANEL_FOLDER"] = temporary
        os.environ.setdefault("PNEUMO_STORES", f"{temporary}/stores")
        with multiprocessing.get_context("spawn").Pool(options.processes, initializer=prepare) as pool:
            for case, first, second in pool.imap(tried, cases):
                advice = first.reason if second is None else first.remedy
                lines.append(
                    (case.cell.name, " ".join(case.overrides), str(first), advice, str(second or ""))
                )
                print(*lines[-1], sep=" | ", flush=True)
                if first.reason:
                    repaired.append(second is not None and second.lifted)
    print("\n" + rows.table(lines))
    share, (low, high) = sum(repaired) / len(repaired), wilson(sum(repaired), len(repaired))
    what = f"{sum(repaired)} of {len(repaired)} collapsed runs lift off with the advice"
    print(f"\n{what}: {share:.2f} ({low:.2f}, {high:.2f})")
    sys.exit(f"missed: at least {REQUIRED:.0%} have to" if share < REQUIRED else 0)


if __name__ == "__main__":
    main()
