"""Takes the study's trials one by one, has them carried out, and says what came of them."""

import atexit
import gc
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, JobStatus
from hydra.errors import HydraException
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, read_write
from omegaconf.errors import OmegaConfBaseException
from optuna.trial import FrozenTrial, Trial, TrialState

from pneumo.display.address import hidden
from pneumo.display.console import Terminal
from pneumo.errors import InputError
from pneumo.runs import config, tracking
from pneumo.runs.experiment import Experiment
from pneumo.runs.identity import PLACES, Images
from pneumo.runs.resume import config_hash
from pneumo.sweep import announce, labels, results, workers
from pneumo.sweep.ablation import AblationDesign, design_of
from pneumo.sweep.folders import folder_of
from pneumo.sweep.heartbeat import beating
from pneumo.sweep.search_space import SearchSpace, Value, override, space_of
from pneumo.sweep.settings import StudySettings, begin_afresh, settings_of
from pneumo.sweep.storage import COUNTED, PROCESS, STUDY_ID, StudyStorage, first_line
from pneumo.sweep.trial import opened_now, tell_untold

POLL_SECONDS = 2
FEW_TRIALS = 4  # before so many have ended, no failure rate is judged
Job = tuple[Trial, list[str]]  # a trial and what Hydra composes it from
FAILING = "too many trials failed:"


def carry_on(
    context: HydraContext, task: TaskFunction, composed: DictConfig, arguments: Sequence[str]
) -> None:
    """Ends the process with a message and 1 where something given is wrong, or nothing came of the study."""
    try:
        study = StudyRun(context, task, composed, arguments)
        code = study.run()
    except InputError as error:
        sys.exit(hidden(f"\n{error}"))
    except KeyboardInterrupt:
        sys.exit(130)
    if code:
        sys.exit(code)


