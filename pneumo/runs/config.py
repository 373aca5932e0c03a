"""The door: a composed configuration becomes an Experiment, and nothing behind it sees a DictConfig."""

import os
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import MISSING, fields
from pathlib import Path
from tempfile import TemporaryDirectory
from types import UnionType
from typing import TYPE_CHECKING, Any, get_args, get_type_hints
from uuid import uuid4

import yaml
from hydra import compose, initialize_config_dir
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException, InstantiationException
from hydra.utils import execution_whitelist, instantiate
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from pneumo.errors import InputError
from pneumo.runs import search_path
from pneumo.runs.identity import PLACES, class_name
from pneumo.runs.search_path import folders

if TYPE_CHECKING:
    from pneumo.runs.experiment import Experiment, Parameter

GROUPS = ("data", "augment", "model", "optimizer", "loss", "schedule")
STUDY = (  # what a study adds at the top level: not a run's business
    *("study", "search", "pruner", "objective", "n_trials", "hours", "patience"),
    *("storage", "workers", "jobs", "retries", "max_failure_rate", "dry_run", "trial"),
)
OURS = ["pneumo.data.sources.*", "pneumo.components.*"]


def trusted_targets() -> list[str]:
    """What a configuration may name as a `_target_`: pneumo's components, those of installed plugins, and
    what PNEUMO_TRUST adds to them (names like mypkg.losses.Mine or mypkg.*, separated by commas)."""
    added = os.environ.get("PNEUMO_TRUST", "").split(",")
    installed = [f"{package}.*" for package in search_path.plugins()]
    return OURS + installed + [name.strip() for name in added if name.strip()]


def compose_train(overrides: Sequence[str]) -> DictConfig:
    """What train.py would be given. InputError: there is no such choice or key."""
    search_path.register()
    try:
        with initialize_config_dir(str(search_path.OWN)):
            return compose("train", list(overrides))
    except HydraException as error:
        raise InputError(" ".join(str(error).split())) from None


def choices_of(group: str) -> list[str]:
    """The choices of a group."""
    return sorted({path.stem for folder in folders() for path in (folder / group).glob("[!_]*.yaml")})


def current_targets(group: str) -> dict[str, str]:
    """Where the classes of our components are now, by their names: a stored configuration may name one by the
    module it was in before."""
    files = [path for folder in folders() for path in (folder / group).glob("*.yaml")]
    targets = [OmegaConf.select(OmegaConf.load(path), "_target_") for path in files]
    return {class_name(target): target for target in targets if target}


def load(config: DictConfig, choices: Mapping[str, str] | None = None) -> "Experiment":
    """`choices`: the names chosen in the groups, where Hydra did not compose the configuration just now.
    InputError: a value is missing, of the wrong kind, or out of its range."""
    config = OmegaConf.masked_copy(config, [str(key) for key in config if key not in STUDY])
    try:
        plain: Any = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    except MissingMandatoryValue as error:
        name = error.full_key or "a value"
        raise InputError(f"{name} must be given: {name}=...") from None
    except OmegaConfBaseException as error:
        raise InputError(str(error).splitlines()[0]) from None

    from pneumo.runs.experiment import Experiment
    from pneumo.training.settings import TrainerSettings

    check_kinds("fit", TrainerSettings, plain["fit"])
    if not isinstance(plain["seed"], int) or plain["seed"] < 0:
        raise InputError(f"seed must be a whole number of at least 0, got {plain['seed']!r}")
    by_hydra = HydraConfig.initialized() and choices is None
    chosen = HydraConfig.get().runtime.choices if by_hydra else choices or {}
    return Experiment(
        **{group: instantiate_component(group, plain[group]) for group in GROUPS},
        fit=TrainerSettings(**plain["fit"]),
        seed=plain["seed"],
        tta=plain["tta"],
        resume=plain["resume"],
        mlflow_experiment=plain["tracking"]["experiment"],
        run_name=plain["tracking"]["name"],
        choices={group: str(chosen.get(group) or class_label(plain[group])) for group in GROUPS},
        overrides=run_overrides(HydraConfig.get().overrides.task) if by_hydra else [],
        parameters=dict(flatten(plain)),
        yaml=OmegaConf.to_yaml(config, resolve=True),
    )


def from_yaml(yaml: str, choices: Mapping[str, str], changes: Mapping[str, Any]) -> "Experiment":
    """The experiment of a run from its config.yaml, with some values changed, by their dotted names."""
    config = OmegaConf.create(yaml)
    assert isinstance(config, DictConfig)
    for group in GROUPS:
        target = OmegaConf.select(config, f"{group}._target_")
        OmegaConf.update(config, f"{group}._target_", current_targets(group).get(class_name(target), target))
    for name, value in changes.items():
        OmegaConf.update(config, name, value)
    return load(config, choices)


def default_parameters(experiment: "Experiment") -> dict[str, Any]:
    """What parameters are that are not given, by dotted name: so a configuration of before they existed is
    met with what was done then."""
    return {
        f"{owner}.{one.name}": one.default
        for owner in (*GROUPS, "fit")
        for one in fields(getattr(experiment, owner))
        if one.default is not MISSING
    }


