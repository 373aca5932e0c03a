"""Inside a job: the trial that its run answers."""

import json
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import optuna
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import Trial, TrialState

from pneumo.data.dataset import Dataset, load_dataset
from pneumo.data.sources.base import Source
from pneumo.display.address import hidden
from pneumo.display.console import Advance, Terminal
from pneumo.errors import AwayError, InputError, NonFiniteLossError, PrunedError, SupersededError
from pneumo.runs import query
from pneumo.runs.callback import RunCallback
from pneumo.runs.identity import Images
from pneumo.runs.tracking import MlflowError
from pneumo.sweep.storage import AWAY, PROCESS, STUDY_ID, StudyStorage
from pneumo.training.device import is_out_of_memory

UNTOLD = "untold.json"
OPENED: dict[str, Dataset] = {}


def opened_once(source: Source, advance: Advance) -> Dataset:
    """The data; kept for all trials of this process that are on the same."""
    key = key_of(source)
    return OPENED[key] if key in OPENED else opened_now(source, advance)


def opened_now(source: Source, advance: Advance) -> Dataset:
    """The data as they are now, also for trials to come."""
    dataset, key = load_dataset(source, advance), key_of(source)
    if key not in OPENED:
        OPENED.clear()
        OPENED[key] = dataset
    return dataset


def key_of(source: Source) -> str:
    return f"{Path.cwd()}: {source}"


@dataclass(frozen=True)
class Outcome:
    """How a trial ended; `kind` and `reason` where it did not complete."""

    state: str  # the name of a TrialState
    values: list[float] | None = None
    kind: str = ""
    reason: str = ""
    metrics: Mapping[str, float] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "reason", hidden(self.reason))  # it goes into databases and files


class TrialCallback(RunCallback):
    """Reports every epoch to the study, and stops when it is told to."""

    def __init__(self, ledger: StudyStorage, number: int, objective: str, tags: Mapping[str, object]):
        """SupersededError: the trial is not under way."""
        study = ledger.study
        trial_id = ledger.storage.get_trial_id_from_study_id_trial_number(study._study_id, number)
        self._ledger, self._trial, self._objective = ledger, Trial(study, trial_id), objective
        frozen = ledger.storage.get_trial(trial_id)
        if frozen.state != TrialState.RUNNING:
            raise SupersededError(f"trial {number} is {frozen.state.name} already")
        self.trial_id, self.number = trial_id, number
        self.terminal = Terminal(quiet=True)
        self.run_id = frozen.user_attrs.get("run_id")
        attempts = frozen.user_attrs.get("attempts")
        self.run_name = f"{study.study_name}-{number}"
        self.parent = study.user_attrs.get("parent_run")
        if attempts and self.run_id is None and self.parent:  # killed before the study heard of its run
            self.run_id = query.run_of_trial(self.parent, attempts[-1])
        arm = {"arm": frozen.params["arm"]} if "arm" in frozen.params else {}
        self.study_id = ledger.study_id
        of_study = {"study": study.study_name, STUDY_ID: self.study_id}
        self.tags = {**of_study, "trial": number, "state": "running", **arm, **tags}
        self._unreported: list[tuple[int, float]] = []

    def dataset(self, source: Source, advance: Advance) -> Dataset:
        """Opened once for all trials of this process on the same data. InputError: these are not the study's,
        told before anything is trained on them."""
        dataset = opened_once(source, advance)
        images = Images.of(dataset)
        self._ledger.steadily(lambda: self._ledger.refuse_other_data(images, dataset.split.hash))
        return dataset

    def takes_over(self, process: str) -> None:
        """From the controller, which need not say any more that the trial is alive."""
        self._ledger.steadily(lambda: self._trial.set_user_attr(PROCESS, process))

    def on_start(self, run_id: str, split_hash: str, history: Sequence[Mapping[str, float]]) -> None:
        self.run_id = run_id
        self._ledger.steadily(lambda: self._trial.set_user_attr("run_id", run_id))
        for epoch, metrics in enumerate(history, start=1):
            self._unreported.append((epoch, metrics[self._objective]))

    def ensure_owned(self) -> None:
        """While the storage is away, it cannot be given to another process either."""
        try:
            state = self._ledger.storage.get_trial(self.trial_id).state
        except AWAY:
            self._ledger.storage.remove_session()
            return
        if state != TrialState.RUNNING:
            raise SupersededError(f"trial {self.number} was given to another process")

    def on_epoch_end(self, epoch: int, metrics: Mapping[str, float], is_last: bool) -> None:
        """Several objectives cannot be pruned, and a storage that is away does not stop a training. After its
        last epoch a trial is complete: there is nothing left to save."""
        if len(self._ledger.study.directions) > 1:
            return
        self._unreported.append((epoch, metrics[self._objective]))
        try:
            for number, value in self._unreported:
                self._trial.report(value, number)
            self._unreported.clear()
            stop = not is_last and self._trial.should_prune()
        except UpdateFinishedTrialError:
            raise SupersededError(f"trial {self.number} was given to another process") from None
        except AWAY:
            self._ledger.storage.remove_session()
            return
        if stop:
            name = type(self._ledger.study.pruner).__name__
            raise PrunedError(f"{name} after epoch {epoch}: {self._objective} {metrics[self._objective]:.3f}")

    def carry_out(self, run: Callable[[RunCallback], dict[str, float]], values: Any) -> Outcome:
        """Runs, and sorts what comes of it. `values` picks the objectives out of a run's findings."""
        try:
            metrics = run(self)
            return Outcome("COMPLETE", values(metrics), metrics=metrics)
        except PrunedError as error:
            return Outcome("PRUNED", kind="pruned", reason=str(error))
        except NonFiniteLossError as error:
            return Outcome("FAIL", kind="non-finite", reason=str(error))
        except AwayError:
            raise
        except InputError as error:
            return Outcome("FAIL", kind="configuration", reason=str(error))
        except (SupersededError, MlflowError):
            raise
        except Exception as error:
            if is_out_of_memory(error):
                return Outcome("PRUNED", kind="out of memory", reason=str(error).splitlines()[0])
            return Outcome("FAIL", kind="crash", reason=traceback.format_exc(limit=-3))

    def tell(self, outcome: Outcome, folder: Path) -> bool:
        """To the study; where it stays away, to a file in the folder, which the next start tells. Whether the
        trial had not ended already, as one that was given to another process has.
        InputError: it stayed away."""

        def tell() -> bool:
            with self._ledger.turn():
                return told(self._ledger, self.trial_id, outcome)

        try:
            return self._ledger.steadily(tell)
        except InputError:
            folder.mkdir(parents=True, exist_ok=True)
            of = {STUDY_ID: self._ledger.study_id, "trial": self.number}
            (folder / UNTOLD).write_text(json.dumps({**of, **outcome.__dict__}))
            raise


