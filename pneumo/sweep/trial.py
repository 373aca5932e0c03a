"""A trial inside its job: it reports each epoch to the study, may be pruned, and ends with a result."""

import json
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import FrozenTrial, Trial, TrialState

from pneumo.data.atomic import atomic_path, is_disk_full
from pneumo.data.dataset import Dataset, load_dataset
from pneumo.data.sources.base import Source
from pneumo.display.address import hidden
from pneumo.display.console import Advance, Terminal
from pneumo.errors import AwayError, InputError, NonFiniteLossError, PeerError, PrunedError, SupersededError
from pneumo.runs import query
from pneumo.runs.callback import RunCallback
from pneumo.runs.tracking import MlflowError
from pneumo.sweep import attributes
from pneumo.sweep.attributes import STUDY_ID
from pneumo.sweep.database import UNREACHABLE, first_line
from pneumo.sweep.design.ablation import stored_design
from pneumo.sweep.storage import REASON_LENGTH, StudyStorage
from pneumo.sweep.study_identity import refuse_other_data
from pneumo.training.device import is_out_of_memory

UNTOLD = "untold.json"  # a result that the database could not take, in the trial's folder
OUT_OF_MEMORY = "out of memory"
DATASETS: dict[str, Dataset] = {}  # the one that the trials of this process are on


def cached_dataset(source: Source, advance: Advance, reload: bool = False) -> Dataset:
    """The data set, loaded once for all trials of this process that are on it, or as it is on disk now."""
    key = f"{Path.cwd()}: {source}"
    if key in DATASETS and not reload:
        return DATASETS[key]
    dataset = load_dataset(source, advance)
    if key not in DATASETS:
        DATASETS.clear()
        DATASETS[key] = dataset
    return dataset


@dataclass(frozen=True)
class TrialResult:
    """How a trial ended; `kind` and `reason` say why if it did not complete."""

    state: str  # the name of a TrialState
    values: list[float] | None = None  # of the objectives
    kind: str = ""  # of the failure, "pruned", or empty
    reason: str = ""
    metrics: Mapping[str, float] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "reason", hidden(self.reason))  # it goes into databases and files


