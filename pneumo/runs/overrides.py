"""Overrides as they are typed: their keys, their values, and values as Hydra reads them."""

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException

from pneumo.errors import InputError
from pneumo.runs.setting_names import STUDY

if TYPE_CHECKING:
    from pneumo.runs.experiment import Parameter

NUMBER = re.compile(r"\d+(e\d+)?")
NOT_RUNS = {"model.pretrained": ("imagenet",), "resume": ("auto",)}  # values beside files and names of runs


def override_key(override: str) -> str:
    """The key of an override: optimizer.lr of optimizer.lr=1e-3, loss of ++loss=bce."""
    return override.split("=", 1)[0].lstrip("+~")


def run_overrides(overrides: Iterable[str]) -> list[str]:
    """The overrides of a run, without those of a study."""
    return [override for override in overrides if override_key(override).split(".")[0] not in STUDY]


def quoted_run_names(overrides: Iterable[str]) -> list[str]:
    """The overrides, in which digits that name a run are quoted where Hydra would read them as a number."""
    words = []
    for word in overrides:
        key, _, value = word.partition("=")
        is_digits = override_key(word) in NOT_RUNS and NUMBER.fullmatch(value)
        words.append(f"{key}='{value}'" if is_digits else word)
    return words


def is_within(name: str, keys: Iterable[str]) -> bool:
    """Whether a setting is one of the keys, or of a group among them."""
    return any(f"{name}.".startswith(f"{key}.") for key in keys)


def override_value(override: str) -> Any:
    """The value of an override, as Hydra parses it. InputError: Hydra cannot parse it."""
    try:
        return OverridesParser.create().parse_override(override).value()
    except HydraException as error:
        raise InputError(" ".join(str(error).split())) from None


def written(value: "Parameter") -> str:
    """A value as Hydra reads it."""
    if value is None:
        return "null"
    return f"{value:g}" if isinstance(value, float) else str(value).lower()