def told(ledger: StudyStorage, trial_id: int, outcome: Outcome) -> bool:
    """Ends a running trial, in one's turn; whether it had not ended already."""
    if outcome.state == "FAIL":
        return ledger.end_as_failed(trial_id, outcome.kind, outcome.reason)
    trial = Trial(ledger.study, trial_id)
    try:
        if outcome.metrics:
            trial.set_user_attr("figures", dict(outcome.metrics))
        if outcome.kind:
            trial.set_user_attr("failure" if outcome.kind == "out of memory" else "stopped", outcome.kind)
            trial.set_user_attr("reason", outcome.reason[:1000])
        if outcome.kind == "out of memory":
            trial.set_constraint("memory", 1.0)  # a failed trial would teach the sampler nothing
        ledger.study.tell(
            trial, values=outcome.values, state=TrialState[outcome.state], skip_if_finished=True
        )
    except UpdateFinishedTrialError:
        return False
    return True


def tell_untold(ledger: StudyStorage, folder: Path) -> list[int]:
    """What could not be told before, from its files; returns the numbers of the trials. Files of another
    study are left alone; those of before name none, but lie in a folder that is of one study."""
    numbers = []
    for path in sorted(folder.glob(f"*/{UNTOLD}")):
        kept = json.loads(path.read_text())
        kept["metrics"] = kept.pop("figures", kept.get("metrics"))  # as older versions called them
        if kept.pop(STUDY_ID, ledger.study_id) != ledger.study_id:
            continue
        number = kept.pop("trial")
        with ledger.turn():
            trial = next((t for t in ledger.trials() if stands_for(t, number)), None)
            if trial is not None:
                if trial.state == TrialState.WAITING:
                    ledger.storage.set_trial_state_values(trial._trial_id, TrialState.RUNNING)
                told(ledger, trial._trial_id, Outcome(**kept))
                numbers.append(number)
        path.unlink()
    return numbers


def stands_for(trial: optuna.trial.FrozenTrial, number: int) -> bool:
    """Whether it is this trial, or its retry, and has not ended."""
    return not trial.state.is_finished() and number in (trial.number, *trial.user_attrs.get("attempts", []))