class TrialCallback(RunCallback):
    """Connects a run with its trial: reports every epoch, and stops the run when the pruner says so."""

    def __init__(self, storage: StudyStorage, number: int, objective: str, tags: Mapping[str, object]):
        """SupersededError: the trial is not running."""
        study = storage.study
        frozen = storage.trial(number)
        if frozen.state != TrialState.RUNNING:
            raise SupersededError(f"trial {number} is {frozen.state.name} already")
        self._storage, self._objective = storage, objective
        self._trial = Trial(study, storage.trial_id(number))
        self._unreported: list[tuple[int, float]] = []  # epoch and value, while the storage is away
        self.number = number
        self.terminal = Terminal(quiet=True, progress_bars=False)  # the table of trials shows the epochs
        self.run_name = f"{study.study_name}-{number}"
        self.parent = study.user_attrs.get(attributes.PARENT_RUN)
        self.study_id = storage.study_id
        self.run_id = frozen.user_attrs.get(attributes.RUN_ID)
        attempts = frozen.user_attrs.get(attributes.ATTEMPTS)
        if attempts and self.run_id is None and self.parent:  # killed before its run's id was stored
            self.run_id = query.run_of_trial(self.parent, attempts[-1])
        arm = {"arm": frozen.params["arm"]} if "arm" in frozen.params else {}
        design = stored_design(study)
        self._style = design.style_of(frozen.params["seed"]) if design else None
        self.objectives = study.user_attrs.get(attributes.OBJECTIVE, ())
        self.tags = {**storage.tags, "trial": number, "state": "running", **arm, **tags}

    def dataset(self, source: Source, advance: Advance) -> Dataset:
        """The run's data set. InputError: it is not the study's; raised before anything is trained on it."""
        dataset = cached_dataset(source, advance)
        self._storage.with_retries(lambda: refuse_other_data(self._storage, dataset, self._style))
        return dataset

    def take_over(self, process: str) -> None:
        """Tells the controller that this process records the heartbeats from now on."""
        self._storage.with_retries(lambda: self._trial.set_user_attr(attributes.PROCESS, process))

    def tell_epochs(self, epochs: int) -> None:
        """Tells how many epochs the trial is to train."""
        self._storage.with_retries(lambda: self._trial.set_user_attr(attributes.EPOCHS, epochs))

    def on_start(self, run_id: str, split_hash: str, history: Sequence[Mapping[str, float]]) -> None:
        self.run_id = run_id
        self._storage.with_retries(lambda: self._trial.set_user_attr(attributes.RUN_ID, run_id))
        for epoch, metrics in enumerate(history, start=1):
            self._unreported.append((epoch, metrics[self._objective]))

    def ensure_owned(self) -> None:
        """SupersededError: the trial is not this process's any more. While the storage cannot be reached, no
        other process can have claimed it."""
        try:
            state = self._storage.state(self.number)
        except UNREACHABLE:
            self._storage.rdb.remove_session()
            return
        if state != TrialState.RUNNING:
            raise self._superseded()

    def on_epoch_end(self, epoch: int, metrics: Mapping[str, float], is_last: bool) -> None:
        """Reports the objective. PrunedError: the pruner stops the trial, though never after its last epoch.
        Several objectives cannot be pruned; a storage that cannot be reached does not stop the training."""
        if len(self._storage.study.directions) > 1:
            return
        self._unreported.append((epoch, metrics[self._objective]))
        try:
            for step, value in self._unreported:
                self._trial.report(value, step)
            self._unreported.clear()
            stop = not is_last and self._trial.should_prune()
        except UpdateFinishedTrialError:
            raise self._superseded() from None
        except UNREACHABLE:
            self._storage.rdb.remove_session()
            return
        if stop:
            name = type(self._storage.study.pruner).__name__
            raise PrunedError(f"{name} after epoch {epoch}: {self._objective} {metrics[self._objective]:.3f}")

    def _superseded(self) -> SupersededError:
        return SupersededError(f"trial {self.number} was given to another process")

    def run(
        self,
        train: Callable[[RunCallback], dict[str, float]],
        select_objectives: Callable[[Mapping[str, float]], list[float]],
    ) -> TrialResult:
        """The result of training; `train` returns the run's metrics, of which some are the objectives.
        AwayError, MlflowError: a server cannot be reached, or a disk is full. SupersededError: see
        `ensure_owned`. PeerError: another process of this training has failed, which knows why."""
        try:
            metrics = train(self)
            return TrialResult("COMPLETE", select_objectives(metrics), metrics=metrics)
        except PrunedError as error:
            return TrialResult("PRUNED", kind="pruned", reason=str(error))
        except NonFiniteLossError as error:
            return TrialResult("FAIL", kind="non-finite", reason=str(error))
        except (AwayError, SupersededError, PeerError, MlflowError):
            raise
        except InputError as error:
            return TrialResult("FAIL", kind="configuration", reason=str(error))
        except Exception as error:
            if is_disk_full(error):  # another trial would end no better
                raise AwayError(f"The disk is full: {error}") from error
            if is_out_of_memory(error):
                return TrialResult("PRUNED", kind=OUT_OF_MEMORY, reason=first_line(error))
            return TrialResult("FAIL", kind="crash", reason=traceback.format_exc(limit=-3))

    def tell(self, result: TrialResult, folder: Path) -> bool:
        """Stores the result in the study; False if the trial had ended already, as one that another process
        took over has. AwayError: the storage could not be reached; the result is in a file in the folder,
        which the next start of the study reads. So is one whose storing is interrupted, unless it is that
        the trial was stopped."""

        def tell() -> bool:
            with self._storage.lock():
                return tell_locked(self._storage, self.number, result)

        try:
            return self._storage.with_retries(tell)
        except InputError:
            self._save(result, folder)
            raise
        except KeyboardInterrupt:
            if result.kind != "stopped":  # which the process that launched it tells
                self._save(result, folder)
            raise

    def _save(self, result: TrialResult, folder: Path) -> None:
        """Writes a result into a file, for `tell_saved_results`."""
        of = {STUDY_ID: self._storage.study_id, "trial": self.number}
        with suppress(OSError):  # of a disk that is full
            folder.mkdir(parents=True, exist_ok=True)
            with atomic_path(folder / UNTOLD) as beside:
                beside.write_text(json.dumps({**of, **asdict(result)}))


