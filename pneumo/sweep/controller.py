"""The life of a study in one process of `sweep.py -m`: claim trials, launch them, save the results."""

import os
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, read_write
from optuna.trial import FrozenTrial, Trial, TrialState

from pneumo.display.address import TRACKING, hidden
from pneumo.display.console import Terminal
from pneumo.errors import AwayError, InputError
from pneumo.runs import config, loggers, tracking
from pneumo.runs.overrides import run_overrides
from pneumo.runs.resume import config_hash
from pneumo.sweep import announce, attributes, labels, results, workers
from pneumo.sweep.database import UNREACHABLE, retry, unreachable_message
from pneumo.sweep.design.ablation import AblationDesign
from pneumo.sweep.design.rates import UndecidedError, with_rate
from pneumo.sweep.folders import folder_of
from pneumo.sweep.heartbeat import heartbeats
from pneumo.sweep.launch import POLL_SECONDS, Job, TrialLauncher
from pneumo.sweep.pages import mlflow_view
from pneumo.sweep.pages.dashboard import name_objectives
from pneumo.sweep.plan import PROCESSES, StudyPlan
from pneumo.sweep.pools.base import StudyNeeds, Work
from pneumo.sweep.pools.local import LocalPool
from pneumo.sweep.progress import StudyProgress
from pneumo.sweep.search import Search
from pneumo.sweep.search_space import SearchSpace
from pneumo.sweep.settings import StudySettings, close_storages
from pneumo.sweep.storage import COUNTED, StudyStorage, is_failed
from pneumo.sweep.study_identity import begin_or_continue, has_known_data, refuse_other_data
from pneumo.sweep.trial import cached_dataset, tell_saved_results

ENDED = (*COUNTED, TrialState.FAIL)
MIN_TRIALS_FOR_RATE = 4  # the failure rate is not judged before so many trials have ended
TOO_MANY_FAILED = "too many trials failed:"
ALL_OUT_OF_MEMORY = "every trial was out of memory"


def run_study(
    context: HydraContext,
    task: TaskFunction,
    composed: DictConfig,
    settings: StudySettings,
    search: Search,
) -> None:
    """Begins or continues the study of a sweep command. Exits with 1 if an input is wrong, a server cannot be
    reached or nothing came of the study, with 130 if it was interrupted."""
    try:
        code = StudyRun(context, task, composed, settings, search).run()
    except (InputError, OSError) as error:  # a disk may be full
        sys.exit(hidden(f"\n{error}"))
    except tracking.MlflowError as error:
        sys.exit(hidden(f"\n{tracking.unreachable(error)}"))
    except UNREACHABLE as error:
        sys.exit(hidden(f"\n{unreachable_message(settings.url, error)}"))
    except KeyboardInterrupt:
        sys.exit(130)
    if code:
        sys.exit(code)


