"""The settings of a run: another name, with the nearest that is a setting, and a value of another kind are
refused in one line."""

import inspect
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from difflib import get_close_matches
from functools import cache
from pathlib import Path
from types import UnionType
from typing import Any, get_args, get_type_hints

from hydra.errors import MissingConfigException, OverrideParseException
from omegaconf import OmegaConf
from yaml import YAMLError
from yaml.reader import ReaderError

from pneumo.errors import InputError, hydra_word, one_line
from pneumo.runs.search_path import OWN, folders

GROUPS = ("data", "augment", "model", "optimizer", "loss", "schedule")
STUDY = (  # top-level keys of a study, which a run ignores
    *("study", "search", "pruner", "objective", "n_trials", "hours", "patience"),
    *("storage", "pool", "workers", "jobs", "retries", "max_failure_rate", "dry_run", "trial"),
)
OPTIONS = (  # of Hydra's commands
    *("help", "hydra-help", "version", "cfg", "resolve", "package", "run", "multirun", "shell-completion"),
    *("config-path", "config-name", "config-dir", "experimental-rerun", "info"),
)
KINDS = {int: "a whole number", float: "a number", bool: "true or false", str: "a text", type(None): "null"}
LARGEST = 1e18  # of any number: powers of larger ones do not fit into 32-bit floats
RESERVED = ("_target_", "_args_", "_convert_", "_recursive_")  # of Hydra's instantiate


@cache
def of_train_yaml() -> Mapping[str, Any]:
    """The settings of conf/train.yaml outside the groups of components."""
    content: Any = OmegaConf.to_container(OmegaConf.load(OWN / "train.yaml"))
    return {name: value for name, value in content.items() if name not in ("defaults", "hydra")}


@cache
def of_study() -> Collection[str]:
    """The settings that conf/sweep.yaml adds to those of a run."""
    content: Any = OmegaConf.to_container(OmegaConf.load(OWN / "sweep.yaml"))
    return [name for name in content if name not in (*of_train_yaml(), "defaults", "hydra")]


def check_top_level(settings: Mapping[str, Any]) -> None:
    """InputError: a name at the top level, or below `tracking`, is unknown, or is missing."""
    expected = of_train_yaml()
    check(settings, [*GROUPS, *expected], required=[*GROUPS, *expected])
    for name in ("fit", "tracking"):
        if not isinstance(settings[name], Mapping):
            raise InputError(f"{name} must hold settings, got {settings[name]!r}")
    check(settings["tracking"], expected["tracking"], required=expected["tracking"], group="tracking")


def check_arguments(group: str, cls: Any, settings: Mapping[str, Any]) -> None:
    """InputError: a setting is no parameter of the callable `cls`, or one that it needs is missing."""
    try:
        parameters = inspect.signature(cls).parameters
    except (TypeError, ValueError):  # not every callable tells its parameters
        return
    kinds = {parameter.kind for parameter in parameters.values()}
    named = [name for name, parameter in parameters.items() if parameter.kind != parameter.VAR_KEYWORD]
    required = [
        name
        for name in named
        if parameters[name].default is inspect.Parameter.empty
        and parameters[name].kind != inspect.Parameter.VAR_POSITIONAL
    ]
    given = {name: value for name, value in settings.items() if name not in RESERVED}
    known = list(given) if inspect.Parameter.VAR_KEYWORD in kinds else named
    check(given, known, () if "_args_" in settings else required, group)


def check(
    settings: Mapping[str, Any], known: Collection[str], required: Collection[str] = (), group: str = ""
) -> None:
    """InputError: a name of the settings of a group, or of the top level, is not known, or a required one is
    missing."""
    prefix = f"{group}." if group else ""
    if unknown := [str(name) for name in settings if name not in known]:
        below = settings[unknown[0]]
        deeper = f".{next(iter(below))}" if isinstance(below, Mapping) and below else ""
        raise InputError(unknown_setting(f"{prefix}{unknown[0]}{deeper}", [f"{prefix}{n}" for n in known]))
    if missing := [name for name in required if name not in settings]:
        raise InputError(f"{prefix}{missing[0]} must be given: {prefix}{missing[0]}=...")


def check_kinds(group: str, cls: type, settings: Mapping[str, Any]) -> None:
    """Raises InputError if a value does not have the type of its field in the dataclass `cls`, or is a number
    that no setting can mean."""
    declared = get_type_hints(cls)
    for name, value in settings.items():
        full = f"{group}.{name}" if group else name
        annotation = declared.get(name, Any)
        kinds = get_args(annotation) if isinstance(annotation, UnionType) else (annotation,)
        accepted = {*kinds, int} if float in kinds else {*kinds}
        if KINDS.keys() >= accepted and type(value) not in accepted:
            expected = " or ".join(KINDS[kind] for kind in kinds)
            raise InputError(f"{full} must be {expected}, got {value!r}")
        if isinstance(value, int | float) and abs(value) > LARGEST:
            raise InputError(f"{full} must be a number from {-LARGEST:g} to {LARGEST:g}, got {value!r}")