def tell_locked(storage: StudyStorage, number: int, result: TrialResult) -> bool:
    """Ends a running trial, for callers that hold the lock; False if it had ended already."""
    if result.state == "FAIL":
        return storage.fail_locked(number, result.kind, result.reason)
    trial = Trial(storage.study, storage.trial_id(number))
    is_out_of_memory = result.kind == OUT_OF_MEMORY
    try:
        if result.metrics:
            trial.set_user_attr(attributes.METRICS, dict(result.metrics))
        if result.kind:
            name = attributes.FAILURE if is_out_of_memory else attributes.STOPPED
            trial.set_user_attr(name, result.kind)
            trial.set_user_attr(attributes.REASON, result.reason[:REASON_LENGTH])
        if is_out_of_memory:
            trial.set_constraint("memory", 1.0)  # a failed trial would teach the sampler nothing
        state = TrialState[result.state]
        storage.study.tell(trial, values=result.values, state=state, skip_if_finished=True)
    except UpdateFinishedTrialError:
        return False
    return True


def tell_saved_results(storage: StudyStorage, folder: Path) -> list[int]:
    """Stores the results in the files that `TrialCallback.tell` left under a study's folder, and deletes
    these; returns the numbers of the trials. Files of another study stay. Those of older versions name
    no study, but lie in a folder that is of a single one."""
    numbers = []
    for path in sorted(folder.glob(f"*/{UNTOLD}")):
        with storage.lock():
            if not path.exists():  # another process has stored it
                continue
            saved = json.loads(path.read_text())
            saved["metrics"] = saved.pop("figures", saved.get("metrics"))  # older versions' name
            if saved.pop(STUDY_ID, storage.study_id) != storage.study_id:
                continue
            number = saved.pop("trial")
            trial = next((t for t in storage.trials() if is_open_attempt(t, number)), None)
            if trial is not None:
                if trial.state == TrialState.WAITING:
                    storage.rdb.set_trial_state_values(storage.trial_id(trial.number), TrialState.RUNNING)
                copy_setting(storage, storage.trial(number), trial)
                tell_locked(storage, trial.number, TrialResult(**saved))
                numbers.append(number)
            path.unlink()
    return numbers


def copy_setting(storage: StudyStorage, source: FrozenTrial, retry: FrozenTrial) -> None:
    """Gives a retry that has not begun the parameters and attributes of the attempt that was trained."""
    retry_id = storage.trial_id(retry.number)
    for name in source.params.keys() - retry.params.keys():
        distribution = source.distributions[name]
        value = distribution.to_internal_repr(source.params[name])
        storage.rdb.set_trial_param(retry_id, name, value, distribution)
    for name in source.user_attrs.keys() & set(attributes.COPIED) - retry.user_attrs.keys():
        storage.rdb.set_trial_user_attr(retry_id, name, source.user_attrs[name])


def is_open_attempt(trial: FrozenTrial, number: int) -> bool:
    """Whether a trial has not ended and is the one of that number or a retry of it."""
    attempts = (trial.number, *trial.user_attrs.get(attributes.ATTEMPTS, []))
    return not trial.state.is_finished() and number in attempts
