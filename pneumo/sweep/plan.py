"""What a study is to try: its search space or design, and the experiment that each trial's parameters
compose to."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

import optuna
from hydra.errors import HydraException
from hydra.types import HydraContext
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from pneumo.errors import AwayError, InputError
from pneumo.runs import config
from pneumo.runs.experiment import Experiment
from pneumo.runs.overrides import NOT_RUNS, is_within, override_key
from pneumo.runs.planner import PLAN
from pneumo.runs.run_name import LATEST, is_best
from pneumo.runs.setting_names import GROUPS
from pneumo.sweep import attributes
from pneumo.sweep.design.ablation import LR, STYLE, AblationDesign
from pneumo.sweep.search import Search
from pneumo.sweep.search_space import SearchSpace, Value, key_and_value, override
from pneumo.sweep.settings import HEARTBEAT, StudySettings

PROCESSES = "pool.processes"
OF_SAME_DATA = ("data.image_side_px", "data.normalise")  # how a network sees the images, not which they are


class StudyPlan:
    """What a sweep command tries: `settings` of the study, `search`, and `base`, the experiment without
    anything searched, on data of `base_style`, the first of a design that has several. InputError, also of
    its methods: they do not compose."""

    def __init__(self, context: HydraContext, composed: DictConfig, settings: StudySettings, search: Search):
        self.settings, self.search = settings, search
        self._context, self._composed = context, composed
        self.base_style = self.search.style_of(0) if isinstance(self.search, AblationDesign) else None
        style = [override(STYLE, self.base_style)] if self.base_style else []
        self.base = load_experiment(self._compose([*self.search.fixed, *style]))
        if (n_trials := self.search.size or settings.n_trials) is None:
            raise InputError("n_trials must be given: n_trials=20")
        self.n_trials = n_trials

    def check(self) -> None:
        """Composes every choice and both ends of every range. InputError: one of them does not compose, or
        would be on other data."""
        own = {STYLE} if isinstance(self.search, AblationDesign) else set()
        for name in sorted(self.searched() - {*OF_SAME_DATA, *own}):
            if name.split(".")[0] == "data":
                raise InputError(f"{name} cannot be searched: all trials of a study are on the same data")
        self._refuse_changing_runs()
        self._try_sampler()
        self.settings.make_pruner()
        for values in self.search.extremes():
            self.experiment(values)

    def _try_sampler(self) -> None:
        """InputError: the sampler cannot be made, or draws nothing, as where its settings are of the wrong
        kind or it needs a package that is not there."""
        study = optuna.create_study(
            directions=self.settings.directions, sampler=self.settings.make_sampler(0)
        )
        if isinstance(self.search, SearchSpace):
            try:
                self.search.suggest(study.ask())
            except Exception as error:
                raise InputError(config.refusal("hydra.sweeper.sampler", error)) from error

    def _refuse_changing_runs(self) -> None:
        """InputError: a run is named by `best` or `latest`, which a trial may change when it ends."""
        for name, value in self._values():
            if name in NOT_RUNS and isinstance(value, str) and (is_best(value) or value == LATEST):
                raise InputError(
                    f"{name}={value} may be another run in each trial: give the run's name or id, {name}=RUN"
                )

    def _values(self) -> Iterator[tuple[str, Value]]:
        """The names and values that trials are composed of: what is fixed, and what a search or a design
        sets."""
        yield from map(key_and_value, self.search.fixed)
        sets = (
            self.search.arms.values() if isinstance(self.search, AblationDesign) else self.search.extremes()
        )
        for values in sets:
            yield from values.items()

    def experiment(self, values: Mapping[str, Value]) -> Experiment:
        """The experiment of a trial with these parameters. AwayError: it names a run, and MLflow cannot be
        reached."""
        return self.job(values, [])[0]

    def job(self, values: Mapping[str, Value], of_job: Sequence[str]) -> tuple[Experiment, DictConfig]:
        """The experiment of a trial with these parameters, and the configuration of its job, which has the
        overrides `of_job` besides. AwayError: as `experiment`."""
        try:
            composed = self._compose([*self.search.overrides(values), *of_job])
            return load_experiment(composed), composed
        except AwayError:
            raise
        except InputError as error:
            parameters = " ".join(override(name, value) for name, value in values.items())
            raise InputError(f"{parameters}: {error}") from None

    def _compose(self, overrides: Sequence[str]) -> DictConfig:
        try:
            return self._context.config_loader.load_sweep_config(self._composed, list(overrides))
        except (HydraException, OmegaConfBaseException) as error:
            raise InputError(" ".join(str(error).split())) from None

    def searched(self) -> set[str]:
        """The names of the settings that differ between trials."""
        if isinstance(self.search, AblationDesign):
            of_seeds = {"seed", STYLE} if self.search.styles else {"seed"}
            of_rates = {LR} if self.search.tuned_arms else set()
            return {name for arm in self.search.arms.values() for name in arm} | of_seeds | of_rates
        return {name.split(".")[0] if name in GROUPS else name for name in self.search.describe()}

    def identity(self) -> dict[str, dict[str, Any]]:
        """What must stay the same for the study to be continued, as topic -> name -> value. Of the settings
        in searched groups it has those that the command line fixes, under names that no default value is
        known for: in a study without these words each choice has its own."""
        searched, fixed = self.searched(), [override_key(word) for word in self.search.fixed]
        settings = {}
        for name, value in self.base.identity.items():
            if not is_within(name, searched):
                settings[name] = value
            elif is_within(name, fixed):
                settings[f"{name} on the command line"] = value
        if (n_processes := self.settings.processes) > 1:  # each adds to the effective batch
            settings[PROCESSES] = n_processes
        if self._composed.get(PLAN):  # of experiment=auto: each trial has further settings of its own
            settings[PLAN] = True
        space = self.search.identity if isinstance(self.search, SearchSpace) else self.search.describe()
        objective = {"objective": ", ".join(self.settings.objective)}
        heartbeat = {HEARTBEAT: self.settings.heartbeat_seconds}  # or others would take its trials for dead
        return {
            "objective": objective,
            "space": space,
            "settings": settings,
            "heartbeat": heartbeat,
        }

    def study_attributes(self) -> dict[str, Any]:
        """What `pneumo study` needs, as attributes of the study."""
        return {
            attributes.N_TRIALS: self.n_trials,
            attributes.OBJECTIVE: self.settings.objective,
            attributes.DESIGN: asdict(self.search) if isinstance(self.search, AblationDesign) else None,
        }


def load_experiment(composed: DictConfig) -> Experiment:
    """The experiment of a job's configuration. InputError: as `config.load`."""
    return config.load(config.without_hydra(composed))
