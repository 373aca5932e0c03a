"""Turns a configuration that Hydra composed, or that a run stored as YAML, into an Experiment."""

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import MISSING, dataclass, fields
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import InstantiationException
from hydra.utils import execution_whitelist, instantiate
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from pneumo.errors import AwayError, InputError, one_line
from pneumo.runs import loggers, search_path, setting_names
from pneumo.runs.identity import class_name
from pneumo.runs.overrides import NOT_RUNS, override_key, quoted_run_names, run_overrides
from pneumo.runs.run_name import RUN_ID, check_run_name, is_path
from pneumo.runs.search_path import folders
from pneumo.runs.setting_names import GROUPS, STUDY
from pneumo.training.settings import TrainerSettings

if TYPE_CHECKING:
    from pneumo.data.sources.base import Source
    from pneumo.runs.experiment import Experiment, Parameter

QUICK_FIRST = ("data", "optimizer", "schedule", "loss", "augment", "model")  # torch takes seconds to import
NO_SETTINGS = (*STUDY, "plan")  # what is no setting of a run
LARGEST_SEED = 2**32 - 1  # products of it fit into torch's 64 bits
OWN_TARGETS = ["pneumo.data.sources.*", "pneumo.components.*"]


@dataclass
class OfRun:
    """The kinds of a run's settings outside of groups."""

    seed: int
    tta: str
    resume: str | None


@dataclass
class OfTracking:
    """The kinds of the settings under `tracking`; `also` is read by `names_of_loggers`."""

    experiment: str
    name: str | None


def trusted_targets() -> list[str]:
    """What a configuration may name as a `_target_`: pneumo's components, those of installed plugins, and the
    names in PNEUMO_TRUST, such as mypkg.losses.Mine or mypkg.*, separated by commas."""
    added = os.environ.get("PNEUMO_TRUST", "").split(",")
    installed = [f"{package}.*" for package in search_path.plugins()]
    return OWN_TARGETS + installed + [name.strip() for name in added if name.strip()]


def chosen_by_group(overrides: Sequence[str]) -> dict[str, str]:
    """The choices by group, where Hydra is running; else those that the overrides name."""
    if HydraConfig.initialized():
        return dict(HydraConfig.get().runtime.choices)
    return {override_key(word): word.split("=", 1)[1] for word in overrides if "=" in word}


def search_path_overrides() -> list[str]:
    """The overrides that tell the running Hydra where else to look for files."""
    given = HydraConfig.get().overrides.hydra if HydraConfig.initialized() else []
    return [word for word in given if override_key(word) == "hydra.searchpath"]


def compose_train(overrides: Sequence[str], with_hydra: bool = False) -> DictConfig:
    """The configuration of train.py with these overrides, and Hydra's own if `with_hydra`. InputError: a
    choice or key does not exist."""
    search_path.register()
    hydra = GlobalHydra.instance()
    running = hydra.hydra
    hydra.clear()
    try:
        with initialize_config_dir(str(search_path.OWN)):
            return compose("train", quoted_run_names(overrides), return_hydra_config=with_hydra)
    except Exception as error:  # see setting_names.explained
        raise InputError(setting_names.explained(error)) from None
    finally:
        GlobalHydra.instance().hydra = running


@contextmanager
def composed_as_by_train(overrides: Sequence[str]) -> Iterator[tuple[DictConfig, Path]]:
    """Yields the configuration of train.py with these overrides and the folder for its output, which is new.
    Inside the block, Hydra's state is that of train.py. InputError: see `compose_train`."""
    whole, state = compose_train(overrides, with_hydra=True), HydraConfig.instance()
    before = state.cfg
    state.set_config(whole)
    try:
        folder = output_dir = Path(whole.hydra.run.dir).absolute()
        for number in count(2):
            if not output_dir.exists():
                break
            output_dir = folder.with_name(f"{folder.name}-{number}")
        output_dir.mkdir(parents=True)
        yield without_hydra(whole), output_dir
    finally:
        state.cfg = before


def without_hydra(whole: DictConfig) -> DictConfig:
    """A configuration without Hydra's own part."""
    return OmegaConf.masked_copy(whole, [str(key) for key in whole if key != "hydra"])


def choices_of(group: str) -> list[str]:
    """The choices of a config group, sorted."""
    return sorted({path.stem for folder in folders() for path in (folder / group).glob("[!_]*.yaml")})


def current_targets(group: str) -> dict[str, str]:
    """The `_target_` of each component of a group by its class name, since stored configurations may name
    modules in which the classes no longer are."""
    files = [path for folder in folders() for path in (folder / group).glob("*.yaml")]
    targets = [OmegaConf.select(OmegaConf.load(path), "_target_") for path in files]
    return {class_name(target): target for target in targets if target}