def to_recipe(experiment: "Experiment", comments: Iterable[str] = ()) -> str:
    """The file of a choice of `experiment=` that composes to this experiment, but for its seed and for what
    does not decide what is learned: its choices, and the values that differ from theirs.
    InputError: there is no such choice."""
    choices = [f"{group}={choice}" for group, choice in experiment.choices.items()]
    there: Any = OmegaConf.to_container(compose_train(choices), resolve=True)
    wanted: Any = OmegaConf.to_container(OmegaConf.create(experiment.yaml), resolve=True)
    kept = {*experiment.identity, *PLACES, "tta"} - {"seed"}
    chosen = [{f"override /{group}": choice} for group, choice in experiment.choices.items()]
    header = "".join(f"# {line}\n" for line in ("@package _global_", *comments))
    settings = {"defaults": chosen, **changed_values(there, wanted, kept)}
    return header + yaml.safe_dump(settings, sort_keys=False)


def changed_values(
    there: Mapping[str, Any], wanted: Mapping[str, Any], kept: Collection[str], prefix: str = ""
) -> Any:
    """Of nested settings those that differ and whose dotted names are kept."""
    found = {}
    for key, value in wanted.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            before = there.get(key)
            if inner := changed_values(
                before if isinstance(before, Mapping) else {}, value, kept, f"{name}."
            ):
                found[key] = inner
        elif name in kept and (key not in there or there[key] != value):
            found[key] = value
    return found


def from_recipe(text: str, choices: Mapping[str, str]) -> "Experiment":
    """The experiment that a file of conf/experiment composes to. InputError: it does not compose."""
    with TemporaryDirectory() as folder:
        path = Path(folder) / "experiment" / f"{uuid4().hex}.yaml"
        path.parent.mkdir()
        path.write_text(text)
        return load(
            compose_train([f"experiment={path.stem}", f"hydra.searchpath=[file://{folder}]"]), choices
        )


def run_overrides(overrides: Iterable[str]) -> list[str]:
    """Those that say something of a run, not of a study."""
    return [given for given in overrides if override_key(given).split(".")[0] not in STUDY]


def override_key(override: str) -> str:
    """optimizer.lr of optimizer.lr=1e-3, loss of ++loss=bce"""
    return override.split("=", 1)[0].lstrip("+~")


def override_value(override: str) -> Any:
    """The value in optimizer.lr=1e-3, as Hydra reads it. InputError: it cannot be read."""
    try:
        return OverridesParser.create().parse_override(override).value()
    except HydraException as error:
        raise InputError(" ".join(str(error).split())) from None


def instantiate_component(group: str, settings: Mapping[str, Any]) -> Any:
    """The component of a group. Nothing is imported that may not be named."""
    target = settings.get("_target_")
    if not isinstance(target, str):
        raise InputError(f"{group}._target_ must name a class, got {target!r}")
    try:
        with execution_whitelist(trusted_targets()):
            without_values = instantiate(
                {"_target_": target, "_partial_": True}
            )  # unlike get_class, it refuses
            check_kinds(group, without_values.func, settings)
            return instantiate(dict(settings), _convert_="all")
    except InputError:
        raise
    except (InstantiationException, ImportError, TypeError, ValueError) as error:
        raise InputError(f"{group}: {' '.join(str(error).split())}") from error


def check_kinds(group: str, cls: type, settings: Mapping[str, Any]) -> None:
    """InputError: a value is not of the kind that its field in the dataclass is declared as."""
    declared = get_type_hints(cls)
    for name, value in settings.items():
        wanted = declared.get(name, Any)
        kinds = get_args(wanted) if isinstance(wanted, UnionType) else (wanted,)
        plain = [kind for kind in kinds if kind in NAMES]
        if plain and not any(has_kind(value, kind) for kind in kinds):
            words = " or ".join(NAMES[kind] for kind in plain)
            raise InputError(f"{group}.{name} must be {words}, got {value!r}")


NAMES: dict[Any, str] = {
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    str: "a text",
    type(None): "null",
}


def has_kind(value: object, kind: Any) -> bool:
    if kind not in NAMES:
        return True
    if isinstance(value, bool) or kind is bool:
        return isinstance(value, bool) and kind is bool
    return isinstance(value, (int, float) if kind is float else kind)


def class_label(settings: Mapping[str, Any]) -> str:
    return str(settings.get("_target_", "?")).rsplit(".", 1)[-1].lower()


def flatten(node: Mapping[str, Any], prefix: str = "") -> "list[tuple[str, Parameter]]":
    """Nested settings as (dotted name, value); lists as text."""
    pairs: list[tuple[str, Parameter]] = []
    for key, value in node.items():
        if isinstance(value, Mapping):
            pairs += flatten(value, f"{prefix}{key}.")
        else:
            pairs.append((prefix + str(key), str(value) if isinstance(value, list) else value))
    return pairs