class StudyRun:
    """This process's part in a study."""

    def __init__(
        self, context: HydraContext, task: TaskFunction, composed: DictConfig, arguments: Sequence[str]
    ):
        self.context, self.task, self.composed = context, task, composed
        self.terminal = Terminal()
        self.settings = settings_of(composed)
        self.plan = planned(self.settings, composed, arguments)
        self.base = self.composed_of(self.plan.fixed)
        n_trials = self.settings.n_trials if self.plan.size is None else self.plan.size
        if n_trials is None:
            raise InputError("n_trials must be given: n_trials=20")
        self.n_trials = n_trials
        self.is_worker = workers.NUMBER in os.environ
        self.launched = False
        self.data_are_checked = False

    def run(self) -> int:
        """The exit code."""
        began = time.monotonic()
        if not self.is_worker:
            self.check_plan()
        if self.settings.dry_run:
            announce.say_samples(self.plan, self.settings, self.n_trials, self.terminal)
            return 0
        tracking.connect(self.base.mlflow_experiment)
        begin_afresh()
        ledger = self.settings.ledger()
        defaults = config.defaults(self.base)
        ledger.prepare(self.plan.queue, self.identity(), self.known(), defaults)
        self.sweep_dir = folder_of(ledger.study, Path(str(self.composed.hydra.sweep.dir)))
        with read_write(self.composed.hydra):
            self.composed.hydra.sweep.dir = str(self.sweep_dir)
        if self.left(ledger) > 0 and ledger.knows_its_data():
            self.check_data(ledger)
        self.begin_parent(ledger)
        if not self.is_worker:
            data = self.base.choices["data"]
            announce.say(ledger.study, self.plan, self.settings, data, self.left(ledger), self.terminal)
        for number in tell_untold(ledger, self.sweep_dir):
            self.terminal.say("told", f"#{number}, whose result the storage had not taken")
        if self.settings.workers > 1 and self.left(ledger):
            workers.run(self.settings.workers)
        why = self.take_trials(ledger, began)
        if self.is_worker:
            return 0
        return self.close(ledger, why)

    def check_plan(self) -> None:
        """Every choice and both ends of every range are composed once, before the first trial. InputError:
        one of them composes to nothing, or says where data lie."""
        if places := sorted(self.searched().intersection(PLACES)):
            raise InputError(f"{places[0]} cannot be searched: all trials of a study are on the same data")
        self.settings.chosen_sampler(0)
        self.settings.chosen_pruner()
        with self.terminal.waiting("checking the space"):
            for values in self.plan.extremes():
                self.experiment(values)

    def check_data(self, ledger: StudyStorage) -> None:
        """Once, before results of the study are taken for those of now. InputError: its data have changed."""
        if not self.data_are_checked:
            with self.terminal.progress("data") as advance:
                dataset = opened_now(self.base.data, advance)
            images = Images.of(dataset)
            ledger.steadily(lambda: ledger.refuse_other_data(images, dataset.split.hash))
            self.data_are_checked = True

    def experiment(self, values: Mapping[str, Value]) -> Experiment:
        """Of a trial with these parameters. InputError: they compose to nothing."""
        about = " ".join(override(name, value) for name, value in values.items())
        try:
            return self.composed_of(self.plan.overrides(values))
        except InputError as error:
            raise InputError(f"{about}: {error}") from None

    def composed_of(self, overrides: Sequence[str]) -> Experiment:
        try:
            composed = self.context.config_loader.load_sweep_config(self.composed, list(overrides))
        except (HydraException, OmegaConfBaseException) as error:
            raise InputError(" ".join(str(error).split())) from None
        return config.load(without_hydra(composed))

    def searched(self) -> set[str]:
        """The names of what differs from trial to trial."""
        if isinstance(self.plan, AblationDesign):
            return {name for arm in self.plan.arms.values() for name in arm} | {"seed"}
        return {name.split(".")[0] if name in config.GROUPS else name for name in self.plan.described()}

    def identity(self) -> dict[str, dict[str, Any]]:
        """What must stay the same for the study to go on under its name."""
        searched = self.searched()
        settings = {
            name: value
            for name, value in self.base.identity.items()
            if not any(name == taken or name.startswith(f"{taken}.") for taken in searched)
        }
        return {
            "objective": {"objective": ", ".join(self.settings.objective)},
            "space": self.plan.described(),
            "settings": settings,
        }

    def known(self) -> dict[str, Any]:
        """What the study's answers need of it."""
        design = asdict(self.plan) if isinstance(self.plan, AblationDesign) else None
        return {"n_trials": self.n_trials, "objective": self.settings.objective, "design": design}

    def begin_parent(self, ledger: StudyStorage) -> None:
        """The MLflow run that the trials' runs lie under."""
        with ledger.turn():
            if "parent_run" not in ledger.study.user_attrs:
                name = ledger.study.study_name
                search = self.composed.hydra.runtime.choices.get("search", "own")
                tags = {"study": name, STUDY_ID: ledger.study_id, "search": search, "state": "running"}
                run_id = tracking.parent_run(self.base.mlflow_experiment, name, tags)
                ledger.study.set_user_attr("parent_run", run_id)
            elif self.left(ledger) > 0:
                tracking.reopen(ledger.study.user_attrs["parent_run"])

    def left(self, ledger: StudyStorage) -> int:
        return self.n_trials - len(ledger.trials(*COUNTED))

    def take_trials(self, ledger: StudyStorage, began: float) -> str:
        """Until all are done or something says stop; returns what it was, empty where all are done."""
        launcher = Plugins.instance().instantiate_launcher(
            hydra_context=self.context, task_function=self.task, config=self.composed
        )
        while True:
            taken = ledger.steadily(lambda: self.next(ledger, began))
            if isinstance(taken, str):
                return taken
            if taken:
                self.launch(ledger, launcher, taken)
            else:
                time.sleep(POLL_SECONDS)  # others are at the last ones, and may not finish them

    def next(self, ledger: StudyStorage, began: float) -> list[Job] | str:
        """As many trials as are launched at once, none while others have them all; or why no more are taken,
        empty where all are done."""
        if why := self.reason_to_stop(ledger, began):
            return why
        self.close_given_up(ledger)
        jobs: list[Job] = []
        while len(jobs) < self.settings.jobs and (trial := self.take(ledger)):
            if (overrides := self.prepared(ledger, trial)) is not None:
                jobs.append((trial, overrides))
        if jobs or ledger.trials(TrialState.RUNNING):
            return jobs
        left = self.left(ledger)
        return f"{left} trials could not be carried out" if left > 0 else ""

    def reason_to_stop(self, ledger: StudyStorage, began: float) -> str:
        settings = self.settings
        done, failed = len(ledger.trials(*COUNTED)), failures(ledger)
        if done + failed >= FEW_TRIALS and failed > settings.max_failure_rate * (done + failed):
            return (
                f"{FAILING} {failed} of {done + failed}, above max_failure_rate={settings.max_failure_rate}"
            )
        if settings.hours is not None and time.monotonic() - began > 3600 * settings.hours:
            return f"hours={settings.hours} are over"
        if settings.patience is not None and len(settings.objective) == 1:
            complete = ledger.trials(TrialState.COMPLETE)
            if complete:
                best = max(complete, key=lambda trial: (trial.value, -trial.number))
                since = sum(t.number > best.number for t in ledger.trials(*COUNTED))
                if since >= settings.patience:
                    return f"no better trial in {since}"
        return ""

    def close_given_up(self, ledger: StudyStorage) -> None:
        for run_id in ledger.given_up():
            tracking.tag_run(run_id, state="failed", failure="crash: its process died")
            tracking.end_run(run_id, "FAILED")

    def take(self, ledger: StudyStorage) -> Trial | None:
        return ledger.take(
            self.n_trials, self.settings.chosen_sampler, queued_only=isinstance(self.plan, AblationDesign)
        )

    def prepared(self, ledger: StudyStorage, trial: Trial) -> list[str] | None:
        """The overrides of the trial's job; None where there is nothing to carry out."""
        try:
            with beating(ledger, [trial._trial_id]):
                values = self.plan.suggest(trial)
                overrides, experiment = self.plan.overrides(values), self.experiment(values)
                key = config_hash(experiment)
                if (equal := ledger.equal(key)) is None:
                    trial.set_user_attr("config_hash", key)
                    trial.set_user_attr("effective_batch", experiment.fit.effective_batch)
                    trial.set_user_attr("epochs", experiment.fit.epochs)
                    trial.set_user_attr("overrides", config.typed(overrides))
                    sweep_dir = str(self.sweep_dir).replace("'", "\\'")
                    folder = [f"hydra.sweep.dir='{sweep_dir}'", f"hydra.sweep.subdir={trial.number}"]
                    return [*overrides, f"trial={trial.number}", *folder]
                self.check_data(ledger)
                ledger.copy(equal, trial)
        except InputError as error:
            ledger.fail(trial._trial_id, "configuration", str(error))
        except KeyboardInterrupt:
            ledger.fail(trial._trial_id, "stopped", "told to stop")
            raise
        self.say_trial(ledger, trial)
        return None

    def launch(self, ledger: StudyStorage, launcher: Launcher, trials: list[Job]) -> None:
        """Has them carried out; what ended without telling has crashed."""
        ids = [trial._trial_id for trial, _ in trials]

        def handed_over(trial_id: int) -> bool:
            return PROCESS in ledger.storage.get_trial_user_attrs(trial_id)

        returns: Sequence[JobReturn | None] = [None] * len(trials)
        reason = "its job ended without a result"
        try:
            with beating(ledger, ids, handed_over):
                returns = launcher.launch([line for _, line in trials], initial_job_idx=trials[0][0].number)
        except KeyboardInterrupt:
            for trial_id in ids:
                if not handed_over(trial_id):
                    ledger.fail(trial_id, "stopped", "told to stop")
            raise
        except (HydraException, OmegaConfBaseException, RuntimeError, ValueError, OSError) as error:
            reason = f"{type(error).__name__}: {first_line(error)}"
            if not self.launched and not any(handed_over(trial_id) for trial_id in ids):
                for trial_id in ids:
                    ledger.fail(trial_id, "stopped", reason)
                raise InputError(f"hydra/launcher: {first_line(error)}") from error
            if len(ids) > 1:
                self.outlast(ledger, ids, handed_over)
        if not self.launched:
            spare_collector()
        self.launched = True
        for (trial, _), returned in zip(trials, returns, strict=True):
            raised = returned._return_value if returned and returned.status == JobStatus.FAILED else None
            if isinstance(raised, InputError):
                raise raised  # the study's storage or MLflow is away: no other trial would fare better
            ledger.steadily(partial(ledger.fail, trial._trial_id, "crash", str(raised or reason)))
            self.say_trial(ledger, trial)

    def outlast(self, ledger: StudyStorage, ids: Sequence[int], handed_over: Callable[[int], bool]) -> None:
        """A launcher gives up at the first job that dies, and does not say which; the others are waited for,
        and their heartbeats tell who lives."""

        def under_way() -> bool:
            with ledger.turn():
                ledger.reap()
            running = {trial._trial_id for trial in ledger.trials(TrialState.RUNNING)}
            return any(trial_id in running and handed_over(trial_id) for trial_id in ids)

        while ledger.steadily(under_way):
            time.sleep(POLL_SECONDS)

    def say_trial(self, ledger: StudyStorage, trial: Trial) -> None:
        frozen = ledger.steadily(lambda: ledger.storage.get_trial(trial._trial_id))
        self.terminal.line(labels.line(frozen, self.note(frozen)))

    def note(self, trial: FrozenTrial) -> str:
        first = self.plan.queue[0] if self.plan.queue and isinstance(self.plan, SearchSpace) else None
        if trial.number == 0 and first is not None and first.items() <= trial.params.items():
            return "the report's own"
        attempts = trial.user_attrs.get("attempts")
        return f"again, after #{attempts[-1]}" if attempts else ""

    def close(self, ledger: StudyStorage, why: str) -> int:
        """Says and keeps what the study came to; the exit code."""
        ledger.steadily(lambda: results.keep(ledger, why, self.sweep_dir))
        results.illustrate_best(ledger.study, self.terminal)
        results.say(ledger.study, why, self.terminal)
        failed = why.startswith(FAILING) or not ledger.trials(*COUNTED)
        return 1 if failed else 0