def load(config: DictConfig, choices: Mapping[str, str] | None = None) -> "Experiment":
    """The experiment of a configuration. `choices`, by group, are those of a stored configuration, or needed
    where Hydra is not running.
    InputError: a value is missing, of the wrong type, or out of its range."""
    config = OmegaConf.masked_copy(config, [str(key) for key in config if key not in NO_SETTINGS])
    if choices is None:
        replace_run_names(config)
    plain = to_plain(config)
    if choices is None:  # a stored configuration may have been written by another version
        setting_names.check_top_level(plain)
    setting_names.check_kinds("", OfRun, plain)
    setting_names.check_kinds("tracking", OfTracking, plain["tracking"])
    setting_names.check_arguments("fit", TrainerSettings, plain["fit"])
    setting_names.check_kinds("fit", TrainerSettings, plain["fit"])
    fit = TrainerSettings(**plain["fit"])
    if not 0 <= plain["seed"] <= LARGEST_SEED:
        raise InputError(f"seed must be from 0 to {LARGEST_SEED}, got {plain['seed']}")
    also = names_of_loggers(plain["tracking"].get("also"))
    if choices is None:
        loggers.check(also)
    components = {group: instantiate_component(group, plain[group]) for group in QUICK_FIRST}
    from pneumo.runs.experiment import Experiment  # imports torch

    by_hydra = HydraConfig.initialized() and choices is None
    chosen = HydraConfig.get().runtime.choices if by_hydra else choices or {}
    return Experiment(
        **components,
        fit=fit,
        seed=plain["seed"],
        tta=plain["tta"],
        resume=plain["resume"],
        mlflow_experiment=plain["tracking"]["experiment"],
        run_name=plain["tracking"]["name"],
        also=also,
        choices={group: str(chosen.get(group) or class_label(plain[group])) for group in GROUPS},
        overrides=run_overrides(HydraConfig.get().overrides.task) if by_hydra else [],
        parameters=dict(flatten(plain)),
        yaml=OmegaConf.to_yaml(config, resolve=True),
    )


def load_data(config: DictConfig) -> "Source":
    """The data source of a configuration alone, without the time that torch takes to import. InputError: see
    `load`."""
    source: Source = instantiate_component("data", to_plain(config)["data"])
    return source


def to_plain(config: DictConfig) -> Any:
    """A configuration as dictionaries, lists and values. InputError: a value is missing or refers to none."""
    try:
        return OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    except MissingMandatoryValue as error:
        name = error.full_key or "a value"
        raise InputError(f"{name} must be given: {name}=...") from None
    except OmegaConfBaseException as error:
        raise InputError(one_line(str(error).splitlines()[0])) from None


def names_of_loggers(also: Any) -> tuple[str, ...]:
    """The value of `tracking.also`, which older configurations lack. InputError: it is no list of names."""
    if also is None:
        return ()
    if not isinstance(also, list) or not all(isinstance(name, str) for name in also):
        raise InputError(f"tracking.also must be a list of names, such as [csv], got {also!r}")
    return tuple(also)


def replace_run_names(config: DictConfig) -> None:
    """Replaces the names of runs by their ids, since `best` and `latest` are other runs later. InputError: a
    value is neither a file nor a run."""
    for key, words in NOT_RUNS.items():
        value = OmegaConf.select(config, key, throw_on_missing=False)
        if not isinstance(value, str) or value in words or RUN_ID.fullmatch(value) or is_path(value):
            continue
        try:
            check_run_name(value)
            from pneumo.runs import tracking  # MLflow takes seconds to import
            from pneumo.runs.named_run import named_run

            tracking.connect()
            OmegaConf.update(config, key, named_run(value).run_id)
        except AwayError:
            raise
        except InputError as error:
            raise InputError(f"{key}={value} is no file, and no run: {error}") from None


def from_yaml(yaml: str, choices: Mapping[str, str], changes: Mapping[str, Any]) -> "Experiment":
    """The experiment of a run's config.yaml, with `changes` to values by their dotted names."""
    config = OmegaConf.create(yaml)
    assert isinstance(config, DictConfig)
    for group in GROUPS:
        target = OmegaConf.select(config, f"{group}._target_")
        OmegaConf.update(config, f"{group}._target_", current_targets(group).get(class_name(target), target))
    for name, value in changes.items():
        OmegaConf.update(config, name, value)
    return load(config, choices)


def default_parameters(experiment: "Experiment") -> dict[str, Any]:
    """The default values of all parameters, by dotted name."""
    return {
        f"{group}.{parameter.name}": parameter.default
        for group in (*GROUPS, "fit")
        for parameter in fields(getattr(experiment, group))
        if parameter.default is not MISSING
    }


def instantiate_component(group: str, settings: Any) -> Any:
    """The component of a config group. InputError: its class is not trusted or does not exist, is no class of
    components, or a value is not valid; a class that is not trusted is not imported."""
    if not isinstance(settings, Mapping):
        raise InputError(f"{group} must hold settings, got {settings!r}")
    target = settings.get("_target_")
    if not isinstance(target, str):
        raise InputError(f"{group}._target_ must name a class, got {target!r}")
    try:
        with execution_whitelist(trusted_targets()):  # which get_class ignores
            cls = instantiate({"_target_": target, "_partial_": True}).func
            setting_names.check_arguments(group, cls, settings)
            setting_names.check_kinds(group, cls, settings)
            component = instantiate(dict(settings), _convert_="all")
    except InputError:
        raise
    except Exception as error:  # whatever a class raises that is given values of the wrong kind
        raise InputError(refusal(group, error)) from error
    if not callable(component):
        raise InputError(f"{group}._target_ must name the class of a component, got {target!r}")
    return component


def refusal(group: str, error: Exception) -> str:
    """One line that says why a class does not take its settings."""
    text = one_line(" ".join(str(error).split()))
    is_plain = isinstance(error, InstantiationException | ImportError | TypeError | ValueError)
    return f"{group}: {text}" if text and is_plain else f"{group}: {type(error).__name__} {text}".rstrip()


def class_label(settings: Mapping[str, Any]) -> str:
    """The lower-case name of a component's class, where no choice is known."""
    return str(settings.get("_target_", "?")).rsplit(".", 1)[-1].lower()


def flatten(node: Mapping[str, Any], prefix: str = "") -> "list[tuple[str, Parameter]]":
    """Nested settings as pairs of a dotted name and a value; lists become text."""
    pairs: list[tuple[str, Parameter]] = []
    for key, value in node.items():
        if isinstance(value, Mapping):
            pairs += flatten(value, f"{prefix}{key}.")
        else:
            pairs.append((prefix + str(key), str(value) if isinstance(value, list) else value))
    return pairs