class StudyRun:
    """The part of one process in a study, which others may share."""

    storage: StudyStorage  # once the plan has been checked
    folder: Path

    def __init__(
        self,
        context: HydraContext,
        task: TaskFunction,
        composed: DictConfig,
        settings: StudySettings,
        search: Search,
    ):
        self.context, self.task, self.composed, self.settings = context, task, composed, settings
        self.terminal = Terminal()
        self.plan = StudyPlan(context, composed, settings, search)
        self.is_worker = workers.NUMBER in os.environ
        self.launcher = composed.hydra.runtime.choices["hydra/launcher"]
        own = self.settings.make_pool()
        self.pool = LocalPool(processes=own.processes) if self.is_worker else own
        self.began = float(os.environ.get(workers.BEGAN, time.time()))
        self._data_checked = False

    def run(self) -> int:
        """Trains until all trials are done or a limit is reached; returns the exit code."""
        if not self.is_worker:
            with self.terminal.waiting("checking the space"):
                self.plan.check()
        if self.settings.dry_run:
            announce.print_samples(self.plan, self.terminal)
            return 0
        loggers.check(self.plan.base.also)
        with self.pool.ready(self.needs()):
            return self.work()

    def needs(self) -> StudyNeeds:
        return StudyNeeds(
            storage=self.settings.url,
            tracking=os.environ.get(TRACKING) or f"sqlite:///{Path.cwd() / 'mlflow.db'}",
            data_root=getattr(self.plan.base.data, "root", None),
            launcher=self.launcher,
            device=self.plan.base.fit.device,
        )

    def work(self) -> int:
        """Trains once the pool is ready; returns the exit code."""
        self.open_study()
        is_due = self.launcher == "basic" or (has_known_data(self.storage) and self.needs().sees_data)
        if self.trials_left() > 0 and self.pool.trains_here and is_due:
            self.check_data()
        self.open_parent_run()
        n_workers = self.n_workers()
        if not self.is_worker:
            announce.print_study(self.storage.study, self.plan, self.trials_left(), n_workers, self.terminal)
        for number in tell_saved_results(self.storage, self.folder):
            self.terminal.say("stored", f"the saved result of #{number}")
        self.printed = {trial.number for trial in self.storage.trials(*ENDED)}
        work = Work(
            study=self.settings.study,
            n_workers=n_workers,
            words=workers.command_words(),
            began=self.began,
            train=self.train_trials,
            show=self.print_ended,
            is_over=lambda: self.storage.with_retries(self.is_over),
            why_stopped=self.why_stopped,
            say=self.terminal.line,
        )
        progress = StudyProgress(self.storage, self.plan.n_trials, self.settings.objective[0])
        try:
            with self.terminal.live_table(progress.columns, progress.rows):
                stopped = self.pool.run(work)
        except KeyboardInterrupt:
            if not self.is_worker:
                with suppress(*UNREACHABLE):
                    announce.print_interrupted(
                        self.storage.study, self.plan, self.trials_left(), self.terminal
                    )
            raise
        return 0 if self.is_worker or stopped is None else self.finish(stopped)

    # ---- before the first trial

    def open_study(self) -> None:
        """InputError: a study of this name exists with another plan."""
        tracking.connect(self.plan.base.mlflow_experiment)
        close_storages()
        self.storage = self.settings.open_storage()
        defaults = config.default_parameters(self.plan.base)
        identity, of_study = self.plan.identity(), self.plan.study_attributes()
        begin_or_continue(self.storage, self.plan.search.queue, identity, of_study, defaults)
        name_objectives(self.storage.study, self.settings.objective)
        self.folder = folder_of(self.storage.study, Path(str(self.composed.hydra.sweep.dir)))
        with read_write(self.composed.hydra):
            self.composed.hydra.sweep.dir = str(self.folder)

    def n_workers(self) -> int:
        """How many processes share the trials of this command."""
        left, wanted = self.trials_left(), self.settings.workers
        if self.is_worker or left <= 0:
            return 1
        if isinstance(wanted, int):
            return wanted
        is_tiny = self.plan.base.choices["model"] == "tiny" and "model" not in self.plan.searched()
        memory = workers.MEMORY_OF_TINY if is_tiny else workers.MEMORY_OF_OTHERS
        return self.pool.auto(left, self.launcher == "basic", memory)

    def check_data(self) -> None:
        """Loads the data set and compares it with the study's, once. InputError: it is another one."""
        if not self._data_checked:
            with self.terminal.progress("data") as advance:
                dataset = cached_dataset(self.plan.base.data, advance, reload=True)
            style = self.plan.base_style
            self.storage.with_retries(lambda: refuse_other_data(self.storage, dataset, style))
            self._data_checked = True

    def open_parent_run(self) -> None:
        """Starts or reopens the MLflow run above the trials' runs."""
        study = self.storage.study
        search = self.composed.hydra.runtime.choices.get("search", "own")
        tags = {**self.storage.tags, "search": search, "state": "running"}
        experiment = self.plan.base.mlflow_experiment
        experiment_id = tracking.experiment_id(experiment)
        with self.storage.lock():
            mlflow_view.store(study, experiment_id, self.plan.searched())
            parent = study.user_attrs.get(attributes.PARENT_RUN)
            if (known := tracking.known_run(parent)) is None:
                if parent is not None:
                    announce.print_lost_runs(parent, self.terminal)
                about = (
                    f"A study of {self.plan.n_trials} trials on {self.plan.base.choices['data']}, ranked by "
                    f"{', '.join(self.settings.objective)}. Its trials are the runs below it. "
                    f"{mlflow_view.links(study, experiment_id)}"
                )
                run_id = tracking.create_parent_run(experiment, study.study_name, tags, about)
                study.set_user_attr(attributes.PARENT_RUN, run_id)
            elif self.trials_left() > 0:
                tracking.reopen_run(known)

    def trials_left(self) -> int:
        counts = self.storage.counts()
        return self.plan.n_trials - sum(counts[state] for state in COUNTED)

    # ---- trials

    def train_trials(self) -> str:
        """Claims and launches trials; returns why it stopped, empty if all are done."""
        launcher = TrialLauncher(self.storage, self.context, self.task, self.composed)
        while True:
            claimed = self.storage.with_retries(self.claim_jobs)
            if isinstance(claimed, str):
                return claimed
            if claimed:
                launcher.launch(claimed, self.print_trial)
            else:
                time.sleep(POLL_SECONDS)  # other processes train the last trials, and may not finish them

    def claim_jobs(self) -> list[Job] | str:
        """As many trials as are launched at once, none while other processes train the last ones; or why no
        more are claimed, empty if all are done."""
        if reason := self.reason_to_stop():
            return reason
        for run_id in self.storage.new_abandoned_runs():
            tracking.tag_run(run_id, state="failed", failure="crash: its process died")
            tracking.end_run(run_id, "FAILED")
        jobs: list[Job] = []
        queued_only = isinstance(self.plan.search, AblationDesign)
        while len(jobs) < self.settings.jobs:
            trial = self.storage.claim_trial(self.plan.n_trials, self.settings.make_sampler, queued_only)
            if trial is None:
                break
            try:
                job = self.prepare_trial(trial)
            except UndecidedError:
                self.storage.postpone(trial.number)
                break
            if job is not None:
                jobs.append(job)
        if jobs or self.storage.counts()[TrialState.RUNNING]:
            return jobs
        return self.why_stopped()

    def why_stopped(self) -> str:
        """Empty if all trials are done."""
        left = self.trials_left()
        return self.reason_to_stop() or (f"{left} trials could not be run" if left > 0 else "")

    def is_over(self) -> bool:
        """Whether no trial is running and none is to be."""
        is_over = self.trials_left() <= 0 or bool(self.reason_to_stop())
        return is_over and not self.storage.counts()[TrialState.RUNNING]

    def reason_to_stop(self) -> str:
        """Which limit of the settings is reached, empty if none is. Once no trial is left, only the failure
        rate is one."""
        counted = self.storage.trials(*COUNTED)
        if reason := self.too_many_failed(counted):
            return reason
        if self.trials_left() <= 0:
            return ""
        hours = self.settings.hours
        if hours is not None and time.time() - self.began > 3600 * hours:
            return f"hours={hours} are over"
        return self.none_better(counted)

    def too_many_failed(self, counted: Sequence[FrozenTrial]) -> str:
        """Why the failure rate ends the study, empty if it does not."""
        most, failed = self.settings.max_failure_rate, len(self.storage.failed_trials())
        ended = failed + sum(not is_failed(trial) for trial in counted)
        if ended < MIN_TRIALS_FOR_RATE or failed <= most * ended:
            return ""
        return f"{TOO_MANY_FAILED} {failed} of {ended}, above max_failure_rate={most}"

    def none_better(self, counted: Sequence[FrozenTrial]) -> str:
        """Why patience ends the study, empty if it does not."""
        patience = self.settings.patience if len(self.settings.objective) == 1 else None
        complete = [trial for trial in counted if trial.state == TrialState.COMPLETE]
        if patience is None or not complete:
            return ""
        best = max(complete, key=lambda trial: (trial.value, -trial.number))
        since = sum(trial.number > best.number for trial in counted)
        return f"no better trial in {since}" if since >= patience else ""

    def prepare_trial(self, trial: Trial) -> Job | None:
        """A trial's job; None if the trial ended here, as a duplicate or a failure.
        UndecidedError: its learning rate is not chosen yet. AwayError: MLflow cannot be reached."""
        storage, plan = self.storage, self.plan
        try:
            with heartbeats(storage, [trial.number]):
                values = with_rate(storage, plan.search.suggest(trial))
                quoted = str(self.folder).replace("'", "\\'")
                place = [f"hydra.sweep.dir='{quoted}'", f"hydra.sweep.subdir={trial.number}"]
                of_job = [f"trial={trial.number}", f"{PROCESSES}={self.pool.processes}", *place]
                experiment, composed = retry(lambda: plan.job(values, of_job), storage.patience_seconds)
                key = config_hash(experiment)
                if (duplicate := storage.find_duplicate(key)) is None or not self.needs().sees_data:
                    trial.set_user_attr(attributes.CONFIG_HASH, key)
                    batch = experiment.fit.effective_batch * self.pool.processes
                    trial.set_user_attr(attributes.EFFECTIVE_BATCH, batch)
                    overrides = plan.search.overrides(values)
                    trial.set_user_attr(attributes.OVERRIDES, run_overrides(overrides))
                    return Job(trial, [*overrides, *of_job], composed)
                self.check_data()
                storage.copy_result(duplicate, trial)
        except AwayError as error:
            storage.fail_trial(trial.number, "stopped", str(error))
            raise
        except InputError as error:
            storage.fail_trial(trial.number, "configuration", str(error))
        except KeyboardInterrupt:
            storage.fail_trial(trial.number, "stopped", "interrupted")
            raise
        self.print_trial(trial.number)
        return None

    def print_trial(self, number: int) -> None:
        frozen = self.storage.with_retries(lambda: self.storage.trial(number))
        self.terminal.line(labels.trial_line(frozen, self.remark(frozen)))

    def print_ended(self) -> None:
        """Prints the trials that have ended elsewhere and are not printed yet."""
        for trial in self.storage.with_retries(lambda: self.storage.trials(*ENDED)):
            if trial.number not in self.printed:
                self.printed.add(trial.number)
                self.print_trial(trial.number)

    def remark(self, trial: FrozenTrial) -> str:
        """Why a trial has its parameters, if they were not sampled."""
        search = self.plan.search
        queue = search.queue if isinstance(search, SearchSpace) else []
        if trial.number < len(queue) and queue[trial.number].items() <= trial.params.items():
            return "given"
        attempts = trial.user_attrs.get(attributes.ATTEMPTS)
        return f"again, after #{attempts[-1]}" if attempts else ""

    # ---- after the last trial

    def finish(self, stopped: str) -> int:
        """Saves and prints the results; returns the exit code: 1 if no trial succeeded or too many failed."""
        study = self.storage.study
        why = self.storage.with_retries(lambda: self.why_ended(stopped))
        self.storage.with_retries(lambda: results.save(self.storage, why, self.folder))
        results.plot_best(study, self.terminal)
        results.print_results(study, why, self.terminal)
        return 0 if self.has_succeeded() and not why.startswith(TOO_MANY_FAILED) else 1

    def why_ended(self, stopped: str) -> str:
        """Empty if all trials are done. `stopped` is what the pool says, after which other workers may have
        ended the last trials."""
        if self.trials_left() > 0:
            return stopped
        return self.why_stopped() or ("" if self.has_succeeded() else ALL_OUT_OF_MEMORY)

    def has_succeeded(self) -> bool:
        """Whether a trial is complete or was pruned, other than by being out of memory."""
        return not all(map(is_failed, self.storage.trials(*COUNTED)))