def planned(
    settings: StudySettings, composed: DictConfig, arguments: Sequence[str]
) -> SearchSpace | AblationDesign:
    """InputError: the search cannot be searched."""
    arguments = [
        line for line in arguments if config.key_of(line).split(".")[0] not in ("workers", "dry_run")
    ]
    search = settings.search
    if search["design"] is not None:
        return design_of(search["design"], arguments, composed.hydra.runtime.choices["data"])
    declared: Any = OmegaConf.to_container(composed.hydra.sweeper.params)
    return space_of(
        declared,
        search["conditional"],
        search["exists_where"],
        search["enqueue"],
        arguments,
        dict(composed.hydra.runtime.choices),
    )


def without_hydra(composed: DictConfig) -> DictConfig:
    return OmegaConf.masked_copy(composed, [str(key) for key in composed if key != "hydra"])


def spare_collector() -> None:
    """By the end of a first trial all is imported, some 700,000 objects: later collections pass them by."""
    gc.collect()
    gc.freeze()
    atexit.register(gc.unfreeze)  # libraries tell of what is never collected


def failures(ledger: StudyStorage) -> int:
    """Failed trials; those that were told to stop did not fail."""
    return sum(trial.user_attrs.get("failure") != "stopped" for trial in ledger.trials(TrialState.FAIL))