def unknown_setting(name: str, known: Collection[str] = ()) -> str:
    """The message about a dotted name that is no setting of the run. `known` are names that may have been
    meant, beside those of conf/."""
    group = name.split(".")[0]
    if name in of_study():
        return f"{name} is a setting of a study, and this is a single run"
    if having := names_in_conf().get(name):
        others = " or ".join(f"{group}={choice}" for choice in having)
        return f"{name} is not a setting of the chosen {group}, but of {others}"
    candidates = [*known, *names_in_conf(), *of_study()]
    parent = name.rpartition(".")[0]
    has_settings = any(one.startswith(f"{parent}.") for one in candidates)
    meant = parent if parent in candidates and not has_settings else nearest(name, candidates)
    return f"{name} is not a setting{f'. Did you mean {meant}?' if meant else ''}"


def nearest(name: str, known: Collection[str]) -> str | None:
    """The known name that is likely meant: one of the same last part, the most similar one, or the one with
    the most similar last part."""
    last = name.rpartition(".")[2]
    same_last = [one for one in known if one.rpartition(".")[2] == last and one != name]
    if same_last:
        return get_close_matches(name, same_last, n=1, cutoff=0)[0]
    if similar := get_close_matches(name, known, n=1, cutoff=0.8):
        return similar[0]
    lasts = {one.rpartition(".")[2]: one for one in reversed(list(known))}
    similar = get_close_matches(last, lasts, n=1, cutoff=0.65)
    return lasts[similar[0]] if similar else None


@cache
def names_in_conf() -> Mapping[str, Sequence[str]]:
    """The dotted names of all settings in pneumo's own conf/train.yaml and the files of its groups; of those
    of a group, which choices have them."""
    names: dict[str, list[str]] = {name: [] for name in [*GROUPS, *_dotted(of_train_yaml())]}
    for group in GROUPS:
        for file in sorted((OWN / group).glob("[!_]*.yaml")):
            content: Any = OmegaConf.to_container(OmegaConf.load(file))
            for name in _dotted(content, f"{group}."):
                names.setdefault(name, []).append(file.stem)
    return {name: choices for name, choices in names.items() if not name.endswith((".defaults", "_"))}


def _dotted(settings: Mapping[str, Any], prefix: str = "") -> list[str]:
    names = []
    for name, value in settings.items():
        names.append(f"{prefix}{name}")
        if isinstance(value, Mapping):
            names += _dotted(value, f"{prefix}{name}.")
    return names


def explained(error: Exception) -> str:
    """One line that says why Hydra cannot compose a configuration, without the advice to add an unknown
    setting by +, which pneumo would refuse. Hydra lets through whatever its parts raise."""
    text = one_line(" ".join(str(error).split()))
    if match := re.search(r"Could not override '([^']+)'", text):
        return unknown_setting(match[1])
    if match := re.search(
        r"An item is already at '([^']+)'|^(\S+) appears more than once|^Multiple values for (\S+?)\.? ", text
    ):
        name = next(filter(None, match.groups()))
        return f"{name} has a value already: write {name}=..., once and without +"
    if isinstance(error, MissingConfigException) and error.options and error.missing_cfg_file:
        group, _, choice = error.missing_cfg_file.rpartition("/")
        options = sorted(option for option in error.options if not option.startswith("_"))
        meant = get_close_matches(choice, options, n=1)
        hint = f". Did you mean {group}={meant[0]}?" if meant else ""
        return f"{group}={choice} is not a choice; there are {', '.join(options)}{hint}"
    if isinstance(error, OverrideParseException):
        return unreadable_word(error.override)
    if isinstance(error, UnicodeDecodeError):
        return f"{next(files_not_in_utf8(), 'A file of the configuration')} is not UTF-8: {text}"
    if isinstance(error, YAMLError):
        return f"{place_in_yaml(error)} is not valid YAML: {text}"
    if type(error).__module__.startswith(("hydra.", "omegaconf.")) or "Config group override" in text:
        return text or f"The configuration cannot be composed: {type(error).__name__}"
    return f"The configuration cannot be composed: {type(error).__name__}{f': {text}' if text else ''}"


def unreadable_word(word: str) -> str:
    """The message about a word of a command that Hydra's grammar of NAME=VALUE does not have."""
    name, equals, value = word.partition("=")
    if not equals:
        given = word if re.fullmatch(r"[a-z][\w.@/]*", word) else "NAME"
        return f"{word!r} has no value: write {given}=VALUE, without blanks around the ="
    quoted = one_line(hydra_word(name, value))
    return f"{one_line(word)} cannot be read: a text with special signs needs quotes, {quoted}"


def check_options(words: Sequence[str]) -> None:
    """InputError: a word of a command that Hydra configures is written as an option, but is none of
    Hydra's, which may be shortened."""
    for word in words:
        name, equals, value = word.lstrip("-").partition("=")
        is_option = word.startswith("--") or (word.startswith("-") and "." in name)
        if is_option and name and not any(option.startswith(name) for option in OPTIONS):
            setting = one_line(f"{name}={value if equals else 'VALUE'}")
            raise InputError(
                f"{one_line(word)} is no option: write {setting}, without dashes; --help shows the settings"
            )


def files_not_in_utf8() -> Iterator[Path]:
    """The files of the configuration that cannot be read as text."""
    for path in (path for folder in folders() for path in sorted(folder.rglob("*.yaml"))):
        try:
            path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            yield path


def place_in_yaml(error: YAMLError) -> str:
    """The file, and where it is known the line, at which a YAML file cannot be read."""
    if isinstance(error, ReaderError):
        return str(error.name)
    mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
    return f"{mark.name}, line {mark.line + 1}," if mark else "A file of the configuration"
